"""Small language models that differ in their positions alone: pre-norm, two layers, tied embeddings."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from rope.alibi import alibi_attention
from rope.linear import linear_rope_attention
from rope.positions import LearnedPositions, T5Bias, sinusoidal_encoding
from rope.rotary import apply_rope
from rope.scaling import ScaledFrequencies
from rope.tables import rope_frequencies

Positions = Literal["none", "learned", "sinusoidal", "rotary", "t5", "alibi"]
D_MODEL, D_FF, LAYERS = 128, 512, 2


class Attention(nn.Module):
    """Multi-head attention of a sequence to itself; rotary, T5's bias and ALiBi act here."""

    def __init__(self, positions: Positions, n_heads: int, *, causal: bool, linear: bool) -> None:
        super().__init__()
        self.positions, self.n_heads, self.causal, self.linear = positions, n_heads, causal, linear
        self.qkv = nn.Linear(D_MODEL, 3 * D_MODEL, bias=False)
        self.out = nn.Linear(D_MODEL, D_MODEL, bias=False)

    def forward(self, x: Float[Tensor, "batch seq d"], scaled: ScaledFrequencies, bias: Tensor | None) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        if self.linear:
            y = linear_rope_attention(q, k, v, causal=self.causal, rotary=self.positions == "rotary")
        elif self.positions == "alibi":
            y = alibi_attention(q, k, v, causal=self.causal)
        else:
            if self.positions == "rotary":
                q, k = (apply_rope(y, frequencies=scaled.frequencies, attention_factor=scaled.attention_factor)
                        for y in (q, k))  # fmt: skip
            y = F.scaled_dot_product_attention(q, k, v, bias, is_causal=self.causal and bias is None)
        return self.out(y.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.attention = attention
        self.norms = nn.ModuleList(nn.LayerNorm(D_MODEL) for _ in range(2))
        self.ff = nn.Sequential(nn.Linear(D_MODEL, D_FF), nn.GELU(), nn.Linear(D_FF, D_MODEL))

    def forward(self, x: Tensor, scaled: ScaledFrequencies, bias: Tensor | None) -> Tensor:
        x = x + self.attention(self.norms[0](x), scaled, bias)
        return x + self.ff(self.norms[1](x))


class LanguageModel(nn.Module):
    """Logits of the next token, or, where not causal, of the token at each place.

    length: the longest input in training, which a learned table ends with
    scaled: rotary's frequencies; another value is a longer context. None: those of the model's head size
    std: of the learned table's weights
    """

    def __init__(
        self,
        vocab: int,
        positions: Positions,
        n_heads: int,
        *,
        length: int,
        causal: bool = True,
        linear: bool = False,
        std: float = D_MODEL**-0.5,
    ) -> None:
        super().__init__()
        self.positions, self.causal = positions, causal
        self.scaled = ScaledFrequencies(rope_frequencies(D_MODEL // n_heads))
        self.tokens = nn.Embedding(vocab, D_MODEL)
        self.layers = nn.ModuleList(
            Layer(Attention(positions, n_heads, causal=causal, linear=linear)) for _ in range(LAYERS)
        )
        self.norm = nn.LayerNorm(D_MODEL)
        for module in self.modules():  # the same weights for all encodings of one seed
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=D_MODEL**-0.5 / (2 if isinstance(module, nn.Linear) else 1))
        self.learned = LearnedPositions(length, D_MODEL, std=std) if positions == "learned" else None
        self.t5 = T5Bias(n_heads, bidirectional=not causal) if positions == "t5" else None

    @property
    def device(self) -> torch.device:
        return self.tokens.weight.device

    def forward(self, ids: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq vocab"]:
        seq = ids.shape[1]
        x = self.tokens(ids) * math.sqrt(D_MODEL)
        if self.positions == "sinusoidal":
            x = x + sinusoidal_encoding(seq, D_MODEL).to(self.device)
        if self.learned is not None:
            x = x + self.learned(seq)
        bias = None
        if self.t5 is not None:
            bias = self.t5(seq)[None]
            if self.causal:
                bias = bias + torch.full((seq, seq), -math.inf, device=self.device).triu(1)
        for layer in self.layers:
            x = layer(x, self.scaled, bias)
        return self.norm(x) @ self.tokens.weight.T
