"""RoFormer's Figure 3: linear attention and a masked language model, with rotary and without, on characters."""

from __future__ import annotations

from typing import Any

from papertest import Measured, Run, claim

from rope.reproduce.training import linear, masked

STD, RATE = 1.0, 3e-3  # of the learned table, the best of 0.5, 1 and 2; the best rate of 1.5e-3, 3e-3, 6e-3 for both


def curves(run: Run) -> dict[str, Any]:
    """Linear attention without positions and with rotary; the sinusoids are there to be seen."""
    return {name: run.shared(linear, name) for name in ("none", "rotary", "sinusoidal")}


def masked_curves(run: Run) -> dict[str, Any]:
    return {name: run.shared(masked, name, STD, RATE) for name in ("learned", "rotary")}


def below_unigram(found: dict[str, Any]) -> float:
    """Nats by which a model ends below the entropy of single characters."""
    return found["unigram"] - found["curve"][-1]["nats"]


@claim("linear-learns")
def linear_learns(run: Run) -> Measured:
    """The control of `linear-gain`."""
    found = curves(run)
    return Measured({name: below_unigram(found[name]) for name in ("none", "rotary")})


@claim("linear-gain")
def linear_gain(run: Run) -> Measured:
    """Figure 3, right: nats without positions minus nats with rotary, at the end, and the least after a tenth."""
    found = curves(run)
    points = [
        (without["step"], without["nats"] - rotary["nats"])
        for without, rotary in zip(found["none"]["curve"], found["rotary"]["curve"], strict=True)
    ]
    later = [gain for step, gain in points if step >= points[-1][0] / 10]
    return Measured({"at_end": later[-1], "least": min(later)}, {name: x["curve"] for name, x in found.items()})


@claim("masked-learns")
def masked_learns(run: Run) -> Measured:
    """The control of `masked-gain`: both have left the plateau of single characters."""
    return Measured({name: below_unigram(found) for name, found in masked_curves(run).items()})


@claim("masked-gain")
def masked_gain(run: Run) -> Measured:
    """Figure 3, left: nats with learned positions minus nats with rotary at the end; and rotary's share of the steps.

    The share is where rotary's curve first is at or below the learned table's last loss, 1.05 where it never is.
    """
    found = masked_curves(run)
    learned, rotary = found["learned"]["curve"], found["rotary"]["curve"]
    reached = [point["step"] / rotary[-1]["step"] for point in rotary if point["nats"] <= learned[-1]["nats"]]
    value = {"at_end": learned[-1]["nats"] - rotary[-1]["nats"], "steps": reached[0] if reached else 1.05}
    return Measured(value, {name: x["curve"] for name, x in found.items()})
