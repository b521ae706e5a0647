"""The gradient of DPO's loss, and what PPO and GAE are said to be: exact statements on random numbers in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from papertest.claims import Measured, Run, claim

import dpo
from dpo.reproduce.exact.problem import Problem, largest, problem


def in_the_logits(given: Problem, logits: Tensor, beta: float) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient of the loss summed over pairs, by automatic differentiation; β σ(r̂_l − r̂_w) of each pair; and
    ∇ log π(y_w) − ∇ log π(y_l) of each, (prompts · pairs, prompts, answers)."""
    logits = logits.clone().requires_grad_()
    losses, _, _ = dpo.dpo_loss(*given.pairs(logits.log_softmax(-1)), beta)
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    weights = dpo.dpo_gradient_weight(*given.pairs(logits.detach().log_softmax(-1)), beta)
    answers = torch.eye(logits.shape[1], dtype=logits.dtype)
    one_prompt = answers[given.chosen] - answers[given.rejected]  # of the logarithm of a softmax: e_w − e_l
    directions = torch.zeros(len(logits), len(one_prompt), *logits.shape, dtype=logits.dtype)
    for prompt in range(len(logits)):
        directions[prompt, :, prompt] = one_prompt
    return gradient, weights, directions.flatten(0, 1)


def labelled(run: Run) -> tuple[Problem, Tensor]:
    """The problem with each pair of answers in one order alone, the first as the chosen; logits of a policy."""
    given = problem(run)
    once = given.chosen < given.rejected
    draw = torch.Generator().manual_seed(run.seed + 1)
    logits = given.ref.log() + 3 * torch.randn(given.ref.shape, generator=draw, dtype=torch.float64)
    return Problem(given.rewards, given.ref, given.chosen[once], given.rejected[once]), logits


@claim("gradient-weight")
def gradient_weight(run: Run) -> dict[str, float]:
    """Section 4; β = 0.05, 0.1, 1 and 5. Wrongly ordered: the implicit reward of y_l is above that of y_w."""
    given, logits = labelled(run)
    formula, wrongly = 0.0, 0
    for beta in (0.05, 0.1, 1.0, 5.0):
        gradient, weights, directions = in_the_logits(given, logits, beta)
        printed = -torch.einsum("n,npa->pa", weights, directions)
        formula = max(formula, largest(gradient - printed))
        chosen, rejected, ref_chosen, ref_rejected = given.pairs(logits.log_softmax(-1))
        wrong = rejected - ref_rejected > chosen - ref_chosen
        wrongly += int((wrong != (weights > beta / 2)).sum())
    return {"formula": formula, "wrongly": wrongly}


@claim("appendix-gradient")
def appendix_gradient(run: Run) -> Measured:
    """β = 0.5. On A.4's own Equation 21, in whose loss the answers have changed places, its last line is the gradient
    with the sign turned: the details have the difference from that as it stands and turned, and Section 4's."""
    beta = 0.5
    given, logits = labelled(run)
    gradient, weights, directions = in_the_logits(given, logits, beta)
    last_line = -torch.einsum("n,npa->pa", beta - weights, directions)  # σ(r̂_w − r̂_l) = 1 − σ(r̂_l − r̂_w)

    swapped = Problem(given.rewards, given.ref, given.rejected, given.chosen)
    of_21, _, _ = in_the_logits(swapped, logits, beta)
    size = largest(gradient)
    details = {
        "section_4": largest(gradient + torch.einsum("n,npa->pa", weights, directions)) / size,
        "equation_21": largest(of_21 - last_line) / size, "equation_21_turned": largest(of_21 + last_line) / size,
    }  # fmt: skip
    return Measured(largest(gradient - last_line) / size, details)


@claim("clip-first-order")
def clip_first_order(run: Run) -> Measured:
    """The details have the shares of the grid on which both are equal and on which clipping makes less of it."""
    draw = torch.Generator().manual_seed(run.seed)
    old, A = torch.randn(2, 64, 8, generator=draw, dtype=torch.float64)
    mask = torch.rand(64, 8, generator=draw) > 0.3
    mask[:, 0] = True
    logps = old.clone().requires_grad_()
    clipped, _ = dpo.clipped_surrogate(logps, old, A, mask)
    plain = -((logps - old).exp() * A)[mask].mean()
    gradients = [torch.autograd.grad(loss, logps)[0] for loss in (clipped, plain)]

    ratios = torch.logspace(-1, 1, 200, dtype=torch.float64)
    above = []
    for advantage in (-2.0, -0.5, 0.5, 2.0):
        for ratio in ratios:
            one = torch.ones(1, 1, dtype=torch.float64)
            loss, _ = dpo.clipped_surrogate(ratio.log() * one, 0 * one, advantage * one, one > 0)
            above.append(-loss.item() - ratio.item() * advantage)
    value = {
        "value": abs(clipped.item() - plain.item()), "gradient": largest(gradients[0] - gradients[1]),
        "above": max(above),
    }  # fmt: skip
    less = sum(each < -1e-12 for each in above) / len(above)
    return Measured(value, {"less": less, "least": min(above)})


@claim("gae-limits")
def gae_limits(run: Run) -> dict[str, float]:
    """Answers of 1 to 12 tokens behind prompts of other lengths; the sums are written out token by token."""
    gamma = 0.97
    draw = torch.Generator().manual_seed(run.seed)
    rewards, values = torch.randn(2, 12, 16, generator=draw, dtype=torch.float64)
    starts = torch.arange(12) % 5
    places = torch.arange(16)
    mask = (places >= starts[:, None]) & (places < (starts + torch.arange(1, 13)).clamp(max=16)[:, None])
    rewards = rewards.masked_fill(~mask, 0)
    values = values.masked_fill(~mask, 1e9)
    found = {"lambda_0": 0.0, "lambda_1": 0.0, "sum": 0.0}
    for part, lam in (("lambda_0", 0.0), ("lambda_1", 1.0), ("sum", 0.95)):
        advantages, _ = dpo.gae(rewards, values, mask, gamma, lam)
        for row in range(len(mask)):
            r, V = rewards[row, mask[row]], values[row, mask[row]]
            after = torch.cat((V[1:], V.new_zeros(1)))
            delta = r + gamma * after - V
            for t in range(len(r)):
                powers = gamma ** torch.arange(len(r) - t, dtype=torch.float64)
                said = {
                    "lambda_0": delta[t], "lambda_1": (powers * r[t:]).sum() - V[t],
                    "sum": (powers * lam ** torch.arange(len(r) - t, dtype=torch.float64) * delta[t:]).sum(),
                }[part]  # fmt: skip
                found[part] = max(found[part], (advantages[row, mask[row]][t] - said).abs().item())
    return found
