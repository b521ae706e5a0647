"""Which derivatives are right, and which are refused: each function, in each way that torch has."""

from __future__ import annotations

import pytest
import torch

from rope import alibi_attention, alibi_bias, apply_rope, linear_rope_attention, rotary, tables

POSITIONS = torch.tensor([[3, 1, 4, 1, 5], [0, 0, 0, 1, 2]])


def reference(x, positions=None, interleaved=True, rotary_dim=None):
    m = torch.arange(x.shape[-2]) if positions is None else positions
    theta = 10000.0 ** (
        -torch.arange(0, rotary_dim or x.shape[-1], 2, dtype=torch.float64) / (rotary_dim or x.shape[-1])
    )
    angles = m[..., None] * theta
    table = torch.stack((angles.cos(), angles.sin()), -1)
    return rotary.plain(x, rotary.over_heads(table, x.ndim), interleaved)


def softmax_alibi(x):
    bias = alibi_bias(x.shape[1], x.shape[2], dtype=x.dtype)
    return (x @ x.sin().mT / x.shape[-1] ** 0.5 + bias).softmax(-1) @ x.cos()


def linear(x, **options):
    return linear_rope_attention(x, x.sin(), x.cos(), **options)


FUNCTIONS = {
    "interleaved": (apply_rope, reference),
    "half": (lambda x: apply_rope(x, interleaved=False), lambda x: reference(x, interleaved=False)),
    "positions": (lambda x: apply_rope(x, POSITIONS), lambda x: reference(x, POSITIONS)),
    "partial": (lambda x: apply_rope(x, rotary_dim=4), lambda x: reference(x, rotary_dim=4)),
    "partial half": (
        lambda x: apply_rope(x, rotary_dim=4, interleaved=False),
        lambda x: reference(x, rotary_dim=4, interleaved=False),
    ),
    "linear": (lambda x: linear(x, causal=True), lambda x: linear(x, causal=True, quadratic=True)),
    "alibi": (lambda x: alibi_attention(x, x.sin(), x.cos()), softmax_alibi),
}


def of(f):
    return lambda x: f(x).sin().square().sum()


def twice(f, x):
    x = x.clone().requires_grad_()
    (first,) = torch.autograd.grad(f(x), x, create_graph=True)
    return torch.autograd.grad(first.square().sum(), x)[0]


def dual(f, x):
    with torch.autograd.forward_ad.dual_level():
        return torch.autograd.forward_ad.unpack_dual(f(torch.autograd.forward_ad.make_dual(x, x.cos()))).tangent


DERIVATIVES = {
    "backward": lambda f, x: torch.autograd.grad(of(f)(x.requires_grad_()), x)[0],
    "func.grad": lambda f, x: torch.func.grad(of(f))(x),
    "func.vjp": lambda f, x: torch.func.vjp(f, x)[1](x.cos())[0],
    "jacrev": lambda f, x: torch.func.jacrev(lambda x: f(x).sum((0, 1)))(x),
    "jvp": lambda f, x: torch.func.jvp(f, (x,), (x.cos(),))[1],
    "dual numbers": dual,
    "jacfwd": lambda f, x: torch.func.jacfwd(lambda x: f(x).sum((0, 1)))(x),
    "second, backward": lambda f, x: twice(of(f), x),
    "second, func.grad": lambda f, x: torch.func.grad(lambda x: torch.func.grad(of(f))(x).square().sum())(x),
    "hessian": lambda f, x: torch.func.hessian(of(f))(x[:, :, :2]),
    "grad in vmap": lambda f, x: torch.vmap(torch.func.grad(of(f)))(torch.stack((x, x.sin()))),
}
RIGHT, REFUSED = None, "scaled_dot_product|not implemented|forward AD"
FUSED = dict.fromkeys(("jvp", "dual numbers", "jacfwd", "second, backward", "second, func.grad", "hessian"), REFUSED)
TABLE = {name: dict.fromkeys(DERIVATIVES, RIGHT) | (FUSED if name == "alibi" else {}) for name in FUNCTIONS}
del TABLE["positions"]["hessian"]  # whose shortened x does not go with the positions


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
@pytest.mark.parametrize(("name", "derivative"), [(name, d) for name in TABLE for d in TABLE[name]])
def test_table(name, derivative, monkeypatch):
    monkeypatch.setattr(tables, "_TABLES", {})  # made within the transform
    f, plain = FUNCTIONS[name]
    x = torch.randn(2, 2, 5, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected, run = TABLE[name][derivative], DERIVATIVES[derivative]
    if expected is not RIGHT:
        with pytest.raises((RuntimeError, NotImplementedError), match=expected):
            run(f, x)
        return
    torch.testing.assert_close(run(f, x.clone()), run(plain, x.clone()), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("interleaved", [True, False])
def test_gradgradcheck(interleaved):
    x = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)

    def f(x):
        return apply_rope(x, 3, interleaved=interleaved, rotary_dim=4, attention_factor=1.2)

    assert torch.autograd.gradcheck(f, x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(f, x)


def test_vmap_over_positions_and_axes():
    x = torch.randn(5, 3, 2, 4, 8, dtype=torch.float64)
    positions = torch.arange(20).view(5, 4)
    ours = torch.vmap(apply_rope, in_dims=(0, 0))(x, positions)
    for i in range(5):
        torch.testing.assert_close(ours[i], apply_rope(x[i], positions[i]))
    last = torch.vmap(apply_rope, in_dims=-1, out_dims=-1)(x.movedim(0, -1))
    torch.testing.assert_close(last.movedim(-1, 0), apply_rope(x))
    shared = torch.vmap(apply_rope, in_dims=(None, 0))(x[0], positions)
    for i in range(5):
        torch.testing.assert_close(shared[i], apply_rope(x[0], positions[i]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_backward_pass_keeps_the_table_alone(dtype):
    x = torch.randn(2, 3, 5, 8, dtype=dtype, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.data_ptr()) or t, lambda t: t):
        apply_rope(x)
    known = {table.data_ptr() for table in tables._TABLES.values()}
    assert kept and set(kept) <= known
