"""Softmax over rows (Eq. 1): the example of the template."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def softmax(x: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """The softmax of each row (Eq. 1). ValueError unless `x` is a matrix of floating-point numbers."""
    if x.ndim != 2 or not x.is_floating_point():
        raise ValueError(f"x: {tuple(x.shape)} of {x.dtype}; accepted: a floating-point matrix (rows, columns)")
    m = x.amax(dim=1, keepdim=True)  # so that no exponential overflows
    p = torch.exp(x - m)
    return p / p.sum(dim=1, keepdim=True)  # Eq. 1
