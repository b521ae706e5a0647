"""block_sparse_flash_attention against standard attention with the scores of the missing blocks at -inf."""

from __future__ import annotations

import math
import re

import pytest
import torch

from flash_attention import block_sparse_flash_attention, flash_attention, torch_backend

BLOCK_Q, BLOCK_K = 8, 16
SHAPES = {  # (batch, heads, kv_heads, seq_q, seq_k, head_dim)
    "whole blocks": (2, 2, 2, 32, 48, 4),
    "blocks cut short": (2, 2, 2, 37, 41, 4),
    "one short block": (1, 2, 2, 3, 5, 4),
    "grouped": (2, 6, 2, 33, 33, 3),
    "more queries": (2, 2, 1, 61, 20, 4),
}
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
causals = pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])


def inputs(shape):
    batch, heads, kv_heads, n_q, n_k, d = shape
    generator = torch.Generator().manual_seed(0)
    sizes = [(batch, heads, n_q, d), (batch, kv_heads, n_k, d), (batch, kv_heads, n_k, d), (batch, heads, n_q, d)]
    return [torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes]


def block_masks(shape, share=0.5):
    blocks = -(-shape[3] // BLOCK_Q), -(-shape[4] // BLOCK_K)
    return torch.rand(blocks, generator=torch.Generator().manual_seed(1)) < share


def dense(q, k, v, block_mask, causal=False, mask=None):
    """Standard attention of the scores in full, those of missing blocks at -inf; a row that sees nothing is zero."""
    n_q, n_k = q.shape[2], k.shape[2]
    seen = block_mask.repeat_interleave(BLOCK_Q, 0)[:n_q].repeat_interleave(BLOCK_K, 1)[:, :n_k]
    seen = (seen.tril(n_k - n_q) if causal else seen)[None, None]
    seen = seen if mask is None else seen & mask[:, None, None]
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    S = (q @ k.mT / math.sqrt(q.shape[3])).masked_fill(~seen, -math.inf)
    some = seen.any(-1, keepdim=True)
    return S.masked_fill(~some, 0).softmax(-1).masked_fill(~some, 0) @ v


def results(f, q, k, v, do, *arguments, **options):
    q, k, v = (x.clone().requires_grad_() for x in (q, k, v))
    out = f(q, k, v, *arguments, **options)
    return [out.detach(), *torch.autograd.grad(out, (q, k, v), do)]


def compare(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        assert a.isfinite().all()
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def sparse(*arguments, **options):
    return block_sparse_flash_attention(*arguments, **options, block_q=BLOCK_Q, block_k=BLOCK_K)


@causals
@shapes
@pytest.mark.parametrize("masked", [False, True], ids=["all keys", "padding"])
def test_equals_standard(shape, causal, masked):
    x, block_mask = inputs(shape), block_masks(shape)
    mask = torch.rand(shape[0], shape[4], generator=torch.Generator().manual_seed(2)) < 0.6 if masked else None
    options = {"causal": causal, "mask": mask}
    compare(results(sparse, *x, block_mask, **options), results(dense, *x, block_mask, **options))


@causals
@shapes
def test_all_blocks_are_flash_attention(shape, causal):
    x, options = inputs(shape), {"causal": causal, "scale": 0.7, "dropout_p": 0.3, "seed": 4}
    ours = results(sparse, *x, block_masks(shape, share=2), **options)
    theirs = results(flash_attention, *x, **options, block_q=BLOCK_Q, block_k=BLOCK_K)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_rows_without_blocks_are_zero():
    shape = SHAPES["blocks cut short"]
    block_mask = torch.ones(5, 3, dtype=torch.bool)
    block_mask[1] = block_mask[4] = False
    block_mask[:, 2] = False
    out, dq, dk, dv = results(sparse, *inputs(shape), block_mask)
    for x in (out, dq):
        assert (x[:, :, 8:16] == 0).all()
        assert (x[:, :, 32:] == 0).all()
        assert (x[:, :, :8] != 0).all()
    for x in (dk, dv):
        assert (x[:, :, 32:] == 0).all()
        assert (x[:, :, :32] != 0).all()


def test_no_blocks_at_all():
    for x in results(sparse, *inputs(SHAPES["whole blocks"]), torch.zeros(4, 3, dtype=torch.bool)):
        assert (x == 0).all()


def test_gradcheck():
    q, k, v = (x.requires_grad_() for x in inputs((1, 2, 1, 5, 4, 2))[:3])
    block_mask = torch.tensor([[True, False], [True, True], [False, False]])
    options = {"causal": True, "dropout_p": 0.2, "seed": 1, "block_q": 2, "block_k": 2}
    assert torch.autograd.gradcheck(lambda *x: block_sparse_flash_attention(*x, block_mask, **options), (q, k, v))


def test_default_blocks_are_128():
    q, k, v, _ = inputs((1, 1, 1, 129, 256, 2))
    block_mask = torch.tensor([[True, False], [False, True]])
    out = block_sparse_flash_attention(q, k, v, block_mask)
    torch.testing.assert_close(out[:, :, :128], flash_attention(q[:, :, :128], k[:, :, :128], v[:, :, :128]))
    torch.testing.assert_close(out[:, :, 128:], flash_attention(q[:, :, 128:], k[:, :, 128:], v[:, :, 128:]))


@pytest.mark.parametrize("share", [0.0, 0.2, 0.6, 2.0])
def test_visits_only_the_blocks_it_keeps(share, monkeypatch):
    """One product of queries and keys for each block in the forward pass, two (S and dP) in the backward pass."""
    shape = (1, 1, 1, 61, 150, 4)
    block_mask, calls, product = block_masks(shape, share), [], torch_backend._Tile.product
    monkeypatch.setattr(torch_backend._Tile, "product", lambda *a, **b: calls.append(1) or product(*a, **b))
    q, k, v, do = inputs(shape)
    out = sparse(q.requires_grad_(), k, v, block_mask)
    assert len(calls) == block_mask.sum()
    out.backward(do)
    assert len(calls) == 3 * block_mask.sum()


@pytest.mark.parametrize(
    ("block_mask", "got"),
    [
        (torch.ones(4, 4, dtype=torch.bool), "got bool of shape (4, 4)"),
        (torch.ones(1, 4, 3, dtype=torch.bool), "got bool of shape (1, 4, 3)"),
        (torch.ones(4, 3), "got float32 of shape (4, 3)"),
        ([[True]], "got list of shape ()"),
        (None, "got NoneType of shape ()"),
        (torch.ones(4, 3, dtype=torch.uint8), "got uint8 of shape (4, 3)"),
    ],
    ids=["too many columns", "per head", "float", "list", "None", "uint8"],
)
def test_wrong_block_mask(block_mask, got):
    q, k, v, _ = inputs(SHAPES["whole blocks"])
    accepted = "block_mask must be bool of shape (4, 3), for blocks of 8 queries and 16 keys, "
    with pytest.raises(ValueError, match=f"^{re.escape(accepted + got)}$"):
        sparse(q, k, v, block_mask)


@pytest.mark.parametrize("name", ["block_q", "block_k"])
def test_wrong_blocks(name):
    q, k, v, _ = inputs(SHAPES["whole blocks"])
    with pytest.raises(ValueError, match=f"{name} must be an integer of at least 1, got 0"):
        block_sparse_flash_attention(q, k, v, torch.ones(4, 3, dtype=torch.bool), **{name: 0})


def test_wrong_arguments_as_in_flash_attention():
    q, k, v, _ = inputs(SHAPES["whole blocks"])
    with pytest.raises(ValueError, match="dropout_p must be a number in .0, 1., got 1.0"):
        sparse(q, k, v, torch.ones(4, 3, dtype=torch.bool), dropout_p=1.0)
