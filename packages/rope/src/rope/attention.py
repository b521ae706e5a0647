"""Multi-head self-attention with rotary: a cache of keys and values, padding, partial rotary and longer contexts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from rope.arguments import check_array, check_flags, check_integer, check_mask, check_rotary_dim, check_sizes
from rope.rotary import DTYPES, over_heads, rotate
from rope.scaling import ScaledFrequencies, scale_frequencies
from rope.tables import check_positions, rope_frequencies, turns


@dataclass
class Cache:
    """Keys and values of the positions so far: give one empty `Cache()` to each layer, and to all calls that follow.

    k: (batch, kv_heads, length, head_dim), rotated, or not where the scaling changes with the length
    v: (batch, kv_heads, length, head_dim)
    positions: (length,) or (batch, length): those of the keys
    """

    k: Tensor | None = None
    v: Tensor | None = None
    positions: Tensor | None = None

    def __len__(self) -> int:
        return 0 if self.k is None else self.k.shape[2]

    def append(self, k: Tensor, v: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """All keys, values and positions, with those of the new ones behind."""
        if self.k is not None and self.v is not None and self.positions is not None:
            if self.k.shape[0] != k.shape[0]:
                raise ValueError(f"x must have the cache's batch size {self.k.shape[0]}, got {k.shape[0]}")
            old, new = self.positions, positions
            if old.ndim != new.ndim:
                old, new = (m.expand(k.shape[0], -1) for m in (old, new))
            k, v, positions = torch.cat([self.k, k], 2), torch.cat([self.v, v], 2), torch.cat([old, new], -1)
        self.k, self.v, self.positions = k, v, positions
        return k, v, positions


class RotaryAttention(nn.Module):
    """softmax((R_m W_q x_m)·(R_n W_k x_n)/√d) over W_v x_n, by torch's fused kernel (Eq. 16); values are not rotated.

    n_kv_heads: keys and values are shared by n_heads / n_kv_heads queries each. None for one each
    base, interleaved, rotary_dim: as for `apply_rope`
    scaling: a method of `scale_frequencies` as its dictionary {"rope_type": …}. With "dynamic" the base grows with the
        number of keys, and the cache has unrotated keys, which are rotated anew at each call
    max_positions: refuse positions from here on, as a model that was trained to this length may ask. None for no end
    causal: no key after the query, in the order of the sequence, not of the positions

    The state dict has the weights alone.

    Raises ValueError for sizes that do not go together and for what `scale_frequencies` refuses.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        n_kv_heads: int | None = None,
        *,
        base: float = 10000.0,
        interleaved: bool = True,
        rotary_dim: int | None = None,
        scaling: Mapping[str, Any] | None = None,
        max_positions: int | None = None,
        causal: bool = True,
        bias: bool = False,
    ) -> None:
        super().__init__()
        n_kv_heads = check_sizes(d_model, n_heads, n_kv_heads)
        if max_positions is not None:
            check_integer("max_positions", max_positions)
        check_flags(interleaved=interleaved, causal=causal, bias=bias)
        if scaling is not None and not isinstance(scaling, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"scaling must be a dictionary with rope_type, or None, got {scaling!r}")
        self.n_heads, self.n_kv_heads, self.head_dim = n_heads, n_kv_heads, d_model // n_heads
        self.interleaved, self.max_positions, self.causal = bool(interleaved), max_positions, bool(causal)
        self.rotary_dim = check_rotary_dim(rotary_dim, self.head_dim)
        self.unscaled, self.scaling = (
            rope_frequencies(self.rotary_dim, base),
            None if scaling is None else dict(scaling),
        )
        self.scaled = self.scaled_frequencies(1)
        self.W_q = nn.Linear(d_model, d_model, bias=bias)
        self.W_k = nn.Linear(d_model, n_kv_heads * self.head_dim, bias=bias)
        self.W_v = nn.Linear(d_model, n_kv_heads * self.head_dim, bias=bias)
        self.W_o = nn.Linear(d_model, d_model, bias=bias)

    @property
    def dynamic(self) -> bool:
        """Whether the frequencies change with the length."""
        return self.scaling is not None and "dynamic" in (self.scaling.get("rope_type"), self.scaling.get("type"))

    def scaled_frequencies(self, length: int) -> ScaledFrequencies:
        """The frequencies for so many keys."""
        if self.scaling is None:
            return ScaledFrequencies(self.unscaled)
        return scale_frequencies(self.unscaled, self.scaling, **({"seq_len": length} if self.dynamic else {}))

    def forward(
        self,
        x: Float[Tensor, "batch seq d_model"],
        positions: Int[Tensor, "*#batch seq"] | int | None = None,
        mask: Bool[Tensor, "batch seq_k"] | None = None,
        cache: Cache | None = None,
    ) -> Float[Tensor, "batch seq d_model"]:
        """Attention of x to itself, and to the cache, which x's keys and values are put into.

        positions: None to go on after the cache; an offset; or (seq,) or (batch, seq), as for left padding, with any
            position at the padding
        mask: True at the keys that are attended to, those of the cache among them; NaN behind it does no harm. A query
            that sees no key gives W_o's bias

        Raises ValueError for an x, positions or mask of another shape or dtype, and for positions past the end.
        """
        check_array("x", x, (Tensor,), DTYPES, 3)
        if x.ndim != 3 or x.shape[-1] != self.W_q.in_features or not x.shape[1]:
            raise ValueError(f"x must have shape (batch, seq, {self.W_q.in_features}), got {tuple(x.shape)}")
        past = 0 if cache is None else len(cache)
        positions = past if positions is None else positions
        check_positions(positions, x)
        self._check_end(positions, x.shape[1])
        if mask is not None:
            check_mask(mask, x.shape[0], past + x.shape[1], (Tensor,), torch.bool)
        q, k, v = (self._heads(W(x)) for W in (self.W_q, self.W_k, self.W_v))
        if self.dynamic:
            q, k, v = self._rotated_anew(q, k, v, positions, cache)
        else:
            table = self._table(q, positions, self.scaled)
            q, k = rotate(q, table, self.interleaved), rotate(k, table, self.interleaved)
            if cache is not None:
                k, v, _ = cache.append(k, v, _tensor(positions, x))
        return self.W_o(self._attend(q, k, v, mask).transpose(1, 2).flatten(2))

    def _rotated_anew(self, q: Tensor, k: Tensor, v: Tensor, positions: Any, cache: Cache | None) -> tuple[Tensor, ...]:
        """Queries and all keys by the base that goes with the number of keys now."""
        keys = positions = _tensor(positions, q)
        if cache is not None:
            k, v, keys = cache.append(k, v, positions)
        scaled = self.scaled_frequencies(k.shape[2])
        q = rotate(q, self._table(q, positions, scaled), self.interleaved)
        return q, rotate(k, self._table(k, keys, scaled), self.interleaved), v

    def _table(self, x: Tensor, positions: Any, scaled: ScaledFrequencies) -> Tensor:
        dtype = torch.promote_types(x.dtype, torch.float32)
        factor = scaled.attention_factor
        table = turns(positions, x.shape[2], scaled.frequencies, x.device, dtype, self.interleaved, factor)
        return over_heads(table, x.ndim)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        seq_q, seq_k = q.shape[2], k.shape[2]
        visible = None
        if self.causal and seq_q > 1 and (mask is not None or seq_q < seq_k):
            keys = torch.arange(seq_k, device=q.device)
            visible = (keys <= keys[seq_k - seq_q :, None])[None, None]
        if mask is not None:
            k, v = (y.masked_fill(~mask[:, None, :, None], 0) for y in (k, v))
            visible = mask[:, None, None] if visible is None else visible & mask[:, None, None]
        causal, shared = self.causal and visible is None and seq_q > 1, self.n_kv_heads < self.n_heads
        out = F.scaled_dot_product_attention(q, k, v, visible, is_causal=causal, enable_gqa=shared)
        return out if mask is None or visible is None else out.masked_fill(~visible.any(-1, keepdim=True), 0)

    def _check_end(self, positions: Tensor | int, seq: int) -> None:
        if self.max_positions is None or torch.compiler.is_compiling():
            return
        last = int(positions.max()) if isinstance(positions, Tensor) else positions + seq - 1
        if last >= self.max_positions:
            raise ValueError(f"positions must be below max_positions {self.max_positions}, got {last}")

    def _heads(self, x: Float[Tensor, "batch seq heads_d"]) -> Float[Tensor, "batch heads seq d"]:
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


def _tensor(positions: Tensor | int, x: Tensor) -> Tensor:
    """The positions of x's sequence, its last axis but one, as a tensor."""
    if isinstance(positions, Tensor):
        return positions
    return torch.arange(positions, positions + x.shape[-2], device=x.device)
