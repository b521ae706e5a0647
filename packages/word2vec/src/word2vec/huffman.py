"""A Huffman tree over the words: hierarchical softmax walks from its root to a word (2013a, Section 3; 2013b, 2.1)."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclass(frozen=True)
class HuffmanTree:
    """For each word the inner nodes n(w, 1) … n(w, L(w) − 1) from the root on, and where each step goes.

    nodes: ids of inner nodes from 0 to words − 2; the root is words − 2; 0 where a path has ended
    codes: 1 where the step goes to the second child, 0 to the first; 0 where a path has ended
    lengths: steps to each word, L(w) − 1
    """

    nodes: Int[np.ndarray, "words steps"]
    codes: Int[np.ndarray, "words steps"]
    lengths: Int[np.ndarray, " words"]

    @property
    def mask(self) -> Bool[np.ndarray, "words steps"]:
        """True where a path has a step."""
        return np.arange(self.nodes.shape[1]) < self.lengths[:, None]

    def expected_length(self, counts: Sequence[int]) -> float:
        """Steps to a word drawn by its count: between the entropy in bits and that plus one."""
        p: Float[np.ndarray, " words"] = np.asarray(counts, dtype=np.float64)
        if p.shape != self.lengths.shape:
            raise ValueError(f"counts must have one number per word, {len(self.lengths)}, got shape {p.shape}")
        return float(self.lengths @ p / p.sum())


def huffman_tree(counts: Sequence[int]) -> HuffmanTree:
    """The two rarest nodes are joined until one is left; the rarer one is the first child. Of equal nodes the one with
    the smaller id is taken first, leaves before inner nodes.

    Raises ValueError for fewer than two words, or a count that is not a whole number of at least 1.
    """
    n = np.asarray(counts)
    if n.ndim != 1 or len(n) < 2 or n.dtype.kind not in "iu" or (n < 1).any():
        raise ValueError(f"counts must be two or more whole numbers of at least 1, got {n.dtype} of shape {n.shape}")
    words = len(n)
    root = 2 * words - 2
    up, other = [0] * (root + 1), [0] * (root + 1)  # a node's parent, and 1 for a second child
    heap = [count * (root + 1) + i for i, count in enumerate(n.tolist())]  # ordered by count, then by id
    heapq.heapify(heap)
    for joined in range(words, root + 1):
        less = heapq.heappop(heap)
        more = heap[0]
        first, second = less % (root + 1), more % (root + 1)
        up[first] = up[second] = joined
        other[second] = 1
        heapq.heapreplace(heap, less - first + more - second + joined)
    steps = [0] * (root + 1)
    for node in range(root - 1, -1, -1):  # a parent's id is larger than its children's
        steps[node] = steps[up[node]] + 1
    parent, code, depth = (np.array(x, dtype=np.int64) for x in (up, other, steps))
    lengths = depth[:words]
    nodes, codes = (np.zeros((words, lengths.max()), dtype=np.int64) for _ in range(2))
    at = np.arange(words)
    while (climbing := np.nonzero(at != root)[0]).size:
        step = depth[at[climbing]] - 1
        codes[climbing, step] = code[at[climbing]]
        at[climbing] = parent[at[climbing]]
        nodes[climbing, step] = at[climbing] - words
    return HuffmanTree(nodes, codes, lengths)
