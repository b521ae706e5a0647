"""Trend claims: Table 6, models of half the layers and of half the width, pre-trained as those of `masking` are."""

from __future__ import annotations

import math
import statistics
from typing import cast

from papertest.claims import Measured, Run, claim

from bert.reproduce.trend.masking import less, train

SIZES = {"layers": "half the layers", "width": "half the width"}  # of `pretraining.SIZES`; heads keep their size


def perplexity(run: Run, name: str) -> Measured:
    """Of masked tokens of held-out verses: another model's over the base model's; the details have both on the way."""
    curves = {each: run.shared(train, each)["curve"] for each in ("base", name)}
    return Measured(math.exp(curves[name][-1]["loss"] - curves["base"][-1]["loss"]), curves)


@claim("size-layers")
def size_layers(run: Run) -> Measured:
    """Table 6: half of the layers."""
    return perplexity(run, SIZES["layers"])


@claim("size-width")
def size_width(run: Run) -> Measured:
    """Table 6: half of the width."""
    return perplexity(run, SIZES["width"])


@claim("size-finetuned")
def size_finetuned(run: Run) -> Measured:
    """Table 6: the base model minus half of the layers, and minus half of the width, fine-tuned: means of both tasks,
    as its effects are means of three; the details have each task.
    """
    by_task = {part: cast(dict[str, float], less(run, name).value) for part, name in SIZES.items()}
    return Measured({part: statistics.mean(tasks.values()) for part, tasks in by_task.items()}, {"by_task": by_task})
