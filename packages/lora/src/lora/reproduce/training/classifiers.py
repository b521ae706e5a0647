"""The ways to adapt MiniLM that are compared, and training one classifier on sentences by one of them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from tokenizers import Tokenizer
from torch import Tensor, nn

from papertest import counting
from papertest.claims import Run
from papertest.models import minilm

from lora import add_lora
from lora.reproduce.data import CHINESE, ENGLISH, Text, labelled

# ---------------------------------------------------------------- the ways to adapt MiniLM

QUERY_VALUE = ("query", "value")
ALPHA = 8.0  # Table 9, RoBERTa base; the same for every rank, as Section 4.1 has it
FULL, BIAS, LAST, HEAD = "full", "bias only", "last layer", "classifier only"


class Classifier(nn.Module):
    """A linear layer on the mean of the last states: so MiniLM's sentence embeddings were trained."""

    def __init__(self, bert: nn.Module, width: int) -> None:
        super().__init__()
        self.bert = bert
        self.classifier = nn.Linear(width, 2)

    def forward(self, ids: Int[Tensor, "batch seq"], mask: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch 2"]:
        states = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
        real = mask[..., None].to(states)
        return self.classifier((states * real).sum(1) / real.sum(1))


class Method(NamedTuple):
    """`chosen`: whether a parameter of that name is trained, unless `targets` of LoRA are given.

    rate: the learning rate of what is trained; the classifier has its own, unless it is all that is trained.
    """

    rate: float
    chosen: Callable[[str], bool] = lambda name: False
    targets: tuple[str, ...] = ()
    r: int = 0


def lora_name(targets: str, r: int) -> str:
    return f"LoRA {targets} r={r}"


# Each rate is the best of a few by accuracy on dev, one training each, with sentences that no seed of a claim trains on
# (pilot, 800 labels, standard error 1.6 points). English, full: 2.5e-5 80.1 %, 5e-5 80.3, 1e-4 78.4, 2e-4 76.6, 4e-4
# 76.8; bias: 1e-3 78.7, 3e-3 79.5, 1e-2 77.3; last layer: 1e-4 76.3, 3e-4 75.4, 1e-3 75.4; LoRA at r = 8: 5e-4 78.1,
# 1e-3 79.0, 2e-3 79.2, 5e-3 78.9; classifier: 1e-3 71.9, 3e-3 73.3, 1e-2 74.1. Chinese, full: 5e-5 63.7, 1e-4 64.0,
# 2e-4 61.2; bias: 1e-3 64.6. The same for both languages and, LoRA's, for all its ranks and targets.
LORA_RATE = 2e-3
METHODS = {
    FULL: Method(5e-5, lambda name: True),
    BIAS: Method(3e-3, lambda name: name.endswith(".bias")),
    LAST: Method(1e-4, lambda name: ".layer.5." in name),
    HEAD: Method(1e-2),
    **{lora_name("q,v", r): Method(LORA_RATE, targets=QUERY_VALUE, r=r) for r in (1, 2, 4, 8, 64)},
    lora_name("q", 8): Method(LORA_RATE, targets=("query",), r=8),
    lora_name("v", 8): Method(LORA_RATE, targets=("value",), r=8),
}


def prepare(model: Classifier, method: Method) -> int:
    """Set what is trained; the number of trained parameters but the classifier's, which is trained in any case."""
    model.bert.register_module("pooler", None)  # the mean of the states does not pass it
    if method.targets:
        add_lora(model.bert, method.targets, method.r, ALPHA)
    else:
        for name, parameter in model.bert.named_parameters():
            parameter.requires_grad_(method.chosen(name))
    return sum(parameter.numel() for parameter in model.bert.parameters() if parameter.requires_grad)


# ---------------------------------------------------------------- one classifier on sentences

LABELS, EPOCHS, BATCH, WARMUP = 640, 3, 16, 0.06  # the warm-up is that of Table 9, the schedule linear as there
LONGEST = {ENGLISH: 48, CHINESE: 40}  # tokens, [CLS] and [SEP] among them
TESTED, SPARE = 3300, 2000  # sentences; of these the last of the training part, which no seed learns from
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
    """The examples of one seed: no two seeds of a claim train on the same ones; all are tested on the same.

    Raises ValueError where so many seeds have used up the sentences.
    """
    labels, tested = (QUICK, QUICK) if quick else (LABELS, TESTED)
    texts = labelled(language)
    spare = len(texts.train) - SPARE
    if labels * (seed + 1) > spare:
        raise ValueError(f"seed must be below {spare // labels} for {language} sentences, got {seed}")
    train, test = texts.train[labels * seed : labels * (seed + 1)], (texts.test + texts.train[spare:])[:tested]
    longest = LONGEST[language]
    return Data(encode(train, longest), encode(texts.dev, longest), encode(test, longest))


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

    trained: without the classifier's. percent: with them, of MiniLM's and its. majority: the accuracy, in percent, of
    the commoner label for all.

    seed: of the classifier, of LoRA's start and of the order; the examples are those of `run.seed`.
    """
    found = data(language, run.seed, quick=run.quick)
    model = classifier(seed)
    whole = counting.parameters(model)
    count = prepare(model, METHODS[name])
    percent = 100 * counting.parameters(model, trainable=True) / whole
    fit(model, METHODS[name], found.train, seed, 1 if run.quick else EPOCHS)
    positive = sum(example.label for example in found.test) / len(found.test)
    kept = {"accuracy": accuracy(model, found.test), "trained": count, "percent": percent}
    return model, kept | {"majority": 100 * max(positive, 1 - positive)}
