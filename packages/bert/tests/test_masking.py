"""Masked tokens in the paper's shares, and pairs of spans of which half follow each other."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bert import make_nsp_pairs, mask_tokens

N, V, MASK = 1_000_000, 30_000, 103


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def assert_share(hits: torch.Tensor, of: torch.Tensor, share: float) -> None:
    """Within 4.4 deviations of a binomial: one draw in 100,000 is outside."""
    n, k = int(of.sum()), int((hits & of).sum())
    assert abs(k - share * n) <= 4.4 * (share * (1 - share) * n) ** 0.5, (k / n, share)


@pytest.mark.parametrize(
    ("mask", "random", "keep", "rate"),
    [(0.8, 0.1, 0.1, 0.15), (1.0, 0.0, 0.0, 0.15), (0.8, 0.2, 0.0, 0.15), (0.0, 0.8, 0.2, 0.4), (0.0, 0.0, 1.0, 1.0)],
)
def test_shares_over_a_million_tokens(mask, random, keep, rate):
    ids = torch.randint(1000, V, (N // 100, 100), generator=seeded(1))
    before = ids.clone()
    inputs, labels = mask_tokens(
        ids, mask_id=MASK, vocab_size=V, special=(), mask=mask, random=random, keep=keep, rate=rate, generator=seeded(2)
    )
    assert torch.equal(ids, before)
    chosen = labels != -100
    assert torch.equal(labels[chosen], ids[chosen])
    assert torch.equal(inputs[~chosen], ids[~chosen])
    everywhere = torch.ones_like(chosen)
    assert_share(chosen, everywhere, rate)
    assert_share(inputs == MASK, chosen, mask + random / V)
    assert_share(inputs == ids, chosen, keep + random / V)
    assert_share((inputs != ids) & (inputs != MASK), chosen, random * (1 - 2 / V))
    drawn = inputs[chosen & (inputs != ids) & (inputs != MASK)].double()
    if len(drawn):  # evenly over the whole vocabulary
        assert abs(drawn.mean() - V / 2) < 5 * V / 12**0.5 / len(drawn) ** 0.5
        assert drawn.min() < V / 100
    # one token apart from another: neighbours are both chosen in rate² of the cases
    assert_share(chosen[:, 1:] & chosen[:, :-1], everywhere[:, 1::2].repeat_interleave(2, 1)[:, :99], rate**2)


def test_special_tokens_are_never_chosen_and_a_generator_repeats():
    ids = torch.randint(6, (200, 50), generator=seeded())
    inputs, labels = mask_tokens(ids, mask_id=5, vocab_size=6, special=[0, 2, 3], rate=0.9, generator=seeded())
    special = (ids == 0) | (ids == 2) | (ids == 3)
    assert (labels[special] == -100).all()
    assert torch.equal(inputs[special], ids[special])
    again = mask_tokens(ids, mask_id=5, vocab_size=6, special={3, 2, 0}, rate=0.9, generator=seeded())
    assert torch.equal(inputs, again[0])
    assert torch.equal(labels, again[1])
    assert (
        inputs.dtype
        == labels.dtype
        == mask_tokens(ids.int(), mask_id=5, vocab_size=6, special=())[0].to(ids.dtype).dtype
    )
    assert mask_tokens(ids.int(), mask_id=5, vocab_size=6, special=())[1].dtype == torch.int32


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "sum": ({"keep": 0.2}, "mask, random and keep must sum to 1, got 0.8 + 0.1 + 0.2"),
    "negative": ({"mask": 1.1, "keep": -0.2}, "mask must be in [0, 1], got 1.1"),
    "rate": ({"rate": 15}, "rate must be in [0, 1], got 15"),
    "mask_id": ({"mask_id": 9}, "mask_id must be from 0 to 8, got 9"),
    "special": ({"special": [1, -1]}, "special must be from 0 to 8, got -1"),
    "ids": ({"ids": torch.tensor([3, 9])}, "ids must be from 0 to 8, got 3 to 9"),
    "floats": ({"ids": torch.ones(2)}, "ids must be int64 or int32, and some, got torch.float32 of shape (2,)"),
    "list": ({"ids": [[1]]}, "ids must be a tensor, got [[1]]"),
    "rate of str": ({"rate": "0.1"}, "rate must be in [0, 1], got '0.1'"),
    "rate of bool": ({"rate": True}, "rate must be in [0, 1], got True"),
    "NaN": ({"keep": float("nan")}, "keep must be in [0, 1], got nan"),
    "mask_id of float": ({"mask_id": 4.0}, "mask_id must be a list of token ids, got [4.0]"),
    "vocab_size of float": ({"vocab_size": 9.0}, "vocab_size must be a whole number, got 9.0"),
    "special of int": ({"special": 0}, "special must be a list of token ids, got 0"),
    "special of str": ({"special": "02"}, "special must be a list of token ids, got '02'"),
    "special of bool": ({"special": [True]}, "special must be a list of token ids, got [True]"),
    "special of None": ({"special": None}, "special must be a list of token ids, got None"),
    "seed": ({"generator": 3}, "generator must be a torch.Generator, got 3"),
    "none": ({"ids": torch.ones(0).long()}, "ids must be int64 or int32, and some, got torch.int64 of shape (0,)"),
}


@pytest.mark.parametrize(("changes", "message"), WRONG.values(), ids=WRONG.keys())
def test_masking_that_is_none(changes, message):
    good: dict[str, Any] = {"ids": torch.tensor([[1, 2]]), "mask_id": 3, "vocab_size": 9, "special": ()}
    arguments = good | changes
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        mask_tokens(arguments.pop("ids"), **arguments)


def test_special_tokens_have_to_be_said():
    """Without them a model would be asked for its padding."""
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'special'"):
        mask_tokens(torch.tensor([[1, 2]]), mask_id=3, vocab_size=9)


# --- Next sentence prediction ---


def corpus(n_documents: int, n_sentences: int, longest: int, seed: int = 0) -> list[list[list[int]]]:
    """Each token is met once, so that a span tells where it comes from."""
    generator, next_token, documents = seeded(seed), 0, list[list[list[int]]]()
    for _ in range(n_documents):
        lengths = torch.randint(1, longest + 1, (n_sentences,), generator=generator).tolist()
        document = list[list[int]]()
        for length in lengths:
            document.append(list(range(next_token, next_token + length)))
            next_token += length
        documents.append(document)
    return documents


def test_half_of_many_pairs_follow_each_other():
    pairs = make_nsp_pairs(corpus(400, 60, 30), generator=seeded(), max_tokens=64)
    assert len(pairs) > 5000
    follows = torch.tensor([pair.is_next for pair in pairs])
    assert_share(follows, torch.ones_like(follows), 0.5)
    lengths = torch.tensor([len(p.a) + len(p.b) + 3 for p in pairs])
    assert lengths.max() == 64
    assert 0.5 < (lengths >= 48).float().mean() < 0.95


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 6), st.integers(1, 9), st.integers(1, 40), st.integers(5, 50), st.integers(0, 1000))
def test_pairs_are_spans_and_say_truly_whether_they_follow(n_documents, n_sentences, longest, max_tokens, seed):
    documents = corpus(n_documents, n_sentences, longest, seed)
    home = {t: (i, j) for i, document in enumerate(documents) for j, s in enumerate(document) for t in s}
    pairs = make_nsp_pairs(documents, generator=seeded(seed), max_tokens=max_tokens)
    assert bool(pairs) == (n_sentences > 1)
    for a, b, is_next in pairs:
        assert a
        assert b
        assert len(a) + len(b) + 3 <= max_tokens
        for span in (a, b):
            assert span == list(range(span[0], span[0] + len(span)))  # neighbours in the corpus
            assert home[span[0]][0] == home[span[-1]][0]  # of one document
        assert is_next == (home[a[0]][0] == home[b[0]][0])
        if is_next:
            assert b[0] > a[-1]
            assert home[b[0]][1] >= home[a[-1]][1] + 1
    assert pairs == make_nsp_pairs(documents, generator=seeded(seed), max_tokens=max_tokens)


def test_a_pair_that_follows_has_nothing_between_where_nothing_is_cut():
    documents = corpus(50, 40, 5)
    pairs = make_nsp_pairs(documents, generator=seeded(), max_tokens=400)
    assert any(p.is_next for p in pairs)
    assert all(p.b[0] == p.a[-1] + 1 for p in pairs if p.is_next)


@pytest.mark.parametrize(
    ("documents", "max_tokens", "message"),
    [
        ([[[1]], [[2]]], 4, "max_tokens must be at least 5, a token of each sentence and 3 special ones, got 4"),
        ([[[1]]], 5, "documents must be at least 2, for a sentence of another one, got 1"),
        ([[[1]], []], 5, "documents[1] must have sentences of a token at least, and has none"),
        ([[[1]], [[2]]], 9.0, "max_tokens must be a whole number, got 9.0"),
        (3, 5, "documents must be a list, got 3"),
        ([3, 4], 5, "documents[0] must be a list, got 3"),
        ([[[1]], ["two", "words"]], 5, "documents[1]'s sentence must be a list of token ids, got 'two'"),
        (["ab", "cd"], 5, "documents[0]'s sentence must be a list of token ids, got 'a'"),
        ([[[1]], [[2.0]]], 5, "documents[1]'s sentence must be a list of token ids, got [2.0]"),
        ([[[1], []], [[2]]], 5, "documents[0] must have sentences of a token at least, and has an empty one"),
    ],
)
def test_documents_that_are_none(documents, max_tokens, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make_nsp_pairs(documents, generator=seeded(), max_tokens=max_tokens)
