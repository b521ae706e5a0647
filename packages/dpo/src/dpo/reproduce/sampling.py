"""What needs the reference and the reward models alone: the controls, and best-of-N."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from papertest import Run
from papertest.threads import one_thread

from dpo.closed_form import best_of_n_kl
from dpo.reproduce import sentiment
from dpo.reproduce.measures import by_temperature, measured
from dpo.reproduce.models import sample
from dpo.reproduce.pairs import nats, padding_mask
from dpo.reproduce.prepared import prepared
from dpo.reproduce.sentiment import END, PIECES

PROMPTS, MOST = 200, 512  # held-out prompts, and answers to each


@one_thread()
def of_reference(run: Run) -> dict[str, Any]:
    """Held-out nats per piece beside the entropy of single pieces, what the pairs are, how often the reward models
    order the held-out ones rightly, and the reference as `measured` and `by_temperature`."""
    given = prepared(run)
    rows = {part: sentiment.rows(part) for part in ("train", "test")}
    pieces = {part: found[:, 1:][found[:, :-1] != END] for part, found in rows.items()}
    shares = (torch.bincount(pieces["train"], minlength=PIECES) + 1).double()
    with torch.no_grad():
        held_out = nats(given.reference, rows["test"]).item()
        judges = {"learned": given.learned, "proxy": given.proxy}
        scores = {
            name: [judge(ids, padding_mask(ids)) for ids in (given.held_out.chosen, given.held_out.rejected)]
            for name, judge in judges.items()
        }
    return {
        "nats": held_out, "unigram": -(shares / shares.sum()).log()[pieces["test"]].mean().item(),
        "pairs": len(given.train), "held_out": len(given.held_out), "ties": given.ties,
        "accuracy": {name: (chosen > rejected).float().mean().item() for name, (chosen, rejected) in scores.items()},
        "measured": measured(run, given.reference, given),
        "temperatures": by_temperature(run, given.reference, given),
    }  # fmt: skip


@one_thread()
@torch.no_grad()
def best_of_n(run: Run) -> dict[str, Any]:
    """The best of N answers of the reference for N = 1, 2, … MOST, by each judge: its own score, in deviations of the
    reference's answers, and the true reward. Each answer is in one group of each size."""
    given = prepared(run)
    prompts, most = (
        (sentiment.prompts("test")[:PROMPTS], MOST) if not run.quick else (sentiment.prompts("test")[:8], 16)
    )
    generator = torch.Generator().manual_seed(run.seed)
    drawn = [sample(given.reference, prompts, 1.0, generator) for _ in run.progress(range(most), "best of N")]
    by: dict[str, Float[Tensor, "prompts answers"]] = {
        "learned": torch.stack([given.learned(ids, padding_mask(ids)) for ids in drawn], 1),
        "proxy": torch.stack([given.proxy(ids, padding_mask(ids)) for ids in drawn], 1),
        "true": torch.stack([sentiment.rewards(ids) for ids in drawn], 1),
    }
    sizes = [2**i for i in range(most.bit_length())]
    return {
        "n": sizes, "kl": [best_of_n_kl(n) for n in sizes],
        "by": {judge: [best(scores, by["true"], n) for n in sizes] for judge, scores in by.items()},
    }  # fmt: skip


def best(scores: Float[Tensor, "prompts answers"], truth: Float[Tensor, "prompts answers"], n: int) -> dict[str, float]:
    """Of the best in each group of n: the mean score, normalised over all answers, and the mean true reward."""
    grouped = scores.unflatten(1, (-1, n))
    winners = grouped.argmax(-1, keepdim=True)
    won, true = (x.unflatten(1, (-1, n)).gather(-1, winners).mean().item() for x in (scores, truth))
    return {"score": (won - scores.mean().item()) / scores.std().item(), "reward": true}
