"""For every exact and printed claim a mistake made on purpose, and the verdict that it turns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from papertest.mutation import Mutations, put

import moe
from moe import count, experts, gates, layer, losses, parallel
from moe import jax as moe_jax

bench = Mutations(__file__)
EXACT = bench.tier("exact", "printed")
NOT_REPRODUCED = {
    "shazeer-moe-256-ops", "shazeer-moe-143m-params", "shazeer-moe-34m-total", "shazeer-18-percent",
    "shazeer-w-load-order", "t5-large-params", "balance-minimum", "switch-xxl-params", "switch-large-params",
    "switch-base-heads", "switch-expert-dropout", "t5-large-flops", "distillation-compression",
    "distillation-hundredfold", "switch-both-ahead", "switch-xxl-flops", "mixtral-all-benchmarks", "mixtral-locality",
    "deepseek-active-small", "deepseek-half-activated", "deepseek-cache-elements",
}  # fmt: skip


# ------------------------------------------------------------------------------------- the mistakes


count_moe = moe.count_moe


def counting(rule):
    """Every model counted another way: fields of the count from the model and the right count."""

    def counted(model):
        right = count_moe(model)
        return replace(right, **rule(model, right))

    return put(count, "count_moe", counted)


def one_level_of_gates(model, right):
    """A hierarchical gate without W_noise."""
    return {"total": right.total - model.d_model * (model.n_experts + model.branch)}


def all_columns(model, right):
    """All columns of the gate are multiplied, also of a hierarchy's groups that were not chosen."""
    return {"multiply_adds": right.multiply_adds + 2 * model.d_model * model.n_experts}


MoE, t5_flops = moe.MoE, count.t5_flops


def built_with(**options):
    """Layers of other settings than the claim asks for."""
    return put(moe, "MoE", lambda *args, **asked: MoE(*args, **(asked | options)))


make_gate = gates.TopKGate.__init__


def gates_with(**options):
    def init(self, *args, **asked):
        make_gate(self, *args, **(asked | options))

    return put(gates.TopKGate, "__init__", init)


def kth_of_all(clean, H, scale, k):
    """The kth of all, instead of the kth of the others."""
    return torch.special.ndtr((clean - H.topk(k).values[:, k - 1 : k]) / scale)


def rooted(v):
    """CV² by way of a square root, whose gradient at 0 is NaN."""
    return (v.var(correction=0).sqrt() / v.mean()).square()


make_noisy = gates.NoisyTopKGate.__init__


def not_zero(self, *args, **options):
    make_noisy(self, *args, **options)
    torch.nn.init.normal_(self.W_g)


def without_n(probs, counts):
    """Σ f_i P_i without N."""
    return (counts / counts.sum() * probs.mean(0)).sum()


def probable_twice(probs, counts):
    """P in the place of f."""
    return probs.shape[1] * probs.mean(0).square().sum()


forward, update_bias, expert_capacity = gates.TopKGate.forward, gates.update_bias, layer.expert_capacity


def weighing(self, x):
    """The bias is in the weights too."""
    right = forward(self, x)
    return replace(right, weights=right.weights + self.bias[right.experts])


def one_more(*args):
    return expert_capacity(*args) + 1


def other_way(gate, counts, gamma=0.001):
    """Experts with much load get more."""
    update_bias(gate, counts.max() - counts, gamma)


exchange_bytes = parallel.exchange_bytes


feed_forward = experts.feed_forward


def swapped(x, W_1, W_2, activation):
    """The gate's rows behind the others."""
    return feed_forward(x, W_1.roll(len(W_1) // 2, 0), W_2, activation)


MISTAKES = {
    "shazeer-params": counting(one_level_of_gates),
    "shazeer-ops": counting(all_columns),
    "switch-params": counting(lambda _, right: {"total": right.total + right.tables}),
    "switch-flops": put(count, "t5_flops", lambda *args: t5_flops(*args) / 2),
    "mixtral-params": counting(lambda _, right: {"active": right.total}),
    "deepseek-totals": counting(lambda _, right: {"total": right.total - right.tables // 2}),
    "deepseek-active": counting(lambda _, right: {"active": right.active + right.tables // 2}),
    "constant-operations": built_with(fused=False),
    "deepseek-ablation-size": built_with(shared_experts=0),
    "switch-capacity": put(layer, "expert_capacity", one_more),
    "load-estimator": put(gates, "load_probability", kth_of_all),
    "balanced-losses": put(losses, "squared_cv", rooted),
    "initial-balance": put(gates.NoisyTopKGate, "__init__", not_zero),
    "balance-uniform": put(losses, "balance", without_n),
    "balance-minimum": put(losses, "balance", probable_twice),
    "mixtral-gate": gates_with(renormalise=False),
    "mixtral-parity": gates_with(renormalise=False),
    "deepseek-parity": gates_with(scale=1.0),
    "deepseek-bias-chooses": put(gates.TopKGate, "forward", weighing),
    "deepseek-bias-balances": put(gates, "update_bias", other_way),
    "moe-flax-twin": put(moe_jax.MoE, "capacity", lambda self, tokens: tokens),
    "expert-parallel": put(parallel, "exchange_bytes", lambda *args, **sizes: exchange_bytes(*args, **sizes) / 2),
}


def cell(name, row, column, value):
    """A table with another number in one cell."""
    paper, _, entry = name.rpartition("/")
    (found,) = [r.reported[entry] for i, r in bench.package.papers.items() if entry in r.reported and paper in ("", i)]
    table: Any = found.value
    columns: Any = found.columns
    old = table[row] if row else table
    new = [value if c == column else x for c, x in zip(columns, old, strict=True)]
    assert new != old
    return bench.transcribed(name, new) if row is None else bench.transcribed(name, **{row: new})


SHAZEER_7, SWITCH_1, SWITCH_5 = "sparsely-gated-moe/table-7", "switch-transformer/table-1", "switch-transformer/table-5"
MISREAD = {  # these have no implementation to break, or a right one against a wrong number: they misread the paper
    "shazeer-moe-256-ops": lambda: cell(SHAZEER_7, "ops", "MoE-256", 8.7),
    "shazeer-moe-143m-params": lambda: cell(SHAZEER_7, "params", "MoE-143M", 4371.0),
    "shazeer-totals": lambda: cell(SHAZEER_7, "total", "MoE-143M", 6.1),
    "shazeer-moe-34m-total": lambda: cell(SHAZEER_7, "total", "MoE-34M", 5.9),
    "shazeer-24-39-percent": lambda: bench.transcribed("sparsely-gated-moe/section-5-text", news=38),
    "shazeer-18-percent": lambda: bench.transcribed("sparsely-gated-moe/section-5-text", computation=19),
    "shazeer-w-load-order": lambda: cell("sparsely-gated-moe/table-6", "max_over_mean", "0.0-0.2", 1.13),
    "shazeer-bleu": lambda: cell("sparsely-gated-moe/table-2", "gnmt", "en-fr", 39.92),
    "shazeer-multilingual": lambda: cell("sparsely-gated-moe/table-5", "moe", "en-ko", 26.62),
    "t5-large-params": lambda: bench.transcribed("text-parameters", large=750),
    "switch-xxl-params": lambda: cell("table-9", "experts", "Switch-XXL", 128),
    "switch-large-params": lambda: cell("table-9", "hidden", "Switch-Large", 2700),
    "switch-base-heads": lambda: cell("table-9", "heads", "Switch-Base", 14),
    "switch-low-capacity": lambda: cell(SWITCH_1, "quality", "MoE-2.0", -1.574),
    "switch-expert-dropout": lambda: bench.transcribed("table-4-text", 2),
    "switch-superglue": lambda: cell(SWITCH_5, "switch_large", "SuperGLUE", 84.9),
    "switch-speedup-text": lambda: bench.transcribed("scaling-text", t5=420),
    "t5-large-flops": lambda: bench.transcribed("time-text", large_flops=3.4),
    "distillation-kept": lambda: bench.transcribed("switch-transformer/table-8", distilled=76.8),
    "distillation-compression": lambda: bench.transcribed(
        "switch-transformer/table-7", compression=[80, 89, 94, 97, 98]
    ),
    "distillation-hundredfold": lambda: bench.transcribed("table-6-caption", 20),
    "switch-xxl-gaps": lambda: cell("table-9", "at_500k", "T5-XXL", -1.096),
    "switch-both-ahead": lambda: cell("table-9", "at_250k", "Switch-C", -1.086),
    "switch-xxl-flops": lambda: cell("table-9", "flops", "Switch-C", 680),
    "mixtral-abstract": lambda: bench.transcribed("mixtral/table-1", top_k_experts=3),
    "mixtral-fewer-active": lambda: bench.transcribed("fewer-active", mixtral=12),
    "mixtral-all-benchmarks": lambda: bench.transcribed("all-benchmarks", 9),
    "mixtral-random": lambda: bench.transcribed("mixtral/table-1", num_experts=7),
    "mixtral-locality": lambda: cell("table-5-either", "dm_mathematics", 31, 54.5),
    "deepseek-active-small": lambda: bench.transcribed("active-parameters", moe_16b=2.6, v2_lite=2.5),
    "deepseek-combinations": lambda: bench.transcribed("combinations", coarse=136),
    "deepseek-2b-experts": lambda: bench.transcribed("validation-size", layers=8),
    "deepseek-computation": lambda: cell("deepseek-moe/table-6", "flops", "142B", 347.6),
    "deepseek-half-activated": lambda: cell("deepseek-moe/table-6", "active", "142B", 13.2),
    "deepseek-cache-elements": lambda: bench.transcribed("v2-cache", saving=82.2),
    "deepseek-cache-bits": lambda: bench.transcribed("v2-cache", bits=8),
    "deepseek-gqa-groups": lambda: bench.transcribed("v2-cache", rotary=32),
    "deepseek-cache-left": lambda: cell("v2-table-9", "mla", "small", 16.5),
    "deepseek-cost": lambda: bench.transcribed("v3-cost", rate=3),
}
BESIDES = {  # a second way to be wrong, for claims with more than one part
    "deepseek-parity: V2 renormalised": ("deepseek-parity", gates_with(renormalise=True)),
    "deepseek-bias-chooses: no bias": (
        "deepseek-bias-chooses", put(gates.TopKGate, "allowed", lambda self, choice: choice - self.bias)
    ),
    "mixtral-parity: the halves change places": ("mixtral-parity", put(experts, "feed_forward", swapped)),
}  # fmt: skip


def test_every_exact_claim_has_a_mistake():
    assert set(MISTAKES) | set(MISREAD) == set(EXACT) and not set(MISTAKES) & set(MISREAD)


test_a_mistake_turns_the_verdict = bench.turning(EXACT, MISTAKES, MISREAD, NOT_REPRODUCED)
test_another_mistake_turns_the_verdict = bench.turning_besides(BESIDES)
