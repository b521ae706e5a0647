"""The policies of controlled sentiment, trained on pairs or by PPO. A shared run gives numbers alone, never weights."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from papertest import Run
from papertest.threads import one_thread

from dpo.logps import sequence_logps
from dpo.losses import dpo_loss, unlikelihood_loss, unweighted_loss
from dpo.ppo import PPOConfig, PPOTrainer
from dpo.reproduce import sentiment
from dpo.reproduce.measures import by_temperature, measured
from dpo.reproduce.models import D_MODEL, Backbone, LanguageModel, sample
from dpo.reproduce.pairs import PAIRS_BATCH, SAMPLES, advance, batches, optimiser, padding_mask
from dpo.reproduce.prepared import Prepared, prepared
from dpo.reproduce.sentiment import answer_mask

SHOWN = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0)  # of the first pass, or of all rounds: where a policy is measured
PPO_BETAS = (0.1, 0.3, 1.0)  # in deviations of the reward
ROUNDS, ROUND, PPO_EPOCHS, PPO_BATCH, PPO_RATE = 100, 256, 2, 128, 3e-4  # of PPO; answers in a round; passes over them


@dataclass(frozen=True)
class Method:
    """A loss on the pairs; epochs: passes over them. Unweighted is Unlikelihood with α = 1, whose steps under Adam are
    the same, and preferred is Preferred-FT."""

    loss: Literal["dpo", "unweighted", "preferred"]
    beta: float = 0.1
    epochs: int = 1
    rate: float = 3e-4


METHODS = {
    "dpo-0.05": Method("dpo", 0.05),
    "dpo-0.1": Method("dpo", 0.1),
    "dpo-0.5": Method("dpo", 0.5),
    "dpo-1": Method("dpo", 1.0),
    "dpo-5": Method("dpo", 5.0),
    "dpo-0.1-long": Method("dpo", 0.1, epochs=3),
    "unweighted": Method("unweighted", 0.1, epochs=3),
    "preferred": Method("preferred"),
}


def losses(method: Method, policy: tuple[Tensor, Tensor], reference: tuple[Tensor, Tensor]) -> Float[Tensor, " batch"]:
    """Of the log-probabilities of chosen and rejected."""
    if method.loss == "dpo":
        return dpo_loss(*policy, *reference, method.beta)[0]
    if method.loss == "unweighted":
        return unweighted_loss(*policy, *reference, method.beta)[0]
    return unlikelihood_loss(*policy, alpha=0.0)


@one_thread()
def on_pairs(run: Run, name: str) -> dict[str, Any]:
    """One of METHODS: its curve, and at the end its rewards by temperature."""
    method, given = METHODS[name], prepared(run)
    a_pass = max(1, len(given.train) // PAIRS_BATCH)
    steps = method.epochs * a_pass
    reference = given.train_logps
    policy = deepcopy(given.reference).requires_grad_(True)
    adam, schedule = optimiser(policy, method.rate, steps)
    generator = torch.Generator().manual_seed(run.seed)
    later = range(2, 2 * method.epochs + 1)  # halves of passes
    shown = {math.ceil(share * a_pass) for share in (*SHOWN, *(half / 2 for half in later))}
    curve: list[dict[str, float]] = []
    order = batches(len(given.train), steps, generator)
    for done, rows in enumerate(run.progress(order, f"{name}, seed {run.seed}", steps), 1):
        ids = torch.cat([given.train.chosen[rows], given.train.rejected[rows]])
        chosen, rejected = sequence_logps(policy(ids), ids, answer_mask(ids)).chunk(2)
        loss = losses(method, (chosen, rejected), (reference[0, rows], reference[1, rows])).mean()
        advance(policy, loss, adam, schedule)
        if done in shown:
            curve.append({"step": done, "loss": loss.item()} | measured(run, policy, given))
    return {"curve": curve, "temperatures": by_temperature(run, policy, given)}


@one_thread()
def on_policy(run: Run, reward: str, beta: float) -> dict[str, Any]:
    """PPO with the "learned" reward model, the "proxy" or the "true" reward: as `on_pairs`."""
    given = prepared(run)
    policy = deepcopy(given.reference).requires_grad_(True)
    value = Value(given.reference)
    score = scorer(given, reward, run)
    rounds = 2 if run.quick else ROUNDS
    adam, schedule = optimiser(nn.ModuleList([policy, value]), PPO_RATE, rounds)
    generator, shown = torch.Generator().manual_seed(run.seed), {math.ceil(share * rounds) for share in SHOWN}
    torch.manual_seed(run.seed)

    def answers(model: LanguageModel, prompts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ids = sample(model, prompts, 1.0, generator)
        return ids, padding_mask(ids), answer_mask(ids)

    config = PPOConfig(beta=beta, epochs=PPO_EPOCHS, minibatch=PPO_BATCH)
    trainer = PPOTrainer(policy, value, given.reference, score, answers, adam, config)
    prompts = sentiment.prompts("train")
    curve: list[dict[str, float]] = []
    for done in run.progress(range(1, rounds + 1), f"PPO, {reward} reward, β {beta}, seed {run.seed}"):
        told = trainer.step(prompts[torch.randint(len(prompts), (ROUND,), generator=generator)])
        schedule.step()
        if done in shown:
            curve.append({"step": done, "score": told["score"]} | measured(run, policy, given))
    return {"curve": curve, "temperatures": by_temperature(run, policy, given)}


class Value(nn.Module):
    """The value of each place: a network of its own, which starts from the reference's states."""

    def __init__(self, reference: LanguageModel) -> None:
        super().__init__()
        self.backbone, self.head = Backbone(), nn.Linear(D_MODEL, 1)
        self.backbone.load_state_dict(reference.backbone.state_dict())
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, ids: Int[Tensor, "batch seq"], padding: Bool[Tensor, "batch seq"]) -> Float[Tensor, "batch seq"]:
        return self.head(self.backbone(ids, padding)).squeeze(-1)


def scorer(given: Prepared, reward: str, run: Run) -> Any:
    """The reward as PPO takes it, less its mean and over its deviation on samples of the reference: the paper's PPO
    normalises rewards too (Section 6)."""
    models = {"learned": given.learned, "proxy": given.proxy}

    def raw(ids: Tensor, padding: Tensor, mask: Tensor) -> Tensor:
        return sentiment.rewards(ids) if reward == "true" else models[reward](ids, padding)

    prompts = sentiment.prompts("train")
    generator = torch.Generator().manual_seed(run.seed)
    ids = sample(given.reference, prompts[torch.randint(len(prompts), (SAMPLES,), generator=generator)], 1.0, generator)
    first = raw(ids, padding_mask(ids), answer_mask(ids))
    mean, deviation = first.mean(), first.std()
    return lambda *of: (raw(*of) - mean) / deviation
