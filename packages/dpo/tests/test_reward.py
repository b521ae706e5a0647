"""The reward model and its losses."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from dpo_cases import PAIRS, Tiny, randn, tiny
from test_logps import gpt2
from torch import nn

from dpo import RewardModel, collate, ranking_loss, reward_loss


class States(nn.Module):
    def __init__(self, model: Tiny) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids, padding_mask):
        return self.model.states(ids, padding_mask)


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_last_real_token(side):
    model = RewardModel(States(tiny()), 16).eval()
    batch = collate(PAIRS, 0, side)
    rewards = model(batch.ids, batch.padding_mask)
    for i, row in enumerate(batch.ids):
        alone = row[batch.padding_mask[i]][None]
        state = model.backbone(alone, alone >= 0)[0, -1]
        torch.testing.assert_close(rewards[i], state @ model.head.weight[0])


def test_a_backbone_of_transformers():
    model = RewardModel(gpt2("GPT2Model"), 16).eval()
    a, b = (model(x.ids, x.padding_mask) for x in (collate(PAIRS, 0), collate(PAIRS, 0, "left")))
    assert a.shape == (6,)
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_the_heads_start():
    torch.manual_seed(0)
    weight = RewardModel(nn.Identity(), 9999).head.weight
    assert abs(weight.std().item() - 0.01) < 3e-4
    assert abs(weight.mean().item()) < 5e-4


def test_a_half_precision_backbone_has_a_float32_head():
    model = RewardModel(States(tiny(dropout=0.0).bfloat16()), 16)
    batch = collate(PAIRS, 0)
    assert model(batch.ids, batch.padding_mask).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert model(batch.ids, batch.padding_mask).dtype == torch.float32


def test_bradley_terry():
    a, b = randn(6), randn(6, seed=1)
    np.testing.assert_allclose(reward_loss(a, b), np.logaddexp(0, (b - a).numpy()), rtol=1e-12)
    assert reward_loss(a, a)[0].item() == pytest.approx(math.log(2), rel=1e-15)
    torch.testing.assert_close(reward_loss(a + 5, b + 5), reward_loss(a, b))


@pytest.mark.parametrize("K", [2, 4, 9])
def test_a_ranking_is_the_mean_over_its_pairs(K):
    rewards = randn(3, K)
    pairs = [reward_loss(rewards[:, i], rewards[:, j]) for i, j in combinations(range(K), 2)]
    assert len(pairs) == math.comb(K, 2)
    torch.testing.assert_close(ranking_loss(rewards), torch.stack(pairs).mean(0), rtol=1e-12, atol=0)


def test_the_best_comes_first():
    ordered = torch.arange(4.0).flip(0)[None]
    assert ranking_loss(ordered) < ranking_loss(ordered.flip(1))


def test_it_learns_which_answers_are_better():
    backbone = tiny(dropout=0.0)
    nn.init.zeros_(backbone.q.weight)  # its attention starts even: all answers end alike, and one that looks at
    nn.init.zeros_(backbone.q.bias)  # the end alone tells none from another and learns nothing
    model = RewardModel(States(backbone), 16)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    batch = collate(PAIRS, 0)
    for _ in range(60):
        loss = reward_loss(*model(batch.ids, batch.padding_mask).chunk(2)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    chosen, rejected = model.eval()(batch.ids, batch.padding_mask).chunk(2)
    assert (chosen > rejected + 1).all()
