"""For every trend claim on SmolLM2 and real pairs a mistake made on purpose, and the verdict that it turns.

Training is made up from its settings; and once a tiny model of SmolLM2's kind is trained on made-up pairs.
"""

from __future__ import annotations

import math

import pytest
from llama_cases import llama, some_pairs

from papertest.claims import Run
from papertest.mutation import Mutations, put

from dpo.reproduce.trend import smollm2
from dpo.reproduce.trend.smollm2 import BATCH, BETA, SEEN, trained

bench = Mutations(__file__)
CLAIMED = [name for name in bench.tier("trend") if bench.sources.claims[name][0] == smollm2.__name__]


def pair(margin, chosen):
    return {"margin": margin, "chosen_reward": chosen}


def made_up(run, function, args):
    """The higher the rate, the larger the margin and the lower the chosen answers; the seed orders the pairs."""
    assert (function, args) == (trained, ())
    moved = math.tanh(smollm2.RATE / 2e-5) * (1 if smollm2.BETA > 0 else -1)
    after = [pair(0.4 * moved * (1 if i % 3 else -1), -0.6 * moved) for i in range(24 + run.seed)]
    return {
        "after": after, "seen": [pair(0.5 * moved, 0.0)] * SEEN, "curve": [], "train": {}, "held_out": {},
        "nats": 1.5, "shorter": [(-1) ** i for i in range(len(after))],
    }  # fmt: skip


MISTAKES = {
    "smollm2-fits": put(smollm2, "RATE", 0.0),
    "smollm2-accuracy": put(smollm2, "BETA", -BETA),
    "smollm2-margin": put(smollm2, "fmean", lambda values: -sum(values)),
}


def test_every_claim_has_a_mistake():
    assert {*MISTAKES} == {*CLAIMED}


@pytest.mark.parametrize("claim", MISTAKES)
def test_a_mistake_turns_the_verdict(claim, monkeypatch):
    assert bench.verdict(claim, quick=True, share=made_up) == "reproduced"
    MISTAKES[claim](monkeypatch)
    assert bench.verdict(claim, quick=True, share=made_up) == "not reproduced"


def test_one_pass_over_the_training_pairs_and_none_over_the_others(monkeypatch):
    """What was learnt is preferred afterwards, the loss begins at log 2, and every batch is new."""
    train, held_out = some_pairs(10), some_pairs(3, seed=1)
    monkeypatch.setattr(smollm2, "smollm2", lambda: (llama(), None))
    monkeypatch.setattr(smollm2, "split", lambda language, longest, share, seed: (train, held_out))
    monkeypatch.setattr(smollm2, "RATE", 1e-2)
    run = Run(0, "cpu", False, {}, lambda items, total, what: iter(items), made_up)
    found = trained(run)
    assert len(found["curve"]) == len(train) // BATCH
    assert found["curve"][0]["loss"] == pytest.approx(math.log(2))
    assert [len(found[name]) for name in ("seen", "after", "shorter")] == [len(train), 3, 3]
    learnt = [each["margin"] for each in found["seen"]]
    assert sum(learnt) / len(learnt) > 0.1
    tokens = sum(len(each.chosen) for each in held_out)
    reference = sum(each["chosen_logp"] - each["chosen_reward"] / BETA for each in found["after"])
    assert found["nats"] == pytest.approx(-reference / tokens, rel=1e-4)
