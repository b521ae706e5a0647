"""Longer contexts of a rotary model: read without training, and fine-tuned for a tenth of the steps."""

from __future__ import annotations

import math
from typing import Any

from papertest import Measured, Run, claim

from rope.reproduce.training import LONGER, extended

MEASURES = ("last", "all")  # the last tokens of each window, as many as the trained length; and all of them


def ratio(found: dict[str, Any], worse: str, better: str, measure: str, factor: int) -> float:
    """Perplexity of one method over another's at so many times the length, without training."""
    i = LONGER.index(factor)
    return found["read"][worse][measure][i] / found["read"][better][measure][i]


@claim("context-learns")
def context_learns(run: Run) -> Measured:
    """The control: nats by which the model is below the entropy of single pieces at its length."""
    found = run.shared(extended)
    return Measured(found["unigram"] - math.log(found["trained"]["all"][0]))


@claim("pi-untrained")
def pi_untrained(run: Run) -> Measured:
    """PI, Tables 1 and 3, step 0, at 4 times the length: perplexity as it is over that with interpolation."""
    found = run.shared(extended)
    return Measured(ratio(found, "plain", "linear", "last", 4), {"trained": found["trained"], "read": found["read"]})


@claim("pi-untrained-all")
def pi_untrained_all(run: Run) -> Measured:
    """The same over all tokens of a window, of which the first quarter needs no extension."""
    return Measured(ratio(run.shared(extended), "plain", "linear", "all", 4))


@claim("ntk-untrained")
def ntk_untrained(run: Run) -> Measured:
    """Interpolation over NTK-aware at 4 times the length."""
    found = run.shared(extended)
    return Measured({measure: ratio(found, "linear", "ntk", measure, 4) for measure in MEASURES})


@claim("yarn-untrained")
def yarn_untrained(run: Run) -> Measured:
    """YaRN, Figure 5, near twice the length: interpolation over YaRN with the published ramp."""
    found = run.shared(extended)
    return Measured({measure: ratio(found, "linear", "yarn", measure, 2) for measure in MEASURES})


@claim("pi-tuned")
def pi_tuned(run: Run) -> Measured:
    """PI, Table 1: fine-tuning as it is over fine-tuning with interpolation, at 4 times the length."""
    tuned = run.shared(extended)["tuned"]
    return Measured(tuned["plain"]["last"] / tuned["linear"]["last"], {name: x["curve"] for name, x in tuned.items()})


@claim("pi-recovers")
def pi_recovers(run: Run) -> Measured:
    """PI, Table 1: with interpolation, fine-tuned, at 4 times the length over the model before at its own length."""
    found = run.shared(extended)
    return Measured(found["tuned"]["linear"]["last"] / found["trained"]["last"][0])


@claim("yarn-tuned-steps")
def yarn_tuned_steps(run: Run) -> Measured:
    """YaRN, Section 4: the share of interpolation's steps after which YaRN is where that ends, 1.1 if never."""
    tuned = run.shared(extended)["tuned"]
    steps, end = tuned["linear"]["steps"], tuned["linear"]["last"]
    reached = [point["step"] / steps for point in tuned["yarn"]["curve"] if point["last"] <= end]
    return Measured(reached[0] if reached else 1.1)
