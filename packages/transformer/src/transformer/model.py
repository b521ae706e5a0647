"""Section 3: the Transformer, an encoder and a decoder of N layers each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from transformer.arguments import has_dtype, kind
from transformer.attention import KeysValues, MultiHeadAttention
from transformer.config import TransformerConfig
from transformer.positions import sinusoidal_encoding

Layer = TypeVar("Layer")


class FeedForward(nn.Module):
    """Eq. 2: FFN(x) = max(0, xW_1 + b_1)W_2 + b_2, at each position alone."""

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.W_1 = nn.Linear(d_model, d_ff)
        self.W_2 = nn.Linear(d_ff, d_model)
        nn.init.zeros_(self.W_1.bias)
        nn.init.zeros_(self.W_2.bias)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.W_2(self.W_1(x).relu())


class Residual(nn.Module):
    """Around every sub-layer: LayerNorm(x + Dropout(Sublayer(x))), Sections 3.1 and 5.4; pre-norm moves the norm in."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.pre = config.norm == "pre"

    def forward(
        self, x: Float[Tensor, "batch seq d_model"], sublayer: Callable[[Tensor], Tensor]
    ) -> Float[Tensor, "batch seq d_model"]:
        if self.pre:
            return x + self.dropout(sublayer(self.norm(x)))
        return self.norm(x + self.dropout(sublayer(x)))


def _attention(config: TransformerConfig) -> MultiHeadAttention:
    return MultiHeadAttention(config.d_model, config.n_heads, config.d_k, config.d_v, fused=config.fused)


class EncoderLayer(nn.Module):
    """Two sub-layers: self-attention and feed-forward."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.self_attention = _attention(config)
        self.feed_forward = FeedForward(config.d_model, config.d_ff)
        self.residuals = nn.ModuleList(Residual(config) for _ in range(2))

    def forward(
        self, x: Float[Tensor, "batch seq d_model"], mask: Bool[Tensor, "batch 1 1 seq"] | None
    ) -> Float[Tensor, "batch seq d_model"]:
        attention, feed_forward = self.residuals
        x = attention(x, lambda x: self.self_attention(x, x, mask))
        return feed_forward(x, self.feed_forward)


@dataclass
class LayerCache:
    """What a decoder layer keeps while decoding: its own positions so far, and the encoder's."""

    own: KeysValues | None
    encoder: KeysValues


class DecoderLayer(nn.Module):
    """Three sub-layers: causal self-attention, attention to the encoder's output, feed-forward."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.self_attention = _attention(config)
        self.encoder_attention = _attention(config)
        self.feed_forward = FeedForward(config.d_model, config.d_ff)
        self.residuals = nn.ModuleList(Residual(config) for _ in range(3))

    def forward(
        self,
        y: Float[Tensor, "batch seq_tgt d_model"],
        memory: Float[Tensor, "batch seq_src d_model"],
        mask: Bool[Tensor, "batch 1 1 seq_src"] | None,
    ) -> Float[Tensor, "batch seq_tgt d_model"]:
        own, encoder, feed_forward = self.residuals
        y = own(y, lambda y: self.self_attention(y, y, causal=True))
        y = encoder(y, lambda y: self.encoder_attention(y, memory, mask))
        return feed_forward(y, self.feed_forward)

    def step(
        self,
        y: Float[Tensor, "batch 1 d_model"],
        cache: LayerCache,
        mask: Bool[Tensor, "batch 1 1 seq_src"] | None,
    ) -> Float[Tensor, "batch 1 d_model"]:
        """One position more: `forward` at the last position, from the keys and values of those before it."""

        def attend(y: Tensor) -> Tensor:
            new = self.self_attention.keys_values(y)
            if cache.own is None:
                cache.own = new
            else:
                cache.own.append(new)
            return self.self_attention(y, cache.own)

        own, encoder, feed_forward = self.residuals
        y = own(y, attend)
        y = encoder(y, lambda y: self.encoder_attention(y, cache.encoder, mask))
        return feed_forward(y, self.feed_forward)


class Positions(nn.Module):
    """Section 3.5: the encoding that is added to the embeddings, sinusoids or a learned table."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.learned = nn.Embedding(config.max_len, config.d_model) if config.positions == "learned" else None
        self.register_buffer("table", torch.empty(0, config.d_model), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Positions:
        super()._apply(fn, recurse)
        self.table = self.table[:0]  # moved to another dtype it would keep the roundings of the old one
        return self

    def forward(self, start: int, stop: int) -> Float[Tensor, "seq d_model"]:
        """That of the positions from start up to stop."""
        if self.learned is not None:
            if stop > self.learned.num_embeddings:
                raise ValueError(f"a sequence of {stop} tokens is longer than max_len {self.learned.num_embeddings}, "
                                 "the rows of the learned positions")  # fmt: skip
            return self.learned.weight[start:stop]
        if stop > len(self.table):  # grown where a longer sequence comes
            length = max(stop, 2 * len(self.table))
            self.table = sinusoidal_encoding(length, self.table.shape[1], dtype=self.table.dtype).to(self.table)
        return self.table[start:stop]


def _padded_at_the_end(real: Bool[Tensor, "batch seq"]) -> bool:
    return bool((real[:, :-1] >= real[:, 1:]).all())


def _stack(layer: Callable[[TransformerConfig], Layer], config: TransformerConfig) -> Sequence[Layer]:
    """A ModuleList of N such layers, with their type kept."""
    return cast("Sequence[Layer]", nn.ModuleList(cast(nn.Module, layer(config)) for _ in range(config.n_layers)))


@dataclass
class DecoderState:
    """Where a cached decoding stands: the layers' caches, the source's mask, and how many tokens were read."""

    layers: list[LayerCache]
    mask: Bool[Tensor, "batch 1 1 seq_src"] | None
    length: int = 0

    def select(self, rows: Int[Tensor, " rows"]) -> None:
        """Keep these rows of the batch, in this order."""
        for layer in self.layers:
            layer.encoder.select(rows)
            if layer.own is not None:
                layer.own.select(rows)
        if self.mask is not None:
            self.mask = self.mask[rows]


class Transformer(nn.Module):
    """Figure 1. `Transformer(config)(src, tgt)` is the logits of the token after each one of tgt.

    Token embeddings of source and target and the projection before the softmax are one matrix (Section 3.4). The
    paper does not say how weights start: here embeddings are normal with variance 1/d_model, all other matrices
    Xavier-uniform, as in the authors' own code.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.source, self.target = (Positions(config) for _ in range(2))
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = _stack(EncoderLayer, config)
        self.decoder = _stack(DecoderLayer, config)
        ends = (nn.LayerNorm(config.d_model) if config.norm == "pre" else nn.Identity() for _ in range(2))
        self.encoder_norm, self.decoder_norm = ends
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=config.d_model**-0.5)

    def forward(
        self, src: Int[Tensor, "batch seq_src"], tgt: Int[Tensor, "batch seq_tgt"]
    ) -> Float[Tensor, "batch seq_tgt vocab"]:
        """src: the source's tokens, padded with config.pad anywhere: positions count what is not padding. tgt: the
        target's, from the token that begins a sentence on, padded at the end. Returns logits: [:, i] is of the token
        after tgt[:, i], and sees tgt[:, :i + 1].

        Raises ValueError for tokens outside the vocabulary, rows of padding alone, padding before a target's tokens,
        batches that differ, and sequences longer than learned positions.
        """
        return self.project(self.decode(tgt, *self.encode(src)))

    def encode(
        self, src: Int[Tensor, "batch seq_src"]
    ) -> tuple[Float[Tensor, "batch seq_src d_model"], Bool[Tensor, "batch 1 1 seq_src"] | None]:
        """The encoder's output, and the mask of the tokens that are not padding (None where none is)."""
        self._check("src", src)
        real = src != self.config.pad
        mask = None if bool(real.all()) else real[:, None, None]
        positions: Callable[[int, int], Tensor] = self.source
        if not _padded_at_the_end(real):
            at = (real.cumsum(1) - 1).clamp(min=0)
            positions = lambda start, stop: self.source(start, stop)[at]  # noqa: E731
        x = self._embed(src, positions)
        for layer in self.encoder:
            x = layer(x, mask)
        return self.encoder_norm(x), mask

    def decode(
        self,
        tgt: Int[Tensor, "batch seq_tgt"],
        memory: Float[Tensor, "batch seq_src d_model"],
        mask: Bool[Tensor, "batch 1 1 seq_src"] | None = None,
    ) -> Float[Tensor, "batch seq_tgt d_model"]:
        """The decoder's output; padding needs no mask, since it comes after what is real and the future is not seen."""
        self._check("tgt", tgt)
        real = tgt != self.config.pad
        if not _padded_at_the_end(real):
            raise ValueError(f"tgt must have its padding ({self.config.pad}) at the end of each row")
        if len(tgt) != len(memory):
            raise ValueError(f"src and tgt must have the same batch size, got {len(memory)} and {len(tgt)}")
        y = self._embed(tgt, self.target)
        for layer in self.decoder:
            y = layer(y, memory, mask)
        return self.decoder_norm(y)

    def project(self, y: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch vocab"]:
        """Logits, by the matrix of the embeddings (Section 3.4)."""
        return y @ self.tokens.weight.T

    def start(self, src: Int[Tensor, "batch seq_src"]) -> DecoderState:
        """The state of a cached decoding that has read the source and no token of the target."""
        memory, mask = self.encode(src)
        caches = [LayerCache(None, layer.encoder_attention.keys_values(memory)) for layer in self.decoder]
        return DecoderState(caches, mask)

    def step(self, tokens: Int[Tensor, " batch"], state: DecoderState) -> Float[Tensor, "batch vocab"]:
        """Logits of the token after `tokens`, each row's newest; `state` has read them afterwards."""
        if not has_dtype(tokens, torch.int64, torch.int32) or tokens.ndim != 1:
            raise ValueError(f"tokens must hold token ids in the shape (batch,), got {kind(tokens)}")
        y = self._embed(tokens[:, None], self.target, state.length)
        for layer, cache in zip(self.decoder, state.layers, strict=True):
            y = layer.step(y, cache, state.mask)
        state.length += 1
        return self.project(self.decoder_norm(y[:, 0]))

    def attention_maps(
        self, src: Int[Tensor, "batch seq_src"], tgt: Int[Tensor, "batch seq_tgt"]
    ) -> list[Float[Tensor, "batch heads seq_tgt seq_src"]]:
        """How much each target position looks at each source position, by decoder layer."""
        maps: list[Tensor] = []

        def keep(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            maps.append(cast(MultiHeadAttention, module).weights(*args))

        hooks = [layer.encoder_attention.register_forward_pre_hook(keep) for layer in self.decoder]
        try:
            self(src, tgt)
        finally:
            for hook in hooks:
                hook.remove()
        return maps

    def _embed(
        self, tokens: Int[Tensor, "batch seq"], positions: Callable[[int, int], Tensor], start: int = 0
    ) -> Float[Tensor, "batch seq d_model"]:
        """Embeddings times √d_model, plus the encoding of the positions from start on (Sections 3.4, 3.5, 5.4)."""
        x = self.tokens(tokens) * math.sqrt(self.config.d_model)
        return self.dropout(x + positions(start, start + tokens.shape[1]))

    def _check(self, name: str, tokens: Int[Tensor, "batch seq"]) -> None:
        if not has_dtype(tokens, torch.int64, torch.int32) or tokens.ndim != 2 or 0 in tokens.shape:
            raise ValueError(f"{name} must hold token ids in the shape (batch, seq), neither of them 0, got "
                             f"{kind(tokens)}")  # fmt: skip
        low, high = (int(x) for x in tokens.aminmax())
        if low < 0 or high >= self.config.vocab_size:
            raise ValueError(f"{name} must hold tokens from 0 to {self.config.vocab_size - 1}, got {low} to {high}")
        empty = (tokens == self.config.pad).all(1)
        if bool(empty.any()):
            raise ValueError(f"{name} must have a token other than padding ({self.config.pad}) in each row; row "
                             f"{int(empty.nonzero()[0])} has none")  # fmt: skip
