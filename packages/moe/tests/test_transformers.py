"""The transformers library's blocks, with the same weights: outputs and gradients."""

from __future__ import annotations

import pytest
import torch
from moe_cases import layer, tokens
from transformers import DeepseekV2Config, DeepseekV3Config, MixtralConfig
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2Moe
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3MoE
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

from moe import MoE, TopKGate

DEEPSEEK = {
    "hidden_size": 8, "moe_intermediate_size": 12, "n_routed_experts": 6, "num_experts_per_tok": 2,
    "routed_scaling_factor": 2.5, "n_shared_experts": 2,
}  # fmt: skip


def mixtral():
    return MixtralSparseMoeBlock(
        MixtralConfig(hidden_size=8, intermediate_size=12, num_local_experts=6, num_experts_per_tok=2)
    ), {"gate": "topk_softmax"}


def deepseek_v2(method, groups=(1, 1)):
    config = DeepseekV2Config(
        **DEEPSEEK, num_attention_heads=2, topk_method=method, n_group=groups[0], topk_group=groups[1]
    )
    gate = TopKGate(8, 6, 2, renormalise=False, scale=2.5, n_groups=groups[0], top_groups=groups[1])
    return DeepseekV2Moe(config), {"gate": gate, "shared_experts": 2}


def deepseek_v3(groups, renormalise=True):
    config = DeepseekV3Config(**DEEPSEEK, n_group=groups[0], topk_group=groups[1], norm_topk_prob=renormalise)
    gate = TopKGate(8, 6, 2, scores="sigmoid", renormalise=renormalise, scale=2.5, n_groups=groups[0],
                    top_groups=groups[1])  # fmt: skip
    return DeepseekV3MoE(config), {"gate": gate, "shared_experts": 2}


BLOCKS = {
    "Mixtral": mixtral, "V2": lambda: deepseek_v2("greedy"),
    "V2, groups": lambda: deepseek_v2("group_limited_greedy", (3, 2)), "V3": lambda: deepseek_v3((1, 1)),
    "V3, groups": lambda: deepseek_v3((3, 2)), "V3, not renormalised": lambda: deepseek_v3((2, 1), False),
}  # fmt: skip


def same_weights(theirs: torch.nn.Module, ours: MoE) -> None:
    with torch.no_grad():
        theirs.gate.weight.copy_(ours.gate.W_r)
        theirs.experts.gate_up_proj.copy_(ours.experts.W_1)
        theirs.experts.down_proj.copy_(ours.experts.W_2)
        if hasattr(theirs.gate, "e_score_correction_bias"):
            theirs.gate.e_score_correction_bias.copy_(ours.gate.bias)
        if ours.shared is not None:
            gate, up = ours.shared.W_1[0].chunk(2)
            theirs.shared_experts.gate_proj.weight.copy_(gate)
            theirs.shared_experts.up_proj.weight.copy_(up)
            theirs.shared_experts.down_proj.weight.copy_(ours.shared.W_2[0])


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", BLOCKS)
def test_block(name, fused):
    theirs, options = BLOCKS[name]()
    ours = layer(dtype=torch.float32, activation="swiglu", fused=fused, **options)
    if not name.startswith("V3"):
        ours.gate.bias.zero_()
    same_weights(theirs, ours)
    x = tokens(3, 20, dtype=torch.float32)
    inputs = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, expected = ours(inputs[0])[0], theirs(inputs[1])
    for out in (y, expected):
        out.square().sum().backward()
    close = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(y, expected, **close)
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-4, atol=1e-3)
    pairs = [(ours.gate.W_r, theirs.gate.weight), (ours.experts.W_1, theirs.experts.gate_up_proj),
             (ours.experts.W_2, theirs.experts.down_proj)]  # fmt: skip
    for a, b in pairs:
        assert (a.grad - b.grad).norm() < 1e-5 * b.grad.norm()
