"""The auxiliary losses of one layer. Those of several layers are added; their loads must never be: an expert too full
in one layer and its namesake too empty in the next would look balanced.

All are computed in float32 at least, also under autocast, and carry no weight: the papers' are 0.1 for importance and
load (Shazeer et al., Table 6), 10⁻² for Switch's balance (Section 2.2), 10⁻³ for z (Zoph et al. 2022, Section 3.1).
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor


def importance_loss(gates: Float[Tensor, "tokens experts"]) -> Float[Tensor, ""]:
    """Shazeer et al., Eq. 6 and 7: CV(Importance)², where Importance is the sum of the gate values over the batch.

    gates: G(x) of each token, 0 for the experts that it does not go to

    Raises ValueError for another shape, or for what is not floating point.
    """
    return squared_cv(_floating("gates", gates, ("tokens", "experts")).sum(0))


def load_loss(load: Float[Tensor, " experts"]) -> Float[Tensor, ""]:
    """Shazeer et al., Eq. 11: CV(Load)². The load has a gradient where it is the smooth one of `NoisyTopKGate`.

    load: for each expert the expected number of its tokens, Σ P(x, i)

    Raises ValueError for another shape, or for what is not floating point.
    """
    return squared_cv(_floating("load", load, ("experts",)))


def squared_cv(v: Float[Tensor, " experts"]) -> Float[Tensor, ""]:
    """The variance over the squared mean, which needs no square root: its gradient at equal values is 0, not NaN.

    Values that are all 0, as where every token is padding, give 0; so do those too small to divide by.
    """
    mean = v.mean()
    limits = torch.finfo(v.dtype)
    mean = torch.where(mean.abs() < limits.tiny / limits.eps, 1, mean)
    return (v / mean - v.mean() / mean).square().mean()


def switch_balance_loss(
    probs: Float[Tensor, "tokens experts"], experts: Int[Tensor, "tokens ..."] | None = None
) -> Float[Tensor, ""]:
    """Switch, Eq. 4 to 6, without α: N Σ f_i P_i, with f_i the share of the tokens that chose expert i and P_i the mean
    probability of i. It is 1 where both are uniform.

    probs: the router's softmax
    experts: which expert each token chose, or which k (then f is the share of the k choices); None for the most
        probable one, as in Eq. 5

    Raises ValueError for other shapes or types, and for an expert that does not exist.
    """
    probs = _floating("probs", probs, ("tokens", "experts"))
    tokens, n_experts = probs.shape
    if experts is None:
        experts = probs.argmax(-1)
    elif not isinstance(experts, Tensor) or experts.is_floating_point() or experts.dtype == torch.bool:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"experts must be a tensor of whole numbers, got {_kind(experts)}")
    elif experts.ndim not in (1, 2) or len(experts) != tokens:
        raise ValueError(f"experts must be of shape ({tokens},) or ({tokens}, k), got {tuple(experts.shape)}")
    elif experts.numel() and not 0 <= int(experts.min()) <= int(experts.max()) < n_experts:
        raise ValueError(f"experts must be from 0 to {n_experts - 1}, got {int(experts.min())} to {int(experts.max())}")
    return balance(probs, torch.bincount(experts.flatten(), minlength=n_experts))


def balance(probs: Float[Tensor, "tokens experts"], counts: Int[Tensor, " experts"]) -> Float[Tensor, ""]:
    """`switch_balance_loss` from how many choices each expert got; 0 without a token."""
    f = counts.to(probs.dtype) / counts.sum().clamp(min=1)
    P = probs.sum(0) / max(len(probs), 1)
    return probs.shape[1] * (f * P).sum()


def router_z_loss(logits: Float[Tensor, "tokens experts"]) -> Float[Tensor, ""]:
    """ST-MoE (Zoph et al. 2022, arXiv 2202.08906), Eq. 5: the mean of (log Σ exp x_i)²; 0 without a token.

    Raises ValueError for another shape, or for what is not floating point.
    """
    logits = _floating("logits", logits, ("tokens", "experts"))
    return logits.logsumexp(-1).square().sum() / max(len(logits), 1)


def _floating(name: str, x: Any, shape: tuple[str, ...]) -> Tensor:
    """In float32 at least. Raises ValueError for another number of dimensions, for no experts, or for whole numbers."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise ValueError(f"{name} must be a floating-point tensor, got {_kind(x)}")
    if x.ndim != len(shape) or not x.shape[-1]:
        raise ValueError(f"{name} must be of shape ({', '.join(shape)}), got {tuple(x.shape)}")
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _kind(x: Any) -> str:
    return f"a tensor of {x.dtype}" if isinstance(x, Tensor) else f"{type(x).__name__} {x!r}"
