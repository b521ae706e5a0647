"""Section 3.2.2 and 3.4.2: queries and keys turned by their positions, with few passes over memory.

The rotation is linear, and its transpose is the rotation by the negative angle. So its derivatives of every order are
rotations, and only the table of angles is kept for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rope.arguments import check_array, check_flags, check_number, check_rotary_dim
from rope.tables import check_frequencies, check_positions, rope_frequencies, turns

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_BLOCK = 2**17  # numbers of half precision that are widened at a time on a CPU: few enough for its caches


def apply_rope(
    x: Float[Tensor, "*batch seq head_dim"],
    positions: Int[Tensor, "*#batch seq"] | int | None = None,
    *,
    base: float = 10000.0,
    interleaved: bool = True,
    frequencies: Float[Tensor, " half"] | None = None,
    rotary_dim: int | None = None,
    attention_factor: float = 1.0,
) -> Float[Tensor, "*batch seq head_dim"]:
    """R_m x for each position m (Eq. 14, 15 and 34), in x's dtype. Apply it to queries and keys, not to values.

    positions: None for 0 .. seq − 1; an int for an offset, as after a cache of that length; or integers of shape (seq,)
        or (batch, seq), where batch is x's first axis
    interleaved: rotate the pairs (1, 2), (3, 4), …, as in the paper and in Meta's LLaMA weights. False for the pairs
        (1, dim/2 + 1), (2, dim/2 + 2), …, as in Hugging Face's weights, GPT-NeoX's and most others'
    frequencies: one for each pair, in radians a position, in place of `rope_frequencies(rotary_dim, base)`
    rotary_dim: rotate so many first coordinates, and leave the others. None for all
    attention_factor: multiplies what is rotated, as YaRN does with queries and keys

    Angles are float32 for float32 and for half precision, which is rounded once at the end, and float64 for float64.
    Derivatives of each order and mode are right, in x alone. Under `torch.compile` real numbers are used.

    Raises ValueError for an x, positions or frequencies of another dtype or shape, for positions out of [0, 2**24)
    (not looked at under a compiler, under torch.func or off the CPU), for an odd or too large rotary_dim, and for a
    base or attention_factor that is not positive and finite.
    """
    check_array("x", x, (Tensor,), DTYPES, 2)
    check_flags(interleaved=interleaved)
    check_number("attention_factor", attention_factor)
    dim = check_rotary_dim(rotary_dim, x.shape[-1])
    check_positions(positions, x)
    if frequencies is None:
        frequencies = rope_frequencies(dim, base)
    else:
        check_number("base", base)
        check_frequencies(frequencies, dim // 2)
    dtype = torch.promote_types(x.dtype, torch.float32)
    table = turns(positions, x.shape[-2], frequencies, x.device, dtype, bool(interleaved), float(attention_factor))
    return rotate(x, over_heads(table, x.ndim), interleaved)


def apply_rope_2d(
    x: Float[Tensor, "*batch seq head_dim"],
    positions: Int[Tensor, "*#batch seq 2"],
    *,
    base: float = 10000.0,
    interleaved: bool = True,
) -> Float[Tensor, "*batch seq head_dim"]:
    """Rotary for images: the first half of each head turns by the row, the second half by the column.

    positions: the row and the column of each patch, (seq, 2) or (batch, seq, 2). Scores depend on both differences.

    Raises ValueError for a head_dim that 4 does not divide, and as `apply_rope`.
    """
    check_array("x", x, (Tensor,), DTYPES, 2)
    if x.shape[-1] % 4 or not x.shape[-1]:
        raise ValueError(
            f"head_dim, the last size of x, must be a multiple of 4 for rows and columns, got {x.shape[-1]}"
        )
    check_array("positions", positions, (Tensor,), (torch.int32, torch.int64), 2)
    if positions.shape[-1] != 2:
        was = tuple(positions.shape)
        raise ValueError(f"positions must be integers of shape (seq, 2) or (batch, seq, 2), got {was}")
    halves = zip(x.chunk(2, -1), positions.unbind(-1), strict=True)
    return torch.cat([apply_rope(half, m, base=base, interleaved=interleaved) for half, m in halves], -1)


def over_heads(table: Float[Tensor, "*batch seq half 2"], ndim: int) -> Tensor:
    """The table of positions (seq,) or (batch, seq) for an x (batch, …, seq, head_dim) of `ndim` axes."""
    return table if table.ndim == 3 else table.view(len(table), *[1] * (ndim - 3), *table.shape[1:])


def rotate(
    x: Float[Tensor, "*batch seq head_dim"], table: Float[Tensor, "*#batch seq half 2"], interleaved: bool
) -> Float[Tensor, "*batch seq head_dim"]:
    """x with its first coordinates, two for each pair of the table, turned; the others as they are."""
    if torch.compiler.is_compiling():
        return plain(x, table, interleaved)
    return _Rotate.apply(x, table, interleaved, False)


def plain(x: Tensor, table: Tensor, interleaved: bool) -> Tensor:
    """Eq. 34, as compilers fuse it: x · cos + (−x_2, x_1, …) · sin."""
    wide, dim = x.to(table.dtype), 2 * table.shape[-2]
    cos, sin = table.unbind(-1)
    x1, x2 = _pairs(wide[..., :dim], interleaved)
    y1, y2 = x1 * cos - x2 * sin, x2 * cos + x1 * sin
    turned = torch.stack((y1, y2), -1).flatten(-2) if interleaved else torch.cat((y1, y2), -1)
    return (turned if dim == x.shape[-1] else torch.cat((turned, wide[..., dim:]), -1)).to(x.dtype)


class _Rotate(torch.autograd.Function):
    """`plain`, or its transpose where `back`, written into one buffer."""

    @staticmethod
    def forward(x: Tensor, table: Tensor, interleaved: bool, back: bool) -> Tensor:
        out, dim = torch.empty_like(x), 2 * table.shape[-2]
        if dim < x.shape[-1]:
            out[..., dim:] = x[..., dim:]
        _turn(x[..., :dim], table, out[..., :dim], interleaved, back)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        _, table, ctx.interleaved, ctx.back = inputs
        ctx.save_for_backward(table)
        ctx.save_for_forward(table)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None, None]:
        return _Rotate.apply(dy, *ctx.saved_tensors, ctx.interleaved, not ctx.back), None, None, None

    @staticmethod
    def jvp(ctx: Any, dx: Tensor, *_: Any) -> Tensor:
        return _Rotate.apply(dx, *ctx.saved_tensors, ctx.interleaved, ctx.back)

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, table: Tensor, interleaved: bool, back: bool) -> tuple[Tensor, int]:
        x = x.expand(info.batch_size, *x.shape) if in_dims[0] is None else x.movedim(in_dims[0], 0)
        if in_dims[1] is not None:
            table = table.movedim(in_dims[1], 0)
            table = table.view(len(table), *[1] * (x.ndim + 1 - table.ndim), *table.shape[1:])
        return _Rotate.apply(x, table, interleaved, back), 0


def _turn(x: Tensor, table: Tensor, out: Tensor, interleaved: bool, back: bool) -> None:
    if x.dtype == table.dtype:
        _turn_wide(x, table, out, interleaved, back)
        return
    if interleaved and back:  # conjugates are made once, and not for each block again
        table, back = table * table.new_tensor((1, -1)), False
    on_cpu = x.device.type == "cpu"
    room: dict[torch.Size, tuple[Tensor, Tensor]] = {}  # blocks are widened, and turned, in the same place
    for part, angles, turned in _blocks(x, table, out) if on_cpu else [(x, table, out)]:
        if part.shape not in room:
            empty = part.new_empty(part.shape, dtype=table.dtype)
            room[part.shape] = (empty, torch.empty_like(empty))
        wide, result = room[part.shape]
        wide.copy_(part)
        _turn_wide(wide, angles.contiguous() if interleaved else angles, result, interleaved, back)
        turned.copy_(result)


def _blocks(x: Tensor, table: Tensor, out: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Parts of all three that go together, at most `_BLOCK` numbers of x, or one position of its last axes.

    Positions are cut before heads: the angles of a few serve all heads while they are in the cache.
    """
    each = max(1, x.numel() // max(1, x.shape[-2]))  # numbers of a position
    if each > _BLOCK and x.ndim > 2:
        own = table.ndim > x.ndim  # the table has x's first axis, perhaps of size 1
        if len(x) == 1:
            yield from _blocks(x[0], table[0] if own else table, out[0])
            return
        some = max(1, _BLOCK * len(x) // each)
        for i in range(0, len(x), some):
            at = slice(i, i + some)
            yield from _blocks(x[at], table[at] if own and len(table) > 1 else table, out[at])
        return
    rows = max(1, _BLOCK // each)
    yield from zip(x.split(rows, -2), table.split(rows, -3), out.split(rows, -2), strict=True)


def _turn_wide(x: Tensor, table: Tensor, out: Tensor, interleaved: bool, back: bool) -> None:
    if interleaved and _complex(x) and _complex(out) and table.is_contiguous():  # Eq. 13: a product of complex numbers
        numbers, angles, turned = (torch.view_as_complex(y) for y in (_split(x), table, _split(out)))
        torch.mul(numbers, angles.conj() if back else angles, out=turned)
        return
    (x1, x2), (y1, y2) = _pairs(x, interleaved), _pairs(out, interleaved)
    cos, sin = table.unbind(-1)
    sign = -1 if back else 1
    torch.mul(x1, cos, out=y1)
    y1.addcmul_(x2, sin, value=-sign)
    torch.mul(x2, cos, out=y2)
    y2.addcmul_(x1, sin, value=sign)


def _split(x: Tensor) -> Tensor:
    return x.unflatten(-1, (-1, 2))


def _pairs(x: Tensor, interleaved: bool) -> tuple[Tensor, Tensor]:
    """The first and the second coordinates of all pairs, as views."""
    first, second = (x[..., ::2], x[..., 1::2]) if interleaved else x.chunk(2, -1)
    return first, second


def _complex(x: Tensor) -> bool:
    """Whether neighbours can be seen as complex numbers without a copy."""
    return bool(x.stride(-1) == 1 and x.storage_offset() % 2 == 0 and all(s % 2 == 0 for s in x.stride()[:-1]))
