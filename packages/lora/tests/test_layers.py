"""The function of Eq. 3 and the layers that are made of it."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from lora_cases import Conv1D
from torch import Tensor, nn

from papertest.parity import relative_error

from lora import LoRAConv1D, LoRAEmbedding, LoRALinear, LoRAMergedLinear
from lora import function as functions
from lora.function import Fused, lora_linear, plain

TINY = settings(deadline=None, max_examples=25)


def random(*shape: int, dtype: torch.dtype = torch.float64, grad: bool = False, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + 100 * len(shape) + sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_(grad)


def inputs(k: int = 5, d: int = 4, r: int = 2, dtype: torch.dtype = torch.float64, batch: Any = (3, 2)) -> list[Tensor]:
    """x, W_0, b, A, B"""
    x, A, B = random(*batch, k, dtype=dtype, grad=True), random(r, k, dtype=dtype), random(d, r, dtype=dtype)
    W_0, b = random(d, k, dtype=dtype, seed=7), random(d, dtype=dtype)
    return [x, W_0, b, A.requires_grad_(), B.requires_grad_()]


def filled(layer: Any) -> Any:
    for factor in (*layer.lora_A.values(), *layer.lora_B.values()):
        nn.init.normal_(factor, std=0.5)
    return layer


# ----------------------------------------------------------------------------------------------- the function


@pytest.mark.parametrize("bias", [True, False])
def test_first_and_second_derivatives_are_those_of_differences(bias):
    x, W_0, b, A, B = inputs()

    def f(x: Tensor, A: Tensor, B: Tensor) -> Tensor:
        return Fused.apply(x, W_0, b if bias else None, A, B, 1.7)

    assert torch.autograd.gradcheck(f, (x, A, B))
    assert torch.autograd.gradgradcheck(f, (x, A, B))


@TINY
@given(
    st.tuples(*[st.integers(1, 6)] * 3),
    st.lists(st.integers(0, 4), max_size=3),
    st.floats(0.01, 50),
    st.booleans(),
    st.sets(st.integers(0, 2)),
)
def test_the_fused_function_is_the_plain_formula(sizes, batch, s, bias, frozen):
    """At any shape, an empty batch too, and whatever of x, A and B is frozen."""
    k, d, r = sizes
    x, W_0, b, A, B = inputs(k, d, r, batch=batch)
    trained = [factor.requires_grad_(i not in frozen) for i, factor in enumerate((x, A, B)) if i not in frozen]
    h, again = (f(x, W_0, b if bias else None, A, B, s) for f in (plain, lora_linear))
    assert torch.allclose(h, again, rtol=1e-10, atol=1e-10)
    weights = random(*h.shape, seed=3)
    if trained:
        ours, theirs = (torch.autograd.grad(out, trained, weights) for out in (again, h))
        for gradient, other in zip(ours, theirs, strict=True):
            assert gradient.shape == other.shape
            assert torch.allclose(gradient, other, rtol=1e-10, atol=1e-10)


def test_gradients_are_those_derived_on_paper():
    """dA = s Bᵀ dW and dB = s dW Aᵀ, where dW = Σ dh xᵀ is the gradient of a full W."""
    x, W_0, b, A, B = inputs(batch=(6,))
    dh = random(6, 4, seed=5)
    dx, dA, dB = torch.autograd.grad(lora_linear(x, W_0, b, A, B, 1.5), (x, A, B), dh)
    dW = dh.T @ x
    assert torch.allclose(dA, 1.5 * B.T @ dW)
    assert torch.allclose(dB, 1.5 * dW @ A.T)
    assert torch.allclose(dx, dh @ (W_0 + 1.5 * B @ A))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_its_error_is_at_most_twice_that_of_the_plain_formula(dtype):
    values = inputs(96, 64, 8, dtype, (40,))
    dh = random(40, 64, dtype=dtype, seed=5)

    def all_of(f: Any, values: list[Tensor], dh: Tensor) -> list[Tensor]:
        h = f(*values, 2.0)
        return [h, *torch.autograd.grad(h, [values[0], *values[3:]], dh)]

    exact = all_of(plain, [v.detach().double().requires_grad_(v.requires_grad) for v in values], dh.double())
    for ours, theirs, true in zip(all_of(lora_linear, values, dh), all_of(plain, values, dh), exact, strict=True):
        scale = true.abs().max() * torch.finfo(dtype).eps
        assert (ours - true).abs().max() <= 2 * (theirs - true).abs().max() + scale


def test_it_keeps_x_and_r_numbers_a_token_for_the_backward_pass():
    kept: list[Tensor] = []
    x, W_0, b, A, B = inputs(64, 48, 2, torch.float32, (30,))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        lora_linear(x, W_0, b, A, B, 2.0)
    given = {value.data_ptr() for value in (x, W_0, A, B)}
    assert sum(t.numel() for t in kept if t.data_ptr() not in given) == 2 * 30


def test_the_fused_function_serves_where_it_holds_and_only_there(monkeypatch):
    calls: list[int] = []
    apply = Fused.apply
    monkeypatch.setattr(Fused, "apply", lambda *args: calls.append(1) or apply(*args))
    x, W_0, b, A, B = inputs(dtype=torch.float32)
    expected = plain(x, W_0, b, A, B, 2.0)
    assert torch.allclose(lora_linear(x, W_0, b, A, B, 2.0), expected)
    assert len(calls) == 1
    full = lora_linear(x, W_0.requires_grad_(), b, A, B, 2.0)
    assert torch.autograd.grad(full.sum(), W_0)[0].abs().max() > 0
    W_0.requires_grad_(False)
    biased = lora_linear(x, W_0, b.requires_grad_(), A, B, 2.0)
    assert torch.autograd.grad(biased.sum(), b)[0].abs().max() > 0
    b = b.detach()
    with torch.autocast("cpu", torch.bfloat16):
        assert lora_linear(x, W_0, b, A, B, 2.0).dtype == torch.bfloat16
    lora_linear(x, W_0, b, A, B, 2.0, 0.5)
    assert len(calls) == 1


def test_transformations_of_functions_go_through():
    x, W_0, b, A, B = (value.detach() for value in inputs(batch=(6,)))

    def loss(A: Tensor, x: Tensor) -> Tensor:
        return lora_linear(x, W_0, b, A, B, 2.0).square().sum()

    of_each = torch.func.vmap(torch.func.grad(loss), (None, 0))(A, x)
    assert torch.allclose(of_each.sum(0), torch.func.grad(loss)(A, x))
    trained = A.clone().requires_grad_()
    loss(trained, x).backward()
    assert torch.allclose(of_each.sum(0), trained.grad)


def test_the_gradient_of_x_is_the_same_without_onednn(monkeypatch):
    x, W_0, b, A, B = inputs(64, 48, 2, torch.float32, (30,))
    dh = random(30, 48, dtype=torch.float32)
    gradient = torch.autograd.grad(lora_linear(x, W_0, b, A, B, 2.0), x, dh)[0]
    monkeypatch.setattr(functions, "_ONEDNN", False)
    assert relative_error(torch.autograd.grad(lora_linear(x, W_0, b, A, B, 2.0), x, dh)[0], gradient) < 1e-6


def test_dropout_is_on_the_input_of_A_alone():
    x, W_0, b, A, B = inputs(batch=(4000,))
    torch.manual_seed(0)
    h = plain(x, W_0, b, A, B, 2.0, 0.4)
    assert not torch.allclose(h, plain(x, W_0, b, A, B, 2.0))
    zeros = plain(x, W_0, b, A, torch.zeros_like(B), 2.0, 0.4)
    assert torch.equal(zeros, F.linear(x, W_0, b))
    added = (h - F.linear(x, W_0, b)).mean(0)
    assert (added - (plain(x, W_0, b, A, B, 2.0) - F.linear(x, W_0, b)).mean(0)).abs().max() < 0.4


# ------------------------------------------------------------------------------------------------- the layers


def layers(dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    torch.manual_seed(0)
    made = {
        "linear": LoRALinear(nn.Linear(6, 9).to(dtype), 2, 3),
        "without bias": LoRALinear(nn.Linear(6, 9, bias=False).to(dtype), 2, 3),
        "conv1d": LoRAConv1D(Conv1D(9, 6).to(dtype), 2, 3),
        "merged linear": LoRAMergedLinear(nn.Linear(6, 9).to(dtype), (True, False, True), 2, 3),
        "merged conv1d": LoRAMergedLinear(Conv1D(9, 6).to(dtype), (False, True, True), 2, 3),
        "embedding": LoRAEmbedding(nn.Embedding(6, 9).to(dtype), 2, 3),
    }
    return {kind: layer.requires_grad_(False).eval() for kind, layer in made.items()}


KINDS = list(layers())


def x_for(layer: Any, dtype: torch.dtype = torch.float32) -> Tensor:
    if isinstance(layer, nn.Embedding):
        return torch.tensor([[0, 5, 2], [3, 3, 1]])
    return random(2, 3, 6, dtype=dtype)


def base_of(layer: Any) -> Any:
    """W_0 and b in a layer of torch, in the orientation of the paper."""
    W_0 = layer.weight.T if layer.transposed else layer.weight

    def call(x: Tensor) -> Tensor:
        return F.embedding(x, W_0.T) if isinstance(layer, nn.Embedding) else F.linear(x, W_0, layer.bias)

    return call


@pytest.mark.parametrize("kind", KINDS)
def test_at_the_start_a_layer_is_its_base_bit_by_bit(kind):
    layer = layers()[kind]
    x = x_for(layer)
    assert torch.equal(layer(x), base_of(layer)(x))
    assert layer.lora_A["default"].abs().min() > 0
    assert not layer.lora_B["default"].any()


def test_a_conv1d_starts_with_the_bits_of_its_own_forward():
    torch.manual_seed(0)
    conv, x = Conv1D(24, 16), torch.randn(3, 7, 16)
    assert torch.equal(LoRAConv1D(conv)(x), conv(x))
    linear = nn.Linear(16, 24)
    assert torch.equal(LoRALinear(linear)(x), linear(x))


@pytest.mark.parametrize("kind", KINDS)
def test_it_adds_s_B_A_x(kind):
    layer = filled(layers(torch.float64)[kind])
    x = x_for(layer, torch.float64)
    one_hot = F.one_hot(x, 6).double() if isinstance(layer, nn.Embedding) else x
    delta_W = layer.delta_W("default")
    assert delta_W.shape == (9, 6)
    assert torch.allclose(layer(x) - base_of(layer)(x), one_hot @ delta_W.T)
    A, B = layer.factors("default")
    assert torch.allclose(delta_W, layer.whole_pair("default").s * B @ A)


@pytest.mark.parametrize(
    "enabled", [e for n in (1, 2, 3) for e in itertools.product([True, False], repeat=n) if any(e)]
)
def test_a_merged_linear_adapts_the_enabled_parts_each_by_a_pair_of_its_own(enabled):
    torch.manual_seed(0)
    layer = filled(LoRAMergedLinear(nn.Linear(5, 6).double(), enabled, 2, 3))
    lora_A, lora_B, n = layer.lora_A["default"], layer.lora_B["default"], sum(enabled)
    pairs = iter(zip(lora_A.chunk(n), lora_B.chunk(n), strict=True))
    for rows, part in zip(layer.delta_W("default").chunk(len(enabled)), enabled, strict=True):
        if part:
            A, B = next(pairs)
            assert torch.allclose(rows, 1.5 * B @ A)
        else:
            assert not rows.any()
    assert torch.equal(layer.parts(layer.factors("default")[1]), lora_B)


def test_a_merged_linear_trains_as_separate_layers_do():
    torch.manual_seed(0)
    fused = filled(LoRAMergedLinear(nn.Linear(5, 6).double().requires_grad_(False), (True, True), 2, 3))
    x = random(4, 5)
    fused(x).square().sum().backward()
    for i in range(2):
        part = LoRALinear(nn.Linear(5, 3).double().requires_grad_(False), 2, 3)
        with torch.no_grad():
            part.weight.copy_(fused.weight.chunk(2)[i])
            part.bias.copy_(fused.bias.chunk(2)[i])
            part.lora_A["default"].copy_(fused.lora_A["default"].chunk(2)[i])
            part.lora_B["default"].copy_(fused.lora_B["default"].chunk(2)[i])
        part(x).square().sum().backward()
        assert torch.allclose(part.lora_A["default"].grad, fused.lora_A["default"].grad.chunk(2)[i])
        assert torch.allclose(part.lora_B["default"].grad, fused.lora_B["default"].grad.chunk(2)[i])


@TINY
@given(st.sampled_from(KINDS), st.integers(1, 4), st.floats(0.1, 20), st.floats(0.1, 20))
def test_the_update_has_rank_r_at_most_and_grows_with_alpha_alone(kind, r, alpha, other):
    layer = layers(torch.float64)[kind]
    for name, value in (("a", alpha), ("b", other)):
        layer.add_adapter(name, type(layer.pairs["default"])(r, value))
    filled(layer)
    for factor in (layer.lora_A, layer.lora_B):
        factor["b"].data.copy_(factor["a"])
    ours, theirs = layer.delta_W("a"), layer.delta_W("b")
    assert torch.allclose(ours * other, theirs * alpha)
    assert torch.linalg.matrix_rank(ours) <= layer.whole_pair("a").r


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_merging_is_one_rounding_and_unmerging_gives_back_the_very_bits(kind, dtype):
    layer = filled(layers(dtype)[kind])
    x, weight, place = x_for(layer, dtype), layer.weight.clone(), layer.weight.data_ptr()
    before = layer(x)
    layer.merge()
    assert layer.merged
    delta_W = layer.delta_W("default")
    assert torch.equal(layer.weight, (weight.to(delta_W) + (delta_W.T if layer.transposed else delta_W)).to(dtype))
    assert relative_error(layer(x), before) < 20 * torch.finfo(dtype).eps
    layer.unmerge()
    assert torch.equal(layer.weight, weight)
    assert layer.weight.data_ptr() == place
    assert torch.equal(layer(x), before)


def test_a_deviation_of_A_is_that_of_the_uniform_of_the_authors():
    torch.manual_seed(0)
    A = LoRALinear(nn.Linear(300, 5), r=64).lora_A["default"]
    assert A.std().item() == pytest.approx(1 / math.sqrt(900), rel=0.03)
    assert A.abs().max() > 1 / math.sqrt(300)  # a uniform distribution would end here
    A = LoRAEmbedding(nn.Embedding(300, 5, padding_idx=4), r=64).lora_A["default"]
    assert A.std().item() == pytest.approx(1, rel=0.03)
    assert not A[:, 4].any()


def test_padding_stays_what_it_is():
    table = nn.Embedding(6, 9, padding_idx=2).requires_grad_(False)
    layer = LoRAEmbedding(table, 2, 3)
    optimizer = torch.optim.SGD(layer.parameters(), 0.5)
    for _ in range(3):
        (layer(torch.tensor([0, 2, 5])) + 1).square().sum().backward()
        optimizer.step()
    assert torch.equal(layer(torch.tensor(2)), table(torch.tensor(2)))
    assert not torch.equal(layer(torch.tensor(0)), table(torch.tensor(0)))


def test_a_layer_takes_over_its_base_and_copies_nothing():
    base, seen = nn.Linear(6, 9), []
    handle = base.register_forward_hook(lambda *_: seen.append(1))
    base.eval()
    layer = LoRALinear(base)
    assert layer.weight is base.weight
    assert layer.bias is base.bias
    assert not layer.training
    assert set(base.state_dict()) == {"weight", "bias"}
    assert set(layer.state_dict()) == {"weight", "bias", "lora_A.default", "lora_B.default"}
    layer(torch.randn(6))
    assert seen == [1]
    handle.remove()
    layer(torch.randn(6))
    assert seen == [1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_A_and_B_of_a_half_base_are_float32_and_train(dtype):
    layer = LoRALinear(nn.Linear(6, 9).to(dtype).requires_grad_(False))
    x = random(4, 6, dtype=dtype)
    h = layer(x)
    h.square().sum().backward()
    assert h.dtype == dtype
    assert layer.lora_B["default"].grad.dtype == layer.lora_A["default"].dtype == torch.float32
    assert layer.lora_B["default"].grad.abs().max() > 0


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_copies_dtypes_and_pickles_keep_the_adapter(kind, merged):
    layer = filled(layers()[kind])
    x, weight = x_for(layer), layer.weight.clone()
    if merged:
        layer.merge()
    h = layer(x)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(twin(x), h)
        assert twin.weight.data_ptr() != layer.weight.data_ptr()
        if merged:
            twin.unmerge()
        assert torch.equal(twin.weight, weight)
    wide = copy.deepcopy(layer).double()
    assert relative_error(wide(x_for(layer, torch.float64)), h) < 1e-6
    if merged:
        wide.unmerge()
        assert torch.equal(wide.weight, weight.double())
