"""Reward against KL on controlled sentiment (Figure 2, left): DPO, PPO, and the paper's other baselines."""

from __future__ import annotations

from typing import Any

from papertest import Measured, Run, claim

from dpo.reproduce.sampling import best_of_n, of_reference
from dpo.reproduce.training import PPO_BETAS, on_pairs, on_policy
from dpo.reproduce.trend.hull import Point, advantage, at, hull, points

SWEEP = ("dpo-0.05", "dpo-0.1", "dpo-0.5", "dpo-1", "dpo-5")
BEST = 128  # of how many answers: the most that the paper takes


@claim("reference-is-fluent")
def reference_is_fluent(run: Run) -> Measured:
    """A control: nats below the entropy of single pieces."""
    found = run.shared(of_reference)
    return Measured(found["unigram"] - found["nats"], found)


@claim("reward-model-learns")
def reward_model_learns(run: Run) -> Measured:
    """A control: how often the reward model orders held-out pairs as the true reward does."""
    accuracy = run.shared(of_reference)["accuracy"]
    return Measured(accuracy["learned"], {"accuracy": accuracy})


def sweep(run: Run) -> list[dict[str, Any]]:
    """DPO with each β."""
    return [run.shared(on_pairs, name) for name in SWEEP]


def start(run: Run) -> Point:
    """The reference: its reward, at a KL of 0."""
    return 0.0, run.shared(of_reference)["measured"]["reward"]


def against_ppo(run: Run, reward: str) -> Measured:
    """DPO's frontier less PPO's."""
    theirs = {str(beta): run.shared(on_policy, reward, beta) for beta in PPO_BETAS}
    found = advantage(points(sweep(run)), points(list(theirs.values())), start(run))
    return Measured(found["mean"], found | {"curves": {beta: x["curve"] for beta, x in theirs.items()}})


@claim("frontier-ppo")
def frontier_ppo(run: Run) -> Measured:
    """With the reward model of the same pairs."""
    return against_ppo(run, "learned")


@claim("frontier-four-betas")
def frontier_four_betas(run: Run) -> float:
    """A control of the frontier: the same with the paper's β alone, about as many as PPO has."""
    ours = [run.shared(on_pairs, name) for name in SWEEP if name != "dpo-0.5"]
    theirs = [run.shared(on_policy, "learned", beta) for beta in PPO_BETAS]
    return advantage(points(ours), points(theirs), start(run))["mean"]


@claim("frontier-ppo-gt")
def frontier_ppo_gt(run: Run) -> Measured:
    """With the true reward, which DPO never sees."""
    return against_ppo(run, "true")


@claim("frontier-baselines")
def frontier_baselines(run: Run) -> Measured:
    """DPO's frontier less the reward of Preferred-FT at the KL of its end, and less the frontier of Unlikelihood."""
    ours, reference = points(sweep(run)), start(run)
    preferred, unlikely = (run.shared(on_pairs, name)["curve"] for name in ("preferred", "unweighted"))
    found = advantage(ours, points([{"curve": unlikely}]), reference)
    gain = at(hull(ours, reference), preferred[-1]["kl"]) - preferred[-1]["reward"]
    value = {"preferred": gain, "unlikelihood": found["mean"]}
    return Measured(value, {"preferred": preferred, "unlikelihood": unlikely, "reach": found["reach"]})


@claim("best-of-128")
def best_of_128(run: Run) -> Measured:
    """DPO's highest reward less that of the best of 128 by the reward model; and the gap at best-of-128's own KL."""
    found = run.shared(best_of_n)
    place = found["n"].index(BEST) if BEST in found["n"] else -1
    theirs, ours = found["by"]["learned"][place]["reward"], hull(points(sweep(run)), start(run))
    return Measured(ours[-1][1] - theirs, found | {"at_its_kl": at(ours, found["kl"][place]) - theirs})


@claim("beta-orders-kl")
def beta_orders_kl(run: Run) -> Measured:
    """KL at the end, by β."""
    runs = sweep(run)
    return Measured([x["curve"][-1]["kl"] for x in runs], {name: x for name, x in zip(SWEEP, runs, strict=True)})
