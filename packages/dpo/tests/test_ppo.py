"""The pieces of PPO against sums written out, and the trainer."""

from __future__ import annotations

import copy

import pytest
import torch
from dpo_cases import VOCAB, Tiny, Values, answers, few, randn, tiny
from hypothesis import given
from hypothesis import strategies as st

from dpo import PPOConfig, PPOTrainer, clipped_surrogate, gae, kl_rewards, value_loss
from dpo.ppo import _whiten  # pyright: ignore[reportPrivateUsage]

unit = st.floats(0, 1)


def places(mask):
    return [row.nonzero().flatten().tolist() for row in mask]


@few
@given(unit, unit)
def test_gae_is_the_sum_of_eq_16(gamma, lam):
    given, mask = answers()
    rewards, values = given["logps"].nan_to_num(), given["values"]
    advantages, returns = gae(rewards, values, mask, gamma, lam)
    for row, columns in enumerate(places(mask)):
        r, v = rewards[row, columns], values[row, columns]
        after = torch.cat([v[1:], v.new_zeros(1)])
        delta = r + gamma * after - v
        for t, column in enumerate(columns):
            expected = sum((gamma * lam) ** k * delta[t + k] for k in range(len(columns) - t))
            torch.testing.assert_close(advantages[row, column], expected)
            torch.testing.assert_close(returns[row, column], expected + v[t])
    assert not advantages[~mask].any()
    assert not returns[~mask].any()


def test_limits_of_gae():
    given, mask = answers()
    rewards, values = given["logps"].nan_to_num(), given["values"].nan_to_num()
    _, returns = gae(rewards, values, mask, 1.0, 1.0)
    to_come = rewards.masked_fill(~mask, 0).flip(-1).cumsum(-1).flip(-1)
    torch.testing.assert_close(returns[mask], to_come[mask])
    advantages, _ = gae(rewards, values, mask, 0.9, 0.0)
    torch.testing.assert_close(advantages[0, 5], rewards[0, 5] - values[0, 5])  # nothing comes behind the end
    torch.testing.assert_close(advantages[0, 4], rewards[0, 4] + 0.9 * values[0, 5] - values[0, 4])


def test_gae_does_not_depend_on_the_padding():
    given, mask = answers()
    rewards, values = given["logps"].nan_to_num(), given["values"]
    expected, _ = gae(rewards, values, mask)
    moved = [torch.cat([torch.full((3, 2), float("nan")), x.roll(0, -1)], 1) for x in (rewards, values)]
    moved[0][:, :2] = 0
    ours, _ = gae(*moved, torch.cat([torch.zeros(3, 2, dtype=torch.bool), mask], 1))
    assert torch.equal(ours[:, 2:], expected)


def test_gae_steps_over_a_gap():
    """Tokens inside of an answer that the policy did not write, such as what a tool said."""
    rewards, values = randn(2, 5), randn(2, 5, seed=1)
    whole, _ = gae(rewards, values, torch.ones(2, 5, dtype=torch.bool))
    apart = [torch.cat([x[:, :2], torch.zeros(2, 1, dtype=x.dtype), x[:, 2:]], 1) for x in (rewards, values)]
    mask = torch.tensor([[True, True, False, True, True, True]] * 2)
    ours, _ = gae(*apart, mask)
    assert torch.equal(ours[:, [0, 1, 3, 4, 5]], whole)


@few
@given(st.floats(0, 3))
def test_rewards_sum_to_score_minus_beta_log_ratio(beta):
    given, mask = answers()
    scores = randn(3, seed=8)
    rewards = kl_rewards(scores, given["logps"], given["ref_logps"], mask, beta)
    ratio = (given["logps"] - given["ref_logps"]).nan_to_num()
    torch.testing.assert_close(rewards.sum(-1), scores - beta * ratio.sum(-1))
    assert not rewards[~mask].any()
    for row, columns in enumerate(places(mask)):
        torch.testing.assert_close(rewards[row, columns[-1]], scores[row] - beta * ratio[row, columns[-1]])


@few
@given(st.floats(0.01, 0.9))
def test_the_surrogate_is_eq_7(clip):
    given, mask = answers()
    loss, share = clipped_surrogate(given["logps"], given["old_logps"], given["advantages"], mask, clip)
    ratio, A = (given["logps"] - given["old_logps"])[mask].exp(), given["advantages"][mask]
    clipped = torch.where(ratio > 1 + clip, 1 + clip, torch.where(ratio < 1 - clip, 1 - clip, ratio))
    torch.testing.assert_close(loss, -torch.minimum(ratio * A, clipped * A).mean())
    assert share == ((ratio > 1 + clip) | (ratio < 1 - clip)).double().mean()
    assert -loss <= (ratio * A).mean() + 1e-12  # a lower bound of the unclipped one


def test_at_ratio_one_the_gradient_is_the_policy_gradient():
    given, mask = answers()
    logps = given["logps"].requires_grad_()
    loss, share = clipped_surrogate(logps, logps.detach(), given["advantages"], mask)
    (d,) = torch.autograd.grad(loss, logps)
    torch.testing.assert_close(d[mask], -given["advantages"][mask] / mask.sum())
    assert share == 0


@pytest.mark.parametrize(
    ("advantage", "ratio", "moves"), [(1, 1.5, False), (1, 0.5, True), (-1, 0.5, False), (-1, 1.5, True)]
)
def test_the_clip_is_on_the_side_of_the_gain_alone(advantage, ratio, moves):
    logps = torch.tensor([[ratio]]).log().requires_grad_()
    loss, _ = clipped_surrogate(logps, torch.zeros(1, 1), torch.full((1, 1), float(advantage)), torch.ones(1, 1) > 0)
    assert (torch.autograd.grad(loss, logps)[0].item() != 0) == moves


@few
@given(st.floats(0.01, 2))
def test_the_values_loss_is_the_worse_of_two(clip):
    given, mask = answers()
    v, old, R = (given[name][mask] for name in ("values", "old_values", "returns"))
    clipped = torch.minimum(torch.maximum(v, old - clip), old + clip)
    expected = 0.5 * torch.maximum((v - R) ** 2, (clipped - R) ** 2).mean()
    torch.testing.assert_close(value_loss(given["values"], given["old_values"], given["returns"], mask, clip), expected)


def test_junk_outside_of_the_mask_has_no_gradient():
    given, mask = answers()
    leaves = [given[name].requires_grad_() for name in ("logps", "values")]
    loss, _ = clipped_surrogate(leaves[0], given["old_logps"], given["advantages"], mask)
    (loss + value_loss(leaves[1], given["old_values"], given["returns"], mask)).backward()
    for leaf in leaves:
        assert leaf.grad.isfinite().all()
        assert not leaf.grad[~mask].any()


def test_what_is_constant_has_no_graph():
    given, mask = answers()
    leaves = {name: value.nan_to_num().requires_grad_() for name, value in given.items()}
    outputs = [*gae(leaves["logps"] * mask, leaves["values"], mask)]
    outputs.append(kl_rewards(randn(3).requires_grad_(), leaves["logps"], leaves["ref_logps"], mask, 0.1))
    assert not any(x.requires_grad for x in outputs)
    loss, _ = clipped_surrogate(leaves["logps"], leaves["old_logps"], leaves["advantages"], mask)
    (loss + value_loss(leaves["values"], leaves["old_values"], leaves["returns"], mask)).backward()
    assert {name for name, leaf in leaves.items() if leaf.grad is not None} == {"logps", "values"}


def test_whitening_is_over_the_mask():
    given, mask = answers()
    white = _whiten(given["advantages"].masked_fill(~mask, 0), mask)
    torch.testing.assert_close(white[mask].mean().item(), 0.0)
    torch.testing.assert_close(white[mask].std(correction=0).item(), 1.0)
    assert not white[~mask].any()
    assert not _whiten(torch.ones(1, 1), torch.ones(1, 1) > 0).any()


def sample(policy: Tiny, prompts: torch.Tensor):
    """Up to four tokens; 0 ends an answer, and stands as padding behind it."""
    ids, over = prompts, torch.zeros(len(prompts), dtype=torch.bool)
    masks = [torch.zeros_like(prompts, dtype=torch.bool)]
    for _ in range(4):
        padding = torch.cat([torch.ones_like(prompts, dtype=torch.bool), *masks[1:]], 1)
        drawn = torch.multinomial(policy(ids, padding)[:, -1].softmax(-1), 1).masked_fill(over[:, None], 0)
        masks.append(~over[:, None])
        ids, over = torch.cat([ids, drawn], 1), over | (drawn[:, 0] == 0)
    mask = torch.cat(masks, 1)
    padding = mask.clone()
    padding[:, : prompts.shape[1]] = True
    return ids, padding, mask


def trainer(**options) -> PPOTrainer:
    policy, reference = tiny(), tiny()
    value = Values()
    value.load_state_dict(Values().state_dict())
    optimizer = torch.optim.Adam([*policy.parameters(), *value.parameters()], 3e-3)
    reward = lambda ids, padding, mask: ((ids == 3) & mask).sum(-1).float()  # noqa: E731
    return PPOTrainer(policy, value, reference, reward, sample, optimizer, PPOConfig(minibatch=32, **options))


def prompts(n=64):
    return torch.randint(1, VOCAB, (n, 2))


def test_the_trainer_improves_the_score_and_leaves_the_reference_alone():
    made = trainer()
    made.policy.train()
    reference = copy.deepcopy(made.reference.state_dict())
    first = made.step(prompts())
    for _ in range(9):
        last = made.step(prompts())
    assert set(last) == {"score", "kl", "length", "policy_loss", "value_loss", "clip_fraction"}
    assert first["kl"] == 0
    assert last["score"] > first["score"] + 0.5
    assert last["kl"] > 0.5
    assert made.policy.training
    assert all(torch.equal(reference[name], p) for name, p in made.reference.state_dict().items())


def test_a_larger_beta_stays_closer():
    kls = []
    for beta in (0.01, 10.0):
        made = trainer(beta=beta)
        kls.append([made.step(prompts())["kl"] for _ in range(6)][-1])
    assert kls[0] > 1.5 * kls[1]


def test_passes_of_a_step():
    """Two for the old log-probabilities and values, then of each one for every minibatch."""
    made = trainer(epochs=2)
    made.sample = lambda policy, prompts: sample(tiny(1), prompts)
    made.step(prompts(64))
    assert (made.policy.passes, made.reference.passes, made.value.passes) == (1 + 4, 1, 1 + 4)


def test_the_value_before_a_token_is_its_baseline():
    made = trainer()
    ids, padding, mask = sample(made.policy, prompts(4))
    shifted = made._values(ids, padding, mask)  # pyright: ignore[reportPrivateUsage]
    made.value.eval()
    assert made.value.training is False
    torch.testing.assert_close(
        made._values(ids, padding, mask)[:, 2],
        made.value(ids, padding)[:, 1],  # pyright: ignore[reportPrivateUsage]
    )
    assert shifted.shape == ids.shape
    assert not shifted[~mask].any()
