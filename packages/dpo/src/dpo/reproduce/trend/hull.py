"""A method's frontier of reward and KL, out of all the checkpoints of its sweep."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

Point = tuple[float, float]  # KL, reward
STEPS = 200  # places at which two frontiers are compared


def points(runs: Sequence[dict[str, Any]]) -> list[Point]:
    """Of all checkpoints."""
    return [(at["kl"], at["reward"]) for run in runs for at in run["curve"]]


def hull(found: Sequence[Point], start: Point) -> list[Point]:
    """The upper concave envelope, from the reference (KL 0) to the highest reward.

    It can be had: for each prompt draw which of two policies answers. The reward is then on the line between both, and
    the KL, which is convex, is not above it.
    """
    kept: list[Point] = []
    for point in sorted([start, *found]):
        if kept and point[1] <= max(reward for _, reward in kept):
            continue
        while len(kept) > 1 and _slope(kept[-2], kept[-1]) <= _slope(kept[-1], point):
            kept.pop()
        kept.append(point)
    return kept


def at(envelope: Sequence[Point], kl: float) -> float:
    """The most reward with at most this KL."""
    before = envelope[0]
    for point in envelope[1:]:
        if point[0] >= kl:
            return before[1] + _slope(before, point) * (kl - before[0])
        before = point
    return before[1]


def advantage(ours: Sequence[Point], theirs: Sequence[Point], start: Point) -> dict[str, Any]:
    """Mean difference of two frontiers, at places as far apart, over the KL that both sweeps reach."""
    reach = min(max(kl for kl, _ in found) for found in (ours, theirs))
    mine, other = hull(ours, start), hull(theirs, start)
    places = [reach * (i + 1) / STEPS for i in range(STEPS)]
    gaps = [at(mine, kl) - at(other, kl) for kl in places]
    return {
        "mean": sum(gaps) / STEPS, "reach": reach, "above": sum(gap >= 0 for gap in gaps) / STEPS,
        "ours": mine, "theirs": other,
    }  # fmt: skip


def _slope(one: Point, other: Point) -> float:
    return (other[1] - one[1]) / (other[0] - one[0]) if other[0] > one[0] else math.inf
