"""Benchmarks: functions that take turns in one run, so that what disturbs one disturbs the others."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from papertest import bench  # itself: so `turns` spells it, and recorded results run through `turns` as it is

if TYPE_CHECKING:
    from papertest.claims import Run

PAIRS = 15  # rounds of a speed claim, at least


@dataclass(frozen=True)
class Times:
    """What `rounds` measured. `seconds`: by side, one a round; `null`: the null side over itself again, one a round."""

    seconds: dict[str, list[float]]
    null: list[float]

    def ratio(self, above: str, below: str) -> list[float]:
        """Seconds of the side `above` over those of `below`, one a round; ValueError where one is no side."""
        for side in (above, below):
            if side not in self.seconds:
                raise ValueError(f"{side!r} is no side that was timed; there are: {', '.join(self.seconds)}")
        return [a / b for a, b in zip(self.seconds[above], self.seconds[below], strict=True)]


def rounds(
    run: Run, sides: Mapping[str, Callable[[], Any]], *, null: str, pairs: int = PAIRS, warmup: int = 1
) -> Times:
    """Time every side once a round, and the side `null` once more: against itself it shows what the machine adds.

    The order rotates and turns round, so that in every 2 * (len(sides) + 1) rounds each place falls to each of them
    equally often, and none stands always behind the same one. With `--quick` there are 3 rounds.
    ValueError where `null` is no side, where there is nothing to compare, or for fewer than one round.
    """
    if null not in sides:
        raise ValueError(f"null must be one of the sides ({', '.join(sides)}), not {null!r}")
    if len(sides) < 2:
        raise ValueError(f"sides must hold at least 2 functions to compare, not {len(sides)}")
    if pairs < 1:
        raise ValueError(f"pairs must be at least 1, not {pairs}")
    for function in sides.values():
        for _ in range(warmup):
            function()
    places = [*sides.items(), ("", sides[null])]  # "": the null side again
    taken: dict[str, list[float]] = {name: [] for name, _ in places}
    count = min(pairs, 3) if run.quick else pairs
    for i in run.progress(range(count), "rounds", total=count):
        shift = i // 2 % len(places)
        order = places[shift:] + places[:shift]
        for name, function in reversed(order) if i % 2 else order:
            taken[name].append(seconds(function, run.device))
    again = taken.pop("")
    return Times(taken, [a / b for a, b in zip(taken[null], again, strict=True)])


@dataclass(frozen=True)
class Ratio:
    """How many times as fast as the peer: median over the pairs, and the quartiles as spread. Seconds are medians."""

    median: float
    low: float
    high: float
    ours: float
    peer: float
    pairs: int

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def seconds(function: Callable[[], Any], device: str = "cpu") -> float:
    """Wall-clock seconds of one call, with the device's queue empty before and after."""
    _wait(device)
    start = time.perf_counter()
    function()
    _wait(device)
    return time.perf_counter() - start


def paired(
    ours: Callable[[], Any], peer: Callable[[], Any], *, pairs: int = 7, warmup: int = 1, device: str = "cpu"
) -> Ratio:
    """Time `ours` and `peer` in alternation, each pair in the other order; the ratio is peer / ours of each pair."""
    if pairs < 1:
        raise ValueError(f"pairs must be at least 1, not {pairs}")
    for _ in range(warmup):
        ours()
        peer()
    times: list[tuple[float, float]] = []
    for i in range(pairs):
        if i % 2:
            b, a = seconds(peer, device), seconds(ours, device)
        else:
            a, b = seconds(ours, device), seconds(peer, device)
        times.append((a, b))
    ratios = [b / a for a, b in times]
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive") if pairs > 1 else ratios * 3
    return Ratio(
        statistics.median(ratios),
        low,
        high,
        statistics.median(a for a, _ in times),
        statistics.median(b for _, b in times),
        pairs,
    )


def turns(runners: list[Callable[[], Any]], rounds: int, device: str) -> list[float]:
    """Median seconds of each runner; all take turns, in the other order every second round, after one warm-up."""
    for runner in runners:
        runner()
    times: list[list[float]] = [[] for _ in runners]
    for i in range(rounds):
        order = range(len(runners)) if i % 2 == 0 else reversed(range(len(runners)))
        for j in order:
            times[j].append(bench.seconds(runners[j], device))
    return [statistics.median(column) for column in times]


def _wait(device: str) -> None:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()
