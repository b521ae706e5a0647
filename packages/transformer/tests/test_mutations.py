"""For every trend, speed and paper claim a mistake made on purpose, and the verdict that it turns.

Nothing is trained here and no time is measured. A training's scores are made up from the configuration of the model
that it would train; the clock is a price of what is computed, and memory is counted at the sizes of
`reproduce --quick`. The mistake is in what is asked for, built, or timed.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from papertest import bench
from papertest.claims import Measured
from papertest.counting import flops
from papertest.mutation import Clock, Mutations, elements, put

from transformer import model
from transformer.config import TransformerConfig
from transformer.reproduce import models, paper, speed, training, trend
from transformer.reproduce.data.corpus import Corpus, Pair
from transformer.reproduce.data.tokens import BOS, EOS, Vocabulary

mutations = Mutations(__file__)
CLAIMED = mutations.tier("trend", "speed", "paper")


def measure(claim, seed=0, share=None):
    """One measurement, as `reproduce --quick` makes it."""
    share = share or (lambda run, function, args: function(run, *args))
    return mutations.measure(claim, seed=seed, quick=True, share=share)


def verdict(claim):
    return mutations.verdict(claim, quick=True, share=lambda run, function, args: function(run, *args))


# ------------------------------------------------------------------------------------- what stands in for measuring


def trained(run, name, count=training.STEPS):
    """What the paper's Table 3 would make one expect of a model, from its configuration alone."""
    config = training.build(name).config
    perplexity = 30.0
    perplexity *= 1.06 if config.n_heads == 1 else 1
    perplexity *= 1.05 if (config.d_k or 16) < 16 else 1
    perplexity *= 1.17 if config.d_model < 64 else 1
    perplexity *= 1.10 if config.n_layers < 2 else 1
    perplexity *= 1.17 if config.dropout == 0 else 1
    perplexity *= 1.05 if config.label_smoothing else 1
    better = 0.5 if config.label_smoothing else 0
    scores = {"perplexity": perplexity, "accuracy": 60 + better, "greedy": 25 + better, "beam": 25.5 + better}
    scores |= {"averaged": 0.98 * perplexity}
    if name == "recurrent":  # behind after as many steps, and ahead after twice as many
        scores |= {"perplexity": perplexity * 1.1 * (training.STEPS / count) ** 0.25,
                   "greedy": scores["greedy"] - 1 + 2 * (count / training.STEPS - 1)}  # fmt: skip
    return scores


def a_corpus(language):
    pairs = [Pair(f"close the file {i}", f"Datei {i} schließen", "made up") for i in range(100)]
    return Corpus(pairs, pairs[:5], pairs[:5], language), Vocabulary.train([p.target for p in pairs], 300)


def operations(function, device):
    return flops(function)


def prepare(monkeypatch, claim, recurrent=2.0):
    """No training, no wall clock, no network. `recurrent`: the time of its step where the base model's takes 1."""
    clock = Clock()
    times = {"base": 1.0, "recurrent": recurrent}
    monkeypatch.setattr(trend, "train", trained)
    monkeypatch.setattr(trend, "corpus", a_corpus)
    monkeypatch.setattr(trend, "by_frequency", lambda: 300.0)
    monkeypatch.setattr(trend, "steps", lambda name, model: lambda batch: clock.spend(times[name]))
    monkeypatch.setattr(speed, "VOCABULARY", 100)
    monkeypatch.setattr(speed, "EOS", 99)
    monkeypatch.setattr(TransformerConfig, "base", a_small_one)
    monkeypatch.setattr(paper, "data", Path)
    monkeypatch.setattr(paper, "train", table_2)
    monkeypatch.setattr(paper, "Transformer", lambda config: torch.nn.Linear(config.d_model, 1))
    monkeypatch.setattr(paper, "stepper", lambda model, device: lambda batch: clock.spend(on_a_gpu(model, batch)))
    price = {"training-step": elements, "cached-speed": operations}.get(claim, clock.seconds)
    monkeypatch.setattr(bench, "seconds", price)


def a_small_one(**changes):
    return TransformerConfig(d_model=64, d_ff=256, n_heads=4, **changes)


def table_2(run, size, language, folder):
    """A little below Table 2, and sacrebleu a point below that."""
    assert folder == Path(language)
    bleu = {"de": {"base": 27.1, "big": 28.2}, "fr": {"base": 38.0, "big": 41.5}}[language][size]
    return {"tokenised": bleu, "sacrebleu": bleu - 1}


def on_a_gpu(model, batch):
    """Seconds of a step: so many tokens at so many a second."""
    src, tgt = batch
    return (src.numel() + tgt[:, 1:].numel()) / {64: 150_000, 1024: 60_000}[model.in_features]


# ------------------------------------------------------------------------------------- the mistakes


def variant(**changes):
    """Experiments that change something else than they say."""

    def apply(monkeypatch):
        for name, change in changes.items():
            monkeypatch.setitem(training.VARIANTS, name.replace("_", " "), change)

    return apply


def with_scores(**wrong):
    """`wrong`: a score -> the one that stands in its place."""

    def train(run, name, *count):
        scores = trained(run, name, *count)
        return scores | {score: scores[other] for score, other in wrong.items()}

    return put(trend, "train", train)


def swapped(ours, peer, **options):
    return paired(peer, ours, **options)


paired = bench.paired


def upside_down(times, above, below):
    return ratio(times, below, above)


ratio = bench.Times.ratio


def deeper(config):
    return model.Transformer(replace(config, n_layers=2 * config.n_layers))


def without_cache(*inputs, cache, **options):
    return greedy_search(*inputs, cache=False, **options)


greedy_search = speed.greedy_search


def table_2_by_sacrebleu(run, language):
    found = {size: paper.train(run, size, language, paper.data(language)) for size in paper.SETTINGS}
    return Measured({size: scores["sacrebleu"] for size, scores in found.items()})


NOT_SMOOTHED = {"label_smoothing": 0.0}


def untrained(run, name, *count):
    """A model that stays at the frequencies."""
    return trained(run, name, *count) | {"perplexity": 290.0}


by_frequency = trend.by_frequency
MISTAKES = {
    "base-learns": put(trend, "train", untrained),
    "row-a-heads": variant(one_head={}),
    "row-b-key-size": variant(small_keys={"d_v": 4}),
    "row-c-width": variant(narrow={"d_ff": 128}),
    "row-c-depth": variant(shallow={"n_layers": 2}),
    "row-d-dropout": variant(no_dropout={"label_smoothing": 0.1}),
    "row-e-learned": variant(learned_positions={"positions": "learned", "n_heads": 1}),
    "row-e-learned-longer": variant(learned_positions={"positions": "learned", "n_heads": 1}),
    "smoothing-perplexity": variant(base=NOT_SMOOTHED),
    "smoothing-perplexity-longer": variant(base=NOT_SMOOTHED),
    "smoothing-bleu": variant(base=NOT_SMOOTHED, no_smoothing={}),
    "smoothing-accuracy": variant(base=NOT_SMOOTHED, no_smoothing={}),
    "beam-search": with_scores(beam="greedy"),
    "checkpoint-averaging": with_scores(averaged="perplexity"),
    "recurrent-baseline": put(bench, "paired", swapped),
    "training-step": put(speed, "Transformer", deeper),
    "cached-speed": put(speed, "greedy_search", without_cache),
    "gpu-step-time": put(paper, "TOKENS", 50_000),
    "wmt14-en-de": put(paper, "table_2", table_2_by_sacrebleu),
    "wmt14-en-fr": put(paper, "table_2", table_2_by_sacrebleu),
}
BESIDES = {  # a ratio upside down, a difference with the other sign
    "row-a-heads": variant(base={"n_heads": 1}, one_head={}),
    "row-b-key-size": variant(base={"d_k": 4}, small_keys={}),
    "row-c-width": variant(base={"d_model": 32}, narrow={}),
    "row-c-depth": variant(base={"n_layers": 1}, shallow={}),
    "row-d-dropout": variant(base={"dropout": 0.0}, no_dropout={}),
    "row-e-learned": variant(base={"n_heads": 1}),
    "row-e-learned-longer": variant(base={"n_heads": 1}),
    "smoothing-perplexity": variant(base=NOT_SMOOTHED, no_smoothing={}),
    "smoothing-perplexity-longer": variant(base=NOT_SMOOTHED, no_smoothing={}),
    "beam-search": with_scores(beam="greedy", greedy="beam"),
    "checkpoint-averaging": with_scores(averaged="perplexity", perplexity="averaged"),
    "recurrent-baseline": with_scores(greedy="beam"),
    "training-step": put(bench.Times, "ratio", upside_down),
    "cached-speed": put(bench.Times, "ratio", upside_down),
    "gpu-step-time": put(paper, "config", lambda size, language: TransformerConfig.big()),
}


def test_every_claim_has_a_mistake():
    assert set(MISTAKES) == set(CLAIMED)


@pytest.mark.parametrize("claim", CLAIMED)
def test_a_mistake_turns_the_verdict(claim, monkeypatch):
    prepare(monkeypatch, claim)
    assert verdict(claim) == "reproduced"
    MISTAKES[claim](monkeypatch)
    assert verdict(claim) == "not reproduced"


@pytest.mark.parametrize("claim", BESIDES)
def test_another_mistake_turns_the_verdict(claim, monkeypatch):
    prepare(monkeypatch, claim)
    BESIDES[claim](monkeypatch)
    assert verdict(claim) == "not reproduced"


ASKED = {  # the trainings behind each claim
    "row-a-heads": {("one head",), ("base",)},
    "row-b-key-size": {("small keys",), ("base",)},
    "row-c-width": {("narrow",), ("base",)},
    "row-c-depth": {("shallow", trend.DEPTH_STEPS), ("base", trend.DEPTH_STEPS)},
    "row-d-dropout": {("no dropout",), ("base",)},
    "row-e-learned": {("learned positions",), ("base",)},
    "row-e-learned-longer": {("learned positions", trend.DEPTH_STEPS), ("base", trend.DEPTH_STEPS)},
    "smoothing-perplexity": {("base",), ("no smoothing",)},
    "smoothing-perplexity-longer": {("base", trend.DEPTH_STEPS), ("no smoothing", trend.DEPTH_STEPS)},
    "smoothing-bleu": {("base",), ("no smoothing",)},
    "smoothing-accuracy": {("base",), ("no smoothing",)},
    "beam-search": {("base",)},
    "checkpoint-averaging": {("base",)},
    "recurrent-baseline": {("base",), ("recurrent", 750)},
}
LOOKED_AT = {("German", training.SHOWN_STEPS), ("Chinese", training.SHOWN_STEPS)}


@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize("claim", ASKED)
def test_a_claim_asks_for_its_own_trainings_with_its_own_seed(claim, seed, monkeypatch):
    prepare(monkeypatch, claim)
    asked = []

    def share(run, function, args):
        asked.append((function, args, run.seed, run.device, run.quick))
        return function(run, *args)

    measure(claim, seed, share)
    looked_at = LOOKED_AT if claim == "beam-search" and seed == 0 else set()
    longer = any(trend.DEPTH_STEPS in arguments for arguments in ASKED[claim])
    own = seed + trend.DEPTH_FIRST if longer else seed
    assert sorted(asked, key=str) == sorted(
        ((trained, args, own, "cpu", True) for args in ASKED[claim] | looked_at), key=str
    )


@pytest.mark.parametrize(
    ("recurrent", "steps"), [(0.25, 6000), (0.5, 3000), (0.77, 1950), (1.0, 1500), (1.04, 1500), (1.3, 1200), (2, 750)]
)
def test_the_recurrent_model_has_the_time_of_the_base_model(recurrent, steps, monkeypatch):
    """Times as slow at a step, and the steps: 1500 over it, to the nearest tenth of 1500."""
    prepare(monkeypatch, "recurrent-baseline", recurrent)
    details = measure("recurrent-baseline").details
    assert details["steps"] == steps and details["step_time"]["median"] == pytest.approx(recurrent)


def test_against_the_base_model_is_a_ratio_of_perplexities(monkeypatch):
    made_up = {"one head": {"perplexity": 33.0}, "base": {"perplexity": 30.0}}
    found = measure("row-a-heads", share=lambda run, function, args: made_up[args[0]])
    assert found.value == pytest.approx(1.1)
    assert found.details == {"experiment": "one head", "other": made_up["one head"], "base": made_up["base"]}


def test_both_sides_of_a_speed_compute_the_same():
    """The tokens decoded are as many as asked for, and both training steps see the batch that the seed draws."""
    model, sources = models.never_ending(a_small_one(vocab_size=100, n_layers=1), sentences=4, length=16, seed=0)
    for cache in (True, False):
        found = speed.greedy_search(model, sources, bos=BOS, eos=99, extra=0, cache=cache)
        assert [len(row) for row in found] == [16] * 4
    (src, tgt), again, other = (speed.sentences(seed, 16) for seed in (0, 0, 1))
    assert src.equal(again[0]) and tgt.equal(again[1]) and not src.equal(other[0])
    lengths = (src != 0).sum(1)
    assert lengths[0] == speed.LENGTH // 3 and lengths[-1] == speed.LENGTH and lengths.equal((tgt != 0).sum(1) - 1)


def test_the_peer_is_as_large_as_our_model_but_for_biases():
    """torch's layers have biases in the projections of their attention, and norms at the ends of both stacks."""
    config = TransformerConfig(vocab_size=50, n_layers=2, d_model=16, d_ff=32, n_heads=2)
    ours, peer = (sum(p.numel() for p in make(config).parameters()) for make in (model.Transformer, models.Peer))
    assert peer - ours == 2 * (1 + 2) * 4 * 16 + 2 * 2 * 16


def test_the_peer_sees_neither_the_future_nor_padding():
    config = TransformerConfig(vocab_size=50, n_layers=1, d_model=16, d_ff=32, n_heads=2)
    peer = models.Peer(config).eval()
    src, tgt = torch.randint(3, 50, (2, 6)), torch.randint(3, 50, (2, 5))
    later, padded = tgt.clone(), torch.nn.functional.pad(src, (0, 3))
    later[:, 3:] = 7
    expected = peer(src, tgt)
    torch.testing.assert_close(peer(src, later)[:, :3], expected[:, :3])
    torch.testing.assert_close(peer(padded, tgt), expected)


def test_frequencies_alone_are_as_good_as_their_entropy(monkeypatch):
    """The texts are the same on both sides; one is added to each of 300 counts."""
    monkeypatch.setattr(trend, "corpus", a_corpus)
    corpus, vocabulary = a_corpus("de")
    sentences = [[*ids, EOS] for ids in vocabulary.encode([pair.target for pair in corpus.train])]
    tokens = torch.tensor([token for ids in sentences for token in ids])
    asked = torch.tensor([token for ids in sentences[:5] for token in ids])
    shares = (torch.bincount(tokens, minlength=len(vocabulary)) + 1).double()
    assert by_frequency() == pytest.approx((-(shares / shares.sum()).log()[asked]).mean().exp().item())
