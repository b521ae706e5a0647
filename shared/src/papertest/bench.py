"""Paired benchmarks: two functions in alternation in one run, so that what disturbs one disturbs the other."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any


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


def _wait(device: str) -> None:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()
