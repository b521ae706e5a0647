"""What 2013b's Table 1 compares: noise words, the tree, and frequent words left out."""

from __future__ import annotations

from papertest import Measured, Run, claim

from word2vec.reproduce.trend.models import accuracies, compared


@claim("subsampling-semantic")
def subsampling_semantic(run: Run) -> Measured:
    """2013b, Table 1: semantic accuracy with subsampling over that without, and by how much the tree gains more."""
    tree, of_tree = compared(run, "hs", "hs-all")
    noise, of_noise = compared(run, "skip-gram", "skip-gram-all")
    value = {"hs": tree["semantic"], "neg_5": noise["semantic"], "hs_over_neg": tree["semantic"] / noise["semantic"]}
    return Measured(value, {name: accuracies(found) for name, found in (of_tree | of_noise).items()})


@claim("subsampling-syntactic")
def subsampling_syntactic(run: Run) -> Measured:
    """2013b, Table 1: syntactic accuracy with subsampling over that without."""
    found = {"hs": ("hs", "hs-all"), "neg_5": ("skip-gram", "skip-gram-all")}
    return Measured({part: compared(run, *arms)[0]["syntactic"] for part, arms in found.items()})


@claim("more-noise-words")
def more_noise_words(run: Run) -> Measured:
    """2013b, Table 1: accuracy on all questions with 15 noise words over that with 5."""
    ratios, both = compared(run, "neg-15", "skip-gram")
    return Measured(ratios["total"], {name: accuracies(found) for name, found in both.items()})


@claim("noise-against-tree")
def noise_against_tree(run: Run) -> Measured:
    """2013b, Table 1: accuracy on all questions of negative sampling over that of the tree, both subsampled."""
    ratios, both = compared(run, "skip-gram", "hs")
    return Measured(ratios["total"], {name: accuracies(found) for name, found in both.items()})
