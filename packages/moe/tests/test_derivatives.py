"""Every derivative of the layer, for its input and its weights, on both paths: right, or refused by name."""

from __future__ import annotations

import pytest
import torch
from moe_cases import layer, tokens, twin_of
from torch.func import functional_call

GATES = ("noisy_topk", "switch", "topk_softmax", "topk_sigmoid")


def function(made, name):
    """The squares of the output and the losses, as a function of x or of one parameter."""
    parameters, x = dict(made.named_parameters()), tokens(5)

    def f(value):
        changed, inputs = (parameters, value) if name == "x" else (parameters | {name: value}, x)
        y, info = functional_call(made, changed, (inputs,))
        return y.square().sum() + info.importance_loss + info.balance_loss + info.z_loss

    return f, (x if name == "x" else parameters[name].detach().clone())


def dual(f, y):
    with torch.autograd.forward_ad.dual_level():
        return torch.autograd.forward_ad.unpack_dual(f(torch.autograd.forward_ad.make_dual(y, y))).tangent


def twice(f, y):
    y = y.clone().requires_grad_()
    (first,) = torch.autograd.grad(f(y), y, create_graph=True)
    return torch.autograd.grad(first.square().sum(), y)[0]


DERIVATIVES = {
    "backward": lambda f, y: torch.autograd.grad(f(z := y.clone().requires_grad_()), z)[0],
    "func.grad": lambda f, y: torch.func.grad(f)(y),
    "func.vjp": lambda f, y: torch.func.vjp(f, y)[1](torch.tensor(2.0).double())[0],
    "jacrev": lambda f, y: torch.func.jacrev(f)(y),
    "jvp": lambda f, y: torch.func.jvp(f, (y,), (y,))[1],
    "dual numbers": dual,
    "second, backward": twice,
    "second, func.grad": lambda f, y: torch.func.grad(lambda z: torch.func.grad(f)(z).square().sum())(y),
    "hessian": lambda f, y: torch.func.hessian(f)(y),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")
@pytest.mark.parametrize("name", ["x", "experts.W_1", "experts.W_2", "gate"])
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("derivative", DERIVATIVES)
def test_table(derivative, gate, name):
    """Of the fast path, against the printed one; none is refused."""
    made = layer(gate, n_experts=3, activation="swiglu", capacity_factor=1.0).eval()
    if name == "gate":
        name = "gate.W_g" if gate == "noisy_topk" else "gate.W_r"
    fast, printed = (DERIVATIVES[derivative](*function(m, name)) for m in (made, twin_of(made)))
    torch.testing.assert_close(fast, printed, rtol=1e-9, atol=1e-10)
    assert fast.abs().max() > 0


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("gate", GATES)
def test_gradcheck(gate, fused):
    """With the gate's noise, the same in each call; the load loss too."""
    made, x = layer(gate, n_experts=3, activation="swiglu", shared_experts=1, fused=fused), tokens(4)
    x = x.requires_grad_()

    def f(x, *parameters):
        torch.manual_seed(0)
        y, info = functional_call(made, dict(zip(dict(made.named_parameters()), parameters, strict=True)), (x,))
        return y, info.importance_loss, info.load_loss, info.balance_loss, info.z_loss

    assert torch.autograd.gradcheck(f, (x, *made.parameters()), fast_mode=True)
