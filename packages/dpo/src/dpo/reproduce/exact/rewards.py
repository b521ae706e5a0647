"""The reward model and the best of n: InstructGPT's ranking loss, Stiennon et al.'s head and formula."""

from __future__ import annotations

import math
from itertools import combinations

import torch
from torch import Tensor, nn

from papertest.claims import Measured, Run, claim

import dpo
from dpo.reproduce.exact.problem import largest


@claim("ranking-loss")
def ranking_loss(run: Run) -> dict[str, float]:
    """20 rankings of each length, the mean written out pair by pair."""
    found: dict[str, float] = {}
    for k in (2, 4, 9):
        rewards = torch.randn(20, k, generator=torch.Generator().manual_seed(run.seed), dtype=torch.float64)
        pairs = [dpo.reward_loss(rewards[:, i], rewards[:, j]) for i, j in combinations(range(k), 2)]
        found[f"k_{k}"] = largest(dpo.ranking_loss(rewards) - torch.stack(pairs).mean(0))
    return found


class Backbone(nn.Module):
    """The mean of the embeddings up to each token; counts how often it is called, and rows."""

    def __init__(self, d_model: int = 16) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, d_model)
        self.passes = self.answers = 0

    def forward(self, ids: Tensor, padding_mask: Tensor) -> Tensor:
        self.passes, self.answers = self.passes + 1, self.answers + len(ids)
        places = padding_mask.cumsum(-1).clamp(min=1)
        return (self.embedding(ids) * padding_mask[..., None]).cumsum(1) / places[..., None]


@claim("ranking-passes")
def ranking_passes(run: Run) -> Measured:
    """The details have the answers that were read, and the largest difference of the two losses' gradients."""
    K, length = 9, 12
    torch.manual_seed(run.seed)
    backbone = Backbone()
    model = dpo.RewardModel(backbone, 16)
    ids = torch.randint(50, (K, length))
    mask = torch.ones(K, length, dtype=torch.bool)

    def gradients(loss: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(loss, list(model.parameters())))

    rewards = torch.cat([model(ids[i : i + 1], mask[i : i + 1]) for i in range(K)])
    grouped = gradients(dpo.ranking_loss(rewards[None]).mean())
    counts = {"grouped": backbone.passes}
    answers = {"grouped": backbone.answers}
    backbone.passes = backbone.answers = 0
    losses: list[Tensor] = []
    for better, worse in combinations(range(K), 2):
        chosen, rejected = model(ids[[better, worse]], mask[[better, worse]]).unbind()
        losses.append(dpo.reward_loss(chosen[None], rejected[None]))
    apart = max(largest(a - b) for a, b in zip(grouped, gradients(torch.cat(losses).mean()), strict=True))
    counts["pairs"], answers["pairs"] = backbone.passes, backbone.answers
    return Measured(counts, {"answers": answers, "gradients_apart": apart})


@claim("reward-head")
def reward_head(run: Run) -> dict[str, float]:
    """The mean square, since the mean is 0."""
    torch.manual_seed(run.seed)
    found: dict[str, float] = {}
    for d_model in (64, 1024):
        heads = [dpo.RewardModel(nn.Identity(), d_model).head.weight.detach() for _ in range(50)]
        found[f"d_{d_model}"] = torch.cat(heads).square().mean().item() * (d_model + 1)
    return found


@claim("best-of-n-table")
def best_of_n_table(run: Run) -> Measured:
    """Table 10; the details have the row with N = 63."""
    columns = run.reported["best-of-n"].columns
    assert columns is not None
    return Measured([dpo.best_of_n_kl(int(n)) for n in columns], {"n_63": dpo.best_of_n_kl(63)})


def selected(levels: Tensor, n: int) -> float:
    """KL of the best of n, from the probabilities of the levels of reward, worst first; ties are broken at random.

    Within a level the best of n has the proportions of the policy sampled from, so that only the levels count.
    """
    at_most = levels.cumsum(0)
    below = at_most - levels
    best = at_most.pow(n) - below.pow(n)
    return torch.xlogy(best, best / levels).sum().item()


@claim("best-of-n-exact")
def best_of_n_exact(run: Run) -> Measured:
    """Continuous: the midpoint rule with a million points for the density n uⁿ⁻¹; answers have random probabilities.

    Ties: a thousand answers in 2, 10 and 100 levels. The details have how far the formula is above, by levels and n.
    """
    draw = torch.Generator().manual_seed(run.seed)
    u = (torch.arange(1_000_000, dtype=torch.float64) + 0.5) / 1_000_000
    answers = torch.empty(100_000, dtype=torch.float64).exponential_(generator=draw)
    answers /= answers.sum()
    continuous, distinct = 0.0, 0.0
    above: dict[str, list[float]] = {"2": [], "10": [], "100": []}
    for n in (2, 8, 64, 128, 256, 512):
        formula = dpo.best_of_n_kl(n)
        density = n * u.pow(n - 1)
        integral = (density * (math.log(n) + (n - 1) * u.log())).mean().item()
        continuous = max(continuous, abs(integral - formula))
        distinct = max(distinct, abs(selected(answers, n) - formula))
        for count, gaps in above.items():
            levels = answers[:1000].view(int(count), -1).sum(-1)
            gaps.append(formula - selected(levels / levels.sum(), n))
    least = min(min(gaps) for gaps in above.values())
    return Measured({"continuous": continuous, "distinct": distinct, "ties": least}, {"formula_above": above})
