"""Loss against experts, at equal operations per token: Switch, and DeepSeekMoE's smaller and shared experts."""

from __future__ import annotations

from typing import Any

from papertest import Measured, Run, claim

from moe.reproduce.models import ARMS
from moe.reproduce.training import trained


def nats(run: Run, *names: str) -> list[float]:
    """Held-out nats of these arms."""
    return [run.shared(trained, name)["nats"] for name in names]


@claim("moe-learns")
def moe_learns(run: Run) -> Measured:
    """The control: nats below the entropy of single pieces, the least of all arms."""
    found = {name: run.shared(trained, name) for name in ARMS}
    below = {name: x["unigram"] - x["nats"] for name, x in found.items()}
    return Measured(min(below.values()), {"below": below})


@claim("experts-lower-loss")
def experts_lower_loss(run: Run) -> Measured:
    """Switch, Figure 4: nats of the dense model less those with 4 experts, and with 4 less with 16."""
    dense, four, sixteen = nats(run, "dense", "switch-4", "switch-16")
    return Measured({"dense_4": dense - four, "4_16": four - sixteen}, {"nats": [dense, four, sixteen]})


@claim("sixty-four-experts")
def sixty_four_experts(run: Run) -> Measured:
    """Switch, Figure 4: nats with 16 experts less those with 64."""
    sixteen, many = nats(run, "switch-16", "switch-64")
    return Measured(sixteen - many, {"nats": [sixteen, many]})


def steps_to(curve: list[dict[str, float]], goal: float) -> float | None:
    """The step at which a curve is first at the goal, on a line between its points; None where it never is."""
    before = curve[0]
    for point in curve:
        if point["nats"] <= goal:
            if point is before:
                return point["step"]
            share = (before["nats"] - goal) / (before["nats"] - point["nats"])
            return before["step"] + share * (point["step"] - before["step"])
        before = point
    return None


@claim("switch-speed-up")
def switch_speed_up(run: Run) -> Measured:
    """Switch, Section 3.1: the dense model's steps over those after which 16 experts have its last loss.

    0.95 where they never have it; 4 and 64 experts stand beside it.
    """
    names = ("dense", "switch-4", "switch-16", "switch-64")
    curves: dict[str, Any] = {name: run.shared(trained, name)["curve"] for name in names}
    end = curves["dense"][-1]
    reached = {name: steps_to(curves[name], end["nats"]) for name in names[1:]}
    factors = {name: end["step"] / steps if steps else 0.95 for name, steps in reached.items()}
    return Measured(factors["switch-16"], {"factors": factors, "curves": curves})


@claim("fine-grained")
def fine_grained(run: Run) -> Measured:
    """DeepSeekMoE, Figure 3: nats of 16 experts with 1 chosen less those of 32 half as large with 2 chosen, and of 31
    with 1 chosen beside a shared one."""
    coarse, fine, shared = nats(run, "switch-16", "fine", "fine-shared")
    return Measured({"fine": coarse - fine, "shared": coarse - shared}, {"nats": [coarse, fine, shared]})


@claim("top-1-against-top-2")
def top_1_against_top_2(run: Run) -> Measured:
    """Switch, Table 1: nats of 32 half-size experts with two chosen less those of 16 with one."""
    one, two = nats(run, "switch-16", "fine")
    return Measured(two - one, {"nats": [one, two]})
