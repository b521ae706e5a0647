"""Controlled sentiment: sentences to learn from, prompts to continue, and a true reward that anyone can recompute.

The sentences are those that people scored for VADER (Hutto and Gilbert, 2014): movie reviews, product reviews and a
newspaper's editorials. A prompt is the first three pieces of a review. The reward of a continuation is VADER's own
score of it, by its lexicon and rules, where the paper has a classifier of sentiment (Section 6, "controlled sentiment
generation"). None of the text is committed.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterable, Sequence
from functools import cache

import torch
from jaxtyping import Float, Int
from tokenizers import Tokenizer
from tokenizers.decoders import Metaspace as Spaces
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Metaspace
from tokenizers.trainers import BpeTrainer
from torch import Tensor
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from papertest.data import Sdist
from papertest.texts import clean

SENTENCES = Sdist(  # 2.5 MB
    "vaderSentiment",
    "2.5",
    "b960c954831f5ca58afee61780cc04ed48e551b91e783bfcbfb2c18bb8081a84",
    "MIT (the package); sentences of rottentomatoes.com, Amazon's customers and the New York Times",
)
REVIEWS = ("movieReviewSnippets", "amazonReviewSnippets")
SOURCES = (*REVIEWS, "nytEditorialSnippets")
PIECES, END = 1000, 0  # of the vocabulary; the piece that ends a sentence, and fills a row after it
PROMPT, ANSWER = 3, 20  # pieces
LENGTH = PROMPT + ANSWER
SPACE = "▁"  # how the pieces write it


@cache
def sentences(part: str, sources: Sequence[str] = SOURCES) -> list[str]:
    """Cleaned sentences of "train" or "test", each once; the sha256 of a sentence decides: an eighth is test."""
    found: dict[str, None] = {}
    with tarfile.open(SENTENCES.path("vaderSentiment-2.5/additional_resources/hutto_ICWSM_2014.tar.gz")) as tar:
        for source in sources:
            file = tar.extractfile(f"hutto_ICWSM_2014/{source}_GroundTruth.txt")
            assert file
            lines = file.read().decode("utf-8", "replace").splitlines()
            found |= dict.fromkeys(clean(line.split("\t")[-1]).strip() for line in lines if line.strip())
    test = (hashlib.sha256(text.encode()).hexdigest()[0] in "01" for text in found)
    return [text for text, held_out in zip(found, test, strict=True) if text and held_out == (part == "test")]


@cache
def vocabulary() -> Tokenizer:
    """Byte pairs learnt from the training sentences; every character is a piece of its own at first."""
    tokenizer = Tokenizer(BPE(unk_token=None))
    tokenizer.pre_tokenizer = Metaspace(prepend_scheme="always")  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.decoder = Spaces(prepend_scheme="always")  # pyright: ignore[reportAttributeAccessIssue]
    trainer = BpeTrainer(vocab_size=PIECES, special_tokens=["</s>"], show_progress=False)
    tokenizer.train_from_iterator(sentences("train"), trainer)
    return tokenizer


def encoded(texts: Iterable[str]) -> list[list[int]]:
    return [found.ids for found in vocabulary().encode_batch(list(texts))]


@cache
def rows(part: str) -> Int[Tensor, "rows length"]:
    """The sentences in rows of LENGTH + 1: a long one goes on in further rows. END ends a sentence and fills its row.

    What a row holds of its predecessor is one piece, so that each piece is predicted once.
    """
    found: list[list[int]] = []
    for ids in encoded(sentences(part)):
        ids = [*ids, END]
        for start in range(0, len(ids) - 1, LENGTH):
            row = ids[start : start + LENGTH + 1]
            found.append(row + [END] * (LENGTH + 1 - len(row)))
    return torch.tensor(found)


@cache
def prompts(part: str) -> Int[Tensor, "prompts 3"]:
    """The first pieces of the reviews whose next piece starts a word, each prompt once, in the order of the reviews."""
    starts = {place for piece, place in vocabulary().get_vocab().items() if piece.startswith(SPACE)}
    found = {
        tuple(ids[:PROMPT]): None
        for ids in encoded(sentences(part, REVIEWS))
        if len(ids) > PROMPT and ids[PROMPT] in starts
    }
    return torch.tensor(list(found))


def answer_mask(ids: Int[Tensor, "batch seq"]) -> Tensor:
    """True on the answer's pieces and on the END that follows them; an answer of ANSWER pieces has no END."""
    ended = (ids[:, PROMPT:] == END).cumsum(1)
    inside = (ended == 0) | ((ended == 1) & (ids[:, PROMPT:] == END))
    return torch.cat([torch.zeros_like(ids[:, :PROMPT], dtype=torch.bool), inside], 1)


def texts(ids: Int[Tensor, "batch seq"], start: int = PROMPT) -> list[str]:
    """The pieces from `start` to END as text."""
    tokenizer = vocabulary()
    kept = [row[: row.index(END)] if END in row else row for row in ids[:, start:].tolist()]
    return [text.strip() for text in tokenizer.decode_batch(kept)]


@cache
def _analyser() -> SentimentIntensityAnalyzer:
    return SentimentIntensityAnalyzer()


@cache
def score(text: str) -> float:
    """VADER's compound score, -1 to 1."""
    return _analyser().polarity_scores(text)["compound"]


def rewards(ids: Int[Tensor, "batch seq"]) -> Float[Tensor, " batch"]:
    """The true reward: VADER's score of each answer, which does not see the prompt."""
    return torch.tensor([score(text) for text in texts(ids)])
