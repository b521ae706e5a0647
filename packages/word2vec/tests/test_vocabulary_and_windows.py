"""Words, counts, what is left out, windows, pairs and noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from word2vec_cases import SENTENCES, text, vocabulary

from word2vec import Text, Vocabulary, contexts, keep_probability, negatives, noise_distribution, pairs, subsample


def test_the_most_frequent_word_comes_first_and_equal_counts_keep_their_order():
    words = vocabulary()
    assert words.words == ("the", "mat", "cat", "sat", "on", "a", "dog", "is")
    assert words.counts == (4, 3, 2, 2, 2, 2, 1, 1)
    assert words.frequencies.sum() == pytest.approx(1)


def test_rare_words_are_left_out_and_unknown_ones_refused_or_skipped():
    words = Vocabulary.from_sentences(SENTENCES, min_count=3)
    assert len(words) == 2 and "cat" not in words
    assert words.ids(["the", "cat", "mat"], unknown="skip").tolist() == [0, 1]
    with pytest.raises(ValueError, match="word must be one of the vocabulary's 2 words, got 'cat'"):
        words.ids(["the", "cat"])


@pytest.mark.parametrize("sentences", ["the cat", ["the cat"]])
def test_a_str_is_no_sentence(sentences):
    with pytest.raises(ValueError, match="sentence must be a sequence of words, got the str"):
        Vocabulary.from_sentences(sentences, min_count=1)


@pytest.mark.parametrize("value", [0, 1.0, True, "1"])
def test_min_count(value):
    with pytest.raises(ValueError, match="min_count must be a whole number of at least 1"):
        Vocabulary.from_sentences(SENTENCES, min_count=value)


def test_no_word_left():
    with pytest.raises(ValueError, match="sentences must have a word that occurs min_count times, 9, got none"):
        Vocabulary.from_sentences(SENTENCES, min_count=9)


@given(st.floats(1e-8, 1), st.floats(1e-6, 1e-2))
def test_equation_5_and_what_the_program_adds(f, t):
    paper, code = (keep_probability(np.array([f]), t, formula=name)[0] for name in ("paper", "code"))
    assert paper == pytest.approx(1 - max(0, 1 - (t / f) ** 0.5))
    assert paper <= code <= 1
    assert code == pytest.approx(min(1, (t / f) ** 0.5 + t / f))


@pytest.mark.parametrize("f", [np.array([0.0]), np.array([1.5]), np.array([1]), np.array([np.nan]), np.ones((1, 1))])
def test_frequencies_are_refused(f):
    with pytest.raises(ValueError, match="frequencies must be a vector of floats above 0 and at most 1"):
        keep_probability(f)


def test_noise_is_the_three_quarter_power():
    assert noise_distribution([16, 1]) == pytest.approx([8 / 9, 1 / 9])
    assert noise_distribution([16, 1], power=0) == pytest.approx([0.5, 0.5])
    with pytest.raises(ValueError, match="counts must be a vector of whole numbers of at least 1"):
        noise_distribution([1, 0])


@given(st.integers(0, 1000), st.integers(1, 6), st.integers(1, 50), st.booleans())
def test_windows_are_what_a_loop_says(seed, c, tokens, dynamic):
    given_text = text(seed, tokens)
    around, mask = contexts(given_text, c, np.random.default_rng(seed), dynamic)
    R = np.random.default_rng(seed).integers(1, c, tokens, endpoint=True) if dynamic else np.full(tokens, c)
    expected = [
        (given_text.ids[i], given_text.ids[j])
        for i in range(tokens)
        for j in range(max(0, i - R[i]), min(tokens, i + R[i] + 1))
        if j != i and given_text.sentences[j] == given_text.sentences[i]
    ]
    inputs, outputs = pairs(given_text, c, np.random.default_rng(seed), dynamic)
    assert list(zip(inputs, outputs, strict=True)) == expected
    assert mask.sum() == len(expected) and (around[~mask] == 0).all()


def test_what_is_left_out_moves_its_neighbours_together():
    given_text = Text(np.array([0, 1, 0, 2]), np.zeros(4, dtype=np.int64))
    kept = subsample(given_text, np.array([0.0, 1.0, 1.0]), np.random.default_rng(0))
    assert kept.ids.tolist() == [1, 2]
    inputs, outputs = pairs(kept, 1, np.random.default_rng(0))
    assert (inputs.tolist(), outputs.tolist()) == ([1, 2], [2, 1])


def test_keep_is_refused():
    with pytest.raises(ValueError, match="keep must be a vector of probabilities"):
        subsample(text(), np.array([1.5] * 12), np.random.default_rng(0))
    with pytest.raises(ValueError, match="keep must have a probability for each word, at least 12, got 3"):
        subsample(text(), np.ones(3), np.random.default_rng(0))


def test_noise_words_are_drawn_from_their_distribution():
    drawn = negatives(np.array([0.5, 0.0, 0.5]), (10_000,), np.random.default_rng(0))
    assert set(drawn) == {0, 2} and abs((drawn == 0).mean() - 0.5) < 0.02
    with pytest.raises(ValueError, match="noise must be a vector of probabilities that sum to 1"):
        negatives(np.array([0.5, 0.6]), (1,), np.random.default_rng(0))


def test_a_text_is_in_order():
    with pytest.raises(ValueError, match="sentences must never fall"):
        Text(np.array([0, 1]), np.array([1, 0]))
    with pytest.raises(ValueError, match="ids must be a vector of int64, got float64"):
        Text(np.array([0.0]), np.array([0]))
    assert Text.from_sentences(SENTENCES, vocabulary()).sentences.tolist() == [0] * 6 + [1] * 6 + [3] * 5
