"""Training one classifier on sentences with one method: what all trend claims on accuracy share."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Int
from tokenizers import Tokenizer
from torch import Tensor

from papertest import counting
from papertest.claims import Run

from lora.reproduce.data import CHINESE, ENGLISH, Text, labelled
from lora.reproduce.methods import METHODS, Classifier, Method, prepare
from lora.reproduce.models import minilm

LABELS, EPOCHS, BATCH, WARMUP = 640, 3, 16, 0.06  # the warm-up is that of Table 9, the schedule linear as there
LONGEST = {ENGLISH: 48, CHINESE: 40}  # tokens, [CLS] and [SEP] among them
TESTED = 1300
HEAD_RATE = 3e-3  # of the classifier; 1e-2 is better where it alone is trained
TOGETHER = 8  # batches that are made of examples of like length together, so that less is padding
QUICK = 32


class Example(NamedTuple):
    """The token ids of [CLS] text [SEP], and the label."""

    ids: list[int]
    label: int


class Data(NamedTuple):
    """`train`: others for every seed."""

    train: list[Example]
    dev: list[Example]
    test: list[Example]


@cache
def tokenizer() -> Tokenizer:
    return minilm()[1]


def encode(texts: Sequence[Text], longest: int) -> list[Example]:
    """Cut to so many tokens; a Chinese character is a token, one that the vocabulary lacks is [UNK]."""
    tokens = tokenizer()
    tokens.enable_truncation(longest)
    found = tokens.encode_batch([text for text, _ in texts])
    return [Example(x.ids, label) for x, (_, label) in zip(found, texts, strict=True)]


def data(language: str, seed: int, *, quick: bool = False) -> Data:
    """The examples of one seed: no two seeds of a claim train on the same ones; all are tested on the same."""
    labels, tested = (QUICK, QUICK) if quick else (LABELS, TESTED)
    texts = labelled(language)
    train = texts.train[labels * seed : labels * (seed + 1)]
    longest = LONGEST[language]
    return Data(encode(train, longest), encode(texts.dev, longest), encode(texts.test[:tested], longest))


def batches(examples: Sequence[Example], seed: int) -> Iterator[list[Example]]:
    """Each example once, in an order of the seed; those of a batch are of like length."""
    generator = random.Random(seed)
    order = list(examples)
    generator.shuffle(order)
    together: list[list[Example]] = []
    for start in range(0, len(order), BATCH * TOGETHER):
        some = sorted(order[start : start + BATCH * TOGETHER], key=lambda example: len(example.ids))
        together += [some[i : i + BATCH] for i in range(0, len(some), BATCH)]
    generator.shuffle(together)
    yield from together


def tensors(examples: Sequence[Example]) -> tuple[Int[Tensor, "batch seq"], Int[Tensor, "batch seq"]]:
    """The ids, padded with 0 ([PAD]) to the longest, and 1 where a token is real."""
    longest = max(len(example.ids) for example in examples)
    ids = torch.tensor([example.ids + [0] * (longest - len(example.ids)) for example in examples])
    mask = torch.tensor([[1] * len(e.ids) + [0] * (longest - len(e.ids)) for e in examples])
    return ids, mask


def classifier(seed: int) -> Classifier:
    """MiniLM with a new classifier, without dropout."""
    bert = minilm()[0]
    torch.manual_seed(seed)
    return Classifier(bert, bert.config.hidden_size).eval()


def fit(model: Classifier, method: Method, examples: Sequence[Example], seed: int, epochs: int = EPOCHS) -> None:
    """Adam (no decay), the rate up for 6 % of the steps and then down to 0, on what `prepare` chose."""
    feed = [batch for epoch in range(epochs) for batch in batches(examples, 1000 * seed + epoch)]
    inner = [parameter for parameter in model.bert.parameters() if parameter.requires_grad]
    groups = [{"params": inner}] if inner else []
    optimizer = torch.optim.AdamW(
        [*groups, {"params": model.classifier.parameters(), "lr": HEAD_RATE if inner else method.rate}],
        method.rate,
        weight_decay=0.0,
        fused=True,
    )
    warmup = math.ceil(WARMUP * len(feed))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda done: min((done + 1) / warmup, (len(feed) - done) / (len(feed) - warmup + 1))
    )
    for group in feed:
        loss = F.cross_entropy(model(*tensors(group)), torch.tensor([example.label for example in group]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


@torch.inference_mode()
def accuracy(model: Classifier, examples: Sequence[Example]) -> float:
    """Percent."""
    order = sorted(examples, key=lambda example: len(example.ids))
    right = 0
    for start in range(0, len(order), 64):
        some = order[start : start + 64]
        wanted = torch.tensor([example.label for example in some])
        right += int((model(*tensors(some)).argmax(1) == wanted).sum())
    return 100 * right / len(examples)


def trained(run: Run, name: str, language: str, seed: int) -> tuple[Classifier, dict[str, Any]]:
    """One classifier, and what is kept of it: its accuracy in percent, and how many parameters were trained.

    trained: without the classifier's. percent: with them, of MiniLM's and its.

    seed: of the classifier, of LoRA's start and of the order; the examples are those of `run.seed`.
    """
    found = data(language, run.seed, quick=run.quick)
    model = classifier(seed)
    whole = counting.parameters(model)
    count = prepare(model, METHODS[name])
    percent = 100 * counting.parameters(model, trainable=True) / whole
    fit(model, METHODS[name], found.train, seed, 1 if run.quick else EPOCHS)
    return model, {"accuracy": accuracy(model, found.test), "trained": count, "percent": percent}
