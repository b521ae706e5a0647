"""Expert parallelism: each process holds an equal part of the experts, and its own tokens travel to theirs and back.

    every process routes its own tokens and sorts them by expert, so those for one process lie together
    all-to-all 1, counts:   how many rows for each of my experts come from each process
    all-to-all 2, dispatch: the rows
    each process runs its experts
    all-to-all 3, combine:  the rows go back the way they came

and the backward pass sends the gradients of 2 and 3 the opposite ways. The engine is torch.distributed's
`all_to_all_single`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from moe.checks import whole
from moe.experts import Experts
from moe.layer import MoE


def shard_experts(layer: MoE, group: dist.ProcessGroup | None = None) -> MoE:
    """Keep in this process only its part of the experts, in place: process p of P has those from p E/P on.

    The gate and the shared experts stay whole in each process: call `sum_gradients` after the backward pass. Capacity,
    losses and counts are those of a process's own tokens, as in Switch (Section 2.2's groups). Every process has to
    call the layer equally often, also where all its tokens are padding.

    layer: the same in every process, on the fast path
    group: the processes; None for all

    Raises ValueError for another layer, for one without the fast path, and where P does not divide the experts.
    """
    if not isinstance(layer, MoE) or type(layer.experts) is not Experts:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"layer must be a MoE with all its experts, got {layer!r}")
    if not layer.fused:
        raise ValueError("layer must be fused, for Eq. 1 as it is printed needs every expert on every token")
    processes = dist.get_world_size(group)
    if layer.n_experts % processes:
        raise ValueError(f"layer must have experts that {processes} processes can share equally, got {layer.n_experts}")
    layer.experts = ParallelExperts(layer.experts, group)
    return layer


def sum_gradients(layer: MoE) -> None:
    """Add up over the processes the gradients of what each of them has whole: the gate and the shared experts.

    Then all gradients are those of the sum of the processes' losses. Raises ValueError for a layer that is not sharded.
    """
    if not isinstance(layer.experts, ParallelExperts):
        raise ValueError(f"layer must be sharded, got {layer!r}")
    for module in (layer.gate, layer.shared):
        for p in () if module is None else module.parameters():
            if p.requires_grad:
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
                dist.all_reduce(p.grad, group=layer.experts.group)


class ParallelExperts(Experts):
    """In place of `Experts`, of which this process keeps its part; its rows are one process's, for all experts.

    sent: bytes of rows and their gradients that this process has sent to others so far, without the counts
    """

    def __init__(self, experts: Experts, group: dist.ProcessGroup | None = None) -> None:
        rank, processes = dist.get_rank(group), dist.get_world_size(group)
        n = len(experts.W_1) // processes
        mine = slice(rank * n, (rank + 1) * n)
        W_1, W_2 = (W.detach()[mine].clone() for W in (experts.W_1, experts.W_2))
        super().__init__(W_1, W_2, experts.activation)
        self.group, self.rank, self.processes, self.sent = group, rank, processes, 0

    def forward(self, rows: Float[Tensor, "rows d_model"], counts: list[int]) -> Float[Tensor, "rows d_model"]:
        """As `Experts`, with an expert on whichever process has it."""
        going = torch.tensor(counts, device=rows.device)
        coming = torch.empty_like(going)
        dist.all_to_all_single(coming, going, group=self.group)
        n = len(counts) // self.processes
        to, came = going.view(-1, n).sum(1).tolist(), coming.view(-1, n).sum(1).tolist()
        arrived = _Exchange.apply(rows, came, to, self)
        # by process and then expert; the experts want them by expert
        expert = torch.arange(n, device=rows.device).repeat(self.processes).repeat_interleave(coming)
        order = expert.argsort(stable=True)
        out = super().forward(arrived[order], coming.view(-1, n).sum(0).tolist())
        return _Exchange.apply(out.new_empty(out.shape).index_copy(0, order, out), to, came, self)


class _Exchange(torch.autograd.Function):
    """all_to_all_single of rows; its gradient travels back. torch's own function for this warns of its end."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, came: list[int], to: list[int], layer: ParallelExperts) -> Tensor:
        ctx.came, ctx.to, ctx.layer = came, to, layer
        return _exchange(rows, came, to, layer)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return _Exchange.apply(grad, ctx.to, ctx.came, ctx.layer), None, None, None


def _exchange(rows: Tensor, came: list[int], to: list[int], layer: ParallelExperts) -> Tensor:
    out = rows.new_empty(sum(came), rows.shape[1])
    dist.all_to_all_single(out, rows.contiguous(), came, to, group=layer.group)
    layer.sent += (sum(to) - to[layer.rank]) * rows.shape[1] * rows.element_size()
    return out


def exchange_bytes(tokens: int, k: int, d_model: int, processes: int, itemsize: int = 4) -> float:
    """What one process sends to others in a forward and a backward pass, where each expert is chosen equally often:
    4 k tokens d_model (P − 1)/P numbers, for a row goes and comes back, and so do its gradients. What comes back here
    is what others sent, which is as much.

    tokens: of this process
    itemsize: bytes of a number

    Raises ValueError for what is no whole number above 0.
    """
    for name, value in (("tokens", tokens), ("k", k), ("d_model", d_model), ("processes", processes),
                        ("itemsize", itemsize)):  # fmt: skip
        whole(name, value)
    return 4 * k * tokens * d_model * itemsize * (processes - 1) / processes
