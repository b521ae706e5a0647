"""SmolLM2 trained whole on real pairs: does its implicit reward order pairs that it has not seen, and at what cost."""

from __future__ import annotations

import random
from statistics import fmean
from typing import Any

import torch

from papertest import Measured, Run, claim
from papertest.models import smollm2
from papertest.threads import one_thread

from dpo.packed import packed_logps
from dpo.preferences import Batch, Encoded, collate
from dpo.reproduce.smollm2 import lengths, split, tokens
from dpo.trainer import DPOTrainer

LONGEST, HELD_OUT = 600, 0.3  # tokens of prompt and both answers; share of the pairs
BATCH, RATE, BETA = 4, 2e-5, 0.1  # one pass; no warm-up
SEEN = 12  # of the pairs that were learnt, read again afterwards


@one_thread()
def trained(run: Run) -> dict[str, Any]:
    """What the trainer says of held-out pairs, and of some that were learnt, one by one after training; what it said of
    each batch before its step; the reference's nats per token of the held-out chosen answers; and lengths."""
    train, held_out = split("en", LONGEST, HELD_OUT, run.seed)
    if run.quick:
        train, held_out = (sorted(pairs, key=tokens)[:2] for pairs in (train, held_out))
    model: Any = smollm2()[0]
    model.to(run.device)
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.0, fused=True)
    trainer = DPOTrainer(model, optimizer, BETA, logps=packed_logps, max_norm=1.0)
    for pair in run.progress([*train, *held_out], "SmolLM2 as it is"):
        trainer.reference(alone(pair, run.device))
    chosen = [-trainer.reference(alone(pair, run.device))[0].item() for pair in held_out]
    order = random.Random(run.seed).sample(train, len(train))
    starts = range(0, max(1, len(order) - BATCH + 1), BATCH)
    curve = [trainer.step(collate(order[i : i + BATCH], 0).to(run.device)) for i in run.progress(starts, "DPO")]
    seen, after = ([trainer.evaluate(alone(pair, run.device)) for pair in pairs] for pairs in (order[:SEEN], held_out))
    return {
        "after": after, "seen": seen, "curve": curve, "train": lengths(train), "held_out": lengths(held_out),
        "nats": sum(chosen) / sum(len(pair.chosen) for pair in held_out),
        "shorter": [len(pair.rejected) - len(pair.chosen) for pair in held_out],
    }  # fmt: skip


def alone(pair: Encoded, device: str) -> Batch:
    """A batch of one."""
    return collate([pair], pad_id=0).to(device)


@claim("smollm2-fits")
def smollm2_fits(run: Run) -> dict[str, float]:
    """The control: nats per token of chosen answers before training; and of pairs that were learnt, nats of margin."""
    found = run.shared(trained)
    return {"nats": found["nats"], "margin": fmean(pair["margin"] for pair in found["seen"]) / BETA}


@claim("smollm2-accuracy")
def smollm2_accuracy(run: Run) -> Measured:
    """Held-out pairs whose chosen answer has the higher implicit reward; a tie counts as wrong.

    In the details: `shorter`, the same of a rule that takes the shorter answer, and how often both agree.
    """
    found = run.shared(trained)
    right = [pair["margin"] > 0 for pair in found["after"]]
    shorter = [difference > 0 for difference in found["shorter"]]
    agrees = [a == b for a, b in zip(right, shorter, strict=True)]
    beside = {"shorter": fmean(shorter), "agrees": fmean(agrees)}
    return Measured(fmean(right), {**beside, "train": found["train"], "held_out": found["held_out"]})


@claim("smollm2-margin")
def smollm2_margin(run: Run) -> Measured:
    """Held-out, in nats: what the difference of both log-probabilities gains, and what the chosen one changes by."""
    found = run.shared(trained)
    value = {name: fmean(pair[key] for pair in found["after"]) / BETA
             for name, key in (("margin", "margin"), ("chosen", "chosen_reward"))}  # fmt: skip
    return Measured(value, {"after": found["after"], "curve": found["curve"], "shorter": found["shorter"]})
