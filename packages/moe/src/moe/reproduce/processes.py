"""What the processes of the claim `expert-parallel` run: a module that imports little, for each of them imports it."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

import moe
from moe import gates, parallel

PROCESSES, EXPERTS, D_MODEL, D_FF = 2, 8, 8, 12


def start(even: bool, seed: int) -> tuple[moe.MoE, Tensor]:
    """The layer, the same in every process, and all processes' tokens (processes, tokens, width).

    even: a router and tokens such that every process chooses each expert equally often; otherwise both at random
    """
    draw = torch.Generator().manual_seed(seed)
    gate = gates.TopKGate(D_MODEL, EXPERTS, 2)
    layer = moe.MoE(D_MODEL, D_FF, EXPERTS, gate=gate, activation="swiglu", shared_experts=1).double()
    with torch.no_grad():
        for p in layer.parameters():
            p.normal_(std=0.5, generator=draw)
        if even:
            gate.W_r.copy_(torch.eye(EXPERTS))
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


def work(rank: int, folder: str, seed: int) -> None:
    """One process: for tokens at random and for even ones its outputs, gradients, and the bytes of rows that it sends
    to others, counted at torch's own call; into a file of the folder."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=PROCESSES)
    sent, engine = 0, dist.all_to_all_single

    def counted(out: Tensor, rows: Tensor, came: Any = None, to: Any = None, **options: Any) -> None:
        nonlocal sent
        if to is not None:  # the counts go without sizes
            sent += sum(n for p, n in enumerate(to) if p != rank) * rows.shape[1] * rows.element_size()
        engine(out, rows, came, to, **options)

    dist.all_to_all_single = counted
    found: list[dict[str, Any]] = []
    for even in (False, True):
        sent = 0
        layer, x = start(even, seed)
        parallel.shard_experts(layer)
        y, dx = backward(layer, x[rank])
        parallel.sum_gradients(layer)
        gradients = {name: p.grad for name, p in layer.named_parameters()}
        found.append({"y": y, "dx": dx, "gradients": gradients, "sent": sent})
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()
