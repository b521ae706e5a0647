"""Table 1 and Section 4.2 on a CUDA device: GPT-2 medium's shape, random weights, no data."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from papertest import Measured, Run, bench, claim

from lora import add_lora
from lora.reproduce.models import AFTER, ALPHA, MEDIUM, SETTINGS, SMALL, R, Shape, forward, gpt2, merged, with_adapters
from lora.reproduce.training.steps import step, total_memory

TRIALS = 60  # of each model and seed; Table 1 has 100
CALLS = 4  # forward passes in a trial, so that the wait for the device weighs less
BATCH, LENGTH = 8, 256  # the batch of Table 11; the length is ours
QUERY_VALUE = (True, False, True)  # of c_attn, which is q, k and v in one


def overheads(
    base: nn.Module, shape: Shape, setting: tuple[int, int, float], *, pairs: int, calls: int, device: str
) -> tuple[dict[str, float], dict[str, Any]]:
    """Time over the base's, of each kind; alternating, each with the base."""
    batch, length, parameters = setting
    ids = torch.randint(shape.vocab_size, (batch, length), device=device)
    details: dict[str, Any] = {"batch": batch, "length": length}
    ratios: dict[str, float] = {}
    for kind in (*AFTER, "merged"):
        model, added = (merged(base), 0) if kind == "merged" else with_adapters(base, kind, shape, parameters)
        sides = [forward(each, ids, calls) for each in (base, model)]
        found = bench.paired(*sides, pairs=pairs, device=device)
        ratios[kind] = found.median
        details[kind] = {**found.as_dict(), "parameters": added}
    return ratios, details


@claim("gpu-latency")
def gpu_latency(run: Run) -> Measured:
    """Float16. Per cent that each kind adds to the forward pass of the base model."""
    shape, dtype = (SMALL, torch.float32) if run.quick else (MEDIUM, torch.float16)
    base = gpt2(shape, run.device, dtype)
    found: dict[str, list[float]] = {"adapter_l": [], "adapter_h": [], "merged": []}
    details: dict[str, Any] = {"settings": []}
    for batch, length, parameters in run.progress(SETTINGS, "Table 1", total=len(SETTINGS)):
        setting = (batch, length if not run.quick else length // 16, parameters)
        ratios, seen = overheads(
            base, shape, setting, pairs=3 if run.quick else TRIALS // CALLS, calls=CALLS, device=run.device
        )
        details["settings"].append(seen)
        for kind, ratio in ratios.items():
            found[kind].append(100 * (ratio - 1))
    online = {f"{kind}_online": found[kind][-1] for kind in ("adapter_l", "adapter_h")}
    return Measured({**found, **online}, details)


@claim("gpu-training")
def gpu_training(run: Run) -> Measured:
    """Float32, with Adam's update."""
    shape = SMALL if run.quick else MEDIUM
    ids = torch.randint(shape.vocab_size, (BATCH, LENGTH // 16 if run.quick else LENGTH), device=run.device)
    models = {name: gpt2(shape, run.device, torch.float32) for name in ("lora", "full")}
    add_lora(models["lora"], ("c_attn",), R, ALPHA, enabled=QUERY_VALUE)
    sides = {name: step(model, ids) for name, model in models.items()}
    ratio = bench.paired(sides["lora"].run, sides["full"].run, pairs=3 if run.quick else 15, device=run.device)
    memory = {name: total_memory(side, run.device) for name, side in sides.items()}
    value = {"throughput": ratio.median, "memory": memory["lora"]["peak"] / memory["full"]["peak"]}
    return Measured(value, {**ratio.as_dict(), "bytes": memory, "shape": list(ids.shape)})
