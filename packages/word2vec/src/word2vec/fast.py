"""Training on a CPU: the gradients of `word2vec.models` written out, for some hundred running words at a time.

A step takes blocks of `block` neighbouring words. All words of a block meet all words around it in one product of
matrices, and the mask of the windows says which of these products count. So a step gathers two rows per running word,
where one by one each pair of words would gather its own. Two things differ from the authors' program:

- The noise words are shared: a step draws `pool` of them, and each weighs k / pool for every example. That is Eq. 4's
  expectation over P_n, estimated by `pool` draws instead of k.
- All gradients of a step are taken at its beginning and added up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from word2vec.checks import number, whole
from word2vec.models import CBOW, SkipGram
from word2vec.windows import Text, negatives, reaches, subsample

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


@torch.no_grad()
def negative_sampling_step(
    model: SkipGram | CBOW, blocks: Blocks, pool: Int[Tensor, " pool"], k: float, rate: float
) -> float:
    """One step of stochastic gradient descent on the sum of Eq. 4 over all examples of the blocks.

    pool: noise words, each of which weighs k / pool for every example

    Returns the loss per example, in nats, before the step.
    """
    v, u = model.v, model.v_prime
    if isinstance(model, SkipGram):
        weights = blocks.windows.to(v.dtype)
        examples = weights.sum(-1)  # of each centre
        given, asked = blocks.centres, blocks.around
        h, positive = v[given], u[asked]
        scores = h @ positive.mT
    else:
        combine, weights = _combine(model, blocks)
        examples = weights
        given, asked = blocks.around, blocks.centres
        h, positive = combine @ v[given], u[asked]
        scores = (h * positive).sum(-1)
    noise = u[pool]
    noise_scores = h @ noise.T
    noise_weights = examples[..., None] * (k / len(pool))
    loss = -(torch.nn.functional.logsigmoid(scores) * weights).sum()
    loss -= (torch.nn.functional.logsigmoid(-noise_scores) * noise_weights).sum()
    g = (scores.sigmoid() - 1).mul_(weights)
    g_noise = noise_scores.sigmoid_().mul_(noise_weights)
    if isinstance(model, SkipGram):
        to_h, to_positive = g @ positive, g.mT @ h
    else:
        to_h, to_positive = g[..., None] * positive, g[..., None] * h
    to_h += g_noise @ noise
    to_noise = g_noise.flatten(0, 1).T @ h.flatten(0, 1)
    to_v = to_h if isinstance(model, SkipGram) else combine.mT @ to_h
    _add(v, given, to_v, -rate)
    _add(u, asked, to_positive, -rate)
    _add(u, pool, to_noise, -rate)
    return float(loss) / max(float(examples.sum()), 1.0)


@torch.no_grad()
def hierarchical_softmax_step(model: SkipGram | CBOW, blocks: Blocks, rate: float) -> float:
    """One step of stochastic gradient descent on the sum of Eq. 3 over all examples of the blocks.

    Returns the loss per example, in nats, before the step.
    """
    v, u = model.v, model.v_prime
    if isinstance(model, SkipGram):
        given, asked = blocks.centres, blocks.around
        h = v[given]
        weights = blocks.windows.to(v.dtype)
        total = weights.sum()
        weights = weights[..., None]
    else:
        combine, examples = _combine(model, blocks)
        given, asked = blocks.around, blocks.centres
        h = combine @ v[given]
        total = examples.sum()
        weights = examples[..., None]
    nodes, signs = model.nodes[asked], model.signs[asked].to(v.dtype)
    inner = u[nodes]
    if isinstance(model, SkipGram):
        flat = inner.flatten(1, 2)  # every centre meets every step of every path around
        scores = (h @ flat.mT).unflatten(-1, nodes.shape[1:])
        signs = signs[:, None]
    else:
        flat = inner
        scores = torch.einsum("blsd,bld->bls", inner, h)
    signed = scores.mul_(signs)
    weights = weights * signs
    loss = -(torch.nn.functional.logsigmoid(signed) * weights * signs).sum()
    g = (signed.sigmoid_() - 1).mul_(weights)
    if isinstance(model, SkipGram):
        g = g.flatten(2)
        to_h, to_inner = g @ flat, g.mT @ h
        to_v = to_h
    else:
        to_h, to_inner = torch.einsum("bls,blsd->bld", g, inner), g[..., None] * h[:, :, None]
        to_v = combine.mT @ to_h
    _add(v, given, to_v, -rate)
    _add(u, nodes, to_inner, -rate)
    return float(loss) / max(float(total), 1.0)


def _combine(model: CBOW, blocks: Blocks) -> tuple[Float[Tensor, "blocks block wide"], Float[Tensor, "blocks block"]]:
    """The matrix that makes hidden layers of the words around; and 1 for each centre whose window has words."""
    windows = blocks.windows.to(model.v.dtype)
    inside = windows.sum(-1)
    examples = (inside > 0).to(model.v.dtype)
    return (windows / inside.clamp(min=1)[..., None] if model.combine == "mean" else windows), examples


def _add(table: Tensor, rows: Int[Tensor, ...], gradient: Float[Tensor, "... d"], scale: float) -> None:
    table.data.index_add_(0, rows.flatten(), gradient.reshape(-1, table.shape[1]), alpha=scale)


def train(
    model: SkipGram | CBOW, text: Text, c: int, epochs: int = 1, rate: float = 0.025,
    k: int = 5, noise: Float[np.ndarray, " words"] | None = None, keep: Float[np.ndarray, " words"] | None = None,
    block: int = 32, words: int = 256, pool: int = 64, seed: int = 0,
) -> Iterator[tuple[int, float]]:  # fmt: skip
    """Trains in place, while it is iterated over: by hierarchical softmax where the model has a tree, else by negative
    sampling, which needs `noise`. The rate falls linearly (2013a, Section 4.2: from 0.025).

    c: the largest window; R is drawn anew in each epoch, as is what `keep` leaves out
    epochs: 3 in 2013a's Tables 2 to 4, then 1
    words: running words per step
    block: see above; pool: noise words per step

    Yields after each step how many running words it took, and its loss per example. Raises ValueError for numbers out
    of range, and for a `noise` that is there with a tree or missing without one.
    """
    for name, value in (("c", c), ("epochs", epochs), ("k", k), ("block", block), ("words", words), ("pool", pool)):
        whole(name, value)
    number("rate", rate)
    if (noise is None) != model.hierarchical:
        raise ValueError("noise must be a distribution without a tree, and None with one")
    rng = np.random.default_rng(seed)
    per_step = max(1, words // block)
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
            yield blocks.centres.numel(), loss
