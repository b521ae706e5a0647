"""What is counted on the layer itself: operations, tokens that are dropped."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch

from papertest.claims import Measured, Run, claim
from papertest.counting import flops

import moe
from moe.gates import TopKGate

D_MODEL, D_FF, TOKENS = 64, 128, 512
EXPERTS = (4, 16, 64)
GATES: tuple[tuple[Literal["switch", "topk_softmax"], int], ...] = (("switch", 1), ("topk_softmax", 2))


def tokens(run: Run, n: int = TOKENS, d_model: int = D_MODEL) -> torch.Tensor:
    return torch.randn(n, d_model, generator=torch.Generator().manual_seed(run.seed))


@claim("constant-operations")
def constant_operations(run: Run) -> Measured:
    """Switch's gate with one expert and Mixtral's with two; the details have Eq. 1 as it is printed, which grows."""
    x, worst, router = tokens(run), 0.0, 0
    details: dict[str, dict[str, int]] = {}
    for gate, k in GATES:
        found: list[int] = []
        for n in EXPERTS:
            layer = moe.MoE(D_MODEL, D_FF, n, k, gate=gate).eval()
            whole = flops(lambda layer=layer: layer(x))
            alone = flops(lambda layer=layer: layer.gate(x))
            found.append(whole - alone)
            router = max(router, abs(alone - 2 * TOKENS * D_MODEL * n))
            details.setdefault(gate, {})[str(n)] = whole
        worst = max(worst, max(found) / min(found))
    printed = {
        str(n): flops(lambda n=n: moe.MoE(D_MODEL, D_FF, n, 1, gate="switch", fused=False).eval()(x))
        for n in EXPERTS[:2]
    }
    return Measured({"experts": worst, "router": router}, {"flops": details, "as_printed": printed})


@claim("switch-capacity")
def switch_capacity(run: Run) -> Measured:
    """256 tokens that are skewed towards one expert; the details have the share that is dropped by factor."""
    n, experts = 256, 8
    x = tokens(run, n)
    worst, all_fit = 0, 0
    shares: dict[str, float] = {}
    factors = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
    weights = torch.randn(experts, D_MODEL, generator=torch.Generator().manual_seed(run.seed + 1))
    for factor in factors:
        layer = moe.MoE(D_MODEL, D_FF, experts, gate="switch", capacity_factor=factor).eval()
        with torch.no_grad():
            layer.gate.get_parameter("W_r").copy_(weights)
        _, info = layer(x + weights[0])  # the first expert's logits are large
        above = (x + weights[0]) @ weights.T
        chosen = torch.bincount(above.argmax(-1), minlength=experts)
        expected = int((chosen - n * factor / experts).clamp(min=0).sum())
        worst = max(worst, abs(int(info.dropped) - expected))
        shares[str(factor)] = int(info.dropped) / n
        if factor == experts:
            all_fit = int(info.dropped)
    return Measured({"difference": worst, "all_fit": all_fit}, {"dropped": shares})


@claim("deepseek-ablation-size")
def deepseek_ablation_size(run: Run) -> Measured:
    """Layers of Figure 3's configurations; the routers, whose size follows the experts' number, are left out."""
    rows: Any = run.reported["figure-3"].value
    x = tokens(run)
    found: dict[str, list[float]] = {"parameters": [], "active": [], "flops": []}
    for shared, routed, chosen, size in zip(*(rows[k] for k in ("shared", "routed", "chosen", "size")), strict=True):
        gate = TopKGate(D_MODEL, routed, chosen)
        layer = moe.MoE(D_MODEL, math.floor(D_FF * size), routed, gate=gate, shared_experts=shared, activation="swiglu")
        counted, router = moe.count_moe(layer), D_MODEL * routed
        found["parameters"].append(counted.total - router)
        found["active"].append(counted.active - router)
        found["flops"].append(flops(lambda layer=layer: layer(x)) - flops(lambda layer=layer: layer.gate(x)))
    return Measured({part: max(each) / min(each) for part, each in found.items()}, {"layers": found})
