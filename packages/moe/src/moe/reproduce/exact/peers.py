"""Other people's layers: the transformers library's Mixtral and DeepSeek blocks; and our Flax twin."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from papertest.claims import Run, claim
from papertest.parity import relative_error

import moe
from moe import gates

D_MODEL, EXPERTS = 64, 8


def filled(layer: moe.MoE, seed: int) -> moe.MoE:
    """In eval, with weights and biases large enough that routing differs from token to token."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in layer.parameters():
            p.normal_(std=0.2, generator=draw)
        for b in layer.gate.buffers():
            b.normal_(std=0.1, generator=draw)
    return layer.eval()


def same_weights(theirs: Any, ours: moe.MoE) -> None:
    """Our weights in a block of the transformers library."""
    gate = ours.gate
    assert isinstance(gate, gates.TopKGate)
    with torch.no_grad():
        theirs.gate.weight.copy_(gate.W_r)
        theirs.experts.gate_up_proj.copy_(ours.experts.W_1)
        theirs.experts.down_proj.copy_(ours.experts.W_2)
        if hasattr(theirs.gate, "e_score_correction_bias"):
            theirs.gate.e_score_correction_bias.copy_(gate.bias)
        if ours.shared is not None:
            gate_proj, up_proj = ours.shared.W_1[0].chunk(2)
            theirs.shared_experts.gate_proj.weight.copy_(gate_proj)
            theirs.shared_experts.up_proj.weight.copy_(up_proj)
            theirs.shared_experts.down_proj.weight.copy_(ours.shared.W_2[0])


def differences(theirs: nn.Module, ours: moe.MoE, seed: int) -> tuple[float, float]:
    """Of outputs, and the largest of the gradients of Σ upstream · output: input, router, experts."""
    same_weights(theirs, ours)
    draw = torch.Generator().manual_seed(seed)
    x, upstream = (torch.randn(3, 64, D_MODEL, generator=draw) for _ in range(2))

    def outcome(block: nn.Module, *weights: str) -> tuple[Tensor, list[Tensor]]:
        given = x.clone().requires_grad_()
        y = block(given)
        y = y[0] if isinstance(y, tuple) else y
        wanted = [given, *map(block.get_parameter, weights)]
        return y.detach(), list(torch.autograd.grad((y * upstream).sum(), wanted))

    mine, grads = outcome(ours, "gate.W_r", "experts.W_1", "experts.W_2")
    peer, true = outcome(theirs, "gate.weight", "experts.gate_up_proj", "experts.down_proj")
    return relative_error(mine, peer), max(relative_error(a, b) for a, b in zip(grads, true, strict=True))


@claim("mixtral-parity")
def mixtral_parity(run: Run) -> dict[str, float]:
    """MixtralSparseMoeBlock against gate="topk_softmax" with SwiGLU."""
    from transformers import MixtralConfig
    from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

    sizes = MixtralConfig(hidden_size=D_MODEL, intermediate_size=224, num_local_experts=EXPERTS, num_experts_per_tok=2)
    ours = filled(moe.MoE(D_MODEL, 224, EXPERTS, gate="topk_softmax", activation="swiglu"), run.seed)
    ours.gate.get_buffer("bias").zero_()  # Mixtral has none
    output, gradients = differences(MixtralSparseMoeBlock(sizes).eval(), ours, run.seed)
    return {"output": output, "gradients": gradients}


@claim("deepseek-parity")
def deepseek_parity(run: Run) -> dict[str, float]:
    """DeepseekV2Moe, greedy and limited to groups, and DeepseekV3MoE with groups; two shared experts."""
    from transformers import DeepseekV2Config, DeepseekV3Config
    from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2Moe
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3MoE

    sizes: dict[str, Any] = {
        "hidden_size": D_MODEL, "moe_intermediate_size": 96, "n_routed_experts": EXPERTS, "num_experts_per_tok": 2,
        "routed_scaling_factor": 2.5, "n_shared_experts": 2,
    }  # fmt: skip
    found = {"v2": 0.0, "v3": 0.0, "gradients": 0.0}
    for part, groups in (("v2", 1), ("v2", 4), ("v3", 4)):
        limits: dict[str, Any] = {"n_group": groups, "topk_group": max(1, groups // 2)}
        if part == "v2":
            method = "greedy" if groups == 1 else "group_limited_greedy"
            theirs: nn.Module = DeepseekV2Moe(
                DeepseekV2Config(**sizes, **limits, num_attention_heads=2, topk_method=method)
            )
        else:
            theirs = DeepseekV3MoE(DeepseekV3Config(**sizes, **limits))
        gate = gates.TopKGate(
            D_MODEL, EXPERTS, 2, scores="softmax" if part == "v2" else "sigmoid", renormalise=part == "v3", scale=2.5,
            n_groups=groups, top_groups=limits["topk_group"],
        )  # fmt: skip
        ours = filled(moe.MoE(D_MODEL, 96, EXPERTS, gate=gate, shared_experts=2, activation="swiglu"), run.seed)
        if part == "v2":
            gate.bias.zero_()  # V2 has none
        output, gradients = differences(theirs.eval(), ours, run.seed)
        found[part], found["gradients"] = max(found[part], output), max(found["gradients"], gradients)
    return found


@claim("moe-flax-twin")
def moe_flax_twin(run: Run) -> dict[str, float]:
    """Switch's gate with a factor of 1, and Mixtral's without capacity; losses: balance and z."""
    import jax
    import numpy as np

    from moe import jax as twin

    draw = np.random.default_rng(run.seed)
    x, upstream = (draw.standard_normal((2, 48, D_MODEL), dtype=np.float32) for _ in range(2))
    found = {"output": 0.0, "gradients": 0.0, "losses": 0.0}
    settings: tuple[tuple[Literal["switch", "topk_softmax"], float | None], ...] = (
        ("switch", 1.0), ("topk_softmax", None),
    )  # fmt: skip
    for gate, factor in settings:
        ours = filled(moe.MoE(D_MODEL, 96, EXPERTS, gate=gate, capacity_factor=factor), run.seed)
        given = torch.from_numpy(x).requires_grad_()
        y, info = ours(given)
        y.backward(torch.from_numpy(upstream))
        layer = twin.from_torch(ours)

        @jax.jit
        def twice(x: Any, upstream: Any, layer: Any = layer) -> Any:
            theirs, pull, losses = jax.vjp(layer, x, has_aux=True)
            return theirs, pull(upstream)[0], losses

        theirs, gradient, losses = twice(x, upstream)
        assert given.grad is not None
        for part, a, b in (
            ("output", theirs, y.detach()), ("gradients", gradient, given.grad),
            ("losses", losses.balance_loss, info.balance_loss.detach()),
            ("losses", losses.z_loss, info.z_loss.detach()),
        ):  # fmt: skip
            found[part] = max(found[part], relative_error(torch.from_numpy(np.array(a)), b))
    return found
