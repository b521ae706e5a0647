"""What every argument is held to: the ValueErrors name it, what it was, and what is accepted."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def whole(name: str, value: Any, least: int = 1) -> None:
    """Raises ValueError for what is not an int of at least `least`; True and 2.0 are none."""
    if type(value) is not int or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")


def number(name: str, value: Any, above: float = 0) -> None:
    """Raises ValueError for what is not a finite number above `above`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not above < value < math.inf:
        raise ValueError(f"{name} must be a finite number above {above:g}, got {value!r}")


def between(name: str, value: Any, least: float, most: float, *, below: bool = False) -> None:
    """Raises ValueError for what is not a finite number from `least` to `most`. below: `most` itself is none either."""
    bad = isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most
    if bad or (below and value == most) or math.isinf(value):
        bound = f"of at least {least:g}" if most == math.inf else f"from {least:g} to {'below ' * below}{most:g}"
        raise ValueError(f"{name} must be a finite number {bound}, got {value!r}")


def kind(value: Any) -> str:
    return f"a tensor of {value.dtype}" if isinstance(value, Tensor) else type(value).__name__


def floating(name: str, value: Any, axes: tuple[str, ...]) -> Tensor:
    """`value` in float32 at least. Raises ValueError for what is not a floating-point tensor with these axes."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise ValueError(f"{name} must be a floating-point tensor, got {kind(value)}")
    if value.ndim != len(axes):
        raise ValueError(f"{name} must be of shape ({', '.join(axes)}), got {tuple(value.shape)}")
    return value.to(torch.promote_types(value.dtype, torch.float32))


def finite(name: str, value: Tensor) -> None:
    """Raises ValueError, with the row, for NaN or infinity."""
    bad = ~value.isfinite()
    if bad.any():
        where = [int(i) for i in bad.nonzero()[0]]
        raise ValueError(f"{name} must be finite, got {value[tuple(where)].item()} in row {where[0]}")


def same_shape(name: str, value: Tensor, shape: tuple[int, ...], of: str) -> None:
    """Raises ValueError for another shape. Nothing is broadcast: a (batch, 1) beside a (batch,) is a mistake."""
    if tuple(value.shape) != tuple(shape):
        raise ValueError(f"{name} must be of the shape of {of}, {tuple(shape)}, got {tuple(value.shape)}")


def boolean(name: str, value: Any, shape: tuple[int, ...], of: str) -> Tensor:
    """Raises ValueError for what is not a tensor of bool of this shape."""
    if not isinstance(value, Tensor) or value.dtype != torch.bool:
        raise ValueError(f"{name} must be a tensor of bool, True at what counts, got {kind(value)}")
    same_shape(name, value, shape, of)
    return value
