"""Section 3.5: positional encoding."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from transformer.arguments import is_integer


def sinusoidal_encoding(
    length: int, d_model: int, *, start: int = 0, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "length d_model"]:
    """PE(pos, 2i) = sin(pos / 10000^(2i/d_model)), PE(pos, 2i + 1) = cos(the same), for pos from `start` on.

    Computed in float64 and then rounded to dtype: in float32 the angle of position 5000 alone is off by 2e-4.
    Raises ValueError for an odd d_model, for a length or start that is no integer of at least 0, and for a dtype that
    is not of floating point.
    """
    if not is_integer(d_model) or d_model < 2 or d_model % 2:
        raise ValueError(f"d_model must be even and at least 2, got {d_model!r}")
    if not (is_integer(length) and is_integer(start) and length >= 0 and start >= 0):
        raise ValueError(f"length and start must be at least 0, got {length!r} and {start!r}")
    if not getattr(dtype, "is_floating_point", False):
        raise ValueError(f"dtype must be of floating point, got {dtype!r}")
    pos = torch.arange(start, start + length, dtype=torch.float64)
    angles = pos[:, None] * frequencies(d_model)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).to(dtype)


def frequencies(d_model: int) -> Float[Tensor, " d_model/2"]:
    """10000^(−2i/d_model) for i = 0 … d_model/2 − 1, in radians a position; the wavelengths are 2π over these."""
    return 10000.0 ** (-torch.arange(0, d_model, 2, dtype=torch.float64) / d_model)
