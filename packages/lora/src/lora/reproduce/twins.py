"""The Flax twin (`lora.jax`) against the torch layer, in float32."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from papertest.claims import Measured, Run, claim
from papertest.parity import relative_error

import lora
from lora.reproduce.factors import randomise
from lora.reproduce.threads import one_thread


@claim("flax-twin")
@one_thread()
def flax_twin(run: Run) -> Measured:
    """Eq. 3 in float32: outputs, gradients of A, B and x, and merged weights of the twin against ours.

    Largest difference over largest value, the worst of a layer with a bias and one without, 96 inputs and 80 outputs,
    r = 8. The loss is not linear in the output.
    """
    errors = {f"bias {bias}": twin_errors(bias=bias) for bias in (True, False)}
    value = {name: max(row[name] for row in errors.values()) for name in ("output", "gradients", "merged")}
    return Measured(value, {"errors": errors})


def twin_errors(*, bias: bool) -> dict[str, float]:
    import jax.numpy as jnp
    from flax import nnx

    from lora.jax import LoRALinear, from_torch

    model = lora.add_lora(nn.ModuleDict({"layer": nn.Linear(96, 80, bias=bias)}), ["layer"], r=8, alpha=16)
    layer: Any = randomise(model, seed=0).get_submodule("layer")
    x = torch.randn(7, 96, requires_grad=True)
    output = layer(x)
    output.tanh().square().sum().backward()
    twin = from_torch(layer)

    def loss(twin: LoRALinear, x: Any) -> Any:
        return (jnp.tanh(twin(x)) ** 2).sum()

    numbers = jnp.asarray(x.detach().numpy())
    factors, dx = nnx.grad(loss, argnums=(nnx.DiffState(0, nnx.LoRAParam), 1))(twin, numbers)
    pairs = [
        (factors["A"][...], layer.lora_A["default"].grad),
        (factors["B"][...], layer.lora_B["default"].grad),
        (dx, x.grad),
    ]
    errors = {"output": relative_error(twin(numbers), output)}
    errors["gradients"] = max(relative_error(theirs, ours) for theirs, ours in pairs)
    twin.merge()
    lora.merge_lora(model)
    errors["merged"] = relative_error(twin.base.kernel[...].T, layer.weight)
    return errors
