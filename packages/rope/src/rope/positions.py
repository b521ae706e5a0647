"""The older encodings, for the comparison: sinusoidal, learned, and T5's bias of the relative position."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rope.arguments import check_dim, check_flags, check_integer, dtype_name
from rope.tables import rope_frequencies


def sinusoidal_encoding(
    length: int, d_model: int, *, offset: int = 0, base: float = 10000.0
) -> Float[Tensor, "length d_model"]:
    """PE(m, 2i) = sin(m/base^(2i/d)), PE(m, 2i+1) = cos of the same (Vaswani et al. 2017, Section 3.5), in float32.

    offset: the first position, as after a cache of that length

    Raises ValueError for an odd d_model, a length below 1, and an offset below 0.
    """
    check_integer("length", length)
    check_dim("d_model", d_model)
    check_integer("offset", offset, 0)
    angles = torch.arange(offset, offset + length, dtype=torch.float64)[:, None] * rope_frequencies(d_model, base)
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(-2).float()


class LearnedPositions(nn.Module):
    """One learned vector for each position, as in BERT and GPT-2. There is none beyond max_len.

    Raises ValueError for sizes below 1, and, when called, for positions beyond the table.
    """

    def __init__(self, max_len: int, d_model: int, *, std: float = 0.02) -> None:
        super().__init__()
        check_integer("max_len", max_len)
        check_integer("d_model", d_model)
        self.weight = nn.Parameter(torch.randn(max_len, d_model) * std)

    def forward(self, length: int, offset: int = 0) -> Float[Tensor, "length d_model"]:
        """The vectors of the positions offset .. offset + length − 1."""
        check_integer("length", length)
        check_integer("offset", offset, 0)
        if offset + length > len(self.weight):
            raise ValueError(f"offset + length must be at most max_len {len(self.weight)}, got {offset + length}")
        return self.weight[offset : offset + length]


def t5_buckets(
    relative: Int[Tensor, "*any"], *, bidirectional: bool = False, num_buckets: int = 32, max_distance: int = 128
) -> Int[Tensor, "*any"]:
    """The bucket of each relative position, key − query (Raffel et al. 2020, Section 2.1).

    Half of the buckets are single distances, the others widen logarithmically up to max_distance, and the last has all
    beyond. bidirectional: half of all buckets for later keys; else later keys count as distance 0, for a causal mask.

    Raises ValueError for another dtype than integers, for num_buckets that are odd or too few, and for a max_distance
    that is not beyond the single distances.
    """
    if not isinstance(relative, Tensor) or relative.dtype not in (torch.int32, torch.int64):  # pyright: ignore[reportUnnecessaryIsInstance]
        was = dtype_name(relative.dtype) if isinstance(relative, Tensor) else type(relative).__name__  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"relative must be a tensor of int64 or int32, got {was}")
    check_flags(bidirectional=bidirectional)
    check_dim("num_buckets", num_buckets)
    single = num_buckets // 4 if bidirectional else num_buckets // 2
    if not single:
        raise ValueError(f"num_buckets must be at least 4 where bidirectional, got {num_buckets}")
    check_integer("max_distance", max_distance, single + 1)
    side = num_buckets // 2 if bidirectional else num_buckets
    distance = relative.abs() if bidirectional else (-relative).clamp(min=0)
    wide = torch.log(distance.clamp(min=single).float() / single) / math.log(max_distance / single) * (side - single)
    bucket = torch.where(distance < single, distance, (single + wide.long()).clamp(max=side - 1).to(distance.dtype))
    return bucket + (relative > 0) * side if bidirectional else bucket


class T5Bias(nn.Module):
    """One learned number for each head and bucket, added to the scores. T5 has no 1/√d on its scores.

    Raises ValueError for what `t5_buckets` refuses, and for n_heads below 1.
    """

    def __init__(
        self, n_heads: int, *, bidirectional: bool = False, num_buckets: int = 32, max_distance: int = 128
    ) -> None:
        super().__init__()
        check_integer("n_heads", n_heads)
        self.setting: dict[str, Any] = {
            "bidirectional": bidirectional,
            "num_buckets": num_buckets,
            "max_distance": max_distance,
        }
        t5_buckets(torch.zeros(1, dtype=torch.int64), **self.setting)
        self.weight = nn.Parameter(torch.randn(num_buckets, n_heads) * 0.02)

    def forward(self, seq_q: int, seq_k: int | None = None) -> Float[Tensor, "heads seq_q seq_k"]:
        """The biases, where the last query stands at the last key, as after a cache. No causal mask is in them."""
        seq_k = seq_q if seq_k is None else seq_k
        check_integer("seq_q", seq_q)
        check_integer("seq_k", seq_k, seq_q)
        device = self.weight.device
        keys = torch.arange(seq_k, device=device)
        buckets = t5_buckets(keys - keys[seq_k - seq_q :, None], **self.setting)
        return self.weight[buckets].permute(2, 0, 1)
