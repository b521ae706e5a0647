"""The twin in JAX against torch: losses, gradients, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from word2vec_cases import WORDS, model, tree

pytest.importorskip("jax", reason="the extra jax is not installed")
import jax
import jax.numpy as jnp

from papertest.parity import relative_error

from word2vec import jax as twin

PARITY = 1e-5


@pytest.mark.parametrize("hierarchical", [False, True])
def test_losses_and_gradients_are_those_of_torch(hierarchical):
    made = model(hierarchical=hierarchical).float()
    rng = np.random.default_rng(0)
    inputs, outputs, noise = (rng.integers(0, WORDS, shape) for shape in (20, 20, (20, 3)))
    v, u = (jnp.asarray(p.detach().numpy()) for p in (made.v, made.v_prime))
    if hierarchical:
        loss = made.hierarchical_softmax_loss(torch.from_numpy(inputs), torch.from_numpy(outputs))
    else:
        loss = made.negative_sampling_loss(*map(torch.from_numpy, (inputs, outputs, noise)))

    def theirs(v, u):
        if hierarchical:
            return twin.hierarchical_softmax_loss(v, u, tree(), jnp.asarray(inputs), jnp.asarray(outputs))
        return twin.negative_sampling_loss(v, u, *map(jnp.asarray, (inputs, outputs, noise)))

    gradients = torch.autograd.grad(loss.sum(), (made.v, made.v_prime))
    assert relative_error(jax.jit(theirs)(v, u), loss.detach()) < PARITY
    for ours, other in zip(jax.grad(lambda v, u: theirs(v, u).sum(), (0, 1))(v, u), gradients, strict=True):
        assert relative_error(ours, other) < PARITY
    if not hierarchical:
        written = twin.negative_sampling_gradient(v, u, *map(jnp.asarray, (inputs, outputs, noise)))
        for ours, other in zip(written, gradients, strict=True):
            assert relative_error(ours, other) < PARITY


def test_bad_input_is_named():
    v, ids = jnp.ones((4, 2)), jnp.zeros(3, jnp.int32)
    with pytest.raises(ValueError, match="v_prime must have the shape of v"):
        twin.negative_sampling_loss(v, v[:3], ids, ids, ids[:, None])
    with pytest.raises(ValueError, match="noise must have one row per pair, 3"):
        twin.negative_sampling_loss(v, v, ids, ids, ids)
    with pytest.raises(ValueError, match="v_prime and tree must have 3 inner nodes"):
        twin.hierarchical_softmax_loss(v, v, tree(), ids, ids)
