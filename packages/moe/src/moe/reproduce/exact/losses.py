"""The balancing losses, the smooth load, and the gates, against what they are said to be."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from papertest.claims import Measured, Run, claim

import moe
from moe import gates


def draw(run: Run, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(run.seed), dtype=torch.float64)


@claim("load-estimator")
def load_estimator(run: Run) -> Measured:
    """For each token and expert a million draws (20,000 with --quick) of its noise alone; the rest of H stays."""
    k, draws = 3, 20_000 if run.quick else 1_000_000
    clean, noise = draw(run, 2, 8, 8)
    scale = F.softplus(draw(run, 3, 8, 8)[2])
    H = clean + noise * scale
    closed = gates.load_probability(clean, H, scale, k)
    fresh = torch.Generator().manual_seed(run.seed + 1)
    seen = torch.zeros_like(closed)
    for t in range(len(H)):
        for i in range(H.shape[1]):
            others = torch.cat((H[t, :i], H[t, i + 1 :])).sort(descending=True).values
            again = clean[t, i] + scale[t, i] * torch.randn(draws, generator=fresh)
            seen[t, i] = (again > others[k - 1]).double().mean()
    return Measured(
        (closed - seen).abs().max().item(), {"draws": draws, "closed": closed.tolist(), "seen": seen.tolist()}
    )


@claim("balanced-losses")
def balanced_losses(run: Run) -> Measured:
    """Eight experts, each with the same gate values over 64 tokens; the details have the gradient of (σ/μ)²."""
    gate_values = torch.full((64, 8), 0.125, dtype=torch.float64, requires_grad=True)
    load = torch.full((8,), 16.0, dtype=torch.float64, requires_grad=True)
    importance, balanced = moe.importance_loss(gate_values), moe.load_loss(load)
    (importance + balanced).backward()
    rooted = torch.full((8,), 16.0, dtype=torch.float64, requires_grad=True)
    (rooted.var(correction=0).sqrt() / rooted.mean()).square().backward()
    assert gate_values.grad is not None and load.grad is not None and rooted.grad is not None
    gradients = max(gate_values.grad.abs().max().item(), load.grad.abs().max().item())
    value = {"importance": importance.item(), "load": balanced.item(), "gradients": gradients}
    return Measured(value, {"rooted_gradient_is_finite": bool(rooted.grad.isfinite().all())})


@claim("initial-balance")
def initial_balance(run: Run) -> Measured:
    """NoisyTopKGate as it is made, in training; the details have what chance alone gives."""
    tokens, experts, k = 4096, 64, 4
    torch.manual_seed(run.seed)
    layer = moe.MoE(16, 4, experts, k, gate="noisy_topk").train()
    _, info = layer(torch.randn(tokens, 16))
    load = info.counts.double()
    chance = math.sqrt((1 - k / experts) / (tokens * k / experts))
    details = {"chance": chance, "max_over_mean": (load.max() / load.mean()).item()}
    return Measured((load.std(correction=0) / load.mean()).item(), details)


@claim("balance-uniform")
def balance_uniform(run: Run) -> Measured:
    """As many tokens as experts, each choosing its own; the details have the loss where all choose the first."""
    value: dict[str, float] = {}
    collapsed: dict[str, float] = {}
    for n in (2, 8, 64, 256):
        probs = torch.full((n, n), 1 / n, dtype=torch.float64)
        value[f"e_{n}"] = moe.switch_balance_loss(probs, torch.arange(n)).item()
        first = torch.zeros(n, n, dtype=torch.float64)
        first[:, 0] = 1
        collapsed[str(n)] = moe.switch_balance_loss(first).item()
    return Measured(value, {"collapsed": collapsed})


@claim("balance-minimum")
def balance_minimum(run: Run) -> Measured:
    """The choices are the argmax of the probabilities, as in Eq. 5; the details have f and P."""
    probs = torch.tensor([[0.501, 0.499]] * 3 + [[0.001, 0.999]], dtype=torch.float64)
    chosen = F.one_hot(probs.argmax(-1), 2).double().mean(0)
    return Measured(moe.switch_balance_loss(probs).item(), {"f": chosen.tolist(), "P": probs.mean(0).tolist()})


@claim("mixtral-gate")
def mixtral_gate(run: Run) -> dict[str, float]:
    """The gate's weights in the columns of its experts, 0 elsewhere."""
    x = draw(run, 1000, 32)
    gate = gates.TopKGate(32, 8, 2).double()
    with torch.no_grad():
        gate.W_r.normal_(generator=torch.Generator().manual_seed(run.seed + 1))
        routing = gate(x)
    G = torch.zeros(1000, 8, dtype=torch.float64).scatter(1, routing.experts, routing.weights)
    logits = x @ gate.W_r.detach().T
    second = logits.sort(descending=True).values[:, 1:2]
    printed = logits.masked_fill(logits < second, -math.inf).softmax(-1)
    full = logits.softmax(-1).where(logits >= second, 0)
    renormalised = full / full.sum(-1, keepdim=True)
    return {"printed": (G - printed).abs().max().item(), "renormalised": (G - renormalised).abs().max().item()}


@claim("deepseek-bias-chooses")
def deepseek_bias_chooses(run: Run) -> dict[str, float]:
    """Sigmoids without renormalising, so that a weight is the affinity; 1,000 tokens, 8 experts, k = 2."""
    x = draw(run, 1000, 32)
    gate = gates.TopKGate(32, 8, 2, scores="sigmoid", renormalise=False).double()
    with torch.no_grad():
        gate.W_r.normal_(std=0.2, generator=torch.Generator().manual_seed(run.seed + 1))
        gate.bias[3] = 1
        routing = gate(x)
        affinities = (x @ gate.W_r.T).sigmoid()
    change = (routing.weights - affinities.gather(1, routing.experts)).abs().max().item()
    return {"affinity": change, "chosen": (routing.experts == 3).any(1).double().mean().item()}


@claim("deepseek-bias-balances")
def deepseek_bias_balances(run: Run) -> Measured:
    """Tokens around a common direction, so that a few experts are liked by all; γ = 0.001."""
    updates = 1000
    x = draw(run, 1024, 32) + 2 * draw(run, 32)
    gate = gates.TopKGate(32, 16, 4, scores="sigmoid").double()
    with torch.no_grad():
        gate.W_r.normal_(std=0.1, generator=torch.Generator().manual_seed(run.seed + 1))
        ratios: list[float] = []
        for _ in range(updates + 1):
            counts = torch.bincount(gate(x).experts.flatten(), minlength=16)
            ratios.append((counts.max() / counts.double().mean()).item())
            gates.update_bias(gate, counts)
    return Measured({"before": ratios[0], "after": ratios[-1]}, {"every_100": ratios[::100]})
