"""Every derivative of every function, in torch and JAX: right (against the written-out formula), or refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from bert_cases import batch, config, shake
from torch.func import functional_call

from bert import Bert, BertForClassification, BertForPreTraining

SMALL: dict[str, Any] = {"n_layers": 1, "hidden_size": 4, "n_heads": 2, "d_ff": 5, "vocab_size": 23, "dropout": 0.0}
WHICH = "bert.embeddings.types.weight", "bert.encoder.0.attention.W_K.weight"  # two that every function depends on
IDS, TYPES, MASK = batch()
LABELS = torch.where(MASK == 1, IDS, -100)
NEXT, CLASSES = torch.tensor([True, False, True]), torch.tensor([0, 2, 1])


class Holder(torch.nn.Module):
    """Its forward is another function of the model: what functional_call can call."""

    def __init__(self, model, function):
        super().__init__()
        self.bert, self.function = getattr(model, "bert", model), function
        self.model = model

    def forward(self, *inputs):
        return self.function(self.model, *inputs)


def squares(model, *inputs):
    out = model(*inputs)
    out = out if isinstance(out, tuple) else (out,)
    return sum((x[MASK == 1] if x.ndim == 3 else x).square().sum() for x in out)


FUNCTIONS = {
    "Bert": (Bert, squares, (IDS, TYPES, MASK)),
    "states": (Bert, lambda m, *x: sum((s * x[2][..., None]).square().sum() for s in m.states(*x)), (IDS, TYPES, MASK)),
    "heads": (BertForPreTraining, squares, (IDS, TYPES, MASK)),
    "loss": (BertForPreTraining, BertForPreTraining.loss, (IDS, LABELS, NEXT, TYPES, MASK)),
    "classifier": (lambda c: BertForClassification(c, 3), squares, (IDS, TYPES, MASK)),
    "classes": (lambda c: BertForClassification(c, 3), BertForClassification.loss, (IDS, CLASSES, TYPES, MASK)),
}  # fmt: skip


def function(name, fused, which):
    """As a function of one parameter, and that parameter; the same weights for both attentions."""
    kind, of, inputs = FUNCTIONS[name]
    torch.manual_seed(0)
    model = shake(kind(config(**SMALL, fused=fused))).double()
    holder = Holder(model, of)
    parameter = dict(holder.named_parameters())[which].detach()
    return lambda x: functional_call(holder, {which: x}, inputs, tie_weights=True), parameter


def twice(f, x):
    x = x.clone().requires_grad_()
    (first,) = torch.autograd.grad(f(x), x, create_graph=True)
    return torch.autograd.grad(first.square().sum(), x)[0]


def backward(f, x):
    return torch.autograd.grad(f(x := x.clone().requires_grad_()), x)[0]


DERIVATIVES = {
    "backward": backward,
    "func.grad": lambda f, x: torch.func.grad(f)(x),
    "func.vjp": lambda f, x: torch.func.vjp(f, x)[1](torch.tensor(2.0).double())[0],
    "jacrev": lambda f, x: torch.func.jacrev(f)(x),
    "jvp": lambda f, x: torch.func.jvp(f, (x,), (x.cos(),))[1],
    "second, backward": twice,
    "second, func.grad": lambda f, x: torch.func.grad(lambda x: torch.func.grad(f)(x).square().sum())(x),
    "hessian": lambda f, x: torch.func.hessian(f)(x),
}
FIRST = ("backward", "func.grad", "func.vjp", "jacrev")
REFUSED = r"not implemented|does not support it"  # by torch's kernel: "derivative for aten::... is not implemented"


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("derivative", DERIVATIVES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_fused_attention_s_derivatives_are_the_formula_s_or_refused(name, derivative):
    for which in WHICH:
        (f, x), (plain, _) = function(name, True, which), function(name, False, which)
        expected = DERIVATIVES[derivative](plain, x)
        assert expected.abs().max() > 0
        if derivative in FIRST:
            torch.testing.assert_close(DERIVATIVES[derivative](f, x), expected, rtol=1e-9, atol=1e-11)
        else:
            with pytest.raises(RuntimeError, match=REFUSED):
                DERIVATIVES[derivative](f, x)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_formula_s_derivatives_are_those_of_differences(name):
    f, x = function(name, False, WHICH[0])
    assert torch.autograd.gradcheck(f, x.clone().requires_grad_(), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(f, x.clone().requires_grad_())
    h = torch.zeros_like(x)
    h[1, 2] = 1e-5
    column = (torch.func.grad(f)(x + h) - torch.func.grad(f)(x - h)) / 2e-5
    torch.testing.assert_close(torch.func.hessian(f)(x)[1, 2], column, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("fused", [False, True], ids=["formula", "fused"])
def test_gradients_of_each_example_by_vmap_are_those_of_each_alone(fused):
    torch.manual_seed(0)
    model = shake(BertForPreTraining(config(**SMALL, fused=fused))).double()
    holder = Holder(model, BertForPreTraining.loss)
    parameters = {name: x.detach() for name, x in holder.named_parameters()}

    def loss(parameters, *inputs):
        return functional_call(holder, parameters, tuple(x[None] for x in inputs))

    inputs = (IDS, LABELS, NEXT, TYPES, MASK)
    together = torch.func.vmap(torch.func.grad(loss), (None, *[0] * 5))(parameters, *inputs)
    for i in range(3):
        alone = torch.func.grad(loss)(parameters, *(x[i] for x in inputs))
        for name in parameters:
            torch.testing.assert_close(together[name][i], alone[name], rtol=1e-9, atol=1e-11)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("fused", [False, True], ids=["formula", "fused"])
def test_export_and_one_graph_with_a_mask(fused):
    """Its values are not known when the graph is made: it is right for others, and NaN for those that are refused."""
    torch.manual_seed(0)
    model = shake(BertForPreTraining(config(fused=fused, n_layers=1))).double()
    everywhere = torch.ones_like(MASK)
    exported = torch.export.export(model, (IDS, TYPES, everywhere)).module()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for mask in (everywhere, MASK, MASK.flip(1)):
        expected = model(IDS, TYPES, mask)
        for found in (exported(IDS, TYPES, mask), compiled(IDS, TYPES, mask)):
            torch.testing.assert_close(found[0][mask == 1], expected[0][mask == 1])
            torch.testing.assert_close(found[1], expected[1])
    for bad in (0, 2):
        mask = MASK.clone()
        mask[1] = bad
        for found in (exported(IDS, TYPES, mask), compiled(IDS, TYPES, mask)):
            assert [bool(x[i].isnan().all()) for x in found for i in range(3)] == [False, True, False] * 2
    loss = torch.compile(model.loss, fullgraph=True, backend="aot_eager")
    inputs = (IDS, LABELS, NEXT, TYPES, MASK)
    torch.testing.assert_close(loss(*inputs), model.loss(*inputs))
    assert loss(IDS, IDS, NEXT, TYPES, MASK).isnan()
    assert loss(IDS, torch.full_like(IDS, -100), NEXT, TYPES, MASK).isnan()


def test_the_twin_s_derivatives_are_those_of_torch():
    jax = pytest.importorskip("jax", reason="the extra jax is not installed")
    nnx = pytest.importorskip("flax.nnx")
    from bert import jax as twins

    torch.manual_seed(0)
    model = shake(BertForPreTraining(config(**SMALL))).double()
    holder, which = Holder(model, squares), "bert.embeddings.types.weight"
    parameter = dict(holder.named_parameters())[which].detach()
    f = lambda x: functional_call(holder, {which: x}, (IDS, TYPES, MASK))  # noqa: E731
    with jax.enable_x64(True):
        ids, types, mask = (jax.numpy.asarray(x.numpy()) for x in (IDS, TYPES, MASK))
        graph, of_types, rest = nnx.split(twins.from_torch(model), nnx.PathContains("types"), ...)

        def g(x):
            twin = nnx.merge(graph, jax.tree.map(lambda _: x, of_types), rest)
            mlm, nsp = twin(ids, types, mask)
            return (jax.numpy.where(mask[..., None] == 1, mlm, 0.0) ** 2).sum() + (nsp**2).sum()

        x = jax.numpy.asarray(parameter.numpy())
        square = lambda h: lambda x: (h(x) ** 2).sum()  # noqa: E731
        found = {
            "func.grad": jax.jit(jax.grad(g))(x),
            "jacrev": jax.jit(jax.jacrev(g))(x),
            "jvp": jax.jvp(g, (x,), (jax.numpy.cos(x),))[1],
            "second, func.grad": jax.jit(jax.grad(square(jax.grad(g))))(x),
            "hessian": jax.jit(jax.hessian(g))(x),
        }
        for name, value in found.items():
            expected = DERIVATIVES[name](f, parameter)
            ours = torch.from_numpy(jax.device_get(value).copy()).reshape(expected.shape)
            torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-9)
        each = jax.vmap(g)(jax.numpy.stack([x, 2 * x]))
        assert each.tolist() == pytest.approx([f(parameter).item(), f(2 * parameter).item()], rel=1e-10)
