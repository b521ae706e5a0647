"""The twin in JAX against softmax in torch: outputs and gradients."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("jax", reason="the extra jax is not installed")
import jax
import jax.numpy as jnp

from papertest.parity import relative_error

from word2vec import jax as twin
from word2vec import softmax

PARITY = 1e-5


def test_outputs_and_gradients_are_those_of_torch(seed):
    x, weights = torch.randn(7, 33, requires_grad=True), torch.randn(7, 33)
    p = softmax(x)
    p.backward(weights)
    here, there = jnp.asarray(x.detach().numpy()), jnp.asarray(weights.numpy())
    assert relative_error(twin.softmax(here), p) < PARITY
    assert relative_error(jax.grad(lambda x: (there * twin.softmax(x)).sum())(here), x.grad) < PARITY


@pytest.mark.parametrize("x", [jnp.ones(3), jnp.ones((2, 2), dtype=jnp.int32)])
def test_bad_input_is_named(x):
    with pytest.raises(ValueError, match="x: .* accepted: a floating-point matrix"):
        twin.softmax(x)
