"""The Flax twin against the torch layer."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from moe_cases import GATES, grouped, layer, tokens

from moe.gates import load_probability
from moe.jax import _load_probability, dispatch_and_combine, from_torch  # pyright: ignore[reportPrivateUsage]

LOSSES = ("importance_loss", "balance_loss", "z_loss", "load_loss")


def close(a, b, rtol=1e-5):
    a, b = np.asarray(a, np.float64), b.detach().double().numpy()
    assert np.linalg.norm(a - b) <= rtol * np.linalg.norm(b) + 1e-7


@pytest.mark.parametrize(("capacity", "masked"), [(None, False), (0.6, True)])
@pytest.mark.parametrize("gate", [*GATES, grouped(), grouped(scores="sigmoid", scale=2.5)], ids=str)
def test_outputs_gradients_and_infos(gate, capacity, masked):
    made = layer(gate, dtype=torch.float32, capacity_factor=capacity, activation="swiglu", shared_experts=1).eval()
    twin = from_torch(made)
    x = tokens(3, 7, dtype=torch.float32)
    mask = torch.rand(3, 7, generator=torch.Generator().manual_seed(0)) < 0.6 if masked else None
    inputs = x.clone().requires_grad_()
    y, info = made(inputs, mask)
    (y.square().sum() + sum(getattr(info, name) for name in LOSSES)).backward()

    def loss(twin, x):
        y, info = twin(x, None if mask is None else jnp.array(mask.numpy()))
        return (y**2).sum() + sum(getattr(info, name) for name in LOSSES), (y, info)

    (_, (y_2, info_2)), (d, dx) = nnx.jit(nnx.value_and_grad(loss, argnums=(0, 1), has_aux=True))(
        twin, jnp.array(x.numpy())
    )
    close(y_2, y)
    close(dx, inputs.grad)
    for name in (*LOSSES, "importance", "load", "counts", "dropped"):
        close(getattr(info_2, name), getattr(info, name))
    close(d["W_1"][...], made.experts.W_1.grad)
    close(d["W_2"][...], made.experts.W_2.grad)
    for name, p in made.gate.named_parameters():
        if p.grad is not None:
            close(d["gate_weights"][name][...], p.grad, 1e-4)


def test_dispatch_is_a_permutation_that_capacity_cuts():
    experts = jnp.array([[0, 1], [0, 2], [0, 1]])
    dispatch, combine = dispatch_and_combine(experts, jnp.ones((3, 2)) / 2, jnp.array([True, True, True]), 3, 2, 2)
    assert dispatch.sum((0, 2)).tolist() == [2, 2, 1]
    assert dispatch.max() == 1
    assert dispatch.sum(0).max() == 1  # a place has one token
    assert dispatch[2, 0].sum() == 0  # the third that wants expert 0
    assert (combine == dispatch / 2).all()


def test_nan_row_acts_on_no_other():
    made = layer("topk_softmax", dtype=torch.float32, capacity_factor=1.0).eval()
    twin, x = from_torch(made), tokens(9, dtype=torch.float32)
    bad = x.clone()
    bad[4, 0] = float("nan")
    y, info = nnx.jit(lambda twin, x: twin(x))(twin, jnp.array(bad.numpy()))
    others = [t for t in range(9) if t != 4]
    alone, info_alone = made(x[others])
    close(y[jnp.array(others)], alone)
    assert jnp.isnan(y[4]).all()
    close(info.importance, info_alone.importance)
    assert int(info.dropped) == int(info_alone.dropped)


@pytest.mark.parametrize("gate", ["noisy_topk", "switch"])
def test_noise_with_a_key_only(gate):
    twin, x = from_torch(layer(gate, dtype=torch.float32)), jnp.array(tokens(20, dtype=torch.float32).numpy())
    call = nnx.jit(lambda twin, x, key: twin(x, key=key)[0])
    assert jnp.array_equal(call(twin, x, None), call(twin, x, None))
    a, b = (call(twin, x, jax.random.key(i)) for i in (0, 1))
    assert not jnp.array_equal(a, b)


def test_load_estimator():
    clean, H, scale = (tokens(5, seed=i) for i in range(3))
    ours = _load_probability(*(jnp.array(y.numpy()) for y in (clean, H, scale.exp())), 3)
    close(ours, load_probability(clean, H, scale.exp(), 3))


def test_bad_input():
    twin = from_torch(layer(dtype=torch.float32))
    for shape in ((3, 9), (0, 8), ()):
        with pytest.raises(ValueError, match="x must have at least one token, of the width d_model, 8"):
            twin(jnp.ones(shape))
    with pytest.raises(ValueError, match="padding_mask must be bool of shape"):
        twin(jnp.ones((3, 8)), jnp.ones(3))
    with pytest.raises(ValueError, match="padding_mask must be bool of shape"):
        twin(jnp.ones((3, 8)), jnp.ones(4, bool))
    with pytest.raises(ValueError, match="weights must be float32 or less, got float64"):
        from_torch(layer())
