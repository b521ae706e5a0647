"""Every derivative of Eq. 3 and of the layers is that of the formula."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lora_cases import ARGUMENTS, Conv1D, values
from torch import nn
from torch.autograd import forward_ad

from lora import LoRAConv1D, LoRAEmbedding, LoRALinear, LoRAMergedLinear
from lora.function import Fused, lora_linear, plain

IDS = torch.tensor([[0, 2, 2], [3, 3, 1]])


def formula(x: Any, W_0: Any, b: Any, A: Any, B: Any) -> Any:
    return x @ W_0.T + b + 1.5 * (x @ A.T @ B.T)


class Elsewhere(nn.Module):
    """A layer whose weight is taken and which is never called."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Any) -> Any:
        return F.linear(x, self.layer.weight, self.layer.bias)


LAYERS = {
    "linear": LoRALinear(nn.Linear(4, 6).double(), 2, 3),
    "conv1d": LoRAConv1D(Conv1D(6, 4).double(), 2, 3),
    "parts": LoRAMergedLinear(nn.Linear(4, 6).double(), (True,), 2, 3),
    "elsewhere": Elsewhere(LoRALinear(nn.Linear(4, 6).double(), 2, 3)),
    "embedding": LoRAEmbedding(nn.Embedding(4, 6).double(), 2, 3),
}


def layer(kind: str) -> Any:
    def call(x: Any, W_0: Any, b: Any, A: Any, B: Any) -> Any:
        tensors = {"weight": W_0.T if kind in ("conv1d", "embedding") else W_0, "bias": b}
        tensors |= {"lora_A.default": A, "lora_B.default": B}
        if kind == "elsewhere":
            tensors = {f"layer.{name}": tensor for name, tensor in tensors.items()}
        if kind == "embedding":
            tensors.pop("bias")
            return torch.func.functional_call(LAYERS[kind], tensors, (IDS,)) + b + 0 * x.sum()
        return torch.func.functional_call(LAYERS[kind], tensors, (x,))

    return call


def embedded(x: Any, W_0: Any, b: Any, A: Any, B: Any) -> Any:
    return formula(F.one_hot(IDS, 4).double(), W_0, b, A, B) + 0 * x.sum()


def ours(x: Any, W_0: Any, b: Any, A: Any, B: Any) -> Any:
    return lora_linear(x, W_0, b, A, B, 1.5)


FUNCTIONS = {"lora_linear": ours} | {kind: layer(kind) for kind in LAYERS}


def of(f: Any, i: int) -> Any:
    """f's sines as a function of its i-th argument, the others being constants."""
    constants = values()
    return lambda y: f(*[y if i == j else z for j, z in enumerate(constants)]).sin().sum()


def backward(f: Any, y: Any) -> Any:
    y = y.clone().requires_grad_()
    return torch.autograd.grad(f(y), y)[0]


def dual(f: Any, y: Any) -> Any:
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(f(forward_ad.make_dual(y, y.cos()))).tangent


def twice(f: Any, y: Any) -> Any:
    y = y.clone().requires_grad_()
    (first,) = torch.autograd.grad(f(y), y, create_graph=True)
    return torch.autograd.grad(first.square().sum(), y)[0]


DERIVATIVES = {
    "backward": backward,
    "func.grad": lambda f, y: torch.func.grad(f)(y),
    "func.vjp": lambda f, y: torch.func.vjp(f, y)[1](torch.tensor(2.0).double())[0],
    "jacrev": lambda f, y: torch.func.jacrev(f)(y),
    "jacfwd": lambda f, y: torch.func.jacfwd(f)(y),
    "jvp": lambda f, y: torch.func.jvp(f, (y,), (y.cos(),))[1],
    "dual numbers": dual,
    "second, backward": twice,
    "second, func.grad": lambda f, y: torch.func.grad(lambda z: torch.func.grad(f)(z).square().sum())(y),
    "hessian": lambda f, y: torch.func.hessian(f)(y),
    "autograd.functional.hessian": lambda f, y: torch.autograd.functional.hessian(f, y, vectorize=True),
}


@pytest.mark.parametrize("argument", ARGUMENTS)
@pytest.mark.parametrize("derivative", DERIVATIVES)
@pytest.mark.parametrize("f", FUNCTIONS)
def test_table(f, derivative, argument):
    i, run = ARGUMENTS[argument], DERIVATIVES[derivative]
    found, true = (run(of(g, i), values()[i]) for g in (FUNCTIONS[f], embedded if f == "embedding" else formula))
    torch.testing.assert_close(found, true, rtol=1e-9, atol=1e-11)


def test_many_backward_passes_at_once():
    """What jacobians with is_grads_batched ask of the fused function."""
    x, W_0, b, A, B = values()
    x, A, B = (y.requires_grad_() for y in (x, A, B))
    dh = torch.randn(4, 3, 2, 6, dtype=torch.float64)
    found = torch.autograd.grad(Fused.apply(x, W_0, b, A, B, 1.5), (x, A, B), dh, is_grads_batched=True)
    for i in range(4):
        true = torch.autograd.grad(plain(x, W_0, b, A, B, 1.5), (x, A, B), dh[i])
        for ours, theirs in zip(found, true, strict=True):
            torch.testing.assert_close(ours[i], theirs)


def test_a_backward_pass_under_autocast_has_the_precision_of_the_forward_pass():
    x, W_0, b, A, B = (y.float() for y in values())
    x, A, B = (y.requires_grad_() for y in (x, A, B))
    true = torch.autograd.grad(lora_linear(x, W_0, b, A, B, 1.5).sin().sum(), (x, A, B))
    h = lora_linear(x, W_0, b, A, B, 1.5).sin().sum()
    with torch.autocast("cpu", torch.bfloat16):
        found = torch.autograd.grad(h, (x, A, B))
    assert all(torch.equal(*pair) for pair in zip(found, true, strict=True))
