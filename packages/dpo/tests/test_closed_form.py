"""The optimum of RLHF where answers can be enumerated, and that DPO's and PPO's gradients both lead there."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from dpo_cases import few, randn
from hypothesis import given
from hypothesis import strategies as st

from dpo import (
    best_of_n_kl,
    clipped_surrogate,
    dpo_loss,
    exact_rlhf_policy,
    gae,
    kl_rewards,
    log_partition,
    rlhf_objective,
)

BETAS = (0.05, 0.1, 0.5, 1.0, 5.0)


def problem(*shape):
    return randn(*shape).softmax(-1), randn(*shape, seed=1)


@few
@given(st.sampled_from(BETAS), st.integers(0, 1000))
def test_no_policy_is_better(beta, seed):
    ref, rewards = problem(3, 8)
    best = exact_rlhf_policy(ref, rewards, beta)
    J = rlhf_objective(best, ref, rewards, beta)
    torch.testing.assert_close(J, beta * log_partition(ref, rewards, beta), rtol=1e-10, atol=1e-12)
    other = (best.log() + 0.1 * randn(3, 8, seed=seed + 2)).softmax(-1)
    assert (rlhf_objective(other, ref, rewards, beta) <= J + 1e-12).all()


@few
@given(st.sampled_from(BETAS), st.floats(-1e3, 1e3))
def test_a_reward_of_the_prompt_alone_changes_nothing(beta, shift):
    ref, rewards = problem(3, 8)
    shifts = shift * torch.tensor([[1.0], [-1.0], [0.5]], dtype=torch.float64)
    a, b = exact_rlhf_policy(ref, rewards, beta), exact_rlhf_policy(ref, rewards + shifts, beta)
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_limits_of_beta():
    ref, rewards = problem(8)
    torch.testing.assert_close(exact_rlhf_policy(ref, rewards, 1e9), ref)
    best = exact_rlhf_policy(ref, rewards, 1e-6)
    assert best.isfinite().all()
    assert best[rewards.argmax()] == 1


def test_what_the_reference_never_says():
    ref, rewards = torch.tensor([0.5, 0.5, 0.0]).double(), torch.tensor([0.0, 1.0, 100.0]).double().requires_grad_()
    policy = exact_rlhf_policy(ref, rewards, 1.0)
    torch.testing.assert_close(policy.detach(), torch.tensor([0.0, 1.0, -math.inf]).double().softmax(-1))
    (d,) = torch.autograd.grad(policy[1] + log_partition(ref, rewards, 1.0), rewards)
    assert d.isfinite().all()
    assert rlhf_objective(torch.ones(3).double() / 3, ref, rewards.detach(), 1.0) == -math.inf
    assert rlhf_objective(policy.detach(), ref, rewards.detach(), 1.0).isfinite()


def test_best_of_n():
    """Stiennon et al. (2020) print 1.2, 3.2, 3.9, 4.5 and 5.2; and KL of the exact distribution of the best rank."""
    assert [round(best_of_n_kl(n), 1) for n in (8, 64, 128, 256, 512)] == [1.2, 3.2, 3.9, 4.5, 5.2]
    assert best_of_n_kl(1) == 0
    answers, n = 100_000, 16
    ranks = torch.arange(answers + 1, dtype=torch.float64) / answers
    best = (ranks**n).diff()
    kl = (torch.xlogy(best, best) + best * math.log(answers)).sum().item()
    assert kl == pytest.approx(best_of_n_kl(n), abs=1e-3)
    assert kl < best_of_n_kl(n)


@pytest.mark.parametrize("beta", BETAS)
def test_dpo_on_every_pair_arrives_at_the_closed_form(beta):
    """Labels in the shares that Bradley and Terry give; Newton's method, because β = 0.05 makes a narrow valley."""
    ref, rewards = problem(6)
    w, l = (torch.tensor(x) for x in zip(*[(i, j) for i in range(6) for j in range(6) if i != j], strict=True))
    share = (rewards[w] - rewards[l]).sigmoid()

    def loss(theta):
        logps = theta.log_softmax(-1)
        return (share * dpo_loss(logps[w], logps[l], ref.log()[w], ref.log()[l], beta)[0]).sum()

    theta = ref.log()
    while (d := torch.func.grad(loss)(theta)).abs().max() > 1e-10:
        H = torch.func.hessian(loss)(theta)
        step = torch.linalg.pinv(H, rtol=1e-9, hermitian=True) @ d
        theta = theta - step * min(1.0, 1.0 / step.norm().item())
    optimum = exact_rlhf_policy(ref, rewards, beta)
    assert (theta.softmax(-1) - optimum).abs().sum() / 2 < 1e-6


LENGTH, WORDS = 2, 3
ANSWERS = torch.tensor(list(product(range(WORDS), repeat=LENGTH)))


def answers_logps(theta):
    """Of each token of the nine answers of two words: the second's distribution depends on the first."""
    first, second = theta[:WORDS].log_softmax(-1), theta[WORDS:].view(WORDS, WORDS).log_softmax(-1)
    return torch.stack([first[ANSWERS[:, 0]], second[ANSWERS[:, 0], ANSWERS[:, 1]]], -1)


def ppo_gradient(theta, ref_theta, scores, beta, values):
    """Its expectation: each answer weighted by its probability, and the token mean of one answer made a sum."""
    mask = torch.ones(1, LENGTH, dtype=torch.bool)

    def surrogate(changed):
        new, old, ref = answers_logps(changed), answers_logps(theta).detach(), answers_logps(ref_theta)
        total = torch.zeros((), dtype=torch.float64)
        for i in range(len(ANSWERS)):
            rewards = kl_rewards(scores[i : i + 1], old[i : i + 1], ref[i : i + 1], mask, beta)
            advantages, _ = gae(rewards, values[i : i + 1], mask, 1.0, 1.0)
            loss, _ = clipped_surrogate(new[i : i + 1], old[i : i + 1], advantages, mask)
            total = total - old[i].sum().exp() * LENGTH * loss
        return total

    return torch.autograd.functional.jacobian(surrogate, theta)


@pytest.mark.parametrize("beta", BETAS)
def test_ppos_exact_gradient_is_the_objectives_and_vanishes_at_the_closed_form(beta):
    """Whatever the value function says: of what was written before, it is only a baseline."""
    theta, ref_theta, scores = randn(WORDS + WORDS**2), randn(WORDS + WORDS**2, seed=1), randn(9, seed=2)
    baseline = torch.stack([randn(1, seed=3).expand(9), randn(WORDS, seed=4)[ANSWERS[:, 0]]], -1)
    ref = answers_logps(ref_theta).sum(-1).exp()

    def J(theta):
        return rlhf_objective(answers_logps(theta).sum(-1).exp(), ref, scores, beta)

    exact = torch.autograd.functional.jacobian(J, theta)
    torch.testing.assert_close(ppo_gradient(theta, ref_theta, scores, beta, baseline), exact, rtol=1e-10, atol=1e-12)
    assert exact.norm() > 1e-2

    best = exact_rlhf_policy(ref, scores, beta).view(WORDS, WORDS)
    optimum = torch.cat([best.sum(-1).log(), (best / best.sum(-1, keepdim=True)).log().flatten()])
    torch.testing.assert_close(answers_logps(optimum).sum(-1).exp(), best.flatten())
    assert ppo_gradient(optimum, ref_theta, scores, beta, baseline).abs().max() < 1e-12


def test_ppos_exact_gradient_leads_to_the_closed_form():
    ref_theta, scores, beta = randn(WORDS + WORDS**2, seed=1), randn(9, seed=2), 1.0
    ref = answers_logps(ref_theta).sum(-1).exp()
    theta, values = ref_theta.clone(), torch.zeros(9, LENGTH, dtype=torch.float64)
    optimum = exact_rlhf_policy(ref, scores, beta)
    before = (ref - optimum).abs().sum() / 2
    for _ in range(60):
        theta = theta + 4 * ppo_gradient(theta, ref_theta, scores, beta, values)
    assert before > 0.1
    assert (answers_logps(theta).sum(-1).exp() - optimum).abs().sum() / 2 < 1e-3
