"""What the processes of test_parallel.py run: a module, so that they can import it."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from moe import MoE, TopKGate
from moe.parallel import exchange_bytes, shard_experts, sum_gradients

D_MODEL, TOKENS, EXPERTS = 8, 12, 8


def whole(gate: str, masked: bool) -> tuple[MoE, torch.Tensor, torch.Tensor | None]:
    """The layer, each process's tokens (processes, tokens, width), and masks."""
    torch.manual_seed(0)
    layer = MoE(D_MODEL, 6, EXPERTS, gate=gate, activation="swiglu", shared_experts=1).double().eval()  # type: ignore
    with torch.no_grad():
        for p in layer.parameters():
            p.normal_(std=0.5)
    x = torch.randn(4, TOKENS, D_MODEL).double()
    mask = torch.rand(4, TOKENS) < 0.6
    mask[1] = False  # one process has padding alone
    return layer, x, mask if masked else None


def loss_of(y: torch.Tensor, info: Any) -> torch.Tensor:
    return y.square().sum() + info.balance_loss + info.z_loss


def work(rank: int, processes: int, folder: str, gate: str, masked: bool) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=processes)
    layer, x, mask = whole(gate, masked)
    sizes: list[int] = []
    engine = dist.all_to_all_single

    def counted(out: torch.Tensor, rows: torch.Tensor, came: Any = None, to: Any = None, **options: Any) -> None:
        if to is not None:
            sizes.append(sum(n for p, n in enumerate(to) if p != rank) * rows.shape[1] * rows.element_size())
        engine(out, rows, came, to, **options)

    dist.all_to_all_single = counted  # type: ignore
    shard_experts(layer)
    mine = x[rank].clone().requires_grad_()
    y, info = layer(mine, None if mask is None else mask[rank])
    loss_of(y, info).backward()
    sum_gradients(layer)
    gradients = {name: p.grad for name, p in layer.named_parameters()}
    assert sum(sizes) == layer.experts.sent  # type: ignore
    assert len(sizes) == 4
    torch.save((y.detach(), mine.grad, gradients, sum(sizes), info.counts), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def even(rank: int, processes: int, folder: str) -> None:
    """Each token's two experts such that all are chosen equally often by each process."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=processes)
    gate = TopKGate(EXPERTS, EXPERTS, 2)
    with torch.no_grad():
        gate.W_r.copy_(torch.eye(EXPERTS))
    layer = shard_experts(MoE(EXPERTS, 6, EXPERTS, gate=gate))
    eye = torch.eye(EXPERTS)
    x = (2 * eye + eye.roll(1, 1)).repeat(3, 1).requires_grad_()
    y, _ = layer(x)
    y.sum().backward()
    assert layer.experts.sent == exchange_bytes(len(x), 2, EXPERTS, processes)  # type: ignore
    dist.destroy_process_group()
