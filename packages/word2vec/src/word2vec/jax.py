"""Softmax in JAX: the twin of `word2vec.softmax`."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def softmax(x: Float[Array, "rows columns"]) -> Float[Array, "rows columns"]:
    """The softmax of each row (Eq. 1). ValueError unless `x` is a matrix of floating-point numbers."""
    if x.ndim != 2 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x: {tuple(x.shape)} of {x.dtype}; accepted: a floating-point matrix (rows, columns)")
    p = jnp.exp(x - x.max(axis=1, keepdims=True))  # so that no exponential overflows
    return p / p.sum(axis=1, keepdims=True)  # Eq. 1
