"""The twin in JAX: both losses as functions of the two tables, and the gradient of Eq. 4 written out.

Under jit nothing can be raised: ids out of range are JAX's own affair, which clips them. Shapes are checked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

if TYPE_CHECKING:
    from word2vec.huffman import HuffmanTree


def negative_sampling_loss(
    v: Float[Array, "words d"], v_prime: Float[Array, "words d"], inputs: Int[Array, " pairs"],
    outputs: Int[Array, " pairs"], noise: Int[Array, "pairs k"],
) -> Float[Array, " pairs"]:  # fmt: skip
    """As `word2vec.SkipGram.negative_sampling_loss` (2013b, Eq. 4). Raises ValueError for shapes that do not fit."""
    _fit(v, v_prime, inputs, outputs)
    if noise.ndim != 2 or len(noise) != len(inputs):
        raise ValueError(f"noise must have one row per pair, {len(inputs)}, got shape {noise.shape}")
    h = v[inputs]
    wanted = (v_prime[outputs] * h).sum(-1)
    unwanted = jnp.einsum("pkd,pd->pk", v_prime[noise], h)
    return -jax.nn.log_sigmoid(wanted) - jax.nn.log_sigmoid(-unwanted).sum(-1)  # Eq. 4


def negative_sampling_gradient(
    v: Float[Array, "words d"], v_prime: Float[Array, "words d"], inputs: Int[Array, " pairs"],
    outputs: Int[Array, " pairs"], noise: Int[Array, "pairs k"],
) -> tuple[Float[Array, "words d"], Float[Array, "words d"]]:  # fmt: skip
    """Of the sum of Eq. 4 by v and by v′: σ(v′·h) less 1 for the word that is there, less 0 for noise, times the other
    vector. Raises ValueError for shapes that do not fit."""
    _fit(v, v_prime, inputs, outputs)
    h = v[inputs]
    words = jnp.concatenate((outputs[:, None], noise), axis=1)
    u = v_prime[words]
    there = jnp.zeros(words.shape, v.dtype).at[:, 0].set(1)
    g = jax.nn.sigmoid(jnp.einsum("pkd,pd->pk", u, h)) - there
    to_v = jnp.zeros_like(v).at[inputs].add(jnp.einsum("pk,pkd->pd", g, u))
    to_v_prime = jnp.zeros_like(v_prime).at[words].add(g[..., None] * h[:, None])
    return to_v, to_v_prime


def hierarchical_softmax_loss(
    v: Float[Array, "words d"], v_prime: Float[Array, "nodes d"], tree: HuffmanTree, inputs: Int[Array, " pairs"],
    outputs: Int[Array, " pairs"],
) -> Float[Array, " pairs"]:  # fmt: skip
    """As `word2vec.SkipGram.hierarchical_softmax_loss` (2013b, Eq. 3). Raises ValueError for shapes that do not fit."""
    if v.ndim != 2 or v_prime.shape != (len(v) - 1, v.shape[1]) or len(tree.lengths) != len(v):
        raise ValueError(
            f"v_prime and tree must have {len(v) - 1} inner nodes, got {v_prime.shape} and {len(tree.lengths)} words"
        )
    if inputs.ndim != 1 or inputs.shape != outputs.shape:
        raise ValueError(f"outputs must be one per input, got shapes {inputs.shape} and {outputs.shape}")
    signs = jnp.asarray((1 - 2 * tree.codes) * tree.mask)[outputs].astype(v.dtype)
    scores = jnp.einsum("psd,pd->ps", v_prime[jnp.asarray(tree.nodes)[outputs]], v[inputs])
    return -(jax.nn.log_sigmoid(signs * scores) * jnp.abs(signs)).sum(-1)  # Eq. 3


def _fit(v: Array, v_prime: Array, inputs: Array, outputs: Array) -> None:
    if v.ndim != 2 or v.shape != v_prime.shape:
        raise ValueError(f"v_prime must have the shape of v, {v.shape}, got {v_prime.shape}")
    if inputs.ndim != 1 or inputs.shape != outputs.shape:
        raise ValueError(f"outputs must be one per input, got shapes {inputs.shape} and {outputs.shape}")
