"""The paper's statements about its formulas: positions, dot products, the softmax, the learning rate."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn

from papertest.claims import Measured, Run, claim

from transformer.attention import attention
from transformer.positions import sinusoidal_encoding
from transformer.training import adam

D_MODEL = 512
KEY_SIZES = [16, 64, 256, 1024]
PAIRS = 2**20


@claim("positional-shift")
def positional_shift(run: Run) -> Measured:
    """Section 3.5: the largest |PE(pos + k) − M_k PE(pos)|, pos = 0 … 5000, at ten offsets k up to 1000; float64."""
    positions, offsets = 5001, [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
    encoding = pairs(sinusoidal_encoding(positions + max(offsets), D_MODEL, dtype=torch.float64))
    errors: list[float] = []
    for k in offsets:
        shifted = encoding[:, :positions] @ shift(k).mT
        errors.append(float((encoding[:, k : k + positions] - shifted).abs().max()))
    return Measured(max(errors), {"offsets": offsets, "errors": errors})


def shift(k: int) -> Tensor:
    """M_k, block-diagonal: for each frequency ω the rotation of (sin, cos) by kω, whose entries are those of PE(k)."""
    sin, cos = pairs(sinusoidal_encoding(1, D_MODEL, start=k, dtype=torch.float64)).unbind(-1)
    sin, cos = sin[:, 0], cos[:, 0]
    return torch.stack([torch.stack([cos, sin], -1), torch.stack([-sin, cos], -1)], -2)


def pairs(encoding: Tensor) -> Tensor:
    """(length, d_model) as (d_model/2, length, 2): the sine and the cosine of each frequency."""
    return encoding.unflatten(-1, (-1, 2)).transpose(0, 1)


def wavelengths() -> list[float]:
    """Positions that each pair needs for a full turn, over 2π: from how far it turns between positions 0 and 1."""
    sin, cos = pairs(sinusoidal_encoding(2, D_MODEL, dtype=torch.float64)).unbind(-1)
    turned = torch.atan2(sin, cos).diff(dim=1)[:, 0]
    return (1 / turned).tolist()


@claim("wavelengths")
def wavelengths_progress(run: Run) -> Measured:
    """Section 3.5: the first wavelength over 2π, and largest over smallest ratio of neighbours, minus 1."""
    found = wavelengths()
    ratios = [b / a for a, b in itertools.pairwise(found)]
    return Measured({"first": found[0], "ratio_spread": max(ratios) / min(ratios) - 1}, {"wavelengths": found})


@claim("wavelength-last")
def wavelength_last(run: Run) -> Measured:
    """Section 3.5: the last wavelength over 2π, at d_model = 512; and what one more frequency would have."""
    found = wavelengths()
    return Measured({"last": found[-1]}, {"one_more": found[-1] * found[-1] / found[-2]})


@claim("dot-product-variance")
def dot_product_variance(run: Run) -> Measured:
    """Footnote 4: mean of q·k over √d_k and its variance over d_k, those farthest from 0 and 1 of four d_k.

    2^20 pairs of each size, of standard normal vectors, d_k/16 queries with each of as many keys at a time. (q·k)² is
    correlated with that of another key by 1/(d_k + 3), which makes the standard error at most 7 % larger than that
    of pairs with nothing in common.
    """
    rows: dict[str, Any] = {"d_k": KEY_SIZES, "mean": [], "variance": []}
    for d_k in KEY_SIZES:
        together = d_k // 16
        q, k = (normal(PAIRS // together**2, together, d_k) for _ in range(2))
        products = (q @ k.mT).double()
        rows["mean"].append(float(products.mean()) / math.sqrt(d_k))
        rows["variance"].append(float(products.var()) / d_k)
    value = {"mean": max(rows["mean"], key=abs), "variance": max(rows["variance"], key=lambda v: abs(v - 1))}
    return Measured(value, rows)


def normal(*shape: int) -> Tensor:
    """Independent components of mean 0 and variance 1."""
    return torch.randn(shape)


@claim("softmax-gradient")
def softmax_gradient(run: Run) -> Measured:
    """Section 3.2.1: the trace of the softmax's Jacobian, 1 − Σp², with and without the factor 1/√d_k.

    Medians over 500 standard normal queries with 64 keys of their own each; the scaled softmax is Eq. 1's.
    """
    sizes = sorted([*KEY_SIZES, 512])
    found = {d_k: gradient(d_k) for d_k in sizes}
    value = {
        "unscaled": [found[d_k]["unscaled"] for d_k in KEY_SIZES],
        "scaled_change": found[1024]["scaled"] / found[16]["scaled"],
        "ratio_512": found[512]["unscaled"] / found[512]["scaled"],
    }
    curves = {way: [found[d_k][way] for d_k in sizes] for way in ("scaled", "unscaled")}
    return Measured(value, {"d_k": sizes, **curves})


def gradient(d_k: int) -> dict[str, float]:
    """Medians of 1 − Σp² for Eq. 1, and for Eq. 1 with the queries √d_k times as large, which takes its factor away."""
    q, k = normal(500, 1, 1, d_k).double(), normal(500, 1, 64, d_k).double()
    weights = {"scaled": attention(q, k, k)[1], "unscaled": attention(q * math.sqrt(d_k), k, k)[1]}
    return {way: float((1 - p.square().sum(-1)).median()) for way, p in weights.items()}


@claim("schedule")
def schedule(run: Run) -> Measured:
    """Eq. 3 and Section 5.3: the rate of each of 16000 steps of the base model's optimizer, read as it takes them."""
    parameter = nn.Linear(1, 1, bias=False)
    optimizer, scheduler = adam(parameter, D_MODEL)
    rates: list[float] = []
    for _ in range(16000):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    peak = max(rates)
    value = {
        "peak_step": rates.index(peak) + 1,
        "peak": peak,
        "at_2000": rates[2000 - 1] / peak,
        "at_16000": rates[16000 - 1] / peak,
    }
    steps = [1, *range(200, 16001, 200)]
    return Measured(value, {"steps": steps, "rates": [rates[step - 1] for step in steps]})
