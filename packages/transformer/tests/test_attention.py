"""Eq. 1 and attention with several heads: against torch's own, with masks, in float64."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from papertest.parity import assert_gradients_agree

from transformer.attention import KeysValues, MultiHeadAttention, attention, causal_mask

exactly = {"rtol": 1e-12, "atol": 1e-13}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def some_mask(*shape: int, seed: int = 0) -> Tensor:
    """Random, with a place to look in every row."""
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.6
    mask[..., seed % shape[-1]] = True
    return mask


def heads(d_model: int = 12, n_heads: int = 3, seed: int = 0, **options: Any) -> MultiHeadAttention:
    torch.manual_seed(seed)
    return MultiHeadAttention(d_model, n_heads, **options).double()


sizes = st.integers(1, 6)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(sizes, sizes, sizes, sizes, sizes, sizes, st.sampled_from(["none", "padding", "causal", "any"]), sizes)
def test_attention_is_that_of_torch_whatever_the_shape(batch, h, n_q, n_k, d_k, d_v, masked, seed):
    if masked == "causal":
        n_k = n_q
    masks = {
        "none": None,
        "padding": some_mask(batch, 1, 1, n_k, seed=seed),
        "causal": causal_mask(n_q),
        "any": some_mask(batch, h, n_q, n_k, seed=seed),
    }
    mask = masks[masked]
    qkv = [random(batch, h, n_q, d_k, seed=1), random(batch, h, n_k, d_k, seed=2), random(batch, h, n_k, d_v, seed=3)]
    assert_gradients_agree(
        lambda *x: attention(*x, mask)[0], lambda *x: F.scaled_dot_product_attention(*x, attn_mask=mask), qkv, 1e-11
    )


def test_attention_is_equation_1_by_hand():
    """Two keys whose scores differ by ln 3 after the scaling by √4: weights of 3/4 and 1/4."""
    q = torch.tensor([[[[2.0, 0, 0, 0]]]])
    k = torch.tensor([[[[math.log(3), 9, 9, 9], [0, 7, 7, 7]]]])
    v = torch.tensor([[[[4.0, 0], [0, 8.0]]]])
    out, weights = attention(q, k, v)
    torch.testing.assert_close(weights, torch.tensor([[[[0.75, 0.25]]]]))
    torch.testing.assert_close(out, torch.tensor([[[[3.0, 2.0]]]]))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(sizes, sizes, sizes, st.integers(0, 99))
def test_weights_sum_to_one_and_are_zero_where_masked(n_q, n_k, d, seed):
    mask = some_mask(2, 1, n_q, n_k, seed=seed)
    q, k, v = random(2, 3, n_q, d, seed=seed), random(2, 3, n_k, d, seed=seed + 1), random(2, 3, n_k, d, seed=seed + 2)
    out, weights = attention(q, 30 * k, v, mask)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, n_q).double())
    assert (weights.masked_select(~mask) == 0).all()
    assert (out <= v.amax(2, keepdim=True) + 1e-12).all()  # an average of the values
    assert (out >= v.amin(2, keepdim=True) - 1e-12).all()


def test_gradcheck():
    qkv = [random(1, 2, 3, 4), random(1, 2, 5, 4, seed=1), random(1, 2, 5, 3, seed=2)]
    qkv = [x.requires_grad_() for x in qkv]
    assert torch.autograd.gradcheck(lambda q, k, v: attention(q, k, v, some_mask(1, 1, 3, 5)), qkv)


@pytest.mark.parametrize("fused", [False, True], ids=["written out", "fused"])
def test_gradcheck_of_the_heads(fused):
    module = heads(6, 2, d_k=2, d_v=5, fused=fused)
    x, memory = random(2, 3, 6).requires_grad_(), random(2, 4, 6, seed=1).requires_grad_()
    mask = some_mask(2, 1, 1, 4)
    assert torch.autograd.gradcheck(lambda x, memory: module(x, memory, mask), (x, memory))
    assert torch.autograd.gradcheck(lambda x: module(x, x, causal=True), (x,))


def test_causal_mask_is_the_lower_triangle():
    mask = causal_mask(3)
    assert mask.dtype == torch.bool
    assert mask.tolist() == [[True, False, False], [True, True, False], [True, True, True]]


@pytest.mark.parametrize("way", ["everywhere", "padding", "causal"])
def test_heads_are_those_of_torch_with_our_weights(way):
    module = heads(12, 3)
    theirs = nn.MultiheadAttention(12, 3, bias=False, batch_first=True).double()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([module.W_Q.weight, module.W_K.weight, module.W_V.weight]))
        theirs.out_proj.weight.copy_(module.W_O.weight)
    x = random(2, 5, 12)
    memory = x if way == "causal" else random(2, 7, 12, seed=1)
    mask = some_mask(2, 1, 1, 7) if way == "padding" else None
    hidden = None if mask is None else ~mask[:, 0, 0]
    later = ~causal_mask(5) if way == "causal" else None

    def ours(x: Tensor, memory: Tensor) -> Tensor:
        return module(x, memory, mask, causal=way == "causal")

    def peers(x: Tensor, memory: Tensor) -> Tensor:
        return theirs(x, memory, memory, key_padding_mask=hidden, attn_mask=later, need_weights=False)[0]

    assert_gradients_agree(ours, peers, [x, memory], 1e-12)
    weights = theirs(x, memory, memory, hidden, attn_mask=later, average_attn_weights=False)[1]
    mask = causal_mask(5) if way == "causal" else mask
    torch.testing.assert_close(module.weights(x, memory, mask), weights, **exactly)


def test_heads_are_the_sum_over_heads_of_the_paper():
    """MultiHead = Concat(head_i)W^O = Σ head_i W_i^O, each head with its own d_k × d_model slices of the matrices."""
    module, d_k, d_v = heads(8, 2, d_k=3, d_v=5), 3, 5
    x, memory = random(2, 4, 8), random(2, 6, 8, seed=1)
    total = torch.zeros(2, 4, 8).double()
    for i in range(2):
        W_Q, W_K = (W.weight[i * d_k : (i + 1) * d_k].T for W in (module.W_Q, module.W_K))
        W_V, W_O = module.W_V.weight[i * d_v : (i + 1) * d_v].T, module.W_O.weight[:, i * d_v : (i + 1) * d_v].T
        weights = (x @ W_Q @ (memory @ W_K).mT / math.sqrt(d_k)).softmax(-1)
        total += weights @ (memory @ W_V) @ W_O
    torch.testing.assert_close(module(x, memory), total, **exactly)


@pytest.mark.parametrize("sizes", [{}, {"d_k": 7, "d_v": 2}, {"d_k": 1}], ids=str)
@pytest.mark.parametrize("way", ["everywhere", "padding", "causal"])
def test_fused_is_what_is_written_out(sizes, way):
    written, fused = heads(12, 3, **sizes), heads(12, 3, fused=True, **sizes)
    assert all(torch.equal(x, fused.state_dict()[name]) for name, x in written.state_dict().items())
    x = random(2, 5, 12)
    mask = some_mask(2, 1, 1, 5) if way == "padding" else None
    results = []
    for module in (written, fused):
        leaf = x.clone().requires_grad_()
        out = module(leaf, leaf, mask, causal=way == "causal")
        found = torch.autograd.grad((out * random(2, 5, 12, seed=3)).sum(), [leaf, *module.parameters()])
        results.append([out.detach(), *found])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.permutations(range(6)), st.permutations(range(4)))
def test_the_order_of_keys_does_not_matter_and_that_of_queries_is_kept(keys, queries):
    module = heads()
    x, memory, mask = random(2, 4, 12), random(2, 6, 12, seed=1), some_mask(2, 1, 1, 6)
    wanted = module(x, memory, mask)
    torch.testing.assert_close(module(x, memory[:, keys], mask[..., keys]), wanted, **exactly)
    torch.testing.assert_close(module(x[:, queries], memory, mask), wanted[:, queries], **exactly)


def test_what_is_masked_changes_nothing_and_gets_no_gradient():
    module, x, mask = heads(), random(2, 4, 12), some_mask(2, 1, 1, 6)
    memory = random(2, 6, 12, seed=1).requires_grad_()
    out = module(x, memory, mask)
    (gradient,) = torch.autograd.grad(out.square().sum(), memory)
    hidden = ~mask[:, 0, 0]
    assert hidden.any()
    assert (gradient[hidden] == 0).all()
    assert (gradient[~hidden] != 0).any(-1).all()
    changed = memory.detach().clone()
    changed[hidden] = 1e3
    assert torch.equal(module(x, changed, mask), out)


def test_sizes_of_the_matrices():
    module = MultiHeadAttention(12, 3, d_k=5, d_v=7)
    shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}
    wanted = {"W_Q.weight": (15, 12), "W_K.weight": (15, 12), "W_V.weight": (21, 12), "W_O.weight": (12, 21)}
    assert shapes == wanted  # and no biases
    assert {tuple(p.shape) for p in MultiHeadAttention(12, 3).parameters()} == {(12, 12)}
    assert MultiHeadAttention(10, 3, 4, 4).W_V.weight.shape == (12, 10)  # 3 does not divide 10, and need not


def test_keys_and_values_can_be_given_and_grown():
    module, x, memory = heads(), random(2, 3, 12), random(2, 5, 12, seed=1)
    found = module.keys_values(memory[:, :2])
    assert isinstance(found, KeysValues)
    found.append(module.keys_values(memory[:, 2:]))
    torch.testing.assert_close(module(x, found), module(x, memory), **exactly)
    found.select(torch.tensor([1, 1, 0]))
    rows = [1, 1, 0]
    torch.testing.assert_close(module(x[rows], found), module(x, memory)[rows], **exactly)


def test_a_mask_beside_causal_is_refused():
    x = torch.randn(1, 3, 8)
    with pytest.raises(ValueError, match="causal takes no mask beside it"):
        MultiHeadAttention(8, 2)(x, x, torch.ones(1, 1, 3, 3, dtype=torch.bool), causal=True)
