"""What the functions refuse, with which words. `test_trainer.py` and `test_preferences.py` have the rest."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from dpo_cases import PAIRS, VOCAB, Values, answers, four, randn, rows, tiny
from torch import nn

import dpo

LOSSES = (dpo.dpo_loss, dpo.ipo_loss, dpo.unweighted_loss, dpo.dpo_gradient_weight)
NAMES = ("policy_chosen_logps", "policy_rejected_logps", "ref_chosen_logps", "ref_rejected_logps")
NOT_ABOVE_0 = (0, -0.1, math.nan, math.inf, True, "0.1", None, torch.tensor(0.1))


@pytest.mark.parametrize("value", NOT_ABOVE_0)
def test_beta(value):
    message = "must be a finite number above 0, got "
    for loss in LOSSES:
        with pytest.raises(ValueError, match=f"^{'tau' if loss is dpo.ipo_loss else 'beta'} {message}"):
            loss(*four(), value)
    w, l, *_ = four()
    ref, rewards = randn(8).softmax(-1), randn(8)
    for call in (partial(dpo.implicit_reward, w, l), partial(dpo.kto_loss, w, l, w > 0, 0.0),
                 partial(dpo.exact_rlhf_policy, ref, rewards), partial(dpo.log_partition, ref, rewards),
                 partial(dpo.rlhf_objective, ref, ref, rewards)):  # fmt: skip
        with pytest.raises(ValueError, match=f"^beta {message}"):
            call(value)


@pytest.mark.parametrize("value", [0.5, 1, -0.01, math.nan, math.inf, True, "0", None])
def test_label_smoothing(value):
    with pytest.raises(ValueError, match="label_smoothing must be a finite number from 0 to below 0.5, got"):
        dpo.dpo_loss(*four(), label_smoothing=value)


@pytest.mark.parametrize("value", [1.01, -0.01, math.nan, True, "0", None])
def test_alpha(value):
    with pytest.raises(ValueError, match="alpha must be a finite number from 0 to 1, got"):
        dpo.unlikelihood_loss(*four()[:2], value)


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("loss", LOSSES)
def test_logps(loss, place):
    for bad, message in (
        (math.nan, "must be finite, got nan in row 3"), (-math.inf, "must be finite, got -inf in row 3"),
    ):  # fmt: skip
        given = four()
        given[place][3] = bad
        with pytest.raises(ValueError, match=f"^{NAMES[place]} {message}"):
            loss(*given)
    for bad, message in (
        (torch.ones(5).long(), "must be a floating-point tensor, got a tensor of torch.int64"),
        ([1.0] * 5, "must be a floating-point tensor, got list"),
        (torch.ones(5, 1), r"must be of shape \(batch\), got \(5, 1\)"),
        (torch.tensor(1.0), r"must be of shape \(batch\), got \(\)"),
    ):
        given = four()
        given[place] = bad
        with pytest.raises(ValueError, match=f"^{NAMES[place]} {message}"):
            loss(*given)
    given = four()
    given[place] = given[place][:1]
    with pytest.raises(ValueError, match="must be of the shape of policy_chosen_logps"):
        loss(*given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"desirable": torch.ones(5)}, "desirable must be a tensor of bool, .* got a tensor of torch.float32"),
        ({"desirable": torch.ones(4) > 0}, r"desirable must be of the shape of policy_logps, \(5,\), got \(4,\)"),
        ({"kl": math.nan}, "kl must be one finite number, got nan"),
        ({"kl": torch.ones(5)}, "kl must be one finite number, got tensor"),
        ({"desirable_weight": 0}, "desirable_weight must be a finite number above 0, got 0"),
        ({"undesirable_weight": -1}, "undesirable_weight must be a finite number above 0, got -1"),
    ],
)
def test_kto(change, message):
    given = {"desirable": torch.ones(5) > 0, "kl": 0.5} | change
    with pytest.raises(ValueError, match=message):
        dpo.kto_loss(*four()[:2], **given)


def changed(index, value):
    given = list(rows())
    given[index] = value
    return given


@pytest.mark.parametrize("function", [dpo.sequence_logps, dpo.token_logps])
def test_sequences(function):
    logits, labels, mask = rows()
    empty, first, outside, below = mask.clone(), mask.clone(), labels.clone(), labels.clone()
    empty[1], first[2, 0], outside[0, 3], below[0, 3] = False, True, VOCAB, -100
    nan = logits.clone()
    nan[1, 1, 5] = math.nan
    for given, message in (
        (changed(0, logits[0]), r"logits must be of shape \(batch, seq, vocab\), got \(6, 11\)"),
        (changed(0, logits.long()), "logits must be a floating-point tensor, got a tensor of torch.int64"),
        (changed(0, nan), "logits must give log-probabilities that are numbers, got NaN in row 1, column 1"),
        (changed(1, labels[:, 1:]), r"labels must be of the shape of logits without .*, \(3, 6\), got \(3, 5\)"),
        (changed(1, labels.double()), "labels must be a tensor of whole numbers, got a tensor of torch.float64"),
        (changed(1, mask), "labels must be a tensor of whole numbers, got a tensor of torch.bool"),
        (changed(1, outside), "labels must be from 0 to 10 where the mask is True, got . to 11"),
        (changed(1, below), "labels must be from 0 to 10 where the mask is True, got -100 to"),
        (changed(2, mask.long()), "mask must be a tensor of bool, True at what counts, got a tensor of torch.int64"),
        (changed(2, mask[:, 1:]), r"mask must be of the shape of labels, \(3, 6\), got \(3, 5\)"),
        (changed(2, mask[0]), r"mask must be of the shape of labels, \(3, 6\), got \(6,\)"),
        (changed(2, first), "mask must be False in the first column, which nothing predicts, got True in row 2"),
        (changed(2, empty), "mask must be True at one token of each row at least, got an empty answer in row 1"),
    ):
        with pytest.raises(ValueError, match=message):
            function(*given)


def test_rewards():
    a, b = randn(4), randn(4)
    nan = a.clone()
    nan[2] = math.nan
    for call, message in (
        (lambda: dpo.reward_loss(a, b[:3]), r"rejected must be of the shape of chosen, \(4,\), got \(3,\)"),
        (lambda: dpo.reward_loss(a[:, None], b), r"chosen must be of shape \(batch\), got \(4, 1\)"),
        (lambda: dpo.reward_loss(nan, b), "chosen must be finite, got nan in row 2"),
        (lambda: dpo.ranking_loss(a), r"rewards must be of shape \(batch, K\), got \(4,\)"),
        (lambda: dpo.ranking_loss(a[:, None]), r"rewards must have a K of at least 2, got shape \(4, 1\)"),
        (lambda: dpo.ranking_loss(torch.stack([a, nan], 1)), "rewards must be finite, got nan in row 2"),
        (lambda: dpo.RewardModel(nn.Identity(), 8.0), "d_model must be a whole number of at least 1, got 8.0"),
        (lambda: dpo.RewardModel(nn.Identity(), 0), "d_model must be a whole number of at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_reward_model():
    batch = dpo.collate(PAIRS, 0)
    model = dpo.RewardModel(tiny(), 16)  # gives logits, and not states
    with pytest.raises(ValueError, match=r"backbone must give states of shape \(6, 6, 16\), got \(6, 6, 11\)"):
        model(batch.ids, batch.padding_mask)
    with pytest.raises(ValueError, match="padding_mask must be a tensor of bool, True at what counts, got a tensor of"):
        model(batch.ids, batch.padding_mask.long())
    nothing = batch.padding_mask.clone()
    nothing[4] = False
    with pytest.raises(
        ValueError, match="padding_mask must be True at one token of each row at least, got none in row 4"
    ):
        model(batch.ids, nothing)


def calls():
    given, mask = answers()
    return {
        "kl_rewards": (dpo.kl_rewards, ["logps", "ref_logps"], (randn(3),), (0.1,)),
        "gae": (dpo.gae, ["logps", "values"], (), ()),
        "surrogate": (dpo.clipped_surrogate, ["logps", "old_logps", "advantages"], (), ()),
        "value_loss": (dpo.value_loss, ["values", "old_values", "returns"], (), ()),
    }, given, mask  # fmt: skip


@pytest.mark.parametrize("name", ["kl_rewards", "gae", "surrogate", "value_loss"])
def test_ppos_pieces(name):
    table, given, mask = calls()
    function, names, before, behind = table[name]
    values = [given[n].nan_to_num() for n in names]
    function(*before, *values, mask, *behind)
    empty = mask.clone()
    empty[1] = False
    for bad, message in (
        (mask.long(), "mask must be a tensor of bool"), (mask[:, :4], r"mask must be of the shape of .*, \(3, 6\)"),
        (empty, "mask must be True at one token of each row at least, got an empty answer in row 1"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            function(*before, *values, bad, *behind)
    for place in range(len(values)):
        spoilt = [v.clone() for v in values]
        spoilt[place][2, 4] = math.nan
        with pytest.raises(ValueError, match="must be finite, got nan in row 2"):
            function(*before, *spoilt, mask, *behind)
        if place:
            spoilt[place] = values[place][:, :5]
            with pytest.raises(ValueError, match=r"must be of the shape of mask, \(3, 6\), got \(3, 5\)"):
                function(*before, *spoilt, mask, *behind)


def test_ppos_numbers():
    given, mask = answers()
    r, v = given["logps"].nan_to_num(), given["values"].nan_to_num()
    r = r.masked_fill(~mask, 0)
    lost = r.clone()
    lost[1, 5] = 1.0
    for call, message in (
        (lambda: dpo.gae(lost, v, mask), "rewards must be 0 outside of the mask, got 1.0 in row 1, column 5"),
        (lambda: dpo.gae(r, v, mask, 1.1), "gamma must be a finite number from 0 to 1, got 1.1"),
        (lambda: dpo.gae(r, v, mask, 1.0, -0.1), "lam must be a finite number from 0 to 1, got -0.1"),
        (lambda: dpo.clipped_surrogate(r, v, v, mask, 0), "clip must be a finite number above 0, got 0"),
        (lambda: dpo.value_loss(r, v, v, mask, True), "clip must be a finite number above 0, got True"),
        (lambda: dpo.kl_rewards(randn(3), r, v, mask, -0.1), "beta must be a finite number of at least 0, got -0.1"),
        (lambda: dpo.kl_rewards(randn(3), r, v, mask, math.inf), "beta must be a finite number of at least 0, got inf"),
        (lambda: dpo.kl_rewards(randn(2), r, v, mask, 0.1), r"scores must be of the shape of the batch, \(3,\)"),
        (lambda: dpo.kl_rewards(randn(3) * math.nan, r, v, mask, 0.1), "scores must be finite, got nan in row 0"),
        (lambda: dpo.PPOConfig(beta=-1), "beta must be a finite number of at least 0, got -1"),
        (lambda: dpo.PPOConfig(clip=0), "clip must be a finite number above 0, got 0"),
        (lambda: dpo.PPOConfig(epochs=1.0), "epochs must be a whole number of at least 1, got 1.0"),
        (lambda: dpo.PPOConfig(minibatch=0), "minibatch must be a whole number of at least 1, got 0"),
        (lambda: dpo.PPOConfig(lam=2), "lam must be a finite number from 0 to 1, got 2"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_ppos_trainer():
    policy = tiny()
    optimizer = torch.optim.SGD(policy.parameters(), 0.1)
    none = lambda *_: torch.zeros(2)  # noqa: E731
    with pytest.raises(ValueError, match="reference must have parameters of its own, got a model that shares some"):
        dpo.PPOTrainer(policy, Values(), policy, none, none, optimizer)
    ids, mask = torch.ones(2, 4).long(), torch.tensor([[False, True, True, True]] * 2)
    sample = lambda policy, prompts: (ids, torch.ones_like(mask), mask)  # noqa: E731
    with pytest.raises(
        ValueError, match=r"value must give one number for each token, of shape \(2, 4\), got \(2, 4, 11\)"
    ):
        dpo.PPOTrainer(policy, tiny(2), tiny(1), none, sample, optimizer).step(None)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, r: dpo.exact_rlhf_policy(p, r[:4], 1.0), r"rewards must be of the shape of ref_probs, \(8,\), got"),
        (lambda p, r: dpo.exact_rlhf_policy(p, r * math.inf, 1.0), "rewards must be finite, got"),
        (
            lambda p, r: dpo.exact_rlhf_policy(p.log(), r, 1.0),
            "ref_probs must be probabilities, not negative and of sum",
        ),
        (lambda p, r: dpo.exact_rlhf_policy(p * 2, r, 1.0), "ref_probs must be probabilities, .* off by 1"),
        (lambda p, r: dpo.exact_rlhf_policy(p * math.nan, r, 1.0), "ref_probs must be probabilities"),
        (lambda p, r: dpo.exact_rlhf_policy(p, r.long(), 1.0), "rewards must be a floating-point tensor of shape"),
        (lambda p, r: dpo.log_partition(p[:0], r[:0], 1.0), "ref_probs must be a floating-point tensor of shape"),
        (lambda p, r: dpo.rlhf_objective(p[None], p, r, 1.0), "policy must be of the shape of ref_probs"),
        (lambda p, r: dpo.rlhf_objective(p / 2, p, r, 1.0), "policy must be probabilities"),
        (lambda p, r: dpo.best_of_n_kl(0), "n must be a whole number of at least 1, got 0"),
        (lambda p, r: dpo.best_of_n_kl(2.0), "n must be a whole number of at least 1, got 2.0"),
    ],
)
def test_closed_forms(call, message):
    with pytest.raises(ValueError, match=message):
        call(randn(8).softmax(-1), randn(8, seed=1))
