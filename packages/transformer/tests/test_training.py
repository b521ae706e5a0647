"""The schedule, Adam with it, label smoothing and the average of checkpoints."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from transformer import LabelSmoothing, average_checkpoints, noam_schedule
from transformer.training import adam


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    smoothing=st.sampled_from([0.0, 0.1, 0.5, 0.99]),
    pad=st.sampled_from([None, 0, 3]),
    shape=st.sampled_from([(1,), (6,), (2, 5), (2, 2, 3)]),
    vocab=st.integers(4, 9),
    seed=st.integers(0, 99),
)
def test_label_smoothing_is_that_of_torch_with_its_gradients(smoothing, pad, shape, vocab, seed):
    random = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(*shape, vocab, generator=random, dtype=torch.float64)
    targets = torch.randint(vocab, shape, generator=random)
    targets.view(-1)[0] = 1  # one at least is not padding
    results = []
    for ours in (True, False):
        x = logits.clone().requires_grad_()
        if ours:
            loss = LabelSmoothing(smoothing, pad)(x, targets)
        else:
            ignored = -100 if pad is None else pad
            loss = F.cross_entropy(x.flatten(0, -2), targets.flatten(), label_smoothing=smoothing, ignore_index=ignored)
        results.append((loss.detach(), *torch.autograd.grad(loss, x)))
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-13)
    if pad is not None:
        assert (results[0][1][targets == pad] == 0).all()


def test_label_smoothing_by_hand():
    """Three tokens, probabilities 1/2, 1/4, 1/4, ε = 0.3: q' = 0.8 for the right one, 0.1 for the others."""
    logits = torch.tensor([[0.5, 0.25, 0.25]]).log()
    wanted = 0.8 * math.log(4) + 0.1 * math.log(4) + 0.1 * math.log(2)
    assert LabelSmoothing(0.3)(logits, torch.tensor([1])).item() == pytest.approx(wanted)
    assert LabelSmoothing(0.0)(logits, torch.tensor([1])).item() == pytest.approx(math.log(4))


def test_label_smoothing_has_its_least_at_the_smoothed_distribution():
    logits = torch.full((1, 5), 0.1 / 5)
    logits[0, 2] += 0.9
    logits = logits.log().double().requires_grad_()
    (gradient,) = torch.autograd.grad(LabelSmoothing(0.1)(logits, torch.tensor([2])), logits)
    assert gradient.abs().max() < 1e-7


def test_padding_and_what_is_predicted_there_do_not_count():
    torch.manual_seed(0)
    logits, targets = torch.randn(2, 4, 7), torch.tensor([[1, 2, 0, 0], [3, 0, 0, 0]])
    loss = LabelSmoothing()(logits, targets)
    real = torch.stack([logits[0, 0], logits[0, 1], logits[1, 0]])
    torch.testing.assert_close(loss, LabelSmoothing(pad=None)(real, torch.tensor([1, 2, 3])))
    logits[targets == 0] = math.nan
    assert torch.equal(LabelSmoothing()(logits, targets), loss)


def test_the_schedule_is_equation_3():
    assert noam_schedule(1, 512) == pytest.approx(512**-0.5 * 4000**-1.5)
    assert noam_schedule(4000, 512) == pytest.approx((512 * 4000) ** -0.5)
    assert noam_schedule(100_000, 512) == pytest.approx((512 * 100_000) ** -0.5)
    assert noam_schedule(10, 4, 100) == pytest.approx(0.5 * 10 / 1000)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(1, 10**6), st.integers(1, 4096), st.integers(1, 10**5))
def test_the_schedule_peaks_at_the_end_of_warm_up(step, d_model, warmup):
    """Linear before it, the inverse square root after it, both of d_model^−0.5."""
    rate, peak = noam_schedule(step, d_model, warmup), noam_schedule(warmup, d_model, warmup)
    assert 0 < rate <= peak * (1 + 1e-12)
    assert peak == pytest.approx((d_model * warmup) ** -0.5)
    exponent = 1 if step <= warmup else -0.5
    assert rate / peak == pytest.approx((step / warmup) ** exponent)
    assert noam_schedule(step, 4 * d_model, warmup) == pytest.approx(rate / 2)
    assert noam_schedule(warmup + 1, d_model, warmup) < peak
    assert warmup == 1 or noam_schedule(warmup - 1, d_model, warmup) < peak


def test_adam_has_the_constants_of_the_paper_and_the_rate_of_each_step():
    model = nn.Linear(2, 1)
    optimizer, rate = adam(model, 16, 5)
    assert isinstance(optimizer, torch.optim.Adam)
    (group,) = optimizer.param_groups
    assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.9, 0.98), 1e-9, 0)
    assert {id(p) for p in group["params"]} == {id(p) for p in model.parameters()}
    for step in range(1, 12):
        assert group["lr"] == pytest.approx(noam_schedule(step, 16, 5))
        optimizer.zero_grad()
        before = model.weight.detach().clone()
        model(torch.ones(3, 2)).sum().backward()
        optimizer.step()
        # a gradient that stays the same moves each weight by the learning rate
        torch.testing.assert_close(before - model.weight, torch.full((1, 2), noam_schedule(step, 16, 5)))
        rate.step()


def test_adam_takes_a_scale():
    (one, _), (three, schedule) = adam(nn.Linear(2, 1), 16, 5), adam(nn.Linear(2, 1), 16, 5, 3.0)
    assert three.param_groups[0]["lr"] == pytest.approx(3 * one.param_groups[0]["lr"])
    three.step()
    schedule.step()
    assert three.param_groups[0]["lr"] == pytest.approx(3 * noam_schedule(2, 16, 5))


def test_training_goes_on_after_saving_and_loading():
    def start() -> Any:
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        return model, *adam(model, 16, 4)

    def run(parts: Any, steps: range) -> None:
        model, optimizer, rate = parts
        for step in steps:
            optimizer.zero_grad()
            model(torch.randn(5, 3, generator=torch.Generator().manual_seed(step))).square().sum().backward()
            optimizer.step()
            rate.step()

    straight, first, second = start(), start(), start()
    run(straight, range(9))
    run(first, range(3))
    file = io.BytesIO()
    torch.save([part.state_dict() for part in first], file)
    file.seek(0)
    for part, state in zip(second, torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(state)
    assert second[1].param_groups[0]["lr"] == pytest.approx(noam_schedule(4, 16, 4))
    run(second, range(3, 9))
    assert torch.equal(second[0].weight, straight[0].weight)
    assert (
        second[1].param_groups[0]["lr"] == straight[1].param_groups[0]["lr"] == pytest.approx(noam_schedule(10, 16, 4))
    )


def state(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return {name: x.to(dtype) for name, x in nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).state_dict().items()}


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_average_of_checkpoints_is_their_mean(count):
    checkpoints = [state(seed) for seed in range(count)]
    before = [{name: x.clone() for name, x in c.items()} for c in checkpoints]
    mean = average_checkpoints(checkpoints)
    assert list(mean) == list(checkpoints[0])
    for name, x in mean.items():
        assert x.dtype == checkpoints[0][name].dtype
        torch.testing.assert_close(x, sum(c[name] for c in checkpoints) / count)
        assert all(torch.equal(c[name], b[name]) for c, b in zip(checkpoints, before, strict=True))
        assert x.data_ptr() != checkpoints[0][name].data_ptr()


def test_the_average_in_half_precision_is_rounded_once():
    checkpoints = [{"x": torch.tensor([1.0 + i / 1024]).half()} for i in range(5)]
    assert average_checkpoints(checkpoints)["x"].item() == 1 + 2 / 1024
    large = [{"x": torch.tensor([60000.0]).half()}] * 5
    assert average_checkpoints(large)["x"].item() == large[0]["x"].item()  # the sum would be infinite


def test_the_average_of_integers_is_an_integer():
    mean = average_checkpoints([{"n": torch.tensor(n)} for n in (4, 6)])["n"]
    assert mean.dtype == torch.int64
    assert mean.item() == 5


def test_the_average_loads_into_the_model():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    model.load_state_dict(average_checkpoints([state(0), state(1)]))
    torch.testing.assert_close(model[0].weight, (state(0)["0.weight"] + state(1)["0.weight"]) / 2)
