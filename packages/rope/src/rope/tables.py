"""Eq. 15's frequencies, and tables of cosines and sines that grow on demand: the trigonometry is done once.

A table belongs to no module, so that no state dict has it and no loading can leave it uninitialised.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rope.arguments import check_dim, check_number, dtype_name, is_integer

LARGEST = 2**24  # from here on float32 takes neighbouring positions for one
_TABLES: dict[Any, Tensor] = {}
_KEPT = 32  # tables; with dynamic scaling each length has its own


def rope_frequencies(dim: int, base: float = 10000.0) -> Float[Tensor, " half"]:
    """θ_i = base^(−2(i−1)/dim) for i = 1 .. dim/2 (Eq. 15), in radians a position, in float64.

    On the CPU, also while modules are made on the meta device: a later loading of weights leaves none of them unset.

    dim: how many coordinates are rotated: head_dim, or rotary_dim where only a part is

    Raises ValueError for an odd dim, and for a base that is not positive and finite.
    """
    check_dim("dim", dim)
    check_number("base", base)
    return float(base) ** (-torch.arange(0, dim, 2, dtype=torch.float64, device="cpu") / dim)


def check_frequencies(frequencies: Any, pairs: int | None = None) -> None:
    """Raise ValueError for what is no float tensor (pairs,) of finite numbers that needs no gradient."""
    if not isinstance(frequencies, Tensor):
        raise ValueError(f"frequencies must be a tensor, got {type(frequencies).__name__}")
    if not frequencies.is_floating_point() or frequencies.ndim != 1 or not len(frequencies):
        shape = tuple(frequencies.shape)
        raise ValueError(f"frequencies must be floats of shape (dim / 2,), got {dtype_name(frequencies.dtype)} {shape}")
    if pairs is not None and len(frequencies) != pairs:
        raise ValueError(f"frequencies must have one number for each of the {pairs} pairs, got {len(frequencies)}")
    if frequencies.requires_grad:
        raise ValueError("frequencies must not require a gradient: rotations are constants here")
    if not torch.compiler.is_compiling() and not bool(frequencies.isfinite().all()):
        raise ValueError("frequencies must be finite, got NaN or an infinity")


def check_positions(positions: Any, x: Tensor) -> None:
    """Raise ValueError unless positions are None, an int of at least 0, or int32 or int64 of shape (seq,), (batch, seq)

    with the sizes that x (batch, ..., seq, head_dim) has. Values of tensors are looked at by `turns`.
    """
    seq = x.shape[-2]
    if positions is None:
        positions = 0
    if isinstance(positions, Tensor):
        shapes = [(seq,)] if x.ndim < 3 else [(seq,), (x.shape[0], seq)]
        if positions.dtype not in (torch.int32, torch.int64) or tuple(positions.shape) not in shapes:
            was = f"{dtype_name(positions.dtype)} of shape {tuple(positions.shape)}"
            accepted = " or ".join(map(str, shapes))
            raise ValueError(f"positions must be int64 or int32 of shape {accepted} for x {tuple(x.shape)}, got {was}")
    elif not (is_integer(positions) and positions >= 0):
        raise ValueError(f"positions must be None, an offset of at least 0 or a tensor of integers, got {positions!r}")
    elif positions + seq > LARGEST:
        raise ValueError(f"positions must be below 2**24, which float32 can tell apart, got {positions + seq - 1}")


def turns(
    positions: Int[Tensor, "*batch seq"] | int | None,
    seq: int,
    frequencies: Float[Tensor, " half"],
    device: torch.device,
    dtype: torch.dtype,
    interleaved: bool,
    factor: float = 1.0,
) -> Float[Tensor, "*batch seq half 2"]:
    """factor · (cos mθ_i, sin mθ_i) for each position m, in `dtype`: float32 or float64, whatever is rotated.

    Pairs lie side by side for the interleaved layout, all cosines before all sines for the other. On the CPU positions
    are looked up in a kept table. On other devices a tensor of positions is not looked at, which would wait for them.

    Raises ValueError for positions that are negative or not below 2**24.
    """
    given = isinstance(positions, Tensor)
    if not _keeping() or (given and positions.device.type != "cpu") or (given and not positions.numel()):
        if not given:
            positions = torch.arange(seq, device=device) + (positions or 0)
        return _trigonometry(positions, frequencies, device, dtype, interleaved, factor)
    if given:
        first, last = (int(x) for x in positions.aminmax())
        if first < 0 or last >= LARGEST:
            raise ValueError(f"positions must be in [0, 2**24), got {first if first < 0 else last}")
        table = _grown(last + 1, frequencies, device, dtype, interleaved, factor)
        return _picked(table, positions.to(device), interleaved)
    start = int(positions or 0)
    return _grown(start + seq, frequencies, device, dtype, interleaved, factor)[start : start + seq]


def _grown(length: int, frequencies: Tensor, device: torch.device, dtype: torch.dtype, *setting: Any) -> Tensor:
    """The table of at least this length; a new one has twice the length of what it replaces."""
    key = (tuple(frequencies.tolist()), device, dtype, *setting)
    table = _TABLES.get(key)
    if table is None or len(table) < length:
        size = min(LARGEST, max(length, 2 * len(table) if table is not None else 0))
        with torch.inference_mode(False), torch.no_grad():  # a table outlives the mode in which it is made
            positions = torch.arange(size, device=device)
            table = _trigonometry(positions, frequencies, device, dtype, *setting)
        if type(table) is Tensor:  # and none of a tracer's
            _TABLES.pop(key, None)
            while len(_TABLES) >= _KEPT:
                _TABLES.pop(next(iter(_TABLES)))
            _TABLES[key] = table
    return table


def _trigonometry(
    positions: Tensor,
    frequencies: Tensor,
    device: torch.device,
    dtype: torch.dtype,
    interleaved: bool,
    factor: float,
) -> Tensor:
    angles = positions.to(device, dtype)[..., None] * frequencies.to(device, dtype)
    cos, sin = angles.cos(), angles.sin()
    if factor != 1:
        cos, sin = cos * factor, sin * factor
    return torch.stack((cos, sin), -1) if interleaved else torch.stack((cos, sin)).movedim(0, -1)


def _picked(table: Tensor, positions: Tensor, interleaved: bool) -> Tensor:
    if interleaved:
        return table[positions]
    return table.movedim(-1, 0)[:, positions].movedim(0, -1)


def _keeping() -> bool:
    """Compilers do the trigonometry in their own graph; what torch.func makes is only good inside of it."""
    return not torch.compiler.is_compiling() and not _transformed()


def _transformed() -> bool:
    active = getattr(torch._C, "_are_functorch_transforms_active", None)  # pyright: ignore[reportPrivateUsage]
    return active is None or active()
