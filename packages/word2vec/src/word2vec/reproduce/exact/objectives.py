"""Equations 3 and 4: what they sum to, their gradients, and where their optimum is."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from papertest.claims import Measured, Run, claim

from word2vec import fast, huffman, models, sparse, windows
from word2vec.reproduce.exact.examples import zipf


def filled(model: models.SkipGram | models.CBOW, seed: int) -> models.SkipGram | models.CBOW:
    """In float64, both tables normal, so that no gradient is zero."""
    draw = torch.Generator().manual_seed(seed)
    model.double()
    with torch.no_grad():
        for table in model.parameters():
            table.normal_(std=0.3, generator=draw)
    return model


@claim("tree-sums-to-one")
def tree_sums_to_one(run: Run) -> Measured:
    """exp(−loss) over all words, for 20 inputs."""
    words = 1000
    tree = huffman.huffman_tree(zipf(words, 1e6).tolist())
    model = filled(models.SkipGram(words, 16, tree), run.seed)
    assert isinstance(model, models.SkipGram)
    with torch.no_grad():
        sums = [
            model.hierarchical_softmax_loss(torch.full((words,), word), torch.arange(words)).neg().exp().sum().item()
            for word in range(20)
        ]
    return Measured(max(sums, key=lambda s: abs(s - 1)), {"sums": sums})


def text_of(seed: int, words: int = 50, tokens: int = 200, length: int = 7) -> windows.Text:
    ids = np.random.default_rng(seed).integers(0, words, tokens)
    return windows.Text(ids, np.arange(tokens) // length)


@claim("written-gradients")
def written_gradients(run: Run) -> dict[str, float]:
    """All 200 words in one step, in blocks of 16; the windows are those that the blocks have."""
    words, d, c, rate = 50, 12, 3, 0.1
    text = text_of(run.seed, words)
    tree = huffman.huffman_tree(zipf(words, 1000).tolist())
    found: dict[str, float] = {}
    for name, kind in (("skip_gram", models.SkipGram), ("cbow", models.CBOW)):
        for objective, paths in (("negative", None), ("tree", tree)):
            model = filled(kind(words, d, paths), run.seed)
            before = [table.detach().clone() for table in (model.v, model.v_prime)]
            pool = torch.from_numpy(np.random.default_rng(run.seed).integers(0, words, 4))
            loss = summed_loss(model, text, c, run.seed, None if paths is not None else pool)
            gradients = torch.autograd.grad(loss, (model.v, model.v_prime))
            blocked = fast.Blocked(text, c, 16, np.random.default_rng(run.seed))
            blocks = blocked[: len(blocked)]
            if paths is None:
                fast.negative_sampling_step(model, blocks, pool, len(pool), rate)
            else:
                fast.hierarchical_softmax_step(model, blocks, rate)
            found[f"{name}_{objective}"] = max(
                ((table - old + rate * g).abs().max() / (rate * g).abs().max()).item()
                for table, old, g in zip((model.v, model.v_prime), before, gradients, strict=True)
            )
    return found


def summed_loss(
    model: models.SkipGram | models.CBOW, text: windows.Text, c: int, seed: int, pool: Tensor | None
) -> Tensor:
    """The same examples, one by one."""
    rng = np.random.default_rng(seed)
    if isinstance(model, models.SkipGram):
        inputs, outputs = (torch.from_numpy(x) for x in windows.pairs(text, c, rng))
        if pool is None:
            return model.hierarchical_softmax_loss(inputs, outputs).sum()
        return model.negative_sampling_loss(inputs, outputs, pool.expand(len(inputs), -1)).sum()
    around, mask = (torch.from_numpy(x) for x in windows.contexts(text, c, rng))
    some = mask.any(1)
    around, mask, outputs = around[some], mask[some], torch.from_numpy(text.ids)[some]
    if pool is None:
        return model.hierarchical_softmax_loss(around, mask, outputs).sum()
    return model.negative_sampling_loss(around, mask, outputs, pool.expand(len(outputs), -1)).sum()


def furthest(counts: np.ndarray, k: int, power: float, seed: int) -> float:
    """From PMI − log k, at the minimum of the expected loss over all pairs and all noise words."""
    words = len(counts)
    model = filled(models.SkipGram(words, words), seed)
    assert isinstance(model, models.SkipGram)
    weights = counts.sum(0) ** power
    weights = torch.from_numpy(weights / weights.sum())
    w, c, n = (x.flatten() for x in torch.meshgrid(*[torch.arange(words)] * 3, indexing="ij"))
    share = torch.from_numpy(counts / counts.sum())[w, c] * weights[n]
    noise = n[:, None].expand(-1, k)
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=5000, max_eval=10_000, tolerance_grad=1e-13, tolerance_change=0, history_size=50,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (model.negative_sampling_loss(w, c, noise) * share).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    products = (model.v @ model.v_prime.T).detach().numpy()
    stated = sparse.pmi(counts, power).toarray() - np.log(k)
    return float(np.abs(products - stated).max())


@claim("sgns-optimum")
def sgns_optimum(run: Run) -> dict[str, float]:
    """Counts from 1 to 40, which are not symmetric."""
    counts = np.random.default_rng(run.seed).integers(1, 41, (8, 8)).astype(np.float64)
    return {
        "k_1": furthest(counts, 1, 1.0, run.seed),
        "k_5": furthest(counts, 5, 1.0, run.seed),
        "smoothed": furthest(counts, 1, 0.75, run.seed),
    }
