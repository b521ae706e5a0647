"""What the functions accept, in torch and in JAX: a message has the argument, what is accepted and what it was."""

from __future__ import annotations

import math
from typing import Any, TypeGuard

import numpy as np


def is_integer(x: object) -> TypeGuard[int]:
    """An int of Python or NumPy: 3.0 and True are none, although they compare equal to one."""
    return isinstance(x, (int, np.integer)) and not isinstance(x, bool)


def check_integer(name: str, x: object, least: int = 1) -> None:
    if not (is_integer(x) and x >= least):
        raise ValueError(f"{name} must be an integer of at least {least}, got {x!r}")


def check_number(name: str, x: Any, least: float | None = None) -> None:
    """A finite number: above 0, or of at least `least`."""
    number = isinstance(x, (int, float, np.integer, np.floating)) and not isinstance(x, bool)
    if not (number and math.isfinite(x) and (x > 0 if least is None else x >= least)):
        accepted = "above 0" if least is None else f"of at least {least:g}"
        raise ValueError(f"{name} must be a finite number {accepted}, got {x!r}")


def check_flags(**flags: object) -> None:
    for name, flag in flags.items():
        if not isinstance(flag, (bool, np.bool_)):
            raise ValueError(f"{name} must be True or False, got {flag!r}")


def check_choice(name: str, x: object, choices: tuple[str, ...]) -> None:
    if not isinstance(x, str) or x not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {x!r}")


def check_dim(name: str, dim: object) -> None:
    """A number of coordinates that come in pairs."""
    if not (is_integer(dim) and dim >= 2 and dim % 2 == 0):
        raise ValueError(f"{name} must be an even integer of at least 2, because pairs are rotated, got {dim!r}")


def check_rotary_dim(rotary_dim: object, head_dim: int) -> int:
    """How many coordinates are rotated: all of them for None."""
    if rotary_dim is None:
        check_dim("head_dim, the last size of x,", head_dim)
        return head_dim
    check_dim("rotary_dim", rotary_dim)
    assert is_integer(rotary_dim)
    if rotary_dim > head_dim:
        raise ValueError(f"rotary_dim must be at most head_dim {head_dim}, got {rotary_dim}")
    return int(rotary_dim)


def check_sizes(d_model: int, n_heads: int, n_kv_heads: int | None) -> int:
    """The heads of keys and values, as many as queries have for None; ValueError for sizes that do not go together."""
    n_kv_heads = n_heads if n_kv_heads is None else n_kv_heads
    for name, size in (("d_model", d_model), ("n_heads", n_heads), ("n_kv_heads", n_kv_heads)):
        check_integer(name, size)
    if d_model % n_heads or n_heads % n_kv_heads:
        raise ValueError(f"n_heads must divide d_model {d_model}, and n_kv_heads {n_kv_heads} it, got {n_heads}")
    return n_kv_heads


def check_array(name: str, x: Any, kinds: tuple[type, ...], dtypes: tuple[Any, ...], ndim: int) -> None:
    """A tensor or an array of one of the dtypes, with at least `ndim` axes."""
    if not isinstance(x, kinds):
        raise ValueError(f"{name} must be {'a tensor' if len(kinds) == 1 else 'an array'}, got {type(x).__name__}")
    if x.dtype not in dtypes:
        raise ValueError(f"{name} must have dtype {', '.join(map(dtype_name, dtypes))}, got {dtype_name(x.dtype)}")
    if x.ndim < ndim:
        raise ValueError(f"{name} must have at least {ndim} axes, got shape {tuple(x.shape)}")


def check_heads(q: Any, k: Any, v: Any, kinds: tuple[type, ...], dtypes: tuple[Any, ...]) -> None:
    """q (..., seq_q, d), k (..., seq_k, d), v (..., seq_k, d_v): of one dtype, with the same leading axes."""
    for name, x in (("q", q), ("k", k), ("v", v)):
        check_array(name, x, kinds, dtypes, 2)
        if x.dtype != q.dtype:
            raise ValueError(f"{name} must have q's dtype {dtype_name(q.dtype)}, got {dtype_name(x.dtype)}")
        if tuple(x.shape[:-2]) != tuple(q.shape[:-2]):
            raise ValueError(f"{name} must have q's leading axes {tuple(q.shape[:-2])}, got shape {tuple(x.shape)}")
    if k.shape[-1] != q.shape[-1]:
        raise ValueError(f"k must have q's head_dim {q.shape[-1]}, got {k.shape[-1]}")
    if v.shape[-2] != k.shape[-2]:
        raise ValueError(f"v must have k's length {k.shape[-2]}, got {v.shape[-2]}")


def check_mask(mask: Any, batch: int, length: int, kinds: tuple[type, ...], bools: Any) -> None:
    wanted = f"mask must be bool of shape (batch, seq_k) = {(batch, length)}, True where attended to"
    if not isinstance(mask, kinds):
        raise ValueError(f"{wanted}, got {type(mask).__name__}")
    if mask.dtype != bools or tuple(mask.shape) != (batch, length):
        raise ValueError(f"{wanted}, got {dtype_name(mask.dtype)} of shape {tuple(mask.shape)}")


def dtype_name(dtype: object) -> str:
    return str(dtype).removeprefix("torch.")
