"""The JAX twin gives torch's outputs and gradients, for drawn shapes, dtypes and positions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

import rope
import rope.jax as twin

DTYPES = {"float32": 3e-6, "bfloat16": 2**-7, "float16": 2**-10}


def to_torch(x):
    return torch.from_numpy(np.array(x, np.float32)).to(getattr(torch, str(x.dtype)))


def close(ours, theirs, tolerance):
    ours, theirs = np.asarray(ours, np.float64), theirs.detach().double().numpy()
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * max(1.0, abs(theirs).max()))


def draw(shape, dtype, seed):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.integers(1, 8)),
    axes=st.integers(2, 4),
    dtype=st.sampled_from(list(DTYPES)),
    positions=st.sampled_from(["none", "offset", "seq", "batch"]),
    interleaved=st.booleans(),
    part=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=20, deadline=None)
def test_apply_rope(shape, axes, dtype, positions, interleaved, part, seed):
    *shape, pairs = shape
    shape = (*shape, 2 * pairs)[-axes:]
    x, dy = draw(shape, dtype, seed), draw(shape, dtype, seed + 1)
    at = np.random.default_rng(seed).integers(0, 50, (shape[0], shape[-2]) if positions == "batch" else shape[-2])
    if positions == "batch" and axes == 2:
        positions = "none"
    m = {"none": None, "offset": 17}.get(positions, at)
    m_torch = torch.from_numpy(at) if m is at else m
    options = {"interleaved": interleaved, "rotary_dim": 2 if part else None, "base": 300.0}
    x_torch = to_torch(x).requires_grad_()
    theirs = rope.apply_rope(x_torch, m_torch, **options)
    theirs.backward(to_torch(dy))

    @jax.jit
    def both(x, dy):
        out, pull = jax.vjp(lambda x: twin.apply_rope(x, m, **options), x)
        return out, pull(dy)[0]

    ours, dx = both(x, dy)
    assert str(ours.dtype) == dtype
    close(ours, theirs, 10 * DTYPES[dtype])
    close(dx, x_torch.grad, 10 * DTYPES[dtype])


@given(
    seq=st.sampled_from([1, 7, 80]),
    causal=st.booleans(),
    rotary=st.booleans(),
    dtype=st.sampled_from(list(DTYPES)),
)
@settings(max_examples=6, deadline=None)
def test_linear(seq, causal, rotary, dtype):
    q, k, v = (draw((2, seq, 6), dtype, i) for i in range(3))
    tensors = [to_torch(x).requires_grad_() for x in (q, k, v)]
    theirs = rope.linear_rope_attention(*tensors, causal=causal, rotary=rotary)
    theirs.float().square().sum().backward()

    def loss(*x):
        out = twin.linear_rope_attention(*x, causal=causal, rotary=rotary)
        return jnp.square(out.astype(jnp.float32)).sum(), out

    gradients, ours = jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True))(q, k, v)
    close(ours, theirs, 10 * DTYPES[dtype])
    for a, b in zip(gradients, tensors, strict=True):
        close(a, b.grad, 40 * DTYPES[dtype])


@pytest.mark.parametrize("heads", [1, 3, 8, 12, 20])
def test_alibi(heads):
    np.testing.assert_allclose(twin.alibi_slopes(heads), rope.alibi_slopes(heads).numpy(), rtol=1e-15)
    for causal in (True, False):
        ours, theirs = (f(heads, 3, 9, causal=causal) for f in (twin.alibi_bias, rope.alibi_bias))
        np.testing.assert_allclose(np.asarray(ours), theirs.numpy(), rtol=1e-6)


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize(
    "options",
    [{}, {"n_kv_heads": 2, "interleaved": False, "rotary_dim": 4}, {"bias": True, "causal": False, "scaling": YARN}],
    ids=str,
)
def test_module(options, masked):
    torch.manual_seed(0)
    layer = rope.RotaryAttention(32, 4, **options)
    twin_layer = twin.from_torch(layer)
    x = draw((2, 7, 32), "float32", 0)
    mask = np.ones((2, 7), bool)
    mask[0, :3] = False
    positions = (mask.cumsum(-1) - 1).clip(0)
    if masked:
        x = jnp.where(mask[..., None], x, jnp.nan)
    extra = (positions, mask) if masked else ()
    x_torch = to_torch(x).requires_grad_()
    theirs = layer(x_torch, *map(torch.from_numpy, extra))
    (theirs[torch.from_numpy(mask)] ** 2).sum().backward()

    @nnx.jit
    def out(model, x):
        return model(x, *extra)

    close(out(twin_layer, x)[mask], theirs[torch.from_numpy(mask)], 1e-5)
    gradients = nnx.grad(lambda model: jnp.square(model(x, *extra)[mask]).sum())(twin_layer)
    good = mask if masked else np.ones_like(mask)
    input_gradient = jax.grad(lambda x: jnp.square(twin_layer(x, *extra)[mask]).sum())(x)
    close(input_gradient[good], x_torch.grad[torch.from_numpy(good)], 2e-5)
    if not masked:  # NaN in x, at the padding, makes those of the weights NaN in both
        for name in ("W_q", "W_k", "W_v", "W_o"):
            close(gradients[name].kernel[...].T, getattr(layer, name).weight.grad, 2e-5)


def test_a_twin_without_its_parts_is_refused():
    for options in ({"max_positions": 9}, {"scaling": YARN | {"rope_type": "dynamic"}}):
        with pytest.raises(ValueError, match="no dynamic scaling and no max_positions"):
            twin.from_torch(rope.RotaryAttention(32, 4, **options))
    with pytest.raises(ValueError, match="float32 or less, got float64"):
        twin.from_torch(rope.RotaryAttention(32, 4).double())


X = jnp.ones((2, 5, 8))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda: twin.apply_rope(jnp.ones((3, 5))), "head_dim, the last size of x"),
        (lambda: twin.apply_rope(X, base=-1), "base must be"),
        (lambda: twin.apply_rope(X, rotary_dim=10), "rotary_dim must be at most head_dim 8"),
        (lambda: twin.apply_rope(X, -1), "positions must be None, an offset"),
        (lambda: twin.apply_rope(X, True), "positions must be None, an offset"),
        (lambda: twin.apply_rope(X, jnp.arange(5.0)), "positions must be int32 or int64"),
        (lambda: twin.apply_rope(X, jnp.arange(4)), "positions must be int32 or int64"),
        (lambda: twin.apply_rope(X, jnp.arange(5) - 1), "positions must be in"),
        (lambda: twin.apply_rope(X, frequencies=np.ones(3)), "frequencies must have shape"),
        (lambda: twin.apply_rope(X, frequencies=np.full(4, np.nan)), "frequencies must be finite"),
        (lambda: twin.apply_rope(torch.ones(3, 4)), "x must be an array"),
        (lambda: twin.alibi_bias(2, 5, 4), "seq_q must be at most seq_k"),
        (lambda: twin.RotaryAttention(32, 5, rngs=nnx.Rngs(0)), "n_heads must divide"),
    ],
)
def test_bad_input(bad, message):
    with pytest.raises(ValueError, match=message):
        bad()
