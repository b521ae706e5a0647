"""Counting: parameters, floating-point operations, peak memory, and how fast a count grows.

None of these depends on the machine's speed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler would report its stages on stderr


def parameters(module: torch.nn.Module, *, trainable: bool = False) -> int:
    """The number of parameters, each shared tensor once; `trainable`: only those with a gradient."""
    tensors: Iterable[torch.nn.Parameter] = {id(p): p for p in module.parameters()}.values()
    return sum(p.numel() for p in tensors if p.requires_grad or not trainable)


def flops(function: Callable[[], Any]) -> int:
    """FLOPs of the matrix products and convolutions in one call (2 per multiply-add), by torch's own counter."""
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def peak_memory(function: Callable[[], Any], device: str = "cpu") -> int:
    """The largest number of bytes that one call holds at a time beyond what was allocated before it.

    On the CPU this sums the allocations and frees of torch's profiler, so it is the same on every run; memory that
    a library takes past torch's allocator is not seen.
    """
    if device == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        result = function()
        torch.cuda.synchronize()
        del result
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as recorded:
        result = function()
        del result
    kineto = recorded.profiler
    assert kineto is not None and kineto.kineto_results is not None
    events = [e for e in kineto.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType]  (not in torch's stub)
        peak = max(peak, held)  # pyright: ignore[reportUnknownArgumentType]
    return peak


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The p of the least-squares fit value = c · size^p, in logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])
