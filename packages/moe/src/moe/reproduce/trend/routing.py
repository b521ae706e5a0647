"""How the trained models route: balance with its losses and without, capacity, and what experts follow."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from papertest import Measured, Run, claim

from moe.reproduce.speech import speech
from moe.reproduce.training import trained

CAPACITIES = (1.0, 1.25, 2.0)
BALANCE = ("cv_importance", "cv_load", "max_over_mean")


def balance(found: dict[str, Any]) -> dict[str, float]:
    """Means over the layers."""
    return {measure: fmean(layer[measure] for layer in found["layers"]) for measure in BALANCE}


@claim("balance-collapses-without")
def balance_collapses_without(run: Run) -> Measured:
    """Shazeer et al., Table 6: CVs without the two losses over those with both; max/mean load without and with."""
    found = {name: run.shared(trained, f"noisy-{name}") for name in ("balanced", "unbalanced")}
    both, none = (balance(found[name]) for name in ("balanced", "unbalanced"))
    value = {measure: none[measure] / both[measure] for measure in BALANCE[:2]}
    value |= {"max_over_mean": none["max_over_mean"], "with_both": both["max_over_mean"]}
    return Measured(value, {name: {"layers": x["layers"], "nats": x["nats"]} for name, x in found.items()})


@claim("switch-balance")
def switch_balance(run: Run) -> Measured:
    """Switch, Section 2.2: max/mean load with α = 0 over that with 0.01."""
    found = {name: run.shared(trained, name) for name in ("balanced", "unbalanced")}
    ratio = balance(found["unbalanced"])["max_over_mean"] / balance(found["balanced"])["max_over_mean"]
    return Measured(ratio, {name: {"layers": x["layers"], "nats": x["nats"]} for name, x in found.items()})


def by_capacity(run: Run) -> list[dict[str, Any]]:
    return [run.shared(trained, f"capacity-{c}") for c in CAPACITIES]


@claim("capacity-drops")
def capacity_drops(run: Run) -> Measured:
    """Switch, Section 2.2: per cent of the tokens dropped in the last steps of training, by capacity factor."""
    found = by_capacity(run)
    return Measured(
        [100 * x["dropped"]["last"] for x in found], {"first": [100 * x["dropped"]["first"] for x in found]}
    )


@claim("few-dropped")
def few_dropped(run: Run) -> Measured:
    """Switch, Section 2.2: the same at 1.25."""
    return Measured(100 * by_capacity(run)[1]["dropped"]["last"])


@claim("capacity-loss")
def capacity_loss(run: Run) -> Measured:
    """Switch, Table 1: nats with a capacity factor of 1.0 less those with 1.25 and with 2.0."""
    low, middle, high = (x["nats"] for x in by_capacity(run))
    return Measured({"low_middle": low - middle, "low_high": low - high}, {"nats": [low, middle, high]})


@claim("specialisation")
def specialisation(run: Run) -> Measured:
    """What the first choice in the last layer tells of a piece's kind, less what it does with permuted kinds."""
    layers = run.shared(trained, "switch-16")["layers"]
    told = layers[-1]["kinds"]
    value = {control: told["told"] - told[control] for control in ("tokens", "pieces")}
    return Measured(value, {"layers": [layer["kinds"] for layer in layers]})


@claim("parts-of-speech")
def parts_of_speech(run: Run) -> Measured:
    """The same for the part of speech of a word, less what it does with permuted parts."""
    found = run.shared(speech, "switch-16")
    told = found["layers"][-1]
    return Measured({control: told["told"] - told[control] for control in ("tokens", "words")}, found)


@claim("locality")
def locality(run: Run) -> Measured:
    """Mixtral, Table 5: how often the next token has the same expert in the last layer, over how often in a random
    order."""
    layers = run.shared(trained, "switch-16")["layers"]
    ratios = [layer["repeats"]["next"] / layer["repeats"]["random"] for layer in layers]
    return Measured(ratios[-1], {"ratios": ratios, "repeats": [layer["repeats"] for layer in layers]})
