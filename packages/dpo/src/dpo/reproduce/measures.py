"""What is measured of a policy: the true reward of its answers, its KL from the reference, and how its answers read."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from papertest import Run

from dpo.reproduce import sentiment
from dpo.reproduce.models import LanguageModel, sample
from dpo.reproduce.pairs import PART, held_out_prompts, pair_logps
from dpo.reproduce.prepared import Prepared
from dpo.reproduce.sentiment import PROMPT, answer_mask

TEMPERATURES = (0.0, 0.25, 0.5, 0.75, 1.0)


@torch.no_grad()
def kl_and_nats(
    policy: LanguageModel, reference: LanguageModel, ids: Int[Tensor, "batch length"]
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Of each answer, which the policy drew: the sum over its places of KL(π(· | x, y_<t) ‖ π_ref(· | x, y_<t)), whose
    mean is KL(π ‖ π_ref) of whole answers with less variance than the log ratio has; and −log π_ref(y | x)."""
    kl: list[Tensor] = []
    nats: list[Tensor] = []
    for part in ids.split(PART):
        inside = answer_mask(part)[:, PROMPT:]
        logps, ref = (model(part)[:, PROMPT - 1 : -1].log_softmax(-1) for model in (policy, reference))
        kl.append(((logps.exp() * (logps - ref)).sum(-1) * inside).sum(-1))
        nats.append(-(ref.gather(-1, part[:, PROMPT:, None]).squeeze(-1) * inside).sum(-1))
    return torch.cat(kl), torch.cat(nats)


def repeats(ids: Int[Tensor, "batch length"]) -> float:
    """The share of the answers' pieces that the same answer had before."""
    answers, inside = ids[:, PROMPT:], answer_mask(ids)[:, PROMPT:]
    earlier = (answers[:, :, None] == answers[:, None, :]).tril(-1).any(-1)
    return ((earlier & inside).sum() / inside.sum()).item()


@torch.no_grad()
def measured(run: Run, policy: LanguageModel, given: Prepared) -> dict[str, float]:
    """Of SAMPLES answers and of the held-out pairs.

    reward, kl: the true reward, and KL(π ‖ π_ref) in nats, with the answers' deviations
    fluency: nats per piece of the policy's own answers under the reference
    chosen, rejected: mean change of log π against the reference
    chosen_nats: −log π of the chosen answers per piece
    accuracy: how often the chosen one's is above the rejected one's, which is that of the implicit reward
    """
    policy.eval()
    ids = sample(policy, held_out_prompts(), 1.0, torch.Generator().manual_seed(run.seed))
    scores, lengths = sentiment.rewards(ids), answer_mask(ids).sum(-1)
    kl, nats = kl_and_nats(policy, given.reference, ids)
    now = pair_logps(policy, given.held_out)
    chosen, rejected = now - given.held_out_logps
    return {
        "reward": scores.mean().item(), "reward_deviation": scores.std().item(),
        "kl": kl.mean().item(), "kl_deviation": kl.std().item(),
        "fluency": (nats.sum() / lengths.sum()).item(), "repeats": repeats(ids),
        "length": lengths.float().mean().item(), "chosen": chosen.mean().item(), "rejected": rejected.mean().item(),
        "chosen_nats": -(now[0].sum() / answer_mask(given.held_out.chosen).sum()).item(),
        "accuracy": (chosen > rejected).float().mean().item(),
    }  # fmt: skip


def by_temperature(run: Run, policy: LanguageModel, given: Prepared) -> list[dict[str, float]]:
    """The true reward at each of TEMPERATURES, and how often it is above that of `rivals` for the same prompt (`wins`;
    a tie counts half)."""
    found: list[dict[str, float]] = []
    for temperature in TEMPERATURES:
        ids = sample(policy, held_out_prompts(), temperature, torch.Generator().manual_seed(run.seed))
        scores = sentiment.rewards(ids)
        wins = ((scores > given.rivals).float() + (scores == given.rivals).float() / 2).mean().item()
        found.append({"temperature": temperature, "reward": scores.mean().item(), "wins": wins,
                      "repeats": repeats(ids)})  # fmt: skip
    return found
