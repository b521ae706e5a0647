"""The Flax (nnx) twin: Switch's dispatch and combine tensors (Section 2.2, Appendix F), all shapes known beforehand.

    dispatch (tokens, experts, capacity): 1 where a token has this place of this expert
    combine  the same shape: its gate value there
    y = combine · E(dispatchᵀ x)

Without a capacity factor the capacity is the number of tokens, so that nothing is dropped and much is multiplied by
zero: this form is for accelerators that want it, not for a CPU.

Nothing can be raised under jit: a token whose logits are not finite gets NaN, goes to no expert, and is counted
nowhere, like padding. On GPUs and TPUs JAX multiplies float32 in less unless told
`jax.default_matmul_precision("highest")`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from moe.capacity import expert_capacity

if TYPE_CHECKING:
    from moe.layer import MoE as TorchMoE


class MoEInfo(NamedTuple):
    """As `moe.MoEInfo`."""

    importance_loss: Float[Array, ""]
    load_loss: Float[Array, ""]
    balance_loss: Float[Array, ""]
    z_loss: Float[Array, ""]
    importance: Float[Array, " experts"]
    load: Float[Array, " experts"]
    counts: Int[Array, " experts"]
    dropped: Int[Array, ""]


def dispatch_and_combine(
    experts: Int[Array, "tokens k"], weights: Float[Array, "tokens k"], real: Bool[Array, " tokens"],
    n_experts: int, capacity: int, limit: Int[Array, ""] | int,
) -> tuple[Float[Array, "tokens experts capacity"], Float[Array, "tokens experts capacity"]]:  # fmt: skip
    """The two tensors. First choices get their places first, and among these the tokens in their order.

    real: False for the tokens that get none
    capacity: places that the tensors have, of which each expert uses the first `limit`
    """
    tokens, k = experts.shape
    chosen = jax.nn.one_hot(experts.T.reshape(-1), n_experts, dtype=jnp.int32) * jnp.tile(real, k)[:, None]
    place = jnp.cumsum(chosen, 0) - 1
    place = jnp.where((chosen > 0) & (place < limit), place, -1)  # one_hot of −1 is zeros
    slots = jax.nn.one_hot(place, capacity, dtype=weights.dtype).reshape(k, tokens, n_experts, capacity)
    return slots.sum(0), jnp.einsum("ktec,tk->tec", slots, weights)


class MoE(nnx.Module):
    """The twin of a torch layer, with copies of its weights, as `from_torch` makes it."""

    def __init__(self, layer: TorchMoE) -> None:
        from moe.experts import Experts
        from moe.gates import NoisyTopKGate, SwitchGate, TopKGate

        if type(layer.experts) is not Experts:
            raise ValueError("layer must have all its experts in this process, got a sharded one")
        gate = layer.gate
        self.n_experts, self.k, self.activation = layer.n_experts, layer.k, layer.activation
        self.capacity_factor = layer.capacity_factor
        self.gate_weights = nnx.Dict({name: nnx.Param(_to_jax(p)) for name, p in gate.named_parameters()})
        self.bias: Any = nnx.data(nnx.Variable(_to_jax(gate.bias)) if isinstance(gate, TopKGate) else None)
        self.noisy = isinstance(gate, NoisyTopKGate)
        self.jitter = gate.jitter if isinstance(gate, SwitchGate) else 0.0
        self.sigmoid = isinstance(gate, TopKGate) and gate.scores == "sigmoid"
        self.renormalise = gate.renormalise if isinstance(gate, TopKGate) else self.noisy
        self.scale = gate.scale if isinstance(gate, TopKGate) else 1.0
        self.groups = (gate.n_groups, gate.top_groups) if isinstance(gate, TopKGate) else (1, 1)
        self.W_1, self.W_2 = (nnx.Param(_to_jax(W)) for W in (layer.experts.W_1, layer.experts.W_2))
        shared = layer.shared
        self.shared: Any = nnx.data(
            None if shared is None else nnx.Dict({n: nnx.Param(_to_jax(p)) for n, p in shared.named_parameters()})
        )

    def __call__(
        self, x: Float[Array, "*batch d_model"], padding_mask: Bool[Array, "*batch"] | None = None,
        key: Array | None = None,
    ) -> tuple[Float[Array, "*batch d_model"], MoEInfo]:  # fmt: skip
        """As the torch layer: in training where there is a `key` for the gate's noise, and in eval without one.

        Raises ValueError for another width, an empty batch, or a mask of another shape or type.
        """
        d_model = self.W_1.shape[-1]
        if x.ndim < 1 or x.shape[-1] != d_model or not x.size:
            raise ValueError(f"x must have at least one token, of the width d_model, {d_model}, got shape {x.shape}")
        real = jnp.ones(x.shape[:-1], bool) if padding_mask is None else padding_mask
        if real.dtype != bool or real.shape != x.shape[:-1]:
            raise ValueError(f"padding_mask must be bool of shape {x.shape[:-1]}, got {real.dtype} of {real.shape}")
        rows, real = x.reshape(-1, d_model), real.reshape(-1)
        wide = rows.astype(jnp.promote_types(rows.dtype, jnp.float32))
        asked, real = real, real & jnp.isfinite(wide).all(-1) & jnp.isfinite(self._logits(wide)).all(-1)
        rows, wide = (jnp.where(real[:, None], y, 0) for y in (rows, wide))
        experts, weights, probs, logits, load = self._route(wide, key)
        limits = [self.capacity(n) for n in range(len(rows) + 1)]  # how many tokens are real is not known under jit
        capacity, limit = limits[-1], jnp.asarray(limits)[real.sum()]
        dispatch, combine = dispatch_and_combine(experts, weights, real, self.n_experts, capacity, limit)
        inputs = jnp.einsum("tec,td->ecd", dispatch.astype(rows.dtype), rows)
        outputs = self._feed_forward(inputs, self.W_1[...], self.W_2[...])
        y = jnp.einsum("tec,ecd->td", combine, outputs).astype(rows.dtype)
        if self.shared is not None:
            y = y + self._feed_forward(rows, self.shared["W_1"][0], self.shared["W_2"][0])
        y = jnp.where(real[:, None], y, jnp.where(asked[:, None], jnp.nan, 0).astype(y.dtype))

        one_hot = jax.nn.one_hot(experts, self.n_experts, dtype=jnp.int32) * real[:, None, None]
        counts = one_hot.sum((0, 1))
        importance = jnp.einsum("tke,tk->e", one_hot, weights)
        load = counts.astype(importance.dtype) if load is None else jnp.where(real[:, None], load, 0).sum(0)
        tokens = jnp.maximum(real.sum(), 1)
        f, P = counts / jnp.maximum(counts.sum(), 1), jnp.where(real[:, None], probs, 0).sum(0) / tokens
        z = jnp.where(real, jax.nn.logsumexp(logits, -1) ** 2, 0).sum() / tokens
        dropped = counts.sum() - dispatch.sum(dtype=jnp.float32).round().astype(counts.dtype)
        return y.reshape(x.shape), MoEInfo(
            _squared_cv(importance), _squared_cv(load), self.n_experts * (f * P).sum(), z, importance, load, counts,
            dropped,
        )  # fmt: skip

    def capacity(self, tokens: int) -> int:
        """Of each expert for so many tokens."""
        if self.capacity_factor is None:
            return tokens
        return expert_capacity(self.capacity_factor, tokens, self.k, self.n_experts)

    def _logits(self, x: Float[Array, "tokens d_model"], name: str = "") -> Float[Array, "tokens experts"]:
        W = self.gate_weights[name or ("W_g" if self.noisy else "W_r")][...]
        return x @ W.astype(jnp.promote_types(W.dtype, x.dtype)).T

    def _route(self, x: Float[Array, "tokens d_model"], key: Array | None) -> tuple[Any, ...]:
        """Experts, weights, probabilities, logits, and each token's part of the smooth load or None."""
        if key is not None and self.jitter:
            x = x * jax.random.uniform(key, x.shape, x.dtype, 1 - self.jitter, 1 + self.jitter)
        logits = self._logits(x)
        if self.noisy:
            deviation = jax.nn.softplus(self._logits(x, "W_noise"))
            H = logits if key is None else logits + jax.random.normal(key, logits.shape, logits.dtype) * deviation
            load = None if key is None else _load_probability(logits, H, deviation, self.k)
            top, experts = jax.lax.top_k(H, self.k)
            return experts, jax.nn.softmax(top), jax.nn.softmax(logits), logits, load
        scores = jax.nn.sigmoid(logits) if self.sigmoid else jax.nn.softmax(logits)
        bias = 0 if self.bias is None else self.bias[...]
        _, experts = jax.lax.top_k(self._allowed(jax.lax.stop_gradient(scores) + bias), self.k)
        weights = jnp.take_along_axis(scores, experts, -1)
        if self.renormalise:
            weights = weights / weights.sum(-1, keepdims=True)
        probs = scores / scores.sum(-1, keepdims=True) if self.sigmoid else scores
        return experts, weights * self.scale, probs, logits, None

    def _allowed(self, choice: Float[Array, "tokens experts"]) -> Float[Array, "tokens experts"]:
        n_groups, top_groups = self.groups
        groups = choice.reshape(len(choice), n_groups, -1)
        best = jax.lax.top_k(groups, min(2, groups.shape[-1]) if self.sigmoid else 1)[0].sum(-1)
        inside = jax.nn.one_hot(jax.lax.top_k(best, top_groups)[1], n_groups, dtype=bool).any(1)
        return jnp.where(inside[..., None], groups, -jnp.inf).reshape(choice.shape)

    def _feed_forward(self, x: Array, W_1: Array, W_2: Array) -> Array:
        hidden = x @ W_1.swapaxes(-1, -2)
        if self.activation == "relu":
            return jax.nn.relu(hidden) @ W_2.swapaxes(-1, -2)
        gate, other = jnp.split(hidden, 2, -1)
        return (jax.nn.silu(gate) * other) @ W_2.swapaxes(-1, -2)


def _load_probability(clean: Array, H: Array, deviation: Array, k: int) -> Array:
    """Shazeer et al., Eq. 8 and 9."""
    if k == H.shape[-1]:
        return jnp.ones_like(H)
    top, _ = jax.lax.top_k(H, k + 1)
    kth_excluding = jnp.where(top[:, k - 1 : k] <= H, top[:, k:], top[:, k - 1 : k])
    return jax.scipy.stats.norm.cdf((clean - kth_excluding) / deviation)


def _squared_cv(v: Float[Array, " experts"]) -> Float[Array, ""]:
    limits = jnp.finfo(v.dtype)
    mean = jnp.where(jnp.abs(v.mean()) < limits.tiny / limits.eps, 1, v.mean())
    return ((v / mean - v.mean() / mean) ** 2).mean()


def from_torch(layer: TorchMoE) -> MoE:
    """The twin of a torch layer. Raises ValueError for a sharded one, for a gate of another kind, and for weights that
    JAX does not hold: float64 without `jax_enable_x64`."""
    return MoE(layer)


def _to_jax(tensor: Any) -> Array:
    name = str(tensor.dtype).removeprefix("torch.")
    if name == "float64" and not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        raise ValueError("weights must be float32 or less, got float64, which JAX holds with jax_enable_x64 alone")
    return jnp.array(tensor.detach().cpu().double().numpy(), name)  # NumPy has no bfloat16
