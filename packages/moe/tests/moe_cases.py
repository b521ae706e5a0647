"""Layers and inputs that several test files share."""

from __future__ import annotations

from typing import Any

import torch

from moe import MoE, TopKGate
from moe.gates import Gate

GATES = ("noisy_topk", "switch", "topk_softmax", "topk_sigmoid")


def layer(gate: Any = "topk_softmax", n_experts: int = 6, dtype: torch.dtype = torch.float64, **options: Any) -> MoE:
    """With weights large enough that nothing is nearly equal."""
    torch.manual_seed(0)
    made = MoE(8, 12, n_experts, gate=gate, **options).to(dtype)
    with torch.no_grad():
        for p in made.parameters():
            p.normal_(std=0.5)
        for b in made.gate.buffers():
            b.normal_(std=0.3)
    made.zero_grad()  # a gate that is given may have been used before
    return made


def grouped(**options: Any) -> Gate:
    return TopKGate(8, 6, 2, n_groups=3, top_groups=2, **options)


def tokens(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def twin_of(made: MoE) -> MoE:
    """The same layer on the other path."""
    other = MoE(
        made.d_model, made.d_ff, made.n_experts, gate=made.gate, capacity_factor=made.capacity_factor,
        shared_experts=made.shared_experts, activation=made.activation, fused=not made.fused,
    ).to(next(made.parameters()).dtype)  # fmt: skip
    other.load_state_dict(made.state_dict())
    return other.train(made.training)
