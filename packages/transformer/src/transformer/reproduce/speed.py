"""Speed: a training step beside torch.nn.Transformer's, and decoding with the cache beside decoding without."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from papertest import bench
from papertest.claims import Measured, Run, claim
from papertest.counting import peak_memory

from transformer.attention import causal_mask
from transformer.config import TransformerConfig
from transformer.decoding import greedy_search
from transformer.model import Transformer
from transformer.positions import sinusoidal_encoding
from transformer.reproduce.tokens import BOS, Batch
from transformer.training import LabelSmoothing, adam

VOCABULARY, LENGTH = 8000, 32  # LENGTH: tokens of the longest sentence of a training batch
DECODED = 64
EOS = VOCABULARY - 1


class Peer(nn.Module):
    """The base model with torch.nn.Transformer in the place of our layers; embeddings and projection are as ours."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocab_size, config.d_model)
        nn.init.normal_(self.tokens.weight, std=config.d_model**-0.5)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.Transformer(config.d_model, config.n_heads, config.n_layers, config.n_layers, config.d_ff,
                                     config.dropout, batch_first=True)  # fmt: skip
        self.positions = sinusoidal_encoding(LENGTH, config.d_model)

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


@claim("training-step")
def training_step(run: Run) -> Measured:
    """Forward, backward and update of the base model on 16 sentences of 10 to 32 tokens, beside torch.nn.Transformer.

    `speed`: times as fast, median of pairs. `memory`: our peak over theirs, of the same step.
    """
    config = TransformerConfig.base(vocab_size=VOCABULARY, n_layers=1 if run.quick else 6, fused=True)
    pairs = 3 if run.quick else 5
    batch = sentences(run.seed, rows=16)
    ours, peer = (step(model(config), batch) for model in (Transformer, Peer))
    ratio = bench.paired(ours, peer, pairs=pairs, device=run.device)
    memory = [peak_memory(f, run.device) for f in (ours, peer)]
    plain = TransformerConfig.base(vocab_size=VOCABULARY, n_layers=config.n_layers, fused=True, dropout=0.0)
    ours, peer = (step(model(plain), batch) for model in (Transformer, Peer))
    without = bench.paired(ours, peer, pairs=3, device=run.device)
    details = {**ratio.as_dict(), "bytes": memory, "without_dropout": without.as_dict()}
    return Measured({"speed": ratio.median, "memory": memory[0] / memory[1]}, details)


def sentences(seed: int, rows: int) -> Batch:
    """Random tokens, from a third of LENGTH to all of it in a row, and one token more in the target."""
    draw = torch.Generator().manual_seed(seed)
    src = torch.randint(3, VOCABULARY, (rows, LENGTH), generator=draw)
    tgt = torch.randint(3, VOCABULARY, (rows, LENGTH + 1), generator=draw)
    for row, length in enumerate(torch.linspace(LENGTH // 3, LENGTH, rows).int().tolist()):
        src[row, length:] = 0
        tgt[row, length + 1 :] = 0
    return src, tgt


def step(model: nn.Module, batch: Batch) -> Callable[[], Any]:
    """One training step on the batch, with everything around the model alike."""
    src, tgt = batch
    optimizer, schedule = adam(model, 512)
    criterion = LabelSmoothing(0.1)

    def run() -> None:
        criterion(model(src, tgt[:, :-1]), tgt[:, 1:]).backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()

    return run


@claim("cached-speed")
def cached_speed(run: Run) -> Measured:
    """Greedy decoding of 64 tokens by the base model, 16 sentences of 64 tokens, beside the same without the cache.

    One pair of calls for each seed, after two short ones: without the cache a call takes a quarter of a minute.
    """
    model, src = decoder(run)
    decode = partial(greedy_search, model, bos=BOS, eos=EOS, extra=0)
    for cache in (True, False):
        decode(src[:, :4], cache=cache)
    cached, uncached = (partial(decode, src, cache=cache) for cache in (True, False))
    ratio = bench.paired(cached, uncached, pairs=1, warmup=0, device=run.device)
    return Measured(ratio.median, ratio.as_dict())


@claim("cached-memory")
def cached_memory(run: Run) -> Measured:
    """The peak of that decoding over the peak without the cache, which is that of its last step."""
    model, src = decoder(run)
    cached = peak_memory(partial(greedy_search, model, src, bos=BOS, eos=EOS, extra=0), run.device)

    @torch.no_grad()
    def last_step() -> Tensor:
        return model.project(model.decode(src, *model.encode(src))[:, -1])

    uncached = peak_memory(last_step, run.device)
    return Measured(cached / uncached, {"bytes": [cached, uncached]})


def decoder(run: Run) -> tuple[Transformer, Int[Tensor, "16 length"]]:
    """The base model, and sources of as many tokens as are to be decoded: it never ends a sentence early."""
    count = 16 if run.quick else DECODED
    config = TransformerConfig.base(vocab_size=VOCABULARY, n_layers=1 if run.quick else 6, fused=True)
    model = Transformer(config).eval()
    with torch.no_grad():
        model.tokens.weight[EOS] = 0.0  # its logit is 0, and of 8,000 others some are larger
    return model, torch.randint(3, EOS, (16, count), generator=torch.Generator().manual_seed(run.seed))
