"""The small models of the trend claims and their pre-training: the base, and what each experiment changes in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from papertest.claims import Run

from bert.config import BertConfig
from bert.heads import BertForPreTraining
from bert.masking import IGNORE, NspPair, mask_tokens
from bert.model import Bert
from bert.reproduce.data.text import CLS, LENGTH, MASK, PAD, SEP, VOCABULARY, Example, pack, passes, tensors, text

# Four to five minutes of one core for a base model. What it takes to leave the plateau of the pieces' frequencies, 6.8
# nats on held-out text (pilots, seed 1000, with NSP): 64 wide in 8,000 such steps 4.76 nats, in 5,000 steps 5.09 with
# fine-tunings that fail (the lab notes); in batches of 32 instead 5.8 after 8,000; 128 wide in 4,000 steps 5.41, in
# twice the time. A rate of 6e-3 was behind from the beginning. The deviation 0.5/√H is as wide for H as the paper's
# 0.02 is for 625. No dropout.
BASE = BertConfig(
    vocab_size=VOCABULARY,
    n_layers=2,
    hidden_size=64,
    n_heads=2,
    max_positions=LENGTH,
    dropout=0.0,
    init_std=0.5 / 64**0.5,
    fused=True,
)
STEPS, BATCH = 8000, 64  # 16 million tokens, nearly 14 passes; the paper has 40
RATE, WARMUP = 3e-3, 0.1  # the paper warms up for 1 %
BETAS, DECAY, CLIP = (0.9, 0.98), 0.01, 1.0
POINTS = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
QUICK = 20  # steps in `reproduce --quick`
ASKED = 1800  # held-out pairs on which a model is judged, of 1,840
LTR = "left to right"

# What each experiment changes in the base model: its sizes, its masking, whether the next sentence is predicted.
SIZES: dict[str, dict[str, Any]] = {
    "half the layers": {"n_layers": 1},
    "half the width": {"hidden_size": 32, "n_heads": 1, "init_std": 0.5 / 32**0.5},
    LTR: {"causal": True},
}
MASKING: dict[str, dict[str, float]] = {
    "mask alone": {"mask": 1.0, "random": 0.0, "keep": 0.0},
    "random alone": {"mask": 0.0, "random": 1.0, "keep": 0.0},
}
WITHOUT_NSP = ("no NSP", LTR)


def config(name: str) -> BertConfig:
    return replace(BASE, **SIZES.get(name, {}))


def objective(
    name: str, ids: Int[Tensor, "batch seq"], generator: torch.Generator
) -> tuple[Int[Tensor, "batch seq"], Int[Tensor, "batch seq"]]:
    """The tokens to read and those to find: masked ones, or at each place the one after it."""
    if name == LTR:
        after = torch.cat([ids[:, 1:], torch.full_like(ids[:, :1], PAD)], 1)
        return ids, after.masked_fill((after == PAD) | (after == SEP), IGNORE)
    shares = MASKING.get(name, {})
    return mask_tokens(ids, mask_id=MASK, vocab_size=VOCABULARY, special=(PAD, CLS, SEP), generator=generator, **shares)


def as_examples(found: Sequence[NspPair]) -> list[Example]:
    return [pack(pair.a, pair.b, int(pair.is_next)) for pair in found]


def steps(seed: int) -> Iterator[list[Example]]:
    """A batch for each step, from one pass over the text after another; what is left of a pass is dropped."""
    for found in passes(seed):
        examples = as_examples(found)
        for i in range(0, len(examples) - BATCH + 1, BATCH):
            yield examples[i : i + BATCH]


def linear(done: int, count: int) -> float:
    """Appendix A.2: the share of the rate at a step, up during the warm-up and down to 0 at the end."""
    warmup = WARMUP * count
    return min((done + 1) / warmup, (count - done) / (count - warmup))


def pretrain(
    run: Run, name: str, seen: Callable[[int, Bert], None]
) -> tuple[BertForPreTraining, list[dict[str, float]]]:
    """A model after STEPS steps, and its curve: at each of POINTS its loss on held-out text.

    Weights, order of the pairs and masks come from the seed alone. `seen` is called with the number of steps and the
    model at every one of POINTS.
    """
    count = QUICK if run.quick else STEPS
    feed = steps(run.seed)
    generator = torch.Generator().manual_seed(run.seed)
    torch.manual_seed(run.seed)
    model = BertForPreTraining(config(name))
    optimizer = torch.optim.AdamW(model.parameters(), RATE, BETAS, weight_decay=DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: linear(done, count))
    points = {round(point * count) for point in POINTS}
    curve: list[dict[str, float]] = []
    for done in run.progress(range(1, count + 1), f"pre-training: {name}, seed {run.seed}"):
        ids, types, mask, is_next = tensors(next(feed))
        inputs, labels = objective(name, ids, generator)
        loss = model.loss(inputs, labels, None if name in WITHOUT_NSP else is_next.bool(), types, mask)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        schedule.step()
        if done in points:
            curve.append({"step": done, **scores(model, name, QUICK if run.quick else ASKED)})
            seen(done, model.bert)
    return model, curve


class Asked(NamedTuple):
    """A batch of held-out pairs as a model reads it, and what it is asked for."""

    inputs: Int[Tensor, "batch seq"]
    labels: Int[Tensor, "batch seq"]
    types: Int[Tensor, "batch seq"]
    mask: Int[Tensor, "batch seq"]
    is_next: Int[Tensor, " batch"]


def asked(name: str, count: int) -> Iterator[Asked]:
    """So many held-out pairs, the same for all models and seeds; each model is asked as it was trained."""
    generator = torch.Generator().manual_seed(0)
    examples = as_examples(next(passes(0, held_out=True))[:count])
    for i in range(0, len(examples), 50):
        ids, types, mask, is_next = tensors(examples[i : i + 50])
        yield Asked(*objective(name, ids, generator), types, mask, is_next)


@torch.no_grad()
def scores(model: BertForPreTraining, name: str, count: int) -> dict[str, float]:
    """Nats of a token to be found, their perplexity, and the share of next sentences that are told right."""
    model.eval()
    nats, found, right, pairs = 0.0, 0, 0, 0
    for batch in asked(name, count):
        at = batch.labels != IGNORE
        logits, nsp = model(batch.inputs, batch.types, batch.mask, at=at)
        nats += torch.nn.functional.cross_entropy(logits, batch.labels[at], reduction="sum").item()
        found += int(at.sum())
        right += int((nsp.argmax(1) == 1 - batch.is_next).sum())
        pairs += len(nsp)
    model.train()
    return {"loss": nats / found, "perplexity": math.exp(nats / found), "nsp": 100 * right / pairs}


def by_frequency(count: int) -> float:
    """Nats of a masked token of the same pairs for who knows nothing but how frequent each piece is in training."""
    frequencies = torch.ones(VOCABULARY)
    for part in text().train:
        pieces = torch.tensor([piece for document in part for sentence in document for piece in sentence])
        frequencies += torch.bincount(pieces, minlength=VOCABULARY)
    nats = -(frequencies / frequencies.sum()).log()
    wanted = torch.cat([batch.labels[batch.labels != IGNORE] for batch in asked("base", count)])
    return float(nats[wanted].mean())
