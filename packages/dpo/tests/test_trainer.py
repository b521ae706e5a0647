"""DPO's trainer: the reference stays, is asked once, and the first loss is log 2."""

from __future__ import annotations

import copy
import math
from functools import partial

import pytest
import torch
from dpo_cases import PAIRS, VOCAB, tiny
from test_logps import llama
from torch import nn

from dpo import DPOTrainer, Encoded, collate, dpo_loss, ipo_loss, sequence_logps, unweighted_loss
from dpo.models import answer_logps, evaluating

LOG_2 = torch.tensor(2.0).log().item()


def trainer(policy=None, rate=1e-2, **options) -> DPOTrainer:
    policy = tiny() if policy is None else policy
    return DPOTrainer(policy.train(), torch.optim.Adam(policy.parameters(), rate), **options)


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("side", ["right", "left"])
def test_the_first_loss_is_log_2_with_dropout_in_the_model(reference, side):
    made = trainer(tiny(dropout=0.5), reference=tiny(dropout=0.5) if reference else None)
    result = made.step(collate(PAIRS, 0, side))
    assert result["loss"] == LOG_2
    assert result["margin"] == result["chosen_reward"] == result["rejected_reward"] == result["accuracy"] == 0
    assert made.policy.training


class Fast(nn.Module):
    """torch's own layer computes otherwise where no gradient is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.head = nn.Embedding(VOCAB, 16), nn.Linear(16, VOCAB)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.3, batch_first=True)

    def forward(self, ids, padding_mask):
        causal = nn.Transformer.generate_square_subsequent_mask(ids.shape[1])
        return self.head(self.layer(self.tokens(ids), src_mask=causal, is_causal=True))


@pytest.mark.parametrize("make", [Fast, llama])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_log_2_with_other_layers_and_in_half_precision(make, dtype):
    torch.manual_seed(0)
    assert trainer(make().to(dtype)).step(collate(PAIRS, 0))["loss"] == LOG_2


def test_the_reference_is_asked_once():
    made = trainer()
    batches = [collate(PAIRS[:2], 0), collate(PAIRS[2:], 0)]
    first = [made.reference(batch) for batch in batches]
    assert made.policy.passes == 2
    for batch, kept in zip(batches, first, strict=True):
        assert torch.equal(made.reference(batch), kept)
    assert made.policy.passes == 2  # asking again costs none
    for batch in batches:
        made.step(batch)
    assert made.policy.passes == 4  # a step costs one
    made.step(collate([PAIRS[2], PAIRS[0]], 0, "left"))  # other rows, order and padding
    assert made.policy.passes == 5
    for batch, kept in zip(batches, first, strict=True):
        assert torch.equal(made.reference(batch), kept)  # the policy has moved, and these have not


def test_a_reference_of_its_own_is_asked_once_and_never_trained():
    made = trainer(reference=tiny(3))
    model = made.model
    before = copy.deepcopy(model.state_dict())
    model.train()
    for _ in range(3):
        made.step(collate(PAIRS, 0))
    assert model.passes == 1
    assert model.training
    assert all(torch.equal(before[name], p) for name, p in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_rows_that_share_tokens_are_told_apart():
    """The same tokens with the border elsewhere."""
    made = trainer(tiny(dropout=0.0))
    a, b = (collate([Encoded(*pair)], 0) for pair in (((1, 2), (3, 4), (5,)), ((1,), (2, 3, 4), (2, 5))))
    assert torch.equal(a.ids, b.ids)
    assert not torch.isclose(made.reference(a), made.reference(b)).any()


def test_new_rows_when_the_policy_has_moved():
    made = trainer()
    made.step(collate(PAIRS[:2], 0))
    before = copy.deepcopy(made.policy.state_dict())
    with pytest.raises(
        ValueError, match="batch must have been given to reference.. before the first step, .* got 2 new"
    ):
        made.step(collate(PAIRS, 0))
    assert all(torch.equal(before[name], p) for name, p in made.policy.state_dict().items())


def test_a_step_is_the_gradient_of_eq_7():
    made = trainer(rate=0.1)
    batch = collate(PAIRS, 0)
    other = copy.deepcopy(made.policy)
    made.optimizer = torch.optim.SGD(made.policy.parameters(), 0.1)
    made.step(batch)
    made.step(batch)

    reference = copy.deepcopy(other).eval()
    other.eval()
    for _ in range(2):
        w, l = sequence_logps(other(batch.ids, batch.padding_mask), batch.ids, batch.mask).chunk(2)
        ref_w, ref_l = sequence_logps(reference(batch.ids, batch.padding_mask), batch.ids, batch.mask).chunk(2)
        h = 0.1 * ((w - ref_w) - (l - ref_l))
        loss = -h.sigmoid().log().mean()
        gradients = torch.autograd.grad(loss, list(other.parameters()))
        with torch.no_grad():
            for p, d in zip(other.parameters(), gradients, strict=True):
                p -= 0.1 * d
    for p, q in zip(made.policy.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q)


def test_training_orders_the_pairs():
    made, batch = trainer(), collate(PAIRS, 0)
    for _ in range(30):
        made.step(batch)
    result = made.evaluate(batch)
    assert result["accuracy"] == 1
    assert result["loss"] < 0.3
    assert result["margin"] == pytest.approx(result["chosen_reward"] - result["rejected_reward"], rel=1e-5)
    with evaluating(made.policy), torch.no_grad():
        logps, _ = answer_logps(made.policy, batch)
    assert result["chosen_logp"] == pytest.approx(logps[:3].mean().item(), rel=1e-6)


def test_evaluating_moves_nothing():
    made, batch = trainer(), collate(PAIRS, 0)
    before = copy.deepcopy(made.policy.state_dict())
    assert made.evaluate(batch)["loss"] == LOG_2
    assert all(torch.equal(before[name], p) for name, p in made.policy.state_dict().items())
    assert not made.moved


@pytest.mark.parametrize(
    ("loss", "first"),
    [(ipo_loss, 1 / 0.04), (unweighted_loss, 0.0), (partial(dpo_loss, label_smoothing=0.2), LOG_2)],
)
def test_other_losses(loss, first):
    made = trainer(loss=loss)
    assert made.step(collate(PAIRS, 0))["loss"] == pytest.approx(first, rel=1e-6)
    assert made.step(collate(PAIRS, 0))["loss"] < first


def test_gradients_are_scaled_down_to_max_norm():
    norms = []
    for max_norm in (None, 1e-3):
        made = trainer(max_norm=max_norm)
        made.step(collate(PAIRS, 0))
        norms.append(
            math.sqrt(sum(p.grad.square().sum().item() for p in made.policy.parameters() if p.grad is not None))
        )
    assert norms[0] > 2e-3
    assert norms[1] == pytest.approx(1e-3, rel=1e-3)


def test_a_reference_of_another_vocabulary():
    made = trainer(reference=tiny(vocab=VOCAB + 1))
    before = copy.deepcopy(made.policy.state_dict())
    with pytest.raises(ValueError, match="reference must have the policy's vocabulary, 11, got 12"):
        made.step(collate(PAIRS, 0))
    assert all(torch.equal(before[name], p) for name, p in made.policy.state_dict().items())


@pytest.mark.parametrize("reference", ["the policy", "a shallow copy"])
def test_a_reference_that_would_move(reference):
    policy = tiny()
    other = policy if reference == "the policy" else copy.copy(policy)
    with pytest.raises(ValueError, match="reference must have parameters of its own, got a model that shares some"):
        trainer(policy, reference=other)


def test_nothing_moves_where_log_probabilities_are_no_numbers():
    made = trainer()
    made.reference(collate(PAIRS, 0))
    with torch.no_grad():
        made.policy.head.bias[4] = float("nan")
    before = copy.deepcopy(made.policy.state_dict())
    with pytest.raises(
        ValueError, match="logits must give log-probabilities that are numbers, got NaN in row 0, column"
    ):
        made.step(collate(PAIRS, 0))
    for name, p in made.policy.state_dict().items():
        torch.testing.assert_close(p, before[name], rtol=0, atol=0, equal_nan=True)


def test_nothing_moves_where_gradients_are_no_numbers():
    made = trainer()
    made.policy.head.weight.register_hook(lambda d: d * float("inf"))
    before = copy.deepcopy(made.policy.state_dict())
    with pytest.raises(ValueError, match="batch must give finite gradients, got a norm of"):
        made.step(collate(PAIRS, 0))
    assert all(torch.equal(before[name], p) for name, p in made.policy.state_dict().items())
    assert all(p.grad is None for p in made.policy.parameters())


@pytest.mark.parametrize(("options", "message"), [
    ({"beta": 0}, "beta must be a finite number above 0, got 0"),
    ({"beta": True}, "beta must be a finite number above 0, got True"),
    ({"max_norm": 0.0}, "max_norm must be a finite number above 0, got 0.0"),
])  # fmt: skip
def test_options(options, message):
    with pytest.raises(ValueError, match=message):
        trainer(**options)
