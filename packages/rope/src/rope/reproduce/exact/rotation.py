"""RoFormer, Equations 11 to 16 and 34: the rotation, its two layouts, its precision, and other people's rotations."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from papertest.claims import Measured, Run, claim
from papertest.parity import relative_error

from rope.permute import interleaved_to_half
from rope.rotary import apply_rope
from rope.tables import rope_frequencies

FAR = 100_000


@claim("rope-relative")
def rope_relative(run: Run) -> dict[str, float]:
    """Eq. 11, 16: scores of 64 pairs of places, each pair moved by 0, 1, 1000 and 99,000, over |q| |k|; norms."""
    draw = torch.Generator().manual_seed(run.seed)
    q, k = (torch.randn(64, 128, generator=draw, dtype=torch.float64) for _ in range(2))
    m, n = (torch.randint(0, FAR // 100, (64,), generator=draw) for _ in range(2))
    scale = q.norm(dim=-1) * k.norm(dim=-1)
    scores, norms = [], []
    for moved in (0, 1, 1000, FAR - FAR // 100):
        turned = apply_rope(q, m + moved), apply_rope(k, n + moved)
        scores.append((turned[0] * turned[1]).sum(-1) / scale)
        norms += [(x.norm(dim=-1) / y.norm(dim=-1) - 1).abs().max().item() for x, y in zip(turned, (q, k), strict=True)]
    return {
        "score": max((later - scores[0]).abs().max().item() for later in scores[1:]),
        "norm": max(norms),
    }


def matrix(m: int, d: int) -> Float[Tensor, "d d"]:
    """Eq. 15, entry by entry, with the paper's i = 1 … d/2."""
    R = torch.zeros(d, d, dtype=torch.float64)
    for i in range(1, d // 2 + 1):
        angle = m * 10000 ** (-2 * (i - 1) / d)
        a, b = 2 * i - 2, 2 * i - 1
        R[a, a] = R[b, b] = math.cos(angle)
        R[a, b], R[b, a] = -math.sin(angle), math.sin(angle)
    return R


@claim("rope-matrix")
def rope_matrix(run: Run) -> float:
    """Eq. 15 against Eq. 34, d = 8, 64, 128, positions 0, 1, 17, 255 and 512."""
    draw = torch.Generator().manual_seed(run.seed)
    positions = [0, 1, 17, 255, 512]
    worst = 0.0
    for d in (8, 64, 128):
        x = torch.randn(len(positions), d, generator=draw, dtype=torch.float64)
        ours = apply_rope(x, torch.tensor(positions))
        written = torch.stack([matrix(m, d) @ row for m, row in zip(positions, x, strict=True)])
        worst = max(worst, (ours - written).abs().max().item())
    return worst


@claim("rope-layouts")
def rope_layouts(run: Run) -> dict[str, float]:
    """Scores of 4 heads of 32 over 128 positions: half-split with permuted and with plain W_q, W_k."""
    draw = torch.Generator().manual_seed(run.seed)
    heads, d, width = 4, 32, 128
    x = torch.randn(128, width, generator=draw, dtype=torch.float64)
    W_q, W_k = (torch.randn(heads * d, width, generator=draw, dtype=torch.float64) / width**0.5 for _ in range(2))

    def scores(W_q: Tensor, W_k: Tensor, interleaved: bool) -> Tensor:
        q, k = (apply_rope((x @ W.T).unflatten(-1, (heads, d)).transpose(0, 1), interleaved=interleaved)
                for W in (W_q, W_k))  # fmt: skip
        return q @ k.mT

    neighbours = scores(W_q, W_k, True)
    permuted = scores(interleaved_to_half(W_q, d), interleaved_to_half(W_k, d), False)
    return {
        "permuted": relative_error(permuted, neighbours),
        "unpermuted": relative_error(scores(W_q, W_k, False), neighbours),
    }


@claim("rope-half-precision")
def rope_half_precision(run: Run) -> Measured:
    """8,192 positions of a head of 64, bfloat16, against float64: ours, and with angles that are bfloat16."""
    draw = torch.Generator().manual_seed(run.seed)
    x = torch.randn(8192, 64, generator=draw).bfloat16()
    exact = apply_rope(x.double())
    positions = torch.arange(len(x)).bfloat16()
    angles = positions[:, None] * rope_frequencies(64).bfloat16()
    numbers = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    rough = torch.view_as_real(numbers * torch.polar(torch.ones_like(angles.float()), angles.float())).flatten(-2)
    largest = x.abs().max().item()

    def error(y: Tensor) -> float:
        return (y.double() - exact).abs().max().item() / largest

    told_apart = {str(dtype).split(".")[1]: len(torch.arange(4097).to(dtype).unique())
                  for dtype in (torch.bfloat16, torch.float16)}  # fmt: skip
    return Measured({"ours": error(apply_rope(x)), "bfloat16_angles": error(rough)}, {"told_apart": told_apart})
