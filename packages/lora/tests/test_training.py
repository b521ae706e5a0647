"""What is trained, on what, and how it is measured; on a tiny BERT."""

from __future__ import annotations

import pytest
import torch
from transformers import BertConfig, BertModel

from papertest.claims import Run
from papertest.measure import Silent

from lora.reproduce.training import classifiers
from lora.reproduce.training.classifiers import (
    BIAS,
    FULL,
    HEAD,
    LAST,
    METHODS,
    Classifier,
    Example,
    accuracy,
    batches,
    fit,
    lora_name,
    prepare,
    tensors,
)

EXAMPLES = [Example([2, *[5 + label] * (1 + i % 7), 3], label) for i in range(50) for label in (0, 1)]
LORA = lora_name("q,v", 8)


def model():
    torch.manual_seed(0)
    config = BertConfig(hidden_size=16, intermediate_size=32, num_attention_heads=2, num_hidden_layers=6, vocab_size=9)
    return Classifier(BertModel(config), 16).eval()


def test_each_example_is_in_one_batch_and_a_batch_is_of_like_length():
    found = list(batches(EXAMPLES, 1))
    assert sorted(x for batch in found for x in batch) == sorted(EXAMPLES)
    spread = [max(len(x.ids) for x in batch) - min(len(x.ids) for x in batch) for batch in found]
    assert sum(spread) / len(spread) < 2
    assert list(batches(EXAMPLES, 1)) == found != list(batches(EXAMPLES, 2))


def test_padding_does_not_change_what_is_said_of_a_sentence():
    net = model()
    alone = net(*tensors(EXAMPLES[:1]))
    together = net(*tensors([EXAMPLES[0], EXAMPLES[12]]))
    assert len(EXAMPLES[12].ids) > len(EXAMPLES[0].ids)
    assert torch.allclose(alone[0], together[0], atol=1e-6)


@pytest.mark.parametrize(("name", "trained"), [
    (FULL, lambda n: not n.startswith("pooler")),
    (BIAS, lambda n: n.endswith("bias") and not n.startswith("pooler")),
    (LAST, lambda n: n.startswith("encoder.layer.5.")),
    (HEAD, lambda n: False),
    (LORA, lambda n: "lora_" in n and ("query" in n or "value" in n)),
    (lora_name("q", 8), lambda n: "lora_" in n and "query" in n),
    (lora_name("v", 8), lambda n: "lora_" in n and "value" in n),
])  # fmt: skip
def test_a_method_trains_what_it_says_and_the_classifier_and_nothing_else(name, trained):
    net = model()
    count = prepare(net, METHODS[name])
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    fit(net, METHODS[name], EXAMPLES, seed=0, epochs=1)
    moved = {n for n, p in net.named_parameters() if not torch.equal(p, before[n])}
    assert {"classifier.weight", "classifier.bias"} <= moved
    inner = {n.removeprefix("bert.") for n in moved if n.startswith("bert.")}
    names = {n for n, p in net.bert.named_parameters()}
    assert inner <= {n for n in names if trained(n)}
    # the key's bias moves no attention weight, and the embeddings that no sentence has are not touched: all else moves
    still = {n for n in names if trained(n)} - inner
    assert all("key.bias" in n or "embeddings" in n for n in still)
    assert count == sum(p.numel() for n, p in net.bert.named_parameters() if trained(n))


def test_the_count_of_lora_is_that_of_section_5_1():
    assert prepare(model(), METHODS[lora_name("q,v", 4)]) == 2 * (2 * 6) * 16 * 4


@pytest.mark.parametrize("name", [FULL, LORA])
def test_a_task_is_learned(name):
    net = model()
    prepare(net, METHODS[name])
    fit(net, METHODS[name]._replace(rate=5e-3), EXAMPLES, seed=0, epochs=6)
    assert accuracy(net, EXAMPLES) == 100


def test_accuracy_is_in_percent_whatever_the_order():
    def says_one(ids, mask):
        return torch.stack([torch.zeros(len(ids)), (ids == 6).any(1).float() - 0.5], 1)

    some = [Example([2, 6, 3], 1), Example([2, 5, 5, 5, 3], 1), Example([2, 5, 3], 0), Example([2, 6, 6, 3], 1)]
    assert accuracy(says_one, some) == 75


def test_what_is_kept_of_a_training(monkeypatch):
    monkeypatch.setattr(classifiers, "classifier", lambda seed: model())
    monkeypatch.setattr(
        classifiers, "data", lambda language, seed, quick: classifiers.Data(EXAMPLES, EXAMPLES, EXAMPLES)
    )
    run = Run(0, "cpu", True, {}, Silent().track, lambda run, function, args: function(run, *args))
    net, kept = classifiers.trained(run, LORA, "English", 0)
    trainable = sum(p.numel() for p in net.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model().parameters())
    assert kept["trained"] == trainable - 34 and kept["percent"] == pytest.approx(100 * trainable / total)
    assert kept["majority"] == 50 and 0 <= kept["accuracy"] <= 100
