"""How the trend claims train: restarts, labels and seeds; MiniLM's average; tokens of real sentences."""

from __future__ import annotations

import json
from itertools import repeat
from types import SimpleNamespace

import pytest
import torch
from bert_cases import batch, run_of, shake, small

from bert.masking import NspPair
from bert.reproduce.data.corpora import verses
from bert.reproduce.data.text import Example, Task
from bert.reproduce.models import minilm
from bert.reproduce.paper import whole_sets
from bert.reproduce.training import minilm as minilm_training
from bert.reproduce.training import pretraining
from bert.reproduce.training.minilm import MeanClassifier, examples
from bert.reproduce.trend import pretrained
from bert.reproduce.trend import small as trend
from bert.wordpiece import WordPiece


@pytest.fixture
def asked(monkeypatch):
    """What every fine-tuning is asked for; nothing is learned. An example's label is its place."""
    found = []
    part = [Example([2, 5, 3], [0, 0, 0], i) for i in range(5000)]
    monkeypatch.setattr(trend, "task", lambda name: Task(part, part, part[:30], 2))
    monkeypatch.setattr(trend, "fine_tune", lambda model, train, **given: found.append((model, train, given)))
    monkeypatch.setattr(trend, "tested", lambda model, test: float(len(found)))
    return found


def fine_tuned(seed=0, quick=False, **options):
    return trend.fine_tuned(run_of(seed, quick), small(), trend.SENTENCES, **({"trained": 2000} | options))


def test_restarts_differ_in_seed_and_head_and_not_in_labels(asked):
    assert fine_tuned(seed=3) == [1.0, 2.0, 3.0]
    assert [given["seed"] for _, _, given in asked] == [300, 301, 302]
    (first, train, given), (second, again, _), _ = asked
    assert [each.label for each in train] == list(range(2000)) and train == again
    assert not torch.equal(first.classifier.weight, second.classifier.weight)
    assert torch.equal(first.bert.pooler.weight, second.bert.pooler.weight) and first.bert is not second.bert
    assert given == {"epochs": 3, "rate": 2e-3, "batch": 32, "seed": 300, "warmup": 0.1}
    assert fine_tuned(seed=3) == [4.0, 5.0, 6.0] and torch.equal(asked[3][0].classifier.weight, first.classifier.weight)


def test_few_labels_are_others_in_each_restart(asked):
    fine_tuned(trained=trend.FEW, restarts=3, epochs=10, rate=0.5, batch=8, warmup=0.0)
    assert [[each.label for each in train] for _, train, _ in asked] == [list(range(i, i + 200)) for i in (0, 200, 400)]
    assert {given["rate"] for _, _, given in asked} == {1e-3}
    assert all((given["epochs"], given["batch"], given["warmup"]) == (10, 8, 0.0) for _, _, given in asked)


def test_a_quick_run_is_one_epoch_of_a_few(asked):
    assert fine_tuned(quick=True, restarts=4) == [1.0]
    assert len(asked[0][1]) == trend.QUICK and asked[0][2]["epochs"] == 1


def test_no_seed_of_an_earlier_version_is_used_again(monkeypatch):
    seen = []
    monkeypatch.setattr(trend, "both", lambda run, bert: seen.append(run.seed))
    monkeypatch.setattr(trend, "fine_tuned", lambda run, *given, **rest: seen.append(run.seed))
    trend.train(run_of(2), trend.FROM_SCRATCH)
    assert set(seen) == {22}


def test_a_pretraining_that_stops_early_is_the_beginning_of_a_whole_one(monkeypatch):
    """The same text, masks and rate: it ends where the whole one has its first point."""
    made = [NspPair([10 + i % 9, 11, 12], [13, 14 + i % 5], bool(i % 2)) for i in range(400)]
    monkeypatch.setattr(pretraining, "passes", lambda seed, held_out=False: repeat(made))
    monkeypatch.setattr(trend, "both", lambda run, bert: run.seed)
    found = trend.begin(run_of(3), pretraining.LTR)
    assert found["accuracy"] == 53
    whole = pretraining.pretrain(run_of(53), pretraining.LTR, lambda done, bert: None)[1]
    assert found["curve"] == whole[:1] and whole[0]["step"] == 0.1 * pretraining.QUICK < whole[1]["step"]


def test_a_whole_quick_training_gives_what_is_kept(monkeypatch):
    """Real code from the pre-training to the scores, on made-up text and tasks; JSON can hold it."""
    pytest.importorskip("sklearn", reason="the extra reproduce is not installed")
    made = [NspPair([10 + i % 9, 11, 12], [13, 14 + i % 5], bool(i % 2)) for i in range(400)]
    monkeypatch.setattr(pretraining, "passes", lambda seed, held_out=False: repeat(made))
    part = [Example([2, 7 + i % 2, 8 + i % 5, 3][: 3 + i % 2], [0] * (3 + i % 2), i % 2) for i in range(40)]
    monkeypatch.setattr(trend, "task", lambda name: Task(part, part, part, 2))
    found = {name: trend.train(run_of(), name) for name in ("base", pretraining.LTR, trend.FROM_SCRATCH)}
    everywhere = {"accuracy", "checkpoints"}
    assert set(found["base"]) == everywhere | {"curve", "frozen", "few", "labels", "grid", "tuning"}
    assert set(found[pretraining.LTR]) == everywhere | {"curve"}
    assert set(found[trend.FROM_SCRATCH]) == everywhere | {"few", "labels"}
    assert set(found[pretraining.LTR]["checkpoints"]) == {"0.1", "0.2", "0.4"} and not found["base"]["checkpoints"]
    assert set(found["base"]["grid"]) == {"200", "1500"} and len(found["base"]["grid"]["200"]) == 3
    assert {key: len(values) for key, values in found["base"]["tuning"].items()} == {"warm-up": 3, "batch": 4}
    assert json.loads(json.dumps(found)) == found
    scores = [x for by in found.values() for each in by["accuracy"].values() for x in each]
    assert len(scores) == 6 and all(0 <= x <= 100 for x in scores)


# ------------------------------------------------------------------------------------- MiniLM


@pytest.mark.parametrize("fused", [False, True], ids=["formula", "fused"])
def test_the_average_is_over_the_tokens_alone(fused):
    torch.manual_seed(0)
    model = shake(MeanClassifier(small(fused=fused), 4))
    ids, types, mask = batch()
    logits = model(ids, types, mask)
    hidden = model.bert(ids, types, mask)[0]
    for row in range(3):
        expected = model.classifier(hidden[row, mask[row] == 1].mean(0))
        torch.testing.assert_close(logits[row], expected)
    torch.testing.assert_close(model(ids), model(ids, None, torch.ones_like(ids)))


def test_real_sentences_are_cut_and_have_the_ids_of_our_tokeniser():
    texts, _ = verses(20)
    found = examples([(text, i % 2) for i, text in enumerate(texts)], 24)
    ids, _, mask = WordPiece(minilm() / "vocab.txt")(texts, max_tokens=24)
    assert [each.ids for each in found] == [row[real == 1].tolist() for row, real in zip(ids, mask, strict=True)]
    assert max(len(each.ids) for each in found) == 24 > min(len(each.ids) for each in found)
    assert [each.label for each in found] == [0, 1] * 10 and all(len(each.types) == len(each.ids) for each in found)
    assert max(len(each.ids) for each in examples([("a " * 90, 0)], 64)) == 64  # the next caller's length is its own


def test_tuning_asks_for_its_own_rates(monkeypatch):
    asked = []
    monkeypatch.setattr(minilm_training, "fine_tune", lambda model, data, **given: asked.append(given))
    first, again, other = (minilm_training.tuned(small(), [], 3, 2, seed) for seed in (4, 4, 5))
    assert asked[0] == {"epochs": 2, "rate": 1e-4, "head_rate": 3e-3, "batch": 16, "seed": 4}
    assert torch.equal(first.classifier.weight, again.classifier.weight)
    assert not torch.equal(first.classifier.weight, other.classifier.weight) and first.n_labels == 3


@pytest.mark.parametrize("seed", [0, 2])
def test_every_seed_learns_from_other_posts_and_all_are_tested_on_the_same(seed, monkeypatch):
    m, seen = pretrained, {}
    posts = [(f"post {i}", i % 20) for i in range(3000)]
    data = SimpleNamespace(train=posts, dev=[], test=posts[:700], labels=[""] * 20)
    monkeypatch.setattr(m.datasets, "labelled", lambda name: data)
    monkeypatch.setattr(m, "examples", lambda texts, longest: list(texts))
    monkeypatch.setattr(m, "load_pretrained", lambda path, fused: small())
    monkeypatch.setattr(m, "tuned", lambda bert, part, *rest: seen.update(part=part))
    monkeypatch.setattr(m, "predict", lambda model, test: seen.update(test=test) or [label for _, label in test])

    def tfidf(train, dev, texts):
        seen.update(train=train, dev=dev, texts=texts)
        return [0] * len(texts)

    monkeypatch.setattr(m.datasets, "tfidf_baseline", tfidf)
    found = m.minilm_against_tfidf(run_of(seed, quick=False))
    start = 500 * (m.FIRST_POSTS + seed)
    assert seen["part"] == posts[start : start + 500] == [*seen["dev"], *seen["train"]]
    assert (len(seen["dev"]), len(seen["test"])) == (50, 600)
    assert (
        seen["texts"]
        == [text for text, _ in seen["test"]]
        == [text for text, _ in m.datasets.in_order(posts[:700], lambda each: each[0])[:600]]
    )
    assert found.details["minilm"] == {"accuracy": 100, "macro_f1": 100} and found.value["accuracy"] > 90


def test_whole_sets_are_whole(monkeypatch):
    m, seen = whole_sets, []
    sets = {
        name: SimpleNamespace(train=[(name, 0)] * 70, dev=[(name, 1)] * 9, test=[(name, 1)] * 60, labels=["a", "b"])
        for name in ("newsgroups", "reuters52")
    }
    monkeypatch.setattr(m.datasets, "labelled", sets.__getitem__)
    monkeypatch.setattr(m, "examples", lambda texts, longest: list(texts))
    monkeypatch.setattr(m, "load_pretrained", lambda path, fused: small())
    monkeypatch.setattr(m, "tuned", lambda bert, part, n, epochs, seed, **rest: seen.append((len(part), epochs, rest)))
    monkeypatch.setattr(m, "predict", lambda model, test: [1] * len(test))
    monkeypatch.setattr(m.datasets, "tfidf_baseline", lambda train, dev, texts: [0] * (len(texts) - 6) + [1] * 6)
    found = m.whole_sets(run_of(quick=False))
    assert seen == [(79, 3, {"batch": 32, "device": "cpu"})] * 2
    assert found.value == {
        "newsgroups_accuracy": 90, "reuters_accuracy": 90,
        "newsgroups_macro_f1": pytest.approx(100 - 100 * (2 * 6 / 66) / 2),
        "reuters_macro_f1": pytest.approx(100 - 100 * (2 * 6 / 66) / 2),
    }  # fmt: skip
