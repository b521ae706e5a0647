"""word2vec: CBOW and skip-gram, negative sampling and hierarchical softmax (Mikolov et al. 2013a, 2013b), fastText's
subwords (Bojanowski et al. 2017), and PMI with SVD (Levy and Goldberg 2014)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from word2vec.fast import train
    from word2vec.huffman import HuffmanTree, huffman_tree
    from word2vec.models import CBOW, SkipGram
    from word2vec.similarity import analogies, read_questions, sentence_vectors, spearman
    from word2vec.sparse import cooccurrences, pmi, ppmi, svd_vectors
    from word2vec.subwords import SubwordSkipGram
    from word2vec.vocabulary import Vocabulary, keep_probability, noise_distribution
    from word2vec.windows import Text, contexts, negatives, pairs, subsample

__all__ = [
    "CBOW",
    "HuffmanTree",
    "SkipGram",
    "SubwordSkipGram",
    "Text",
    "Vocabulary",
    "analogies",
    "contexts",
    "cooccurrences",
    "huffman_tree",
    "keep_probability",
    "negatives",
    "noise_distribution",
    "pairs",
    "pmi",
    "ppmi",
    "read_questions",
    "sentence_vectors",
    "spearman",
    "subsample",
    "svd_vectors",
    "train",
]

_HOMES = {
    "fast": ("train",),
    "huffman": ("HuffmanTree", "huffman_tree"),
    "models": ("CBOW", "SkipGram"),
    "similarity": ("analogies", "read_questions", "sentence_vectors", "spearman"),
    "sparse": ("cooccurrences", "pmi", "ppmi", "svd_vectors"),
    "subwords": ("SubwordSkipGram",),
    "vocabulary": ("Vocabulary", "keep_probability", "noise_distribution"),
    "windows": ("Text", "contexts", "negatives", "pairs", "subsample"),
}


def __getattr__(name: str) -> Any:
    """The names above on first use: `reproduce --list` need not wait for torch, nor the models for SciPy."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
