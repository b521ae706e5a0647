"""For every exact and printed claim a mistake made on purpose, and the verdict that it turns."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F

from papertest.mutation import Mutations, put

import dpo
from dpo import closed_form, losses, ppo, reward, trainer
from dpo import jax as twin

bench = Mutations(__file__)
PEERS = {i for i in bench.tier("exact") if i.endswith(("-trl", "-parity"))}  # these have their own file
EXACT = [i for i in bench.tier("exact", "printed") if i not in PEERS]
NOT_REPRODUCED = {"appendix-gradient"}


# ------------------------------------------------------------------------------------- the mistakes


rewards_of, unnormalised = losses._rewards, closed_form._unnormalised
gae, clipped_surrogate, kl_rewards = ppo.gae, ppo.clipped_surrogate, ppo.kl_rewards


def without_reference(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta):
    """r̂ = β log π."""
    return beta * policy_chosen, beta * policy_rejected


def reward_times_beta(ref_probs, rewards, beta):
    """exp(β r) in the place of exp(r / β)."""
    return ref_probs.log() + beta * rewards


def reference_twice(policy, ref_probs, rewards, beta):
    """KL(π_ref ‖ π), the other way round."""
    kl = (torch.xlogy(ref_probs, ref_probs) - torch.xlogy(ref_probs, policy)).sum(-1)
    return (policy * rewards).sum(-1) - beta * kl


def half_the_penalty(scores, logps, ref_logps, mask, beta):
    return kl_rewards(scores, logps, ref_logps, mask, beta / 2)


def only_from_above(logps, old_logps, advantages, mask, clip=0.2):
    """Clipping without the minimum, so that a bad ratio is let be."""
    ratio = (logps - old_logps).exp().clamp(1 - clip, 1 + clip)
    return -(ratio * advantages)[mask].mean(), torch.zeros(())


def undiscounted(rewards, values, mask, gamma=1.0, lam=0.95):
    return gae(rewards, values, mask, 1.0, lam)


def right_pairs_weigh_more(*arguments):
    """σ(r̂_w − r̂_l), Appendix A.4's."""
    chosen, rejected = rewards_of(*arguments)
    return arguments[-1] * (chosen - rejected).sigmoid()


def appendix_loss(*arguments):
    """Equation 21 with the sign that makes A.4's last line its gradient."""
    chosen, rejected = rewards_of(*arguments)
    return F.logsigmoid(rejected - chosen), chosen.detach(), rejected.detach()


def of_the_first_alone(chosen, rejected):
    """−log σ(r(y_w)): a level matters."""
    return -F.logsigmoid(chosen)


def neighbours_alone(rewards):
    """The K − 1 neighbouring pairs instead of all."""
    return -F.logsigmoid(rewards[:, :-1] - rewards[:, 1:]).mean(-1)


forward, init = reward.RewardModel.forward, reward.RewardModel.__init__


def one_by_one(self, ids, padding_mask):
    """A pass for each row."""
    return torch.cat([forward(self, *row) for row in zip(ids.split(1), padding_mask.split(1), strict=True)])


def ordinary_head(self, backbone, d_model):
    """torch's own start, uniform in ±1/√d."""
    init(self, backbone, d_model)
    self.head.reset_parameters()


def as_it_is(*models):
    """Dropout stays where it is on."""
    return nullcontext()


MISTAKES = {
    "dpo-optimum": put(losses, "_rewards", without_reference),
    "optimum-value": put(closed_form, "rlhf_objective", reference_twice),
    "policy-gradient-optimum": put(ppo, "kl_rewards", half_the_penalty),
    "clip-first-order": put(ppo, "clipped_surrogate", only_from_above),
    "gae-limits": put(ppo, "gae", undiscounted),
    "gradient-weight": put(losses, "dpo_gradient_weight", right_pairs_weigh_more),
    "appendix-gradient": put(losses, "dpo_loss", appendix_loss),
    "reward-classes": put(reward, "reward_loss", of_the_first_alone),
    "partition-cancels": put(losses, "_rewards", without_reference),
    "reward-representation": put(closed_form, "_unnormalised", reward_times_beta),
    "plackett-luce": put(losses, "_rewards", without_reference),
    "beta-limits": put(closed_form, "_unnormalised", reward_times_beta),
    "loss-at-start": put(trainer, "evaluating", as_it_is),
    "ranking-loss": put(reward, "ranking_loss", neighbours_alone),
    "ranking-passes": put(reward.RewardModel, "forward", one_by_one),
    "reward-head": put(reward.RewardModel, "__init__", ordinary_head),
    "best-of-n-table": put(closed_form, "best_of_n_kl", lambda n: torch.tensor(n).log().item()),
    "best-of-n-exact": put(closed_form, "best_of_n_kl", lambda n: torch.tensor(n).log().item() - 1),
    "dpo-flax-twin": put(twin, "implicit_reward", lambda policy, ref, beta=0.1: beta * policy),
}


def cell(name: str, row: str | None, column: Any, value: float):
    """A table with another number in one cell."""
    entry = bench.record.reported[name]
    table: Any = entry.value
    columns: Any = entry.columns
    old = table[row] if row else table
    new = [value if c == column else x for c, x in zip(columns, old, strict=True)]
    assert new != old
    return bench.transcribed(name, new) if row is None else bench.transcribed(name, **{row: new})


MISREAD = {
    "dpo-judgments": lambda: cell("human-study", "judgments", "DPO", 300),
    "dpo-raters": lambda: bench.transcribed("raters", late=0),
    "dpo-ties": lambda: cell("table-2-respondents", None, "SFT", 112),
    "dpo-agreement": lambda: cell("table-2", "agree_c", "PPO-1", 75),
    "dpo-concise-prompt": lambda: cell("table-2", "gpt4_s", "SFT", 42),
    "dpo-human-preference": lambda: bench.transcribed("human-win", 55),
    "dpo-sweep-runs": lambda: bench.transcribed("sweep-runs", runs=20),
    "dpo-imdb-pairs": lambda: bench.transcribed("imdb", completions=3),
    "instructgpt-use-cases": lambda: bench.transcribed("use-cases", generation=44.6),
    "instructgpt-shares": lambda: bench.transcribed("use-cases", closed_qa=6.2),
}
BESIDES = {  # a second way to be wrong, for claims with more than one part
    "policy-gradient-optimum: half as large a step of the loss": (
        "policy-gradient-optimum",
        put(ppo, "clipped_surrogate", lambda *x: (clipped_surrogate(*x)[0] / 2, clipped_surrogate(*x)[1])),
    ),
    "dpo-optimum: rewards times β": ("dpo-optimum", put(closed_form, "_unnormalised", reward_times_beta)),
    "optimum-value: another optimum": ("optimum-value", put(closed_form, "_unnormalised", reward_times_beta)),
    "reward-classes: the policy sees the level": (
        "reward-classes",
        put(closed_form, "_unnormalised", lambda ref, r, beta: ref.log() + r.abs() / beta),
    ),
    "gradient-weight: a smoothed loss": (
        "gradient-weight",
        put(losses, "dpo_loss", lambda *x, loss=dpo.dpo_loss: loss(*x, label_smoothing=0.1)),
    ),
    "dpo-flax-twin: the first token is left out": (
        "dpo-flax-twin",
        put(twin, "token_logps", lambda *x, f=twin.token_logps: f(*x).at[:, 3].set(0)),
    ),
    "dpo-flax-twin: advantages without λ": (
        "dpo-flax-twin",
        put(twin, "gae", lambda r, v, mask, f=twin.gae: f(r, v, mask, lam=1.0)),
    ),
}


def test_every_exact_claim_has_a_mistake():
    assert set(MISTAKES) | set(MISREAD) == set(EXACT) and not set(MISTAKES) & set(MISREAD)


def test_dropout_matters_where_the_loss_starts(monkeypatch):
    """Without any dropout in the model the claim would hold for a trainer that leaves it on."""
    monkeypatch.setattr(trainer, "evaluating", as_it_is)
    monkeypatch.setattr(torch.nn, "Dropout", lambda p: torch.nn.Identity())
    assert bench.verdict("loss-at-start") == "reproduced"


test_a_mistake_turns_the_verdict = bench.turning(EXACT, MISTAKES, MISREAD, NOT_REPRODUCED)
test_another_mistake_turns_the_verdict = bench.turning_besides(BESIDES)
