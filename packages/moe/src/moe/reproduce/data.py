"""The Bible and Shakespeare (`papertest.texts`) as the byte pairs that small models read, and kinds of these."""

from __future__ import annotations

import re
from functools import cache

import torch
from jaxtyping import Int
from tokenizers import Tokenizer
from tokenizers.decoders import Metaspace as Spaces
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Metaspace
from tokenizers.trainers import BpeTrainer
from torch import Tensor

from papertest.texts import draw as draw
from papertest.texts import texts
from papertest.texts import windows as windows

PIECES = 1000  # of the vocabulary of byte pairs: more would make the softmax most of the time
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
