"""The JAX twins of the functions on arrays: same names, same arguments, same shapes.

Nothing can be raised under jit for what an array holds: such rows are NaN here where torch's functions refuse them.
Shapes and types are still checked, and numbers like β.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Bool, Float, Int

from dpo.checks import between, number

PairLosses = tuple[Float[Array, " batch"], Float[Array, " batch"], Float[Array, " batch"]]
Tokens = Float[Array, "batch seq"]
Mask = Bool[Array, "batch seq"]


def sequence_logps(
    logits: Float[Array, "batch seq vocab"], labels: Int[Array, "batch seq"], mask: Bool[Array, "batch seq"]
) -> Float[Array, " batch"]:
    """As `dpo.sequence_logps`. NaN for an empty answer, a mask that is True in the first column, and labels outside of
    the vocabulary."""
    tokens = token_logps(logits, labels, mask)
    bad = mask[:, 0] | ~mask.any(-1) | (mask & ((labels < 0) | (labels >= logits.shape[-1]))).any(-1)
    return jnp.where(bad, jnp.nan, tokens.sum(-1))


def token_logps(
    logits: Float[Array, "batch seq vocab"], labels: Int[Array, "batch seq"], mask: Bool[Array, "batch seq"]
) -> Tokens:
    """As `dpo.token_logps`. The whole logits are widened, unless XLA fuses that away."""
    _shapes("logits", logits, ("labels", labels, logits.shape[:2]), mask=mask)
    counted = mask[:, 1:]
    x = jnp.where(counted[..., None], _wide(logits[:, :-1]), 0)  # elsewhere there may be NaN, which a gradient keeps
    answer = jnp.where(counted, labels[:, 1:], 0)
    logps = jnp.take_along_axis(x, answer[..., None], -1)[..., 0] - jax.nn.logsumexp(x, -1)
    return jnp.pad(jnp.where(counted, logps, 0), ((0, 0), (1, 0)))


def dpo_loss(
    policy_chosen_logps: Float[Array, " batch"], policy_rejected_logps: Float[Array, " batch"],
    ref_chosen_logps: Float[Array, " batch"], ref_rejected_logps: Float[Array, " batch"],
    beta: float = 0.1, label_smoothing: float = 0.0,
) -> PairLosses:  # fmt: skip
    """As `dpo.dpo_loss`: Eq. 7."""
    between("label_smoothing", label_smoothing, 0, 0.5, below=True)
    chosen, rejected = _rewards(policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps, beta)
    margin = chosen - rejected
    losses = -jax.nn.log_sigmoid(margin)
    if label_smoothing:
        losses = (1 - label_smoothing) * losses - label_smoothing * jax.nn.log_sigmoid(-margin)
    return losses, stop_gradient(chosen), stop_gradient(rejected)


def implicit_reward(
    policy_logps: Float[Array, " batch"], ref_logps: Float[Array, " batch"], beta: float = 0.1
) -> Float[Array, " batch"]:
    """As `dpo.implicit_reward`."""
    number("beta", beta)
    _shapes("policy_logps", policy_logps, ("ref_logps", ref_logps, policy_logps.shape))
    return beta * (_wide(policy_logps) - stop_gradient(_wide(ref_logps)))


def dpo_gradient_weight(
    policy_chosen_logps: Float[Array, " batch"], policy_rejected_logps: Float[Array, " batch"],
    ref_chosen_logps: Float[Array, " batch"], ref_rejected_logps: Float[Array, " batch"], beta: float = 0.1,
) -> Float[Array, " batch"]:  # fmt: skip
    """As `dpo.dpo_gradient_weight`."""
    chosen, rejected = _rewards(policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps, beta)
    return beta * jax.nn.sigmoid(rejected - chosen)


def unweighted_loss(
    policy_chosen_logps: Float[Array, " batch"], policy_rejected_logps: Float[Array, " batch"],
    ref_chosen_logps: Float[Array, " batch"], ref_rejected_logps: Float[Array, " batch"], beta: float = 0.1,
) -> PairLosses:  # fmt: skip
    """As `dpo.unweighted_loss`."""
    chosen, rejected = _rewards(policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps, beta)
    return rejected - chosen, stop_gradient(chosen), stop_gradient(rejected)


def unlikelihood_loss(
    chosen_logps: Float[Array, " batch"], rejected_logps: Float[Array, " batch"], alpha: float = 1.0
) -> Float[Array, " batch"]:
    """As `dpo.unlikelihood_loss`."""
    between("alpha", alpha, 0, 1)
    _shapes("chosen_logps", chosen_logps, ("rejected_logps", rejected_logps, chosen_logps.shape))
    return alpha * _wide(rejected_logps) - _wide(chosen_logps)


def ipo_loss(
    policy_chosen_logps: Float[Array, " batch"], policy_rejected_logps: Float[Array, " batch"],
    ref_chosen_logps: Float[Array, " batch"], ref_rejected_logps: Float[Array, " batch"], tau: float = 0.1,
) -> PairLosses:  # fmt: skip
    """As `dpo.ipo_loss`."""
    number("tau", tau)
    chosen, rejected = _rewards(policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps, 1.0)
    return (chosen - rejected - 1 / (2 * tau)) ** 2, stop_gradient(tau * chosen), stop_gradient(tau * rejected)


def kto_loss(
    policy_logps: Float[Array, " batch"], ref_logps: Float[Array, " batch"], desirable: Bool[Array, " batch"],
    kl: Float[Array, ""] | float, beta: float = 0.1, desirable_weight: float = 1.0, undesirable_weight: float = 1.0,
) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:  # fmt: skip
    """As `dpo.kto_loss`."""
    number("desirable_weight", desirable_weight)
    number("undesirable_weight", undesirable_weight)
    rewards = implicit_reward(policy_logps, ref_logps, beta)
    _shapes("policy_logps", policy_logps, ("desirable", desirable, policy_logps.shape))
    gap = rewards - beta * stop_gradient(jnp.maximum(kl, 0))
    losses = jnp.where(desirable, desirable_weight * jax.nn.sigmoid(-gap), undesirable_weight * jax.nn.sigmoid(gap))
    return losses, stop_gradient(rewards)


def reward_loss(chosen: Float[Array, " batch"], rejected: Float[Array, " batch"]) -> Float[Array, " batch"]:
    """As `dpo.reward_loss`."""
    _shapes("chosen", chosen, ("rejected", rejected, chosen.shape))
    return -jax.nn.log_sigmoid(_wide(chosen) - _wide(rejected))


def ranking_loss(rewards: Float[Array, "batch K"]) -> Float[Array, " batch"]:
    """As `dpo.ranking_loss`."""
    if rewards.ndim != 2 or rewards.shape[1] < 2:
        raise ValueError(f"rewards must be of shape (batch, K) with a K of at least 2, got {rewards.shape}")
    better, worse = jnp.triu_indices(rewards.shape[1], 1)
    return -jax.nn.log_sigmoid(_wide(rewards[:, better]) - _wide(rewards[:, worse])).mean(-1)


def kl_rewards(scores: Float[Array, " batch"], logps: Tokens, ref_logps: Tokens, mask: Mask, beta: float) -> Tokens:
    """As `dpo.kl_rewards`."""
    between("beta", beta, 0, float("inf"))
    _shapes("logps", logps, ("ref_logps", ref_logps, logps.shape), ("scores", scores, logps.shape[:1]), mask=mask)
    penalty = jnp.where(mask, -beta * (_wide(logps) - _wide(ref_logps)), 0)
    last = jnp.where(mask, jnp.arange(mask.shape[1]), -1).max(-1)
    return stop_gradient(penalty.at[jnp.arange(len(last)), last].add(_wide(scores)))


def gae(rewards: Tokens, values: Tokens, mask: Mask, gamma: float = 1.0, lam: float = 0.95) -> tuple[Tokens, Tokens]:
    """As `dpo.gae`; a reward outside of the mask is ignored."""
    between("gamma", gamma, 0, 1)
    between("lam", lam, 0, 1)
    _shapes("rewards", rewards, ("values", values, rewards.shape), mask=mask)
    rewards, values = (stop_gradient(jnp.where(mask, _wide(x), 0)) for x in (rewards, values))

    def back(carry: tuple[Array, Array], now: tuple[Array, Array, Array]) -> tuple[tuple[Array, Array], Array]:
        (after, value_after), (r, v, counted) = carry, now
        advantage = r + gamma * value_after - v + gamma * lam * after
        carry = jnp.where(counted, advantage, after), jnp.where(counted, v, value_after)
        return carry, jnp.where(counted, advantage, 0)

    zeros = jnp.zeros_like(rewards[:, 0])
    _, advantages = jax.lax.scan(back, (zeros, zeros), (rewards.T, values.T, mask.T), reverse=True)
    return advantages.T, advantages.T + values


def clipped_surrogate(
    logps: Tokens, old_logps: Tokens, advantages: Tokens, mask: Mask, clip: float = 0.2
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """As `dpo.clipped_surrogate`."""
    number("clip", clip)
    _shapes("logps", logps, ("old_logps", old_logps, logps.shape), ("advantages", advantages, logps.shape), mask=mask)
    old_logps, advantages = stop_gradient((old_logps, advantages))
    logps, old, A = (jnp.where(mask, _wide(x), 0) for x in (logps, old_logps, advantages))
    ratio = jnp.exp(logps - old)
    objective = jnp.minimum(ratio * A, ratio.clip(1 - clip, 1 + clip) * A)
    return -_mean(objective, mask), _mean((jnp.abs(stop_gradient(ratio) - 1) > clip).astype(A.dtype), mask)


def value_loss(values: Tokens, old_values: Tokens, returns: Tokens, mask: Mask, clip: float = 0.2) -> Float[Array, ""]:
    """As `dpo.value_loss`."""
    number("clip", clip)
    _shapes("values", values, ("old_values", old_values, values.shape), ("returns", returns, values.shape), mask=mask)
    old_values, returns = stop_gradient((old_values, returns))
    values, old, R = (jnp.where(mask, _wide(x), 0) for x in (values, old_values, returns))
    clipped = old + (values - old).clip(-clip, clip)
    return _mean(jnp.maximum((values - R) ** 2, (clipped - R) ** 2), mask) / 2


def exact_rlhf_policy(
    ref_probs: Float[Array, "*prompts answers"], rewards: Float[Array, "*prompts answers"], beta: float
) -> Float[Array, "*prompts answers"]:
    """As `dpo.exact_rlhf_policy`: Eq. 4."""
    return jax.nn.softmax(_unnormalised(ref_probs, rewards, beta), -1)


def log_partition(
    ref_probs: Float[Array, "*prompts answers"], rewards: Float[Array, "*prompts answers"], beta: float
) -> Float[Array, "*prompts"]:
    """As `dpo.log_partition`."""
    return jax.nn.logsumexp(_unnormalised(ref_probs, rewards, beta), -1)


def rlhf_objective(
    policy: Float[Array, "*prompts answers"], ref_probs: Float[Array, "*prompts answers"],
    rewards: Float[Array, "*prompts answers"], beta: float,
) -> Float[Array, "*prompts"]:  # fmt: skip
    """As `dpo.rlhf_objective`: Eq. 3."""
    number("beta", beta)
    _shapes("policy", policy, ("ref_probs", ref_probs, policy.shape), ("rewards", rewards, policy.shape))
    policy, ref_probs = _wide(policy), _wide(ref_probs)
    kl = jax.scipy.special.xlogy(policy, policy) - jax.scipy.special.xlogy(policy, ref_probs)
    return (policy * _wide(rewards)).sum(-1) - beta * kl.sum(-1)


def _unnormalised(ref_probs: Array, rewards: Array, beta: float) -> Array:
    number("beta", beta)
    _shapes("ref_probs", ref_probs, ("rewards", rewards, ref_probs.shape))
    never = ref_probs == 0
    return jnp.where(never, -jnp.inf, jnp.log(jnp.where(never, 1, _wide(ref_probs))) + _wide(rewards) / beta)


def _rewards(
    policy_chosen: Array, policy_rejected: Array, ref_chosen: Array, ref_rejected: Array, beta: float
) -> tuple[Array, Array]:
    shape = policy_chosen.shape
    _shapes("policy_chosen_logps", policy_chosen, ("policy_rejected_logps", policy_rejected, shape),
            ("ref_chosen_logps", ref_chosen, shape), ("ref_rejected_logps", ref_rejected, shape))  # fmt: skip
    return implicit_reward(policy_chosen, ref_chosen, beta), implicit_reward(policy_rejected, ref_rejected, beta)


def _shapes(first: str, array: Array, *others: tuple[str, Array, tuple[int, ...]], mask: Array | None = None) -> None:
    """Raises ValueError for what is not of the shape that the first one calls for. Nothing is broadcast."""
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(f"{first} must be a floating-point array, got {array.dtype}")
    if mask is not None:
        if mask.dtype != bool:
            raise ValueError(f"mask must be an array of bool, True at what counts, got {mask.dtype}")
        others = (*others, ("mask", mask, array.shape[:2]))
    for name, other, shape in others:
        if other.shape != shape:
            raise ValueError(f"{name} must be of shape {shape}, which goes with {first}, got {other.shape}")


def _wide(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _mean(x: Array, mask: Array) -> Array:
    return jnp.where(mask, x, 0).sum() / mask.sum()
