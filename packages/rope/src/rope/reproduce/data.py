"""The Bible and Shakespeare (`papertest.texts`) as the byte pairs and characters that the small models read."""

from __future__ import annotations

from functools import cache

import torch
from jaxtyping import Int
from tokenizers import Tokenizer
from tokenizers.decoders import Metaspace as Spaces
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Metaspace
from tokenizers.trainers import BpeTrainer
from torch import Tensor

from papertest.texts import CHARACTERS, texts
from papertest.texts import draw as draw
from papertest.texts import windows as windows

PIECES = 512  # of the vocabulary of byte pairs: more would make the softmax most of the time
MASK = len(CHARACTERS)  # the token that stands for a hidden character


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


@cache
def characters(part: str) -> Int[Tensor, " tokens"]:
    """The part of the text as places in CHARACTERS."""
    place = {c: i for i, c in enumerate(CHARACTERS)}
    return torch.tensor([place[c] for c in texts()[part]])
