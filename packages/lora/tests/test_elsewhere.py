"""Layers whose weight, or who themselves, are used outside of their call: merged as unmerged, or refused by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from lora_cases import Conv1D, assert_same, ids, randomise, state, tiny
from torch import Tensor, nn

from lora import (
    LoRALinear,
    add_lora,
    load_adapter,
    lora_state_dict,
    merge_lora,
    save_adapter,
    set_adapter,
    unmerge_lora,
)

TARGETS = ("tokens", "positions", "fc", "conv")


class Model(nn.Module):
    """Tokens that are the output too, positions that are a table, and layers whose weight a helper takes."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(11, 8), nn.Embedding(6, 8)
        self.fc, self.conv = nn.Linear(8, 8), Conv1D(8, 8)

    def logits(self, x: Tensor) -> Tensor:
        return x @ self.tokens.weight.T

    def forward(self, ids: Tensor) -> Tensor:
        x, fc = self.tokens(ids) + self.positions.weight[: ids.shape[1]], self.fc
        x = torch.tanh(F.linear(torch.tanh(fc(x)), fc.weight, fc.bias))
        return self.logits(self.conv(x) + sum(_taken(x, layer) for layer in [self.conv]))


def _taken(x: Tensor, layer: nn.Module) -> Tensor:
    return x @ layer.weight


def model(targets: Any = TARGETS, dtype: torch.dtype = torch.float64) -> Any:
    torch.manual_seed(0)
    return randomise(add_lora(Model().to(dtype).eval(), targets, r=2))


@torch.no_grad()
@settings(deadline=None, max_examples=25)
@given(st.sets(st.sampled_from(TARGETS), min_size=1), st.integers(1, 6), st.booleans())
def test_merged_is_unmerged_and_the_adapter_acts(targets, length, half):
    adapted, x = model(sorted(targets), torch.float16 if half else torch.float64), ids(2, length)
    h, base = adapted(x), set_adapter(adapted, None)(x)
    merged = merge_lora(set_adapter(adapted, "default"))(x)
    assert (merged - h).abs().max() <= (0.02 if half else 1e-12) * h.abs().max()
    assert (h - base).abs().max() > 0.01
    assert torch.equal(unmerge_lora(adapted)(x), h)


def test_every_adapter_trains_where_its_weight_is_taken():
    adapted = model().train()
    h = adapted(ids(2, 5))
    tensors = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
    gradients = torch.autograd.grad(h.square().sum(), tensors.values())
    merged = model()
    for (name, p), gradient in zip(tensors.items(), gradients, strict=True):
        step = torch.randn(p.shape, dtype=p.dtype, generator=torch.Generator().manual_seed(1))
        losses = []
        for sign in (1, -1):
            with torch.no_grad():
                merged.get_parameter(name).copy_(p + sign * 1e-6 * step)
            losses.append(merge_lora(merged)(ids(2, 5)).square().sum())
            unmerge_lora(merged)
        assert ((losses[0] - losses[1]) / 2e-6).item() == pytest.approx((gradient * step).sum().item(), rel=1e-5)
        merged = model()


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_and_exported(backend):
    adapted = model()
    h = adapted(ids(2, 5))
    compiled = torch.compile(adapted, backend=backend, fullgraph=True)
    torch.testing.assert_close(compiled(ids(2, 5)), h)
    torch.testing.assert_close(merge_lora(compiled)(ids(2, 5)), h)
    torch.testing.assert_close(unmerge_lora(compiled)(ids(2, 5)), h)
    torch.testing.assert_close(torch.export.export(adapted, (ids(2, 5),)).module()(ids(2, 5)), h)
    torch._dynamo.reset()


def test_methods_other_than_forward_have_it_and_scripts_have_the_parameter():
    adapted = model()
    assert torch.equal(adapted.logits(torch.eye(8).double()).T, adapted.tokens.weight_with("default"))
    with torch.no_grad():
        before = adapted.tokens.weight.clone()
        assert adapted.tokens.weight is dict(adapted.named_parameters())["tokens.weight"] is adapted.tokens.own_weight
        assert adapted.get_parameter("tokens.weight") is adapted.tokens.own_weight
        adapted.tokens.weight.zero_()
        assert not adapted.logits(torch.zeros(1, 8).double()).any()
        adapted.tokens.weight = nn.Parameter(before)
    assert adapted.tokens.own_weight.data_ptr() == before.data_ptr()


def test_a_file_of_it_is_read_back(tmp_path):
    adapted = merge_lora(model())
    save_adapter(adapted, tmp_path)
    torch.manual_seed(0)
    torch.testing.assert_close(load_adapter(Model().double().eval(), tmp_path)(ids(2, 5)), adapted(ids(2, 5)))


@pytest.mark.parametrize("hold", [
    lambda m: setattr(m, "again", [m.fc]),
    lambda m: setattr(m, "again", {"fc": m.fc}),
    lambda m: setattr(m, "again", m.fc.forward),
    lambda m: object.__setattr__(m, "again", m.fc),
])  # fmt: skip
def test_a_layer_that_is_held_as_no_module_is_refused(hold):
    held = Model()
    hold(held)
    before = state(held)
    with pytest.raises(ValueError, match="fc cannot be adapted: it is in again too, not as a module"):
        add_lora(held, ["tokens", "fc"], r=2)
    assert_same(before, state(held))


@pytest.mark.parametrize("hold", [
    lambda m: setattr(m.layers[0], "table", [m.embed.weight]),
    lambda m: m.layers[0].register_buffer("table", m.embed.weight),
    lambda m: m.layers[0].register_parameter("table", m.embed.weight),
])  # fmt: skip
def test_a_weight_that_others_hold_is_not_merged(hold):
    held = tiny()
    hold(held)
    randomise(add_lora(held, ["q_proj", "embed"], r=2))
    before = state(held)
    with pytest.raises(ValueError, match=r"embed cannot be merged: layers.0(.table)? has the same weight"):
        merge_lora(held)
    assert_same(before, state(held))


def test_a_layer_compiled_by_itself_is_refused():
    for name, compile_it in {
        "q_proj": lambda block: block.q_proj.compile(backend="eager"),
        "q_proj._orig_mod": lambda block: setattr(block, "q_proj", torch.compile(block.q_proj, backend="eager")),
    }.items():
        for target in {name, "q_proj"}:
            compiled = tiny().layers[0]
            compile_it(compiled)
            before = state(compiled)
            with pytest.raises(ValueError, match=f"{target} cannot be adapted: it is compiled by itself: put the"):
                add_lora(compiled, [target], r=2)
            assert_same(before, state(compiled))
    layer = nn.Linear(4, 4)
    layer.compile(backend="eager")
    with pytest.raises(ValueError, match="base must be an nn.Linear, and this one is compiled by itself"):
        LoRALinear(layer)


# ------------------------------------------------------------------------------------------- half precision and state


@pytest.mark.parametrize(
    ("dtype", "large"), [(torch.float16, 6e4), (torch.bfloat16, 3e38), (torch.float32, 3e38)], ids=str
)
def test_a_merge_that_overflows_changes_nothing(dtype, large):
    wide = tiny().to(dtype)
    randomise(add_lora(wide, ["q_proj", "v_proj", "embed"], r=2))
    with torch.no_grad():
        layer = wide.layers[1].v_proj
        layer.weight[0] = large
        layer.lora_A["default"].fill_(large**0.5)
        layer.lora_B["default"].fill_(large**0.5 / 8)
    before = state(wide)
    words = f"(layers.1.v_proj cannot be merged: it )?has W_0 .* not finite in {dtype}"
    for call in (lambda: merge_lora(wide), layer.merge):
        with pytest.raises(ValueError, match=words):
            call()
    assert_same(before, state(wide))
    with torch.no_grad():
        layer.lora_A["default"].fill_(float("nan"))
    with pytest.raises(ValueError, match="layers.1.v_proj cannot be merged: it has W_0 .* not finite"):
        merge_lora(wide)
    assert not any(layer.merged for layer in (wide.embed, *(block.q_proj for block in wide.layers)))


def test_what_the_base_has_that_is_not_finite_is_merged():
    base = tiny()
    base.embed.weight.data[3, 1] = -torch.inf
    merged = merge_lora(randomise(add_lora(base, ["embed"], r=2)))
    assert merged.embed.weight[3, 1] == -torch.inf


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_comes_back_bit_by_bit_also_under_autocast_and_inference(dtype):
    half = randomise(add_lora(tiny().to(dtype), ["q_proj", "v_proj", "embed", "head"], r=2))
    before, W = state(half), half.head.weight_with("default").clone()
    for context in (torch.autocast("cpu", torch.bfloat16), torch.inference_mode()):
        with context:
            merge_lora(half)
        assert torch.equal(half.head.weight, W)  # s B A is in float32, and rounded once
        half(ids())
        with context:
            unmerge_lora(half)
        assert_same(before, state(half))
    half.train()(ids()).sum().backward()


def test_autocast_merged_is_unmerged():
    adapted = randomise(add_lora(tiny(), ["q_proj", "v_proj", "embed", "head"], r=2))
    with torch.autocast("cpu", torch.bfloat16):
        h = adapted(ids())
        torch.testing.assert_close(merge_lora(adapted)(ids()), h, rtol=0.05, atol=0.1)
        assert adapted(ids()).dtype == h.dtype


@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: torch.compile(m, backend="eager"), nn.DataParallel])
@pytest.mark.parametrize("merged", [False, True])
def test_a_state_dict_is_that_of_W_0_A_and_B_in_every_mode(wrap, merged):
    adapted = tiny()
    for name, targets in (("a", ["q_proj", "embed"]), ("b", ["q_proj", "v_proj"])):
        randomise(add_lora(adapted, targets, r=2, adapter=name), name, seed=ord(name))
    expected = {name: set_adapter(adapted, name)(ids()) for name in "ab"}
    plain = {name: tensor.clone() for name, tensor in adapted.state_dict().items()}
    for name in "ab":
        set_adapter(adapted, name)
        wrapped = wrap(merge_lora(adapted) if merged else adapted)
        tensors = wrapped.state_dict()
        fresh = tiny()
        for each, targets in (("a", ["q_proj", "embed"]), ("b", ["q_proj", "v_proj"])):
            add_lora(fresh, targets, r=2, adapter=each)
        wrap(fresh).load_state_dict(tensors)
        for each in "ab":
            assert torch.equal(set_adapter(fresh, each)(ids()), expected[each])
        if merged:
            unmerge_lora(wrapped)
        wrapped.load_state_dict(tensors)
        assert all(torch.equal(tensor, plain[key]) for key, tensor in adapted.state_dict().items())
    assert lora_state_dict(adapted, "a").keys() <= plain.keys()
