"""How the policies behave: accuracy, degeneration, long training, temperature (Figure 2, right), over-optimisation."""

from __future__ import annotations

import math
from typing import Any

from papertest import Measured, Run, claim

from dpo.reproduce.sampling import best_of_n, of_reference
from dpo.reproduce.sentiment import PIECES
from dpo.reproduce.training import METHODS, PPO_BETAS, on_pairs, on_policy
from dpo.reproduce.trend.frontier import sweep

NO_PENALTY = 0.0  # β of PPO without one


@claim("implicit-reward-accuracy")
def implicit_reward_accuracy(run: Run) -> Measured:
    """How often DPO's own reward (β = 0.1) orders held-out pairs as the true reward does; the reward model beside."""
    curve = run.shared(on_pairs, "dpo-0.1")["curve"]
    return Measured(curve[-1]["accuracy"], {"curve": curve, "accuracy": run.shared(of_reference)["accuracy"]})


@claim("unweighted-degenerates")
def unweighted_degenerates(run: Run) -> Measured:
    """Nats per piece of the chosen held-out answers above those of a uniform choice of pieces, without the weight and
    with it, after three passes."""
    curves = {side: run.shared(on_pairs, name)["curve"]
              for side, name in (("unweighted", "unweighted"), ("dpo", "dpo-0.1-long"))}  # fmt: skip
    above = {side: curve[-1]["chosen_nats"] - math.log(PIECES) for side, curve in curves.items()}
    return Measured(above, curves)


@claim("chosen-rises")
def chosen_rises(run: Run) -> Measured:
    """What log π of the chosen and of the rejected held-out answers changes by in one pass."""
    curve = run.shared(on_pairs, "dpo-0.1")["curve"]
    return Measured({side: curve[-1][side] for side in ("chosen", "rejected")}, {"curve": curve})


@claim("long-training")
def long_training(run: Run) -> Measured:
    """Three passes over the pairs: what the margin gains after the first, and what log π of the chosen changes by."""
    curve = run.shared(on_pairs, "dpo-0.1-long")["curve"]
    first = next(x for x in curve if x["step"] * METHODS["dpo-0.1-long"].epochs == curve[-1]["step"])
    margins = [x["chosen"] - x["rejected"] for x in (first, curve[-1])]
    return Measured({"margin": margins[1] - margins[0], "chosen": curve[-1]["chosen"]}, {"curve": curve})


def most_wins(runs: list[dict[str, Any]]) -> list[dict[str, float]]:
    """By temperature, of the run that wins most at its best temperature."""
    return max((x["temperatures"] for x in runs), key=lambda found: max(at["wins"] for at in found))


def by_temperature(run: Run) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """The best DPO and the best PPO policy."""
    return most_wins(sweep(run)), most_wins([run.shared(on_policy, "learned", beta) for beta in PPO_BETAS])


@claim("win-rate")
def win_rate(run: Run) -> Measured:
    """Points by which DPO's highest win rate is above PPO's."""
    ours, theirs = (max(100 * at["wins"] for at in found) for found in by_temperature(run))
    return Measured(ours - theirs, {"dpo": ours, "ppo": theirs})


@claim("temperature")
def temperature(run: Run) -> Measured:
    """Points that the win rate falls by from temperature 0 to 1: PPO's less DPO's."""
    ours, theirs = by_temperature(run)
    falls = [100 * (found[0]["wins"] - found[-1]["wins"]) for found in (ours, theirs)]
    details = {"dpo": ours, "ppo": theirs, "reference": run.shared(of_reference)["temperatures"]}
    return Measured(falls[1] - falls[0], details | {"falls": falls})


@claim("over-optimisation")
def over_optimisation(run: Run) -> Measured:
    """PPO without a KL penalty on the reward model of few pairs: the share of the true reward's gain that is lost
    again after its peak, and what the reward model's score gains meanwhile, in deviations."""
    curve, first = run.shared(on_policy, "proxy", NO_PENALTY)["curve"], run.shared(of_reference)["measured"]
    peak = max(curve, key=lambda x: x["reward"])
    lost = (peak["reward"] - curve[-1]["reward"]) / (peak["reward"] - first["reward"])
    details = {"curve": curve, "reference": first, "best_of_n": run.shared(best_of_n)}
    return Measured({"lost": lost, "score": curve[-1]["score"] - peak["score"]}, details)


@claim("without-penalty")
def without_penalty(run: Run) -> Measured:
    """The share of pieces that the same answer had before, at the end of PPO without a KL penalty."""
    curve = run.shared(on_policy, "proxy", NO_PENALTY)["curve"]
    return Measured(curve[-1]["repeats"], {"curve": curve, "reference": run.shared(of_reference)["measured"]})
