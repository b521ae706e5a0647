"""What vectors are asked: analogies, similar words, similar sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from word2vec.checks import number, whole
from word2vec.vocabulary import Vocabulary

Vectors = Float[np.ndarray, "words d"]
BATCH = 256  # questions at a time: each is compared with all words


def normalised(vectors: Vectors) -> Vectors:
    """Of length 1; a zero vector stays. Raises ValueError for what is not a matrix of finite floats."""
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or not np.isfinite(vectors).all():
        raise ValueError(f"vectors must be a matrix of finite floats, got {vectors.dtype} of shape {vectors.shape}")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def read_questions(lines: Iterable[str]) -> dict[str, list[tuple[str, str, str, str]]]:
    """Questions by section, of a file in which a section begins with `: name` and a question has four words: the last
    is to the third as the second to the first. Sections whose names begin with gram are syntactic.

    Raises ValueError for a line with another number of words, or before the first section.
    """
    sections: dict[str, list[tuple[str, str, str, str]]] = {}
    name = ""
    for line in map(str.strip, lines):
        if line.startswith(":"):
            name = line[1:].strip()
            sections[name] = []
        elif line:
            words = line.split()
            if len(words) != 4 or not name:
                raise ValueError(f"lines must have four words below a line `: section`, got {line!r}")
            sections[name].append((words[0], words[1], words[2], words[3]))
    return sections


def nearest(vectors: Vectors, questions: Int[np.ndarray, "questions 3"]) -> Int[np.ndarray, " questions"]:
    """3CosAdd (2013a, Section 4): for a, b, c the word whose vector is nearest by cosine to b − a + c, where all have
    length 1 and a, b and c themselves are left out."""
    unit = normalised(vectors)
    found: list[Int[np.ndarray, " batch"]] = [np.empty(0, dtype=np.int64)]
    for start in range(0, len(questions), BATCH):
        a, b, c = questions[start : start + BATCH].T
        scores = (unit[b] - unit[a] + unit[c]) @ unit.T
        for word in (a, b, c):
            scores[np.arange(len(scores)), word] = -np.inf
        found.append(scores.argmax(axis=1))
    return np.concatenate(found)


@dataclass(frozen=True)
class Score:
    """Of one section.

    correct: questions with exactly the right word
    asked: questions of which all four words are known
    unknown: the others, which do not count
    """

    correct: int
    asked: int
    unknown: int

    @property
    def accuracy(self) -> float:
        """In per cent; NaN where nothing was asked."""
        return 100 * self.correct / self.asked if self.asked else float("nan")


def analogies(
    vectors: Vectors, vocabulary: Vocabulary, sections: dict[str, list[tuple[str, str, str, str]]],
    most: int | None = None,
) -> dict[str, Score]:  # fmt: skip
    """Each section's score. Words are taken in lower case where the vocabulary has no other form of them.

    most: only the so many most frequent words are known and searched (2013a, Table 2: 30,000)

    Raises ValueError for vectors of another number of words.
    """
    known = len(vocabulary) if most is None else most
    whole("most", known)
    if len(vectors) != len(vocabulary):
        raise ValueError(f"vectors must be of the vocabulary's {len(vocabulary)} words, got {len(vectors)}")
    vectors = vectors[:known]
    scores: dict[str, Score] = {}
    for name, questions in sections.items():
        ids = [[_id(vocabulary, word, known) for word in question] for question in questions]
        asked = np.array([row for row in ids if -1 not in row], dtype=np.int64).reshape(-1, 4)
        right: Bool[np.ndarray, " asked"] = nearest(vectors, asked[:, :3]) == asked[:, 3]
        scores[name] = Score(int(right.sum()), len(asked), len(questions) - len(asked))
    return scores


def _id(vocabulary: Vocabulary, word: str, known: int) -> int:
    form = word if word in vocabulary else word.lower()
    i = vocabulary.id(form) if form in vocabulary else -1
    return i if i < known else -1


@dataclass(frozen=True)
class Correlation:
    """rho: Spearman's, from −1 to 1; pairs: with both words known; unknown: the others, which do not count."""

    rho: float
    pairs: int
    unknown: int


def spearman(vectors: Vectors, vocabulary: Vocabulary, judged: Sequence[tuple[str, str, float]]) -> Correlation:
    """Of the words' cosines with people's judgements, as in WordSim-353 and SimLex-999. Needs SciPy.

    Raises ValueError for vectors of another number of words, or fewer than two pairs that are known.
    """
    from scipy.stats import spearmanr

    if len(vectors) != len(vocabulary):
        raise ValueError(f"vectors must be of the vocabulary's {len(vocabulary)} words, got {len(vectors)}")
    rows = [(_id(vocabulary, a, len(vectors)), _id(vocabulary, b, len(vectors)), score) for a, b, score in judged]
    rows = [row for row in rows if -1 not in row[:2]]
    if len(rows) < 2:
        raise ValueError(f"judged must have two or more pairs of known words, got {len(rows)} of {len(judged)}")
    unit = normalised(vectors)
    cosines = [float(unit[a] @ unit[b]) for a, b, _ in rows]
    rho: float = spearmanr(cosines, [score for *_, score in rows]).statistic  # pyright: ignore[reportAttributeAccessIssue]
    return Correlation(float(rho), len(rows), len(judged) - len(rows))


def sif_weights(frequencies: Float[np.ndarray, " words"], a: float = 1e-3) -> Float[np.ndarray, " words"]:
    """a / (a + f(w)): frequent words weigh less in a sentence (Arora, Liang and Ma 2017, Section 3)."""
    number("a", a)
    return a / (a + frequencies)


def sentence_vectors(
    vectors: Vectors,
    sentences: Iterable[Int[np.ndarray, " tokens"]],
    weights: Float[np.ndarray, " words"] | None = None,
) -> Float[np.ndarray, "sentences d"]:
    """The mean of the words' vectors, weighted where there are weights; zero for a sentence without words.

    Raises ValueError for another number of weights than of words.
    """
    if weights is not None and weights.shape != (len(vectors),):
        raise ValueError(f"weights must be one per word, {len(vectors)}, got shape {weights.shape}")
    means: list[Float[np.ndarray, " d"]] = []
    for ids in sentences:
        w = np.ones(len(ids)) if weights is None else weights[ids]
        means.append(w @ vectors[ids] / w.sum() if len(ids) else np.zeros(vectors.shape[1]))
    return np.stack(means) if means else np.empty((0, vectors.shape[1]))
