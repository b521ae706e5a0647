"""What is hidden has no influence, NaN and infinity included; float16 scores that fit; autocast as torch has it."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from flash_attention import block_sparse_flash_attention, flash_attention, standard_attention


def sparse(q, k, v, **options):
    blocks = torch.ones(-(-q.shape[2] // 3), -(-k.shape[2] // 3), dtype=torch.bool)
    return block_sparse_flash_attention(q, k, v, blocks, block_q=3, block_k=3, **options)


ALL = pytest.mark.parametrize("f", [flash_attention, sparse, standard_attention])
BAD = pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf], ids=str)


def results(f, q, k, v, rows=slice(None), **options):
    """The output and its gradients, of a loss of these rows."""
    q, k, v = (x.clone().requires_grad_() for x in (q, k, v))
    out = f(q, k, v, **options)
    return [out.detach()[:, :, rows], *torch.autograd.grad(out[:, :, rows].square().sum(), (q, k, v))]


def inputs(dtype=torch.float64, n_q=7, n_k=8, kv_heads=1):
    generator = torch.Generator().manual_seed(0)
    sizes = (2, n_q), (kv_heads, n_k), (kv_heads, n_k)
    return [torch.randn(2, h, n, 4, generator=generator).to(dtype) for h, n in sizes]


@BAD
@ALL
@pytest.mark.parametrize("where", [slice(0, 3), slice(5, 8), slice(3, 5)], ids=["left", "right", "middle"])
@pytest.mark.parametrize("causal", [False, True])
def test_padding(f, bad, where, causal):
    q, k, v = inputs()
    mask = torch.ones(2, 8, dtype=torch.bool)
    mask[:, where] = False
    wanted = results(f, q, k, v, mask=mask, causal=causal)
    for which in ((1,), (2,), (1, 2)):
        x = [y.clone() for y in (q, k, v)]
        for i in which:
            x[i][:, :, where] = bad
        for a, b in zip(results(f, *x, mask=mask, causal=causal), wanted, strict=True):
            assert torch.equal(a, b)


@ALL
def test_rows_that_see_nothing(f):
    """Left padding under a causal mask, and more queries than keys: NaN in such queries stays out of dK and dV."""
    for n_q, mask in ((8, torch.arange(8).expand(2, 8) > 2), (11, None), (8, torch.arange(16).view(2, 8) < 8)):
        q, k, v = inputs(n_q=n_q)
        wanted = results(f, q, k, v, causal=True, mask=mask)
        rows = (wanted[0] == 0).all(-1, keepdim=True)
        assert rows.any()
        for a, b in zip(results(f, q.masked_fill(rows, math.nan), k, v, causal=True, mask=mask), wanted, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("options", [{}, {"kv_heads": 2}, {"n_q": 11}, {"n_q": 3}], ids=str)
@ALL
def test_causal(f, options):
    """NaN in a key reaches the queries that see it, and no other, nor their gradients."""
    q, k, v = inputs(**options)
    n_q = q.shape[2]
    wanted = results(f, q, k, v, causal=True)[0]
    for which in (1, 2):
        for j in (0, 6):
            x = [y.clone() for y in (q, k, v)]
            x[which][0, 0, j, 1] = math.nan
            first = max(0, j - (8 - n_q))  # the first query that sees key j
            out, dq, *_ = results(f, *x, causal=True)
            heads = slice(0, 2 // k.shape[1])
            assert torch.equal(out[:, :, :first], wanted[:, :, :first])
            assert torch.equal(out[1], wanted[1])
            assert out[0, heads, first:].isnan().any(-1).all()
            assert dq[:, :, :first].isfinite().all()


@ALL
def test_float16_where_the_scaled_score_fits(f):
    q = torch.full((1, 1, 4, 64), 80.0, dtype=torch.float16)  # 409600 before the scale of 1/8, 51200 after it
    assert (f(q, q, torch.ones_like(q)) == 1).all()
    q = torch.full((1, 1, 4, 64), 3e4, dtype=torch.float16)
    assert (f(q, q / 3e4, torch.ones_like(q), scale=1 / 64) == 1).all()
    assert (f(q, q / 6e8, torch.ones_like(q), scale=4.0) == 1).all()


@ALL
@pytest.mark.parametrize("dtypes", [(0, 0, 1), (0, 1, 1), (1, 0, 0), (0, 0, 0), (1, 1, 1)], ids=str)
def test_autocast_casts_as_torch_does(f, dtypes):
    x = [y.to((torch.float32, torch.bfloat16)[i]) for y, i in zip(inputs(kv_heads=2), dtypes, strict=True)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, theirs = f(*x), F.scaled_dot_product_attention(*x)
        gradients = results(f, *x)
        assert f(*(y.double() for y in x)).dtype == torch.float64
    assert out.dtype == theirs.dtype == torch.bfloat16
    torch.testing.assert_close(out, theirs, rtol=0.02, atol=0.02)
    assert [g.dtype for g in gradients[1:]] == [y.dtype for y in x]
    if f is not standard_attention:  # the same bits as without autocast: nothing inside is cast again
        assert torch.equal(out, f(*(y.bfloat16() for y in x)))
