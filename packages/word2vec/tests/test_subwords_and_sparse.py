"""Subwords, PMI and SVD, and what vectors are asked, against gensim, scikit-learn and loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from gensim.models import KeyedVectors
from word2vec_cases import text, vocabulary

from word2vec import (
    SubwordSkipGram,
    Vocabulary,
    analogies,
    cooccurrences,
    pairs,
    pmi,
    ppmi,
    read_questions,
    sentence_vectors,
    spearman,
    svd_vectors,
)  # fmt: skip
from word2vec.fast import Blocked, negative_sampling_step
from word2vec.similarity import sif_weights
from word2vec.subwords import fnv1a, n_grams


def test_the_papers_example():
    assert n_grams("where", 3, 3) == ("<wh", "whe", "her", "ere", "re>")
    assert fnv1a("") == 2166136261 and fnv1a("a") == 0xE40C292C  # the function's own published values
    with pytest.raises(ValueError, match="word must be a str of at least one letter, got ''"):
        n_grams("")
    with pytest.raises(ValueError, match="longest must be a whole number of at least 4, got 3"):
        n_grams("where", 4, 3)


def test_a_word_is_its_own_vector_and_its_n_grams():
    words = vocabulary()
    made = SubwordSkipGram(words, 5, buckets=50)
    grams = sum(made.v[len(words) + fnv1a(g) % 50] for g in n_grams("cat"))
    torch.testing.assert_close(made.vectors()[words.id("cat")], (made.v[words.id("cat")] + grams).detach())
    torch.testing.assert_close(made.vector("cat"), grams.detach())
    assert made.vector("catalogue").isfinite().all()
    with pytest.raises(ValueError, match="word must have an n-gram of 6 to 6 letters, got 'a'"):
        SubwordSkipGram(words, 5, 6, 6, buckets=50).vector("a")


def test_a_step_of_subwords_takes_its_share_of_the_gradient():
    """One word with seven rows: each takes a seventh of the gradient of v_I."""
    words = Vocabulary(("where", "there"), (1, 1))
    made = SubwordSkipGram(words, 5, 3, 4, buckets=1000).double()
    given_text = type(text())(np.array([0, 1]), np.zeros(2, dtype=np.int64))
    inputs, outputs = (torch.from_numpy(x) for x in pairs(given_text, 1, np.random.default_rng(0)))
    pool = torch.tensor([1])
    torch.nn.init.normal_(made.v_prime)
    loss = made.negative_sampling_loss(inputs, outputs, pool.expand(2, -1)).sum()
    g, g_prime = torch.autograd.grad(loss, (made.v, made.v_prime))
    before, before_prime = made.v.detach().clone(), made.v_prime.detach().clone()
    blocked = Blocked(given_text, 1, 2, np.random.default_rng(0))
    negative_sampling_step(made, blocked[:1], pool, 1, 0.1)
    rows = made.used.sum(1)
    assert rows[0] == rows[1]
    torch.testing.assert_close(made.v.detach(), before - 0.1 * g / rows[0], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(made.v_prime.detach(), before_prime - 0.1 * g_prime, rtol=1e-10, atol=1e-12)


def test_cooccurrences_are_the_mean_over_windows():
    given_text = text(tokens=50)
    fixed = np.zeros((12, 12))
    np.add.at(fixed, pairs(given_text, 3, np.random.default_rng(0), dynamic=False), 1)
    assert (cooccurrences(given_text, 12, 3, dynamic=False).toarray() == fixed).all()
    drawn, rng = np.zeros((12, 12)), np.random.default_rng(0)
    for _ in range(2000):
        np.add.at(drawn, pairs(given_text, 3, rng), 1 / 2000)
    assert np.abs(drawn - cooccurrences(given_text, 12, 3).toarray()).max() < 0.15
    with pytest.raises(ValueError, match="words must be above the text's largest id, 11, got 5"):
        cooccurrences(given_text, 5, 3)


def test_pmi_by_hand_and_its_shift():
    counts = np.array([[4.0, 1.0], [1.0, 0.0]])
    found = pmi(counts)
    assert found.nnz == 3 and found[0, 0] == pytest.approx(math.log(4 * 6 / (5 * 5)))
    assert found[0, 1] == pytest.approx(math.log(1 * 6 / (5 * 1)))
    smoothed = pmi(counts, power=0.75)
    assert smoothed[0, 1] == pytest.approx(math.log(1 / 5 / (1 / (5**0.75 + 1))))
    assert ppmi(counts, k=1.1).toarray() == pytest.approx(np.maximum(found.toarray() - math.log(1.1), 0) * (counts > 0))
    with pytest.raises(ValueError, match="counts must be a square matrix"):
        pmi(np.zeros((2, 2)))


def test_svd_is_numpys():
    matrix = ppmi(cooccurrences(text(tokens=400), 12, 4))
    U, S, _ = np.linalg.svd(matrix.toarray())
    found = svd_vectors(matrix, 4, power=0.5)
    assert found @ found.T == pytest.approx(U[:, :4] * S[:4] @ U[:, :4].T, abs=1e-8)
    with pytest.raises(ValueError, match="d must be below the size of the matrix, 12, got 12"):
        svd_vectors(matrix, 12)


QUESTIONS = [": family", "w0 w1 w2 w3", "w4 w5 W6 w7", "w0 w1 w2 missing", ": gram1-x", "w8 w9 w10 w11"]


@pytest.mark.parametrize("seed", range(5))
def test_analogies_and_spearman_are_gensims(seed, tmp_path):
    rng = np.random.default_rng(seed)
    words = Vocabulary(tuple(f"w{i}" for i in range(30)), tuple(range(30, 0, -1)))
    vectors = rng.normal(size=(30, 4)).astype(np.float32)
    lines = [": family", *(" ".join(f"w{i}" for i in rng.permutation(30)[:4]) for _ in range(300)), *QUESTIONS[4:]]
    theirs = KeyedVectors(4)
    theirs.add_vectors(list(words.words), vectors)
    (tmp_path / "questions").write_text("\n".join(lines))
    _, sections = theirs.evaluate_word_analogies(str(tmp_path / "questions"), case_insensitive=False)
    ours = analogies(vectors, words, read_questions(lines))
    assert ours["family"].correct == len(sections[0]["correct"]) > 0
    judged = [(f"w{a}", f"w{b}", float(rng.random())) for a, b in (rng.permutation(30)[:2] for _ in range(40))]
    (tmp_path / "pairs").write_text("\n".join(f"{a}\t{b}\t{x}" for a, b, x in judged))
    _, (rho, _), _ = theirs.evaluate_word_pairs(str(tmp_path / "pairs"), case_insensitive=False)
    assert spearman(vectors, words, judged).rho == pytest.approx(rho, abs=1e-6)


def test_unknown_words_do_not_count_and_case_is_looked_past():
    words = Vocabulary(tuple(f"w{i}" for i in range(12)), (1,) * 12)
    scores = analogies(np.eye(12), words, read_questions(QUESTIONS))
    assert (scores["family"].asked, scores["family"].unknown) == (2, 1)
    assert analogies(np.eye(12), words, read_questions(QUESTIONS), most=8)["gram1-x"].asked == 0
    with pytest.raises(ValueError, match="lines must have four words below a line `: section`, got 'a b c'"):
        read_questions([": x", "a b c"])
    with pytest.raises(ValueError, match="judged must have two or more pairs of known words, got 0 of 1"):
        spearman(np.eye(12), words, [("x", "y", 1.0)])


def test_sentences_are_weighted_means():
    vectors = np.array([[1.0, 0.0], [0.0, 1.0]])
    weights = sif_weights(np.array([0.9, 0.1]), a=0.1)
    assert weights == pytest.approx([0.1, 0.5])
    found = sentence_vectors(vectors, [np.array([0, 1]), np.array([], dtype=np.int64)], weights)
    assert found == pytest.approx(np.array([[1 / 6, 5 / 6], [0, 0]]))
    with pytest.raises(ValueError, match="weights must be one per word, 2, got shape"):
        sentence_vectors(vectors, [], np.ones(3))
