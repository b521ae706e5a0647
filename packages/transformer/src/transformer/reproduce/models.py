"""Models to compare with: a recurrent one with attention (Bahdanau et al. 2014; Luong et al. 2015), and torch's own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from transformer.attention import causal_mask
from transformer.config import TransformerConfig
from transformer.model import Transformer
from transformer.positions import sinusoidal_encoding


@dataclass
class RecurrentState:
    """Where a decoding stands: the encoder's output, its mask, and the decoder's own state."""

    memory: Float[Tensor, "batch seq_src 2_hidden"]
    mask: Bool[Tensor, "batch 1 seq_src"]
    hidden: Float[Tensor, "1 batch hidden"]


class Recurrent(nn.Module):
    """A bidirectional GRU reads the source, a GRU writes the target, and each of its states attends to the source.

    Attention is Luong et al.'s (arXiv 1508.04025), general score, global: softmax(hᵀ W s), and tanh(W_c [context; h]).
    The attention comes after the recurrence, so all target positions of a training batch are one call of torch's GRU.
    The interface is the Transformer's: `encode`, `decode`, `project`, `start`, `step`.
    """

    def __init__(self, config: TransformerConfig, encoder: int = 80, decoder: int = 144) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocab_size, config.d_model)
        nn.init.normal_(self.tokens.weight, std=config.d_model**-0.5)
        self.encoder = nn.GRU(config.d_model, encoder, batch_first=True, bidirectional=True)
        self.decoder = nn.GRU(config.d_model, decoder, batch_first=True)
        self.bridge = nn.Linear(2 * encoder, decoder)
        self.score = nn.Linear(decoder, 2 * encoder, bias=False)
        self.combine = nn.Linear(2 * encoder + decoder, config.d_model)
        self.dropout = nn.Dropout(config.dropout)

    def encode(self, src: Int[Tensor, "batch seq_src"]) -> tuple[Tensor, Tensor]:
        """The encoder's output, and which of it is real."""
        real = src != self.config.pad
        packed = pack_padded_sequence(self._embed(src), real.sum(1).cpu(), batch_first=True, enforce_sorted=False)
        memory, _ = pad_packed_sequence(self.encoder(packed)[0], batch_first=True, total_length=src.shape[1])
        return self.dropout(memory), real[:, None]

    def decode(self, tgt: Int[Tensor, "batch seq_tgt"], memory: Tensor, mask: Tensor | None) -> Tensor:
        """What the projection takes, at each target position."""
        assert mask is not None
        states, _ = self.decoder(self._embed(tgt), self._first(memory, mask))
        return self._attend(states, memory, mask)

    def project(self, y: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch vocab"]:
        return y @ self.tokens.weight.T

    def start(self, src: Int[Tensor, "batch seq_src"]) -> RecurrentState:
        memory, mask = self.encode(src)
        return RecurrentState(memory, mask, self._first(memory, mask))

    def step(self, tokens: Int[Tensor, " batch"], state: RecurrentState) -> Float[Tensor, "batch vocab"]:
        states, state.hidden = self.decoder(self._embed(tokens[:, None]), state.hidden)
        return self.project(self._attend(states, state.memory, state.mask)[:, 0])

    def _embed(self, tokens: Tensor) -> Tensor:
        return self.dropout(self.tokens(tokens) * math.sqrt(self.config.d_model))

    def _first(self, memory: Tensor, mask: Tensor) -> Tensor:
        """The decoder's first state: from the mean of the encoder's."""
        mean = (mask.to(memory) @ memory).squeeze(1) / mask.sum(2)
        return self.bridge(mean).tanh()[None].contiguous()

    def _attend(self, states: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        scores = (self.score(states) @ memory.mT).masked_fill(~mask, -math.inf)
        context = scores.softmax(-1) @ memory
        return self.dropout(self.combine(torch.cat([context, states], -1)).tanh())


class Peer(nn.Module):
    """The base model with torch.nn.Transformer in the place of our layers; embeddings and projection are as ours."""

    def __init__(self, config: TransformerConfig, length: int = 32) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocab_size, config.d_model)
        nn.init.normal_(self.tokens.weight, std=config.d_model**-0.5)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.Transformer(config.d_model, config.n_heads, config.n_layers, config.n_layers, config.d_ff,
                                     config.dropout, batch_first=True)  # fmt: skip
        self.positions = sinusoidal_encoding(length, config.d_model)

    def forward(self, src: Int[Tensor, "batch seq_src"], tgt: Int[Tensor, "batch seq_tgt"]) -> Tensor:
        padding = src == self.config.pad
        y = self.layers(
            self._embed(src),
            self._embed(tgt),
            tgt_mask=~causal_mask(tgt.shape[1]),
            tgt_is_causal=True,
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
        )
        return y @ self.tokens.weight.T

    def _embed(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) * math.sqrt(self.config.d_model)
        return self.dropout(x + self.positions[: tokens.shape[1]].to(x))


def never_ending(
    config: TransformerConfig, sentences: int, length: int, seed: int
) -> tuple[Transformer, Int[Tensor, "sentences length"]]:
    """A model that never ends a sentence early, and sources of as many tokens as are to be decoded.

    Its end token is the last of the vocabulary.
    """
    model = Transformer(config).eval()
    end = config.vocab_size - 1
    with torch.no_grad():
        model.tokens.weight[end] = 0.0  # its logit is 0, and of 8,000 others some are larger
    return model, torch.randint(3, end, (sentences, length), generator=torch.Generator().manual_seed(seed))
