"""Parity: does ours agree with another implementation, and where is the first place that it does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

ROUNDING = 1e-14  # of float64, with room for sums


def to_numpy(x: Any) -> np.ndarray[Any, Any]:
    """A torch tensor, JAX array or nested list as a NumPy array in float64 (integers stay)."""
    array = x.detach().cpu().double().numpy() if isinstance(x, Tensor) and x.is_floating_point() else np.asarray(x)
    return array.astype(np.float64) if array.dtype.kind == "f" or array.dtype.name == "bfloat16" else array


def relative_error(ours: Any, theirs: Any) -> float:
    """Largest absolute difference over the largest absolute value of `theirs`; ValueError where shapes differ."""
    a, b = to_numpy(ours), to_numpy(theirs)
    if a.shape != b.shape:
        raise ValueError(f"ours has shape {a.shape}, theirs {b.shape}: they must be equal")
    scale = float(np.abs(b).max(initial=0.0))
    difference = float(np.abs(a - b).max(initial=0.0))
    return difference / scale if scale else difference


def rms_error(ours: Any, exact: Any) -> float:
    """Root mean square of the difference over all elements."""
    return float(np.sqrt(np.mean((to_numpy(ours) - to_numpy(exact)) ** 2)))


def assert_layers_agree(ours: Mapping[str, Any], theirs: Mapping[str, Any], tolerance: float) -> None:
    """Compare named intermediate values in order; the AssertionError names the first that differs and by how much.

    Agreement is a relative error (see `relative_error`) of at most `tolerance`.
    """
    if list(ours) != list(theirs):
        raise ValueError(f"the layers must have the same names in the same order: {list(ours)} and {list(theirs)}")
    errors = {name: relative_error(ours[name], theirs[name]) for name in ours}
    for name, error in errors.items():
        if not error <= tolerance:
            table = "\n".join(f"  {n}: {e:.2e}{'  <- first to differ' * (n == name)}" for n, e in errors.items())
            raise AssertionError(f"{name} differs by {error:.2e} (allowed {tolerance:.0e})\n{table}")


def gradients(function: Callable[..., Tensor], inputs: Sequence[Tensor], weight: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Output of `function(*inputs)`, and the gradients of sum(output * weight) with respect to every input."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    output = function(*leaves)
    return output.detach(), list(torch.autograd.grad((output * weight).sum(), leaves))


def assert_gradients_agree(
    ours: Callable[..., Tensor], theirs: Callable[..., Tensor], inputs: Sequence[Tensor], tolerance: float = 1e-10
) -> None:
    """Outputs and gradients of two functions of the same inputs, both in float64, agree to `tolerance`.

    A gradient that is all rounding, at most ROUNDING times the largest one, counts as zero: where the softmax has one
    key to choose, that of the queries is.
    """
    wide = [x.detach().double() for x in inputs]
    output = theirs(*wide)
    weight = torch.randn(output.shape, generator=torch.Generator().manual_seed(0), dtype=output.dtype).to(output)
    mine, peer = gradients(ours, wide, weight), gradients(theirs, wide, weight)
    rounding = ROUNDING * max((float(x.abs().max()) for x in peer[1] if x.numel()), default=0.0)
    names = ["output", *(f"gradient of input {i}" for i in range(len(wide)))]
    layers = [
        dict(zip(names, [out, *(x * ~(x.abs() <= rounding).all() for x in found)], strict=True))
        for out, found in (mine, peer)
    ]
    assert_layers_agree(layers[0], layers[1], tolerance)


def to_jax(tree: Any) -> Any:
    """Torch tensors of a nested dict, list or tuple as JAX arrays of the same dtype: weights carried across."""
    import jax.numpy as jnp

    if isinstance(tree, Mapping):
        return {key: to_jax(value) for key, value in cast("Mapping[Any, Any]", tree).items()}
    if isinstance(tree, list | tuple):
        row = cast("list[Any]", tree)  # or a tuple
        return type(row)(to_jax(value) for value in row)
    if isinstance(tree, Tensor):
        array = tree.detach().cpu()
        return (
            jnp.asarray(array.float().numpy(), jnp.bfloat16)
            if array.dtype == torch.bfloat16
            else jnp.asarray(array.numpy())
        )
    return tree
