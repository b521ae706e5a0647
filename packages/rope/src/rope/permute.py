"""The two published layouts: the same model after one fixed permutation of the rows of W_q and W_k."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from rope.arguments import check_integer, check_rotary_dim


def interleaved_to_half(
    W: Float[Tensor, "rows ..."], head_dim: int, rotary_dim: int | None = None
) -> Float[Tensor, "rows ..."]:
    """The rows of W_q or W_k (or a bias) for `interleaved=False`, from one for `interleaved=True`.

    From Meta's LLaMA weights to Hugging Face's. W has `nn.Linear`'s layout, with the heads one after the other.

    Raises ValueError for a W whose rows are no whole heads, and for an odd or too large rotary_dim.
    """
    return W[_rows(W, head_dim, rotary_dim)]


def half_to_interleaved(
    W: Float[Tensor, "rows ..."], head_dim: int, rotary_dim: int | None = None
) -> Float[Tensor, "rows ..."]:
    """The inverse of `interleaved_to_half`. Raises ValueError as that does."""
    return W[_rows(W, head_dim, rotary_dim).argsort()]


def _rows(W: Tensor, head_dim: int, rotary_dim: int | None) -> Tensor:
    check_integer("head_dim", head_dim, 2)
    dim = check_rotary_dim(rotary_dim, head_dim)
    if not isinstance(W, Tensor) or W.ndim < 1 or not len(W) or len(W) % head_dim:  # pyright: ignore[reportUnnecessaryIsInstance]
        was = tuple(W.shape) if isinstance(W, Tensor) else type(W).__name__  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"W must be a tensor whose rows are heads of head_dim {head_dim}, got {was}")
    one = torch.arange(head_dim)
    one[:dim] = one[:dim].view(-1, 2).T.flatten()
    heads = torch.arange(0, len(W), head_dim)
    return (heads[:, None] + one).flatten().to(W.device)
