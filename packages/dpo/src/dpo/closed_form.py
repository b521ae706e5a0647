"""Where the answers can be enumerated: the optimum that RLHF looks for, and what it is worth (Section 4, Appendix A.1).

The last axis is the answers; those before are prompts. Computed in log space, in float32 at least; give float64 where
digits matter. All raise ValueError for a β that is not above 0, for shapes that differ, for rewards that are not finite
and for probabilities that are negative or do not sum to 1.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dpo.checks import finite, kind, number, same_shape, whole


def exact_rlhf_policy(
    ref_probs: Float[Tensor, "*prompts answers"], rewards: Float[Tensor, "*prompts answers"], beta: float
) -> Float[Tensor, "*prompts answers"]:
    """Eq. 4: π*(y | x) = π_ref(y | x) exp(r(x, y) / β) / Z(x), the policy with the largest `rlhf_objective`.

    What the reference never says the optimum never says either.
    """
    return _unnormalised(ref_probs, rewards, beta).softmax(-1)


def log_partition(
    ref_probs: Float[Tensor, "*prompts answers"], rewards: Float[Tensor, "*prompts answers"], beta: float
) -> Float[Tensor, "*prompts"]:
    """log Z(x) = log Σ_y π_ref(y | x) exp(r(x, y) / β); β times it is the objective at its optimum."""
    return _unnormalised(ref_probs, rewards, beta).logsumexp(-1)


def rlhf_objective(
    policy: Float[Tensor, "*prompts answers"], ref_probs: Float[Tensor, "*prompts answers"],
    rewards: Float[Tensor, "*prompts answers"], beta: float,
) -> Float[Tensor, "*prompts"]:  # fmt: skip
    """Eq. 3: J(π) = E_π[r(x, y)] − β KL(π(· | x) ‖ π_ref(· | x)), in the rewards' unit. It is −∞ for a policy that says
    what the reference never does."""
    _check(ref_probs, rewards, beta)
    policy = _probabilities("policy", policy)
    same_shape("policy", policy, tuple(ref_probs.shape), "ref_probs")
    kl = (torch.xlogy(policy, policy) - torch.xlogy(policy, ref_probs)).sum(-1)
    return (policy * rewards).sum(-1) - beta * kl


def best_of_n_kl(n: int) -> float:
    """log n − (n − 1) / n in nats: KL(best of n ‖ the policy sampled from), where no two answers have the same reward
    (Stiennon et al. 2020, Appendix G.3); with ties it is an upper bound.

    Raises ValueError for an n that is no whole number of at least 1.
    """
    whole("n", n)
    return math.log(n) - (n - 1) / n


def _unnormalised(ref_probs: Tensor, rewards: Tensor, beta: float) -> Tensor:
    """log(π_ref exp(r / β)); −∞ where π_ref is 0, without a NaN in the gradient there."""
    ref_probs, rewards = _check(ref_probs, rewards, beta)
    never = ref_probs == 0
    return (ref_probs.masked_fill(never, 1).log() + rewards / beta).masked_fill(never, -math.inf)


def _check(ref_probs: Any, rewards: Any, beta: Any) -> tuple[Tensor, Tensor]:
    number("beta", beta)
    ref_probs = _probabilities("ref_probs", ref_probs)
    rewards = _wide("rewards", rewards)
    same_shape("rewards", rewards, tuple(ref_probs.shape), "ref_probs")
    finite("rewards", rewards)
    return ref_probs, rewards


def _probabilities(name: str, value: Any) -> Tensor:
    probs = _wide(name, value)
    off = float((probs.detach().sum(-1) - 1).abs().max())
    if not (probs >= 0).all() or not off < 1e-4:
        raise ValueError(f"{name} must be probabilities, not negative and of sum 1 over the last axis, got "
                         f"a smallest of {probs.min().item():g} and a sum that is off by {off:g}")  # fmt: skip
    return probs


def _wide(name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor) or not value.is_floating_point() or not value.ndim or not value.numel():
        what = tuple(value.shape) if isinstance(value, Tensor) and value.is_floating_point() else kind(value)
        raise ValueError(f"{name} must be a floating-point tensor of shape (..., answers), got {what}")
    return value.to(torch.promote_types(value.dtype, torch.float32))
