"""The Flax (nnx) twin of `LoRALinear`: the same A and B, the same outputs, gradients and merged weights.

A and B are `nnx.LoRAParam`, all else is `nnx.Param`, so that filters say what trains:

    nnx.grad(loss, argnums=nnx.DiffState(0, nnx.LoRAParam))
    nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.LoRAParam)

XLA joins the passes over memory itself. On GPUs and TPUs JAX multiplies float32 in less unless told
`jax.default_matmul_precision("highest")`.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any, cast

import jax
import jax.numpy as jnp
from flax import nnx
from jax.core import Tracer
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

if TYPE_CHECKING:
    from lora.layers import Dense


class LoRALinear(nnx.Module):
    """Eq. 3, h = W_0 x + s B A x with s = alpha / r, in place of an nnx.Linear, whose kernel is W_0 transposed.

    `model.layer = LoRALinear(model.layer, rngs=rngs)` keeps the base as `base`, not copied. A (r, k) starts Gaussian,
    with the deviation 1/√(3k) of the torch layer, B (d, r) at zero; both in float32 at least. No dropout.

    Raises ValueError for another base, and for r and alpha out of range.
    """

    def __init__(self, base: nnx.Linear, r: int = 8, alpha: float = 16, *, rngs: nnx.Rngs) -> None:
        if not isinstance(base, nnx.Linear):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"base must be an nnx.Linear, got {type(base).__name__}")
        if type(r) is not int or r < 1:
            raise ValueError(f"r must be a whole number of at least 1, got {r!r}")
        if type(alpha) is bool or not isinstance(alpha, int | float) or not 0 < alpha < math.inf:  # pyright: ignore
            raise ValueError(f"alpha must be a positive number, got {alpha!r}")
        if not isinstance(rngs, nnx.Rngs):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"rngs must be nnx.Rngs, got {rngs!r}")
        dtype = jnp.promote_types(base.kernel.dtype, jnp.float32)
        k, d = base.in_features, base.out_features
        self.base, self.s = base, alpha / r
        self.A = nnx.LoRAParam(jax.random.normal(rngs.params(), (r, k), dtype) / math.sqrt(3 * k))
        self.B = nnx.LoRAParam(jnp.zeros((d, r), dtype))
        self.kept: nnx.Linear | None = nnx.data(None)  # the base, while merged

    @property
    def merged(self) -> bool:
        return self.kept is not None

    def __call__(self, x: Float[Array, "*batch k"]) -> Float[Array, "*batch d"]:
        h = self.base(x)
        if self.merged:
            return _without_gradient(h, self.A[...], self.B[...])
        A, B = (factor[...].astype(h.dtype) for factor in (self.A, self.B))
        return h + self.s * (x.astype(h.dtype) @ A.T @ B.T)

    def delta_W(self) -> Float[Array, "d k"]:
        """s B A."""
        return self.s * (self.B[...] @ self.A[...])

    def merge(self) -> None:
        """W = W_0 + s B A, rounded once, in a copy of the base, which is put aside; others that hold the base keep W_0.

        While merged, A and B have no gradient, and asking for one raises ValueError: unmerge to train. Raises
        ValueError, with nothing changed, for a layer that is merged and for a W that is not finite, as beyond float16.
        """
        if self.merged:
            raise ValueError("the layer is merged already")
        W_0 = self.base.kernel[...]
        W = (W_0.astype(self.A.dtype) + self.delta_W().T).astype(W_0.dtype)
        if not isinstance(W, Tracer) and not (jnp.isfinite(W) | ~jnp.isfinite(W_0)).all():
            raise ValueError(f"the layer cannot be merged: it has W_0 + s B A that is not finite in {W.dtype}")
        self.kept, self.base = self.base, copy.copy(self.base)
        self.base.kernel = cast(Any, nnx.Variable(W))  # no nnx.Param: loaded as W_0, it would have B A twice

    def unmerge(self) -> None:
        """The base comes back. Raises ValueError for a layer that is not merged."""
        if self.kept is None:
            raise ValueError("the layer is not merged")
        self.base, self.kept = self.kept, nnx.data(None)


@jax.custom_jvp
def _without_gradient(h: Array, A: Array, B: Array) -> Array:
    """h, of a merged layer."""
    return h


def _jvp(primals: Any, tangents: Any) -> Any:
    if not all(isinstance(tangent, SymbolicZero) for tangent in tangents[1:]):
        raise ValueError("the layer is merged, and A and B cannot be trained: call unmerge()")
    return primals[0], tangents[0]


_without_gradient.defjvp(_jvp, symbolic_zeros=True)


def from_torch(layer: Dense) -> LoRALinear:
    """The twin of a torch layer with its active adapter, with copies of its weights.

    Raises ValueError for another layer, for one without an active adapter, for one that is merged, and for weights that
    JAX does not hold: float64 without `jax_enable_x64`.
    """
    from lora.layers import Dense

    if not isinstance(layer, Dense):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"layer must be a LoRALinear, LoRAConv1D or LoRAMergedLinear, got {type(layer).__name__}")
    if layer.active is None or layer.merged:
        raise ValueError(f"layer must have an active adapter that is not merged, got {layer}")
    pair = layer.whole_pair(layer.active)
    base = nnx.Linear(layer.k, layer.d, use_bias=layer.bias is not None, rngs=nnx.Rngs(0))
    twin = LoRALinear(base, pair.r, pair.alpha, rngs=nnx.Rngs(0))
    A, B = layer.factors(layer.active)
    base.kernel.set_value(_to_jax(layer.own_weight if layer.transposed else layer.own_weight.T))
    if base.bias is not None and layer.bias is not None:
        base.bias.set_value(_to_jax(layer.bias))
    twin.A.set_value(_to_jax(A))
    twin.B.set_value(_to_jax(B))
    return twin


def _to_jax(tensor: Any) -> Array:
    name = str(tensor.dtype).removeprefix("torch.")
    wide = tensor.detach().cpu().double().numpy()  # NumPy has no bfloat16
    if name == "float64" and not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        raise ValueError("weights must be float32 or less, got float64, which JAX holds with jax_enable_x64 alone")
    return jnp.array(wide, name)
