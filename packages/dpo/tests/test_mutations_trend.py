"""For every trend claim on controlled sentiment a mistake made on purpose, and the verdict that it turns.

Nothing is trained here: a policy's numbers are made up from what its method says is minimised and how long.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from papertest import figures as house
from papertest.mutation import Mutations, put
from papertest.store import Result

from dpo.reproduce import figures, measures, pairs, prepared, sampling, training
from dpo.reproduce.training import METHODS, PPO_BETAS
from dpo.reproduce.trend import behaviour
from dpo.reproduce.trend.frontier import SWEEP

bench = Mutations(__file__)
HERE = "dpo.reproduce.trend.frontier", "dpo.reproduce.trend.behaviour"
CLAIMED = [name for name in bench.tier("trend") if bench.sources.claims[name][0] in HERE]
START, SKILL = (
    0.15,
    {"dpo": 1.0, "learned": 0.9, "true": 0.95, "unweighted": 0.4, "preferred": 0.45},
)
HEAT = {"dpo": 0.1, "preferred": 0.1, "learned": 0.2}  # of the win rate lost from temperature 0 to 1


# ------------------------------------------------------------------------------------- what stands in for training


def reward(kl, skill):
    return START + 0.8 * skill * (1 - math.exp(-kl / 3))


def temperatures(kind, kl):
    wins = reward(kl, SKILL.get(kind, 0.5))
    heat = HEAT.get(kind, 0.3)
    return [{"temperature": t, "reward": wins, "wins": wins - heat * t, "repeats": 0.1} for t in measures.TEMPERATURES]


def point(step, kl, kind, **others):
    fixed = {"loss": 0.5, "reward_deviation": 0.4, "kl_deviation": 2.0, "fluency": 4.0, "repeats": 0.1, "length": 16.0}
    return fixed | {"step": step, "kl": kl, "reward": reward(kl, SKILL.get(kind, 1.0))} | others


def on_pairs(name):
    method = METHODS[name]
    end = 8 / (0.3 + method.beta) if method.loss == "dpo" else 2 if method.loss == "preferred" else 15
    broken = method.loss == "unweighted"
    curve = []
    for share in (*training.SHOWN, *range(2, method.epochs + 1)):
        kl, passed = end * share**0.5, share
        chosen = -40 * kl if broken else kl if method.loss == "preferred" else -kl
        margin = 5 * min(passed, 1) + 3 * max(0, passed - 1)
        curve.append(point(
            round(400 * passed), kl, method.loss, chosen=chosen, rejected=chosen - margin,
            accuracy=0.75 if method.rate > 1e-5 and method.loss != "preferred" else 0.5, chosen_nats=4 - chosen / 16,
        ))  # fmt: skip
    return {"curve": curve, "temperatures": temperatures(method.loss, end)}


def on_policy(kind, beta):
    end = 3 / (0.2 + beta)
    curve = []
    for share in training.SHOWN:
        hacked = 0.5 * max(0, share - 0.5) if kind == "proxy" and prepared.FEW < 5000 else 0
        now = point(round(100 * share), end * share, kind, score=4 * share)
        curve.append(now | {"reward": now["reward"] - hacked, "repeats": 0.1 if beta else 0.8})
    return {"curve": curve, "temperatures": temperatures(kind, end)}


def of_reference():
    learnt = 2.0 if pairs.STEPS > 500 else 0.2
    right = 0.8 if pairs.JUDGE_STEPS > 50 else 0.52
    first = point(0, 0.0, "dpo", chosen=0.0, rejected=0.0, accuracy=0.0, chosen_nats=4.0)
    return {
        "nats": 6 - learnt, "unigram": 6, "pairs": prepared.TRAIN, "held_out": 1024, "ties": 0.2, "measured": first,
        "accuracy": {"learned": right, "proxy": 0.6}, "temperatures": temperatures("preferred", 0.0),
    }  # fmt: skip


def best_of_n():
    sizes = [2**i for i in range(10)]
    kl = [sampling.best_of_n_kl(n) for n in sizes]
    by = {judge: [{"score": x, "reward": reward(x, skill)} for x in kl]
          for judge, skill in (("learned", 1.05), ("proxy", 0.5), ("true", 1.3))}  # fmt: skip
    return {"n": sizes, "kl": kl, "by": by}


MADE_UP = {"on_pairs": on_pairs, "on_policy": on_policy, "of_reference": of_reference, "best_of_n": best_of_n}


def share(run, function, args):
    assert function in (training.on_pairs, training.on_policy, sampling.of_reference, sampling.best_of_n)
    return MADE_UP[function.__name__](*args)


# ------------------------------------------------------------------------------------- the mistakes


def method(name, **changes):
    return lambda monkeypatch: monkeypatch.setitem(METHODS, name, replace(METHODS[name], **changes))


def without_the_weight(monkeypatch):
    for name in SWEEP:
        method(name, loss="unweighted")(monkeypatch)


MISTAKES = {
    "reference-is-fluent": put(pairs, "STEPS", 20),
    "reward-model-learns": put(pairs, "JUDGE_STEPS", 1),
    "frontier-ppo": without_the_weight,
    "frontier-four-betas": without_the_weight,
    "frontier-ppo-gt": without_the_weight,
    "frontier-baselines": without_the_weight,
    "best-of-128": without_the_weight,
    "beta-orders-kl": method("dpo-5", beta=0.07),
    "implicit-reward-accuracy": method("dpo-0.1", rate=1e-9),
    "unweighted-degenerates": method("unweighted", loss="dpo"),
    "long-training": method("dpo-0.1-long", loss="preferred"),
    "win-rate": without_the_weight,
    "temperature": without_the_weight,
    "over-optimisation": put(prepared, "FEW", prepared.TRAIN),
    "without-penalty": put(behaviour, "NO_PENALTY", 0.1),
}
FALLS = ("chosen-rises",)  # claims of the paper that made-up numbers, like the pilots', contradict


def test_every_claim_has_a_mistake():
    assert {*MISTAKES, *FALLS} == set(CLAIMED)


@pytest.mark.parametrize("claim", MISTAKES)
def test_a_mistake_turns_the_verdict(claim, monkeypatch):
    assert bench.verdict(claim, quick=True, share=share) == "reproduced"
    MISTAKES[claim](monkeypatch)
    assert bench.verdict(claim, quick=True, share=share) == "not reproduced"


def test_a_chosen_answer_whose_likelihood_rises_turns_the_verdict(monkeypatch):
    assert bench.verdict("chosen-rises", quick=True, share=share) == "not reproduced"
    rising = on_pairs("dpo-0.1")
    rising["curve"][-1] |= {"chosen": 1.0}
    monkeypatch.setitem(MADE_UP, "on_pairs", lambda name: rising)
    assert bench.verdict("chosen-rises", quick=True, share=share) == "reproduced"


DPO = {("on_pairs", name) for name in SWEEP}
LEARNED, TRUE = ({("on_policy", kind, beta) for beta in PPO_BETAS} for kind in ("learned", "true"))
REFERENCE, BEST_OF_N = {("of_reference",)}, {("best_of_n",)}
ASKED = {  # the shared runs behind each claim
    "reference-is-fluent": REFERENCE,
    "reward-model-learns": REFERENCE,
    "frontier-ppo": DPO | LEARNED | REFERENCE,
    "frontier-four-betas": DPO - {("on_pairs", "dpo-0.5")} | LEARNED | REFERENCE,
    "frontier-ppo-gt": DPO | TRUE | REFERENCE,
    "frontier-baselines": DPO | REFERENCE | {("on_pairs", "preferred"), ("on_pairs", "unweighted")},
    "best-of-128": DPO | REFERENCE | BEST_OF_N,
    "beta-orders-kl": DPO,
    "implicit-reward-accuracy": REFERENCE | {("on_pairs", "dpo-0.1")},
    "unweighted-degenerates": {("on_pairs", "unweighted"), ("on_pairs", "dpo-0.1-long")},
    "chosen-rises": {("on_pairs", "dpo-0.1")},
    "long-training": {("on_pairs", "dpo-0.1-long")},
    "win-rate": DPO | LEARNED,
    "temperature": DPO | LEARNED | REFERENCE,
    "over-optimisation": REFERENCE | BEST_OF_N | {("on_policy", "proxy", 0.0)},
    "without-penalty": REFERENCE | {("on_policy", "proxy", 0.0)},
}


@pytest.mark.parametrize("claim", CLAIMED)
def test_a_claim_asks_for_its_own_trainings_with_its_own_seed(claim):
    asked = set()

    def noted(run, function, args):
        asked.add((function.__name__, *args, run.seed))
        return share(run, function, args)

    bench.measure(claim, seed=2, share=noted)
    assert asked == {(*call, 2) for call in ASKED[claim]}


# ------------------------------------------------------------------------------------- figures of made-up results


def result_of(claim):
    """What drawing takes of a result: the details of two seeds."""
    details = [bench.measure(claim, seed=seed, share=share).details for seed in (0, 1)]
    return Result.model_construct(claim=claim, samples=[{"details": found} for found in details])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["frontier", "temperature", "long-training", "over-optimisation"])
def test_figures_draw_from_made_up_results(name):
    (module, _), claims = bench.sources.figures[name]
    assert module == figures.__name__ and set(claims) <= set(CLAIMED)
    with house.house_style():
        drawing = bench.sources.drawing(name)({claim: result_of(claim) for claim in claims})
    assert len(house.png(drawing)) > 10_000
    assert all(panel.get_title(loc="left") and panel.get_xlabel() and panel.get_ylabel() for panel in drawing.axes)
