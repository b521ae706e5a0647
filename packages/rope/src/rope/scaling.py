"""Longer contexts: position interpolation, NTK-aware, dynamic NTK, YaRN and Llama 3, as changes of the frequencies.

Chen et al. 2023 (2306.15595), Peng et al. 2023 (2309.00071) and Meta's Llama 3.1. Computed in float64.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from rope.arguments import check_choice, check_flags, check_integer, check_number
from rope.tables import check_frequencies

METHODS = ("default", "linear", "ntk", "dynamic", "yarn", "llama3")
_TAKES = {
    "default": (),
    "linear": ("factor",),
    "ntk": ("factor",),
    "dynamic": ("factor", "original_max_position_embeddings", "seq_len"),
    "yarn": (
        "factor",
        "original_max_position_embeddings",
        "beta_fast",
        "beta_slow",
        "attention_factor",
        "mscale",
        "mscale_all_dim",
        "truncate",
        "ramp",
    ),
    "llama3": ("factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"),
}
_KEYS = tuple(dict.fromkeys(key for keys in _TAKES.values() for key in keys))


class ScaledFrequencies(NamedTuple):
    """What `scale_frequencies` gives, with the names that `apply_rope` has for it.

    frequencies: (dim / 2,), float64
    attention_factor: multiplies queries and keys (YaRN's √(1/t)), so scores change by its square. 1 but for YaRN
    """

    frequencies: Tensor
    attention_factor: float = 1.0


def scale_frequencies(
    frequencies: Float[Tensor, " half"], method: str | Mapping[str, Any] = "linear", **parameters: Any
) -> ScaledFrequencies:
    """The frequencies of a model that was trained with `frequencies`, for a context `factor` times as long.

    method, with s = factor, D = dim and L = original_max_position_embeddings:
        linear    θ/s: position interpolation (PI, Eq. 4)
        ntk       the base b s^(D/(D−2)): the highest frequency stays, the lowest is divided by s (YaRN, Eq. 14 to 16)
        dynamic   the same with s(l) = s l/L − (s − 1), where l = max(seq_len, L); factor 1 is YaRN's Section 3.3
        yarn      a blend of θ/s and θ, and attention_factor = 0.1 ln s + 1 (YaRN, Eq. 17 to 22)
        llama3    a blend in the number of turns, for Llama 3.1 and later
        default   as they are
        or a configuration's `rope_scaling` or `rope_parameters`, a dictionary with `rope_type` (or `type`)
    parameters, with the names of that dictionary, which they override: factor, original_max_position_embeddings and
        seq_len: the length now, for dynamic; L where it is not given
        beta_fast = 32, beta_slow = 1: turns within L from which on, and up to which, a frequency is kept or divided
        ramp: "code" blends linearly in the index of the pair, as the authors' code and Hugging Face's; "paper" linearly
            in the number of turns, as Eq. 18
        truncate = True: the code's ramp has whole numbers as its ends
        attention_factor, or mscale and mscale_all_dim: in place of 0.1 ln s + 1
        low_freq_factor = 1, high_freq_factor = 4: as beta_slow and beta_fast, for llama3

    A base that changes with the length does not go with keys that were rotated before: `RotaryAttention` keeps such
    keys unrotated.

    Raises ValueError for another method, for a parameter that the method does not take or that is missing, for a factor
    below 1, for numbers that are not finite and positive, and for a dictionary's rope_theta that is not the base.
    """
    check_frequencies(frequencies)
    theta = frequencies.detach().double()
    method, given = _settings(theta, method, parameters)
    factor: Any = given.get("factor", 1.0 if method in ("dynamic", "default") else None)
    if factor is None:
        raise ValueError(f"factor must be given for {method}")
    check_number("factor", factor, 1)
    for name in ("beta_fast", "beta_slow", "low_freq_factor", "high_freq_factor", "mscale", "mscale_all_dim"):
        if name in given:
            check_number(name, given[name])
    L: Any = given.get("original_max_position_embeddings")
    if "original_max_position_embeddings" in _TAKES[method]:
        if L is None:
            raise ValueError(f"original_max_position_embeddings must be given for {method}")
        check_integer("original_max_position_embeddings", L)
    match method:
        case "linear":
            return ScaledFrequencies(theta / factor)
        case "ntk":
            return ScaledFrequencies(_ntk(theta, factor))
        case "dynamic":
            check_integer("seq_len", seq_len := given.get("seq_len", L))
            return ScaledFrequencies(_ntk(theta, factor * max(seq_len, L) / L - (factor - 1)))
        case "yarn":
            return _yarn(theta, factor, L, given)
        case "llama3":
            low, high = given.get("low_freq_factor", 1.0), given.get("high_freq_factor", 4.0)
            if not low < high:
                raise ValueError(f"high_freq_factor must be above low_freq_factor {low}, got {high}")
            return ScaledFrequencies(_blend(theta, factor, ((_turns(theta, L) - low) / (high - low)).clamp(0, 1)))
        case _:
            return ScaledFrequencies(theta)


def _settings(theta: Tensor, method: Any, parameters: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The method, and what it is given apart from None, which stands for an absent key in configurations."""
    given = {name: value for name, value in parameters.items() if value is not None}
    if isinstance(method, Mapping):
        table = {name: value for name, value in method.items() if value is not None}
        named = [table.pop(name) for name in ("rope_type", "type") if name in table]
        theta_0, _ = table.pop("rope_theta", None), table.pop("partial_rotary_factor", None)
        given, method = table | given, named[0] if named else None
        if theta_0 is not None:
            check_number("rope_theta", theta_0)
            if not math.isclose(base := _base(theta), theta_0, rel_tol=1e-4):
                raise ValueError(f"rope_theta must be the base of the frequencies, {base:g}, got {theta_0!r}")
    check_choice("method", method, METHODS)
    for name in given:
        if name not in _TAKES[method]:
            known = f"that {method} does not take" if name in _KEYS else "of another name"
            raise ValueError(
                f"parameters must be {', '.join(_TAKES[method]) or 'none'} for {method}, got {name}, {known}"
            )
    return method, given


def _base(theta: Tensor) -> float:
    """b of θ_i = b^(−2i/D); NaN for a single pair. Raises ValueError where the frequencies are no such powers."""
    pairs = len(theta)
    if not bool((theta > 0).all()):
        raise ValueError("frequencies must be positive to be those of a base")
    log_b = -theta.log()[-1].item() * pairs / (pairs - 1) if pairs > 1 else math.nan
    powers = torch.exp(-log_b * torch.arange(pairs, dtype=torch.float64, device=theta.device) / pairs)
    if pairs > 1 and not torch.allclose(powers, theta, rtol=1e-4, atol=0):
        raise ValueError("frequencies must be the powers of one base, b^(-2i/D), got others (scaled ones?)")
    return math.exp(log_b)


def _ntk(theta: Tensor, s: float) -> Tensor:
    """b^(−2i/D) with b s^(D/(D−2)) for b, which multiplies θ_i by s^(−i/(D/2−1))."""
    if len(theta) == 1:
        raise ValueError("frequencies must be those of 2 pairs at least for ntk and dynamic, got 1")
    return theta * float(s) ** (-torch.arange(len(theta), dtype=theta.dtype, device=theta.device) / (len(theta) - 1))


def _yarn(theta: Tensor, s: float, L: int, given: Mapping[str, Any]) -> ScaledFrequencies:
    fast, slow = given.get("beta_fast", 32.0), given.get("beta_slow", 1.0)
    if not slow < fast:
        raise ValueError(f"beta_fast must be above beta_slow {slow}, got {fast}")
    ramp, truncate = given.get("ramp", "code"), given.get("truncate", True)
    check_choice("ramp", ramp, ("code", "paper"))
    check_flags(truncate=truncate)
    if ramp == "paper":
        gamma = ((_turns(theta, L) - slow) / (fast - slow)).clamp(0, 1)  # Eq. 18
    else:
        pairs, log_b = len(theta), math.log(_base(theta))
        low, high = (pairs * math.log(L / (turns * 2 * math.pi)) / log_b for turns in (fast, slow))
        if truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, 2 * pairs - 1)
        width = high - low if high != low else 0.001
        gamma = 1 - ((torch.arange(pairs, dtype=theta.dtype, device=theta.device) - low) / width).clamp(0, 1)
    return ScaledFrequencies(_blend(theta, s, gamma), _temperature(s, given))


def _temperature(s: float, given: Mapping[str, Any]) -> float:
    """√(1/t) of Eq. 22, or what is given in its place."""
    if "attention_factor" in given:
        check_number("attention_factor", given["attention_factor"])
        return float(given["attention_factor"])

    def root(mscale: float) -> float:
        return 0.1 * mscale * math.log(s) + 1

    if "mscale" in given and "mscale_all_dim" in given:
        return root(given["mscale"]) / root(given["mscale_all_dim"])
    return root(1)


def _turns(theta: Tensor, L: int) -> Tensor:
    """r = L/λ with λ = 2π/θ (YaRN, Eq. 17): how often each pair turns within the trained length."""
    return L * theta / (2 * math.pi)


def _blend(theta: Tensor, s: float, gamma: Tensor) -> Tensor:
    """YaRN, Eq. 19 and 20."""
    return (1 - gamma) * theta / s + gamma * theta
