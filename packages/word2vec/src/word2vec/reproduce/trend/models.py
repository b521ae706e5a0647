"""Skip-gram, CBOW, subwords and a factorised matrix against each other, and what more words and dimensions do."""

from __future__ import annotations

from typing import Any

from papertest import Measured, Run, claim

from word2vec.reproduce.training import factorised, trained

KINDS = ("semantic", "syntactic")


def accuracies(found: dict[str, Any]) -> dict[str, float]:
    """Per cent of the semantic, the syntactic and of all questions."""
    counts = found["questions"].values()
    total = 100 * sum(right for right, _ in counts) / sum(asked for _, asked in counts)
    return {kind: found[kind] for kind in KINDS} | {"total": total}


def compared(run: Run, above: str, below: str) -> tuple[dict[str, float], dict[str, Any]]:
    """Accuracy of one arm over that of another by kind of question, and both in full."""
    both = {name: run.shared(trained, name) for name in (above, below)}
    first, second = (accuracies(found) for found in both.values())
    return {kind: first[kind] / second[kind] for kind in first}, both


@claim("vectors-learn")
def vectors_learn(run: Run) -> Measured:
    """The control: WordSim-353 by skip-gram, its lead over vectors that nothing was learnt into, both accuracies."""
    found = run.shared(trained, "skip-gram")
    value = {"wordsim": found["wordsim"], "lead": found["wordsim"] - found["random"]["wordsim"]}
    return Measured(value | {kind: found[kind] for kind in KINDS}, found)


@claim("skip-gram-semantic")
def skip_gram_semantic(run: Run) -> Measured:
    """2013a, Table 3: accuracy on semantic questions, skip-gram over CBOW."""
    ratios, both = compared(run, "skip-gram", "cbow")
    return Measured(ratios["semantic"], both)


@claim("cbow-syntactic")
def cbow_syntactic(run: Run) -> Measured:
    """2013a, Table 3: accuracy on syntactic questions, CBOW over skip-gram."""
    ratios, both = compared(run, "cbow", "skip-gram")
    return Measured(ratios["syntactic"], {name: accuracies(found) for name, found in both.items()})


@claim("dimensions-and-words")
def dimensions_and_words(run: Run) -> Measured:
    """2013a, Table 2: what four times the words add with many dimensions less what they add with few, as a share of the
    best accuracy."""
    names = ("cbow-few-quarter", "cbow-few", "cbow-quarter", "cbow")
    grid = {name: accuracies(run.shared(trained, name))["total"] for name in names}
    few_quarter, few, quarter, best = grid.values()
    return Measured((best - quarter - (few - few_quarter)) / best, {"total": grid})


@claim("subwords-syntactic")
def subwords_syntactic(run: Run) -> Measured:
    """Bojanowski et al. (2017), Table 2: accuracy with subwords over that of skip-gram, syntactic questions."""
    ratios, both = compared(run, "subwords", "skip-gram")
    return Measured(ratios["syntactic"], both)


@claim("subwords-not-semantic")
def subwords_not_semantic(run: Run) -> Measured:
    """The same table: the ratio of syntactic questions over that of semantic ones."""
    ratios, _ = compared(run, "subwords", "skip-gram")
    return Measured(ratios["syntactic"] / ratios["semantic"], {"ratios": ratios})


@claim("unseen-words")
def unseen_words(run: Run) -> Measured:
    """Pairs of SimLex-999 with a word that no model saw: the correlation by n-grams, and its lead where they are
    exchanged."""
    found = run.shared(trained, "subwords")["unseen"]
    return Measured({"rho": found["rho"], "lead": found["rho"] - found["exchanged"]}, found)


@claim("svd-similarity")
def svd_similarity(run: Run) -> Measured:
    """Levy and Goldberg (2014): correlation of PPMI's SVD less that of skip-gram, WordSim-353 and SimLex-999."""
    svd, sgns = run.shared(factorised), run.shared(trained, "skip-gram")
    return Measured({name: svd[name] - sgns[name] for name in ("wordsim", "simlex")}, {"svd": svd})


@claim("sgns-analogies")
def sgns_analogies(run: Run) -> Measured:
    """Levy and Goldberg (2014): accuracy of skip-gram over that of PPMI's SVD, all questions."""
    sgns, svd = (accuracies(found) for found in (run.shared(trained, "skip-gram"), run.shared(factorised)))
    return Measured(sgns["total"] / svd["total"], {"skip-gram": sgns, "svd": svd})


@claim("mean-vectors")
def mean_vectors(run: Run) -> Measured:
    """Lee's pairs of stories: correlation of SIF-weighted mean vectors less that of TF-IDF, and less that of plain
    means."""
    found = run.shared(trained, "skip-gram")["documents"]
    return Measured({"tfidf": found["sif"] - found["tfidf"], "mean": found["sif"] - found["mean"]}, found)
