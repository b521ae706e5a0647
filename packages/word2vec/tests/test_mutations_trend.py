"""For every trend and speed claim a mistake made on purpose, and the verdict that it turns.

Nothing is trained here and no time is measured. A model's answers are made up from what its arm says is built and how
it is trained; a clock counts the operations that are called.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gensim.models import Word2Vec

from papertest import bench as benchmarks
from papertest.claims import Run
from papertest.measure import Silent
from papertest.mutation import Mutations, elements, operators, put

from word2vec.reproduce import data, speed
from word2vec.reproduce.training import ARMS, WINDOW
from word2vec.vocabulary import Vocabulary
from word2vec.windows import Text

bench = Mutations(__file__)
CLAIMED = bench.tier("trend", "speed")
QUICK = Run(0, "cpu", True, {}, Silent().track, lambda run, function, args: function(run, *args))
ASKED = {"semantic": ("family", 400), "syntactic": ("gram1", 6000)}


# ------------------------------------------------------------------------------------- what stands in for measuring


def answers(semantic, syntactic, wordsim=0.5, simlex=0.3):
    """As `training.asked` gives them."""
    given = {"semantic": semantic, "syntactic": syntactic}
    counted = {name: [round(n * given[kind] / 100), n] for kind, (name, n) in ASKED.items()}
    return given | {"wordsim": wordsim, "simlex": simlex, "questions": counted}


def made_up(run, name):
    """Skip-gram is good at meaning, CBOW at syntax; subsampling helps the tree most; words help where there is room."""
    arm = ARMS[name]
    semantic, syntactic = 24.0, 12.0
    if arm.model == "cbow":
        semantic, syntactic = 10.0, 14.0
    if arm.model == "subwords":
        semantic, syntactic = 23.0, 30.0
    if arm.objective == "hierarchical softmax":
        semantic, syntactic = semantic * 0.9, syntactic * 0.9
    if arm.t is None:
        semantic *= 0.6 if arm.objective == "hierarchical softmax" else 0.9
    semantic, syntactic = (x * (1 + (arm.k - 5) / 200) * min(1, arm.epochs) for x in (semantic, syntactic))
    room = min(arm.share, arm.d / 100) * 0.8 + 0.2
    found = answers(semantic * room, syntactic * room, 0.5 * min(1, arm.epochs))
    random = answers(0, 0, 0.02, 0.01)
    return found | {"kept": 0.5, "loss": [3.0, 2.0], "random": random, "unseen": {"rho": 0.25, "exchanged": 0.02},
                    "documents": {"mean": 0.4, "sif": 0.6, "tfidf": 0.5}}  # fmt: skip


def factorised(run):
    return answers(20, 8, 0.55, 0.35) | {"entries": 1000}


def share(run, function, args):
    return {"trained": made_up, "factorised": factorised}[function.__name__](run, *args)


def tiny():
    """A text of Zipf's words in sentences of 20."""
    rng = np.random.default_rng(0)
    counts = tuple(int(20_000 / rank) for rank in range(1, 401))
    share = np.array(counts) / sum(counts)
    ids = rng.choice(len(counts), 4_000, p=share)
    return Vocabulary(tuple(f"w{i}" for i in range(len(counts))), counts), Text(ids, np.arange(4_000) // 20)


@pytest.fixture(autouse=True)
def nothing_is_measured(request, monkeypatch):
    words, text = tiny()
    monkeypatch.setattr(data, "vocabulary", lambda: words)
    monkeypatch.setattr(data, "text", lambda: text)
    monkeypatch.setattr(benchmarks, "seconds", operators if "tree-time" in request.node.name else elements)
    monkeypatch.setattr(speed, "T", 4e-4)
    monkeypatch.setattr(speed, "WORDS", 20_000)
    monkeypatch.setattr(speed, "FEW", 4_000)
    gensim = speed.in_blocks(speed.skip_gram(), speed.start(QUICK, speed.WORDS), 1e-4)
    monkeypatch.setattr(Word2Vec, "train", lambda *_, **__: gensim())


# ------------------------------------------------------------------------------------- the mistakes


def arm(name, **changes):
    return lambda monkeypatch: monkeypatch.setitem(ARMS, name, replace(ARMS[name], **changes))


def made(function, **changes):
    """The made-up answers, some of them other ones."""
    return lambda monkeypatch: monkeypatch.setitem(OTHERWISE, function, changes)


OTHERWISE: dict[str, dict[str, object]] = {}


def otherwise(run, function, args):
    found = share(run, function, args)
    name = args[0] if args else function.__name__
    return found | OTHERWISE.get(name, {})


def upside_down(times, above, below):
    return ratio(times, below, above)


def three_times_the_tree(model, text, t):
    call = in_blocks(model, text, t)
    return (lambda: [call() for _ in range(3)]) if model.hierarchical else call


ratio, by_pairs, in_blocks = benchmarks.Times.ratio, speed.by_pairs, speed.in_blocks
MISTAKES = {
    "vectors-learn": arm("skip-gram", epochs=0),
    "skip-gram-semantic": arm("cbow", model="skip-gram"),
    "cbow-syntactic": arm("cbow", model="skip-gram"),
    "dimensions-and-words": arm("cbow", d=20),
    "subsampling-semantic": arm("hs", t=None),
    "subsampling-syntactic": arm("skip-gram", share=0.5),
    "more-noise-words": arm("neg-15", k=1),
    "noise-against-tree": arm("hs", objective="negative sampling"),
    "subwords-syntactic": arm("subwords", model="skip-gram"),
    "subwords-not-semantic": arm("subwords", model="skip-gram"),
    "unseen-words": made("subwords", unseen={"rho": 0.02, "exchanged": 0.01}),
    "svd-similarity": made("factorised", wordsim=0.4, simlex=0.2),
    "sgns-analogies": arm("skip-gram", share=0.1),
    "mean-vectors": made("skip-gram", documents={"mean": 0.4, "sif": 0.45, "tfidf": 0.5}),
    "noise-words-time": put(speed, "by_pairs", lambda run, c, k: by_pairs(run, c, 5)),
    "cbow-time": put(speed, "by_windows", lambda run, c, k: by_pairs(run, 10, k)),
    "subsampling-time": put(speed, "keep_probability", lambda f, t, formula: np.ones_like(f)),
    "tree-time": put(speed, "in_blocks", three_times_the_tree),
    "blocks-against-pairs": put(benchmarks.Times, "ratio", upside_down),
    "blocks-against-gensim": put(speed, "in_blocks", lambda model, text, t: by_pairs(QUICK, WINDOW, 20)),
}


def test_every_claim_has_a_mistake():
    assert set(MISTAKES) == set(CLAIMED)


@pytest.mark.parametrize("claim", CLAIMED)
def test_a_mistake_turns_the_verdict(claim, monkeypatch):
    assert bench.verdict(claim, quick=True, share=otherwise) == "reproduced"
    MISTAKES[claim](monkeypatch)
    assert bench.verdict(claim, quick=True, share=otherwise) == "not reproduced"


ASKS = {  # the trainings behind each claim
    "vectors-learn": {"skip-gram"},
    "skip-gram-semantic": {"skip-gram", "cbow"},
    "cbow-syntactic": {"skip-gram", "cbow"},
    "dimensions-and-words": {"cbow", "cbow-quarter", "cbow-few", "cbow-few-quarter"},
    "subsampling-semantic": {"hs", "hs-all", "skip-gram", "skip-gram-all"},
    "subsampling-syntactic": {"hs", "hs-all", "skip-gram", "skip-gram-all"},
    "more-noise-words": {"skip-gram", "neg-15"},
    "noise-against-tree": {"skip-gram", "hs"},
    "subwords-syntactic": {"skip-gram", "subwords"},
    "subwords-not-semantic": {"skip-gram", "subwords"},
    "unseen-words": {"subwords"},
    "svd-similarity": {"skip-gram", "factorised"},
    "sgns-analogies": {"skip-gram", "factorised"},
    "mean-vectors": {"skip-gram"},
}


@pytest.mark.parametrize("claim", ASKS)
def test_a_claim_asks_for_its_own_trainings_with_its_own_seed(claim):
    asked = set()

    def noted(run, function, args):
        asked.add((args[0] if args else function.__name__, run.seed))
        return share(run, function, args)

    bench.measure(claim, seed=2, share=noted)
    assert asked == {(name, 2) for name in ASKS[claim]}


def test_arms_of_one_comparison_differ_in_what_is_compared_alone():
    base = ARMS["skip-gram"]  # rates are tuned for each
    both = {replace(ARMS[name], k=5, t=1e-4, rate=base.rate) for name in ("neg-15", "skip-gram-all")}
    assert both == {base}
    assert replace(ARMS["hs-all"], t=1e-4, rate=ARMS["hs"].rate) == ARMS["hs"]
    assert replace(ARMS["hs"], objective=base.objective, rate=base.rate) == base
    assert replace(ARMS["subwords"], model="skip-gram") == base
    grid = [ARMS[name] for name in ("cbow", "cbow-quarter", "cbow-few", "cbow-few-quarter")]
    assert {replace(each, d=100, share=1.0) for each in grid} == {ARMS["cbow"]}
    assert [(each.d, each.share) for each in grid] == [(100, 1.0), (100, 0.25), (20, 1.0), (20, 0.25)]
