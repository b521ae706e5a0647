"""gensim's training, step by step; and our JAX twin."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import islice
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from papertest.claims import Run, claim
from papertest.parity import relative_error

from word2vec import models, windows
from word2vec.huffman import HuffmanTree, huffman_tree
from word2vec.reproduce.exact.examples import zipf

RATE, C, D = 0.025, 2, 16


def gensim_model(sentences: list[list[str]], seed: int, **options: Any) -> Any:
    """With whole windows and one rate, before its training; v′ is small, so that scores are near 0."""
    from gensim.models import Word2Vec

    theirs = Word2Vec(
        vector_size=D, window=C, min_count=1, workers=1, seed=seed, sample=0, shrink_windows=False, alpha=RATE,
        min_alpha=RATE, **options,
    )  # fmt: skip
    theirs.build_vocab(sentences)
    draw = np.random.default_rng(seed)
    theirs.wv.vectors[:] = draw.normal(size=theirs.wv.vectors.shape, scale=0.5)
    table(theirs)[:] = draw.normal(size=table(theirs).shape, scale=0.05)
    return theirs


def table(theirs: Any) -> Any:
    """v′; of a tree's inner nodes gensim has one row too many."""
    return theirs.syn1[:-1] if theirs.hs else theirs.syn1neg


def its_tree(theirs: Any) -> HuffmanTree:
    """gensim's own: of equal counts it may join others first."""
    codes, nodes = ([theirs.wv.get_vecattr(w, key) for w in theirs.wv.index_to_key] for key in ("code", "point"))
    most = max(map(len, codes))
    full = [np.array([np.pad(row.astype(np.int64), (0, most - len(row))) for row in rows]) for rows in (nodes, codes)]
    return HuffmanTree(full[0], full[1], np.array([len(row) for row in codes]))


def its_noise(theirs: Any) -> Iterator[int]:
    """The words that gensim is going to draw: its generator is a linear congruential one, started by NumPy's."""
    start = np.random.RandomState()
    start.set_state(theirs.random.get_state())
    state = 2**24 * int(start.randint(0, 2**24)) + int(start.randint(0, 2**24))
    while True:
        yield bisect_left(theirs.cum_table, (state >> 16) % int(theirs.cum_table[-1]))
        state = (state * 25214903917 + 11) & (2**48 - 1)


class Pair:
    """gensim's model and ours with the same vectors, and one sentence to train both on."""

    def __init__(
        self, kind: type[models.SkipGram] | type[models.CBOW], seed: int, length: int, **options: Any
    ) -> None:  # fmt: skip
        words = [f"w{i}" for i in np.random.default_rng(seed).integers(0, 30, 200)]
        self.sentence = list(dict.fromkeys(words))[:length]
        self.theirs = gensim_model([words], seed, sg=int(kind is models.SkipGram), **options)
        self.ours: Any = kind(len(self.theirs.wv), D, its_tree(self.theirs) if self.theirs.hs else None)
        with torch.no_grad():
            self.ours.v.copy_(torch.from_numpy(self.theirs.wv.vectors))
            self.ours.v_prime.copy_(torch.from_numpy(table(self.theirs)))
        self.before = [p.detach().clone() for p in (self.ours.v, self.ours.v_prime)]
        ids = np.array([self.theirs.wv.key_to_index[word] for word in self.sentence])
        self.text = windows.Text(ids, np.zeros_like(ids))

    def descend(self, loss: Tensor, times: int = 1) -> None:
        """One step of ours; v's is so many times the gradient."""
        gradients = torch.autograd.grad(loss.sum(), (self.ours.v, self.ours.v_prime))
        with torch.no_grad():
            self.ours.v -= RATE * times * gradients[0]
            self.ours.v_prime -= RATE * gradients[1]

    def difference(self) -> float:
        """Of both tables from gensim's, which is trained here, over the largest change."""
        self.theirs.train([self.sentence], total_examples=1, epochs=1)
        after = (self.theirs.wv.vectors, table(self.theirs))
        return max(
            ((mine - torch.from_numpy(other)).abs().max() / (mine - old).abs().max()).item()
            for mine, other, old in zip((self.ours.v, self.ours.v_prime), after, self.before, strict=True)
        )


def skip_gram_difference(seed: int, **options: int) -> float:
    """gensim predicts each word from each neighbour: the same pairs, the other way round."""
    pair = Pair(models.SkipGram, seed, 2, **options)
    noise = its_noise(pair.theirs)
    centres, neighbours = windows.pairs(pair.text, C, np.random.default_rng(0), dynamic=False)
    for centre, neighbour in zip(centres.tolist(), neighbours.tolist(), strict=True):
        inputs, outputs = torch.tensor([neighbour]), torch.tensor([centre])
        if pair.theirs.hs:
            pair.descend(pair.ours.hierarchical_softmax_loss(inputs, outputs))
        else:  # gensim passes over a noise word that is the word itself
            drawn = [word for word in islice(noise, pair.theirs.negative) if word != centre]
            pair.descend(pair.ours.negative_sampling_loss(inputs, outputs, torch.tensor([drawn], dtype=torch.long)))
    return pair.difference()


def cbow_difference(seed: int, multiplied: bool) -> float:
    """Window by window, in gensim's order."""
    pair = Pair(models.CBOW, seed, 5, hs=0, negative=1, cbow_mean=1)
    noise = its_noise(pair.theirs)
    around, mask = (
        torch.from_numpy(x) for x in windows.contexts(pair.text, C, np.random.default_rng(0), dynamic=False)
    )
    for i, centre in enumerate(pair.text.ids.tolist()):
        drawn = [word for word in islice(noise, 1) if word != centre]
        loss = pair.ours.negative_sampling_loss(
            around[i : i + 1], mask[i : i + 1], torch.tensor([centre]), torch.tensor([drawn], dtype=torch.long)
        )
        pair.descend(loss, int(mask[i].sum()) if multiplied else 1)
    return pair.difference()


class ItsLogSigmoid(torch.autograd.Function):
    """log σ(sign · x) for x = wanted and −unwanted, with gensim's sigmoid for the score in its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sign: int) -> Tensor:
        places = ((sign * x + 6) * 83).long()  # 1,000 entries from −6 to 6: whole numbers make 83 of 1000 / 6 / 2
        sigmoid = torch.sigmoid((places.float() / 1000 * 2 - 1) * 6)
        ctx.save_for_backward(1 - sigmoid if sign > 0 else sigmoid)
        return F.logsigmoid(x)

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> Any:
        return upstream[0] * ctx.saved_tensors[0], None


class ItsFunctional:
    """In the place of torch.nn.functional in our models: scores of words have one axis, those of noise words two."""

    @staticmethod
    def logsigmoid(x: Tensor) -> Any:
        return ItsLogSigmoid.apply(x, 1 if x.ndim == 1 else -1)


@claim("gensim-skip-gram")
def gensim_skip_gram(run: Run) -> dict[str, float]:
    """20 starts."""

    def furthest(**options: int) -> float:
        return max(skip_gram_difference(seed, **options) for seed in range(run.seed, run.seed + 20))

    found = {"hierarchical": furthest(hs=1, negative=0), "negative": furthest(hs=0, negative=1)}
    with mock.patch.object(models, "F", ItsFunctional):
        return found | {"its_sigmoid": furthest(hs=0, negative=1)}


@claim("gensim-cbow")
def gensim_cbow(run: Run) -> dict[str, float]:
    """20 starts: the largest difference of the multiplied steps, the smallest of the gradient's."""
    starts = range(run.seed, run.seed + 20)
    with mock.patch.object(models, "F", ItsFunctional):
        return {
            "multiplied": max(cbow_difference(seed, True) for seed in starts),
            "gradient": min(cbow_difference(seed, False) for seed in starts),
        }


@claim("word2vec-jax-twin")
def jax_twin(run: Run) -> dict[str, float]:
    """Both losses and their gradients by autograd on either side, and Eq. 4's gradient as the twin writes it out."""
    import jax
    import jax.numpy as jnp

    from word2vec import jax as twin

    words, d, pairs, k = 100, 32, 512, 5
    draw = np.random.default_rng(run.seed)
    ids = [draw.integers(0, words, shape) for shape in (pairs, pairs, (pairs, k))]
    there, here = [jnp.asarray(x) for x in ids], [torch.from_numpy(x) for x in ids]
    tree = huffman_tree(zipf(words, 1000).tolist())

    def negative(v: Any, u: Any) -> Any:
        return twin.negative_sampling_loss(v, u, *there)

    def hierarchical(v: Any, u: Any) -> Any:
        return twin.hierarchical_softmax_loss(v, u, tree, *there[:2])

    found = {"losses": 0.0, "gradients": 0.0, "written": 0.0}
    for paths, theirs in ((None, negative), (tree, hierarchical)):
        model = models.SkipGram(words, d, paths)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.from_numpy(draw.normal(size=parameter.shape, scale=0.3)))
        v, u = (jnp.asarray(p.detach().numpy()) for p in (model.v, model.v_prime))
        ours = model.hierarchical_softmax_loss(*here[:2]) if paths else model.negative_sampling_loss(*here)
        true = torch.autograd.grad(ours.sum(), (model.v, model.v_prime))
        found["losses"] = max(found["losses"], far(theirs(v, u), ours.detach()))
        by_jax = jax.grad(lambda v, u, f=theirs: f(v, u).sum(), argnums=(0, 1))(v, u)
        found["gradients"] = max(found["gradients"], *(far(a, b) for a, b in zip(by_jax, true, strict=True)))
        if paths is None:
            written = twin.negative_sampling_gradient(v, u, *there)
            found["written"] = max(far(a, b) for a, b in zip(written, true, strict=True))
    return found


def far(theirs: Any, ours: Tensor) -> float:
    return relative_error(torch.from_numpy(np.array(theirs)), ours)
