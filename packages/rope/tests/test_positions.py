"""The older encodings against transformers, and linear attention against its sums."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import T5Config
from transformers.models.t5.modeling_t5 import T5Attention

from rope import LearnedPositions, T5Bias, apply_rope, linear_rope_attention, sinusoidal_encoding, t5_buckets


@given(
    bidirectional=st.booleans(),
    buckets=st.sampled_from([4, 8, 32, 64]),
    distance=st.integers(33, 1000),
    dtype=st.sampled_from([torch.int32, torch.int64]),
)
@settings(max_examples=40, deadline=None)
def test_t5_buckets(bidirectional, buckets, distance, dtype):
    relative = torch.arange(-1200, 1200, dtype=dtype)
    theirs = T5Attention._relative_position_bucket(relative, bidirectional, buckets, distance)
    ours = t5_buckets(relative, bidirectional=bidirectional, num_buckets=buckets, max_distance=distance)
    assert ours.equal(theirs.to(ours.dtype))


@pytest.mark.parametrize("decoder", [True, False])
def test_t5_bias(decoder):
    config = T5Config(num_heads=3, d_model=12, d_kv=4, is_decoder=decoder)
    theirs, ours = T5Attention(config, has_relative_attention_bias=True), T5Bias(3, bidirectional=not decoder)
    ours.load_state_dict(theirs.relative_attention_bias.state_dict())
    torch.testing.assert_close(ours(200)[None], theirs.compute_bias(200, 200))
    torch.testing.assert_close(ours(3, 200), ours(200)[:, -3:])


def test_sinusoidal():
    ours = sinusoidal_encoding(50, 6, offset=7)
    for m, row in enumerate(ours.tolist()):
        for i, x in enumerate(row):
            angle = (m + 7) / 10000 ** (2 * (i // 2) / 6)
            assert x == pytest.approx(math.cos(angle) if i % 2 else math.sin(angle), abs=1e-6)


def test_learned_positions_end():
    table = LearnedPositions(8, 4)
    assert table(3, 5).equal(table.weight[5:])
    with pytest.raises(ValueError, match="offset \\+ length must be at most max_len 8, got 9"):
        table(3, 6)


def phi(x):
    return torch.where(x > 0, x + 1, x.exp())


@given(
    seq=st.integers(1, 200),
    causal=st.booleans(),
    rotary=st.booleans(),
    interleaved=st.booleans(),
    masked=st.booleans(),
    offset=st.integers(0, 999),
)
@settings(max_examples=50, deadline=None)
def test_linear_is_eq_19(seq, causal, rotary, interleaved, masked, offset):
    """RP-5: O(N) and the quadratic form against sums written out; NaN behind a mask."""
    q, k, v = (torch.randn(2, 3, seq, d, dtype=torch.float64) for d in (6, 6, 5))
    seen = torch.rand(2, seq) < 0.5 if masked else torch.ones(2, seq, dtype=torch.bool)
    turn = (lambda x: apply_rope(x, offset, interleaved=interleaved)) if rotary else (lambda x: x)
    allowed = seen[:, None, None] & (torch.ones(seq, seq, dtype=torch.bool).tril() if causal else True)
    above = torch.einsum("bhmd,bhnd->bhmn", turn(phi(q)), turn(phi(k))) * allowed
    below = (torch.einsum("bhmd,bhnd->bhmn", phi(q), phi(k)) * allowed).sum(-1, keepdim=True)
    wanted = (above @ v / below).nan_to_num(0)
    options = {"causal": causal, "rotary": rotary, "interleaved": interleaved, "mask": seen if masked else None}
    k, v = (x.masked_fill(~seen[:, None, :, None], math.nan) for x in (k, v))
    for quadratic in (False, True):
        ours = linear_rope_attention(q, k, v, offset, quadratic=quadratic, **options)
        torch.testing.assert_close(ours, wanted, rtol=1e-10, atol=1e-10)


def test_linear_in_half_precision():
    q, k, v = (torch.randn(1, 2, 500, 8).bfloat16() for _ in range(3))
    wanted = linear_rope_attention(q.double(), k.double(), v.double(), causal=True)
    ours = linear_rope_attention(q, k, v, causal=True)
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.double(), wanted, rtol=0.005, atol=1e-4)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda: sinusoidal_encoding(3, 5), "d_model must be an even integer"),
        (lambda: sinusoidal_encoding(3.0, 6), "length must be an integer"),
        (lambda: sinusoidal_encoding(3, 6, offset=-1), "offset must be an integer of at least 0"),
        (lambda: LearnedPositions(0, 6), "max_len must be"),
        (lambda: LearnedPositions(4, 6)(True), "length must be"),
        (lambda: t5_buckets(torch.ones(3)), "relative must be a tensor of int64 or int32, got float32"),
        (lambda: T5Bias(2, num_buckets=7), "num_buckets must be an even integer"),
        (lambda: T5Bias(2, num_buckets=2, bidirectional=True), "num_buckets must be at least 4"),
        (lambda: T5Bias(2, max_distance=16), "max_distance must be an integer of at least 17"),
        (lambda: T5Bias(2)(5, 4), "seq_k must be an integer of at least 5"),
        (lambda: linear_rope_attention(*[torch.ones(2, 3, 5)] * 3), "head_dim, the last size of x"),
        (lambda: linear_rope_attention(torch.ones(2, 4), *[torch.ones(3, 4)] * 2), "k must have q's length 2, got 3"),
        (lambda: linear_rope_attention(*[torch.ones(2, 4, dtype=torch.int64)] * 3), "q must have dtype"),
        (lambda: linear_rope_attention(*[torch.ones(2, 4)] * 3, causal=None), "causal must be True or False"),
    ],
)
def test_bad_input(bad, message):
    with pytest.raises(ValueError, match=message):
        bad()
