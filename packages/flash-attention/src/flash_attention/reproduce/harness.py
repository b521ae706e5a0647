"""Attentions made ready to run, and timed side by side, always in alternation."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from papertest import bench
from papertest.claims import Run

from flash_attention import flash_attention, standard_attention

ATTENTIONS: dict[str, Callable[..., Tensor]] = {
    "flash": flash_attention,
    "standard": standard_attention,
    "sdpa": F.scaled_dot_product_attention,
}
SHAPE = (1, 8, 64)  # batch, heads, head size of all our times on the CPU, in float32


def draw(seed: int, shape: tuple[int, ...], device: str, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Q, K, V and the gradient of O, standard normal, from the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).to(device, dtype) for _ in range(4)]


def call(attention: Callable[..., Tensor], inputs: list[Tensor], what: str, **options: Any) -> Callable[[], Any]:
    """A function without arguments that runs the "forward", the "backward" (of one kept forward), or "both"."""
    *qkv, weight = inputs
    if what == "forward":
        return partial(attention, *qkv, **options)
    leaves = [x.detach().requires_grad_() for x in qkv]
    if what == "backward":
        output = attention(*leaves, **options)
        return lambda: torch.autograd.grad(output, leaves, weight, retain_graph=True)
    return lambda: torch.autograd.grad(attention(*leaves, **options), leaves, weight)


def against(run: Run, peer: str, n: int, what: str, pairs: int) -> dict[str, float]:
    """Flash attention against the peer at length n: how many times as fast, its quartiles, and both's seconds."""
    inputs = draw(run.seed, (*SHAPE[:2], n, SHAPE[2]), run.device)
    ours, theirs = (call(ATTENTIONS[name], inputs, what) for name in ("flash", peer))
    return bench.paired(ours, theirs, pairs=min(pairs, 2) if run.quick else pairs, device=run.device).as_dict()


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
