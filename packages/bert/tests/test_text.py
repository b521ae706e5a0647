"""What the small models read: the vocabulary, examples, batches, and parts of which none holds another's text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bert.reproduce.data import text
from bert.reproduce.data.sets import labelled, normalise
from bert.reproduce.data.text import CLS, LENGTH, MASK, PAD, SEP, UNK, Example, Text, batches, pack, tensors, vocabulary
from bert.reproduce.training import pretraining
from bert.wordpiece import SPECIAL, WordPiece

LINES = [" ".join(Random(i).choices(["the", "cats", "sat", "satire", "naïve", "文字", "[MASK]", "5th"], k=6))
         for i in range(200)]  # fmt: skip

# ------------------------------------------------------------------------------------- the vocabulary


def test_the_vocabulary_is_the_same_in_another_process():
    """Characters within words would get their ids in an order that changes from process to process."""
    code = "import json, sys; from bert.reproduce.data.text import vocabulary; lines = json.load(sys.stdin); "
    code += "print(json.dumps([vocabulary(lines, 60).get_vocab() for _ in range(2)]))"
    other = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(LINES), env=os.environ | {"PYTHONHASHSEED": "7"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    ours = vocabulary(LINES, 60).get_vocab()
    assert json.loads(other.stdout) == [ours, ours]


def test_special_tokens_are_first_and_none_is_found_in_text():
    tokenizer = vocabulary(LINES, 90)
    assert [tokenizer.token_to_id(token) for token in SPECIAL] == [PAD, UNK, CLS, SEP, MASK] == list(range(5))
    for line in (*LINES, "[CLS] x [SEP]"):
        assert not {PAD, CLS, SEP, MASK} & set(tokenizer.encode(line, add_special_tokens=False).ids)
    assert tokenizer.encode("THE Naive", add_special_tokens=False).tokens == ["the", "naive"]
    assert tokenizer.get_vocab_size() <= 90


def test_the_library_and_ours_agree_on_the_vocabulary():
    tokenizer = vocabulary(LINES, 80)
    ours = WordPiece(tokenizer.get_vocab())
    plain = [line.replace("[MASK]", "mask") for line in LINES]
    assert [ours.encode(line) for line in plain] == [
        found.ids for found in tokenizer.encode_batch(plain, add_special_tokens=False)
    ]


# ------------------------------------------------------------------------------------- examples and batches


def test_packing():
    assert pack([7, 8], None, 1) == Example([CLS, 7, 8, SEP], [0, 0, 0, 0], 1)
    assert pack([7], [8, 9], 0) == Example([CLS, 7, SEP, 8, 9, SEP], [0, 0, 0, 1, 1, 1], 0)
    cut = pack(range(10, 100), None, 1)
    assert cut == Example([CLS, *range(10, 10 + LENGTH - 2), SEP], [0] * LENGTH, 1)


def test_tensors_are_padded_to_the_longest():
    ids, types, mask, labels = tensors([pack([7], [8, 9], 1), pack([6], None, 0)])
    assert ids.tolist() == [[CLS, 7, SEP, 8, 9, SEP], [CLS, 6, SEP, PAD, PAD, PAD]]
    assert types.tolist() == [[0, 0, 0, 1, 1, 1], [0] * 6]
    assert mask.tolist() == [[1] * 6, [1, 1, 1, 0, 0, 0]]
    assert labels.tolist() == [1, 0]
    assert tensors([pack([7], None, 1), pack([], None, 1)], pad=9)[0].tolist() == [[CLS, 7, SEP], [CLS, SEP, 9]]


@settings(deadline=None)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=80), st.integers(1, 20), st.integers(1, 3), st.integers(0, 9))
def test_every_pass_has_every_example_once(lengths, size, epochs, seed):
    examples = [Example([5] * n, [0] * n, i) for i, n in enumerate(lengths)]
    found = list(batches(examples, size, epochs, seed))
    a_pass = -(-len(examples) // size)
    assert len(found) == epochs * a_pass
    for epoch in range(epochs):
        groups = found[epoch * a_pass : (epoch + 1) * a_pass]
        assert sorted(each.label for group in groups for each in group) == list(range(len(examples)))
        assert sorted(map(len, groups))[1:] == [size] * (a_pass - 1)
    assert found == list(batches(examples, size, epochs, seed))


def test_batches_have_like_lengths_in_another_order_each_time():
    draw = Random(0)
    examples = [Example([5] * draw.randint(1, 60), [], i) for i in range(400)]
    found = list(batches(examples, 16, 2, 0))
    spreads = [max(lengths) - min(lengths) for lengths in ([len(each.ids) for each in group] for group in found)]
    assert max(spreads) <= 14
    first, second = found[:25], found[25:]
    assert first != second and first != list(batches(examples, 16, 1, 1))
    assert {tuple(each.label for each in group) for group in first}.isdisjoint(
        tuple(each.label for each in group) for group in second
    )
    mean = [sum(len(each.ids) for each in group) / 16 for group in first]
    assert abs(sum(mean[:12]) / 12 - sum(mean[13:]) / 12) < 15  # in no order: sorted ones would be 30 apart


# ------------------------------------------------------------------------------------- pairs


def made_up(monkeypatch):
    """Two corpora: one of tokens below 1000, one above; what is held out is odd."""

    def corpus(start, odd):
        return [[[start + 20 * i + 2 * j + odd] * 9 for j in range(8)] for i in range(40)]

    whole = Text(None, [corpus(100, 0), corpus(1100, 0)], [corpus(100, 1), corpus(1100, 1)])
    monkeypatch.setattr(text, "text", lambda: whole)


def test_pairs_are_mixed_and_a_random_second_sentence_is_of_any_corpus(monkeypatch):
    made_up(monkeypatch)
    found = next(text.passes(0))
    same = {is_next: [(p.a[0] < 1000) == (p.b[0] < 1000) for p in found if p.is_next == is_next] for is_next in (0, 1)}
    assert all(same[1]) and 0.3 < sum(same[0]) / len(same[0]) < 0.7
    assert all(len(pair.a) + len(pair.b) + 3 <= LENGTH for pair in found)
    sides = [pair.a[0] < 1000 for pair in found]
    assert 0.2 < sum(sides[: len(sides) // 2]) / (len(sides) // 2) < 0.8  # not one corpus after the other


def test_every_pass_has_pairs_of_its_own_and_a_seed_gives_the_same(monkeypatch):
    made_up(monkeypatch)
    first, again, other = ([next(feed), next(feed)] for feed in map(text.passes, (0, 0, 1)))
    assert first == again != other and first[0] != first[1]
    assert len({p.a[0] for p in first[0]} & {p.a[0] for p in first[1]}) > 100  # of the same text


def test_pairs_are_of_the_part_that_is_asked_for(monkeypatch):
    made_up(monkeypatch)
    for held_out in (False, True):
        found = next(text.passes(0, held_out=held_out))
        assert {token % 2 for pair in found for token in (*pair.a, *pair.b)} == {int(held_out)}


# ------------------------------------------------------------------------------------- the real text


def test_the_real_text_is_as_long_as_stated_and_nothing_held_out_is_in_it():
    found = text.text()
    assert found.tokenizer.get_vocab_size() == text.VOCABULARY
    for train, held_out in zip(found.train, found.held_out, strict=True):
        seen = {tuple(sentence) for document in train for sentence in document}
        long = [s for document in held_out for s in map(tuple, document) if len(s) > 12]
        assert long and not seen & set(long)
    tokens = sum(len(s) for train in found.train for document in train for s in document)
    assert 1_900_000 < tokens < 2_400_000
    unknown = sum(s.count(UNK) for train in found.train for document in train for s in document)
    assert unknown < 1e-4 * tokens


@pytest.mark.parametrize("held_out", [False, True])
def test_the_real_text_has_as_many_pairs_as_are_stated(held_out):
    found = next(text.passes(0, held_out=held_out))
    passes = pretraining.STEPS * pretraining.BATCH / len(found)
    assert len(found) >= pretraining.ASKED if held_out else 13 < passes < 14
    assert max(len(pair.a) + len(pair.b) for pair in found) == LENGTH - 3
    assert sum(pair.is_next for pair in found) / len(found) == pytest.approx(0.5, abs=0.03)


def test_words_are_counted_out():
    documents = [["one two", "three"], ["four five six"], ["seven"]]
    assert text._of_words(documents, 3) == documents[:1]
    assert text._of_words(documents, 4) == documents[:2]
    assert text._of_words(documents, 99) == documents


def test_sentences_of_the_first_task():
    task = text.task(text.SENTENCES)
    assert [len(part) for part in (task.train, task.dev, task.test)] == [5543, 1060, 4000] and task.n_labels == 2
    data = labelled("movie_sentences")
    spare = 2940
    texts = (data.train[:-spare], data.dev, [*data.test, *data.train[-spare:]])
    for part, expected in zip((task.train, task.dev, task.test), texts, strict=True):
        assert [each.label for each in part] == [label for _, label in expected]
    keys = [{normalise(line) for line, _ in part} for part in texts]
    assert not keys[0] & keys[2] and not keys[0] & keys[1] and not keys[1] & keys[2]
    assert {each.types[-1] for each in task.test} == {0} and max(len(each.ids) for each in task.train) <= LENGTH


def test_pairs_of_the_second_task():
    task = text.task(text.PAIRS)
    assert [len(part) for part in (task.train, task.dev, task.test)] == [text.MOST, 2202, 3544]
    for part in (task.train, task.dev, task.test):
        assert sum(each.label for each in part) / len(part) == pytest.approx(0.5, abs=0.02)
        assert {each.ids.count(SEP) for each in part} == {2} and {each.types[-1] for each in part} == {1}
        assert max(len(each.ids) for each in part) == 2 * text.SIDE + 3
    seen = {tuple(each.ids) for each in task.train}
    assert not seen & {tuple(each.ids) for part in (task.dev, task.test) for each in part}
    torch.testing.assert_close(tensors(task.test[:2])[0][:, 0], torch.tensor([CLS, CLS]))
