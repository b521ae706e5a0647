"""Experts on two processes against experts on one: outputs, gradients, and what is sent."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from papertest.claims import Measured, Run, claim
from papertest.parity import relative_error

import moe
from moe import gates, parallel

PROCESSES, EXPERTS, D_MODEL, D_FF = 2, 8, 8, 12


def start(even: bool, seed: int) -> tuple[moe.MoE, Tensor]:
    """The layer, the same in every process, and all processes' tokens (processes, tokens, width).

    even: a router and tokens such that every process chooses each expert equally often
    """
    draw = torch.Generator().manual_seed(seed)
    layer = moe.MoE(D_MODEL, D_FF, EXPERTS, gate=gates.TopKGate(D_MODEL, EXPERTS, 2), activation="swiglu",
                    shared_experts=1).double()  # fmt: skip
    with torch.no_grad():
        for p in layer.parameters():
            p.normal_(std=0.5, generator=draw)
        if even:
            layer.gate.get_parameter("W_r").copy_(torch.eye(EXPERTS))
    if not even:
        return layer, torch.randn(PROCESSES, 24, D_MODEL, generator=draw, dtype=torch.float64)
    eye = torch.eye(EXPERTS, dtype=torch.float64)
    return layer, (2 * eye + eye.roll(1, 1)).repeat(PROCESSES, 3, 1)


def backward(layer: moe.MoE, x: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs, and the gradient of x, of a loss that everything takes part in."""
    given = x.clone().requires_grad_()
    y, info = layer(given)
    (y.square().sum() + info.balance_loss + info.z_loss).backward()
    assert given.grad is not None
    return y.detach(), given.grad


def work(rank: int, folder: str, even: bool, seed: int) -> None:
    """One process: its outputs, gradients, and the bytes of rows that it sends to others, counted at torch's call."""
    torch.set_num_threads(1)
    name = f"{'even' if even else 'uneven'}"
    dist.init_process_group("gloo", init_method=f"file://{folder}/{name}", rank=rank, world_size=PROCESSES)
    sent, engine = 0, dist.all_to_all_single

    def counted(out: Tensor, rows: Tensor, came: Any = None, to: Any = None, **options: Any) -> None:
        nonlocal sent
        if to is not None:
            sent += sum(n for p, n in enumerate(to) if p != rank) * rows.shape[1] * rows.element_size()
        engine(out, rows, came, to, **options)

    dist.all_to_all_single = counted
    layer, x = start(even, seed)
    parallel.shard_experts(layer)
    y, dx = backward(layer, x[rank])
    parallel.sum_gradients(layer)
    # a parameter of the experts has the process's part, under a name of its own
    gradients = {name: p.grad for name, p in layer.named_parameters()}
    torch.save({"y": y, "dx": dx, "gradients": gradients, "sent": sent}, f"{folder}/{name}-{rank}.pt")
    dist.destroy_process_group()


def whole(results: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Gradients by the plain layer's names: the processes' parts of the experts together, the rest as each has it."""
    found: dict[str, Tensor] = {}
    for name in results[0]["gradients"]:
        parts = [each["gradients"][name] for each in results]
        plain = name.replace("experts.local.", "experts.")
        found[plain] = torch.cat(parts) if plain.startswith("experts.") else parts[0]
    return found


@claim("expert-parallel")
def expert_parallel(run: Run) -> Measured:
    """Tokens at random for outputs and gradients, and evenly routed ones for the bytes."""
    found = {"output": 0.0, "gradients": 0.0, "bytes": 0.0}
    details: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for even in (False, True):
            mp.start_processes(work, (folder, even, run.seed), PROCESSES, start_method="spawn")
            name = "even" if even else "uneven"
            results = [torch.load(Path(folder) / f"{name}-{rank}.pt") for rank in range(PROCESSES)]
            layer, x = start(even, run.seed)
            for mine, each in zip(x, results, strict=True):
                y, dx = backward(layer, mine)
                found["output"] = max(found["output"], relative_error(each["y"], y))
                found["gradients"] = max(found["gradients"], relative_error(each["dx"], dx))
            true = dict(layer.named_parameters())
            for name, grad in whole(results).items():
                found["gradients"] = max(found["gradients"], relative_error(grad, true[name].grad))
            if even:
                formula = parallel.exchange_bytes(x.shape[1], 2, D_MODEL, PROCESSES, itemsize=8)
                found["bytes"] = max(abs(each["sent"] / formula - 1) for each in results)
                details = {"bytes": [each["sent"] for each in results], "formula": formula}
    return Measured(found, details)
