"""Sections 4 and 5 on the enumerable problem: the optimum, its value, classes of rewards, the limits of β."""

from __future__ import annotations

from itertools import pairwise, permutations

import torch
import torch.nn.functional as F
from torch import Tensor

from papertest.claims import Measured, Run, claim

import dpo
from dpo.reproduce.exact.problem import BETAS, Problem, furthest, largest, minimised, optimum, part, problem, slope


def dpo_minimiser(given: Problem, beta: float) -> Tensor:
    """The policy with the least expected loss under the Bradley-Terry preferences of the rewards."""
    weights = given.preferences(given.rewards).flatten() / given.chosen.numel()

    def loss(logits: Tensor) -> Tensor:
        losses, _, _ = dpo.dpo_loss(*given.pairs(logits.log_softmax(-1)), beta)
        return (weights * losses).sum()

    return minimised(loss, given.ref.log()).softmax(-1)


@claim("dpo-optimum")
def dpo_optimum(run: Run) -> Measured:
    """All ordered pairs of answers, each weighed by its probability to be the preference.

    The details have how far the reference is from each optimum, and neighbouring optima from each other.
    """
    given = problem(run)
    optima = [optimum(given, beta) for beta in BETAS]
    found = {part(beta): furthest(dpo_minimiser(given, beta), best) for beta, best in zip(BETAS, optima, strict=True)}
    apart = [furthest(a, b) for a, b in pairwise(optima)]
    return Measured(found, {"reference": [furthest(given.ref, best) for best in optima], "apart": apart})


@claim("optimum-value")
def optimum_value(run: Run) -> Measured:
    """The others: 500 policies that have π*'s logits with noise of 0.001 to 1, and 500 with logits from N(0, 3)."""
    given = problem(run)
    draw = torch.Generator().manual_seed(run.seed + 1)
    difference, above = 0.0, -float("inf")
    values: dict[str, list[float]] = {}
    for beta in BETAS:
        best = optimum(given, beta)
        value = beta * dpo.log_partition(given.ref, given.rewards, beta)
        difference = max(difference, largest(dpo.rlhf_objective(best, given.ref, given.rewards, beta) - value))
        noise = torch.randn(1000, *best.shape, generator=draw, dtype=torch.float64)
        near = best.log() + noise[:500] * torch.logspace(-3, 0, 500, dtype=torch.float64)[:, None, None]
        others = torch.cat((near, 3 * noise[500:])).softmax(-1)
        ref, rewards = given.ref.expand_as(others), given.rewards.expand_as(others)
        above = max(above, (dpo.rlhf_objective(others, ref, rewards, beta) - value).max().item())
        values[part(beta)] = value.tolist()
    return Measured({"value": difference, "others": above}, {"beta_log_z": values})


def surrogate_gradient(logits: Tensor, given: Problem, beta: float) -> Tensor:
    """The gradient that PPO's surrogate has at ratio 1, in expectation: each answer is a token, weighed by its
    probability, and its advantage is the penalised reward less the policy's mean of it."""
    logits = logits.clone().requires_grad_()
    logps = logits.log_softmax(-1)
    old = logps.detach()
    mask = torch.ones(old.numel(), 1, dtype=torch.bool)
    rewards = dpo.kl_rewards(given.rewards.flatten(), old.view(-1, 1), given.ref.log().view(-1, 1), mask, beta)
    penalised = rewards.view_as(old)
    advantages = penalised - (old.exp() * penalised).sum(-1, keepdim=True)
    weighed = (advantages * old.exp() * old.numel()).view(-1, 1)
    loss, _ = dpo.clipped_surrogate(logps.view(-1, 1), old.view(-1, 1), weighed, mask)
    (gradient,) = torch.autograd.grad(-loss, logits)
    return gradient


@claim("policy-gradient-optimum")
def policy_gradient_optimum(run: Run) -> Measured:
    """At the reference and at 20 random policies; the ascent takes natural steps of half the way, from the reference.

    The details have the total variation to π* after each tenth of 80 steps, for the smallest and the largest β.
    """
    given = problem(run)
    draw = torch.Generator().manual_seed(run.seed + 1)
    starts = [given.ref.log(), *torch.randn(20, *given.ref.shape, generator=draw, dtype=torch.float64)]
    gradient, distance = 0.0, 0.0
    ways: dict[str, list[float]] = {}
    for beta in BETAS:

        def objective(logits: Tensor, beta: float = beta) -> Tensor:
            return dpo.rlhf_objective(logits.softmax(-1), given.ref, given.rewards, beta).sum()

        for logits in starts:
            gradient = max(gradient, largest(surrogate_gradient(logits, given, beta) - slope(objective, logits)))
        logits, best, way = given.ref.log(), optimum(given, beta), []
        for step in range(80):
            natural = surrogate_gradient(logits, given, beta) / logits.softmax(-1)  # Fisher's inverse, up to a shift
            logits = (logits + natural / (2 * beta)).log_softmax(-1)
            if step % 8 == 7:
                way.append(furthest(logits.exp(), best))
        distance = max(distance, way[-1])
        ways[part(beta)] = way
    return Measured(
        {"gradient": gradient, "distance": distance}, {"way": {p: ways[p] for p in (part(BETAS[0]), part(BETAS[-1]))}}
    )


@claim("reward-classes")
def reward_classes(run: Run) -> dict[str, float]:
    """Lemmas 1 and 2, and Eq. 2; β = 0.05 to 5."""
    given = problem(run)
    shifts = torch.tensor([[-100.0], [-1.0], [10.0], [100.0]], dtype=torch.float64)
    moved = given.rewards + shifts
    losses = [dpo.reward_loss(r[:, given.chosen].flatten(), r[:, given.rejected].flatten())
              for r in (given.rewards, moved)]  # fmt: skip
    policies = [largest(dpo.exact_rlhf_policy(given.ref, moved, beta) - optimum(given, beta)) for beta in BETAS]
    preference = largest(given.preferences(moved) - given.preferences(given.rewards))
    return {"preference": preference, "loss": largest(losses[1] - losses[0]), "policy": max(policies)}


@claim("partition-cancels")
def partition_cancels(run: Run) -> Measured:
    """Eqs. 5 and 6; the details have the range of log Z."""
    given = problem(run)
    preference, reward = 0.0, 0.0
    log_z: list[float] = []
    for beta in BETAS:
        logps = optimum(given, beta).log()
        losses, _, _ = dpo.dpo_loss(*given.pairs(logps), beta)
        preference = max(preference, largest((-losses).exp() - given.preferences(given.rewards).flatten()))
        implied = dpo.implicit_reward(logps.flatten(), given.ref.log().flatten(), beta).view_as(logps)
        z = dpo.log_partition(given.ref, given.rewards, beta)
        reward = max(reward, largest(implied + beta * z[:, None] - given.rewards))
        log_z += z.tolist()
    return Measured({"preference": preference, "reward": reward}, {"log_z": [min(log_z), max(log_z)]})


@claim("reward-representation")
def reward_representation(run: Run) -> dict[str, float]:
    """Theorem 1 and Proposition 1: 200 rewards of spreads from 0.01 to 10, β = 0.5."""
    beta = 0.5
    given = problem(run)
    draw = torch.Generator().manual_seed(run.seed + 1)
    spreads = torch.logspace(-2, 1, 200, dtype=torch.float64)[:, None]
    rewards = spreads * torch.randn(200, given.ref.shape[1], generator=draw, dtype=torch.float64)
    ref = given.ref[:1].expand_as(rewards)
    projected = rewards - beta * dpo.log_partition(ref, rewards, beta)[:, None]  # Eq. 8
    policy = dpo.exact_rlhf_policy(ref, rewards, beta)
    implied = dpo.implicit_reward(policy.log().flatten(), ref.log().flatten(), beta).view_as(rewards)
    shift = projected - rewards
    sums = (ref * (projected / beta).exp()).sum(-1)  # Eq. 9
    moved = torch.stack([(ref * (projected / beta + way).exp()).sum(-1) for way in (-0.1, 0.1)])
    return {
        "form": largest(projected - implied), "class": largest(shift - shift[:, :1]), "sum": largest(sums - 1),
        "other": (moved - 1).abs().min().item(),
    }  # fmt: skip


def ranked(rewards: Tensor) -> Tensor:
    """Eq. 18: log-probability of the ranking in which the answers stand; (…, K) -> (…)."""
    return (rewards - rewards.flip(-1).logcumsumexp(-1).flip(-1)).sum(-1)


@claim("plackett-luce")
def plackett_luce(run: Run) -> dict[str, float]:
    """Eqs. 18 to 20 with β = 0.5: the optimal policy's implicit rewards of the first two and five answers."""
    beta = 0.5
    given = problem(run)
    logps = optimum(given, beta).log()
    implied = dpo.implicit_reward(logps.flatten(), given.ref.log().flatten(), beta).view_as(logps)
    ref = given.ref.log()
    pair, _, _ = dpo.dpo_loss(logps[:, 0], logps[:, 1], ref[:, 0], ref[:, 1], beta)
    every = torch.tensor(list(permutations(range(5))))
    five = ranked(implied[:, every])
    return {
        "two": largest(pair + ranked(implied[:, :2])), "five": largest(five - ranked(given.rewards[:, every])),
        "sum": largest(five.exp().sum(-1) - 1),
    }  # fmt: skip


@claim("beta-limits")
def beta_limits(run: Run) -> Measured:
    """The details have how far the best answer's reward is ahead."""
    given = problem(run)
    best = F.one_hot(given.rewards.argmax(-1), given.rewards.shape[1]).double()
    first, second = given.rewards.topk(2).values.T
    kl = []
    for beta in BETAS:
        policy = optimum(given, beta)
        kl.append((torch.xlogy(policy, policy) - torch.xlogy(policy, given.ref)).sum(-1).mean().item())
    value = {
        "reference": furthest(optimum(given, 1e6), given.ref),
        "best": furthest(optimum(given, 1e-4), best),
        "kl": kl,
    }
    return Measured(value, {"ahead": (first - second).tolist()})
