"""Pre-training in small: what is asked for, the schedule, the curve; and that what is held out stays so."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random
from types import SimpleNamespace

import pytest
import torch
from bert_cases import run_of

from bert import BertForPreTraining
from bert.masking import NspPair
from bert.reproduce.data.text import CLS, MASK, PAD, SEP, Example
from bert.reproduce.training import pretraining
from bert.reproduce.training.pretraining import LTR, as_examples, config, linear, objective, pretrain, scores

A_PASS = 660  # pairs: ten batches and some
NAMES = ["base", "no NSP", LTR, "mask alone", "random alone", "half the layers", "half the width"]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# ------------------------------------------------------------------------------------- what is asked for


def test_what_each_experiment_changes():
    base = pretraining.BASE
    assert config("base") == config("no NSP") == config("mask alone") == config("random alone") == base
    assert config("half the layers") == replace(base, n_layers=base.n_layers // 2)
    half = {"hidden_size": base.hidden_size // 2, "n_heads": base.n_heads // 2, "init_std": 0.5 / 32**0.5}
    assert config("half the width") == replace(base, **half)
    assert config(LTR) == replace(base, causal=True)
    assert base.hidden_size // base.n_heads == config("half the width").hidden_size == 32  # heads of the same size
    assert pretraining.WITHOUT_NSP == ("no NSP", LTR)
    assert not set(pretraining.SIZES) & set(pretraining.MASKING)  # one change each


def test_left_to_right_finds_the_next_token():
    """None of them is [SEP] or padding, and nothing is hidden."""
    ids = torch.tensor([[CLS, 7, 8, SEP, 9, SEP], [CLS, 6, SEP, PAD, PAD, PAD]])
    inputs, labels = objective(LTR, ids, seeded())
    assert inputs.equal(ids)
    assert labels.tolist() == [[7, 8, -100, 9, -100, -100], [6, -100, -100, -100, -100, -100]]


@pytest.mark.parametrize(
    ("name", "mask", "random"),
    [
        ("base", 0.8, 0.1),
        ("no NSP", 0.8, 0.1),
        ("mask alone", 1, 0),
        ("random alone", 0, 1),
        ("half the width", 0.8, 0.1),
    ],
)
def test_masks_of_each_experiment(name, mask, random):
    ids = torch.randint(5, 4000, (100, 300), generator=seeded(1))
    ids[:, 0], ids[:, 150], ids[:, -9:] = CLS, SEP, PAD
    inputs, labels = objective(name, ids, seeded(2))
    chosen, special = labels != -100, ids < 5
    assert not (chosen & special).any() and inputs[~chosen].equal(ids[~chosen]) and labels[chosen].equal(ids[chosen])
    assert chosen[~special].float().mean().item() == pytest.approx(0.15, abs=0.01)
    masked, kept = (inputs[chosen] == MASK).float().mean().item(), (inputs == ids)[chosen].float().mean().item()
    assert masked == pytest.approx(mask, abs=0.03) and 1 - masked - kept == pytest.approx(random, abs=0.03)


def test_pairs_become_examples():
    pairs = [NspPair([7, 8], [9], True), NspPair([7], [9], False)]
    assert as_examples(pairs) == [
        Example([CLS, 7, 8, SEP, 9, SEP], [0, 0, 0, 0, 1, 1], 1), Example([CLS, 7, SEP, 9, SEP], [0, 0, 0, 1, 1], 0),
    ]  # fmt: skip


def test_the_rate_goes_up_for_a_tenth_and_then_down_to_nothing():
    shares = [linear(done, 100) for done in range(101)]
    assert shares[:11] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1])
    assert shares[55] == pytest.approx(0.5) and shares[99] == pytest.approx(1 / 90) and shares[100] == 0
    assert shares[10:] == sorted(shares[10:], reverse=True)


# ------------------------------------------------------------------------------------- a run


@pytest.fixture
def asked(monkeypatch):
    """Passes over made-up text, in which each token says the next; those held out are of other tokens."""
    found = []

    def passes(seed, *, held_out=False):
        found.append((seed, held_out))
        draw, first = Random(seed), 3000 if held_out else 10
        while True:
            starts = [first + draw.randrange(20) for _ in range(A_PASS)]
            yield [NspPair([s, s + 1, s + 2, s + 3], [s + 4, s + 5, s + 6], bool(i % 3)) for i, s in enumerate(starts)]

    monkeypatch.setattr(pretraining, "passes", passes)
    return found


def trained(name="base", seed=0):
    seen = []
    model, curve = pretrain(run_of(seed), name, lambda done, bert: seen.append((done, bert.pooler.weight.sum().item())))
    return model, curve, seen


def test_a_curve_has_its_points(asked):
    model, curve, seen = trained()
    assert [point["step"] for point in curve] == [2, 4, 8, 12, 16, 20] == [done for done, _ in seen]
    assert [set(point) for point in curve] == [{"step", "loss", "perplexity", "nsp"}] * 6
    assert all(point["perplexity"] == math.exp(point["loss"]) and 0 <= point["nsp"] <= 100 for point in curve)
    assert len({weight for _, weight in seen}) == 6  # the model of that step, not of the last
    assert seen[-1][1] == model.bert.pooler.weight.sum().item() and model.training


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_numbers_and_another_one_others(name, asked):
    first, again, other = trained(name), trained(name), trained(name, seed=1)
    assert first[1:] == again[1:] != other[1:]
    for ours, theirs in zip(first[0].parameters(), again[0].parameters(), strict=True):
        assert ours.equal(theirs)


def test_every_experiment_is_another_training_with_the_same_text(asked):
    losses = [trained(name)[1][-1]["loss"] for name in NAMES]
    assert len(set(losses)) == len(NAMES)
    assert set(asked) == {(0, False), (0, True)}


@pytest.mark.parametrize("name", ["base", LTR])
def test_it_learns(name, asked, monkeypatch):
    """Of the text that it reads, far better than a guess among all tokens."""
    passes = pretraining.passes
    monkeypatch.setattr(pretraining, "passes", lambda seed, held_out=False: passes(seed))
    monkeypatch.setattr(pretraining, "QUICK", 60)
    _, curve, _ = trained(name)
    assert curve[0]["loss"] > 6 and curve[-1]["loss"] < 4


def test_nothing_that_is_held_out_is_learned(asked, monkeypatch):
    """The tokens to be found are of the training text; scores are of the held-out text, the same for every seed."""
    learned, scored = set(), []
    loss, forward = BertForPreTraining.loss, BertForPreTraining.forward

    def watched(self, inputs, labels, *rest):
        learned.update(labels[labels >= 5].tolist())
        return loss(self, inputs, labels, *rest)

    def read(self, ids, types=None, mask=None, *, at=None):
        if not self.training:
            scored.append(ids)
        return forward(self, ids, types, mask, at=at)

    monkeypatch.setattr(BertForPreTraining, "loss", watched)
    monkeypatch.setattr(BertForPreTraining, "forward", read)
    trained(seed=3)
    assert learned and max(learned) < 100
    assert set(asked) == {(3, False), (0, True)}
    plain = scored[0][(scored[0] != MASK) & (scored[0] >= 5)]
    assert (plain >= 3000).float().mean() > 0.9 and all(ids.equal(scored[0]) for ids in scored)


@pytest.mark.parametrize("name", ["base", *pretraining.WITHOUT_NSP])
def test_the_next_sentence_is_learned_or_left_out(name, asked):
    torch.manual_seed(0)
    fresh = BertForPreTraining(config(name)).nsp.weight
    assert trained(name)[0].nsp.weight.equal(fresh) is (name in pretraining.WITHOUT_NSP)


def test_each_pair_of_a_pass_is_read_once_but_for_what_fills_no_batch(asked, monkeypatch):
    monkeypatch.setattr(pretraining, "QUICK", 15)
    read = []
    loss = BertForPreTraining.loss

    def watched(self, inputs, labels, is_next, types, mask):
        read.append((len(inputs), is_next.tolist()))
        return loss(self, inputs, labels, is_next, types, mask)

    monkeypatch.setattr(BertForPreTraining, "loss", watched)
    trained()
    assert [rows for rows, _ in read] == [pretraining.BATCH] * 15
    labels = [label for _, labels in read for label in labels]
    assert labels == [bool(i % 3) for i in range(640)] + [bool(i % 3) for i in range(320)]


def test_long_gradients_are_cut(asked, monkeypatch):
    """Adam forgets their length but for its memory: what is cut is seen before the step."""
    norms = []
    clip = torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *args: norms.append((clip(*args), args[1])))
    trained()
    assert len(norms) == pretraining.QUICK and {most for _, most in norms} == {pretraining.CLIP}


# ------------------------------------------------------------------------------------- scores


def test_scores_by_hand(asked):
    """A model that says nothing: every token alike, and IsNext always."""
    model = BertForPreTraining(config("base"))
    for part in (model.bert.embeddings.tokens.weight, model.nsp.weight, model.nsp.bias, model.mlm.bias):
        torch.nn.init.zeros_(part)
    found = scores(model.train(), "base", 60)
    assert found["loss"] == pytest.approx(math.log(pretraining.VOCABULARY), rel=1e-6)
    assert found["perplexity"] == pytest.approx(pretraining.VOCABULARY, rel=1e-4)
    assert found["nsp"] == pytest.approx(100 * 40 / 60)  # two of three are labelled IsNext
    assert model.training and found == scores(model, "base", 60)


def test_scores_weigh_every_token_alike(asked):
    """Not every batch: 55 pairs are a batch of 50 and one of 5."""
    torch.manual_seed(0)
    model = BertForPreTraining(config("base"))
    generator, total, count = seeded(), 0.0, 0
    examples = as_examples(next(pretraining.passes(0, held_out=True))[:55])
    model.eval()
    for part in (examples[:50], examples[50:]):
        ids, types, mask, _ = pretraining.tensors(part)
        inputs, labels = objective("base", ids, generator)
        with torch.no_grad():
            total += model.loss(inputs, labels, None, types, mask).item() * int((labels != -100).sum())
        count += int((labels != -100).sum())
    assert scores(model, "base", 55)["loss"] == pytest.approx(total / count, rel=1e-5)


def test_frequencies_by_hand(asked, monkeypatch):
    """Every asked token of the held-out text is as frequent as all others, or never seen."""
    tokens = [[[[3000 + i for i in range(26)]] * 10]]
    monkeypatch.setattr(pretraining, "text", lambda: SimpleNamespace(train=tokens))
    assert pretraining.by_frequency(60) == pytest.approx(-math.log(11 / (260 + pretraining.VOCABULARY)), rel=1e-6)
    monkeypatch.setattr(pretraining, "text", lambda: SimpleNamespace(train=[[[[7] * 1000]]]))
    assert pretraining.by_frequency(60) == pytest.approx(-math.log(1 / (1000 + pretraining.VOCABULARY)), rel=1e-6)
