"""The masking strategies on the Bible: which words are asked for a capital, F1, and that each model gets its own."""

from __future__ import annotations

import json
from itertools import islice

import pytest
import torch
from bert_cases import run_of, small

from bert.masking import IGNORE, mask_tokens
from bert.reproduce.data import capitals as data
from bert.reproduce.data.corpora import Verses
from bert.reproduce.data.text import CLS, LENGTH, SEP, text
from bert.reproduce.training import pretraining
from bert.reproduce.trend import masking as trend

NAMES = ("base", "mask alone", "random alone")
VERSE = "Then Paul said unto him, O Agrippa, I go; But pray in Jerusalem's gate."


def words_asked(verse: str) -> dict[str, int]:
    ids, capital = data.as_verse(verse)
    pieces = [text().tokenizer.id_to_token(i) for i in ids]
    return {piece: label for piece, label in zip(pieces, capital, strict=True) if label != IGNORE}


def test_words_inside_a_verse_are_asked_and_no_letters_punctuation_or_later_pieces():
    found = words_asked(VERSE)
    known = {"paul": 1, "said": 0, "unto": 0, "him": 0, "go": 0, "but": 1, "pray": 0, "jerusalem": 1, "gate": 0}
    assert known.items() <= found.items()
    assert not {"then", "o", "i", ",", ";", "'", "s", "."} & set(found)
    assert not [piece for piece in found if piece.startswith("##")]
    assert sum(found.values()) == 4  # Agrippa's first piece is the fourth


def test_a_long_verse_is_cut_and_ends_with_sep():
    ids, capital = data.as_verse(" ".join([VERSE] * 4))
    assert len(ids) == len(capital) == LENGTH and (ids[0], ids[-1]) == (CLS, SEP)
    assert capital[0] == capital[-1] == IGNORE


def test_the_parts_share_no_book_and_no_text_twice():
    verses: Verses = {(book, 1, i): f"{book} {i}" for book in ("Job", "Acts", "Romans", "Mark") for i in (1, 2)}
    verses["Mark", 1, 3] = "Mark 1"
    assert data.of_part(verses, "test") == ["Job 1", "Job 2", "Acts 1", "Acts 2"]
    assert data.of_part(verses, "dev") == ["Romans 1", "Romans 2"]
    assert data.of_part(verses, "train") == ["Mark 1", "Mark 2"]


def test_real_verses_are_in_the_parts_and_half_of_their_capitals_are_no_names():
    found = data.capitals()
    assert {part: len(verses) for part, verses in found.items()} == {"train": 27287, "dev": 1343, "test": 2057}
    labels = [label for verse in found["test"] for label in verse.capital if label != IGNORE]
    assert (len(labels), sum(labels)) == (34755, 3041)


def test_f1_is_of_the_capitals():
    found, wanted = torch.tensor([1, 1, 0, 0, 1]), torch.tensor([1, 0, 0, 1, 1])
    assert trend.f1(found, wanted) == pytest.approx(200 * 2 / 6)
    assert trend.f1(torch.zeros(5, dtype=torch.long), wanted) == 0


def test_padding_is_asked_for_nothing():
    ids, capital, mask = trend.as_tensors([data.as_verse("In God trust"), data.as_verse(VERSE)])
    assert ids.shape == capital.shape == mask.shape
    assert set(capital[0, 5:].tolist()) == {IGNORE} and capital[0, :5].tolist() == [IGNORE, IGNORE, 1, 0, IGNORE]
    assert mask[0].sum() == 5


def test_the_bible_alone_is_read_and_another_pass_mixes_it_anew():
    bible = {i for document in text().train[trend.BIBLE] for sentence in document for i in sentence}
    first, again, other = (next(trend.steps(seed)) for seed in (3, 3, 4))
    assert first == again != other and len(first) == pretraining.BATCH
    assert {i for example in first for i in example.ids} <= bible | {CLS, SEP}


def test_it_trains_as_the_other_small_models_do(monkeypatch):
    """The loop is that of `pretraining.pretrain` on other text: the same text gives the same weights."""
    monkeypatch.setattr(pretraining, "QUICK", 20)
    monkeypatch.setattr(pretraining, "steps", trend.steps)
    monkeypatch.setattr(pretraining, "RATE", trend.RATE)
    ours, curve = trend.pretrain(run_of(3), "random alone")
    theirs, _ = pretraining.pretrain(run_of(3), "random alone", lambda done, bert: None)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)
    assert [point["step"] for point in curve] == [2, 4, 6, 8, 12, 16, 20]


def test_half_of_a_model_is_pre_trained():
    found = [trend.pretrain(run_of(), name)[0].bert.config for name in ("base", "half the layers", "half the width")]
    assert [(config.n_layers, config.hidden_size) for config in found] == [(2, 64), (1, 64), (2, 32)]


def test_each_strategy_is_asked_as_it_was_trained(monkeypatch):
    asked = []
    monkeypatch.setattr(
        pretraining, "mask_tokens", lambda ids, **given: asked.append(given) or mask_tokens(ids, **given)
    )
    model = trend.BertForPreTraining(trend.BASE)
    for name in NAMES:
        trend.held_out_nats(model, name, quick=True)
    assert [(given.get("mask"), given.get("random")) for given in asked] == [(None, None), (1.0, 0.0), (0.0, 1.0)]


def test_frozen_states_are_those_of_all_layers_at_the_words_that_are_asked():
    torch.manual_seed(0)
    bert = small(vocab_size=4000, max_positions=LENGTH)
    verses = data.capitals()["test"][:7]
    inputs, labels = trend.states(bert, verses)
    assert inputs.shape == (len(labels), 2 * bert.config.hidden_size)
    ids, capital, mask = trend.as_tensors(verses)
    last = bert(ids, attention_mask=mask)[0]
    torch.testing.assert_close(inputs[:, -bert.config.hidden_size :], last[capital != IGNORE])
    assert labels.tolist() == [label for verse in verses for label in verse.capital if label != IGNORE]


def test_restarts_differ_and_a_seed_gives_the_same_twice(monkeypatch):
    monkeypatch.setattr(trend, "part", lambda run, name, count=None: data.capitals()[name][:64])
    torch.manual_seed(0)
    bert = small(vocab_size=4000, max_positions=LENGTH)
    found = trend.on_capitals(run_of(3, quick=False), bert)
    assert len(found) == 3 and found == trend.on_capitals(run_of(3, quick=False), bert)


def test_a_quick_training_gives_what_is_kept():
    pytest.importorskip("sklearn", reason="the extra reproduce is not installed")
    found = {name: trend.train(run_of(), name) for name in ("base", trend.FROM_SCRATCH)}
    assert all(set(each) == {"curve", "pairs", "capitals", "frozen"} for each in found.values())
    assert len(found["base"]["curve"]) == 7 and not found[trend.FROM_SCRATCH]["curve"]
    assert json.loads(json.dumps(found)) == found


def test_seeds_are_new_ones(monkeypatch):
    seen = []
    monkeypatch.setattr(trend, "fine_tuned", lambda run, *given, **rest: seen.append(run.seed))
    monkeypatch.setattr(trend, "on_capitals", lambda run, bert: seen.append(run.seed))
    monkeypatch.setattr(trend, "frozen", lambda run, bert: seen.append(run.seed))
    trend.train(run_of(2), trend.FROM_SCRATCH)
    assert set(seen) == {112}


def test_batches_go_on_after_a_pass():
    few = list(islice(trend.steps(0), 3))
    assert len({tuple(example.ids) for batch in few for example in batch}) > 100
