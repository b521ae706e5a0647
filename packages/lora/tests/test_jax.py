"""The Flax twin against the torch layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("flax", reason="the extra jax is not installed")
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from papertest.parity import relative_error

from lora import LoRAEmbedding, LoRALinear, LoRAMergedLinear
from lora import jax as twins

PARITY = 1e-5


def pair(bias: bool = True, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    torch.manual_seed(0)
    layer = LoRALinear(nn.Linear(12, 7, bias=bias).to(dtype), r=3, alpha=5).requires_grad_(False)
    layer.lora_B["default"].normal_()
    layer.activate("default")
    return layer, twins.from_torch(layer)


@pytest.mark.parametrize("bias", [True, False])
def test_outputs_and_gradients_are_those_of_torch(bias):
    layer, twin = pair(bias)
    x, weights = torch.randn(4, 5, 12, requires_grad=True), torch.randn(4, 5, 7)
    h = layer(x)
    h.backward(weights)
    assert relative_error(twin(jnp.asarray(x.detach().numpy())), h) < PARITY

    def loss(twin: Any, x: Any) -> Any:
        return (twin(x) * weights.numpy()).sum()

    gradients, dx = nnx.jit(nnx.grad(loss, argnums=(nnx.DiffState(0, nnx.LoRAParam), 1)))(twin, x.detach().numpy())
    assert len(jax.tree.leaves(gradients)) == 2  # W_0 and b have none
    assert relative_error(gradients.A[...], layer.lora_A["default"].grad) < PARITY
    assert relative_error(gradients.B[...], layer.lora_B["default"].grad) < PARITY
    assert relative_error(dx, x.grad) < PARITY


def test_merged_weights_are_those_of_torch_and_come_back_bit_by_bit():
    layer, twin = pair()
    x = torch.randn(5, 12)
    before, kernel = twin(x.numpy()), np.array(twin.base.kernel[...])
    twin.merge()
    layer.merge()
    assert relative_error(twin.base.kernel[...].T, layer.weight) < PARITY
    assert relative_error(twin(x.numpy()), before) < PARITY
    assert twin.merged
    assert np.abs(twin.base.kernel[...] - kernel).max() > 0.1
    twin.unmerge()
    assert np.array_equal(twin.base.kernel[...], kernel)
    assert np.array_equal(twin(x.numpy()), before)


def test_half_precision_is_merged_with_one_rounding():
    layer, twin = pair(dtype=torch.bfloat16)
    assert twin.base.kernel.dtype == jnp.bfloat16
    assert twin.A.dtype == jnp.float32
    layer.merge()
    twin.merge()
    assert np.array_equal(np.array(twin.base.kernel[...].T, np.float32), layer.weight.float().numpy())


def test_a_merge_that_overflows_changes_nothing():
    _, twin = pair(dtype=torch.float16)
    base, kernel = twin.base, np.array(twin.base.kernel[...])
    twin.B.set_value(jnp.full((7, 3), 1e5))
    with pytest.raises(ValueError, match=r"the layer cannot be merged: it has W_0 \+ s B A .* not finite in float16"):
        twin.merge()
    assert not twin.merged
    assert twin.base is base
    assert np.array_equal(base.kernel[...], kernel)


def test_others_that_hold_the_base_keep_W_0():
    """A tied kernel, and the base in a second place: merged as unmerged."""
    _, twin = pair()
    x, tied = torch.randn(5, 12).numpy(), twin.base
    kernel, before = tied.kernel, (twin(x), tied(x))
    twin.merge()
    assert np.array_equal(tied(x), before[1])
    assert np.array_equal(kernel[...], tied.kernel[...])
    assert relative_error(twin(x), torch.from_numpy(np.array(before[0]))) < PARITY
    twin.unmerge()
    assert twin.base is tied


@pytest.mark.parametrize("merged", [False, True])
def test_a_state_goes_into_a_layer_of_its_mode_and_no_other(merged):
    _, twin = pair()
    x = torch.randn(5, 12).numpy()
    expected = np.array(twin(x))
    if merged:
        nnx.jit(lambda twin: twin.merge())(twin)
    for only in ((), (nnx.Param,)):
        other = twins.LoRALinear(nnx.Linear(12, 7, rngs=nnx.Rngs(1)), 3, 5, rngs=nnx.Rngs(2))
        if merged:
            with pytest.raises(ValueError, match="kernel"):
                nnx.update(other, nnx.state(twin, *only))
            other.merge()
        nnx.update(other, nnx.state(twin))
        assert relative_error(other(x), torch.from_numpy(expected)) < PARITY
        if merged:
            other.unmerge()
        assert np.array_equal(other(x), expected)
    for copy in (nnx.clone(twin), nnx.merge(*nnx.split(twin))):
        if merged:
            copy.unmerge()
        assert np.array_equal(copy(x), expected)


def test_it_starts_from_the_base_with_a_gaussian_A_and_trains_A_and_B_alone():
    base = nnx.Linear(64, 32, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(1), (3, 64))
    layer = twins.LoRALinear(base, 4, rngs=nnx.Rngs(params=2))
    assert np.array_equal(layer(x), base(x))
    assert layer.base is base
    assert layer.A[...].std() == pytest.approx(1 / (3 * 64) ** 0.5, rel=0.15)
    assert layer.s == 4
    assert sorted(path[-1] for path, _ in nnx.to_flat_state(nnx.state(layer, nnx.LoRAParam))) == ["A", "B"]


def test_parts_of_a_fused_layer_cross_as_one_pair():
    torch.manual_seed(0)
    layer = LoRAMergedLinear(nn.Linear(6, 12), (True, False, True), r=2)
    nn.init.normal_(layer.lora_B["default"])
    x = torch.randn(5, 6)
    assert relative_error(twins.from_torch(layer)(x.numpy()), layer(x)) < PARITY


def test_bad_input_is_refused():
    layer, twin = pair()
    rngs = nnx.Rngs(0)
    with pytest.raises(ValueError, match="base must be an nnx.Linear, got LoRALinear"):
        twins.LoRALinear(twin, rngs=rngs)
    with pytest.raises(ValueError, match="r must be a whole number of at least 1, got 0"):
        twins.LoRALinear(twin.base, 0, rngs=rngs)
    with pytest.raises(ValueError, match="alpha must be a positive number, got -1"):
        twins.LoRALinear(twin.base, 2, -1, rngs=rngs)
    for alpha in (True, "16", None, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"alpha must be a positive number, got {alpha!r}"):
            twins.LoRALinear(twin.base, 2, alpha, rngs=rngs)
    for r in (2.0, True, "2", float("nan")):
        with pytest.raises(ValueError, match=f"r must be a whole number of at least 1, got {r!r}"):
            twins.LoRALinear(twin.base, r, rngs=rngs)
    with pytest.raises(ValueError, match="rngs must be nnx.Rngs, got 0"):
        twins.LoRALinear(twin.base, 2, rngs=0)
    for no_layer in (nn.Linear(2, 2), LoRAEmbedding(nn.Embedding(3, 2)), None):
        with pytest.raises(ValueError, match="layer must be a LoRALinear, LoRAConv1D or LoRAMergedLinear, got"):
            twins.from_torch(no_layer)
    with pytest.raises(ValueError, match="not merged"):
        twin.unmerge()
    twin.merge()
    with pytest.raises(ValueError, match="merged already"):
        twin.merge()
    layer.activate(None)
    with pytest.raises(ValueError, match="layer must have an active adapter"):
        twins.from_torch(layer)
    with pytest.raises(ValueError, match="float64, which JAX holds with jax_enable_x64 alone"):
        twins.from_torch(LoRALinear(nn.Linear(2, 2).double()))
