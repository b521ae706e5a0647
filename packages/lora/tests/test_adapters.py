"""Adapter layers: the paper's count (Section 5.1), and what they compute."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lora.reproduce.models import Bottleneck, insert, width_for


def model():
    block = {"attn": nn.ModuleDict({"c_proj": nn.Linear(8, 8)}), "mlp": nn.ModuleDict({"c_proj": nn.Linear(32, 8)})}
    return nn.ModuleDict({f"block{i}": nn.ModuleDict(block) for i in range(1)})


@pytest.mark.parametrize("norm", [True, False])
def test_the_formula(norm):
    adapter = Bottleneck(8, 3, norm=norm)
    h = torch.randn(5, 8)
    inner = nn.functional.layer_norm(h, (8,)) if norm else h
    expected = h + adapter.up(adapter.down(inner).clamp(min=0))
    assert torch.allclose(adapter(h), expected, atol=1e-6)


def test_the_count_is_that_of_section_5_1():
    net = model()
    assert insert(net, ("attn.c_proj", "mlp.c_proj"), 8, 3, norm=False) == 2 * (2 * 8 * 3 + 3 + 8)
    assert insert(model(), ("mlp.c_proj",), 8, 3, norm=True) == (2 * 8 * 3 + 3 + 8) + 2 * 8


def test_they_are_put_after_the_named_modules_alone():
    net = model()
    before = net["block0"]["attn"]["c_proj"]
    insert(net, ("mlp.c_proj",), 8, 3, norm=True)
    assert net["block0"]["attn"]["c_proj"] is before
    inner, adapter = net["block0"]["mlp"]["c_proj"]
    x = torch.randn(2, 32)
    assert torch.equal(net["block0"]["mlp"]["c_proj"](x), adapter(inner(x)))


@pytest.mark.parametrize(("parameters", "norm", "layers"), [(11e6, True, 24), (11e6, False, 48), (0.5e6, True, 24)])
def test_the_width_for_a_budget(parameters, norm, layers):
    width = width_for(parameters, layers, 1024, norm=norm)
    count = layers * (2 * 1024 * width + width + 1024 + (2048 if norm else 0))
    assert count == pytest.approx(parameters, rel=0.1)
    assert width_for(11e6, 24, 1024, norm=True) in (222, 223)


def test_the_width_is_never_0():
    assert width_for(10, 24, 1024, norm=True) == 1
