"""The JAX twin: rotary, ALiBi and linear attention as functions, and `RotaryAttention` as a Flax (nnx) module.

The same arguments, results and gradients as in torch. XLA joins the passes over memory itself, and under `jit` the
angles of given positions are constants. On GPUs and TPUs JAX multiplies float32 in less unless told
`jax.default_matmul_precision("highest")`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from rope.arguments import (
    check_array,
    check_dim,
    check_flags,
    check_heads,
    check_integer,
    check_mask,
    check_number,
    check_rotary_dim,
    check_sizes,
    dtype_name,
    is_integer,
)

if TYPE_CHECKING:
    from rope.attention import RotaryAttention as TorchAttention

_DTYPES = tuple(map(jnp.dtype, ("float32", "float64", "bfloat16", "float16")))
_LARGEST = 2**24


def rope_frequencies(dim: int, base: float = 10000.0) -> np.ndarray[Any, Any]:
    """θ_i = base^(−2(i−1)/dim) (Eq. 15), in NumPy's float64. Raises ValueError as the torch function."""
    check_dim("dim", dim)
    check_number("base", base)
    return float(base) ** (-np.arange(0, dim, 2, dtype=np.float64) / dim)


def apply_rope(
    x: Float[Array, "*batch seq head_dim"],
    positions: Int[Array, "*#batch seq"] | int | None = None,
    *,
    base: float = 10000.0,
    interleaved: bool = True,
    frequencies: Any = None,
    rotary_dim: int | None = None,
    attention_factor: float = 1.0,
) -> Float[Array, "*batch seq head_dim"]:
    """R_m x for each position m (Eq. 14, 15 and 34), in x's dtype, with angles in float32 at least.

    frequencies: an array (rotary_dim / 2,) of NumPy or JAX; the others as for `rope.apply_rope`

    Raises ValueError as `rope.apply_rope`. Values of positions and frequencies that are traced are not looked at.
    """
    check_array("x", x, (jax.Array, np.ndarray), _DTYPES, 2)
    check_flags(interleaved=interleaved)
    check_number("attention_factor", attention_factor)
    dim = check_rotary_dim(rotary_dim, x.shape[-1])
    theta = rope_frequencies(dim, base) if frequencies is None else _frequencies(frequencies, dim // 2)
    m = _positions(positions, x)
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    angles = m.astype(dtype)[..., None] * jnp.asarray(theta, dtype)
    if angles.ndim == 3:
        angles = angles.reshape(len(angles), *[1] * (x.ndim - 3), *angles.shape[1:])
    cos, sin = attention_factor * jnp.cos(angles), attention_factor * jnp.sin(angles)
    wide = jnp.asarray(x, dtype)
    turned, rest = wide[..., :dim], wide[..., dim:]
    x1, x2 = (turned[..., ::2], turned[..., 1::2]) if interleaved else jnp.split(turned, 2, -1)
    y1, y2 = x1 * cos - x2 * sin, x2 * cos + x1 * sin
    y = jnp.stack((y1, y2), -1).reshape(turned.shape) if interleaved else jnp.concatenate((y1, y2), -1)
    return jnp.concatenate((y, rest), -1).astype(x.dtype)


def alibi_slopes(n_heads: int) -> np.ndarray[Any, Any]:
    """The authors' slopes for any number of heads, in NumPy's float64. Raises ValueError as the torch function."""
    check_integer("n_heads", n_heads)
    power = 2 ** (int(n_heads).bit_length() - 1)
    one, two = (2.0 ** (-8.0 * np.arange(1, n + 1) / n) for n in (power, 2 * power))
    return np.concatenate([one, two[::2][: n_heads - power]])


def alibi_bias(
    n_heads: int, seq_q: int, seq_k: int | None = None, *, causal: bool = True, dtype: Any = jnp.float32
) -> Float[Array, "heads seq_q seq_k"]:
    """−slope · distance, with −∞ at later keys where causal. Raises ValueError as the torch function."""
    slopes = alibi_slopes(n_heads)
    seq_k = seq_q if seq_k is None else seq_k
    check_integer("seq_q", seq_q)
    check_integer("seq_k", seq_k)
    check_flags(causal=causal)
    if seq_q > seq_k:
        raise ValueError(f"seq_q must be at most seq_k {seq_k}, got {seq_q}")
    distance = np.arange(seq_k - seq_q, seq_k)[:, None] - np.arange(seq_k)
    bias = -slopes[:, None, None] * abs(distance)
    return jnp.asarray(np.where(distance < 0, -np.inf, bias) if causal else bias, dtype)


def linear_rope_attention(
    q: Float[Array, "*batch seq d"],
    k: Float[Array, "*batch seq d"],
    v: Float[Array, "*batch seq d_v"],
    positions: Int[Array, "*#batch seq"] | int | None = None,
    *,
    causal: bool = False,
    rotary: bool = True,
    base: float = 10000.0,
    interleaved: bool = True,
) -> Float[Array, "*batch seq d_v"]:
    """Eq. 19, with φ(x) = elu(x) + 1; causal by a scan over positions. Raises ValueError as the torch function."""
    check_heads(q, k, v, (jax.Array, np.ndarray), _DTYPES)
    check_flags(causal=causal, rotary=rotary)
    if q.shape[-2] != k.shape[-2]:
        raise ValueError(f"k must have q's length {q.shape[-2]}, got {k.shape[-2]}")
    wide = jnp.promote_types(q.dtype, jnp.float32)
    f, g, values = jax.nn.elu(q.astype(wide)) + 1, jax.nn.elu(k.astype(wide)) + 1, v.astype(wide)
    f_m, g_n = (apply_rope(x, positions, base=base, interleaved=interleaved) if rotary else x for x in (f, g))
    if not causal:
        denominator = f @ g.sum(-2)[..., None]
        return (f_m @ (g_n.mT @ values) / denominator).astype(q.dtype)

    def step(S: Array, at: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        f_one, g_one, v_one = at
        sums = S + g_one[..., :, None] * v_one[..., None, :]
        return sums, (f_one[..., None, :] @ sums)[..., 0, :]

    S = jnp.zeros((*q.shape[:-2], q.shape[-1], v.shape[-1]), wide)
    first, second, third = (jnp.moveaxis(x, -2, 0) for x in (f_m, g_n, values))
    _, out = jax.lax.scan(step, S, (first, second, third))
    denominator = (f * g.cumsum(-2)).sum(-1, keepdims=True)
    return (jnp.moveaxis(out, 0, -2) / denominator).astype(q.dtype)


class RotaryAttention(nnx.Module):
    """The twin of `rope.RotaryAttention`, without its cache: whole sequences. Make one by `from_torch`, or anew.

    Raises ValueError for sizes that do not go together.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        n_kv_heads: int | None = None,
        *,
        base: float = 10000.0,
        interleaved: bool = True,
        rotary_dim: int | None = None,
        frequencies: Any = None,
        attention_factor: float = 1.0,
        causal: bool = True,
        bias: bool = False,
        rngs: nnx.Rngs,
    ) -> None:
        n_kv_heads = check_sizes(d_model, n_heads, n_kv_heads)
        check_flags(interleaved=interleaved, causal=causal, bias=bias)
        self.head_dim, self.causal = d_model // n_heads, causal
        dim = check_rotary_dim(rotary_dim, self.head_dim)
        theta = rope_frequencies(dim, base) if frequencies is None else _frequencies(frequencies, dim // 2)
        self.frequencies = tuple(float(x) for x in theta)
        self.interleaved, self.rotary_dim, self.attention_factor = interleaved, dim, attention_factor
        kv = n_kv_heads * self.head_dim
        self.W_q, self.W_o = (nnx.Linear(d_model, d_model, use_bias=bias, rngs=rngs) for _ in range(2))
        self.W_k, self.W_v = (nnx.Linear(d_model, kv, use_bias=bias, rngs=rngs) for _ in range(2))

    def __call__(
        self,
        x: Float[Array, "batch seq d_model"],
        positions: Int[Array, "*#batch seq"] | int | None = None,
        mask: Bool[Array, "batch seq"] | None = None,
    ) -> Float[Array, "batch seq d_model"]:
        """As the torch module. Raises ValueError for an x, positions or mask of another shape or dtype."""
        check_array("x", x, (jax.Array, np.ndarray), _DTYPES, 3)
        if mask is not None:
            check_mask(mask, x.shape[0], x.shape[1], (jax.Array, np.ndarray), jnp.bool)
        q, k, v = (self._heads(W(x)) for W in (self.W_q, self.W_k, self.W_v))
        q, k = (self._rotated(y, positions) for y in (q, k))
        if mask is not None:
            k, v = (jnp.where(mask[:, None, :, None], y, 0) for y in (k, v))
        k, v = (jnp.repeat(y, q.shape[1] // y.shape[1], 1) for y in (k, v))
        seq = x.shape[1]
        visible = jnp.tril(jnp.ones((seq, seq), bool)) if self.causal else jnp.ones((seq, seq), bool)
        visible = visible[None, None] if mask is None else visible & mask[:, None, None]
        wide = jnp.promote_types(q.dtype, jnp.float32)
        scores = jnp.where(visible, (q @ k.mT).astype(wide) / math.sqrt(self.head_dim), -1e30)
        weights = jnp.where(visible, jax.nn.softmax(scores, -1), 0).astype(v.dtype)
        return self.W_o((weights @ v).swapaxes(1, 2).reshape(*x.shape[:2], -1))

    def _rotated(self, y: Array, positions: Any) -> Array:
        return apply_rope(
            y,
            positions,
            interleaved=self.interleaved,
            frequencies=np.array(self.frequencies),
            rotary_dim=self.rotary_dim,
            attention_factor=self.attention_factor,
        )

    def _heads(self, y: Array) -> Array:
        return y.reshape(*y.shape[:2], -1, self.head_dim).swapaxes(1, 2)


def from_torch(layer: TorchAttention) -> RotaryAttention:
    """The twin of a torch module, with copies of its weights.

    Raises ValueError for dynamic scaling, for max_positions, and for float64 without `jax_enable_x64`.
    """
    if layer.dynamic or layer.max_positions is not None:
        raise ValueError("layer must have no dynamic scaling and no max_positions, which this twin does not have")
    twin = RotaryAttention(
        layer.W_q.in_features,
        layer.n_heads,
        layer.n_kv_heads,
        interleaved=layer.interleaved,
        rotary_dim=layer.rotary_dim,
        frequencies=layer.scaled.frequencies.numpy(),
        attention_factor=layer.scaled.attention_factor,
        causal=layer.causal,
        bias="W_q.bias" in layer.state_dict(),
        rngs=nnx.Rngs(0),
    )
    for name in ("W_q", "W_k", "W_v", "W_o"):
        ours, theirs = getattr(twin, name), getattr(layer, name)
        ours.kernel.set_value(_to_jax(theirs.weight.T))
        if ours.bias is not None:
            ours.bias.set_value(_to_jax(theirs.bias))
    return twin


def _positions(positions: Any, x: Any) -> Array:
    """As an array (seq,) or (batch, seq)."""
    seq = x.shape[-2]
    if isinstance(positions, (jax.Array, np.ndarray)):
        shapes = [(seq,)] if x.ndim < 3 else [(seq,), (x.shape[0], seq)]
        if positions.dtype not in (jnp.dtype("int32"), jnp.dtype("int64")) or positions.shape not in shapes:
            was = f"{dtype_name(positions.dtype)} of shape {positions.shape}"
            accepted = " or ".join(map(str, shapes))
            raise ValueError(f"positions must be int32 or int64 of shape {accepted} for x {x.shape}, got {was}")
        if not isinstance(positions, Tracer) and positions.size:
            first, last = int(positions.min()), int(positions.max())
            if first < 0 or last >= _LARGEST:
                raise ValueError(f"positions must be in [0, 2**24), got {first if first < 0 else last}")
        return jnp.asarray(positions)
    start = 0 if positions is None else positions
    if not (is_integer(start) and start >= 0):
        raise ValueError(f"positions must be None, an offset of at least 0 or an array of integers, got {positions!r}")
    if start + seq > _LARGEST:
        raise ValueError(f"positions must be below 2**24, which float32 can tell apart, got {start + seq - 1}")
    return jnp.arange(start, start + seq)


def _frequencies(frequencies: Any, pairs: int) -> Any:
    check_array("frequencies", frequencies, (jax.Array, np.ndarray), _DTYPES, 1)
    if frequencies.shape != (pairs,):
        raise ValueError(f"frequencies must have shape ({pairs},), one for each pair, got {frequencies.shape}")
    if not isinstance(frequencies, Tracer) and not np.isfinite(np.asarray(frequencies)).all():
        raise ValueError("frequencies must be finite, got NaN or an infinity")
    return frequencies


def _to_jax(tensor: Any) -> Array:
    name = str(tensor.dtype).removeprefix("torch.")
    wide = tensor.detach().cpu().double().numpy()  # NumPy has no bfloat16
    if name == "float64" and not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        raise ValueError("weights must be float32 or less, got float64, which JAX holds with jax_enable_x64 alone")
    return jnp.array(wide, name)
