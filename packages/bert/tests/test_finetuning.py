"""Fine-tuning: measures worked out by hand, the schedule, where a label is read, and frozen states."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from bert_cases import batch, config, shake, small
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bert import Bert, BertForClassification
from bert.reproduce.data.text import Example, Task, tensors
from bert.reproduce.training import finetuning
from bert.reproduce.training.finetuning import (
    Classifier,
    accuracy,
    adam,
    by_length,
    copy_of,
    features,
    fine_tune,
    frozen,
    macro_f1,
    predict,
)  # fmt: skip

labels = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=30)

# ------------------------------------------------------------------------------------- measures


def test_accuracy():
    assert accuracy([0, 1, 1, 2], [0, 1, 2, 1]) == 50
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        accuracy([0, 1], [0])


def test_macro_f1_by_hand():
    """Label 0: one right of two found and one wanted, 2/3; label 1: one right of one and three, 1/2; label 2: none."""
    assert macro_f1([0, 0, 1, 2], [0, 1, 1, 1]) == pytest.approx(100 * (2 / 3 + 1 / 2 + 0) / 3)
    assert macro_f1([3, 3], [3, 3]) == 100


@settings(deadline=None)
@given(labels)
def test_macro_f1_is_that_of_scikit_learn(both):
    metrics = pytest.importorskip("sklearn.metrics", reason="the extra reproduce is not installed")
    found, wanted = (list(side) for side in zip(*both, strict=True))
    expected = metrics.f1_score(wanted, found, average="macro", zero_division=0)
    assert macro_f1(found, wanted) == pytest.approx(100 * expected)


# ------------------------------------------------------------------------------------- a step


@pytest.mark.parametrize(
    ("warmup", "expected"),
    [
        (0.2, [1 / 2, 1, 8 / 9, 7 / 9, 6 / 9, 5 / 9, 4 / 9, 3 / 9, 2 / 9, 1 / 9]),  # two steps up, eight down
        (0.0, [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]),
    ],
)
def test_the_rate_goes_up_and_then_down(warmup, expected):
    model = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    groups = [{"params": model[0].parameters()}, {"params": model[1].parameters(), "lr": 0.3}]
    step, rates = adam(model, groups, 0.1, 10, warmup), []
    for _ in range(10):
        rates.append([group["lr"] for group in groups])
        step(sum(p.sum() for p in model.parameters()))
    assert [rate for rate, _ in rates] == pytest.approx([0.1 * share for share in expected])
    assert [rate for _, rate in rates] == pytest.approx([0.3 * share for share in expected])


@pytest.mark.parametrize(("scale", "length"), [(100.0, 1.0), (0.01, 0.02)])
def test_gradients_are_no_longer_than_one(scale, length):
    model = nn.Linear(4, 1, bias=False)
    adam(model, [{"params": model.parameters()}], 0.1, 1)(scale * model.weight.sum())
    assert model.weight.grad.norm().item() == pytest.approx(length, rel=1e-4)


# ------------------------------------------------------------------------------------- fine-tuning


def example(*ids, label=0):
    return Example([2, *ids, 3], [0] * (len(ids) + 2), label)


def rule(count):
    """Texts of 1 to 5 tokens; the label is whether the first is below 11."""
    torch.manual_seed(4)
    rows = [torch.randint(5, 18, (1 + i % 5,)).tolist() for i in range(count)]
    return [example(*row, label=int(row[0] < 11)) for row in rows]


def test_a_rule_is_learned_and_the_seed_decides():
    def trained(seed):
        torch.manual_seed(seed)
        model = Classifier(Bert(config(hidden_size=24, dropout=0.0, init_std=0.1)), 2)
        fine_tune(model, rule(128), epochs=12, rate=5e-3, batch=16, seed=seed)
        return model

    first, again, other = trained(0), trained(0), trained(1)
    assert not first.training
    assert finetuning.tested(first, rule(128)) > 95
    same, changed = (
        all(torch.equal(a, b) for a, b in zip(first.parameters(), model.parameters(), strict=True))
        for model in (again, other)
    )
    assert same and not changed


def test_the_classifier_may_have_a_rate_of_its_own(monkeypatch):
    asked = []

    def watched(model, groups, rate, steps, warmup):
        asked.append(([group.get("lr", rate) for group in groups], rate, steps, warmup))
        assert sum(len(list(group["params"])) for group in groups) == len(list(model.parameters()))
        return lambda loss: None

    monkeypatch.setattr(finetuning, "adam", watched)
    for head_rate in (None, 0.5):
        model = Classifier(small(), 2)
        fine_tune(model, rule(10), epochs=3, rate=0.1, batch=4, seed=0, head_rate=head_rate, warmup=0.3)
    assert asked == [([0.1, 0.1], 0.1, 9, 0.3), ([0.1, 0.5], 0.1, 9, 0.3)]


def test_dropout_is_on_while_learning(monkeypatch):
    seen = []
    monkeypatch.setattr(finetuning, "adam", lambda model, *rest: lambda loss: seen.append(model.training))
    model = Classifier(small(), 2)
    fine_tune(model, rule(4), epochs=1, rate=0.1, batch=4, seed=0)
    assert seen == [True] and not model.training


@pytest.mark.parametrize("changes", [{}, {"causal": True, "fused": True}], ids=["plain", "causal and fused"])
def test_a_copy_has_the_weights_and_the_dropout_of_fine_tuning(changes):
    bert = small(dropout=0.0, **changes)
    copy = copy_of(bert)
    assert copy.config == replace(bert.config, dropout=finetuning.DROPOUT)
    assert {m.p for m in copy.modules() if isinstance(m, nn.Dropout)} == {0.1}
    for ours, theirs in zip(copy.parameters(), bert.parameters(), strict=True):
        assert torch.equal(ours, theirs) and ours.data_ptr() != theirs.data_ptr()


@pytest.mark.parametrize("fused", [False, True], ids=["formula", "fused"])
def test_a_causal_model_is_read_at_its_last_token(fused):
    torch.manual_seed(0)
    model = shake(Classifier(small(causal=True, fused=fused), 3))
    ids, types, mask = batch()
    mask = torch.tensor([[1] * 9, [1] * 5 + [0] * 4, [1] + [0] * 8])
    logits = model(ids, types, mask)
    for row, length in enumerate((9, 5, 1)):
        hidden, _ = model.bert(ids[row : row + 1, :length], types[row : row + 1, :length])
        expected = model.classifier(model.bert.pooler(hidden[:, -1]).tanh())
        torch.testing.assert_close(logits[row : row + 1], expected)
    changed = ids.clone()
    changed[0, 8] = (ids[0, 8] + 1) % 23
    assert not torch.allclose(model(changed, types, mask)[0], logits[0])


def test_another_model_is_read_at_its_first_token():
    ours = Classifier(small(), 3).eval()
    plain = BertForClassification(ours.bert, 3).eval()
    plain.load_state_dict(ours.state_dict())
    assert torch.equal(ours(*batch()), plain(*batch()))


# ------------------------------------------------------------------------------------- without learning


class First(nn.Module):
    """Says the first token after [CLS] as the label; there are three."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, ids, types, mask):
        assert not self.training and len(ids) <= finetuning.TOGETHER
        return nn.functional.one_hot(ids[:, 1], 3).float() + self.weight


def test_labels_come_back_in_the_order_of_the_examples():
    examples = [example(i % 3, *[1] * (7 * i % 11), label=0) for i in range(250)]
    assert predict(First(), examples) == [i % 3 for i in range(250)]
    assert finetuning.tested(First(), examples) == pytest.approx(100 * 84 / 250)
    groups = by_length(examples)
    assert sorted(i for group in groups for i in group) == list(range(250)) and [len(g) for g in groups] == [
        100,
        100,
        50,
    ]
    lengths = [len(examples[i].ids) for group in groups for i in group]
    assert lengths == sorted(lengths)


@pytest.mark.parametrize("fused", [False, True], ids=["formula", "fused"])
def test_features_are_averages_over_the_tokens_of_each_layer(fused):
    bert, examples = small(fused=fused, n_layers=3), rule(7)
    found = features(bert.train(), examples)
    assert [tuple(layer.shape) for layer in found] == [(7, 12)] * 3
    assert not bert.training
    for i, each in enumerate(examples):  # alone, without padding
        ids, types, _, _ = tensors([each])
        states = list(bert.states(ids, types))[1:]
        for layer, state in zip(found, states, strict=True):
            torch.testing.assert_close(layer[i], state.mean((0, 1)))


def test_frozen_states_carry_what_a_linear_classifier_needs():
    """The last layer alone, and four together; C is chosen on dev, and the weights stay."""
    pytest.importorskip("sklearn", reason="the extra reproduce is not installed")
    bert = small(n_layers=3, hidden_size=24)
    before = [p.clone() for p in bert.parameters()]
    examples = [example(8 + 3 * (i % 2), 5 + i % 7, label=i % 2) for i in range(80)]
    found = frozen(bert, Task(examples[:40], examples[40:60], examples[60:], 2), 30)
    assert found == {"last": 100, "concatenated": 100}
    assert all(torch.equal(a, b) for a, b in zip(before, bert.parameters(), strict=True))


def test_a_linear_classifier_sees_the_last_layers_and_as_many_labels_as_it_is_given(monkeypatch):
    linear_model = pytest.importorskip("sklearn.linear_model", reason="the extra reproduce is not installed")
    shapes, fit = set(), linear_model.LogisticRegression.fit

    def watched(self, inputs, labels):
        shapes.add((*inputs.shape, self.C))
        return fit(self, inputs, labels)

    monkeypatch.setattr(linear_model.LogisticRegression, "fit", watched)
    examples = [example(5 + i % 9, label=i % 2) for i in range(20)]
    frozen(small(n_layers=6), Task(examples, examples, examples, 2), 12)
    assert shapes == {(12, width, c) for width in (12, 48) for c in finetuning.PENALTIES}
