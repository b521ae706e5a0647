"""The training curve: a small model on real text, trained with either attention from the same seeds."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from papertest.claims import Measured, Run, claim

from flash_attention.reproduce.data import plays
from flash_attention.reproduce.training import train


@claim("training-curve")
def training_curve(run: Run) -> Measured:
    """Figure 4 at small scale: a GPT on Shakespeare's characters, from one seed, with flash and standard attention.

    `loss` is the largest difference of a step's training loss (nats per character), `perplexity` the difference of the
    validation perplexity after the last step.
    """
    flash: dict[str, Any] = run.shared(train, "flash")
    standard: dict[str, Any] = run.shared(train, "standard")
    signed = [a - b for a, b in zip(flash["losses"], standard["losses"], strict=True)]
    value = {"loss": max(map(abs, signed)), "perplexity": abs(flash["perplexity"] - standard["perplexity"])}
    return Measured(value, {"flash": flash, "standard": standard, "mean_signed": sum(signed) / len(signed)})


@claim("training-learns")
def training_learns(run: Run) -> Measured:
    """Control: nats per character by which the model with standard attention is below the characters' frequencies."""
    standard: dict[str, Any] = run.shared(train, "standard")
    text = plays()
    split = len(text) * 19 // 20
    seen, held_out = Counter(text[:split]), text[split:]
    frequencies = sum(n * math.log(split / seen[letter]) for letter, n in Counter(held_out).items()) / len(held_out)
    nats = math.log(standard["perplexity"])
    return Measured(frequencies - nats, {"frequencies": frequencies, "nats": nats})
