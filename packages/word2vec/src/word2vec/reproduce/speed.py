"""Times of training, on one thread, in rounds of which each has every side once.

`pair by pair` takes each example with noise words of its own, forward and backward, as the papers count operations;
`in blocks` is how `word2vec.fast` trains.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from papertest import Run, Timed, bench, claim
from papertest.threads import one_thread

from word2vec.fast import train
from word2vec.huffman import HuffmanTree, huffman_tree
from word2vec.models import CBOW, SkipGram
from word2vec.reproduce import data
from word2vec.reproduce.training import WINDOW
from word2vec.vocabulary import Vocabulary, keep_probability, noise_distribution
from word2vec.windows import Text, contexts, negatives, pairs

D, K = 100, 5
WORDS, FEW = 40_000, 8_000  # running words of a side: in blocks, and pair by pair
VOCABULARY = 5_000  # pair by pair: autograd's gradient is a whole table, whose size should not be what is timed
SKIP_GRAM, CBOW_WINDOW = 10, 4  # 2013a, Sections 3.1 and 3.2
T = 1e-5  # 2013b, Section 2.3

Call = Callable[[], Any]


def start(run: Run, words: int) -> Text:
    """The first words of the text."""
    text, n = data.text(), words // 10 if run.quick else words
    return Text(text.ids[:n], text.sentences[:n])


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def in_blocks(model: SkipGram | CBOW, text: Text, t: float | None) -> Call:
    """An epoch over the text, at a rate that changes next to nothing."""
    words = data.vocabulary()
    noise = None if model.hierarchical else noise_distribution(words.counts)
    keep = None if t is None else keep_probability(words.frequencies, t, "code")

    def call() -> None:
        for _ in train(model, text, WINDOW, rate=1e-6, k=K, noise=noise, keep=keep):
            pass

    return call


def skip_gram(tree: HuffmanTree | None = None) -> SkipGram:
    return SkipGram(len(data.vocabulary()), D, tree)


def backward(model: SkipGram | CBOW, loss: Callable[[], torch.Tensor]) -> Call:
    """Forward, and backward to both tables."""

    def call() -> None:
        model.zero_grad(set_to_none=False)
        loss().sum().backward()

    return call


def few(run: Run) -> tuple[Vocabulary, Text]:
    """The most frequent words alone, and what is left of the beginning of the text."""
    words, text = data.vocabulary(), start(run, FEW)
    kept = text.ids < VOCABULARY
    return Vocabulary(words.words[:VOCABULARY], words.counts[:VOCABULARY]), Text(text.ids[kept], text.sentences[kept])


def drawn(words: Vocabulary, examples: int, k: int) -> torch.Tensor:
    return torch.from_numpy(negatives(noise_distribution(words.counts), (examples, k), rng()))


def by_pairs(run: Run, c: int, k: int) -> Call:
    """Skip-gram pair by pair."""
    words, text = few(run)
    inputs, outputs = map(torch.from_numpy, pairs(text, c, rng()))
    model, noise = SkipGram(len(words), D), drawn(words, len(inputs), k)
    return backward(model, lambda: model.negative_sampling_loss(inputs, outputs, noise))


def by_windows(run: Run, c: int, k: int) -> Call:
    """CBOW window by window, all of them of c words on either side (2013a: four and four)."""
    words, text = few(run)
    around, mask = map(torch.from_numpy, contexts(text, c, rng(), dynamic=False))
    model, noise, centres = CBOW(len(words), D), drawn(words, len(text), k), torch.from_numpy(text.ids)
    return backward(model, lambda: model.negative_sampling_loss(around, mask, centres, noise))


@claim("noise-words-time")
@one_thread()
def noise_words_time(run: Run) -> Timed:
    """2013b, Table 1: time with 15 noise words over that with 5, pair by pair."""
    times = bench.rounds(run, {"5": by_pairs(run, WINDOW, 5), "15": by_pairs(run, WINDOW, 15)}, null="5")
    return Timed(times.ratio("15", "5"), times.null, {"seconds": times.seconds})


@claim("cbow-time")
@one_thread()
def cbow_time(run: Run) -> Timed:
    """2013a, Table 5: time of skip-gram with windows of up to 10 over that of CBOW with four and four words."""
    sides = {"skip-gram": by_pairs(run, SKIP_GRAM, K), "cbow": by_windows(run, CBOW_WINDOW, K)}
    times = bench.rounds(run, sides, null="cbow")
    return Timed(times.ratio("skip-gram", "cbow"), times.null, {"seconds": times.seconds})


@claim("subsampling-time")
@one_thread()
def subsampling_time(run: Run) -> Timed:
    """2013b, Section 1 and Table 1: time of an epoch of the whole text over that of what subsampling at 1e-5 leaves;
    negative sampling and the tree, in blocks."""
    text, tree = start(run, WORDS), huffman_tree(data.vocabulary().counts)
    models = {"neg": skip_gram(), "hs": skip_gram(tree)}
    sides = {f"{name} {t}": in_blocks(model, text, t) for name, model in models.items() for t in (None, T)}
    times = bench.rounds(run, sides, null="neg None")
    ratios = {name: times.ratio(f"{name} None", f"{name} {T}") for name in models}
    rounds = [{"neg_5": neg, "hs": hs} for neg, hs in zip(ratios["neg"], ratios["hs"], strict=True)]
    return Timed(rounds, times.null, {"seconds": times.seconds})


@claim("tree-time")
@one_thread()
def tree_time(run: Run) -> Timed:
    """2013b, Table 1: time of the tree over that of negative sampling with 5 noise words, without subsampling."""
    text = start(run, WORDS)
    sides = {"hs": in_blocks(skip_gram(huffman_tree(data.vocabulary().counts)), text, None),
             "neg": in_blocks(skip_gram(), text, None)}  # fmt: skip
    times = bench.rounds(run, sides, null="neg")
    return Timed(times.ratio("hs", "neg"), times.null, {"seconds": times.seconds})


@claim("blocks-against-pairs")
@one_thread()
def blocks_against_pairs(run: Run) -> Timed:
    """Time for a running word pair by pair over that in blocks, skip-gram with 5 noise words."""
    text = start(run, WORDS)
    sides = {"pairs": by_pairs(run, WINDOW, K), "blocks": in_blocks(skip_gram(), text, None)}
    times = bench.rounds(run, sides, null="blocks")
    scale = len(text) / len(few(run)[1])
    return Timed([scale * ratio for ratio in times.ratio("pairs", "blocks")], times.null, {"seconds": times.seconds})


@claim("blocks-against-gensim")
@one_thread()
def blocks_against_gensim(run: Run) -> Timed:
    """Time of an epoch by gensim, with one worker, over that in blocks: the same text, dimensions, windows, noise words
    and subsampling."""
    from gensim.models import Word2Vec

    words, text = data.vocabulary(), start(run, WORDS)
    ends = np.flatnonzero(np.diff(text.sentences)) + 1
    sentences = [[words.words[i] for i in ids] for ids in np.split(text.ids, ends)]
    theirs = Word2Vec(vector_size=D, window=WINDOW, min_count=1, sg=1, hs=0, negative=K, sample=1e-4, workers=1)
    theirs.build_vocab_from_freq(dict(zip(words.words, words.counts, strict=True)))

    def gensim() -> None:
        theirs.train(sentences, total_examples=len(sentences), epochs=1)

    times = bench.rounds(run, {"gensim": gensim, "blocks": in_blocks(skip_gram(), text, 1e-4)}, null="blocks")
    speeds = {name: len(text) / min(seconds) for name, seconds in times.seconds.items()}
    return Timed(times.ratio("gensim", "blocks"), times.null, {"seconds": times.seconds, "words_per_second": speeds})
