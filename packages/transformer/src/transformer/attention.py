"""Section 3.2: scaled dot-product attention, and attention with several heads."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from transformer.arguments import check_flags, check_integers, has_dtype, kind

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def attention(
    q: Float[Tensor, "batch heads seq_q d_k"],
    k: Float[Tensor, "batch heads seq_k d_k"],
    v: Float[Tensor, "batch heads seq_k d_v"],
    mask: Bool[Tensor, "#batch #heads #seq_q seq_k"] | None = None,
) -> tuple[Float[Tensor, "batch heads seq_q d_v"], Float[Tensor, "batch heads seq_q seq_k"]]:
    """Eq. 1, softmax(QKᵀ/√d_k)V, and the softmax beside it, which is in float32 where q has half precision.

    mask: True where a query may look. What it may not look at has no influence on it, NaN and infinity included; one
    that may look nowhere has zeros for its softmax and output. Raises ValueError for a mask that is not of bools.
    """
    if mask is not None and not has_dtype(mask, torch.bool):
        raise ValueError(f"mask must be a tensor of bools, True where a query may look, got {kind(mask)}")
    poisoned = None
    if mask is not None:
        k, v, poisoned = _without_poison(k, v, mask, q.shape[-2])
    if q.dtype.itemsize < 4:  # float16 ends at 65504, which the product may pass where the score does not
        scores = (q.float() / math.sqrt(q.shape[-1])) @ k.float().mT
    else:
        scores = q @ k.mT / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    weights = scores.softmax(-1)
    if mask is not None:
        weights = weights.masked_fill(~mask.any(-1, keepdim=True), 0)
    out = weights.to(v.dtype) @ v
    return out if poisoned is None else out + poisoned, weights


def _without_poison(k: Tensor, v: Tensor, mask: Tensor | None, n_q: int) -> tuple[Tensor, Tensor, Tensor]:
    """Keys and values with zeros for NaN and infinity, since zero times NaN would reach who does not see it; and what
    is to be added to the output of each query: NaN if it sees one, else 0. None for a causal mask.

    The operations keep the memory's layout: another one would change the roundings of the products that follow.
    """
    poison = ~(k.isfinite().all(-1) & v.isfinite().all(-1))
    seen = poison.cumsum(-1)[..., -n_q:] > 0 if mask is None else (poison[..., None, :] & mask).any(-1)
    k, v = (x.nan_to_num(0.0, 0.0, 0.0) for x in (k, v))
    return k, v, torch.zeros_like(seen, dtype=v.dtype).masked_fill(seen, math.nan)[..., None]


def causal_mask(length: int, device: torch.device | str = "cpu") -> Bool[Tensor, "length length"]:
    """True at (i, j) where j ≤ i: no position sees a later one (Section 3.2.3)."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


@dataclass
class KeysValues:
    """Keys and values of one attention, projected once: the cache that decoding keeps.

    k: (batch, heads, seq_k, d_k); v: (batch, heads, seq_k, d_v)
    """

    k: Tensor
    v: Tensor

    def append(self, new: KeysValues) -> None:
        """Those of the positions that follow."""
        self.k, self.v = torch.cat([self.k, new.k], 2), torch.cat([self.v, new.v], 2)

    def select(self, rows: Int[Tensor, " rows"]) -> None:
        """Keep these rows of the batch, in this order: the beams that live on."""
        self.k, self.v = self.k[rows], self.v[rows]


class MultiHeadAttention(nn.Module):
    """Section 3.2.2: Concat(head_1, …, head_h)W^O with head_i = Attention(QW_i^Q, KW_i^K, VW_i^V); no biases.

    The matrices W_i^Q of the h heads lie side by side in one, and so do those of keys and values.

    d_k, d_v: None for d_model / n_heads
    fused: compute Eq. 1 in torch's own kernel, which never holds the softmax

    The fused kernel has neither a second nor a forward-mode derivative: torch says so where one is asked for.
    Raises ValueError for a size that is no integer of at least 1, and where n_heads does not divide d_model and d_k or
    d_v is None.
    """

    def __init__(
        self, d_model: int, n_heads: int, d_k: int | None = None, d_v: int | None = None, *, fused: bool = False
    ) -> None:
        super().__init__()
        check_integers(1, d_model=d_model, n_heads=n_heads)
        check_integers(1, **{name: size for name, size in (("d_k", d_k), ("d_v", d_v)) if size is not None})
        check_flags(fused=fused)
        if (d_k is None or d_v is None) and d_model % n_heads:
            raise ValueError(f"n_heads must divide d_model {d_model} where d_k or d_v is None, got {n_heads}")
        d_k, d_v = d_k or d_model // n_heads, d_v or d_model // n_heads
        self.n_heads, self.fused = n_heads, fused
        self.W_Q = nn.Linear(d_model, n_heads * d_k, bias=False)
        self.W_K = nn.Linear(d_model, n_heads * d_k, bias=False)
        self.W_V = nn.Linear(d_model, n_heads * d_v, bias=False)
        self.W_O = nn.Linear(n_heads * d_v, d_model, bias=False)

    def forward(
        self,
        x: Float[Tensor, "batch seq_q d_model"],
        memory: Float[Tensor, "batch seq_k d_model"] | KeysValues,
        mask: Bool[Tensor, "#batch #heads #seq_q seq_k"] | None = None,
        *,
        causal: bool = False,
    ) -> Float[Tensor, "batch seq_q d_model"]:
        """Each position of x looks at those of `memory`: x itself in self-attention, the encoder's output, or a cache.

        mask: True where it may look; None for everywhere; of shape (seq_q, seq_k) for all alike. causal: not at
        positions after its own, where those of x are the last of memory's.
        What a position may not look at has no influence on it, NaN and infinity included; one that may look nowhere
        finds zeros. Raises ValueError for a mask and causal together (put both into the mask), for a mask that is not
        of bools or has another shape, for causal with more positions in x than in memory, and for inputs whose shapes
        do not go together.
        """
        mask = self._checked(x, memory, mask)
        n_q, n_k = x.shape[1], _length(memory)
        check_flags(causal=causal)
        if causal and mask is not None:
            raise ValueError("causal takes no mask beside it: combine the mask with causal_mask(seq)")
        if causal and n_q > n_k:
            raise ValueError(f"causal needs a position of memory for each of x, got {n_q} of x and {n_k} of memory")
        q, memory = self.heads(self.W_Q(x)), self._looked_at(memory, mask)
        square = causal and n_q == n_k
        if causal and not (self.fused and square):
            mask = causal_mask(n_k, x.device)[n_k - n_q :]
        if not self.fused:
            heads, _ = attention(q, memory.k, memory.v, mask)
        elif causal or (mask is not None and mask.shape[1] * mask.shape[2] > 1):  # a key that some see and others not
            k, v, poisoned = _without_poison(memory.k, memory.v, None if square else mask, n_q)
            heads = F.scaled_dot_product_attention(q, k, v, None if square else mask, is_causal=square)
            heads = heads + poisoned
        else:
            heads = F.scaled_dot_product_attention(q, memory.k, memory.v, mask)
        return self.W_O(heads.transpose(1, 2).flatten(2))

    def keys_values(self, memory: Float[Tensor, "batch seq_k d_model"] | KeysValues) -> KeysValues:
        """What `memory` is looked up by, and what is found there."""
        if isinstance(memory, KeysValues):
            return memory
        return KeysValues(self.heads(self.W_K(memory)), self.heads(self.W_V(memory)))

    def _looked_at(self, memory: Tensor | KeysValues, mask: Tensor | None) -> KeysValues:
        """`keys_values`, with zeros where no query may look: zero times NaN or infinity would be NaN."""
        if mask is None:
            return self.keys_values(memory)
        hidden = ~mask.flatten(1, 2).any(1)[..., None]
        if isinstance(memory, KeysValues):
            return KeysValues(memory.k.masked_fill(hidden[:, None], 0), memory.v.masked_fill(hidden[:, None], 0))
        k, v = (W(memory.masked_fill(hidden, 0)) for W in (self.W_K, self.W_V))  # before it, for the gradient of W
        return KeysValues(self.heads(k), self.heads(v))

    def weights(
        self,
        x: Float[Tensor, "batch seq_q d_model"],
        memory: Float[Tensor, "batch seq_k d_model"],
        mask: Bool[Tensor, "#batch #heads #seq_q seq_k"] | None = None,
    ) -> Float[Tensor, "batch heads seq_q seq_k"]:
        """The softmax of each head: how much each position of x looks at each of `memory`."""
        mask = self._checked(x, memory, mask)
        found = self.keys_values(memory)
        return attention(self.heads(self.W_Q(x)), found.k, found.v, mask)[1]

    def heads(self, x: Float[Tensor, "batch seq heads_d"]) -> Float[Tensor, "batch heads seq d"]:
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)

    def _checked(self, x: Tensor, memory: Tensor | KeysValues, mask: Tensor | None) -> Tensor | None:
        """The mask in four dimensions; ValueError for what does not go together."""
        for name, y in (("x", x), ("memory", memory)):
            if isinstance(y, KeysValues):
                continue
            if not has_dtype(y, *FLOATS) or y.ndim != 3 or y.shape[2] != self.W_Q.in_features or 0 in y.shape:
                raise ValueError(f"{name} must have the shape (batch, seq, {self.W_Q.in_features}), got {kind(y)}")
        batch = len(memory.k if isinstance(memory, KeysValues) else memory)
        if len(x) != batch:
            raise ValueError(f"x and memory must have the same batch size, got {len(x)} and {batch}")
        if mask is None:
            return None
        mask = mask[None, None] if has_dtype(mask, torch.bool) and mask.ndim == 2 else mask
        wanted = batch, self.n_heads, x.shape[1], _length(memory)
        if not has_dtype(mask, torch.bool) or mask.ndim != 4 or mask.shape[3] != wanted[3] \
                or any(n not in (1, m) for n, m in zip(mask.shape, wanted, strict=True)):  # fmt: skip
            raise ValueError(f"mask must hold bools in the shape {wanted}, any but the last of which may be 1, got "
                             f"{kind(mask)}")  # fmt: skip
        return mask


def _length(memory: Tensor | KeysValues) -> int:
    return memory.k.shape[2] if isinstance(memory, KeysValues) else memory.shape[1]
