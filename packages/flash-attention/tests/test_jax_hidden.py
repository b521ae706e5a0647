"""The JAX twin: every derivative right or refused, what is hidden without influence, float16 scores that fit."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

pytest.importorskip("jax", reason="the extra jax is not installed")
import jax
import jax.numpy as jnp

import flash_attention as for_torch
from flash_attention import jax as module

flash = partial(module.flash_attention, block_q=4, block_k=4)
both = pytest.mark.parametrize("f", [flash, module.standard_attention], ids=["flash", "standard"])


def inputs(n_q=7, n_k=8, kv_heads=1, dtype="float32"):
    random = np.random.default_rng(0)
    shapes = ((2, n_q), (kv_heads, n_k), (kv_heads, n_k))
    return [jnp.asarray(random.standard_normal((2, h, n, 4)), dtype) for h, n in shapes]


def lse(q, k, v):
    return flash(q, k, v, return_lse=True)[1]


def true_lse(q, k, v):
    return jax.nn.logsumexp(jnp.einsum("bhid,bhjd->bhij", q, jnp.repeat(k, 2, 1)) / 2, -1) + 0 * v.sum()


def of(f):
    return lambda q, k, v: (f(q, k, v) ** 2).sum()


OURS = {
    "grad": None,
    "jacrev": None,
    "second": (RuntimeError, "^flash attention has no second derivative: use standard_attention"),
    "hessian": (RuntimeError, "^flash attention has no second derivative: use standard_attention"),
    "jvp": (TypeError, r"forward-mode .*jvp.* to a custom_vjp function"),  # JAX's own
}
TABLE = {flash: OURS, lse: OURS, module.standard_attention: dict.fromkeys(OURS)}
DERIVATIVES = {
    "grad": lambda f, i, x: jax.grad(of(f), i)(*x),
    "jacrev": lambda f, i, x: jax.jacrev(f, i)(*x),
    "second": lambda f, i, x: jax.grad(lambda *y: (jax.grad(of(f), i)(*y) ** 2).sum(), i)(*x),
    "hessian": lambda f, i, x: jax.hessian(of(f), i)(*x),
    "jvp": lambda f, i, x: jax.jvp(of(f), tuple(x), tuple(x))[1],
}


@pytest.mark.parametrize("argument", range(3), ids="qkv")
@pytest.mark.parametrize(("f", "derivative"), [(f, name) for f in TABLE for name in TABLE[f]])
def test_table(f, derivative, argument):
    run = partial(DERIVATIVES[derivative], f, argument)
    x = [y[:1, :, :3] for y in inputs()]
    run = jax.jit(run) if argument else run
    if TABLE[f][derivative]:
        error, message = TABLE[f][derivative]
        with pytest.raises(error, match=message):
            run(x)
        return
    true = DERIVATIVES[derivative](true_lse if f is lse else module.standard_attention, argument, x)
    assert np.allclose(run(x), true, rtol=1e-4, atol=1e-5)


def test_vmap_is_each_alone():
    q, k, v = inputs()
    members = jnp.stack([q, 2 * q])
    seeds = jnp.asarray([1, 2], jnp.uint32)
    out = jax.vmap(lambda q, seed: flash(q, k, v, dropout_p=0.4, seed=seed))(members, seeds)
    grads = jax.vmap(jax.grad(lambda q: (flash(q, k, v) ** 2).sum()))(members)
    for i in range(2):
        assert np.allclose(out[i], module.standard_attention(members[i], k, v, dropout_p=0.4, seed=seeds[i]), atol=1e-5)
        true = jax.grad(lambda q: (module.standard_attention(q, k, v) ** 2).sum())(members[i])
        assert np.allclose(grads[i], true, rtol=1e-4, atol=1e-5)


def results(f, x, **options):
    """The output and the gradients of a loss of it."""
    out, pull = jax.vjp(lambda *y: f(*y, **options), *x)
    return [np.asarray(y) for y in (out, *pull(2 * out))]


@both
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("causal", [False, True])
def test_padding(f, bad, causal):
    """NaN in masked keys, and in queries that see nothing (left padding under a causal mask)."""
    q, k, v = inputs(n_q=8)
    mask = jnp.asarray([[False] * 3 + [True] * 5, [True] * 4 + [False] * 4])
    wanted = results(f, (q, k, v), causal=causal, mask=mask)
    hidden = ~mask[:, None, :, None]
    q = jnp.where((wanted[0] == 0).all(-1, keepdims=True), bad, q)
    for a, b in zip(results(f, (q, jnp.where(hidden, bad, k), jnp.where(hidden, bad, v)), causal=causal, mask=mask),
                    wanted, strict=True):  # fmt: skip
        assert np.array_equal(a, b)


@both
@pytest.mark.parametrize("n_q", [3, 8, 11])
def test_causal(f, n_q):
    q, k, v = inputs(n_q=n_q)
    wanted = results(f, (q, k, v), causal=True)[0]
    for which in (1, 2):
        x = [q, k, v]
        x[which] = x[which].at[0, 0, 6, 1].set(jnp.nan)
        first = 6 - (8 - n_q)  # the first query that sees key 6
        out, dq, *_ = results(f, x, causal=True)
        assert np.array_equal(out[:, :, :first], wanted[:, :, :first])
        assert np.array_equal(out[1], wanted[1])
        assert np.isnan(out[0, :, first:]).any(-1).all()
        assert np.isfinite(dq[:, :, :first]).all()


@both
def test_float16_where_the_scaled_score_fits(f):
    q = jnp.full((1, 1, 4, 64), 80, jnp.float16)
    assert (f(q, q, jnp.ones_like(q)) == 1).all()


@both
def test_numpy_arguments(f):
    q, k, v = inputs()
    mine = f(np.asarray(q), np.asarray(k), np.asarray(v), scale=np.float32(0.3), dropout_p=0.2, seed=np.int64(3))
    wanted = for_torch.standard_attention(
        *(torch.from_numpy(np.array(x)) for x in (q, k, v)), scale=0.3, dropout_p=0.2, seed=3
    )
    assert np.allclose(mine, wanted, atol=1e-5)
