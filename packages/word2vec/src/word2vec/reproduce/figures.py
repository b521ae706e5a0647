"""The write-up's figures: the two models, the two curves of sampling, what training shows, and what the clock does."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from papertest.claims import figure

from word2vec.vocabulary import keep_probability

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AROUND = ("w(t−2)", "w(t−1)", "w(t+1)", "w(t+2)")


@figure("models")
def models(results: dict[str, Any]) -> Figure:
    """CBOW and skip-gram with a window of two, and the two objectives in place of a softmax."""
    from papertest.figures import arrow, box, sheet

    drawing, axis = sheet(11.0, 4.6, 22.0, 9.2)
    heights = (6.9, 5.3, 2.7, 1.1)
    for x, text in ((3.4, "CBOW"), (10.6, "skip-gram"), (18.2, "in place of a softmax over all words")):
        axis.text(x, 8.7, text, ha="center", weight="bold")
    box(axis, 3.6, 3.9, 1.8, 1.0, "mean $h$", "standard")
    box(axis, 6.2, 3.9, 1.5, 1.0, "w(t)", "ours")
    arrow(axis, (4.5, 4.4), (5.45, 4.4))
    box(axis, 9.0, 3.9, 1.5, 1.0, "w(t)", "standard")
    for y, word in zip(heights, AROUND, strict=True):
        box(axis, 1.2, y, 1.7, 1.0, word, "standard")
        arrow(axis, (2.05, y + 0.5), (2.7, 4.4))
        box(axis, 12.2, y, 1.7, 1.0, word, "ours")
        arrow(axis, (9.75, 4.4), (11.35, y + 0.5))
    box(axis, 18.2, 4.8, 7.0, 3.4, "", "white")
    axis.text(18.2, 7.75, "negative sampling", ha="center", va="center", fontsize=9, weight="bold")
    box(axis, 15.6, 6.3, 1.0, 0.8, "$h$", "standard")
    for i, (word, role, sign) in enumerate((("word", "ours", "1"), ("noise", "other", "0"), ("noise", "other", "0"))):
        y = 6.7 - i * 0.85
        box(axis, 19.0, y - 0.05, 1.6, 0.7, word, role)
        arrow(axis, (16.1, 6.7), (18.2, y + 0.3))
        axis.text(20.3, y + 0.3, f"→ {sign}", va="center", fontsize=9)
    box(axis, 18.2, 0.4, 7.0, 3.9, "", "white")
    axis.text(18.2, 3.9, "hierarchical softmax", ha="center", va="center", fontsize=9, weight="bold")
    nodes = {"root": (18.2, 2.9), "left": (16.6, 1.9), "right": (19.8, 1.9)}
    for name in ("left", "right"):
        arrow(
            axis,
            (nodes["root"][0], nodes["root"][1] - 0.3),
            (nodes[name][0], nodes[name][1] + 0.3),
            "ours" if name == "right" else "standard",
        )
    for i, (x, parent) in enumerate(((15.9, "left"), (17.3, "left"), (19.1, "right"), (20.5, "right"))):
        start = nodes[parent]
        arrow(axis, (start[0], start[1] - 0.3), (x, 1.25), "ours" if i == 2 else "standard")
        box(axis, x, 0.6, 1.1, 0.65, "word" if i == 2 else "", "ours" if i == 2 else "white")
    for x, y in nodes.values():
        box(axis, x, y - 0.3, 0.9, 0.6, "σ", "other")
    return drawing


@figure("sampling")
def sampling(results: dict[str, Any]) -> Figure:
    """How often a word stays by its frequency, and how often it is noise."""
    from papertest.figures import COLOURS, panels

    drawing, (keep, noise) = panels(2, height=3.6, width=4.6)
    f = np.logspace(-7, -1, 400)
    for t, style in ((1e-5, "-"), (1e-3, "--")):
        for stays, role, label in ((keep_probability(f, t, "paper"), "standard", "Equation 5"),
                                   (keep_probability(f, t, "code"), "ours", "their code")):  # fmt: skip
            keep.plot(f, 100 * stays, style, color=COLOURS[role], label=f"{label}, {t:g}")
    keep.set(
        xscale="log", title="What subsampling leaves", xlabel="frequency of the word", ylabel="% of its occurrences"
    )
    keep.legend(loc="lower left")
    ranks = np.arange(1, 10_001)
    unigram = 1 / ranks / (1 / ranks).sum()
    for power, role in ((1.0, "standard"), (0.75, "ours"), (0.0, "other")):
        drawn = unigram**power / (unigram**power).sum()
        noise.plot(ranks, drawn, color=COLOURS[role], label=f"power {power:g}")
    noise.set(xscale="log", yscale="log", title="What noise is drawn from", xlabel="rank of the word, Zipf's law",
              ylabel="probability")  # fmt: skip
    noise.legend()
    return drawing


@figure("training", "vectors-learn", "skip-gram-semantic", "subwords-syntactic", "svd-similarity",
        "subsampling-semantic", "noise-against-tree", "dimensions-and-words", "unseen-words")  # fmt: skip
def training(results: dict[str, Any]) -> Figure:
    """Accuracy by model, correlation with people by model, and words against dimensions."""
    from papertest.figures import COLOURS, band, panels

    drawing, (answers, similar, grid) = panels(3, height=4.4, width=4.2)

    def of(claim: str, *path: str) -> list[float]:
        found: list[float] = []
        for sample in results[claim].samples:
            value = sample["details"]
            for key in path:
                value = value[key]
            found.append(value)
        return found

    arms = (("skip-gram", "vectors-learn", ()), ("CBOW", "skip-gram-semantic", ("cbow",)),
            ("subwords", "subwords-syntactic", ("subwords",)), ("tree", "subsampling-semantic", ("hs",)),
            ("skip-gram, all words", "subsampling-semantic", ("skip-gram-all",)),
            ("tree, all words", "subsampling-semantic", ("hs-all",)),
            ("SVD of PPMI", "svd-similarity", ("svd",)))  # fmt: skip
    _bars(answers, arms, of, (("semantic", "ours"), ("syntactic", "standard")))
    answers.set(title="Questions answered", xlabel="%")
    answers.legend(loc="lower right")
    people = (arms[0], arms[1], arms[2], arms[6], ("untrained", "vectors-learn", ("random",)))
    _bars(similar, people, of, (("wordsim", "ours"), ("simlex", "standard")))
    unseen = fmean(of("unseen-words", "rho"))
    similar.axvline(unseen, color=COLOURS["peer"], linewidth=1.4, linestyle="--", label="simlex, unseen words")
    similar.set(title="Agreement with people", xlabel="Spearman's correlation")
    similar.legend(loc="lower right")
    totals = of("dimensions-and-words", "total")
    for label, role, names in (("100 dimensions", "ours", ("cbow-quarter", "cbow")),
                               ("20 dimensions", "standard", ("cbow-few-quarter", "cbow-few"))):  # fmt: skip
        band(grid, [25, 100], [[total[name] for name in names] for total in totals], role, label)  # pyright: ignore
    grid.set(title="Words and dimensions, CBOW", xlabel="% of the text", ylabel="% of all questions", ylim=(0, None))
    grid.set_xticks([25, 100])
    grid.legend()
    return drawing


def _bars(axis: Any, rows: Any, of: Any, kinds: tuple[tuple[str, str], ...]) -> None:
    """Pairs of horizontal bars, means of the seeds, and each seed as a tick."""
    from papertest.figures import COLOURS

    for i, (kind, role) in enumerate(kinds):
        for y, (_, claim, path) in enumerate(rows):
            seeds, at = of(claim, *path, kind), y + 0.38 * i - 0.19
            axis.barh(at, fmean(seeds), 0.36, color=COLOURS[role], label=kind if y == 0 else None)
            axis.plot(seeds, [at] * len(seeds), "|", color="black", markersize=6)
    axis.set_yticks(range(len(rows)), [label for label, *_ in rows])
    axis.invert_yaxis()
    axis.grid(visible=False, axis="y")


@figure("effects", "skip-gram-semantic", "cbow-syntactic", "subsampling-semantic", "subsampling-syntactic",
        "more-noise-words", "noise-against-tree", "subwords-syntactic", "subwords-not-semantic",
        "sgns-analogies")  # fmt: skip
def ratios(results: dict[str, Any]) -> Figure:
    """Every ratio of accuracies with its interval, criterion and the papers' value."""
    from papertest.figures import effects, panels

    rows = (("skip-gram over CBOW, semantic", "skip-gram-semantic", ""),
            ("CBOW over skip-gram, syntactic", "cbow-syntactic", ""),
            ("subsampled tree, semantic", "subsampling-semantic", "hs"),
            ("subsampled noise words, semantic", "subsampling-semantic", "neg_5"),
            ("the first over the second", "subsampling-semantic", "hs_over_neg"),
            ("subsampled tree, syntactic", "subsampling-syntactic", "hs"),
            ("subsampled noise words, syntactic", "subsampling-syntactic", "neg_5"),
            ("15 noise words over 5", "more-noise-words", ""), ("noise words over tree", "noise-against-tree", ""),
            ("subwords, syntactic", "subwords-syntactic", ""),
            ("subwords, syntactic over semantic", "subwords-not-semantic", ""),
            ("skip-gram over SVD", "sgns-analogies", ""))  # fmt: skip
    drawing, (axis,) = panels(1, height=6.4, width=8.4)
    axis.set_xscale("log")
    effects(axis, [(label, results[claim], part) for label, claim, part in rows])
    ticks = (0.25, 0.5, 1, 2, 4, 8)
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.set(title="Ratios of accuracies", xlabel="above 1 the first is better")
    return drawing


@figure("speed", "noise-words-time", "cbow-time", "subsampling-time", "tree-time", "blocks-against-pairs",
        "blocks-against-gensim")  # fmt: skip
def speed(results: dict[str, Any]) -> Figure:
    """Ratios of times."""
    from papertest.figures import panels, speeds

    rows = (("15 noise words over 5", "noise-words-time", ""), ("skip-gram over CBOW", "cbow-time", ""),
            ("all words over subsampled, noise", "subsampling-time", "neg_5"),
            ("all words over subsampled, tree", "subsampling-time", "hs"), ("tree over noise words", "tree-time", ""),
            ("pairs over blocks", "blocks-against-pairs", ""),
            ("gensim over blocks", "blocks-against-gensim", ""))  # fmt: skip
    drawing, (axis,) = panels(1, height=4.4, width=8.4)
    speeds(axis, [(label, results[claim], part) for label, claim, part in rows])
    axis.set(title="Ratios of times, one thread", xlabel="above 1 the second is faster")
    return drawing
