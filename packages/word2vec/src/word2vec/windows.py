"""From a text to examples: frequent words left out, then windows of a size that is drawn for each word."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from word2vec.checks import flag, whole
from word2vec.vocabulary import Vocabulary


@dataclass(frozen=True)
class Text:
    """A text as ids. No window reaches over the end of a sentence.

    ids: of the words, one after the other
    sentences: the number of the sentence that each is in, never falling
    """

    ids: Int[np.ndarray, " tokens"]
    sentences: Int[np.ndarray, " tokens"]

    def __post_init__(self) -> None:
        for name, value in (("ids", self.ids), ("sentences", self.sentences)):
            if value.ndim != 1 or value.dtype != np.int64:
                raise ValueError(f"{name} must be a vector of int64, got {value.dtype} of shape {value.shape}")
        if len(self.ids) != len(self.sentences):
            raise ValueError(f"sentences must have one number per word, {len(self.ids)}, got {len(self.sentences)}")
        if (np.diff(self.sentences) < 0).any():
            raise ValueError("sentences must never fall: a text is in its order")

    @staticmethod
    def from_sentences(sentences: Iterable[Sequence[str]], vocabulary: Vocabulary) -> Text:
        """Words that the vocabulary does not have are left out, so that their neighbours move together.

        Raises ValueError where no word is left.
        """
        parts = [vocabulary.ids(sentence, unknown="skip") for sentence in sentences]
        lengths = np.array([len(part) for part in parts], dtype=np.int64)
        if not lengths.sum():
            raise ValueError("sentences must have a word of the vocabulary, got none")
        return Text(np.concatenate(parts), np.repeat(np.arange(len(parts), dtype=np.int64), lengths))

    def __len__(self) -> int:
        return len(self.ids)


def subsample(text: Text, keep: Float[np.ndarray, " words"], rng: np.random.Generator) -> Text:
    """Each occurrence stays with its word's probability (2013b, Section 2.3); what stays moves together.

    Raises ValueError for probabilities outside of 0 to 1, or for fewer than the text has words.
    """
    if keep.ndim != 1 or not ((keep >= 0) & (keep <= 1)).all():
        raise ValueError(f"keep must be a vector of probabilities, got {keep.dtype} of shape {keep.shape}")
    if len(text) and text.ids.max() >= len(keep):
        raise ValueError(f"keep must have a probability for each word, at least {text.ids.max() + 1}, got {len(keep)}")
    stays = rng.random(len(text)) < keep[text.ids]
    return Text(text.ids[stays], text.sentences[stays])


def reaches(tokens: int, c: int, rng: np.random.Generator, dynamic: bool = True) -> Int[np.ndarray, " tokens"]:
    """R of each word: uniform on 1 … c (2013a, Section 3.2), so that near words count more; c itself if not dynamic."""
    whole("tokens", tokens, 0)
    whole("c", c)
    flag("dynamic", dynamic)
    return rng.integers(1, c, tokens, endpoint=True) if dynamic else np.full(tokens, c, dtype=np.int64)


def contexts(
    text: Text, c: int, rng: np.random.Generator, dynamic: bool = True
) -> tuple[Int[np.ndarray, "tokens 2c"], Bool[np.ndarray, "tokens 2c"]]:
    """The words around each word, from c before it to c after it, and which of them are in its window.

    Where the mask is False the id is 0 and means nothing: beyond R, or in another sentence.
    """
    R = reaches(len(text), c, rng, dynamic)
    offsets = np.concatenate((np.arange(-c, 0), np.arange(1, c + 1)))
    places = np.arange(len(text))[:, None] + offsets
    inside = (places >= 0) & (places < len(text)) & (np.abs(offsets) <= R[:, None])
    places = np.where(inside, places, 0)
    mask = inside & (text.sentences[places] == text.sentences[:, None]) if len(text) else inside
    return np.where(mask, text.ids[places], 0) if len(text) else places, mask


def pairs(
    text: Text, c: int, rng: np.random.Generator, dynamic: bool = True
) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
    """Skip-gram's examples: each word, and each word of its window, in the order of the text."""
    around, mask = contexts(text, c, rng, dynamic)
    words, slots = np.nonzero(mask)
    return text.ids[words], around[words, slots]


def negatives(
    noise: Float[np.ndarray, " words"], shape: tuple[int, ...], rng: np.random.Generator
) -> Int[np.ndarray, ...]:
    """Words drawn from the noise distribution P_n, with replacement.

    Raises ValueError for what is no distribution.
    """
    if noise.ndim != 1 or not len(noise) or (noise < 0).any() or not abs(noise.sum() - 1) < 1e-6:
        raise ValueError(f"noise must be a vector of probabilities that sum to 1, got {noise.dtype} of {noise.shape}")
    drawn = np.searchsorted(np.cumsum(noise), rng.random(shape), side="right")
    return np.minimum(drawn, len(noise) - 1)
