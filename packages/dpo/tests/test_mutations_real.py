"""For every claim beside trl and on SmolLM2 a mistake made on purpose, and the verdict that it turns.

A tiny model of SmolLM2's kind stands in for it, and the clock is a count of the operations of matrix products.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from llama_cases import llama, some_pairs

from papertest import bench as benchmarks
from papertest.counting import flops
from papertest.mutation import Mutations, put

import dpo
from dpo import Encoded, packed
from dpo.models import answer_logps
from dpo.reproduce import speed
from dpo.reproduce.exact import peers

bench = Mutations(__file__)
EXACT = [i for i in bench.tier("exact") if i.endswith("-parity")]
SPEED = bench.tier("speed")


@pytest.fixture(autouse=True)
def a_tiny_model(monkeypatch):
    model = llama()
    for name, p in model.named_parameters():
        p.requires_grad_("layers.1" in name or "model.norm" in name)
    monkeypatch.setattr(peers, "model", lambda: model)
    monkeypatch.setattr(peers, "pairs", lambda: tuple(some_pairs(2)))
    monkeypatch.setattr(peers, "reference_logits", peers.reference_logits.__wrapped__)
    monkeypatch.setattr(benchmarks, "seconds", lambda function, device: flops(function))
    monkeypatch.setattr(speed, "loaded", lambda device: llama(width=32, vocab=400))
    given = Encoded(**{part: tuple(range(n)) for part, n in speed.LENGTHS.items()})
    monkeypatch.setattr(speed, "pairs", lambda quick: [given] * speed.PAIRS)


# ------------------------------------------------------------------------------------- the mistakes

dpo_loss, ipo_loss, implicit_reward, sequence_logps = (
    dpo.dpo_loss, dpo.ipo_loss, dpo.implicit_reward, dpo.sequence_logps
)  # fmt: skip
pack, ratio = packed.pack, benchmarks.Times.ratio


def swapped(chosen: Any, rejected: Any, ref_chosen: Any, ref_rejected: Any, **options: Any) -> Any:
    return dpo_loss(rejected, chosen, ref_chosen, ref_rejected, **options)


def unsmoothed(*logps: Any, beta: float, label_smoothing: float = 0.0) -> Any:
    return dpo_loss(*logps, beta=beta)


def doubled(*logps: Any, tau: float) -> Any:
    """1 / τ in place of 1 / (2 τ)."""
    return ipo_loss(*logps, tau=tau / 2)


def seeing_each_other(batch: Any) -> Any:
    found = pack(batch)
    length = found.ids.shape[1]
    return replace(found, visible=torch.ones_like(found.visible).tril()[..., :length])


def one_after_the_other(batch: Any) -> Any:
    """Positions that go on from the first answer to the second."""
    found = pack(batch)
    return replace(found, positions=torch.arange(found.ids.shape[1]).expand_as(found.ids))


def mean(logits: Any, labels: Any, mask: Any) -> Any:
    return sequence_logps(logits, labels, mask) / mask.sum(-1)


def without_the_end(logits: Any, labels: Any, mask: Any) -> Any:
    """The answer's last token left out; all of it where it has but one."""
    last = mask & (mask.cumsum(-1) == mask.sum(-1, keepdim=True)) & (mask.sum(-1, keepdim=True) > 1)
    return sequence_logps(logits, labels, mask & ~last)


MISTAKES = {
    "trl-parity": put(dpo, "dpo_loss", swapped),
    "sequence-logps-parity": put(dpo, "sequence_logps", without_the_end),
    "trl-step": put(speed, "packed_logps", answer_logps),
}
BESIDES = {
    "trl-parity: no smoothing": ("trl-parity", put(dpo, "dpo_loss", unsmoothed)),
    "trl-parity: IPO's target": ("trl-parity", put(dpo, "ipo_loss", doubled)),
    "trl-parity: rewards": ("trl-parity", put(dpo, "implicit_reward", lambda a, b, beta: implicit_reward(a, b, 1.0))),
    "trl-parity: the mask": ("trl-parity", put(packed, "pack", seeing_each_other)),
    "trl-parity: positions": ("trl-parity", put(packed, "pack", one_after_the_other)),
    "sequence-logps-parity: a mean": ("sequence-logps-parity", put(dpo, "sequence_logps", mean)),
    "sequence-logps-parity: the mask": ("sequence-logps-parity", put(packed, "pack", seeing_each_other)),
}


def test_every_claim_has_a_mistake():
    assert set(MISTAKES) == {*EXACT, *SPEED}


test_a_mistake_turns_the_verdict = bench.turning([*EXACT, *SPEED], MISTAKES, {})
test_another_mistake_turns_the_verdict = bench.turning_besides(BESIDES)
