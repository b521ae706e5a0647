"""What every attention accepts, in torch and in JAX: a message has the argument, what is accepted and what it was."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, TypeGuard

import numpy as np


def is_integer(x: object) -> TypeGuard[int]:
    """An int of Python or NumPy: 3.0 and True are none, although they compare equal to one."""
    return isinstance(x, (int, np.integer)) and not isinstance(x, bool)


def check_arrays(q: Any, k: Any, v: Any, mask: Any, kinds: tuple[type, ...], dtypes: Iterable[Any], bools: Any) -> None:
    """Raise ValueError for types, shapes and dtypes that do not go together; `bools` is the dtype of a mask."""
    for name, x in (("q", q), ("k", k), ("v", v)):
        if not isinstance(x, kinds):
            raise ValueError(f"{name} must be {_kind(kinds)}, got {x!r} of type {type(x).__name__}")
        if x.ndim != 4:
            raise ValueError(f"{name} must have shape (batch, heads, seq, head_dim), got {tuple(x.shape)}")
        if 0 in x.shape:
            raise ValueError(f"{name} must not be empty, got shape {tuple(x.shape)}")
        if x.dtype not in dtypes:
            raise ValueError(f"{name} must have dtype {', '.join(map(dtype_name, dtypes))}, got {dtype_name(x.dtype)}")
        if x.dtype != q.dtype:
            raise ValueError(f"{name} must have q's dtype {dtype_name(q.dtype)}, got {dtype_name(x.dtype)}")
    for what, axis in (("batch size", 0), ("head_dim", 3)):
        if k.shape[axis] != q.shape[axis]:
            raise ValueError(f"k must have q's {what} {q.shape[axis]}, got {k.shape[axis]}")
    if v.shape != k.shape:
        raise ValueError(f"v must have k's shape {tuple(k.shape)}, got {tuple(v.shape)}")
    if q.shape[1] % k.shape[1]:
        raise ValueError(f"k must have a number of heads that divides q's {q.shape[1]}, got {k.shape[1]}")
    if mask is not None:
        wanted = f"mask must be bool of shape (batch, seq_k) = {(q.shape[0], k.shape[2])}, True where attended to"
        if not isinstance(mask, kinds):
            raise ValueError(f"{wanted}, got {mask!r} of type {type(mask).__name__}")
        if mask.dtype != bools or tuple(mask.shape) != (q.shape[0], k.shape[2]):
            raise ValueError(f"{wanted}, got {dtype_name(mask.dtype)} of shape {tuple(mask.shape)}")


def check_options(scale: object, dropout_p: object, **flags: object) -> None:
    """Raise ValueError for what is no scale (None is one), no probability or no bool.

    A tensor is no number: as a scale it might ask for a gradient, which no attention here has."""
    for name, flag in flags.items():
        if not isinstance(flag, (bool, np.bool_)):
            raise ValueError(f"{name} must be True or False, got {flag!r}")
    if scale is not None and not (_is_number(scale) and math.isfinite(scale)):
        raise ValueError(f"scale must be a finite number, or None for 1/sqrt(head_dim), got {scale!r}")
    if not (_is_number(dropout_p) and 0 <= dropout_p < 1):
        raise ValueError(f"dropout_p must be a number in [0, 1), got {dropout_p!r}")


def check_seed(seed: Any) -> None:
    if seed is not None and not (is_integer(seed) and 0 <= seed < 2**32):
        raise ValueError(f"seed must be an integer in [0, 2**32), or None to draw one, got {seed!r}")


def check_block(name: str, size: Any, fixed: bool = False) -> Any:
    """The size of a block as an int of Python, which is what compilers of kernels take; None unless it is `fixed`."""
    if size is None and not fixed:
        return None
    if not (is_integer(size) and size >= 1):
        accepted = "at least 1" if fixed else "at least 1, or None for the backend's own"
        raise ValueError(f"{name} must be an integer of {accepted}, got {size!r}")
    return int(size)


def check_backend(backend: object, backends: tuple[str, ...]) -> None:
    if not isinstance(backend, str) or backend not in backends:
        raise ValueError(f"backend must be one of {', '.join(backends)}, got {backend!r}")


def dtype_name(dtype: object) -> str:
    return str(dtype).removeprefix("torch.")


def _is_number(x: object) -> TypeGuard[float]:
    return isinstance(x, (int, float, np.integer, np.floating)) and not isinstance(x, bool)


def _kind(kinds: tuple[type, ...]) -> str:
    return "a tensor" if len(kinds) == 1 else "an array"
