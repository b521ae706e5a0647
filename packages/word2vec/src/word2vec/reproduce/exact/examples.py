"""From words to examples: the tree, the windows, what is left out, the noise, and what an example costs."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import torch
from jaxtyping import Float, Int

from papertest.claims import Measured, Run, claim

from word2vec import huffman, models, vocabulary, windows


def zipf(words: int, first: float) -> Int[np.ndarray, " words"]:
    """Counts that fall as 1 / rank, at least 1."""
    return np.maximum(1, first / np.arange(1, words + 1)).astype(np.int64)


@claim("huffman-length")
def huffman_length(run: Run) -> Measured:
    """The details have both lengths, and that of a balanced tree."""
    words = 10_000 if run.quick else 100_000
    counts = zipf(words, 1e6).tolist()
    p = np.array(counts) / sum(counts)
    entropy = float(-(p * np.log2(p)).sum())
    expected = huffman.huffman_tree(counts).expected_length(counts)
    return Measured(expected - entropy, {"entropy": entropy, "expected": expected, "balanced": math.log2(words)})


@claim("window-words")
def window_words(run: Run) -> float:
    """Pairs over words; the ends of the text are 10 of 200,000 words on either side."""
    words, c = 20_000 if run.quick else 200_000, 10
    text = windows.Text(np.zeros(words, dtype=np.int64), np.zeros(words, dtype=np.int64))
    inputs, _ = windows.pairs(text, c, np.random.default_rng(run.seed))
    return len(inputs) / words


@claim("cost-products")
def cost_products(run: Run) -> dict[str, float]:
    """Gradients that are not zero, of CBOW with 8 words around, and of each of 10 pairs."""
    words, d, N, C = 1024, 100, 8, 10
    tree = huffman.huffman_tree([1] * words)
    found = {"cbow": 0.0, "skip_gram": 0.0}
    cbow, skip_gram = models.CBOW(words, d, tree), models.SkipGram(words, d, tree)
    for model in (cbow, skip_gram):
        torch.nn.init.normal_(model.v_prime, generator=torch.Generator().manual_seed(run.seed))
    around = torch.arange(1, N + 1)[None]
    loss = cbow.hierarchical_softmax_loss(around, torch.ones_like(around, dtype=torch.bool), torch.tensor([0]))
    found["cbow"] = touched(loss, cbow)
    for output in range(1, C + 1):
        loss = skip_gram.hierarchical_softmax_loss(torch.tensor([0]), torch.tensor([output]))
        found["skip_gram"] += touched(loss, skip_gram)
    return found


def touched(loss: torch.Tensor, model: torch.nn.Module) -> float:
    gradients = torch.autograd.grad(loss.sum(), list(model.parameters()))
    return float(sum(int(g.count_nonzero()) for g in gradients))


@claim("subsampling-rates")
def subsampling_rates(run: Run) -> Measured:
    """Four words whose frequencies are 1, 10, 100 and 1,000 times t."""
    t, times = 1e-5, np.array([1.0, 10.0, 100.0, 1000.0])
    draws = 20_000 if run.quick else 200_000
    keep = vocabulary.keep_probability(times * t, t)
    ids = np.repeat(np.arange(4), draws)
    stays = windows.subsample(windows.Text(ids, np.zeros_like(ids)), keep, np.random.default_rng(run.seed))
    rates: Float[np.ndarray, " words"] = np.bincount(stays.ids, minlength=4) / draws
    stated = 1 - np.maximum(0, 1 - np.sqrt(1 / times))  # Eq. 5, as printed
    deviation = np.sqrt(np.maximum(stated * (1 - stated), 1 / draws) / draws)
    return Measured(float(np.abs((rates - stated) / deviation).max()), {"rates": rates.tolist()})


@claim("subsampling-code")
def subsampling_code(run: Run) -> dict[str, float]:
    """The last frequency that stays whole, by bisection."""
    t = 1e-5

    def stays(times: float, formula: str) -> float:
        kind = "code" if formula == "code" else "paper"
        return float(vocabulary.keep_probability(np.array([times * t]), t, formula=kind)[0])

    low, high = 1.0, 10.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if stays(middle, "code") == 1 else (low, middle)
    found = {f"at_{n}": stays(n, "code") / stays(n, "paper") for n in (10, 5000)}
    return found | {"all_stay": low}


@claim("noise-draws")
def noise_draws(run: Run) -> dict[str, float]:
    """χ² over 999 degrees of freedom."""
    counts, draws = zipf(1000, 1e6), 100_000 if run.quick else 1_000_000
    noise = vocabulary.noise_distribution(counts.tolist())
    drawn = windows.negatives(noise, (draws,), np.random.default_rng(run.seed))
    seen = np.bincount(drawn, minlength=1000)

    def chi_squared(raised: Float[np.ndarray, " words"]) -> float:
        expected = draws * raised / raised.sum()
        return float(((seen - expected) ** 2 / expected).sum() / (len(counts) - 1))

    return {"power": chi_squared(counts**0.75), "unigram": chi_squared(counts.astype(np.float64))}


@claim("n-grams-gensim")
def n_grams_gensim(run: Run) -> Measured:
    """Words of gensim's own test text, and a few of other languages."""
    from gensim.models.fasttext_inner import compute_ngrams_bytes, ft_hash_bytes  # pyright: ignore
    from gensim.test.utils import datapath

    from word2vec import subwords

    with open(datapath("lee_background.cor"), encoding="utf-8") as lines:
        seen = Counter(word for line in lines for word in line.lower().split())
    words = [word for word, _ in seen.most_common(1000)] + [
        "žluťoučký",
        "naïve",
        "Straße",
        "слово",
        "词向量",
        "ελληνικά",
    ]
    buckets = 2_000_000
    different = [
        word
        for word in words
        if Counter(subwords.fnv1a(g) % buckets for g in subwords.n_grams(word))
        != Counter(ft_hash_bytes(g) % buckets for g in compute_ngrams_bytes(word, 3, 6))
    ]
    return Measured(len(different), {"words": len(words), "different": different})
