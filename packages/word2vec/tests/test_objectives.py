"""Huffman's tree, both losses and their gradients, and the training steps that write them out."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from word2vec_cases import KINDS, WORDS, D, model, text, tree

from word2vec import CBOW, SkipGram, contexts, huffman_tree, noise_distribution, pairs, train
from word2vec.fast import Blocked, negative_sampling_step


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=60))
def test_a_huffman_tree_is_a_shortest_prefix_code(counts):
    made = huffman_tree(counts)
    codes = ["".join(map(str, code[:n])) for code, n in zip(made.codes, made.lengths, strict=True)]
    assert not any(a != b and b.startswith(a) for a in codes for b in codes) and len(set(codes)) == len(counts)
    heap = list(counts)
    heapq.heapify(heap)
    cost = 0
    while len(heap) > 1:
        joined = heapq.heappop(heap) + heapq.heappop(heap)
        cost += joined
        heapq.heappush(heap, joined)
    assert int(made.lengths @ np.array(counts)) == cost
    assert (made.nodes[:, 0] == len(counts) - 2).all()  # every path begins at the root


@pytest.mark.parametrize("counts", [[1], [1, 0], [1.0, 2.0], []])
def test_counts_are_refused(counts):
    with pytest.raises(ValueError, match="counts must be two or more whole numbers of at least 1"):
        huffman_tree(counts)


def test_all_words_together_have_probability_one():
    made = model(hierarchical=True)
    losses = made.hierarchical_softmax_loss(torch.zeros(WORDS, dtype=torch.int64), torch.arange(WORDS))
    assert losses.neg().exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_equation_4_by_hand():
    made = model()
    v, u = made.v.detach().numpy(), made.v_prime.detach().numpy()
    loss = made.negative_sampling_loss(torch.tensor([1]), torch.tensor([2]), torch.tensor([[3, 4]]))
    expected = np.log1p(np.exp(-u[2] @ v[1])) + sum(np.log1p(np.exp(u[n] @ v[1])) for n in (3, 4))
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hierarchical", [False, True])
def test_gradients(kind, hierarchical):
    made = model(kind, hierarchical)
    outputs, noise = torch.tensor([1, 2, 3]), torch.tensor([[4, 5], [1, 1], [0, 3]])
    around = torch.tensor([[0, 1], [2, 3], [4, 4]])
    mask = torch.tensor([[True, True], [True, False], [True, True]])

    def loss(v, v_prime):
        tables = {"v": v, "v_prime": v_prime}
        given_words = (around[:, 0],) if kind is SkipGram else (around, mask)
        name = "hierarchical_softmax_loss" if hierarchical else "negative_sampling_loss"
        rest = (outputs,) if hierarchical else (outputs, noise)
        return torch.func.functional_call(Named(made, name), {f"model.{k}": t for k, t in tables.items()},
                                          (*given_words, *rest))  # fmt: skip

    assert torch.autograd.gradcheck(loss, (made.v, made.v_prime))


class Named(torch.nn.Module):
    """A loss as the forward pass, for functional_call."""

    def __init__(self, model, name):
        super().__init__()
        self.model, self.name = model, name

    def forward(self, *args):
        return getattr(self.model, self.name)(*args)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 20), st.integers(1, 5), st.sampled_from(["mean", "sum"]))
def test_a_step_is_the_gradient_for_any_block_and_window(seed, block, c, combine):
    given_text = text(seed, tokens=40)
    pool = torch.from_numpy(np.random.default_rng(seed).integers(0, WORDS, 3))
    for made in (model(seed=seed), model(CBOW, seed=seed, combine=combine)):
        rng = np.random.default_rng(seed)
        if isinstance(made, SkipGram):
            inputs, outputs = (torch.from_numpy(x) for x in pairs(given_text, c, rng))
            loss = made.negative_sampling_loss(inputs, outputs, pool.expand(len(inputs), -1))
        else:
            around, mask = (torch.from_numpy(x) for x in contexts(given_text, c, rng))
            some = mask.any(1)
            outputs = torch.from_numpy(given_text.ids)[some]
            loss = made.negative_sampling_loss(around[some], mask[some], outputs, pool.expand(len(outputs), -1))
        gradients = torch.autograd.grad(loss.sum(), (made.v, made.v_prime))
        before = [made.v.detach().clone(), made.v_prime.detach().clone()]
        blocked = Blocked(given_text, c, block, np.random.default_rng(seed))
        mean = negative_sampling_step(made, blocked[: len(blocked)], pool, 3, 0.1)
        assert mean == pytest.approx(loss.mean().item(), rel=1e-10)
        for after, old, g in zip((made.v, made.v_prime), before, gradients, strict=True):
            torch.testing.assert_close(after.detach(), old - 0.1 * g, rtol=1e-10, atol=1e-12)


def test_the_pool_weighs_as_k_noise_words():
    """Each of six noise words counts k / 6 = 1/3 for every pair."""
    given_text = text()
    pool = torch.arange(6)
    made = model()
    inputs, outputs = (torch.from_numpy(x) for x in pairs(given_text, 2, np.random.default_rng(0)))
    none = made.negative_sampling_loss(inputs, outputs, torch.empty(len(inputs), 0, dtype=torch.int64))
    all_six = made.negative_sampling_loss(inputs, outputs, pool.expand(len(inputs), -1))
    blocked = Blocked(given_text, 2, 8, np.random.default_rng(0))
    mean = negative_sampling_step(made, blocked[: len(blocked)], pool, 2, 0.1)
    assert mean == pytest.approx((none + (all_six - none) / 3).mean().item(), rel=1e-10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hierarchical", [False, True])
def test_training_learns_which_words_stand_together(kind, hierarchical):
    """Words 0 to 5 meet each other only, and so do 6 to 11."""
    rng = np.random.default_rng(0)
    ids = np.concatenate([rng.integers(0, 6, 2000).reshape(-1, 10), rng.integers(6, 12, 2000).reshape(-1, 10)])
    given_text = type(text())(ids.flatten(), np.repeat(np.arange(len(ids)), 10))
    made = kind(WORDS, D, tree() if hierarchical else None)
    noise = None if hierarchical else noise_distribution([1] * WORDS)
    losses = [loss for _, loss in train(made, given_text, 3, epochs=15, noise=noise, block=8, words=16)]
    assert np.mean(losses[-20:]) < np.mean(losses[:20]) - 0.2
    vectors = made.vectors() / made.vectors().norm(dim=1, keepdim=True)
    cosines = vectors @ vectors.T
    assert cosines[:6, :6].mean() > cosines[:6, 6:].mean() + 0.5


def test_training_is_repeatable_and_takes_every_word():
    tables = []
    for _ in range(2):
        made = SkipGram(WORDS, D, seed=3)
        noise = noise_distribution([1] * WORDS)
        taken = [n for n, _ in train(made, text(tokens=100), 3, noise=noise, seed=5, block=10)]
        assert sum(taken) == 100
        tables.append(made.vectors())
    assert torch.equal(*tables)


def test_a_loss_that_runs_away_is_refused():
    with pytest.raises(ValueError, match="rate must be smaller, or words fewer: 100.0 × 128 made a loss of"):
        list(train(SkipGram(WORDS, D), text(tokens=5000), 5, rate=100.0, noise=noise_distribution([1] * WORDS)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SkipGram(1, 4), "words must be a whole number of at least 2, got 1"),
        (lambda: SkipGram(4, 2.0), "d must be a whole number of at least 1, got 2.0"),
        (lambda: SkipGram(5, 4, tree()), "tree must have as many words as the model, 5, got 12"),
        (lambda: CBOW(4, 4, combine="max"), "combine must be 'mean' or 'sum', got 'max'"),
        (lambda: list(train(model(), text(), 3)), "noise must be a distribution without a tree"),
        (lambda: list(train(model(), text(), 0, noise=np.ones(12) / 12)), "c must be a whole number of at least 1"),
        (lambda: list(train(model(), text(), 3, noise=np.ones(12) / 12, pool=2)), "pool must be a whole number of at"),
        (lambda: list(train(model(), text(), 3, rate=float("nan"), noise=np.ones(12) / 12)), "rate must be a finite"),
        (lambda: list(train(model(), text(), 3, noise=np.ones(3) / 3)), "text and noise must be of the model's 12"),
        (lambda: model().hierarchical_softmax_loss(torch.tensor([0]), torch.tensor([0])), "needs a model with a tree"),
        (lambda: model(hierarchical=True).negative_sampling_loss(*3 * [torch.tensor([0])]), "needs a model without a"),
        (lambda: model().negative_sampling_loss(torch.tensor([12]), torch.tensor([0]), torch.tensor([[0]])),
         "inputs must be int64 ids from 0 to 11"),
        (lambda: model().negative_sampling_loss(torch.tensor([0]), torch.tensor([0, 1]), torch.tensor([[0]])),
         "outputs and noise must have one row per input, 1"),
        (lambda: model(CBOW).hidden(torch.tensor([[0]]), torch.tensor([[1]])), "mask must be bool of the contexts'"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
