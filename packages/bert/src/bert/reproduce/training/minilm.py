"""Fine-tuning all-MiniLM-L6-v2's real weights: its inputs, its classifier, and the settings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from tokenizers import Tokenizer
from torch import Tensor

from bert.heads import BertForClassification
from bert.model import Bert
from bert.reproduce.data import sets as datasets
from bert.reproduce.data.text import Example
from bert.reproduce.models import minilm
from bert.reproduce.training.finetuning import accuracy, fine_tune, macro_f1

SENTENCE, POST = 64, 256  # tokens of an input: all but the longest sentences; two posts of three to their ends
# Tried on 224 dev posts with 500 labels (pilot), where TF-IDF has 69.6 %: 2e-4, 1e-2 for the head and batches of 8 gave
# 62.9 in two epochs and 67.0 in three, of 94 seconds of a core.
RATE, HEAD_RATE, BATCH = 1e-4, 3e-3, 16


class MeanClassifier(BertForClassification):
    """A BertForClassification on the average of the last states: so MiniLM's sentence embeddings were trained."""

    def forward(
        self,
        input_ids: Int[Tensor, "batch seq"],
        token_type_ids: Int[Tensor, "batch seq"] | None = None,
        attention_mask: Bool[Tensor, "batch seq"] | Int[Tensor, "batch seq"] | None = None,
    ) -> Float[Tensor, "batch labels"]:
        hidden, _ = self.bert(input_ids, token_type_ids, attention_mask)
        real = torch.ones_like(hidden[..., 0]) if attention_mask is None else attention_mask.to(hidden)
        return self.classifier(self.dropout((real[..., None] * hidden).sum(1) / real.sum(1, keepdim=True)))


@cache
def tokenizer() -> Tokenizer:
    found = Tokenizer.from_file(str(minilm() / "tokenizer.json"))
    found.no_padding()
    return found


def examples(texts: Sequence[datasets.Example], longest: int) -> list[Example]:
    """[CLS] text [SEP] of at most so many tokens."""
    tokenizer().enable_truncation(longest)
    found = tokenizer().encode_batch([text for text, _ in texts])
    return [Example(x.ids, x.type_ids, label) for x, (_, label) in zip(found, texts, strict=True)]


def tuned(
    bert: Bert,
    data: Sequence[Example],
    n_labels: int,
    epochs: int,
    seed: int,
    *,
    batch: int = BATCH,
    device: str = "cpu",
) -> MeanClassifier:
    torch.manual_seed(seed)
    model = MeanClassifier(bert, n_labels).to(device)
    fine_tune(model, data, epochs=epochs, rate=RATE, head_rate=HEAD_RATE, batch=batch, seed=seed)
    return model


def scored(outputs: dict[str, list[int]], wanted: Sequence[int]) -> dict[str, Any]:
    """Accuracy and macro-F1 of each model's labels, in %."""
    return {
        name: {"accuracy": accuracy(labels, wanted), "macro_f1": macro_f1(labels, wanted)}
        for name, labels in outputs.items()
    }
