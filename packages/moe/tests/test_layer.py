"""The layer: both paths equal, tokens alone, padding nowhere, capacity, half precision, state."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from moe_cases import GATES, grouped, layer, tokens, twin_of

from moe import MoE, SwitchGate, TopKGate, update_bias


def both(made, x, mask=None):
    """Outputs, gradients and infos of both paths with the same noise."""
    results = []
    for path in (made, twin_of(made)):
        torch.manual_seed(3)
        path.zero_grad()
        inputs = x.clone().requires_grad_()
        y, info = path(inputs, mask)
        losses = info.importance_loss + info.load_loss + info.balance_loss + info.z_loss
        (y.square().sum() + losses.to(y.dtype)).backward()
        results.append((y, info, inputs.grad, {n: p.grad for n, p in path.named_parameters() if p.grad is not None}))
    return results


@settings(max_examples=60, deadline=None)
@given(
    gate=st.sampled_from(GATES), n_experts=st.integers(2, 7), k=st.integers(1, 4), shared=st.integers(0, 2),
    activation=st.sampled_from(["relu", "swiglu"]), capacity=st.sampled_from([None, 0.3, 1.0, 1.25, 50.0]),
    shape=st.lists(st.integers(1, 5), max_size=3), training=st.booleans(),
    masked=st.sampled_from([None, 0.0, 0.5, 1.0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)  # fmt: skip
def test_sorted_is_as_printed(
    gate, n_experts, k, shared, activation, capacity, shape, training, masked, dtype
):  # fmt: skip
    k = 1 if gate == "switch" else max(2, min(k, n_experts)) if gate == "noisy_topk" else min(k, n_experts)
    made = layer(gate, n_experts, dtype, k=k, shared_experts=shared, activation=activation, capacity_factor=capacity)
    made.train(training)
    x = tokens(*shape, dtype=dtype)
    mask = None if masked is None else torch.rand(shape, generator=torch.Generator().manual_seed(2)) < masked
    (y, info, dx, dp), (y_2, info_2, dx_2, dp_2) = both(made, x, mask)
    tolerance = {"rtol": 1e-10, "atol": 1e-11} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(y, y_2, **tolerance)
    torch.testing.assert_close(dx, dx_2, **tolerance)
    torch.testing.assert_close(dp, dp_2, **tolerance)
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    assert info.counts.sum() == k * (math.prod(shape) if mask is None else mask.sum())
    assert torch.equal(info.counts, info_2.counts)
    assert info.dropped == info_2.dropped == 0 if capacity in (None, 50.0) else True


def test_against_a_plain_sum():
    """Eq. 1 written a third time, token by token."""
    made, x = layer("topk_softmax", activation="swiglu"), tokens(9)
    made.gate.bias.zero_()
    y, info = made(x)
    gates = torch.zeros(9, 6, dtype=torch.float64)
    for t in range(9):
        p = (made.gate.W_r @ x[t]).exp()
        best = sorted(range(6), key=lambda i: -float(p[i].detach()))[:2]
        total = 0
        for i in best:
            gates[t, i] = p[i] / p[best].sum()
            gate, other = (made.experts.W_1[i] @ x[t]).chunk(2)
            total = total + gates[t, i] * (made.experts.W_2[i] @ (gate * gate.sigmoid() * other))
        torch.testing.assert_close(y[t], total)
    torch.testing.assert_close(info.importance, gates.sum(0))
    assert info.counts.tolist() == (gates > 0).sum(0).tolist()


@pytest.mark.parametrize("gate", [*GATES, grouped(), grouped(scores="sigmoid")], ids=str)
def test_in_eval_each_token_stands_alone(gate):
    made, x = layer(gate).eval(), tokens(30)
    y, _ = made(x)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(made(x[order])[0], y[order])
    for t in range(30):
        torch.testing.assert_close(made(x[t])[0], y[t])
    torch.testing.assert_close(made(x.view(5, 6, 8))[0].view(30, 8), y)
    torch.testing.assert_close(made(x)[0], y, rtol=0, atol=0)


@pytest.mark.parametrize("gate", ["noisy_topk", "switch"])
def test_noise_in_training_only(gate):
    made, x = layer(gate), tokens(30)
    assert not torch.equal(made(x)[0], made(x)[0])
    made.eval()
    assert torch.equal(made(x)[0], made(x)[0])


@pytest.mark.parametrize("capacity_factor", [None, 1.0])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("gate", GATES)
def test_padding_acts_nowhere(gate, fused, capacity_factor):
    made = layer(gate, capacity_factor=capacity_factor, fused=fused, shared_experts=1).eval()
    mask = torch.rand(4, 7, generator=torch.Generator().manual_seed(0)) < 0.6
    x = tokens(4, 7)
    x[~mask] = math.nan
    x.requires_grad_()
    y, info = made(x, mask)
    alone, info_alone = made(x.detach()[mask])
    assert torch.equal(y[mask], alone)
    assert not y[~mask].any()
    for name, value in vars(info_alone).items():
        assert torch.equal(torch.as_tensor(getattr(info, name) or 0 if name == "capacity" else getattr(info, name)),
                           torch.as_tensor(value or 0 if name == "capacity" else value))  # fmt: skip
    (y.square().sum() + info.z_loss).backward()
    assert not x.grad[~mask].any()
    assert x.grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in made.parameters())


def test_all_padding():
    made, x = layer("noisy_topk"), tokens(3, 4).requires_grad_()
    y, info = made(x, torch.zeros(3, 4, dtype=torch.bool))
    loss = y.sum() + info.importance_loss + info.load_loss + info.balance_loss + info.z_loss
    loss.backward()
    assert loss == 0
    assert not any(p.grad is not None and p.grad.any() for p in made.parameters())


def test_capacity_is_switchs():
    """Ten tokens that all want one expert, of four: ⌈1.25 · 10 / 4⌉ = 4 are served, the first ones, and six pass by."""
    made = layer(SwitchGate(8, 4), n_experts=4, capacity_factor=1.25).eval()
    x = tokens(1).expand(10, 8)
    y, info = made(x)
    assert (info.capacity, int(info.dropped)) == (4, 6)
    assert y[:4].all()
    assert not y[4:].any()
    assert info.counts.sum() == 10


def test_first_choices_are_served_first():
    """Two experts, both chosen by each token; capacity 2 of 3. Second choices yield to first ones."""
    made = layer("topk_softmax", n_experts=2, capacity_factor=2 / 3).eval()
    with torch.no_grad():
        made.gate.W_r.zero_()[0, 0] = 1
    x = tokens(3)
    x[:, 0] = torch.tensor([-1.0, 1.0, 1.0])  # the first token prefers expert 1, the others expert 0
    y, info = made(x)
    assert (info.capacity, int(info.dropped)) == (2, 2)
    p = made.gate(x).probs
    for t, kept in enumerate(([1], [0, 1], [0])):  # expert 0: tokens 1, 2; expert 1: token 0, then 1
        true = sum(p[t, i] * made.experts.one(i, x[t]) for i in kept)
        torch.testing.assert_close(y[t], true)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_nothing_is_dropped_where_capacity_allows(k):
    made = layer(TopKGate(8, 6, k), capacity_factor=6 / k)
    y, info = made(tokens(1).expand(11, 8))
    assert info.capacity == 11
    assert info.dropped == 0
    unlimited = layer(TopKGate(8, 6, k))
    unlimited.load_state_dict(made.state_dict())
    assert torch.equal(y, unlimited(tokens(1).expand(11, 8))[0])


@pytest.mark.parametrize("factor", [1.1, 0.7, 1.3, 100.0, 1e-9])
def test_capacity_of_decimals(factor):
    made = layer("switch", n_experts=5, capacity_factor=factor)
    for n in (1, 7, 50, 500):
        assert made.capacity(n) == min(n, math.ceil(Fraction(str(factor)) * n / 5))


def test_dropping_falls_with_capacity():
    x = tokens(500)
    dropped = [int(layer("switch", capacity_factor=c).eval()(x)[1].dropped) for c in (0.5, 1.0, 1.25, 2.0, 6.0)]
    assert dropped == sorted(dropped, reverse=True)
    assert dropped[0] > dropped[-1] == 0


@pytest.mark.parametrize("gate", ["switch", "topk_sigmoid", TopKGate(8, 6, 1)], ids=str)
def test_one_expert_leaves_the_router_a_gradient(gate):
    made = layer(gate, k=1)
    made(tokens(20))[0].square().sum().backward()
    assert made.gate.W_r.grad.abs().max() > 1e-3


def test_layers_are_balanced_each_for_itself():
    """Two layers, one's load on the first half of the experts, the other's on the second: balanced only if mixed up."""
    layers = [layer("switch").eval(), layer("switch").eval()]
    x = tokens(200).abs()
    for made, half in zip(layers, (slice(3), slice(3, 6)), strict=True):
        with torch.no_grad():
            made.gate.W_r[half] += 3
    infos = [made(x)[1] for made in layers]
    assert all(info.balance_loss > 1.7 for info in infos)
    assert infos[0].balance_loss == layers[0](x)[1].balance_loss  # nothing is kept from one call for the next


@pytest.mark.parametrize("gate", GATES)
def test_balanced_from_the_start_and_finite_gradients(gate):
    """Zero logits are a tie for everybody: no loss has a NaN in its gradient there."""
    made = layer(gate)
    with torch.no_grad():
        for p in made.gate.parameters():
            p.zero_()
    _, info = made(tokens(12))
    (info.importance_loss + info.load_loss + info.balance_loss + info.z_loss).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in made.parameters())


def test_shazeers_start_is_balanced():
    """Appendix A: with both matrices at zero CV(Load) is near 0."""
    torch.manual_seed(0)
    _, info = MoE(16, 4, 64, k=4)(torch.randn(4096, 16))
    assert info.load_loss.sqrt() < 0.15
    assert info.counts.double().std() / info.counts.double().mean() < 0.15


def test_bias_balances_without_a_loss():
    torch.manual_seed(0)
    made = layer(TopKGate(8, 6, 2, scores="sigmoid"))
    made.gate.bias.zero_()
    x = tokens(400) + 0.7
    first = made(x)[1].counts
    for _ in range(300):
        update_bias(made.gate, made(x)[1].counts, gamma=0.01)
    last = made(x)[1].counts
    assert first.max() / first.double().mean() > 1.3
    assert last.max() / last.double().mean() < 1.1


def test_bias_rule():
    gate = TopKGate(8, 4, 2)
    update_bias(gate, torch.tensor([5, 3, 4, 4]), gamma=0.1)
    torch.testing.assert_close(gate.bias, torch.tensor([-0.1, 0.1, 0.0, 0.0]))


def test_bias_chooses_and_does_not_weigh():
    made, x = layer("topk_sigmoid", k=2).eval(), tokens(10)
    made.gate.bias.zero_()
    scores = (x @ made.gate.W_r.T).sigmoid()
    made.gate.bias[:2] = 10
    routing = made.gate(x)
    assert routing.experts.sort(-1).values.tolist() == [[0, 1]] * 10
    torch.testing.assert_close(routing.weights, (w := scores.gather(1, routing.experts)) / w.sum(-1, keepdim=True))
    made(x)[0].sum().backward()
    assert made.gate.bias.grad is None


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("fused", [True, False])
def test_bfloat16(gate, fused):
    """The router is in float32: experts chosen are those of float32 with the same (rounded) numbers."""
    made = layer(gate, dtype=torch.float32, fused=fused, activation="swiglu", shared_experts=1).eval().bfloat16()
    x = tokens(64, dtype=torch.bfloat16)
    plain = layer(gate, dtype=torch.float32, fused=fused, activation="swiglu", shared_experts=1).eval()
    plain.load_state_dict(made.float().state_dict())
    made.bfloat16()
    y, info = made(x)
    y_32, info_32 = plain(x.float())
    assert y.dtype == torch.bfloat16
    assert torch.equal(info.counts, info_32.counts)
    assert info.z_loss.dtype == info.importance.dtype == torch.float32
    torch.testing.assert_close(info.z_loss, info_32.z_loss)
    assert (y.float() - y_32).norm() < 0.01 * y_32.norm()


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("fused", [True, False])
def test_autocast(gate, fused):
    made = layer(gate, dtype=torch.float32, fused=fused, shared_experts=1).eval()
    x = tokens(64, dtype=torch.float32)
    y_32, info_32 = made(x)
    with torch.autocast("cpu", torch.bfloat16):
        y, info = made(x)
        loss = y.float().square().sum() + info.z_loss + info.balance_loss + info.importance_loss
    loss.backward()
    assert y.dtype == torch.bfloat16
    for name in ("balance_loss", "importance_loss", "z_loss", "counts"):
        assert torch.equal(getattr(info, name), getattr(info_32, name)), name
    assert (y.float() - y_32).norm() < 0.01 * y_32.norm()


@pytest.mark.parametrize("gate", GATES)
def test_state_round_trip(gate, tmp_path):
    made = layer(gate, shared_experts=1).eval()
    torch.save(made.state_dict(), tmp_path / "layer.pt")
    other = MoE(8, 12, 6, gate=gate, shared_experts=1).double().eval()
    other.load_state_dict(torch.load(tmp_path / "layer.pt", weights_only=True))
    x = tokens(20)
    assert torch.equal(made(x)[0], other(x)[0])


def test_compiled():
    made, x = layer("topk_softmax", activation="swiglu").eval(), tokens(20)
    torch.testing.assert_close(torch.compile(made, backend="aot_eager")(x)[0], made(x)[0])


def test_same_seed_same_layer():
    torch.manual_seed(5)
    a = MoE(8, 12, 4, gate="switch")
    torch.manual_seed(5)
    b = MoE(8, 12, 4, gate="switch")
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert float(MoE(64, 256, 8).experts.W_1.detach().abs().max()) <= 2 * math.sqrt(0.1 / 64)
