"""ALiBi against the paper's slopes, transformers' BLOOM, and the biases written out."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.models.bloom.modeling_bloom import build_alibi_tensor

from rope import alibi_attention, alibi_bias, alibi_slopes


def test_slopes():
    """AL-1: 1/2 .. 1/256 for 8 heads, 2^-0.5 .. 2^-8 for 16, and the authors' rule for 12."""
    assert alibi_slopes(8).tolist() == [2.0**-i for i in range(1, 9)]
    torch.testing.assert_close(alibi_slopes(16), 2.0 ** (-torch.arange(1, 17, dtype=torch.float64) / 2))
    four = torch.tensor([0.7071, 0.3536, 0.1768, 0.0884], dtype=torch.float64)
    torch.testing.assert_close(alibi_slopes(12)[8:], four, rtol=0, atol=5e-5)
    assert alibi_slopes(12)[:8].equal(alibi_slopes(8))


@pytest.mark.parametrize("heads", [1, 2, 3, 6, 8, 12, 14, 16, 20, 112])
def test_bloom(heads):
    """Its biases are slope · key index: ours in the last query's row, up to a constant."""
    theirs = build_alibi_tensor(torch.ones(1, 9, dtype=torch.long), heads, torch.float32)
    ours = alibi_bias(heads, 1, 9)
    torch.testing.assert_close(ours + alibi_slopes(heads).float()[:, None, None] * 8, theirs, rtol=1e-5, atol=1e-5)


def draw(shape_q, seq_k, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    batch, heads, seq_q, d = shape_q
    shapes = ((batch, heads, seq_q, d), (batch, heads, seq_k, d), (batch, heads, seq_k, d + 3))
    return (torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes)


def reference(q, k, v, mask, causal):
    q, k, v = (x.double() for x in (q, k, v))
    bias = alibi_bias(q.shape[1], q.shape[2], k.shape[2], causal=causal, dtype=torch.float64)
    scores = q @ k.mT / math.sqrt(q.shape[-1]) + bias
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None], -math.inf)
    return scores.softmax(-1).nan_to_num(0) @ v


@given(
    heads=st.integers(1, 7),
    seq=st.tuples(st.integers(1, 300), st.integers(1, 300)).map(sorted),
    causal=st.booleans(),
    masked=st.booleans(),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_is_the_bias_written_out(heads, seq, causal, masked, dtype, seed):
    """AL-2, of all lengths and dtypes; NaN behind the mask, and queries that see no key."""
    seq_q, seq_k = seq
    q, k, v = draw((2, heads, seq_q, 6), seq_k, dtype, seed)
    mask = torch.rand(2, seq_k, generator=torch.Generator().manual_seed(seed)) < 0.4 if masked else None
    wanted = reference(q, k, v, mask, causal)
    if mask is not None:
        k, v = (x.masked_fill(~mask[:, None, :, None], math.nan) for x in (k, v))
    eps = torch.finfo(dtype).eps
    tolerance = {torch.float64: 1e-12, torch.float32: 3e-4}.get(dtype, 8 * eps)
    torch.testing.assert_close(alibi_attention(q, k, v, mask, causal=causal).double(), wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_has_the_whole_penalty(dtype):
    """At length 3000 an index in one number of half precision would be rounded by up to 8."""
    q, k, v = draw((1, 2, 3000, 8), 3000, dtype, 0)
    error = (alibi_attention(q, k, v).double() - reference(q, k, v, None, True)).abs()
    assert error.max() < 8 * torch.finfo(dtype).eps


class Largest(TorchDispatchMode):
    size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tensors = [x for x in (out if isinstance(out, tuple) else (out,)) if isinstance(x, torch.Tensor)]
        self.size = max([self.size, *(x.numel() for x in tensors)])
        return out


@pytest.mark.parametrize("seq_q", [1, 2048])
def test_nothing_of_two_lengths(seq_q):
    q, k, v = draw((1, 2, seq_q, 29), 2048, torch.float32, 0)
    with Largest() as largest:
        alibi_attention(q, k, v)
    assert largest.size <= 2 * 2048 * 40 + 1


def test_both_sides():
    """Encoders need the distance itself: the key index would favour later keys."""
    bias = alibi_bias(2, 5, causal=False)
    assert bias.equal(bias.mT)
    assert bias[0, 0].tolist() == [-(2.0**-4) * i for i in range(5)]
    assert alibi_bias(2, 5).isneginf().sum() == 20


@pytest.mark.parametrize("n_heads", [0, -1, 2.0, True, "8", None])
def test_bad_heads(n_heads):
    with pytest.raises(ValueError, match="n_heads must be an integer of at least 1"):
        alibi_slopes(n_heads)


def test_bad_input():
    q, k, v = draw((1, 2, 4, 8), 4, torch.float32, 0)
    for bad, message in (
        (lambda: alibi_bias(2, 5, 4), "seq_q must be at most seq_k 4, got 5"),
        (lambda: alibi_bias(2, 5, causal=1), "causal must be True or False"),
        (lambda: alibi_bias(2, 5, dtype=torch.int64), "dtype must be float32"),
        (lambda: alibi_attention(q, k[:, :1], v), "k must have q's leading axes"),
        (lambda: alibi_attention(q, k, v.double()), "v must have q's dtype float32"),
        (lambda: alibi_attention(q, k[:, :, :3], v[:, :, :3]), "q must be at most as long as k"),
        (lambda: alibi_attention(q, k, v, torch.ones(1, 4)), "mask must be bool"),
        (lambda: alibi_attention(q[0], k[0], v[0]), "q must have shape"),
    ):
        with pytest.raises(ValueError, match=message):
            bad()
