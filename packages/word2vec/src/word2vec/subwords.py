"""Skip-gram with the vectors of letter n-grams (Bojanowski et al. 2017, arXiv 1607.04606): what became fastText."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from word2vec.checks import whole
from word2vec.models import SkipGram
from word2vec.vocabulary import Vocabulary


def n_grams(word: str, shortest: int = 3, longest: int = 6) -> tuple[str, ...]:
    """The n-grams of <word>, of letters and not of bytes (Section 3.2). The word itself is a further one, with a vector
    of its own, and is not in this list.

    Raises ValueError for an empty word, or lengths that are out of order.
    """
    whole("shortest", shortest)
    whole("longest", longest, shortest)
    if type(word) is not str or not word:
        raise ValueError(f"word must be a str of at least one letter, got {word!r}")
    marked = f"<{word}>"
    return tuple(
        marked[i : i + n]
        for i in range(len(marked))
        for n in range(shortest, longest + 1)
        if i + n <= len(marked)
    )  # fmt: skip


def fnv1a(text: str) -> int:
    """The 32-bit FNV-1a hash of the text's UTF-8. Bytes from 128 on have their sign extended, as fastText has it."""
    h = 2166136261
    for byte in text.encode():
        h = (h ^ (byte if byte < 128 else byte | 0xFFFFFF00)) * 16777619 & 0xFFFFFFFF
    return h


class SubwordSkipGram(SkipGram):
    """Skip-gram whose v_I is Σ_g z_g, over the word itself and its n-grams; the n-grams share a table of buckets.

    v: z, first of the words and then of the buckets, (words + buckets) × d
    rows, used: for each word the rows of z that are its own, and True where such a row is one

    Raises ValueError as SkipGram does, and for lengths that are out of order or no bucket.
    """

    def __init__(
        self, vocabulary: Vocabulary, d: int, shortest: int = 3, longest: int = 6, buckets: int = 2_000_000,
        seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(len(vocabulary), d, seed=seed)
        whole("buckets", buckets)
        self.shortest, self.longest, self.buckets = shortest, longest, buckets
        draw = torch.Generator().manual_seed(seed)
        self.v = nn.Parameter((torch.rand(self.words + buckets, d, generator=draw) - 0.5) / d)
        own = [[i, *self._bucket_rows(word)] for i, word in enumerate(vocabulary.words)]
        most = max(map(len, own))
        self.rows: Tensor
        self.used: Tensor
        self.register_buffer("rows", torch.tensor([row + [0] * (most - len(row)) for row in own]))
        self.register_buffer("used", torch.arange(most) < torch.tensor([len(row) for row in own])[:, None])

    def inputs(self, ids: Int[Tensor, "*ids"]) -> Float[Tensor, "*ids d"]:
        """v_I of each word."""
        return (self.v[self.rows[ids]] * self.used[ids][..., None]).sum(-2)

    @torch.no_grad()
    def vector(self, word: str) -> Float[Tensor, " d"]:
        """Of any word, also of one that was never seen: the sum over its n-grams alone.

        Raises ValueError for a word too short to have any.
        """
        rows = self._bucket_rows(word)
        if not rows:
            raise ValueError(f"word must have an n-gram of {self.shortest} to {self.longest} letters, got {word!r}")
        return self.v[torch.tensor(rows)].sum(0)

    def _bucket_rows(self, word: str) -> list[int]:
        return [self.words + fnv1a(g) % self.buckets for g in n_grams(word, self.shortest, self.longest)]
