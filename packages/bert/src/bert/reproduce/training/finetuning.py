"""Fine-tuning a pre-trained model on a task, and the other way to use it: a linear classifier on its frozen states."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bert.heads import BertForClassification
from bert.model import Bert
from bert.reproduce.data.text import Example, Task, batches, tensors

DROPOUT, DECAY, WARMUP = 0.1, 0.01, 0.1  # Appendix A.3 and A.2; the warm-up is that of the authors' code
PENALTIES = (0.01, 0.1, 1.0, 10.0)  # C of the linear classifier on frozen states, the best on dev
TOGETHER = 100  # examples of a batch when nothing is learned


class Classifier(BertForClassification):
    """A BertForClassification that reads a left-to-right model at its last token: [CLS] has seen nothing there."""

    def forward(
        self,
        input_ids: Int[Tensor, "batch seq"],
        token_type_ids: Int[Tensor, "batch seq"] | None = None,
        attention_mask: Bool[Tensor, "batch seq"] | Int[Tensor, "batch seq"] | None = None,
    ) -> Float[Tensor, "batch labels"]:
        hidden, pooled = self.bert(input_ids, token_type_ids, attention_mask)
        if self.config.causal:
            assert attention_mask is not None
            last = hidden[torch.arange(len(hidden)), attention_mask.sum(1).long() - 1]
            pooled = self.bert.pooler(last).tanh()
        return self.classifier(self.dropout(pooled))


def copy_of(bert: Bert) -> Bert:
    """The same weights, with the dropout of fine-tuning."""
    copy = Bert(replace(bert.config, dropout=DROPOUT))
    copy.load_state_dict(bert.state_dict())
    return copy


def fine_tune(
    model: BertForClassification,
    examples: Sequence[Example],
    *,
    epochs: int,
    rate: float,
    batch: int,
    seed: int,
    head_rate: float | None = None,
    warmup: float = WARMUP,
) -> None:
    """Adam on all parameters, the rate up for a share of the steps and then down to 0; head_rate: the classifier's."""
    feed = list(batches(examples, batch, epochs, seed))
    groups: list[dict[str, Any]] = [
        {"params": model.bert.parameters()},
        {"params": model.classifier.parameters(), "lr": head_rate or rate},
    ]
    step = adam(model, groups, rate, len(feed), warmup)
    device = next(model.parameters()).device
    model.train()
    for group in feed:
        ids, types, mask, labels = (x.to(device) for x in tensors(group))
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = model.loss(ids, labels, types, mask)
        step(loss)
    model.eval()


def adam(
    model: nn.Module, groups: list[dict[str, Any]], rate: float, steps: int, warmup: float = WARMUP
) -> Callable[[Tensor], None]:
    """A function that takes a step: the rate up for a share of them and then down to 0, gradients no longer than 1."""
    optimizer = torch.optim.AdamW(groups, rate, weight_decay=DECAY, fused=True)
    up = max(1, math.ceil(warmup * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda done: min((done + 1) / up, (steps - done) / (steps - up + 1))
    )

    def step(loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # the authors' code
        optimizer.step()
        schedule.step()

    return step


def by_length(examples: Sequence[Example]) -> list[list[int]]:
    """Their places, in groups of like length."""
    order = sorted(range(len(examples)), key=lambda i: len(examples[i].ids))
    return [order[i : i + TOGETHER] for i in range(0, len(order), TOGETHER)]


@torch.no_grad()
def predict(model: BertForClassification, examples: Sequence[Example]) -> list[int]:
    """The likeliest label of each."""
    model.eval()
    device = next(model.parameters()).device
    found = [0] * len(examples)
    for places in by_length(examples):
        ids, types, mask, _ = (x.to(device) for x in tensors([examples[i] for i in places]))
        for place, label in zip(places, model(ids, types, mask).argmax(1).tolist(), strict=True):
            found[place] = label
    return found


def accuracy(found: Sequence[int], wanted: Sequence[int]) -> float:
    """Percent."""
    return 100 * sum(a == b for a, b in zip(found, wanted, strict=True)) / len(wanted)


def macro_f1(found: Sequence[int], wanted: Sequence[int]) -> float:
    """Percent: the mean over the labels that occur in either of 2·right / (found + wanted)."""
    pairs = list(zip(found, wanted, strict=True))
    return 100 * statistics.mean(
        2 * sum(a == b == label for a, b in pairs) / (found.count(label) + wanted.count(label))
        for label in sorted({*found, *wanted})
    )


def tested(model: BertForClassification, examples: Sequence[Example]) -> float:
    return accuracy(predict(model, examples), [example.label for example in examples])


@torch.no_grad()
def features(bert: Bert, examples: Sequence[Example]) -> list[Float[Tensor, "examples hidden"]]:
    """Each layer's states, averaged over the tokens of an example, the last layer at the end."""
    bert.eval()
    found = [torch.empty(len(examples), bert.config.hidden_size) for _ in bert.encoder]
    for places in by_length(examples):
        ids, types, mask, _ = tensors([examples[i] for i in places])
        real = mask[..., None].float()
        for layer, state in zip(found, list(bert.states(ids, types, mask))[1:], strict=True):
            layer[places] = (state * real).sum(1) / real.sum(1)
    return found


def frozen(bert: Bert, task: Task, trained: int) -> dict[str, float]:
    """Accuracy of a logistic regression on the last layer's averaged states, and on those of the last four.

    Needs scikit-learn. C is the best on dev.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    parts = (task.train[:trained], task.dev, task.test)
    states = [features(bert, part) for part in parts]
    labels = [[example.label for example in part] for part in parts]
    result: dict[str, float] = {}
    for name, layers in (("last", 1), ("concatenated", 4)):
        inputs = [torch.cat(part[-layers:], 1).numpy() for part in states]
        scaler = StandardScaler().fit(inputs[0])
        seen, dev, test = (scaler.transform(part) for part in inputs)
        models = [LogisticRegression(C=c, max_iter=1000).fit(seen, labels[0]) for c in PENALTIES]
        best = max(models, key=lambda model: model.score(dev, labels[1]))
        result[name] = 100 * float(best.score(test, labels[2]))
    return result
