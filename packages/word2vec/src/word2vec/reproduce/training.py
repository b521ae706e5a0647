"""Training the small models, and what is asked of each. A shared run gives numbers alone, never vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from sklearn.feature_extraction.text import TfidfVectorizer

from papertest import Run
from papertest.threads import one_thread

from word2vec.fast import train
from word2vec.huffman import huffman_tree
from word2vec.models import CBOW, SkipGram
from word2vec.reproduce import data
from word2vec.similarity import analogies, normalised, sentence_vectors, sif_weights, spearman
from word2vec.sparse import cooccurrences, ppmi, svd_vectors
from word2vec.subwords import SubwordSkipGram
from word2vec.vocabulary import Vocabulary, keep_probability, noise_distribution
from word2vec.windows import subsample

WINDOW = 5
MOST = 30_000  # words that analogies are asked of: 2013a, Table 2
BUCKETS = 100_000  # of n-grams; fastText's two million would be as many as the text has words
QUICK = 0.02  # of the text in `reproduce --quick`
RANDOM = 1_000_000  # added to a seed: vectors that nothing was learnt into


@dataclass(frozen=True)
class Arm:
    """One model: what differs between those that are compared.

    rate: at the beginning; chosen on seeds that don't count. CBOW's gradient is a mean's, so it is larger. Where noise
        words weigh more, or frequent words meet themselves in a step, it is as large as does not run away
    epochs: 2013a's Tables 2 and 4
    t: of subsampling, by the authors' program's formula; None leaves nothing out
    share: of the text
    """

    model: Literal["skip-gram", "cbow", "subwords"] = "skip-gram"
    objective: Literal["negative sampling", "hierarchical softmax"] = "negative sampling"
    d: int = 100
    k: int = 5
    t: float | None = 1e-4
    rate: float = 0.05
    epochs: int = 3
    share: float = 1.0


ARMS = {
    "skip-gram": Arm(),
    "cbow": Arm("cbow", rate=0.4),
    "subwords": Arm("subwords"),
    "neg-15": Arm(k=15, rate=0.04),
    "hs": Arm(objective="hierarchical softmax", rate=0.04),
    "skip-gram-all": Arm(t=None, rate=0.04),
    "hs-all": Arm(objective="hierarchical softmax", t=None, rate=0.03),
    "cbow-quarter": Arm("cbow", rate=0.4, share=0.25),
    "cbow-few": Arm("cbow", rate=0.4, d=20),
    "cbow-few-quarter": Arm("cbow", rate=0.4, d=20, share=0.25),
}


def new_model(arm: Arm, seed: int) -> SkipGram | CBOW:
    """With the vectors it begins with."""
    words = data.vocabulary()
    tree = huffman_tree(words.counts) if arm.objective == "hierarchical softmax" else None
    if arm.model == "cbow":
        return CBOW(len(words), arm.d, tree, seed=seed)
    if arm.model == "subwords":
        return SubwordSkipGram(words, arm.d, buckets=BUCKETS, seed=seed)
    return SkipGram(len(words), arm.d, tree, seed=seed)


@one_thread()
def trained(run: Run, name: str) -> dict[str, Any]:
    """One of ARMS, trained from the run's seed, and its answers."""
    arm = ARMS[name]
    words = data.vocabulary()
    text = data.part(min(arm.share, QUICK if run.quick else 1))
    model = new_model(arm, run.seed)
    noise = None if model.hierarchical else noise_distribution(words.counts)
    keep = None if arm.t is None else keep_probability(words.frequencies, arm.t, "code")
    epochs = 1 if run.quick else arm.epochs
    curve: list[float] = []
    total, taken = len(text) * epochs, 0
    steps = train(model, text, WINDOW, epochs, arm.rate, arm.k, noise, keep, seed=run.seed)
    for count, loss in run.progress(steps, f"{name}, seed {run.seed}"):
        curve.append(loss)
        taken += count
    vectors = vectors_of(model)
    tenth = max(1, len(curve) // 10)
    found: dict[str, Any] = {"loss": [float(np.mean(curve[:tenth])), float(np.mean(curve[-tenth:]))]}
    found |= {"kept": taken / total, **asked(vectors)}
    if isinstance(model, SubwordSkipGram):
        found["unseen"] = unseen(model, vectors)
    if name == "skip-gram":
        found["random"] = asked(vectors_of(new_model(arm, run.seed + RANDOM)))
        found["documents"] = documents(vectors)
    return found


@torch.no_grad()
def vectors_of(model: SkipGram | CBOW) -> Float[np.ndarray, "words d"]:
    """One per word: v, and for subwords the sum over the n-grams and the word itself."""
    if isinstance(model, SubwordSkipGram):
        return model.inputs(torch.arange(model.words)).numpy()
    return model.v.detach().numpy()


def asked(vectors: Float[np.ndarray, "words d"]) -> dict[str, Any]:
    """Spearman's correlations with people's judgements, and per cent of the questions that are answered.

    questions: (right, asked) by section, with the 30,000 most frequent words
    """
    words = data.vocabulary()
    judged = {name: spearman(vectors, words, data.pairs(name)).rho for name in data.PAIRS}
    scores = analogies(vectors, words, data.questions(), MOST)
    found: dict[str, Any] = {**judged, "questions": {name: [s.correct, s.asked] for name, s in scores.items()}}
    for kind in ("semantic", "syntactic"):
        of_kind = [s for name, s in scores.items() if name.startswith("gram") == (kind == "syntactic")]
        found[kind] = 100 * sum(s.correct for s in of_kind) / sum(s.asked for s in of_kind)
    return found


def unseen(model: SubwordSkipGram, vectors: Float[np.ndarray, "words d"]) -> dict[str, float]:
    """Spearman's correlation over SimLex-999's pairs that have a word which no model saw, by its n-grams alone; and
    that of the same pairs with the unseen words' vectors exchanged among them."""
    seen, others = data.vocabulary(), sorted(data.unseen_words())
    both = Vocabulary(seen.words + tuple(others), seen.counts + (1,) * len(others))
    judged = [row for row in data.pairs("simlex") if not data.unseen_words().isdisjoint(row[:2])]
    rows = np.stack([model.vector(word).numpy() for word in others])
    found = {"rho": rows, "exchanged": np.roll(rows, 1, axis=0)}
    return {name: spearman(np.concatenate((vectors, rows)), both, judged).rho for name, rows in found.items()}


def documents(vectors: Float[np.ndarray, "words d"]) -> dict[str, float]:
    """Pearson's correlation with what people said of 1,225 pairs of short news stories: of the cosines of mean vectors,
    plain and weighted by SIF, and of TF-IDF, whose weights are those of the same fifty stories."""
    words, lee = data.vocabulary(), data.documents()
    ids = [words.ids(story, unknown="skip") for story in lee.stories]
    vectorizer: Any = TfidfVectorizer
    tfidf = vectorizer(analyzer=list).fit_transform(lee.stories)
    found = {
        "mean": sentence_vectors(vectors, ids),
        "sif": sentence_vectors(vectors, ids, sif_weights(words.frequencies)),
        "tfidf": tfidf.toarray(),
    }
    judged = lee.judged[lee.above]
    units = {name: normalised(np.asarray(rows, dtype=np.float64)) for name, rows in found.items()}
    return {name: float(np.corrcoef((rows @ rows.T)[lee.above], judged)[0, 1]) for name, rows in units.items()}


@one_thread()
def factorised(run: Run) -> dict[str, Any]:
    """PPMI's SVD of the same width, from counts of the text that a seed's subsampling leaves, and its answers."""
    arm, words = ARMS["skip-gram"], data.vocabulary()
    assert arm.t is not None
    keep = keep_probability(words.frequencies, arm.t, "code")
    text = subsample(data.part(QUICK if run.quick else 1), keep, np.random.default_rng(run.seed))
    matrix = ppmi(cooccurrences(text, len(words), WINDOW))
    return asked(svd_vectors(matrix, arm.d, seed=run.seed)) | {"entries": int(matrix.nnz)}
