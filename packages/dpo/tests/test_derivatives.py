"""Every derivative of every function, in float64, against the formula of its paper written out: right, or refused."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from dpo_cases import answers, four, randn, rows

import dpo
from dpo import logps as module

W, L, REF_W, REF_L = four()
GOOD = torch.tensor([True, False, True, True, False])
GIVEN, MASK = answers()
REF, REWARDS = randn(3, 8).softmax(-1), randn(3, 8, seed=1)
LOGITS, LABELS, ANSWER = rows()


def ratios(w, l):
    return (w - REF_W) - (l - REF_L)


def eq_7(y):
    ratio = (y - GIVEN["old_logps"])[MASK].exp()
    A = GIVEN["advantages"][MASK]
    return -torch.where(A > 0, torch.where(ratio > 1.2, 1.2, ratio), torch.where(ratio < 0.8, 0.8, ratio)) @ A / len(A)


def value(y):
    v, old, R = y[MASK], GIVEN["old_values"][MASK], GIVEN["returns"][MASK]
    near = torch.where(v > old + 0.2, old + 0.2, torch.where(v < old - 0.2, old - 0.2, v))
    return torch.where((v - R).abs() > (near - R).abs(), v - R, near - R).square().mean() / 2


def one_token_at_a_time(y):
    return sum(y[row, t - 1].log_softmax(-1)[LABELS[row, t]].sin() for row, t in ANSWER.nonzero().tolist())


FUNCTIONS = {
    "dpo, chosen": (W, lambda y: dpo.dpo_loss(y, L, REF_W, REF_L)[0].sum(),
                    lambda y: (1 + (-0.1 * ratios(y, L)).exp()).log().sum()),
    "dpo, rejected": (L, lambda y: dpo.dpo_loss(W, y, REF_W, REF_L)[0].sum(),
                      lambda y: (1 + (-0.1 * ratios(W, y)).exp()).log().sum()),
    "cdpo": (W, lambda y: dpo.dpo_loss(y, L, REF_W, REF_L, 0.1, 0.2)[0].sum(),
             lambda y: (0.8 * (1 + (-0.1 * ratios(y, L)).exp()).log()
                        + 0.2 * (1 + (0.1 * ratios(y, L)).exp()).log()).sum()),
    "ipo": (W, lambda y: dpo.ipo_loss(y, L, REF_W, REF_L, 0.3)[0].sum(),
            lambda y: (ratios(y, L) - 1 / 0.6).square().sum()),
    "kto": (W, lambda y: dpo.kto_loss(y, REF_W, GOOD, 1.5)[0].sum(),
            lambda y: (1 / (1 + (0.2 * GOOD.double() - 0.1).mul(y - REF_W - 1.5).exp())).sum()),
    "unlikelihood": (W, lambda y: dpo.unlikelihood_loss(y.square(), L.sin(), 0.5).sum(),
                     lambda y: (0.5 * L.sin() - y * y).sum()),
    "unweighted": (W, lambda y: dpo.unweighted_loss(y.sin(), L, REF_W, REF_L)[0].sum(),
                   lambda y: -0.1 * ratios(y.sin(), L).sum()),
    "implicit reward": (W, lambda y: dpo.implicit_reward(y, REF_W).square().sum(),
                        lambda y: (0.1 * (y - REF_W)).square().sum()),
    "weight": (W, lambda y: dpo.dpo_gradient_weight(y, L, REF_W, REF_L).sum(),
               lambda y: (0.1 / (1 + (0.1 * ratios(y, L)).exp())).sum()),
    "reward": (W, lambda y: dpo.reward_loss(y, L).sum(), lambda y: F.softplus(L - y).sum()),
    "ranking": (REWARDS, lambda y: dpo.ranking_loss(y).sum(),
                lambda y: sum(F.softplus(y[:, j] - y[:, i]).sum() for j in range(8) for i in range(j)) / 28),
    "logps": (LOGITS, lambda y: dpo.token_logps(y, LABELS, ANSWER).sin().sum(), one_token_at_a_time),
    "surrogate": (GIVEN["logps"], lambda y: dpo.clipped_surrogate(y, GIVEN["old_logps"], GIVEN["advantages"], MASK)[0],
                  eq_7),
    "value": (GIVEN["values"], lambda y: dpo.value_loss(y, GIVEN["old_values"], GIVEN["returns"], MASK), value),
    "optimum": (REWARDS, lambda y: dpo.exact_rlhf_policy(REF, y, 0.5).square().sum(),
                lambda y: ((REF * (y / 0.5).exp()) / (REF * (y / 0.5).exp()).sum(-1, keepdim=True)).square().sum()),
    "partition": (REWARDS, lambda y: dpo.log_partition(REF, y, 0.5).sum(),
                  lambda y: (REF * (y / 0.5).exp()).sum(-1).log().sum()),
    "objective": (REWARDS, lambda y: dpo.rlhf_objective(y.softmax(-1), REF, y, 0.5).sum(),
                  lambda y: (y.softmax(-1) * (y - 0.5 * (y.log_softmax(-1) - REF.log()))).sum()),
}  # fmt: skip


def dual(f, y):
    with torch.autograd.forward_ad.dual_level():
        return torch.autograd.forward_ad.unpack_dual(f(torch.autograd.forward_ad.make_dual(y, y.cos()))).tangent


def twice(f, y):
    y = y.clone().requires_grad_()
    (first,) = torch.autograd.grad(f(y), y, create_graph=True)
    if not first.requires_grad:
        return torch.zeros_like(y)
    second = torch.autograd.grad(first.square().sum(), y, allow_unused=True)[0]
    return torch.zeros_like(y) if second is None else second


DERIVATIVES = {
    "backward": lambda f, y: torch.autograd.grad(f(z := y.clone().requires_grad_()), z)[0],
    "func.grad": lambda f, y: torch.func.grad(f)(y),
    "func.vjp": lambda f, y: torch.func.vjp(f, y)[1](torch.tensor(2.0).double())[0],
    "jacrev": lambda f, y: torch.func.jacrev(f)(y),
    "jvp": lambda f, y: torch.func.jvp(f, (y,), (y.cos(),))[1],
    "dual numbers": dual,
    "second, backward": twice,
    "second, func.grad": lambda f, y: torch.func.grad(lambda z: torch.func.grad(f)(z).square().sum())(y),
    "hessian": lambda f, y: torch.func.hessian(f)(y),
    "jacfwd": lambda f, y: torch.func.jacfwd(f)(y),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("derivative", DERIVATIVES)
def test_table(derivative, name, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 30)
    y, ours, formula = FUNCTIONS[name]
    mask = MASK if y.shape == MASK.shape else torch.ones_like(y, dtype=torch.bool)
    y = y.masked_fill(~mask, 0.3)
    ours, formula = (DERIVATIVES[derivative](f, y) for f in (ours, formula))
    torch.testing.assert_close(ours, formula, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in ("surrogate", "value")])
def test_gradcheck(name):
    y, f, _ = FUNCTIONS[name]
    assert torch.autograd.gradcheck(f, y.clone().requires_grad_(), fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda z: f(z).sin(), y.clone().requires_grad_(), fast_mode=True)
