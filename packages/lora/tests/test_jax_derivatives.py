"""Every derivative of the Flax twin is that of the formula; while merged, those of A and B are refused, not zero."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("flax", reason="the extra jax is not installed")
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from lora_cases import ARGUMENTS, values

from lora import jax as twins

DERIVATIVES = {
    "grad": lambda f, y: jax.grad(f)(y),
    "jit of grad": lambda f, y: jax.jit(jax.grad(f))(y),
    "grad of jit": lambda f, y: jax.grad(jax.jit(f))(y),
    "jvp": lambda f, y: jax.jvp(f, (y,), (jnp.cos(y),))[1],
    "hessian": lambda f, y: jax.hessian(f)(y),
}


def twin_of(merged: bool) -> Any:
    _, W_0, b, A, B = (np.asarray(y.float()) for y in values())
    layer = twins.LoRALinear(nnx.Linear(4, 6, rngs=nnx.Rngs(0)), 2, 3, rngs=nnx.Rngs(0))
    for variable, value in ((layer.base.kernel, W_0.T), (layer.base.bias, b), (layer.A, A), (layer.B, B)):
        variable.set_value(jnp.asarray(value))
    if merged:
        layer.merge()
    return layer


def of_twin(i: int, merged: bool) -> Any:
    def f(y: Any) -> Any:
        layer, x = twin_of(merged), jnp.asarray(values()[0].float())
        variable = {1: layer.base.kernel, 2: layer.base.bias, 3: layer.A, 4: layer.B}.get(i)
        if variable is None:
            x = y
        else:
            variable.set_value(y)
        return jnp.sin(layer(x)).sum()

    return f


def of_formula(i: int) -> Any:
    def f(y: Any) -> Any:
        x, W_0, b, A, B = (jnp.asarray(z.float()) for z in values())
        x, W, b, A, B = (y if i == j else z for j, z in enumerate((x, W_0.T, b, A, B)))
        return jnp.sin(x @ W + b + 1.5 * (x @ A.T @ B.T)).sum()

    return f


@pytest.mark.parametrize("argument", ["x", "W_0", "A", "B"])
@pytest.mark.parametrize("derivative", DERIVATIVES)
def test_table(derivative, argument):
    i, run = ARGUMENTS[argument], DERIVATIVES[derivative]
    y = jnp.asarray(values()[i].float())
    y = y.T if argument == "W_0" else y
    true = run(of_formula(i), y)
    np.testing.assert_allclose(run(of_twin(i, False), y), true, rtol=1e-3, atol=1e-3 * jnp.abs(true).max())
    if argument in "AB":  # not zeros
        with pytest.raises(ValueError, match=r"the layer is merged, and A and B cannot be trained: call unmerge\(\)"):
            run(of_twin(i, True), y)
    elif argument != "W_0":
        np.testing.assert_allclose(run(of_twin(i, True), y), true, rtol=1e-3, atol=1e-3 * jnp.abs(true).max())
