"""SmolLM2 trained whole on real pairs: does its implicit reward order pairs that it has not seen, and at what cost."""

from __future__ import annotations

import random
from typing import Any

import torch

from papertest import Run
from papertest.models import smollm2
from papertest.threads import one_thread

from dpo.packed import packed_logps
from dpo.preferences import Batch, Encoded, collate
from dpo.reproduce.smollm2 import lengths, split, tokens
from dpo.trainer import DPOTrainer

LONGEST, HELD_OUT = 600, 0.3  # tokens of prompt and both answers; share of the pairs
EPOCHS, BATCH, RATE, BETA = 1, 4, 2e-5, 0.1


@one_thread()
def trained(run: Run) -> dict[str, Any]:
    """The held-out pairs one by one after training, the curve of the training batches, and lengths."""
    train, held_out = split("en", LONGEST, HELD_OUT, run.seed)
    if run.quick:
        train, held_out = (sorted(pairs, key=tokens)[:2] for pairs in (train, held_out))
    model: Any = smollm2()[0].to(run.device)
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.0, fused=True)
    trainer = DPOTrainer(model, optimizer, BETA, logps=packed_logps, max_norm=1.0)
    for pair in [*train, *held_out]:
        trainer.reference(alone(pair, run.device))
    order, draw = [], random.Random(run.seed)
    for _ in range(EPOCHS):
        order += draw.sample(train, len(train))
    starts = range(0, len(order) - BATCH + 1, BATCH)
    curve = [trainer.step(collate(order[i : i + BATCH], 0).to(run.device)) for i in run.progress(starts, "DPO")]
    after = [trainer.evaluate(alone(pair, run.device)) for pair in held_out]
    return {
        "after": after, "curve": curve, "train": lengths(train), "held_out": lengths(held_out),
        "shorter": [len(pair.rejected) - len(pair.chosen) for pair in held_out],
    }  # fmt: skip


def alone(pair: Encoded, device: str) -> Batch:
    return collate([pair], pad_id=0).to(device)
