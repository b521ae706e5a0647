"""Switch's remedies against unstable training, by trainings that differ in their seed alone (Tables 2 and 3)."""

from __future__ import annotations

from statistics import fmean, stdev
from typing import Any

from papertest import Measured, Run, claim

from moe.reproduce.stability import Precision, started

ATTEMPTS = 3  # trainings behind a standard deviation, as many as in Table 3
SMALL, USUAL = 0.1, 1.0  # s in σ = √(s/n)


def attempts(run: Run, scale: float) -> list[dict[str, Any]]:
    """Trainings in float32 that differ in their weights and batches."""
    return [run.shared(started, scale, "float32", attempt) for attempt in range(ATTEMPTS)]


@claim("initialisation-learns")
def initialisation_learns(run: Run) -> Measured:
    """The control: nats below the entropy of single pieces with small weights, the least of the trainings."""
    found = attempts(run, SMALL)
    return Measured(min(x["unigram"] - x["nats"] for x in found), {"nats": [x["nats"] for x in found]})


@claim("initialisation")
def initialisation(run: Run) -> Measured:
    """Switch, Table 3: mean nats of the trainings with the usual weights less those with small ones."""
    small, usual = (attempts(run, scale) for scale in (SMALL, USUAL))
    value = fmean(x["nats"] for x in usual) - fmean(x["nats"] for x in small)
    return Measured(value, {"small": small, "usual": usual})


@claim("initialisation-spread")
def initialisation_spread(run: Run) -> Measured:
    """Switch, Table 3: deviation of nats over the trainings with the usual weights over that with small ones."""
    deviations = [stdev(x["nats"] for x in attempts(run, scale)) for scale in (SMALL, USUAL)]
    return Measured(deviations[1] / deviations[0], {"deviations": deviations})


def by_precision(run: Run, *precisions: Precision) -> list[float]:
    """Nats of the first training with small weights."""
    return [run.shared(started, SMALL, precision, 0)["nats"] for precision in precisions]


@claim("bfloat16-router")
def bfloat16_router(run: Run) -> Measured:
    """Switch, Table 2: nats with everything in bfloat16 less those in float32."""
    half, whole = by_precision(run, "bfloat16", "float32")
    return Measured(half - whole, {"nats": {"bfloat16": half, "float32": whole}})


@claim("selective-precision")
def selective_precision(run: Run) -> Measured:
    """Switch, Table 2: nats in bfloat16 with a router in float32 less those in float32 throughout."""
    selective, whole = by_precision(run, "selective", "float32")
    return Measured(selective - whole, {"nats": {"selective": selective, "float32": whole}})
