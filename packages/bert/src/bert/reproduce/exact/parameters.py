"""Section 3: the parameters of BERT_BASE and BERT_LARGE, counted on models without memory."""

from __future__ import annotations

import torch

from papertest import counting
from papertest.claims import Measured, Run, claim

from bert.config import BertConfig
from bert.heads import BertForPreTraining

SIZES = {"base": BertConfig.base, "large": BertConfig.large}
PUBLISHED_VOCABULARY = 30_522  # tokens of the published uncased vocabulary
TEXT_VOCABULARY = 30_000  # Section 3: "a 30,000 token vocabulary"


def parts(size: str, vocab_size: int) -> dict[str, int]:
    """Parameters by what they are in; the output matrix is that of the token embeddings, and counted there."""
    with torch.device("meta"):
        model = BertForPreTraining(SIZES[size](vocab_size=vocab_size))
    sums = {
        "tokens": counting.parameters(model.bert.embeddings.tokens),
        "positions": counting.parameters(model.bert.embeddings.positions),
        "types": counting.parameters(model.bert.embeddings.types),
        "embeddings_norm": counting.parameters(model.bert.embeddings.norm),
        "attention": 0,
        "feed_forward": 0,
        "norms": 0,
        "pooler": counting.parameters(model.bert.pooler),
        "mlm_head": counting.parameters(model.mlm),
        "nsp_head": counting.parameters(model.nsp),
    }
    for layer in model.bert.encoder:
        for kind, child in layer.named_children():
            if kind != "dropout":
                sums["norms" if kind.endswith("norm") else kind] += counting.parameters(child)
    assert sum(sums.values()) == counting.parameters(model)
    return sums


def encoder(sums: dict[str, int]) -> float:
    """10^6 parameters of what is fine-tuned: embeddings, layers and pooler."""
    return sum(count for part, count in sums.items() if not part.endswith("head")) / 1e6


def published(size: str) -> Measured:
    sums = parts(size, PUBLISHED_VOCABULARY)
    value = {"encoder": encoder(sums), "pretraining": sum(sums.values()) / 1e6}
    return Measured(value, {"vocab_size": PUBLISHED_VOCABULARY, "parts": sums})


@claim("params-base")
def params_base(run: Run) -> Measured:
    """Section 3: 10^6 parameters of BERT_BASE, without the heads of pre-training and with both."""
    return published("base")


@claim("params-large")
def params_large(run: Run) -> Measured:
    """Section 3: 10^6 parameters of BERT_LARGE, without the heads of pre-training and with both."""
    return published("large")


@claim("params-stated-vocabulary")
def params_stated_vocabulary(run: Run) -> Measured:
    """Section 3: 10^6 parameters of both models, without heads, with the vocabulary that the text states."""
    sums = {size: parts(size, TEXT_VOCABULARY) for size in SIZES}
    return Measured({size: encoder(sums[size]) for size in SIZES}, {"vocab_size": TEXT_VOCABULARY, "parts": sums})
