"""Section 3.1: what the two pre-training objectives are made of, masked tokens and pairs of sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from random import Random
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from bert.arguments import check_kind, check_whole, number
from bert.wordpiece import token_ids

IGNORE = -100  # the label of a position that is not asked for, torch's own in cross_entropy


# --- Task #1: masked LM ---


def mask_tokens(
    ids: Int[Tensor, "*batch seq"],
    *,
    mask_id: int,
    vocab_size: int,
    special: Iterable[int],
    mask: float = 0.8,
    random: float = 0.1,
    keep: float = 0.1,
    rate: float = 0.15,
    generator: torch.Generator | None = None,
) -> tuple[Int[Tensor, "*batch seq"], Int[Tensor, "*batch seq"]]:
    """Task #1 of Section 3.1: the tokens to read, and the labels to find.

    Each token is chosen with probability `rate`, one apart from another. Of those chosen, `mask` become mask_id,
    `random` any token of the vocabulary (the old one and special ones among them, as in the authors' code), and `keep`
    stay what they are; together they are 1. Labels are the chosen tokens, and −100 elsewhere.

    special: tokens that are never chosen: the ids of [CLS], [SEP] and [PAD]. They have to be said, since a model that
        is asked for its padding learns little else; () where ids have none
    generator: on the device of ids; None for torch's own

    Raises ValueError for shares that are no probabilities or do not sum to 1, tokens outside the vocabulary, and
    arguments of another type.
    """
    shares = {"mask": mask, "random": random, "keep": keep}
    for name, share in (shares | {"rate": rate}).items():
        if not (number(share) and 0 <= share <= 1):
            raise ValueError(f"{name} must be in [0, 1], got {share!r}")
    if not math.isclose(sum(shares.values()), 1):
        raise ValueError(f"mask, random and keep must sum to 1, got {' + '.join(map(str, shares.values()))}")
    check_kind("ids", ids, Tensor, "a tensor")
    if ids.dtype not in (torch.int64, torch.int32) or not ids.numel():
        raise ValueError(f"ids must be int64 or int32, and some, got {ids.dtype} of shape {tuple(ids.shape)}")
    check_kind("generator", generator, (torch.Generator, type(None)), "a torch.Generator")
    vocab_size, mask_id = check_whole("vocab_size", vocab_size, 1), token_ids("mask_id", [mask_id])[0]
    special = sorted(set(token_ids("special", special)))
    low, high = (int(x) for x in ids.aminmax())
    for name, least, most in (("ids", low, high), ("mask_id", mask_id, mask_id),
                              *(("special", s, s) for s in special)):  # fmt: skip
        if least < 0 or most >= vocab_size:
            got = least if least == most else f"{least} to {most}"
            raise ValueError(f"{name} must be from 0 to {vocab_size - 1}, got {got}")

    def uniform() -> Tensor:
        return torch.rand(ids.shape, generator=generator, device=ids.device)

    chosen = (uniform() < rate) & ~torch.isin(ids, torch.tensor(special, dtype=ids.dtype, device=ids.device))
    fate = uniform()
    inputs = ids.masked_fill(chosen & (fate < mask), mask_id)
    anything = torch.randint(vocab_size, ids.shape, generator=generator, device=ids.device, dtype=ids.dtype)
    inputs = torch.where(chosen & (mask <= fate) & (fate < mask + random), anything, inputs)
    return inputs, ids.masked_fill(~chosen, IGNORE)


# --- Task #2: next sentence prediction ---


class NspPair(NamedTuple):
    """Two spans of text, each one sentence or more, and whether b follows a in the corpus."""

    a: list[int]
    b: list[int]
    is_next: bool


def make_nsp_pairs(
    documents: Sequence[Sequence[Sequence[int]]], *, generator: torch.Generator, max_tokens: int
) -> list[NspPair]:
    """Task #2 of Section 3.1 and Appendix A.2: pairs of spans from one pass over documents, lists of sentences, lists
    of token ids.

    A document is read from its beginning in runs of sentences that fill `max_tokens`, [CLS] and both [SEP] counted; a
    run is cut after a random sentence, which ends a. With probability 1/2 the rest of it is b. Otherwise b comes from a
    random place in another document, and the rest of the run is read again. As in the authors' code one run in ten
    fills a random shorter length, and what is too long loses tokens at a random end of its longer half.

    Unlike there, a run has two sentences at least: the last one of a document, where it would stand alone, begins no
    pair. There it gets a random b, which makes more than half of the labels NotNext.

    Raises ValueError for fewer than two documents, an empty document or sentence, what is no list of token ids, and
    max_tokens below 5.
    """
    check_kind("generator", generator, torch.Generator, "a torch.Generator")
    if check_whole("max_tokens", max_tokens, 1) < 5:
        raise ValueError(
            f"max_tokens must be at least 5, a token of each sentence and 3 special ones, got {max_tokens}"
        )
    check_kind("documents", documents, Sequence, "a list")
    if len(documents) < 2:
        raise ValueError(f"documents must be at least 2, for a sentence of another one, got {len(documents)}")
    for i, document in enumerate(documents):
        check_kind(f"documents[{i}]", document, Sequence, "a list")
        for sentence in document:
            token_ids(f"documents[{i}]'s sentence", sentence)
        if not document or not all(document):
            raise ValueError(f"documents[{i}] must have sentences of a token at least, and "
                             f"{'has an empty one' if document else 'has none'}")  # fmt: skip
    rng = Random(int(torch.randint(2**62, (), generator=generator)))
    room = max_tokens - 3
    return [pair for i in range(len(documents)) for pair in _document_pairs(documents, i, room, rng)]


def _document_pairs(documents: Sequence[Sequence[Sequence[int]]], i: int, room: int, rng: Random) -> Iterable[NspPair]:
    document, start = documents[i], 0
    while start + 2 <= len(document):
        target = rng.randint(2, room) if rng.random() < 0.1 else room
        stop, length = start + 1, len(document[start])
        while stop < len(document) and (length < target or stop < start + 2):
            length += len(document[stop])
            stop += 1
        cut = rng.randint(start + 1, stop - 1)
        a, is_next = _join(document, start, cut), rng.random() < 0.5
        if is_next:
            b, start = _join(document, cut, stop), stop
        else:
            j = rng.randrange(len(documents) - 1)
            other = documents[j + (j >= i)]
            b = _join(other, rng.randrange(len(other)), len(other), target - len(a))
            start = cut
        yield NspPair(*_shorten(a, b, room, rng), is_next)


def _join(document: Sequence[Sequence[int]], start: int, stop: int, enough: float = math.inf) -> list[int]:
    """The tokens of the sentence at start, and of those after it up to stop while there are not enough."""
    tokens = list(document[start])
    for i in range(start + 1, stop):
        if len(tokens) >= enough:
            break
        tokens += document[i]
    return tokens


def _shorten(a: list[int], b: list[int], room: int, rng: Random) -> tuple[list[int], list[int]]:
    """Without a token at a random end of the longer one, until there is room."""
    (a_from, a_to), (b_from, b_to) = (0, len(a)), (0, len(b))
    while (a_to - a_from) + (b_to - b_from) > room:
        front = rng.random() < 0.5
        if a_to - a_from > b_to - b_from:
            a_from, a_to = (a_from + 1, a_to) if front else (a_from, a_to - 1)
        else:
            b_from, b_to = (b_from + 1, b_to) if front else (b_from, b_to - 1)
    return a[a_from:a_to], b[b_from:b_to]
