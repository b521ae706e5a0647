"""Position interpolation, NTK-aware, YaRN and Llama 3: bounds, bases, ramps."""

from __future__ import annotations

import math
from fractions import Fraction
from math import isqrt

import torch
from jaxtyping import Float
from torch import Tensor

from papertest.claims import Measured, Run, claim

from rope.rotary import apply_rope
from rope.scaling import scale_frequencies
from rope.tables import rope_frequencies

D = 128
TRAINED = 2048
FACTORS = (2, 4, 8, 16, 32)
HIGH = 10  # times as high, beyond which a height is that of rounding errors
DIGITS = 60  # of the fractions in which Theorem 2.1 is refuted


@claim("pi-is-linear")
def pi_is_linear(run: Run) -> float:
    """PI, Eq. 4: f(x, m/s) written out with complex numbers against apply_rope with the scaled frequencies."""
    draw = torch.Generator().manual_seed(run.seed)
    m = torch.tensor([0, 1, 2, 3, 100, 2047, 4097, 32767])
    x = torch.randn(len(m), D, generator=draw, dtype=torch.float64)
    worst = 0.0
    for s in FACTORS:
        angles = (m.double() / s)[:, None] * rope_frequencies(D)
        numbers = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
        written = torch.view_as_real(numbers * torch.polar(torch.ones_like(angles), angles)).flatten(-2)
        scaled = scale_frequencies(rope_frequencies(D), "linear", factor=float(s))
        worst = max(worst, (apply_rope(x, m, frequencies=scaled.frequencies) - written).abs().max().item())
    return worst


@claim("pi-constants")
def pi_constants(run: Run) -> Measured:
    """PI, Eq. 7 and 8: 32 ln c with c from neighbouring frequencies, and the least B(s)/d over s = 0 … 4,096."""
    theta = rope_frequencies(D)
    ln_c = -(theta[1] / theta[0]).log().item() * D / 2
    angles = torch.arange(2 * TRAINED + 1, dtype=torch.float64)[:, None] * theta
    B = torch.polar(torch.ones_like(angles), angles).cumsum(-1).abs().sum(-1) / D
    return Measured({"divisor": 32 * ln_c, "least_b": B.min().item()}, {"at": int(B.argmin())})


@claim("pi-theorem")
def pi_theorem(run: Run) -> dict[str, float]:
    """PI, Theorem 2.1: what h_j = e^{−iθ_j(s₁+½)} makes of |a − a_linear| at s₁ + ½, over the stated bound."""
    theta, s_1 = rope_frequencies(D), 100
    h = torch.polar(torch.ones_like(theta), -theta * (s_1 + 0.5))

    def a(s: float) -> float:
        return (h * torch.polar(torch.ones_like(theta), theta * s)).real.sum().item()

    ln_c = -(theta[1] / theta[0]).log().item() * D / 2
    stated = D * 0.25 / (8 * ln_c)
    return {"float64": abs(a(s_1 + 0.5) - (a(s_1) + a(s_1 + 1)) / 2) / stated, "proven": float(proven_excess())}


def proven_excess() -> Fraction:
    """A number that the ratio of `pi_theorem` is not below, in exact fractions: for this h the gap is Σ 1 − cos(θ_j/2).

    θ_j = 10^(−j/16) from below, by four whole square roots of 10^(16 n − j); 1 − cos x ≥ x²/2 − x⁴/24, which grows
    with x here; ln 10 = 6 artanh(1/3) + 2 artanh(1/9) from below by the first terms of two positive series.
    """
    thetas: list[Fraction] = []
    for j in range(D // 2):
        root = 10 ** (16 * DIGITS - j)
        for _ in range(4):
            root = isqrt(root)
        thetas.append(Fraction(root, 10**DIGITS))
    gap = sum((t / 2) ** 2 / 2 - (t / 2) ** 4 / 24 for t in thetas)

    def artanh(x: Fraction) -> Fraction:
        return sum((x ** (2 * k + 1) / (2 * k + 1) for k in range(30)), Fraction(0))

    ln_10 = 6 * artanh(Fraction(1, 3)) + 2 * artanh(Fraction(1, 9))
    return gap * 32 * 4 * ln_10 / D


@claim("pi-ratio")
def pi_ratio(run: Run) -> Measured:
    """PI, Eq. 7 and 8 with the bound that |a″| ≤ max|h| Σ θ_j² gives."""
    squares = rope_frequencies(D).square().sum().item()
    return Measured(2 * D / (squares / 8), {"sum_of_squares": squares, "stated": D / (4 * math.log(10000))})


def basis(positions: Tensor) -> Float[Tensor, "positions d"]:
    """PI, Appendix C.1: sines, then cosines, of each position and frequency."""
    angles = positions.double()[:, None] * rope_frequencies(D)
    return torch.cat([angles.sin(), angles.cos()], -1)


@claim("pi-figure-2")
def pi_figure_2(run: Run) -> Measured:
    """PI, Appendix C.1: normal targets on 0 … 2,047, ten draws at once, by three ways to solve for the coefficients.

    A height counts up to HIGH times what is inside: how high beyond that is the solver's, from machine to machine.
    Inside they are rounded up to a whole number, since they too have the solver's rounding errors.
    """
    draw = torch.Generator().manual_seed(run.seed)
    X, targets = basis(torch.arange(TRAINED)), torch.randn(TRAINED, 10, generator=draw, dtype=torch.float64)
    single, y = X.float(), targets.float()
    U, S, Vh = torch.linalg.svd(X, full_matrices=False)
    coefficients = {
        "float32": torch.linalg.solve(single.mT @ single, single.mT @ y).double(),
        "float64": torch.linalg.solve(X.mT @ X, X.mT @ targets),
        "svd": Vh.mT @ ((U.mT @ targets) / S[:, None]),
    }
    beyond, finely = basis(torch.arange(TRAINED, 2 * TRAINED)), basis(torch.arange(25, 75, 0.125))
    value, heights = {}, {}
    for name, c in coefficients.items():
        outside, inside = ((part @ c).abs().amax(0) for part in (beyond, X))
        value[name] = min(HIGH, (outside / inside).min().item())
        heights[name] = {"outside": [x.item() for x in outside.aminmax()], "inside": inside.max().item()}
    value["between"] = math.ceil(max((finely @ c).abs().max().item() for c in coefficients.values()))
    return Measured(value, {"heights": heights, "condition": (S[0] / S[-1]).item()})


@claim("ntk-base")
def ntk_base(run: Run) -> dict[str, float]:
    """YaRN, Eq. 14 to 16, D = 128."""
    theta = rope_frequencies(D)
    value: dict[str, float] = {"lowest": 0.0, "highest": 0.0}
    for s in FACTORS:
        scaled = scale_frequencies(theta, "ntk", factor=float(s)).frequencies
        value[f"s_{s}"] = (scaled[1] / scaled[0]).item() ** (-D / 2)
        value["lowest"] = max(value["lowest"], abs((theta[-1] / scaled[-1]).item() / s - 1))
        value["highest"] = max(value["highest"], abs((theta[0] / scaled[0]).item() - 1))
    return value


@claim("yarn-temperature")
def yarn_temperature(run: Run) -> dict[str, float]:
    """YaRN, Eq. 22: what cosines and sines are multiplied by."""
    theta = rope_frequencies(D)
    return {
        f"s_{s}": scale_frequencies(
            theta, "yarn", factor=float(s), original_max_position_embeddings=4096
        ).attention_factor
        for s in FACTORS
    }


def by_parts(theta: Tensor, s: float, length: int, alpha: float, beta: float) -> Float[Tensor, " pairs"]:
    """YaRN, Eq. 17 to 20, pair by pair: the frequencies of a blend in the number of turns."""
    found: list[float] = []
    for t in theta.tolist():
        r = length / (2 * math.pi / t)
        gamma = 0.0 if r < alpha else 1.0 if r > beta else (r - alpha) / (beta - alpha)
        found.append((1 - gamma) * t / s + gamma * t)
    return torch.tensor(found, dtype=torch.float64)


def by_index(theta: Tensor, s: float, length: int, alpha: float, beta: float) -> Float[Tensor, " pairs"]:
    """The authors' code: the blend is linear in the pair's index, between whole indices around r = β and r = α."""
    first, last = (D * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(10000)) for turns in (beta, alpha))
    low, high = math.floor(first), math.ceil(last)
    gamma = 1 - ((torch.arange(D // 2, dtype=torch.float64) - low) / (high - low)).clamp(0, 1)
    return (1 - gamma) * theta / s + gamma * theta


def off(ours: Tensor, theirs: Tensor) -> float:
    """The largest relative difference of two lists of frequencies."""
    return (ours / theirs - 1).abs().max().item()


@claim("yarn-ramp")
def yarn_ramp(run: Run) -> Measured:
    """YaRN, Eq. 18 and the authors' code, s = 16, L = 4096, α = 1, β = 32."""
    theta = rope_frequencies(D)
    paper, code = (
        scale_frequencies(theta, "yarn", factor=16.0, original_max_position_embeddings=4096, ramp=ramp).frequencies
        for ramp in ("paper", "code")
    )
    ratio = torch.maximum(paper / code, code / paper)
    value = {
        "ratio": ratio.max().item(),
        "paper": off(paper, by_parts(theta, 16, 4096, 1, 32)),
        "code": off(code, by_index(theta, 16, 4096, 1, 32)),
    }
    return Measured(value, {"paper": paper.tolist(), "code": code.tolist(), "at": int(ratio.argmax())})


@claim("llama3-by-parts")
def llama3_by_parts(run: Run) -> dict[str, float]:
    """Llama 3.1's constants, D = 128, against Eq. 17 to 20 with α and β in place of low and high frequency factor."""
    theta = rope_frequencies(D, 500000.0)
    ours = scale_frequencies(
        theta, "llama3", factor=8.0, original_max_position_embeddings=8192, low_freq_factor=1.0, high_freq_factor=4.0
    ).frequencies
    shrunk = theta / ours
    kept, divided = (int(((shrunk - s).abs() < 1e-9).sum()) for s in (1, 8))
    return {
        "difference": off(ours, by_parts(theta, 8, 8192, 1, 4)),
        "kept": kept,
        "blended": D // 2 - kept - divided,
        "divided": divided,
    }
