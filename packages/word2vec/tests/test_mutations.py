"""For every claim a mistake made on purpose, and the verdict that it turns."""

from __future__ import annotations

import pytest
import torch

from papertest import bench
from papertest.mutation import Clock, Mutations, put

from word2vec.reproduce import exact, speed, training

BENCH = Mutations(__file__)


def priced(clock):
    """A softmax that costs so much per call and so much per row: no time is measured in a test."""
    return lambda x: clock.spend(1 + 0.01 * len(x))


def nothing(x):
    """A softmax that says one tenth, whatever the input."""
    return 0 * x + 0.1


MISTAKES = {
    "rows-sum-to-one": put(exact, "softmax", lambda x: torch.exp(x - x.amax(dim=1, keepdim=True))),
    "digits-learned": put(training, "softmax", nothing),
    "more-examples": put(training, "softmax", nothing),
    "rows-at-once": put(speed, "at_once", lambda x: [speed.by_row(x) for _ in range(speed.CALLS)]),
}
MISREAD = {"printed-probabilities": BENCH.transcribed("worked-example", [0.09, 0.24, 0.76])}


def test_every_claim_has_its_mistake():
    assert set(MISTAKES) | set(MISREAD) == set(BENCH.record.claims)


@pytest.mark.parametrize("claim", MISTAKES)
def test_a_mistake_turns_the_verdict(claim, monkeypatch):
    if claim in BENCH.tier("speed"):
        clock = Clock()
        put(bench, "seconds", clock.seconds)(monkeypatch)
        put(speed, "softmax", priced(clock))(monkeypatch)
    quick = claim in BENCH.tier("speed")
    assert BENCH.verdict(claim, quick=quick) == "reproduced"
    MISTAKES[claim](monkeypatch)
    assert BENCH.verdict(claim, quick=quick) == "not reproduced"


@pytest.mark.parametrize("claim", MISREAD)
def test_a_misread_number_turns_the_verdict(claim):
    assert BENCH.verdict(claim) == "reproduced"
    assert BENCH.verdict(claim, reported=MISREAD[claim]) == "not reproduced"
