"""ALiBi's Figure 1 and Tables 2 to 5 and 13 to 15: perplexity beyond the training length, by position encoding."""

from __future__ import annotations

import itertools
import math
from typing import Any

from papertest import Measured, Run, claim

from rope.reproduce.training import causal

ENCODINGS = ("sinusoidal", "rotary", "t5", "alibi")
SHORT, LONG, HEADS = 64, 512, 4


def at(found: dict[str, Any], length: int, times: int) -> float:
    """Perplexity of all tokens at so many times the training length."""
    return found["all"][found["lengths"].index(times * length)]


def models(run: Run, length: int = SHORT, heads: int = HEADS) -> dict[str, Any]:
    """One model of each encoding; those of the main setting are read with sliding windows too."""
    slide = (length, heads) == (SHORT, HEADS)
    return {name: run.shared(causal, name, length, heads, slide) for name in ENCODINGS}


def long_model(run: Run) -> dict[str, Any]:
    return run.shared(causal, "sinusoidal", LONG, HEADS, False)


def order(found: dict[str, Any], length: int, times: int) -> dict[str, float]:
    """Perplexity of each encoding over that of the next better one in the paper."""
    score = {name: at(model, length, times) for name, model in found.items()}
    return {f"{a}_{b}": score[a] / score[b] for a, b in itertools.pairwise(ENCODINGS)}


@claim("extrapolation-learns")
def extrapolation_learns(run: Run) -> Measured:
    """The control: the unigram perplexity over each model's at its training length, as nats."""
    found = {**models(run), "sinusoidal_long": long_model(run)}
    return Measured({name: x["unigram"] - math.log(x["all"][0]) for name, x in found.items()})


@claim("alibi-extrapolates")
def alibi_extrapolates(run: Run) -> Measured:
    """Figure 1, Table 2: ALiBi's perplexity at 8 and 16 times the training length over that at the length."""
    found = models(run)
    alibi = found["alibi"]
    value = {f"times_{t}": at(alibi, SHORT, t) / at(alibi, SHORT, 1) for t in (8, 16)}
    return Measured(value, {name: {key: x[key] for key in ("lengths", "all", "last")} for name, x in found.items()})


@claim("sinusoidal-fails")
def sinusoidal_fails(run: Run) -> Measured:
    """Figure 1, Table 2: the same of the sinusoidal model at 8 times."""
    sinusoidal = models(run)["sinusoidal"]
    return Measured(at(sinusoidal, SHORT, 8) / at(sinusoidal, SHORT, 1))


@claim("order-at-8")
def order_at_8(run: Run) -> Measured:
    """Table 2 at 8 times the length: sinusoidal over rotary, rotary over T5's bias, T5's bias over ALiBi."""
    return Measured(order(models(run), SHORT, 8))


@claim("order-at-16")
def order_at_16(run: Run) -> Measured:
    """Table 2 at 16 times the length, where T5's bias ran out of memory: sinusoidal over rotary, rotary over ALiBi."""
    found = order(models(run), SHORT, 16)
    value = {"sinusoidal_rotary": found["sinusoidal_rotary"], "rotary_alibi": found["rotary_t5"] * found["t5_alibi"]}
    return Measured(value, {"t5": found})


@claim("order-longer-training")
def order_longer_training(run: Run) -> Measured:
    """`order-at-8` for models trained on 128 tokens (Table 3)."""
    found = models(run, length=2 * SHORT)
    return Measured(order(found, 2 * SHORT, 8), {name: x["all"] for name, x in found.items()})


@claim("order-more-heads")
def order_more_heads(run: Run) -> Measured:
    """`order-at-8` with the paper's 8 heads."""
    found = models(run, heads=2 * HEADS)
    return Measured(order(found, SHORT, 8), {name: x["all"] for name, x in found.items()})


@claim("alibi-at-length")
def alibi_at_length(run: Run) -> Measured:
    """Tables 2 and 5 at the training length itself: ALiBi's perplexity over rotary's and the sinusoidal model's."""
    found = models(run)
    alibi = at(found["alibi"], SHORT, 1)
    return Measured({name: alibi / at(found[name], SHORT, 1) for name in ("rotary", "sinusoidal")})


@claim("short-against-long")
def short_against_long(run: Run) -> Measured:
    """Table 5: ALiBi trained on 64 tokens and read at 512, over the sinusoidal model trained and read at 512.

    Both see the same number of tokens in training.
    """
    short, long = models(run)["alibi"], long_model(run)
    return Measured(at(short, SHORT, LONG // SHORT) / at(long, LONG, 1), {"sinusoidal": long["all"]})


@claim("early-tokens")
def early_tokens(run: Run) -> Measured:
    """Tables 13 and 15: with sliding windows, perplexity with 8 times the training length as context over 1 time."""
    found = models(run)
    value = {name: found[name]["sliding"][-1] / found[name]["sliding"][0] for name in ("alibi", "sinusoidal")}
    return Measured(value, {name: x["sliding"] for name, x in found.items()})
