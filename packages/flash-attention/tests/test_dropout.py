"""The dropout hash against the same 32-bit arithmetic in NumPy, and its statistics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from flash_attention.dropout import kept


def fmix(x):
    """The final mix of MurmurHash3 (Appleby, public domain), in uint32 that wraps."""
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return x ^ (x >> np.uint32(16))


def reference(rows, columns, seed, p):
    rows, columns = (x.numpy().astype(np.uint32) for x in (rows, columns))  # casts modulo 2^32
    bits = fmix(fmix(rows ^ np.uint32(seed)) + columns * np.uint32(0x9E3779B9))
    return torch.from_numpy(bits.astype(np.uint64) >= np.uint64(math.floor(p * 2**32)))


@pytest.mark.parametrize("seed", [0, 1, 12345, 2**31, 2**32 - 1])
@pytest.mark.parametrize("first", [0, 2**31 - 5, 2**32 - 5, 2**40 + 3], ids=["0", "2^31", "2^32", "2^40"])
def test_equals_numpy(seed, first):
    rows, columns = torch.arange(first, first + 200)[:, None], torch.arange(300)
    for p in (0.1, 0.5, 0.999):
        assert torch.equal(kept(rows, columns, seed, p), reference(rows, columns, seed, p))
    columns = torch.arange(2**24 - 7, 2**24 + 7)
    assert torch.equal(kept(rows, columns, seed, 0.3), reference(rows, columns, seed, 0.3))


def test_mix_of_murmurhash3():
    """A published value: MurmurHash3_x86_32 of nothing with seed 1 is fmix(1)."""
    assert fmix(np.array([0, 1, 0xFFFFFFFF], np.uint32)).tolist() == [0, 0x514E28B7, 0x81F16F39]


@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_rate(p, seed):
    keep = kept(torch.arange(1024)[:, None], torch.arange(1024), seed, p).double()
    n, deviation = 1024, math.sqrt(p * (1 - p))
    assert abs(keep.mean() - (1 - p)) < 4.5 * deviation / n
    for dim in (0, 1):  # the rates of single rows and columns vary as those of independent entries do
        z = (keep.mean(dim) - (1 - p)) * math.sqrt(n) / deviation
        assert z.abs().max() < 7
        assert 0.8 < z.square().mean() < 1.25


def test_neighbours_are_uncorrelated():
    keep = kept(torch.arange(1024)[:, None], torch.arange(1024), 3, 0.5).double() - 0.5
    for rows, columns in ((1, 0), (0, 1), (1, 1), (2, 0), (0, 2), (16, 16)):
        product = keep[rows:, columns:] * keep[: 1024 - rows, : 1024 - columns] * 4
        assert abs(product.mean()) < 4.5 / math.sqrt(product.numel())


def test_seeds_differ():
    """Masks of two seeds agree in as many entries as independent ones do."""
    rows, columns = torch.arange(512)[:, None], torch.arange(512)
    masks = [kept(rows, columns, seed, 0.5) for seed in (0, 1, 2, 1000, 2**31, 2**32 - 1)]
    for i, a in enumerate(masks):
        for b in masks[:i]:
            assert abs((a == b).double().mean() - 0.5) < 4.5 * 0.5 / 512


def test_nothing_is_dropped_at_zero():
    assert kept(torch.arange(100)[:, None], torch.arange(100), 0, 0.0).all()


def test_broadcasts():
    rows = torch.arange(24).view(2, 3, 4, 1)
    keep = kept(rows, torch.arange(5), 9, 0.4)
    assert keep.shape == (2, 3, 4, 5)
    assert keep.dtype == torch.bool
    assert torch.equal(keep.view(24, 5), kept(torch.arange(24)[:, None], torch.arange(5), 9, 0.4))
    assert torch.equal(keep[..., 2:4], kept(rows, torch.arange(2, 4), 9, 0.4))
