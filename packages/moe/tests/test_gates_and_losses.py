"""Gates and losses against the formulas, simulation, and values that are known."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from moe_cases import tokens

from moe import NoisyTopKGate, SwitchGate, TopKGate, importance_loss, load_loss, router_z_loss, switch_balance_loss
from moe.gates import load_probability


@pytest.mark.parametrize("k", [2, 3])
def test_load_estimator_is_its_monte_carlo_value(k):
    """Eq. 8: the noise of one expert is drawn again a million times, that of the others stays."""
    generator = torch.Generator().manual_seed(0)
    clean, noise, scale = (torch.randn(1, 5, generator=generator).double() for _ in range(3))
    scale = scale.exp()
    H = clean + noise * scale
    P = load_probability(clean, H, scale, k)[0]
    for i in range(5):
        others = H[0][torch.arange(5) != i].sort(descending=True).values
        again = clean[0, i] + scale[0, i] * torch.randn(1_000_000, generator=generator).double()
        assert abs((again > others[k - 1]).double().mean() - P[i]) < 2e-3


def test_load_of_all_experts_is_all():
    gate = NoisyTopKGate(8, 3, 3)
    assert gate(tokens(10)).load.tolist() == [10.0] * 3


@settings(max_examples=30, deadline=None)
@given(n=st.integers(2, 8), data=st.data())
def test_noisy_gate_is_the_formula(n, data):
    k = data.draw(st.integers(2, n))
    torch.manual_seed(n)
    gate, x = NoisyTopKGate(8, n, k).double(), tokens(6)
    with torch.no_grad():
        gate.W_g.normal_()
        gate.W_noise.normal_()
    torch.manual_seed(1)
    routing = gate(x)
    torch.manual_seed(1)
    H = x @ gate.W_g.T + torch.randn(6, n, dtype=torch.float64) * (1 + (x @ gate.W_noise.T).exp()).log()
    kept = H.masked_fill(H.sort(-1, descending=True).values[:, k - 1 : k] > H, -math.inf)
    G = torch.zeros_like(H).scatter(1, routing.experts, routing.weights)
    torch.testing.assert_close(G, kept.softmax(-1))
    assert routing.load.min() >= 0
    assert routing.load.max() <= 6


@settings(max_examples=50, deadline=None)
@example(values=[5e-324])
@example(values=[0.0, 1e-300])
@given(values=st.lists(st.floats(0, 1e3), min_size=1, max_size=9))
def test_losses_are_squared_cv(values):
    v = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    loss = load_loss(v)
    mean = sum(values) / len(values)
    true = sum((x / mean - 1) ** 2 for x in values) / len(values) if mean > 1e-290 else 0.0
    assert loss.item() == pytest.approx(true, abs=1e-12)
    torch.testing.assert_close(importance_loss(torch.stack([v / 2, v / 2])), loss)
    assert torch.autograd.grad(loss, v)[0].isfinite().all()


@pytest.mark.parametrize("value", [0.0, 1.0, 7.0])
def test_balanced_loads_have_no_nan(value):
    v = torch.full((8,), value, requires_grad=True)
    loss = load_loss(v)
    loss.backward()
    assert loss == 0
    assert not v.grad.any()


def test_load_loss_of_one_expert_used():
    """All on one of n: the variance is (n − 1) times the squared mean."""
    assert load_loss(torch.tensor([12.0, 0, 0, 0])) == 3


def test_switch_loss_is_1_at_uniform_routing():
    probs = torch.full((8, 4), 0.25)
    assert switch_balance_loss(probs, torch.arange(8) % 4) == 1
    assert switch_balance_loss(probs, torch.stack([torch.arange(8) % 4, (torch.arange(8) + 1) % 4], 1)) == 1
    collapsed = torch.tensor([[1.0, 0, 0, 0]]).expand(8, 4)
    assert switch_balance_loss(collapsed) == 4


def test_switch_loss_gradient_is_alone_through_P():
    logits = tokens(6).requires_grad_()
    probs = logits.softmax(-1)
    loss = switch_balance_loss(probs)
    f = torch.bincount(probs.argmax(-1), minlength=8) / 6
    true = 8 * (f * probs.mean(0)).sum()
    torch.testing.assert_close(loss, true)
    torch.testing.assert_close(*(torch.autograd.grad(y, logits, retain_graph=True)[0] for y in (loss, true)))


def test_z_loss():
    assert router_z_loss(torch.zeros(5, 8)).item() == pytest.approx(math.log(8) ** 2)
    assert router_z_loss(torch.full((2, 2), 1000.0)).item() == pytest.approx((1000 + math.log(2)) ** 2)


def test_losses_of_half_precision_are_float32():
    v = (100 + torch.arange(64) % 2).bfloat16()
    assert load_loss(v).dtype == torch.float32
    torch.testing.assert_close(load_loss(v), load_loss(v.double()).float())


def test_mixtral_is_softmax_after_selection():
    """MX-3: the softmax over the chosen logits is the whole softmax, renormalised."""
    gate, x = TopKGate(8, 6, 2).double(), tokens(50)
    routing = gate(x)
    top = (x @ gate.W_r.T).topk(2)
    assert torch.equal(routing.experts, top.indices)
    torch.testing.assert_close(routing.weights, top.values.softmax(-1), rtol=1e-12, atol=1e-12)


def test_switch_gate_is_the_probability():
    gate, x = SwitchGate(8, 6).double().eval(), tokens(50)
    probs = (x @ gate.W_r.T).softmax(-1)
    torch.testing.assert_close(gate(x).weights[:, 0], probs.max(-1).values)


def test_jitter_stays_in_its_bounds():
    gate = SwitchGate(1, 2, jitter=0.1).double()
    with torch.no_grad():
        gate.W_r.copy_(torch.tensor([[1.0], [0.0]]))
    seen = gate(torch.ones(2000, 1, dtype=torch.float64)).logits[:, 0]
    assert 0.9 <= seen.min() < 0.905
    assert 1.095 < seen.max() <= 1.1
