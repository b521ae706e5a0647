"""Section 3.2: scaled dot-product attention, and attention with several heads."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


def attention(
    q: Float[Tensor, "batch heads seq_q d_k"],
    k: Float[Tensor, "batch heads seq_k d_k"],
    v: Float[Tensor, "batch heads seq_k d_v"],
    mask: Bool[Tensor, "#batch #heads #seq_q seq_k"] | None = None,
) -> tuple[Float[Tensor, "batch heads seq_q d_v"], Float[Tensor, "batch heads seq_q seq_k"]]:
    """Eq. 1, softmax(QKᵀ/√d_k)V, and the softmax beside it.

    mask: True where a query may look. Each query needs one such place: a softmax over −∞ alone is NaN.
    """
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    weights = scores.softmax(-1)
    return weights @ v, weights


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

    Raises ValueError where n_heads does not divide d_model and d_k or d_v is None.
    """

    def __init__(
        self, d_model: int, n_heads: int, d_k: int | None = None, d_v: int | None = None, *, fused: bool = False
    ) -> None:
        super().__init__()
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
        mask: Bool[Tensor, "#batch 1 #seq_q seq_k"] | None = None,
        *,
        causal: bool = False,
    ) -> Float[Tensor, "batch seq_q d_model"]:
        """Each position of x looks at those of `memory`: x itself in self-attention, the encoder's output, or a cache.

        mask: True where it may look; None for everywhere. causal: not at positions after its own.
        Raises ValueError for a mask and causal together: put both into the mask.
        """
        if causal and mask is not None:
            raise ValueError("causal takes no mask beside it: combine the mask with causal_mask(seq)")
        q, memory = self.heads(self.W_Q(x)), self.keys_values(memory)
        if self.fused:
            heads = F.scaled_dot_product_attention(q, memory.k, memory.v, mask, is_causal=causal)
        else:
            heads, _ = attention(q, memory.k, memory.v, causal_mask(x.shape[1], x.device) if causal else mask)
        return self.W_O(heads.transpose(1, 2).flatten(2))

    def keys_values(self, memory: Float[Tensor, "batch seq_k d_model"] | KeysValues) -> KeysValues:
        """What `memory` is looked up by, and what is found there."""
        if isinstance(memory, KeysValues):
            return memory
        return KeysValues(self.heads(self.W_K(memory)), self.heads(self.W_V(memory)))

    def weights(
        self,
        x: Float[Tensor, "batch seq_q d_model"],
        memory: Float[Tensor, "batch seq_k d_model"],
        mask: Bool[Tensor, "#batch 1 #seq_q seq_k"] | None = None,
    ) -> Float[Tensor, "batch heads seq_q seq_k"]:
        """The softmax of each head: how much each position of x looks at each of `memory`."""
        found = self.keys_values(memory)
        return attention(self.heads(self.W_Q(x)), found.k, found.v, mask)[1]

    def heads(self, x: Float[Tensor, "batch seq heads_d"]) -> Float[Tensor, "batch heads seq d"]:
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
