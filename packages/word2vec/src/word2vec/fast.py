"""Training on a CPU: the gradients of `word2vec.models` written out, for some hundred running words at a time.

A step takes blocks of neighbouring words. All words of a block meet all words around it in one product of matrices,
and the mask of the windows says which of these products count. So a step gathers a few rows per running word, where
pair by pair each of some forty would be gathered. Two things differ from the authors' program:

- The noise words are shared: a step draws `pool` of them, and each weighs k / pool for every example. That is Eq. 4's
  expectation over P_n, estimated by `pool` draws instead of k.
- All gradients of a step are taken at its beginning and added up.

Where v_I is a sum of G vectors of subwords, each of them takes 1/G of v_I's step, which fastText's program does in
effect: with all of it, v_I would move by G times the rate.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from word2vec.checks import number, whole
from word2vec.models import CBOW, SkipGram
from word2vec.subwords import SubwordSkipGram
from word2vec.windows import Text, negatives, reaches, subsample

RUNAWAY = 10.0  # times what the loss of a new model is at most
FLOOR = 1e-4  # of the first rate: where its fall ends in the authors' program; 2013a says zero


@dataclass(frozen=True)
class Blocks:
    """Neighbouring words in blocks, as a step takes them.

    centres: ids
    around: ids of the same words, with c more on either side
    windows: True where a word around is in the window of a centre
    """

    centres: Int[Tensor, "blocks block"]
    around: Int[Tensor, "blocks wide"]
    windows: Bool[Tensor, "blocks block wide"]


class Blocked:
    """A text cut into blocks once, from which steps are taken."""

    def __init__(self, text: Text, c: int, block: int, rng: np.random.Generator) -> None:
        whole("block", block)
        if not len(text):
            raise ValueError("text must have at least one word, got none")
        R = reaches(len(text), c, rng)
        blocks = -(-len(text) // block)
        padding = (c, blocks * block - len(text) + c)
        ids = torch.from_numpy(np.pad(text.ids, padding))
        sentences = torch.from_numpy(np.pad(text.sentences, padding, constant_values=-1))
        inside = slice(c, c + blocks * block)
        wide = block + 2 * c
        self.centres = ids[inside].view(blocks, block)
        self.around = ids.unfold(0, wide, block)
        self.R = torch.from_numpy(np.pad(R, (0, padding[1] - c))).view(blocks, block)
        self.sentences = sentences[inside].view(blocks, block)
        self.sentences_around = sentences.unfold(0, wide, block)
        self.distance = (torch.arange(wide) - c - torch.arange(block)[:, None]).abs()
        self.distance[self.distance == 0] = c + 1

    def __len__(self) -> int:
        return len(self.centres)

    def __getitem__(self, at: slice) -> Blocks:
        near = self.distance <= self.R[at, :, None]  # R is 0 for padding
        same = self.sentences[at, :, None] == self.sentences_around[at, None]
        return Blocks(self.centres[at], self.around[at], near & same)


@dataclass(frozen=True)
class Examples:
    """What a step learns from: every hidden layer of a block meets every word that is asked for in that block.

    h: hidden layers: of a skip-gram the words' vectors, of CBOW the windows' means or sums
    given: ids of the words whose vectors make h
    back: a step for h times its transpose is the step for v[given]; None where h is v[given] itself
    asked: ids of the words to be predicted
    weights: 1 where a word asked for is one that this h predicts, else 0
    """

    h: Float[Tensor, "blocks block d"]
    given: Int[Tensor, "blocks given"]
    back: Float[Tensor, "blocks block given"] | None
    asked: Int[Tensor, "blocks asked"]
    weights: Float[Tensor, "blocks block asked"]

    def update(self, v: Tensor, to_h: Float[Tensor, "blocks block d"], rate: float) -> None:
        """One step down for the vectors that made h."""
        _subtract(v, self.given, to_h if self.back is None else self.back.mT @ to_h, rate)


def examples_of(model: SkipGram | CBOW, blocks: Blocks) -> Examples:
    """A skip-gram's centres predict the words around; CBOW's windows predict their centres, where they have words."""
    windows = blocks.windows.to(model.v.dtype)
    if isinstance(model, SubwordSkipGram):
        used = model.used[blocks.centres].to(model.v.dtype)
        own = torch.eye(used.shape[1], dtype=used.dtype)[..., None]
        combine, rows = (own * used[:, None]).flatten(2), model.rows[blocks.centres].flatten(1)
        return Examples(combine @ model.v[rows], rows, combine / combine.sum(-1, keepdim=True), blocks.around, windows)
    if isinstance(model, SkipGram):
        return Examples(model.v[blocks.centres], blocks.centres, None, blocks.around, windows)
    sizes = windows.sum(-1, keepdim=True)
    combine = windows / sizes.clamp(min=1) if model.combine == "mean" else windows
    own = torch.eye(windows.shape[1], dtype=windows.dtype) * (sizes > 0)
    return Examples(combine @ model.v[blocks.around], blocks.around, combine, blocks.centres, own)


@torch.no_grad()
def negative_sampling_step(
    model: SkipGram | CBOW, blocks: Blocks, pool: Int[Tensor, " pool"], k: float, rate: float
) -> float:
    """One step of stochastic gradient descent on the sum of 2013b's Eq. 4 over all examples of the blocks.

    pool: noise words, each of which weighs k / pool for every example

    Returns the loss per example, in nats, before the step.
    """
    v, u = model.v, model.v_prime
    e = examples_of(model, blocks)
    count = e.weights.sum(-1, keepdim=True)
    wanted, noise = u[e.asked], u[pool]
    scores, noise_scores = e.h @ wanted.mT, e.h @ noise.T
    noise_weights = count * (k / len(pool))
    loss = -(F.logsigmoid(scores) * e.weights).sum() - (F.logsigmoid(-noise_scores) * noise_weights).sum()
    g = (scores.sigmoid_() - 1).mul_(e.weights)
    g_noise = noise_scores.sigmoid_().mul_(noise_weights)
    e.update(v, g @ wanted + g_noise @ noise, rate)
    _subtract(u, e.asked, g.mT @ e.h, rate)
    _subtract(u, pool, g_noise.flatten(0, 1).T @ e.h.flatten(0, 1), rate)
    return float(loss) / max(float(count.sum()), 1.0)


@torch.no_grad()
def hierarchical_softmax_step(model: SkipGram | CBOW, blocks: Blocks, rate: float) -> float:
    """One step of stochastic gradient descent on the sum of 2013b's Eq. 3 over all examples of the blocks.

    Returns the loss per example, in nats, before the step.
    """
    v, u = model.v, model.v_prime
    e = examples_of(model, blocks)
    nodes, signs = model.nodes[e.asked], model.signs[e.asked].to(v.dtype)
    inner = u[nodes].flatten(1, 2)
    signs = signs.flatten(1)[:, None]
    weights = e.weights.repeat_interleave(nodes.shape[-1], -1) * signs
    signed = (e.h @ inner.mT).mul_(signs)
    loss = -(F.logsigmoid(signed) * weights * signs).sum()
    g = (signed.sigmoid_() - 1).mul_(weights)
    e.update(v, g @ inner, rate)
    _subtract(u, nodes, g.mT @ e.h, rate)
    return float(loss) / max(float(e.weights.sum()), 1.0)


def _subtract(table: Tensor, rows: Int[Tensor, ...], gradient: Float[Tensor, "... d"], rate: float) -> None:
    table.index_add_(0, rows.flatten(), gradient.reshape(-1, table.shape[1]), alpha=-rate)


def train(
    model: SkipGram | CBOW, text: Text, c: int, epochs: int = 1, rate: float = 0.025,
    k: int = 5, noise: Float[np.ndarray, " words"] | None = None, keep: Float[np.ndarray, " words"] | None = None,
    block: int = 16, words: int = 128, pool: int = 64, seed: int = 0,
) -> Iterator[tuple[int, float]]:  # fmt: skip
    """Trains in place, while it is iterated over: by hierarchical softmax where the model has a tree, else by negative
    sampling, which needs `noise`. The rate falls linearly (2013a, Section 4.2: from 0.025).

    c: the largest window; R is drawn anew in each epoch, as is what `keep` leaves out
    epochs: 3 in 2013a's Tables 2 to 4, then 1
    words: running words per step, in blocks of `block`. With rate · words above 6 or so a step overshoots
    pool: noise words per step, at least k; more of them make a step less noisy

    Yields after each step how many running words it took, and its loss per example. Raises ValueError for numbers out
    of range, for a `noise` that is there with a tree or missing without one, and for a loss that runs away.
    """
    for name, value in (("c", c), ("epochs", epochs), ("k", k), ("block", block), ("words", words)):
        whole(name, value)
    whole("pool", pool, k)
    number("rate", rate)
    if (noise is None) != model.hierarchical:
        raise ValueError("noise must be a distribution without a tree, and None with one")
    if model.words <= int(text.ids.max(initial=-1)) or (noise is not None and len(noise) != model.words):
        raise ValueError(f"text and noise must be of the model's {model.words} words")
    rng = np.random.default_rng(seed)
    per_step = max(1, words // block)
    most = RUNAWAY * (math.log(2) * (k + 1) if noise is not None else math.log2(model.words))
    for epoch in range(epochs):
        blocked = Blocked(text if keep is None else subsample(text, keep, rng), c, block, rng)
        steps = -(-len(blocked) // per_step)
        pools = None if noise is None else torch.from_numpy(negatives(noise, (steps, pool), rng))
        for step in range(steps):
            blocks = blocked[step * per_step : (step + 1) * per_step]
            now = rate * max(1 - (epoch + step / steps) / epochs, FLOOR)
            if pools is None:
                loss = hierarchical_softmax_step(model, blocks, now)
            else:
                loss = negative_sampling_step(model, blocks, pools[step], k, now)
            if not loss < most:
                raise ValueError(f"rate must be smaller, or words fewer: {rate} × {words} made a loss of {loss:.3g}")
            yield blocks.centres.numel(), loss
