"""Experts on two processes against experts on one: outputs, gradients, and what is sent."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.spawn import start_processes

from papertest.claims import Measured, Run, claim
from papertest.parity import relative_error

from moe import parallel
from moe.reproduce.processes import D_MODEL, PROCESSES, backward, start, work


def together(results: list[dict[str, Any]], names: list[str]) -> list[Tensor]:
    """Gradients in the plain layer's order: the processes' parts of the experts one after another, the rest as is."""
    parts = [list(each["gradients"].values()) for each in results]
    return [
        torch.cat(each) if name.startswith("experts.") else each[0]
        for name, each in zip(names, zip(*parts, strict=True), strict=True)
    ]


@claim("expert-parallel")
def expert_parallel(run: Run) -> Measured:
    """Tokens at random and evenly routed ones; the bytes are those of the latter."""
    with tempfile.TemporaryDirectory() as folder:
        start_processes(work, (folder, run.seed), PROCESSES, start_method="spawn")
        files = [torch.load(Path(folder) / f"{rank}.pt") for rank in range(PROCESSES)]
    found = {"output": 0.0, "gradients": 0.0}
    for even, results in zip((False, True), zip(*files, strict=True), strict=True):
        layer, x = start(even, run.seed)
        for mine, each in zip(x, results, strict=True):
            y, dx = backward(layer, mine)
            found["output"] = max(found["output"], relative_error(each["y"], y))
            found["gradients"] = max(found["gradients"], relative_error(each["dx"], dx))
        names, true = zip(*((name, p.grad) for name, p in layer.named_parameters()), strict=True)
        for ours, grad in zip(together(list(results), list(names)), true, strict=True):
            found["gradients"] = max(found["gradients"], relative_error(ours, grad))
    sent = [each[1]["sent"] for each in files]
    formula = parallel.exchange_bytes(start(True, run.seed)[1].shape[1], 2, D_MODEL, PROCESSES, itemsize=8)
    return Measured(found | {"bytes": max(abs(n / formula - 1) for n in sent)}, {"sent": sent, "formula": formula})
