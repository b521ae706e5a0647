"""The losses on pairs against what their papers print, written out by hand in NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from dpo_cases import few, four
from hypothesis import given
from hypothesis import strategies as st

from dpo import (
    dpo_gradient_weight,
    dpo_loss,
    implicit_reward,
    ipo_loss,
    kto_loss,
    unlikelihood_loss,
    unweighted_loss,
)

betas = st.floats(0.01, 5)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def log_ratios():
    w, l, ref_w, ref_l = (y.numpy() for y in four())
    return w - ref_w, l - ref_l


@few
@given(betas, st.floats(0, 0.49))
def test_dpo_is_eq_7(beta, eps):
    w, l = log_ratios()
    losses, chosen, rejected = dpo_loss(*four(), beta, eps)
    h = beta * (w - l)
    np.testing.assert_allclose(losses, (1 - eps) * np.logaddexp(0, -h) + eps * np.logaddexp(0, h), rtol=1e-12)
    np.testing.assert_allclose(chosen, beta * w, rtol=1e-12)
    np.testing.assert_allclose(rejected, beta * l, rtol=1e-12)
    np.testing.assert_allclose(implicit_reward(four()[0], four()[2], beta), beta * w, rtol=1e-12)


def gradients(f, beta):
    """Of the summed losses, for the chosen and the rejected log-probabilities."""
    w, l, ref_w, ref_l = four()
    w.requires_grad_()
    l.requires_grad_()
    f(w, l, ref_w, ref_l, beta)[0].sum().backward()
    return w.grad, l.grad


@few
@given(betas)
def test_the_gradient_has_the_weight(beta):
    weight = dpo_gradient_weight(*four(), beta)
    for d, sign in zip(gradients(dpo_loss, beta), (-1, 1), strict=True):
        torch.testing.assert_close(d, sign * weight, rtol=1e-12, atol=1e-15)
    w, l = log_ratios()
    np.testing.assert_allclose(weight, beta * sigmoid(beta * (l - w)), rtol=1e-12)


@few
@given(betas)
def test_without_it_the_gradient_is_beta_for_every_pair(beta):
    for d, sign in zip(gradients(unweighted_loss, beta), (-1, 1), strict=True):
        assert (d == sign * beta).all()


def test_unweighted_is_unlikelihood_up_to_beta_and_a_constant():
    w, l, ref_w, ref_l = four()
    torch.testing.assert_close(
        unweighted_loss(w, l, ref_w, ref_l, 0.3)[0], 0.3 * (unlikelihood_loss(w, l, 1) + ref_w - ref_l)
    )


@few
@given(st.floats(0, 1))
def test_unlikelihood(alpha):
    w, l, *_ = four()
    torch.testing.assert_close(unlikelihood_loss(w, l, alpha), alpha * l - w)


@few
@given(betas)
def test_ipo_is_eq_17(tau):
    w, l = log_ratios()
    losses, chosen, rejected = ipo_loss(*four(), tau)
    np.testing.assert_allclose(losses, ((w - l) - 1 / (2 * tau)) ** 2, rtol=1e-10)
    np.testing.assert_allclose(chosen, tau * w, rtol=1e-12)
    np.testing.assert_allclose(rejected, tau * l, rtol=1e-12)


@few
@given(betas, st.floats(-3, 3))
def test_kto_is_eq_8(beta, kl):
    policy, _, ref, _ = four()
    good = torch.tensor([True, False, True, True, False])
    losses, rewards = kto_loss(policy, ref, good, kl, beta, 1.3, 0.7)
    r, z = (policy - ref).numpy(), max(kl, 0)
    expected = np.where(good, 1.3 * (1 - sigmoid(beta * (r - z))), 0.7 * (1 - sigmoid(beta * (z - r))))
    np.testing.assert_allclose(losses, expected, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(rewards, beta * r, rtol=1e-12)


def test_no_gradient_through_ktos_kl():
    policy, _, ref, _ = four()
    policy.requires_grad_()
    good = torch.ones(5, dtype=torch.bool)
    with_graph = kto_loss(policy, ref, good, (policy - ref).square().mean(), 0.1)[0].sum()
    number = kto_loss(policy, ref, good, float((policy - ref).square().mean().detach()), 0.1)[0].sum()
    a, b = (torch.autograd.grad(y, policy)[0] for y in (with_graph, number))
    assert torch.equal(a, b)


def test_an_untrained_policy_has_log_2():
    policy = four(dtype=torch.float32)[:2]
    losses, *rewards = dpo_loss(*policy, *policy)
    assert (losses == torch.tensor(2.0).log()).all()
    assert not torch.stack(rewards).any()


@pytest.mark.parametrize("loss", [dpo_loss, ipo_loss, unweighted_loss])
def test_rewards_are_detached_and_the_reference_is_a_constant(loss):
    leaves = [y.requires_grad_() for y in four()]
    losses, *rewards = loss(*leaves, 0.1)
    assert not any(reward.requires_grad for reward in rewards)
    losses.sum().backward()
    assert [leaf.grad is None for leaf in leaves] == [False, False, True, True]


@few
@given(st.floats(-50, 50))
def test_what_depends_on_the_prompt_alone_cancels(shift):
    w, l, ref_w, ref_l = four()
    torch.testing.assert_close(dpo_loss(w + shift, l + shift, ref_w, ref_l)[0], dpo_loss(w, l, ref_w, ref_l)[0])


def test_smoothing_is_the_mean_over_flipped_labels():
    w, l, ref_w, ref_l = four()
    mixed = 0.8 * dpo_loss(w, l, ref_w, ref_l)[0] + 0.2 * dpo_loss(l, w, ref_l, ref_w)[0]
    torch.testing.assert_close(dpo_loss(w, l, ref_w, ref_l, label_smoothing=0.2)[0], mixed)


@pytest.mark.parametrize("margin", [1e4, -1e4])
def test_far_margins_neither_overflow_nor_lose_their_gradient(margin):
    w = torch.tensor([margin], requires_grad=True)
    losses, *_ = dpo_loss(w, *torch.zeros(3, 1), beta=1.0)
    losses.sum().backward()
    assert losses.item() == max(0.0, -margin)
    assert w.grad.item() == (0 if margin > 0 else -1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened(dtype):
    halves = [y.to(dtype) for y in four()]
    losses, *_ = dpo_loss(*halves)
    assert losses.dtype == torch.float32
    assert torch.equal(losses, dpo_loss(*[y.float() for y in halves])[0])


def test_autocast_changes_nothing():
    with torch.autocast("cpu", torch.bfloat16):
        losses, *_ = dpo_loss(*four(dtype=torch.float32))
    assert torch.equal(losses, dpo_loss(*four(dtype=torch.float32))[0])


def test_minimum_of_conservative_dpo():
    """Where σ(margin) = 1 − ε, and not at infinity."""
    margin = torch.linspace(-10, 10, 20001, dtype=torch.float64)
    zero = torch.zeros_like(margin)
    losses, *_ = dpo_loss(margin, zero, zero, zero, 1.0, 0.1)
    assert math.isclose(margin[losses.argmin()].item(), math.log(0.9 / 0.1), abs_tol=1e-3)
