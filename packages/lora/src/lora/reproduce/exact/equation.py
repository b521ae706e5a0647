"""Eq. 3 and what follows from it, on single layers in float64: the scale, the gradients, what a rank can express."""

from __future__ import annotations

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from papertest import Measured, Run, claim
from papertest.parity import relative_error
from papertest.threads import one_thread

import lora
from lora.reproduce.models import factors, randomise

RANKS = (1, 2, 4, 8, 64)  # Table 6
ALPHAS = (1.0, 8.0, 16.0, 32.0)


def zero_base(k: int, d: int, r: int, alpha: float) -> nn.Module:
    """LoRA on one layer whose W_0 is zero, in float64: its output is the update ΔW x itself."""
    layer = nn.Linear(k, d, bias=False, dtype=torch.float64)
    nn.init.zeros_(layer.weight)
    return lora.add_lora(nn.ModuleDict({"layer": layer}), ["layer"], r=r, alpha=alpha)


def delta_w(model: nn.Module, k: int) -> Float64[Tensor, "d k"]:
    """ΔW as the layer itself has it: what it makes of the unit vectors."""
    with torch.no_grad():
        return model.get_submodule("layer")(torch.eye(k, dtype=torch.float64)).T


@claim("scaling")
@one_thread()
def scaling(run: Run) -> Measured:
    """Section 4.1: largest relative error of the update against (α/r) B A x, and the update with 2α over that with α.

    Ranks 1 to 64, four α; float64, 96 inputs and 80 outputs, A and B random.
    """
    x = torch.randn(7, 96, dtype=torch.float64)
    errors: dict[str, float] = {}
    ratios: list[float] = []
    for r in RANKS:
        for alpha in ALPHAS:
            updates = []
            for a in (alpha, 2 * alpha):
                model = zero_base(96, 80, r, a)
                randomise(model, seed=r)
                updates.append(model.get_submodule("layer")(x).detach())
            ((A, B),) = factors(model).values()
            errors[f"r {r}, alpha {alpha:g}"] = relative_error(updates[0], (alpha / r) * x @ A.T @ B.T)
            ratios += [float(edge) for edge in (updates[1] / updates[0]).aminmax()]
    furthest = max(ratios, key=lambda ratio: abs(ratio - 2))
    return Measured({"error": max(errors.values()), "double": furthest}, {"errors": errors})


@claim("scaling-adam")
@one_thread()
def scaling_adam(run: Run) -> Measured:
    """Section 4.1: change of the output by the first step of Adam, at r = 64 over r = 1, with and without 1/r.

    Mean norm over 512 inputs of width 256, one at a time, each with a loss of its own that is linear in the output.
    """
    width, alpha = 256, 16.0
    inputs, losses = torch.randn(2, 512, 1, width, dtype=torch.float64)
    changes: dict[str, float] = {}
    for name, rule in (("scaled", lambda r: alpha), ("unscaled", lambda r: alpha * r)):
        for r in (1, 64):
            model = zero_base(width, width, r, rule(r))
            changes[f"{name}, r {r}"] = first_step(model, inputs, losses)
    value = {name: changes[f"{name}, r 64"] / changes[f"{name}, r 1"] for name in ("scaled", "unscaled")}
    return Measured(value, {"changes": changes})


def first_step(model: nn.Module, inputs: Tensor, losses: Tensor) -> float:
    """Mean norm of what one step of Adam from B = 0 changes in the output for the input it was made for."""
    layer = model.get_submodule("layer")
    trained = [p for p in model.parameters() if p.requires_grad]
    start = [p.detach().clone() for p in trained]
    optimizer = torch.optim.Adam(trained, lr=1e-3, foreach=False)
    total = 0.0
    for x, loss in zip(inputs, losses, strict=True):
        optimizer.state.clear()
        (layer(x) * loss).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            total += float(layer(x).norm())
            for p, value in zip(trained, start, strict=True):
                p.copy_(value)
    return total / len(inputs)


@claim("gradient-formulas")
@one_thread()
def gradient_formulas(run: Run) -> Measured:
    """Eq. 3: largest relative error of dA = s Bᵀ dW, dB = s dW Aᵀ and of dx, with dW and dx of the merged weight.

    float64, s = α/r, ranks 1 to 64, a loss that is not linear in the output.
    """
    errors: dict[str, list[float]] = {"a": [], "b": [], "x": []}
    for r in RANKS:
        layer = nn.Linear(96, 80, dtype=torch.float64)
        W_0, b = layer.weight.detach().clone(), layer.bias.detach().clone()
        model = lora.add_lora(nn.ModuleDict({"layer": layer}), ["layer"], r=r, alpha=16)
        randomise(model, seed=r)
        ((A, B),) = factors(model).values()
        s = 16 / r
        W = (W_0 + s * B @ A).detach().requires_grad_()
        x = torch.randn(7, 96, dtype=torch.float64)
        ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
        model.get_submodule("layer")(ours).tanh().square().sum().backward()
        nn.functional.linear(theirs, W, b).tanh().square().sum().backward()
        assert W.grad is not None
        errors["a"].append(relative_error(A.grad, s * B.T @ W.grad))
        errors["b"].append(relative_error(B.grad, s * W.grad @ A.T))
        errors["x"].append(relative_error(ours.grad, theirs.grad))
    return Measured({name: max(row) for name, row in errors.items()}, {"ranks": list(RANKS), "errors": errors})


@claim("full-rank-limit")
@one_thread()
def full_rank_limit(run: Run) -> Measured:
    """Section 4.1: relative error of LoRA at r = min(d, k), and least error below it over Eckart and Young's bound.

    A random ΔW (48 × 32) with singular values 0.8^i; A and B are fitted by alternating least squares from the layer's
    own A. least and largest are over r = 1, 2, 4, 8, 16.
    """
    d, k = 48, 32
    sigma = 0.8 ** torch.arange(k, dtype=torch.float64)
    U, V = (torch.linalg.qr(torch.randn(n, k, dtype=torch.float64))[0] for n in (d, k))
    target = U * sigma @ V.T
    ratios = {}
    for r in (1, 2, 4, 8, 16):
        ratios[str(r)] = float((fitted(target, r) - target).norm() / sigma[r:].norm())
    full = float((fitted(target, k) - target).norm() / target.norm())
    return Measured({"full": full, "least": min(ratios.values()), "largest": max(ratios.values())}, {"ratios": ratios})


def fitted(target: Float64[Tensor, "d k"], r: int) -> Float64[Tensor, "d k"]:
    """ΔW of a layer whose A and B come as near to the target as alternating least squares brings them."""
    d, k = target.shape
    model = zero_base(k, d, r, alpha=2.0 * r)
    ((A, B),) = factors(model).values()
    with torch.no_grad():
        for _ in range(300):
            B.copy_(torch.linalg.lstsq(A.T, target.T / 2).solution.T)
            A.copy_(torch.linalg.lstsq(B, target / 2).solution)
    return delta_w(model, k)
