"""The vocabulary gives back what it was given, and batches lose no pair."""

from __future__ import annotations

from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transformer.reproduce.data.corpus import clean
from transformer.reproduce.data.tokens import BOS, EOS, PAD, Vocabulary, batches, pad, tensors

TEXTS = ["Delete the file {}?", "Datei {} löschen?", "Close the window", "Fenster schließen", "删除文件", "关闭窗口"]
VOCABULARY = Vocabulary.train(TEXTS * 3, 300)
SPECIAL = ("<pad>", "<bos>", "<eos>")
anything = st.text(st.characters(exclude_categories=["Cs"])) | st.lists(st.sampled_from([*TEXTS, "🙂", "👩‍💻"])).map(
    " ".join
)
lines = anything | st.sampled_from([f"a {name} b" for name in SPECIAL])


@given(st.lists(lines, max_size=5))
def test_what_is_encoded_is_decoded_up_to_whitespace_at_the_ends(texts):
    assert VOCABULARY.decode(VOCABULARY.encode(texts)) == [text.strip() for text in texts]


@given(lines)
def test_special_tokens_come_out_of_no_text(text):
    (ids,) = VOCABULARY.encode([text])
    assert all(EOS < token < len(VOCABULARY) for token in ids)


@pytest.mark.parametrize("name", SPECIAL)
def test_the_names_of_special_tokens_are_cleaned_away_as_tags(name):
    assert clean(f"a {name} b") == "a b"


def test_special_tokens_are_the_first_and_decode_to_nothing():
    assert [VOCABULARY.tokenizer.token_to_id(name) for name in SPECIAL] == [PAD, BOS, EOS]
    assert VOCABULARY.decode([[BOS, *VOCABULARY.encode(["a file"])[0], EOS, PAD]]) == ["a file"]


def test_size_counts_special_tokens_and_bytes():
    assert len(VOCABULARY) == 300
    assert len(Vocabulary.train([], 400)) == 3 + 256


def test_a_larger_vocabulary_needs_fewer_tokens():
    (few,), (many,) = (Vocabulary.train(TEXTS * 3, size).encode([TEXTS[0]]) for size in (300, 265))
    assert len(few) < len(many)


def test_vocabulary_depends_on_the_texts_alone():
    again = Vocabulary.train(iter(TEXTS * 3), 300)
    assert again.tokenizer.to_str() == VOCABULARY.tokenizer.to_str()


def test_pad_fills_the_ends():
    assert pad([[5], [6, 7, 8], []]).tolist() == [[5, PAD, PAD], [6, 7, 8], [PAD] * 3]


def test_source_has_its_end_and_target_its_beginning_and_end():
    src, tgt = tensors([([5, 6], [7]), ([8], [9, 10, 11])])
    assert src.tolist() == [[5, 6, EOS], [8, EOS, PAD]]
    assert tgt.tolist() == [[BOS, 7, EOS, PAD, PAD], [BOS, 9, 10, 11, EOS]]
    assert src.dtype == tgt.dtype == torch.int64


def numbered(lengths):
    """Pairs of these lengths, each with a token of its own; the target's is 1000 more."""
    return [([3 + i] * s, [1003 + i] * t) for i, (s, t) in enumerate(lengths)]


def in_passes(pairs, tokens, seed, passes):
    """The batches of so many passes over the pairs."""
    feed, found = batches(pairs, tokens, seed), []
    for _ in range(passes):
        one, seen = [], 0
        while seen < len(pairs):
            one.append(next(feed))
            seen += len(one[-1][0])
        found.append(one)
    return found


def rows(batch):
    """Which pairs are in it, by the tokens of both sides."""
    return [(int(s[0]) - 3, int(t[1]) - 1003) for s, t in zip(*batch, strict=True)]


lengths = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=40)


@given(lengths, st.integers(1, 60), st.integers(0, 3))
def test_every_pass_has_every_pair_once_and_whole(sizes, tokens, seed):
    pairs = numbered(sizes)
    for one in in_passes(pairs, tokens, seed, passes=2):
        seen = [row for batch in one for row in rows(batch)]
        assert sorted(seen) == [(i, i) for i in range(len(pairs))]
        for batch in one:
            for (i, _), s, t in zip(rows(batch), *batch, strict=True):
                assert [x for x in s.tolist() if x != PAD] == [*pairs[i][0], EOS]
                assert [x for x in t.tolist() if x != PAD] == [BOS, *pairs[i][1], EOS]


@given(lengths, st.integers(1, 60))
def test_a_batch_has_at_most_so_many_padded_target_tokens(sizes, tokens):
    """Those that are said, so without the beginning; a pair that is longer stands alone."""
    for _, tgt in in_passes(numbered(sizes), tokens, 0, passes=1)[0]:
        assert tgt[:, 1:].numel() <= tokens or len(tgt) == 1


@given(lengths, st.integers(0, 3))
def test_batches_come_from_the_seed_alone(sizes, seed):
    once, again = (islice(batches(numbered(sizes), 30, seed), 10) for _ in range(2))
    for a, b in zip(once, again, strict=True):
        assert all(x.equal(y) for x, y in zip(a, b, strict=True))


MANY = numbered([(1 + i % 7, 1 + i % 7) for i in range(300)])


def test_passes_and_seeds_differ_in_order_and_in_company():
    first, second = in_passes(MANY, 40, 0, passes=2)
    (other,) = in_passes(MANY, 40, 1, passes=1)
    orders = [[rows(batch) for batch in one] for one in (first, second, other)]
    companies = [{frozenset(batch) for batch in order} for order in orders]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert orders[i] != orders[j] and len(companies[i] & companies[j]) < len(companies[i]) / 2


def test_batches_are_of_similar_lengths_and_in_no_order_of_length():
    (one,) = in_passes(MANY, 40, 0, passes=1)
    shuffled = [tensors(MANY[i : i + 8]) for i in range(0, 300, 8)]
    padding, expected = (
        sum(int((tgt == PAD).sum()) for _, tgt in group) / sum(tgt.numel() for _, tgt in group)
        for group in (one, shuffled)
    )
    assert padding < expected / 2
    widths = [src.shape[1] + tgt.shape[1] for src, tgt in one]
    assert widths not in (sorted(widths), sorted(widths, reverse=True))


@pytest.mark.parametrize("tokens", [1, 1000])
def test_a_budget_too_small_gives_pairs_alone_and_a_large_one_all_together(tokens):
    (one,) = in_passes(numbered([(2, 3)] * 10), tokens, 0, passes=1)
    assert [len(src) for src, _ in one] == ([1] * 10 if tokens == 1 else [10])
