"""Speed: a training step beside torch.nn.Transformer's, and decoding with the cache beside decoding without."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from papertest import bench
from papertest.claims import Run, Timed, claim
from papertest.counting import peak_memory

from transformer.config import TransformerConfig
from transformer.decoding import greedy_search
from transformer.model import Transformer
from transformer.reproduce.data.tokens import BOS, Batch
from transformer.reproduce.models import Peer, never_ending
from transformer.training import LabelSmoothing, adam

VOCABULARY, LENGTH = 8000, 32  # LENGTH: tokens of the longest sentence of a training batch
DECODED = 64
EOS = VOCABULARY - 1
ROWS = 8  # sentences, in the training batch and in the decoding


@claim("training-step")
def training_step(run: Run) -> Timed:
    """Forward, backward and update of the base model on 8 sentences of 10 to 32 tokens, beside torch.nn.Transformer.

    `speed`: the peer's time over ours. `memory`: our peak over the peer's, of the same step; it is the same in every
    round. The details have the times without dropout.
    """
    config = TransformerConfig.base(vocab_size=VOCABULARY, n_layers=1 if run.quick else 6, fused=True)
    batch = sentences(run.seed, ROWS)
    ours, peer = (step(model(config), batch) for model in (Transformer, Peer))
    times = bench.rounds(run, {"ours": ours, "peer": peer}, null="ours")
    memory = [peak_memory(f, run.device) for f in (ours, peer)]
    plain = TransformerConfig.base(vocab_size=VOCABULARY, n_layers=config.n_layers, fused=True, dropout=0.0)
    ours, peer = (step(model(plain), batch) for model in (Transformer, Peer))
    without = bench.paired(ours, peer, pairs=3, device=run.device)
    return Timed(
        [{"speed": ratio, "memory": memory[0] / memory[1]} for ratio in times.ratio("peer", "ours")],
        times.null,
        {"seconds": times.seconds, "bytes": memory, "without_dropout": without.as_dict()},
    )


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
def cached_speed(run: Run) -> Timed:
    """Greedy decoding of 64 tokens beside the same without the cache: 8 sentences with sources of 64 tokens.

    One layer of the base model's size in the encoder and one in the decoder: all six are alike, and without the cache
    they take a quarter of a minute for a call.
    """
    config = TransformerConfig.base(vocab_size=VOCABULARY, n_layers=1, fused=True)
    model, src = never_ending(config, ROWS, 16 if run.quick else DECODED, run.seed)
    sides = {
        name: partial(greedy_search, model, src, bos=BOS, eos=EOS, extra=0, cache=cache)
        for name, cache in (("cached", True), ("uncached", False))
    }
    times = bench.rounds(run, sides, null="cached")
    return Timed(times.ratio("uncached", "cached"), times.null, {"seconds": times.seconds})
