"""Dropout that no backend stores: which entries of P are kept is a hash of the seed and the entry's place.

The paper saves the state of the random generator and draws the mask again in the backward pass (Algorithm 2, line 1,
and Algorithm 4). A hash of (seed, row, column) needs no state, and does not depend on the block sizes: every backend,
on every device, and standard attention, drop the same entries.
"""

from __future__ import annotations

import math

from jaxtyping import Bool, Int
from torch import Tensor

_UINT32 = 2**32 - 1


def kept(
    rows: Int[Tensor, "*rows"], columns: Int[Tensor, "*columns"], seed: int, dropout_p: float
) -> Bool[Tensor, "*rows_by_columns"]:
    """Which entries dropout keeps, True with probability 1 - dropout_p; `rows` broadcasts against `columns`.

    `rows` are int64 and count queries over the whole batch, (b * heads + h) * seq_q + i; `columns` count keys.
    """
    bits = _fmix(_fmix((rows & _UINT32) ^ seed) + columns * 0x9E3779B9 & _UINT32)
    return bits >= math.floor(dropout_p * 2**32)


def _fmix(x: Tensor) -> Tensor:
    """The final mix of MurmurHash3, on 32 bits held in int64: every bit of x reaches every bit of the result."""
    x = (x ^ (x >> 16)) * 0x85EBCA6B & _UINT32
    x = (x ^ (x >> 13)) * 0xC2B2AE35 & _UINT32
    return x ^ (x >> 16)
