"""The enumerable problem that the exact claims share: a few prompts with eight answers each, in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from papertest.claims import Run

import dpo

PROMPTS, ANSWERS = 4, 8
BETAS = (0.05, 0.1, 0.5, 1.0, 5.0)  # Section 6.1's, and Appendix B's for TL;DR


@dataclass(frozen=True)
class Problem:
    """Rewards and reference of each answer, and all ordered pairs of them."""

    rewards: Float[Tensor, "prompts answers"]
    ref: Float[Tensor, "prompts answers"]
    chosen: Tensor
    rejected: Tensor

    def preferences(self, rewards: Tensor) -> Float[Tensor, "prompts pairs"]:
        """Eq. 1: the probability that the first answer of each pair is preferred, σ(r(y₁) − r(y₂))."""
        return (rewards[:, self.chosen] - rewards[:, self.rejected]).sigmoid()

    def pairs(self, logps: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The four arguments of DPO's losses: the policy's and the reference's log-probabilities, all pairs flat."""
        ref = self.ref.log()
        policy = logps[:, self.chosen].flatten(), logps[:, self.rejected].flatten()
        return *policy, ref[:, self.chosen].flatten(), ref[:, self.rejected].flatten()


def problem(run: Run) -> Problem:
    """Rewards and the reference's logits from N(0, 1)."""
    draw = torch.Generator().manual_seed(run.seed)
    rewards, logits = torch.randn(2, PROMPTS, ANSWERS, generator=draw, dtype=torch.float64)
    first, second = (~torch.eye(ANSWERS, dtype=torch.bool)).nonzero(as_tuple=True)
    return Problem(rewards, logits.softmax(-1), first, second)


def part(beta: float) -> str:
    """A β as the name of a claim's part."""
    return f"beta_{beta:g}".replace(".", "_")


def furthest(p: Tensor, q: Tensor) -> float:
    """The largest total variation over prompts."""
    return (p - q).abs().sum(-1).max().item() / 2


def largest(difference: Tensor) -> float:
    return difference.abs().max().item()


def slope(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The gradient at x."""
    x = x.detach().clone().requires_grad_()
    (found,) = torch.autograd.grad(function(x), x)
    return found


def minimised(
    loss: Callable[[Tensor], Tensor], start: Float[Tensor, "prompts answers"], steps: int = 15
) -> Float[Tensor, "prompts answers"]:
    """Where `loss`, a sum over prompts that shifts of a prompt's logits do not change, is least: Newton's method."""
    x = start.detach().clone()
    for _ in range(steps):
        at = x.clone().requires_grad_()
        (down,) = torch.autograd.grad(loss(at), at, create_graph=True)
        rows = [torch.autograd.grad(column.sum(), at, retain_graph=True)[0] for column in down.T]
        values, vectors = torch.linalg.eigh(torch.stack(rows, 1))
        inverse = torch.where(values > 1e-9 * values[:, -1:], 1 / values, 0)
        x = x - torch.einsum("pij,pj,pkj,pk->pi", vectors, inverse, vectors, down.detach())
    return x


def optimum(given: Problem, beta: float) -> Float[Tensor, "prompts answers"]:
    """π*, by the package's own closed form."""
    return dpo.exact_rlhf_policy(given.ref, given.rewards, beta)
