"""RoFormer, Sections 3.3 and 3.4.3: long-term decay and its bound, and linear attention with rotary."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Complex, Float
from scipy.stats import spearmanr
from torch import Tensor

from papertest.claims import Measured, Run, claim

from rope.linear import linear_rope_attention
from rope.rotary import apply_rope
from rope.tables import rope_frequencies

D = 128
NEAR = ((8, 32), (33, 64), (65, 128), (129, 192), (193, 256))
BLOCK, BLOCKS = 256, 16


def partial_sums(distances: Tensor, d: int) -> Complex[Tensor, "distances pairs"]:
    """S_1 … S_(d/2) of Eq. 36: S_j = Σ_{i<j} e^{i (m−n) θ_i}."""
    angles = distances.double()[:, None] * rope_frequencies(d)
    return torch.polar(torch.ones_like(angles), angles).cumsum(-1)


def bound(distances: Tensor, d: int = D) -> Float[Tensor, " distances"]:
    """Figure 2's ordinate, the mean of |S_i| over i = 1 … d/2."""
    return partial_sums(distances, d).abs().mean(-1)


def block_means(curve: Tensor, blocks: Any) -> list[float]:
    """Of a curve that starts at distance 0; both ends of a block belong to it."""
    return [curve[first : last + 1].mean().item() for first, last in blocks]


@claim("rope-figure-2")
def rope_figure_2(run: Run) -> Measured:
    """Figure 2's readings at three head sizes; the details have the curve for d = 128."""
    at_8 = {f"d_{d}": bound(torch.tensor([8]), d).item() for d in (64, 128, 256)}
    curve = bound(torch.arange(257))
    far = curve[200:257]
    value = at_8 | {"far_least": far.min().item(), "far_greatest": far.max().item()}
    return Measured(value, {"distances": list(range(8, 257)), "curve": curve[8:].tolist()})


@claim("rope-decay-near")
def rope_decay_near(run: Run) -> Measured:
    """Block means within Figure 2; the details have the local rises and Spearman's correlation with the distance."""
    curve = bound(torch.arange(257))
    seen = curve[8:].tolist()
    correlation: Any = spearmanr(range(len(seen)), seen)
    details = {"rises": rises(seen), "of": len(seen) - 1, "spearman": float(correlation.statistic)}
    return Measured(block_means(curve, NEAR), details)


def rises(curve: list[float]) -> int:
    """How often the curve is above the point before."""
    return sum(later > earlier for earlier, later in pairwise(curve))


@claim("rope-decay-far")
def rope_decay_far(run: Run) -> Measured:
    """Sixteen blocks of 256 distances; the details have three far points."""
    curve = bound(torch.arange(BLOCK * BLOCKS + 1))
    blocks = [(1 + BLOCK * i, BLOCK * (i + 1)) for i in range(BLOCKS)]
    far = {str(r): bound(torch.tensor([r])).item() for r in (2048, 16384, 100_000)}
    value = {"blocks": block_means(curve, blocks), "rises": rises(curve[8:257].tolist())}
    return Measured(value, {"far": far, "ends": [last for _, last in blocks]})


@claim("rope-abel-bound")
def rope_abel_bound(run: Run) -> Measured:
    """Eq. 35 to 37 on 2,000 random pairs of q and k at each of four distances, d = 128."""
    draw = torch.Generator().manual_seed(run.seed)
    n = 200 if run.quick else 2000
    broken, ratios = 0, {}
    for s in (8, 64, 256, 1024):
        q, k = (torch.randn(n, 1, D, generator=draw, dtype=torch.float64) for _ in range(2))
        scores = (apply_rope(q, s) * k).sum((-1, -2)).abs()
        pairs_q, pairs_k = (torch.view_as_complex(x[:, 0].unflatten(-1, (-1, 2))) for x in (q, k))
        h = torch.nn.functional.pad(torch.view_as_real(pairs_q * pairs_k.conj()), (0, 0, 0, 1))
        steps = torch.view_as_complex(h).diff(dim=-1).abs().amax(-1)
        limits = steps * partial_sums(torch.tensor([s]), D).abs().sum()
        broken += int((scores > limits).sum())
        ratios[s] = limits / scores
    details = {str(s): ratio.median().item() for s, ratio in ratios.items()}
    least = min(ratio.min().item() for ratio in ratios.values())
    return Measured({"broken": broken, "least": least}, {"median_ratio": details})


@claim("rope-linear")
def rope_linear(run: Run) -> Measured:
    """Eq. 19, causal, two heads of 32 over 300 positions: prefix sums against all weights, written out here."""
    draw = torch.Generator().manual_seed(run.seed)
    q, k, v = (torch.randn(1, 2, 300, 32, generator=draw, dtype=torch.float64) for _ in range(3))
    f, g = (torch.where(x > 0, x + 1, x.exp()) for x in (q, k))
    angles = torch.arange(300, dtype=torch.float64)[:, None] * 10000 ** -(torch.arange(16, dtype=torch.float64) / 16)
    turn = torch.polar(torch.ones_like(angles), angles)
    f_m, g_n = (torch.view_as_complex(x.unflatten(-1, (-1, 2))) * turn for x in (f, g))
    weights = (f_m @ g_n.conj().mT).real.tril()
    denominator = (f @ g.mT).tril().sum(-1, keepdim=True)
    written = weights @ v / denominator
    ours = linear_rope_attention(q, k, v, causal=True)
    seen = torch.ones(300, 300).tril().bool()
    value = {
        "difference": ((ours - written).abs().max() / written.abs().max()).item(),
        "denominator": denominator.min().item(),
        "negative": (weights[..., seen] < 0).double().mean().item(),
    }
    return Measured(value, {"row_sums": [x.item() for x in (weights / denominator).sum(-1).aminmax()]})
