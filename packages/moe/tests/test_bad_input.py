"""What is refused, with which words."""

from __future__ import annotations

import math

import pytest
import torch
from moe_cases import layer, tokens

from moe import (
    MoE,
    NoisyTopKGate,
    SwitchGate,
    TopKGate,
    importance_loss,
    load_loss,
    router_z_loss,
    switch_balance_loss,
    update_bias,
)

SIZES = [("d_model", 0), ("d_model", 8.0), ("d_ff", True), ("d_ff", -1), ("n_experts", 0), ("n_experts", "4"),
         ("n_experts", math.nan)]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), SIZES)
def test_sizes(name, value):
    sizes = {"d_model": 8, "d_ff": 12, "n_experts": 4} | {name: value}
    with pytest.raises(ValueError, match=f"^{name} must be a whole number of at least 1, got {value!r}"):
        MoE(**sizes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 5}, "k must be a whole number from 1 to n_experts, 4, got 5"),
        ({"k": 0}, "k must be a whole number from 1 to n_experts, 4, got 0"),
        ({"k": True, "gate": "switch"}, "k must be 1, Switch's one expert, got True"),
        ({"k": 2.0}, "k must be a whole number from 1 to n_experts, 4, got 2.0"),
        ({"k": 1}, "k must be at least 2 here, got 1: .* no gradient; SwitchGate"),
        ({"k": 2, "gate": "switch"}, "k must be 1, Switch's one expert, got 2"),
        ({"gate": "hash"}, "gate must be 'noisy_topk' or 'switch' or 'topk_softmax' or 'topk_sigmoid', got 'hash'"),
        ({"gate": None}, "gate must be a name or a gate, got NoneType"),
        ({"gate": NoisyTopKGate(8, 5)}, "n_experts must be that of the gate, 5, got 4"),
        ({"gate": NoisyTopKGate(9, 4)}, "d_model must be that of the gate, 9, got 8"),
        ({"gate": NoisyTopKGate(8, 4), "k": 3}, "k must be that of the gate, 2, got 3"),
        ({"capacity_factor": 0}, "capacity_factor must be a finite number above 0, got 0"),
        ({"capacity_factor": -1.0}, "capacity_factor must be a finite number above 0, got -1.0"),
        ({"capacity_factor": math.nan}, "capacity_factor must be a finite number above 0, got nan"),
        ({"capacity_factor": math.inf}, "capacity_factor must be a finite number above 0, got inf"),
        ({"capacity_factor": True}, "capacity_factor must be a finite number above 0, got True"),
        ({"capacity_factor": "1"}, "capacity_factor must be a finite number above 0, got '1'"),
        ({"shared_experts": -1}, "shared_experts must be a whole number of at least 0, got -1"),
        ({"shared_experts": True}, "shared_experts must be a whole number of at least 0, got True"),
        ({"activation": "gelu"}, "activation must be 'relu' or 'swiglu', got 'gelu'"),
        ({"fused": 1}, "fused must be True or False, got 1"),
        ({"init_scale": 0}, "init_scale must be a finite number above 0, got 0"),
    ],
)
def test_options(options, message):
    with pytest.raises(ValueError, match=message):
        MoE(8, 12, 4, **options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SwitchGate(8, 4, jitter=1.0), "jitter must be from 0 to below 1, got 1.0"),
        (lambda: SwitchGate(8, 4, jitter=math.nan), "jitter must be from 0 to below 1, got nan"),
        (lambda: TopKGate(8, 4, 1, renormalise=True), "renormalise must be False for k=1, got True"),
        (lambda: TopKGate(8, 4, renormalise=0), "renormalise must be True or False, got 0"),
        (lambda: TopKGate(8, 4, scores="relu"), "scores must be 'softmax' or 'sigmoid', got 'relu'"),
        (lambda: TopKGate(8, 4, scale=0), "scale must be a finite number above 0, got 0"),
        (lambda: TopKGate(8, 6, n_groups=4), "n_groups must divide n_experts, 6, got 4"),
        (lambda: TopKGate(8, 6, n_groups=2, top_groups=3), "top_groups must be a whole number from 1 to n_groups, 2"),
        (lambda: TopKGate(8, 6, 3, n_groups=3), "k must be at most the experts of 1 of 3 groups, 2, got 3"),
        (lambda: update_bias(SwitchGate(8, 4), torch.ones(4)), "gate must be a TopKGate"),
        (lambda: update_bias(TopKGate(8, 4), torch.ones(5)), r"counts must be of shape \(4,\)"),
        (lambda: update_bias(TopKGate(8, 4), torch.ones(4), 0), "gamma must be a finite number above 0, got 0"),
        (lambda: importance_loss(torch.ones(4)), r"gates must be of shape \(tokens, experts\), got \(4,\)"),
        (lambda: importance_loss([1.0]), "gates must be a floating-point tensor, got list"),
        (lambda: load_loss(torch.ones(2, 4)), r"load must be of shape \(experts\), got \(2, 4\)"),
        (lambda: load_loss(torch.ones(4).long()), "load must be a floating-point tensor, got a tensor of torch.int64"),
        (lambda: load_loss(torch.ones(0)), r"load must be of shape \(experts\), got \(0,\)"),
        (lambda: router_z_loss(torch.ones(4)), "logits must be of shape"),
        (lambda: switch_balance_loss(torch.ones(4)), "probs must be of shape"),
        (lambda: switch_balance_loss(torch.ones(3, 4), torch.tensor([0, 1, 4])), "experts must be from 0 to 3"),
        (lambda: switch_balance_loss(torch.ones(3, 4), torch.zeros(2).long()), r"experts must be of shape \(3,\) or"),
        (lambda: switch_balance_loss(torch.ones(3, 4), torch.zeros(3)), "experts must be a tensor of whole numbers"),
        (lambda: switch_balance_loss(torch.ones(3, 4), torch.zeros(3).bool()), "experts must be a tensor of"),
    ],
)  # fmt: skip
def test_functions(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    ("x", "mask", "message"),
    [
        (torch.ones(3, 9).double(), None, r"x must have the width d_model, 8, got shape \(3, 9\)"),
        (torch.tensor(1.0).double(), None, r"x must have the width d_model, 8, got shape \(\)"),
        (torch.ones(0, 8).double(), None, r"x must have at least one token, got shape \(0, 8\)"),
        (torch.ones(2, 0, 8).double(), None, r"x must have at least one token, got shape \(2, 0, 8\)"),
        (torch.ones(3, 8).long(), None, "x must be a floating-point tensor, got torch.int64"),
        ([[1.0] * 8], None, "x must be a floating-point tensor, got list"),
        (torch.ones(3, 8), None, "x must be of the layer's dtype, torch.float64, got torch.float32"),
        (torch.ones(2, 3, 8).double(), torch.ones(2, 3), "padding_mask must be a tensor of bool, .* got torch.float32"),
        (torch.ones(2, 3, 8).double(), [[True] * 3] * 2, "padding_mask must be a tensor of bool, .* got list"),
        (torch.ones(2, 3, 8).double(), torch.ones(3).bool(), r"padding_mask must be of shape \(2, 3\), got \(3,\)"),
    ],
)
def test_inputs(x, mask, message, fused):
    with pytest.raises(ValueError, match=message):
        layer(fused=fused)(x, mask)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("gate", ["noisy_topk", "switch", "topk_softmax", "topk_sigmoid"])
def test_a_row_that_is_not_finite(gate, bad):
    """Whatever the gate's weights are, zero too."""
    for made in (layer(gate), layer(gate).eval(), MoE(8, 12, 6, gate=gate).double()):
        x = tokens(2, 3)
        x[1, 0, 4] = bad
        with pytest.raises(ValueError, match="x must give finite router logits, got NaN or infinity for 1 of 6 tokens, "
                                             "first token 3"):  # fmt: skip
            made(x)


@pytest.mark.parametrize("gate", [NoisyTopKGate(8, 4), SwitchGate(8, 4), TopKGate(8, 4)], ids=str)
def test_gates_alone(gate):
    with pytest.raises(ValueError, match=r"x must be of shape \(tokens, 8\), got \(2, 3, 8\)"):
        gate(torch.ones(2, 3, 8))
    with pytest.raises(ValueError, match="x must be a floating-point tensor, got torch.int64"):
        gate(torch.ones(3, 8).long())
