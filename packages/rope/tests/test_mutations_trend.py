"""For every trend and speed claim a mistake made on purpose, and the verdict that it turns.

Nothing is trained here and no time is measured. The results of the trainings are made up, close to what the papers
report, and the clock is moved by prices. The mistake is in these numbers, as a broken model or text would give them, or
in the claim itself.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from transformers.models.llama import modeling_llama as llama

from papertest import bench as benchmarks
from papertest.mutation import Clock, Mutations, put

from rope import rotary
from rope.reproduce import speed
from rope.reproduce.training import CONTEXT, LONGER, LONGEST, TIMES
from rope.reproduce.trend import alibi, roformer, scaling, smollm2

bench = Mutations(__file__)
CLAIMED = bench.tier("trend", "speed")
UNIGRAM = 6.0  # nats


# ------------------------------------------------------------------------------------- what stands in for measuring

AT_LENGTH = {"sinusoidal": 45.0, "rotary": 43.0, "t5": 42.5, "alibi": 42.0}
GROWTH = {"sinusoidal": 0.4, "rotary": 0.25, "t5": 0.1, "alibi": -0.02}  # the power of the length
CONTEXT_GAIN = {"sinusoidal": 0.4, "rotary": 0.3, "t5": 0.1, "alibi": 0.0}  # the same with sliding windows
LINEAR = {"none": 2.3, "sinusoidal": 2.15, "rotary": 2.1}  # nats at the end
MASKED = {"learned": 1.6, "rotary": 1.4}
READ = {  # perplexity without training: of the last tokens and of all
    "plain": (120.0, 80.0), "linear": (90.0, 75.0), "ntk": (50.0, 45.0), "yarn": (48.0, 44.0)
}  # fmt: skip
TUNED = {"plain": 45.0, "linear": 40.0, "yarn": 38.5}  # at the end of the fine-tuning
TRAINED = 41.0
LATER = {"yarn": 1.0}  # a factor on the perplexity before the end
WITHIN = {8192: 2.99, 2048: 3.05}  # nats of SmolLM2 by window, and beyond its context by method
TWICE = {"default": 6.5, "linear": 3.6, "ntk": 3.2, "dynamic": 3.1, "yarn": 3.0, "llama3": 3.1}
FOUR_TIMES = {"linear": 3.7, "ntk": 3.02, "yarn": 3.01}


def causal(positions, length, heads, slide):
    lengths = [t * length for t in TIMES if t * length <= LONGEST]
    every = [AT_LENGTH[positions] * (n / length) ** GROWTH[positions] for n in lengths]
    found = {"lengths": lengths, "all": every, "last": every, "unigram": UNIGRAM}
    return found | {"sliding": [40 * t ** CONTEXT_GAIN[positions] for t in TIMES[:4]]} if slide else found


def curve(end, start=3.0):
    """Twenty points that fall fast at first."""
    return [{"step": 100 * i, "nats": end + (start - end) * (1 / i - 1 / 20)} for i in range(1, 21)]


def linear(positions):
    return {"curve": curve(LINEAR[positions]), "unigram": 2.9}


def masked(positions, std, rate):
    assert (std, rate) == (roformer.STD, roformer.RATE)
    return {"curve": curve(MASKED[positions]), "unigram": 2.9}


def extended():
    read = {
        name: {"lengths": [t * CONTEXT for t in LONGER], "last": [last, last], "all": [every, every]}
        for name, (last, every) in READ.items()
    }
    tuned = {}
    for name, end in TUNED.items():
        points = [{"step": 15 * i, "last": end + LATER.get(name, 1.0) * (10 - i) / 5} for i in range(1, 11)]
        tuned[name] = {"steps": 150, "curve": points, "all": end, "last": end}
    return {"trained": {"all": [TRAINED], "last": [TRAINED]}, "unigram": UNIGRAM, "read": read, "tuned": tuned}


def read(method, window):
    found = {16384: TWICE, 32768: FOUR_TIMES}.get(window)
    nats = found[method] if found else WITHIN[window]
    assert found or method == "default"
    return {"nats": nats, "curve": [nats] * smollm2.POINTS, "entropy": 6.5}


MADE_UP = {function.__name__: function for function in (causal, linear, masked, extended, read)}


def share(run, function, args):
    return MADE_UP[function.__name__](*args)


CLOCK = Clock()
PRICES = {"sinusoidal": 1.0, "rotary": 1.2, "t5": 1.9, "alibi": 1.0}  # of a training step on sequences of 512


def priced(function, price):
    def call(*inputs, **options):
        CLOCK.spend(price)
        return function(*inputs, **options)

    return call


def step(model, adam, schedule, ids):
    CLOCK.spend(PRICES[model.positions] * (1 if ids.shape[1] > 500 else 0.6))


def verdict(claim):
    return bench.verdict(claim, quick=True, share=share)


def prepare(monkeypatch):
    """Four for the library's rotation of queries and keys, one for each of ours; memory is counted."""
    monkeypatch.setattr(benchmarks, "seconds", CLOCK.seconds)
    monkeypatch.setattr(speed, "step", step)
    monkeypatch.setattr(speed, "FEW", (1, 16, 64, 64))
    monkeypatch.setattr(rotary, "_BLOCK", 2**13)  # an eighth of the queries, as it is of those that are measured
    monkeypatch.setattr(speed, "apply_rope", priced(rotary.apply_rope, 1.0))
    monkeypatch.setattr(llama, "apply_rotary_pos_emb", priced(llama.apply_rotary_pos_emb, 4.0))


# ------------------------------------------------------------------------------------- the mistakes


def number(table, **wrong):
    """Other results of the trainings, or other prices."""

    def apply(monkeypatch):
        for name, value in wrong.items():
            monkeypatch.setitem(table, name, value)

    return apply


def upside_down(times, above, below):
    return by_rounds(times, below, above)


def upside_down_ratio(found, worse, better, *rest):
    return of_methods(found, better, worse, *rest)


def over_backwards(found, worse, better):
    return over(found, better, worse)


def backwards(found, length, times):
    """Each encoding over the better one, with the encodings in the other order."""
    score = {name: at(model, length, times) for name, model in found.items()}
    return {f"{a}_{b}": score[b] / score[a] for a, b in pairwise(alibi.ENCODINGS)}


def at_the_length(found, length, times):
    return found["all"][0]


def exchanged(function, a, b):
    """The results of two encodings in each other's place."""

    def curves(run):
        found = function(run)
        return found | {a: found[b], b: found[a]}

    return curves


def keeps_its_input(x, *inputs, **options):
    """Rotary that makes copies before it turns anything."""
    copies = [x.float() * 1.0 for _ in range(8)]
    return turned(sum(copies).to(x.dtype), *inputs, **options)


def sinusoidal_alone(pieces, positions, *rest, **options):
    return language_model(pieces, "sinusoidal", *rest, **options)


by_rounds, of_methods, at = benchmarks.Times.ratio, scaling.ratio, alibi.at
turned, language_model, over = rotary.apply_rope, speed.LanguageModel, smollm2.over
ALIKE = number(GROWTH, **dict.fromkeys(GROWTH, 0.1))
MISTAKES = {
    "linear-learns": number(LINEAR, rotary=2.9),
    "linear-gain": number(LINEAR, rotary=2.29),
    "masked-learns": number(MASKED, learned=2.2),
    "masked-gain": number(MASKED, rotary=1.58),
    "rotary-speed": put(benchmarks.Times, "ratio", upside_down),
    "rotary-speed-bfloat16": put(benchmarks.Times, "ratio", upside_down),
    "extrapolation-learns": number(AT_LENGTH, t5=300.0),
    "alibi-extrapolates": number(GROWTH, alibi=0.05),
    "sinusoidal-fails": number(GROWTH, sinusoidal=0.1),
    "order-at-8": ALIKE,
    "order-at-16": ALIKE,
    "order-longer-training": ALIKE,
    "order-more-heads": ALIKE,
    "alibi-at-length": number(AT_LENGTH, alibi=44.0),
    "short-against-long": number(GROWTH, alibi=0.1),
    "early-tokens": number(CONTEXT_GAIN, alibi=-0.1),
    "encoding-overhead": put(speed, "LanguageModel", sinusoidal_alone),
    "short-training-speed": put(speed, "LONG", 64),
    "context-learns": lambda monkeypatch: monkeypatch.setitem(globals(), "TRAINED", 300.0),
    "pi-untrained": number(READ, linear=(118.0, 75.0)),
    "pi-untrained-all": number(READ, linear=(90.0, 85.0)),
    "ntk-untrained": number(READ, ntk=(50.0, 70.0)),
    "yarn-untrained": number(READ, yarn=(48.0, 76.0)),
    "pi-tuned": number(TUNED, linear=44.0),
    "pi-recovers": number(TUNED, linear=42.0),
    "yarn-tuned-steps": number(LATER, yarn=10.0),
    "smollm2-reads": lambda monkeypatch: monkeypatch.setitem(WITHIN, 8192, 5.8),
    "smollm2-plain-fails": number(TWICE, default=3.1),
    "smollm2-scaled": number(TWICE, linear=5.5),
    "smollm2-ntk": number(TWICE, ntk=3.7),
    "smollm2-ntk-higher": number(TWICE, dynamic=3.3),
    "smollm2-yarn": number(TWICE, yarn=3.15),
    "smollm2-yarn-keeps": number(TWICE, yarn=3.1),
    "smollm2-at-4": number(FOUR_TIMES, ntk=3.6),
    "smollm2-keeps-at-4": number(FOUR_TIMES, yarn=3.2),
}
BESIDES = [
    ("linear-gain", put(roformer, "curves", exchanged(roformer.curves, "none", "rotary"))),
    ("masked-gain", put(roformer, "masked_curves", exchanged(roformer.masked_curves, "learned", "rotary"))),
    ("masked-learns", number(MASKED, rotary=2.2)),
    *((claim, put(alibi, "order", backwards)) for claim in CLAIMED if claim.startswith("order-")),
    ("sinusoidal-fails", put(alibi, "at", at_the_length)),
    ("early-tokens", number(CONTEXT_GAIN, sinusoidal=0.1)),
    ("early-tokens", number(CONTEXT_GAIN, alibi=0.1)),
    ("alibi-at-length", number(AT_LENGTH, rotary=41.0)),
    *((claim, put(scaling, "ratio", upside_down_ratio)) for claim in CLAIMED if claim.endswith(("untrained", "-all"))),
    ("ntk-untrained", number(READ, ntk=(95.0, 45.0))),
    ("yarn-untrained", number(READ, yarn=(90.0, 44.0))),
    ("yarn-tuned-steps", number(TUNED, yarn=41.0)),
    ("smollm2-reads", lambda monkeypatch: monkeypatch.setitem(WITHIN, 2048, 2.9)),
    ("smollm2-plain-fails", put(smollm2, "within", lambda run: 6.4)),
    *(
        (f"smollm2-{name}", put(smollm2, "over", over_backwards))
        for name in ("scaled", "ntk", "ntk-higher", "yarn", "at-4")
    ),
    ("smollm2-scaled", number(TWICE, yarn=5.5)),
    ("smollm2-ntk", number(TWICE, llama3=3.3)),
    ("smollm2-yarn", number(TWICE, linear=3.005)),
    ("smollm2-yarn-keeps", put(smollm2, "within", lambda run: 2.9)),
    ("smollm2-at-4", number(FOUR_TIMES, yarn=3.6)),
    ("smollm2-keeps-at-4", number(FOUR_TIMES, ntk=3.1)),
    ("rotary-speed", put(speed, "apply_rope", priced(rotary.apply_rope, 1.6))),
    ("rotary-speed-bfloat16", put(speed, "apply_rope", priced(rotary.apply_rope, 1.6))),
    ("rotary-speed", put(speed, "apply_rope", priced(keeps_its_input, 1.0))),
    ("rotary-speed-bfloat16", put(speed, "apply_rope", priced(keeps_its_input, 1.0))),
    ("encoding-overhead", number(PRICES, rotary=1.5)),
    ("encoding-overhead", number(PRICES, alibi=1.2)),
    ("short-training-speed", put(benchmarks.Times, "ratio", upside_down)),
]


def test_every_claim_has_a_mistake():
    assert set(MISTAKES) == set(CLAIMED)


@pytest.mark.parametrize(("claim", "mistake"), [*MISTAKES.items(), *BESIDES])
def test_a_mistake_turns_the_verdict(claim, mistake, monkeypatch):
    prepare(monkeypatch)
    assert verdict(claim) == "reproduced"
    mistake(monkeypatch)
    assert verdict(claim) == "not reproduced"


MODELS = [("causal", name, 64, 4, True) for name in alibi.ENCODINGS]
TRAININGS = {  # behind each claim
    "extrapolation-learns": [*MODELS, ("causal", "sinusoidal", 512, 4, False)],
    "short-against-long": [*MODELS, ("causal", "sinusoidal", 512, 4, False)],
    "order-longer-training": [("causal", name, 128, 4, False) for name in alibi.ENCODINGS],
    "order-more-heads": [("causal", name, 64, 8, False) for name in alibi.ENCODINGS],
    "linear-gain": [("linear", name) for name in ("none", "rotary", "sinusoidal")],
    "masked-gain": [("masked", name, 1.0, 3e-3) for name in ("learned", "rotary")],
    "pi-tuned": [("extended",)],
    "smollm2-reads": [("read", "default", 8192), ("read", "default", 2048)],
    "smollm2-yarn-keeps": [("read", "default", 8192), *(("read", method, 16384) for method in smollm2.METHODS[2])],
    "smollm2-keeps-at-4": [("read", "default", 8192), *(("read", method, 32768) for method in smollm2.METHODS[4])],
}


@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize("claim", TRAININGS)
def test_a_claim_asks_for_its_own_trainings_with_its_own_seed(claim, seed):
    asked = []

    def asking(run, function, args):
        asked.append((run.seed, function.__name__, *args))  # some of them twice, which is one run
        return share(run, function, args)

    bench.measure(claim, seed=seed, share=asking)
    assert set(asked) == {(seed, *training) for training in TRAININGS[claim]}


def test_both_sides_of_the_rotation_give_the_same_gradients():
    """The half-split layout is the library's own, so that what is timed computes the same."""
    q, k, *upstream = torch.randn(4, 1, 2, 16, 8)
    config = llama.LlamaConfig(hidden_size=16, num_attention_heads=2)
    cos, sin = llama.LlamaRotaryEmbedding(config)(q, torch.arange(16)[None])
    inputs = [x.requires_grad_() for x in (q, k)]
    ours = speed.there_and_back(lambda *x: tuple(rotary.apply_rope(y, interleaved=False) for y in x), inputs, upstream)
    theirs = speed.there_and_back(lambda *x: llama.apply_rotary_pos_emb(*x, cos, sin), inputs, upstream)
    for a, b in zip(ours(), theirs(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("positions", "length"), [("alibi", 64), ("sinusoidal", 512)])
def test_both_lengths_have_as_many_tokens_in_a_step(positions, length, monkeypatch):
    seen = []
    monkeypatch.setattr(speed, "step", lambda model, adam, schedule, ids: seen.append(ids.shape))
    bench.measure("short-training-speed", quick=True)
    assert {(rows * (columns - 1), columns - 1) for rows, columns in seen} == {(1024, 64), (1024, 512)}
    assert (1024 // length, length + 1) in seen
