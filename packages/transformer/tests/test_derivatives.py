"""Every derivative of every function: right, against torch's own or finite differences, or refused by name."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from transformer import LabelSmoothing, MultiHeadAttention, Transformer, TransformerConfig
from transformer.attention import attention, causal_mask

MASK = torch.tensor([[[[True, False, True, True]]]])
RIGHT = None
REFUSED = (RuntimeError, "derivative|forward AD")  # torch's words for a kernel that has none
NO_BRANCH = (RuntimeError, "data-dependent|control flow|boolean|item")  # a pad is looked for among the targets


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def eq_1(q):
    return attention(q[:, None], q[:, None].sin(), q[:, None].cos(), MASK)[0]


def true_eq_1(q):
    k = q.sin()[:, MASK[0, 0, 0]]
    return ((q @ k.mT / math.sqrt(6)).softmax(-1) @ q.cos()[:, MASK[0, 0, 0]])[:, None]


def heads(fused, causal):
    torch.manual_seed(0)
    module = MultiHeadAttention(6, 2, fused=fused).double().requires_grad_(False)
    return lambda x: module(x, x, None if causal else MASK, causal=causal)


def true_heads(causal):
    """The same with torch's products alone."""
    torch.manual_seed(0)
    module = MultiHeadAttention(6, 2).double().requires_grad_(False)
    seen = causal_mask(4) if causal else MASK

    def run(x):
        q, k, v = (W(x).unflatten(-1, (2, 3)).transpose(1, 2) for W in (module.W_Q, module.W_K, module.W_V))
        weights = ((q @ k.mT) / math.sqrt(3) - torch.where(seen, 0.0, 1e9)).softmax(-1)
        return module.W_O((weights @ v).transpose(1, 2).flatten(2))

    return run


TARGETS = torch.tensor([[1, 2, 0, 5]])
LOSSES = {f"loss {s} {pad}": (s, pad) for s in (0.0, 0.1) for pad in (None, 0)}


def true_loss(smoothing, pad):
    return lambda x: F.cross_entropy(
        x[0], TARGETS[0], label_smoothing=smoothing, ignore_index=-100 if pad is None else pad
    )


FUNCTIONS = {"eq. 1": (eq_1, true_eq_1)}
FUNCTIONS |= {
    f"heads {'fused' if fused else 'plain'} {'causal' if causal else 'mask'}": (
        heads(fused, causal),
        true_heads(causal),
    )
    for fused in (False, True)
    for causal in (False, True)
}
FUNCTIONS |= {
    name: ((lambda x, s=s, pad=pad: LabelSmoothing(s, pad)(x, TARGETS)), true_loss(s, pad))
    for name, (s, pad) in LOSSES.items()
}


def of(f):
    return lambda x: f(x).square().sum()


def twice(f, x):
    x = x.clone().requires_grad_()
    (first,) = torch.autograd.grad(of(f)(x), x, create_graph=True)
    return torch.autograd.grad(first.square().sum(), x)[0]


def backward(f, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(of(f)(x), x)[0]


DERIVATIVES = {
    "backward": backward,
    "func.grad": lambda f, x: torch.func.grad(of(f))(x),
    "jacrev": lambda f, x: torch.func.jacrev(f)(x),
    "jvp": lambda f, x: torch.func.jvp(of(f), (x,), (x.cos(),))[1],
    "second": twice,
    "hessian": lambda f, x: torch.func.hessian(of(f))(x),
}
FIRST = ("backward", "func.grad", "jacrev")
TABLE = {name: {d: RIGHT if d in FIRST or "fused" not in name else REFUSED for d in DERIVATIVES} for name in FUNCTIONS}


@pytest.mark.filterwarnings("ignore:.*vmap.*:UserWarning")
@pytest.mark.parametrize(("name", "derivative"), [(name, d) for name in TABLE for d in TABLE[name]])
def test_table(name, derivative):
    (ours, true), expected, run = FUNCTIONS[name], TABLE[name][derivative], DERIVATIVES[derivative]
    x = random(1, 4, 6)
    if expected is not RIGHT:
        with pytest.raises(expected[0], match=expected[1]):
            run(ours, x)
        return
    torch.testing.assert_close(run(ours, x), run(true, x), rtol=1e-9, atol=1e-11)


@pytest.mark.filterwarnings("ignore:.*vmap.*:UserWarning")
@pytest.mark.parametrize("name", [name for name in FUNCTIONS if not name.endswith(" 0")])
def test_vmap_is_each_alone(name):
    f, x = FUNCTIONS[name][0], random(3, 1, 4, 6)
    together, gradients = torch.vmap(f)(x), torch.vmap(torch.func.grad(of(f)))(x)
    for i in range(3):
        torch.testing.assert_close(together[i], f(x[i]))
        torch.testing.assert_close(gradients[i], backward(f, x[i]))


def test_vmap_over_targets_needs_pad_none():
    x, targets = random(3, 4, 6), torch.tensor([[1, 2, 3, 4], [5, 0, 1, 2], [2, 2, 2, 0]])
    together = torch.vmap(LabelSmoothing(0.1, None))(x, targets)
    for i in range(3):
        torch.testing.assert_close(together[i], LabelSmoothing(0.1, None)(x[i], targets[i]))
    with pytest.raises(NO_BRANCH[0], match=NO_BRANCH[1]):
        torch.vmap(LabelSmoothing(0.1, 0))(x, targets)


@pytest.mark.parametrize("fused", [False, True])
def test_the_gradient_of_every_weight_is_that_of_finite_differences(fused):
    """Of the whole model's loss, with padding on both sides."""
    torch.manual_seed(0)
    config = TransformerConfig(9, 1, 4, 4, 2, positions="learned", max_len=5, fused=fused, dropout=0.0)
    model = Transformer(config).double()
    src, tgt = torch.tensor([[0, 5, 3, 0], [4, 2, 2, 7]]), torch.tensor([[1, 3, 0], [1, 4, 4]])
    names, values = zip(*model.named_parameters(), strict=True)

    def loss(*weights):
        logits = torch.func.functional_call(model, dict(zip(names, weights, strict=True)), (src, tgt))
        return LabelSmoothing()(logits, tgt.roll(-1, 1).masked_fill(tgt == 0, 0))

    assert torch.autograd.gradcheck(loss, values, fast_mode=True)


class Causal(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = MultiHeadAttention(6, 2, fused=True)

    def forward(self, x, mask):
        return self.attention(x, x, mask) + self.attention(x, x, causal=True)


def test_attention_is_exported_and_compiled_as_one_graph():
    """The mask's values are not known then."""
    module, x = Causal(), random(1, 4, 6).float()
    exported = torch.export.export(module, (x, torch.ones_like(MASK))).module()
    compiled = torch.compile(module, fullgraph=True, backend="eager")
    for f in (exported, compiled):
        torch.testing.assert_close(f(x, MASK), module(x, MASK))
