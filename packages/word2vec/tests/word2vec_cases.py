"""A small text and models on it, which several files share."""

from __future__ import annotations

import numpy as np
import torch

from word2vec import CBOW, SkipGram, Text, Vocabulary, huffman_tree

SENTENCES = [
    ["the", "cat", "sat", "on", "the", "mat"],
    ["the", "dog", "sat", "on", "the", "cat"],
    [],
    ["a", "mat", "is", "a", "mat"],
]
WORDS, D = 12, 6


def vocabulary():
    return Vocabulary.from_sentences(SENTENCES, min_count=1)


def text(seed=0, tokens=60, words=WORDS, length=7):
    ids = np.random.default_rng(seed).integers(0, words, tokens)
    return Text(ids, np.arange(tokens) // length)


def tree():
    return huffman_tree([40, 30, 20, 15, 10, 9, 7, 5, 3, 2, 1, 1])


def model(kind=SkipGram, hierarchical=False, seed=0, **options):
    """In float64 with two normal tables."""
    made = kind(WORDS, D, tree() if hierarchical else None, **options).double()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for table in made.parameters():
            table.normal_(std=0.5, generator=draw)
    return made


KINDS = (SkipGram, CBOW)
