"""Section 3.1: what the two pre-training objectives draw, the masks and the pairs of sentences."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from papertest.claims import Measured, Run, claim

from bert.masking import IGNORE, NspPair, make_nsp_pairs, mask_tokens
from bert.reproduce.data.corpora import sentence_pairs_corpus
from bert.reproduce.models import minilm
from bert.wordpiece import WordPiece

VOCABULARY = 30_522
PAD, CLS, SEP, MASK = 0, 101, 102, 103  # the published vocabulary's
ORDINARY = MASK + 1  # the ids from here on are tokens of text
ROWS, LENGTH, PADDING = 8_000, 125, 16  # a million tokens of text, with [CLS] and [SEP] 127 of a row's 143

DRAWS = 100_000
MAX_TOKENS = 128  # Appendix A.2: the length of 90 % of the steps


@claim("masking")
def masking(run: Run) -> Measured:
    """Section 3.1: shares of 1,000,000 tokens that are chosen, of those what becomes of them, and mistakes.

    A token is chosen where the label is the token itself. A random token that happens to be the old one counts as
    kept, and one that is [MASK] as masked: some 1 in 30,522 of them. unchosen_changed: positions that are not chosen
    and were changed or have a label all the same.
    """
    generator = torch.Generator().manual_seed(run.seed)
    text = torch.randint(ORDINARY, VOCABULARY, (ROWS, LENGTH), generator=generator)
    ends = [torch.full((ROWS, n), token) for token, n in ((CLS, 1), (SEP, 1), (PAD, PADDING))]
    ids = torch.cat([ends[0], text, *ends[1:]], 1)
    inputs, labels = mask_tokens(ids, mask_id=MASK, vocab_size=VOCABULARY, special=(PAD, CLS, SEP), generator=generator)
    chosen, special = labels == ids, ids < ORDINARY
    fates = {"mask": inputs == MASK, "keep": inputs == ids, "random": (inputs != MASK) & (inputs != ids)}
    counts = {fate: int((chosen & ~special & where).sum()) for fate, where in fates.items()}
    total, n_chosen = text.numel(), sum(counts.values())
    value = {
        "chosen": n_chosen / total,
        **{fate: counts[fate] / n_chosen for fate in ("mask", "random", "keep")},
        "random_of_all": counts["random"] / total,
        "special_chosen": int((chosen & special).sum()),
        "unchosen_changed": int((~chosen & ((inputs != ids) | (labels != IGNORE))).sum()),
    }
    return Measured(value, {"tokens": total, "special": int(special.sum()), "counts": counts})


@claim("nsp-balance")
def nsp_balance(run: Run) -> Measured:
    """Section 3.1: 100,000 pairs of at most 128 tokens from the Bible: share of IsNext, and pairs labelled wrongly.

    Each token's id is its place in the text, so that a pair shows where it is from; pieces are MiniLM's. IsNext is
    wrong unless B is what stands after A, in A's document; where a pair is as long as it may be, cutting both to length
    may have left out up to a sentence between them. NotNext is wrong where B, from where its first sentence begins, is
    also what stands after the last sentence of A.
    """
    wordpiece = WordPiece(minilm() / "vocab.txt")
    documents = [[wordpiece.encode(verse) for verse in chapter] for chapter in sentence_pairs_corpus("bible").train]
    places, text, starts = placed(documents)
    generator = torch.Generator().manual_seed(run.seed)
    pairs: list[NspPair] = []
    passes = 0
    while len(pairs) < DRAWS:
        pairs += make_nsp_pairs(places, generator=generator, max_tokens=MAX_TOKENS)
        passes += 1
    pairs = pairs[:DRAWS]
    longest = max(len(sentence) for document in documents for sentence in document)
    wrong_is_next = wrong_not_next = exact = 0
    for a, b, is_next in pairs:
        if is_next:
            full = len(a) + len(b) == MAX_TOKENS - 3
            exact += not full
            wrong_is_next += not follows(text, a, b, longest if full else 0)
        else:
            drawn = text[starts[b[0]] : b[-1] + 1]
            wrong_not_next += text.startswith(drawn, next_sentence(starts, a[-1]))
    value = {
        "is_next": sum(pair.is_next for pair in pairs) / DRAWS,
        "wrong_is_next": wrong_is_next,
        "wrong_not_next": wrong_not_next,
    }
    sentences, tokens = sum(map(len, documents)), sum(len(a) + len(b) for a, b, _ in pairs) / DRAWS
    return Measured(value, {"passes": passes, "sentences": sentences, "tokens": tokens, "next_exactly": exact})


def placed(documents: Sequence[Sequence[Sequence[int]]]) -> tuple[list[list[list[int]]], str, list[int]]:
    """The documents with its place for each token; the text, a character for each token and [PAD] after each document;
    and for each place the one where its sentence begins."""
    text: list[str] = []
    starts: list[int] = []
    places: list[list[list[int]]] = []
    for document in documents:
        places.append([])
        for sentence in document:
            begin = len(text)
            places[-1].append(list(range(begin, begin + len(sentence))))
            text += map(chr, sentence)
            starts += [begin] * len(sentence)
        text.append(chr(PAD))
        starts.append(len(starts))
    return places, "".join(text), starts


def follows(text: str, a: Sequence[int], b: Sequence[int], most: int) -> bool:
    """Whether b's tokens stand after a's in its document, with at most so many left out between them."""
    end = a[-1] + 1
    stop = min(end + most + len(b), text.index(chr(PAD), end))
    return text.find("".join(text[place] for place in b), end, stop) >= 0


def next_sentence(starts: Sequence[int], place: int) -> int:
    """Where the sentence after this place's begins, or its document ends."""
    begin = starts[place]
    while starts[place] == begin:
        place += 1
    return place
