"""Every derivative of every function, in torch and JAX: right (against standard attention), or refused by name."""

from __future__ import annotations

import math

import pytest
import torch

from flash_attention import block_sparse_flash_attention, flash_attention, standard_attention

BLOCK_MASK = torch.ones(2, 2, dtype=torch.bool)
SECOND = "^flash attention has no second derivative: use standard_attention"
FORWARD = r"^flash attention has no forward-mode derivative \(jvp\): use standard_attention"


def sparse(q, k, v, **options):
    return block_sparse_flash_attention(q, k, v, BLOCK_MASK, block_q=3, block_k=3, **options)


def flash(q, k, v, **options):
    return flash_attention(q, k, v, block_q=3, block_k=3, **options)


def lse(q, k, v, **options):
    return flash_attention(q, k, v, return_lse=True, block_q=3, block_k=3, **options)[1]


def true_lse(q, k, v, causal=False, **_):
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1 + scores.shape[-1] - scores.shape[-2])
    return (scores.masked_fill(hidden, -math.inf) if causal else scores).logsumexp(-1) + 0 * v.sum()


REFERENCE = {standard_attention: standard_attention, flash: standard_attention, sparse: standard_attention}
REFERENCE[lse] = true_lse


def x(batch=()):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*batch, 1, 2, n, 3, generator=generator).double() for n in (5, 6, 6)]


def of(f, i, q, k, v, **options):
    """f's squares as a function of its i-th argument."""
    return lambda y: f(*[y if i == j else z for j, z in enumerate((q, k, v))], **options).square().sum()


DERIVATIVES = {
    "backward": lambda f, i, q, k, v: torch.autograd.grad(
        of(f, i, q, k, v)(y := (q, k, v)[i].clone().requires_grad_()), y
    )[0],
    "func.grad": lambda f, i, q, k, v: torch.func.grad(of(f, i, q, k, v, causal=True))((q, k, v)[i]),
    "func.vjp": lambda f, i, q, k, v: torch.func.vjp(of(f, i, q, k, v), (q, k, v)[i])[1](torch.tensor(2.0).double())[0],
    "jacrev": lambda f, i, q, k, v: torch.func.jacrev(
        lambda y: f(*[y if i == j else z for j, z in enumerate((q, k, v))])
    )((q, k, v)[i]),
    "jvp": lambda f, i, q, k, v: torch.func.jvp(of(f, i, q, k, v), ((q, k, v)[i],), ((q, k, v)[i],))[1],
    "dual numbers": lambda f, i, q, k, v: dual(of(f, i, q, k, v), (q, k, v)[i]),
    "second, backward": lambda f, i, q, k, v: twice(of(f, i, q, k, v), (q, k, v)[i]),
    "second, func.grad": lambda f, i, q, k, v: torch.func.grad(
        lambda y: torch.func.grad(of(f, i, q, k, v))(y).square().sum()
    )((q, k, v)[i]),
    "hessian": lambda f, i, q, k, v: torch.func.hessian(of(f, i, q, k, v))((q, k, v)[i]),
}
RIGHT, NO_SECOND, NO_FORWARD = None, SECOND, FORWARD
FIRST = dict.fromkeys(("backward", "func.grad", "func.vjp", "jacrev"), RIGHT)
OURS = FIRST | dict.fromkeys(("jvp", "dual numbers", "hessian"), NO_FORWARD)
OURS |= dict.fromkeys(("second, backward", "second, func.grad"), NO_SECOND)
TABLE = {standard_attention: dict.fromkeys(DERIVATIVES, RIGHT), flash: OURS, sparse: OURS, lse: OURS}


def dual(f, y):
    with torch.autograd.forward_ad.dual_level():
        return torch.autograd.forward_ad.unpack_dual(f(torch.autograd.forward_ad.make_dual(y, y))).tangent


def twice(f, y):
    y = y.clone().requires_grad_()
    (first,) = torch.autograd.grad(f(y), y, create_graph=True)
    return torch.autograd.grad(first.square().sum(), y)[0]


@pytest.mark.filterwarnings("ignore:We've detected that a function:UserWarning", "ignore:.*vmap.*:UserWarning")
@pytest.mark.parametrize("argument", range(3), ids="qkv")
@pytest.mark.parametrize(("f", "derivative"), [(f, name) for f in TABLE for name in TABLE[f]])
def test_table(f, derivative, argument):
    expected, run = TABLE[f][derivative], DERIVATIVES[derivative]
    if expected is not RIGHT:
        with pytest.raises(RuntimeError, match=expected):
            run(f, argument, *x())
        return
    torch.testing.assert_close(run(f, argument, *x()), run(REFERENCE[f], argument, *x()), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("blocks", [{"block_q": 16, "block_k": 8}, {}], ids=["16x8", "own blocks"])
def test_lse_gradient(blocks):
    """A loss of both outputs; rows without a key give nothing, whatever comes back to them."""
    generator = torch.Generator().manual_seed(1)
    shapes = ((2, 4, 37, 5), (2, 2, 29, 5), (2, 2, 29, 5))
    mask = torch.rand(2, 29, generator=generator) < 0.6
    mask[1] = False
    ours, theirs = ([], [])
    for gradients, f in ((ours, flash_attention), (theirs, None)):
        generator.manual_seed(2)
        q, k, v = (torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes)
        if f:
            out, L = f(q, k, v, mask=mask, causal=True, dropout_p=0.2, seed=3, return_lse=True, **blocks)
        else:
            out = standard_attention(q, k, v, mask=mask, causal=True, dropout_p=0.2, seed=3)
            seen = torch.ones(37, 29, dtype=torch.bool).tril(-8) & mask[:, None, None]
            L = (q @ k.repeat_interleave(2, 1).mT / math.sqrt(5)).masked_fill(~seen, -math.inf).logsumexp(-1)
        loss = (out * out.detach().cos()).sum() + L[L.isfinite()].sin().sum()
        gradients += torch.autograd.grad(loss, (q, k, v))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_gradcheck_of_both_outputs():
    q, k, v = (y.requires_grad_() for y in x())
    f = lambda *y: flash_attention(*y, return_lse=True, dropout_p=0.2, seed=1, block_q=3, block_k=2)  # noqa: E731
    assert torch.autograd.gradcheck(f, (q, k, v))


@pytest.mark.parametrize("f", [flash, sparse, standard_attention])
def test_vmap_is_each_alone(f):
    """Also under dropout: the seed drops the same entries in every member; one member's mask is not another's."""
    q, k, v = x((3,))
    mask = torch.tensor([[[True] * 6], [[True] * 4 + [False] * 2], [[False] * 6]])
    out = torch.vmap(lambda q, v, mask: f(q, k[0], v, mask=mask, dropout_p=0.3, seed=2))(q, v, mask)
    for i in range(3):
        torch.testing.assert_close(out[i], f(q[i], k[0], v[i], mask=mask[i], dropout_p=0.3, seed=2))
    per_sample = torch.vmap(torch.func.grad(lambda q, v: f(q, k[0], v).square().sum()))(q, v)
    for i in range(3):
        true = torch.func.grad(lambda q, i=i: standard_attention(q, k[0], v[i]).square().sum())(q[i])
        torch.testing.assert_close(per_sample[i], true)


class Module(torch.nn.Module):
    def __init__(self, attention, **options):
        super().__init__()
        self.attention, self.options = attention, options

    def forward(self, q, mask):
        return self.attention(q, q, q, mask=mask, **self.options)


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"dropout_p": 0.2, "seed": 1}], ids=str)
@pytest.mark.parametrize("attention", [flash_attention, standard_attention])
def test_export_and_one_graph_with_a_mask(attention, options):
    """The mask's values are not known when the graph is made: it is right for another mask, and has gradients."""
    module, q = Module(attention, **options), torch.randn(1, 2, 8, 4)
    all_keys, some = torch.ones(1, 8, dtype=torch.bool), torch.arange(8)[None] < 5
    exported = torch.export.export(module, (q, all_keys)).module()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    for mask in (all_keys, some):
        torch.testing.assert_close(exported(q, mask), module(q, mask))
        a, b = (y := q.clone().requires_grad_()), (z := q.clone().requires_grad_())
        compiled(a, mask).square().sum().backward()
        module(b, mask).square().sum().backward()
        torch.testing.assert_close(y.grad, z.grad)
