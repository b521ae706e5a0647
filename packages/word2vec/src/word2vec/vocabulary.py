"""Words, their counts, how often a frequent word is left out, and how often a word is drawn as noise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from word2vec.checks import number, one_of, whole


@dataclass(frozen=True)
class Vocabulary:
    """The words of a text, the most frequent first; a word's id is its place. Equal counts keep the order of the text.

    words: each once
    counts: of each word, at least 1
    """

    words: tuple[str, ...]
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.words or len(set(self.words)) != len(self.words):
            raise ValueError(f"words must be one or more different words, got {len(self.words)} with repeats or none")
        if len(self.counts) != len(self.words):
            raise ValueError(f"counts must have one number per word, {len(self.words)}, got {len(self.counts)}")
        for count in self.counts:
            whole("counts", count)
        object.__setattr__(self, "_ids", {word: i for i, word in enumerate(self.words)})

    @staticmethod
    def from_sentences(sentences: Iterable[Sequence[str]], min_count: int = 5) -> Vocabulary:
        """The words that occur at least `min_count` times (2013b, Section 2.3: 5).

        Raises ValueError for a sentence that is a str, whose words would be letters, and where no word is left.
        """
        whole("min_count", min_count)
        seen: Counter[str] = Counter()
        for sentence in sentences:
            seen.update(_words(sentence))
        kept = [(word, n) for word, n in seen.most_common() if n >= min_count]
        if not kept:
            raise ValueError(f"sentences must have a word that occurs min_count times, {min_count}, got none")
        return Vocabulary(tuple(word for word, _ in kept), tuple(n for _, n in kept))

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self._index

    @property
    def frequencies(self) -> Float[np.ndarray, " words"]:
        """Counts over their sum: f(w) of 2013b, Eq. 5."""
        counts = np.asarray(self.counts, dtype=np.float64)
        return counts / counts.sum()

    def id(self, word: str) -> int:
        """Raises ValueError for a word that is not here."""
        if word not in self._index:
            raise ValueError(f"word must be one of the vocabulary's {len(self):,} words, got {word!r}")
        return self._index[word]

    def ids(self, sentence: Sequence[str], unknown: Literal["refuse", "skip"] = "refuse") -> Int[np.ndarray, " tokens"]:
        """Raises ValueError for a word that is not here, unless unknown="skip" leaves it out."""
        one_of("unknown", unknown, ("refuse", "skip"))
        words = _words(sentence)
        if unknown == "skip":
            index = self._index
            return np.array([index[word] for word in words if word in index], dtype=np.int64)
        return np.array([self.id(word) for word in words], dtype=np.int64)

    @property
    def _index(self) -> dict[str, int]:
        return self.__dict__["_ids"]


def _words(sentence: Sequence[str]) -> Sequence[str]:
    if isinstance(sentence, str):
        raise ValueError(f"sentence must be a sequence of words, got the str {sentence[:40]!r}")
    return sentence


def keep_probability(
    frequencies: Float[np.ndarray, " words"], t: float = 1e-5, formula: Literal["paper", "code"] = "paper"
) -> Float[np.ndarray, " words"]:
    """How often an occurrence of each word stays in the text, from 0 to 1.

    formula="paper": √(t / f), at most 1 (2013b, Eq. 5, which has the probability to be left out, 1 − √(t / f))
    formula="code":  √(t / f) + t / f, at most 1: what the authors' program does, so that every word with f below
                     2.618 t stays

    Raises ValueError for frequencies that are not above 0 and at most 1.
    """
    number("t", t)
    one_of("formula", formula, ("paper", "code"))
    f = np.asarray(frequencies)
    if f.ndim != 1 or f.dtype.kind != "f" or not ((f > 0) & (f <= 1)).all():
        raise ValueError(
            f"frequencies must be a vector of floats above 0 and at most 1, got {f.dtype} of shape {f.shape}"
        )
    ratio = t / f
    return np.minimum(1.0, np.sqrt(ratio) + (ratio if formula == "code" else 0))  # Eq. 5


def noise_distribution(counts: Sequence[int], power: float = 0.75) -> Float[np.ndarray, " words"]:
    """P_n = U^(3/4) / Z (2013b, Section 2.2); power 1 is the unigram distribution, 0 the uniform one."""
    number("power", power, above=-1e-9)
    n = np.asarray(counts)
    if n.ndim != 1 or not len(n) or n.dtype.kind not in "iu" or (n < 1).any():
        raise ValueError(f"counts must be a vector of whole numbers of at least 1, got {n.dtype} of shape {n.shape}")
    raised = n.astype(np.float64) ** power
    return raised / raised.sum()
