"""Section 7: how alike the subspaces of two adaptations are (Eq. 4), and what an adaptation amplifies (Table 7)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def directions(a: Float[Tensor, "r d"]) -> Float[Tensor, "r d"]:
    """The right-singular vectors of A, one a row, that of the largest singular value first."""
    return torch.linalg.svd(a.double(), full_matrices=False)[2]


def similarity(a: Float[Tensor, "r1 d"], b: Float[Tensor, "r2 d"]) -> Float[Tensor, "r1 r2"]:
    """Eq. 4 for every i and j: ‖U_A^iᵀ U_B^j‖_F² / min(i, j), U^i the first i right-singular vectors.

    0 where the subspaces are orthogonal, 1 where one is in the other.
    """
    squares = (directions(a) @ directions(b).T) ** 2
    i, j = (torch.arange(1, n + 1, dtype=squares.dtype) for n in squares.shape)
    return squares.cumsum(0).cumsum(1) / torch.minimum(i[:, None], j[None, :])


def projections(
    w: Float[Tensor, "out in"], delta: Float[Tensor, "out in"], r: int, generator: torch.Generator
) -> dict[str, float]:
    """Table 7: ‖Uᵀ W V‖_F with U and V the first r singular vectors of ΔW, of W itself, and of a random matrix.

    Beside them ‖W‖_F, ‖ΔW‖_F and the amplification factor, ‖ΔW‖_F over the first.
    """
    w, delta = w.double(), delta.double()
    noise = torch.randn(w.shape, generator=generator, dtype=w.dtype)
    found: dict[str, float] = {}
    for name, matrix in (("delta", delta), ("w", w), ("random", noise)):
        u, _, v = torch.linalg.svd(matrix, full_matrices=False)
        found[name] = float(torch.linalg.norm(u[:, :r].T @ w @ v[:r].T))
    found["norm_w"], found["norm_delta"] = float(torch.linalg.norm(w)), float(torch.linalg.norm(delta))
    found["factor"] = found["norm_delta"] / found["delta"]
    return found
