"""The text, the judgements, and what a trained model is asked: on a toy text, without anything that is fetched."""

from __future__ import annotations

import numpy as np
import pytest

from papertest.claims import Run
from papertest.measure import Silent

from word2vec.reproduce import data, training
from word2vec.reproduce.training import ARMS
from word2vec.vocabulary import Vocabulary
from word2vec.windows import Text

RUN = Run(0, "cpu", True, {}, Silent().track, lambda run, function, args: function(run, *args))


@pytest.fixture
def toy(monkeypatch):
    """Every word of the questions and of the pairs, at random, but the unseen ones."""
    known = {word for a, b, _ in data.pairs("wordsim") + data.pairs("simlex") for word in (a, b)}
    known |= {word.lower() for four in data.questions()["family"] for word in four}
    words = Vocabulary(tuple(sorted(known - data.unseen_words())), (5,) * len(known - data.unseen_words()))
    ids = np.random.default_rng(0).integers(0, len(words), 3_000)
    text = Text(ids, np.arange(3_000) // 10)
    monkeypatch.setattr(data, "vocabulary", lambda: words)
    monkeypatch.setattr(data, "text", lambda: text)
    monkeypatch.setattr(data, "sentences", lambda: tuple([] for _ in range(300)))
    monkeypatch.setattr(training, "BUCKETS", 500)
    monkeypatch.setattr(training, "QUICK", 0.1)
    return words


def test_words_are_letters_in_lower_case_without_sources():
    assert data.words("A dog's [Obs.] Bark; 12 -- Shak. [1913 Webster]") == ["a", "dog", "s", "bark", "shak"]


def test_a_definition_begins_with_its_headword_and_has_three_words():
    meanings = [{"text": "To cut off.", "examples": ["Decide us."]}, {"text": "Cut.", "examples": []}]
    entries = {"Decide": {"pos": [{"definitions": meanings}, {}]}}
    assert data.definitions(entries) == [["decide", "to", "cut", "off"], ["decide", "decide", "us"]]


def test_the_judgements_are_as_many_as_their_authors_say():
    assert [len(data.pairs(name)) for name in data.PAIRS] == [353, 999]
    kinds = [name.startswith("gram") for name, four in data.questions().items() for _ in four]
    assert (kinds.count(False), kinds.count(True)) == (8869, 10675)
    assert len(data.documents().stories) == 50
    assert data.documents().judged[data.documents().above].shape == (1225,)


def test_unseen_words_are_in_no_question_and_not_in_wordsim():
    unseen = data.unseen_words()
    assert len(unseen) == 209
    assert not unseen & {word.lower() for section in data.questions().values() for four in section for word in four}
    assert not unseen & {word for a, b, _ in data.pairs("wordsim") for word in (a, b)}


def test_a_part_is_the_first_sentences(toy):
    assert len(data.part(0.25)) == 750
    assert data.part(0.25).sentences.max() == 74
    assert len(data.part(1)) == 3_000


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_trains_and_answers(toy, name):
    found = training.trained(RUN, name)
    assert found["loss"][1] > 0
    assert -1 <= found["wordsim"] <= 1
    assert sum(asked for _, asked in found["questions"].values()) >= 500
    assert ("unseen" in found) == (name == "subwords")
    assert (found["kept"] >= 1) == (ARMS[name].t is None)  # what fills the last block counts too


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(toy):
    once, again = (training.trained(RUN, "cbow") for _ in range(2))
    assert once == again
    assert training.trained(Run(1, "cpu", True, {}, RUN.track, RUN.share), "cbow")["loss"] != once["loss"]


def test_vectors_that_know_the_judgements_have_a_correlation_of_one(toy, monkeypatch):
    chosen = tuple((a, b, float(i)) for i, (a, b) in enumerate(zip(toy.words[::2], toy.words[1::2], strict=False)))
    monkeypatch.setattr(data, "pairs", lambda name: chosen)
    angles = np.zeros(len(toy))
    angles[1 : 2 * len(chosen) : 2] = np.linspace(3, 0, len(chosen))
    found = training.asked(np.stack((np.cos(angles), np.sin(angles)), axis=1))
    assert found["wordsim"] == pytest.approx(1)
    assert found["semantic"] == pytest.approx(100 * found["questions"]["family"][0] / found["questions"]["family"][1])


def test_the_factorised_matrix_answers_too(toy):
    found = training.factorised(RUN)
    assert found["entries"] > 0
    assert -1 <= found["simlex"] <= 1
