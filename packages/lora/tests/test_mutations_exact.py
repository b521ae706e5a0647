"""For every exact claim a mistake made on purpose, and the verdict that it turns."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from papertest.accept import judge
from papertest.claims import Measured, Run
from papertest.fingerprint import Sources
from papertest.measure import Silent, seed_all
from papertest.package import Package

import lora
from lora import jax as lora_jax
from lora import layers
from lora.reproduce import architectures, parameters, savings

PACKAGE = Package.at(Path(__file__).parents[1] / "src" / "lora")
RECORD = PACKAGE.record
EXACT = [name for name, entry in RECORD.claims.items() if entry.tier == "exact"]
NOT_REPRODUCED = {
    "params-deberta",
    "params-gpt2",
    "params-prefix",
    "params-bitfit",
    "params-budgets-text",
    "optimizer-memory",
    "speedup-text",
}


def measure(claim, reported=None):
    """One measurement, as `reproduce` makes it; `reported` stands in for entries of the record."""
    entries = {i: RECORD.reported[i] for i in RECORD.claims[claim].reports} | (reported or {})
    seed_all(0)
    run = Run(0, "cpu", False, entries, Silent().track, lambda run, function, args: function(run, *args))
    measured = Sources(PACKAGE).function(claim)(run)
    return measured if isinstance(measured, Measured) else Measured(measured)


def verdict(claim, reported=None):
    """The verdict; a criterion that compares with the paper compares with `reported` where that is given."""
    value = measure(claim, reported).value
    paper = RECORD.reported_value(claim)
    if reported and len(RECORD.claims[claim].reports) == 1:
        ((_, entry),) = reported.items()
        paper = entry.value
    return judge(RECORD.claims[claim].accept, paper, [value]).verdict


def transcribed(name, **rows):
    """An entry of the record with some rows of its table replaced."""
    entry = RECORD.reported[name]
    return {name: entry.model_copy(update={"value": entry.value | rows})}


# ------------------------------------------------------------------------------------- the mistakes


def put(target, name, value):
    return lambda monkeypatch: monkeypatch.setattr(target, name, value)


add_lora = lora.add_lora


def with_biases(model, *args, **options):
    """The biases are trained as well as A and B."""
    return lora.mark_trainable(add_lora(model, *args, **options), bias="all")


def unfrozen(model, *args, **options):
    """The base is trained too."""
    return add_lora(model, *args, **options).requires_grad_(True)


insert = parameters.insert


def with_norms(model, after, d_model, width, *, norm):
    """AdapterL's LayerNorm in AdapterH."""
    return insert(model, after, d_model, width, norm=True)


class OneBiasMore(architectures.Block):
    """A layer with twelve vectors of d_model that are added."""

    def __init__(self, d_model):
        super().__init__(d_model)
        self.bias = nn.Parameter(torch.empty(d_model))


def one_layer_less(monkeypatch):
    monkeypatch.setitem(architectures.SIZES, "gpt2_large", (35, *architectures.SIZES["gpt2_large"][1:]))


def subtracted(self):
    """W_0 as W − s B A, a rounding away from what it was."""
    self.weight.data = (self.weight.data - self.delta_W(self.active)).to(self.weight.dtype)
    self.kept = None


start = layers.LoRALayer.add_adapter


def starting(*, A=None, B=None):
    """Pairs that start from something else."""

    def add_adapter(self, adapter, pair):
        start(self, adapter, pair)
        with torch.no_grad():
            for fill, factor in ((A, self.lora_A), (B, self.lora_B)):
                if fill:
                    fill(factor[adapter])

    return put(layers.LoRALayer, "add_adapter", add_adapter)


def scaled_by(rule):
    return put(layers.Pair, "s", property(rule))


lora_linear = layers.lora_linear


def doubled(x, W_0, b, A, B, s, dropout):
    """The right output, and twice the gradient of B."""
    return lora_linear(x, W_0, b, A, 2 * B - B.detach(), s, dropout)


save_adapter = lora.save_adapter


def without_alpha(model, path):
    """A file whose configuration has another alpha than the adapter."""
    save_adapter(model, path)
    config = path / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text("utf-8")) | {"lora_alpha": 8}), "utf-8")


def unscaled(self):
    """ΔW of the twin without s."""
    return self.B[...] @ self.A[...]


activate = layers.LoRALayer.activate


def first_only(self, adapter):
    """A switch that does not move once an adapter is active."""
    activate(self, self.active or adapter)


def copied(self, adapter, pair):
    """A base of its own for every adapter."""
    self.weight = nn.Parameter(self.weight.detach().clone())
    start(self, adapter, pair)


def never(self):
    return False


MISTAKES = {
    "params-roberta": put(parameters, "ROBERTA_R", 16),
    "params-deberta": put(parameters, "DEBERTA_R", 16),
    "params-gpt3": put(lora, "add_lora", with_biases),
    "params-bitfit": put(architectures, "Block", OneBiasMore),
    "params-adapters": put(parameters, "insert", with_norms),
    "params-ranks": put(lora, "add_lora", with_biases),
    "params-budget": put(lora, "add_lora", with_biases),
    "params-full": one_layer_less,
    "checkpoint-size": put(savings, "CHECKPOINT_R", 8),
    "parameter-share": put(savings, "CHECKPOINT_R", 8),
    "optimizer-memory": put(savings, "MOMENTS", 2.5),
    "memory-two-thirds": put(lora, "add_lora", unfrozen),
    "no-latency": put(layers.LoRALayer, "merged", property(never)),
    "merge-reversible": put(layers.LoRALayer, "unmerge", subtracted),
    "zero-init": starting(B=lambda B: B.normal_(std=1e-3)),
    "scaling": scaled_by(lambda pair: pair.alpha),
    "scaling-adam": scaled_by(lambda pair: pair.alpha / math.sqrt(pair.r)),
    "gradient-formulas": put(layers, "lora_linear", doubled),
    "gradient-start": starting(B=lambda B: B.normal_(std=1e-3)),
    "full-rank-limit": scaled_by(lambda pair: pair.alpha),
    "peft-parity": scaled_by(lambda pair: pair.alpha / math.sqrt(pair.r)),
    "flax-twin": scaled_by(lambda pair: pair.alpha),
    "switching": put(layers.LoRALayer, "activate", first_only),
}
MISREAD = {  # these have no implementation to break, or a right one against a wrong number: they misread a table
    "params-gpt2": lambda: transcribed("table-3-parameters", medium_lora=0.39, large_lora=0.74),
    "params-prefix": lambda: transcribed(
        "table-15-prefix", embed=[0.5, 0.9, 1.7, 3.2, 6.4], layer=[4.7, 9.4, 18.9, 42.5, 75.5]
    ),
    "params-budgets-text": lambda: transcribed("gpt3-budgets-text", q_k_v_o_2=18.9),
    "memory-text": lambda: transcribed("memory", full_tb=0.8),
    "speedup-text": lambda: transcribed("speedup", lora=40.6),
    "table-1-percentages": lambda: transcribed("table-1", adapter_l=[1482.0, 354.8, 24.9]),
    "table-2-averages": lambda: transcribed("table-2-average", xxl_lora=91.4),
    "table-7-arithmetic": lambda: transcribed("table-7", delta_w_4=0.23),
}
BESIDES = {  # a second way to be wrong, for claims with more than one part
    "zero-init: a uniform A": ("zero-init", starting(A=lambda A: A.uniform_(-0.05, 0.05))),
    "gradient-start: both at zero": ("gradient-start", starting(A=nn.init.zeros_)),
    "switching: a copy of the base": ("switching", put(layers.LoRALayer, "add_adapter", copied)),
    "no-latency: not merged": ("no-latency", put(lora, "merge_lora", lambda model: model)),
    "flax-twin: the merged weight": ("flax-twin", put(lora_jax.LoRALinear, "delta_W", unscaled)),
    "peft-parity: the files": ("peft-parity", put(lora, "save_adapter", without_alpha)),
    "peft-parity: the gradients": ("peft-parity", put(layers, "lora_linear", doubled)),
}


def test_every_exact_claim_has_a_mistake():
    assert set(MISTAKES) | set(MISREAD) == set(EXACT) and not set(MISTAKES) & set(MISREAD)


@pytest.mark.parametrize("claim", EXACT)
def test_a_mistake_turns_the_verdict(claim, monkeypatch):
    before, after = ("not reproduced", "reproduced") if claim in NOT_REPRODUCED else ("reproduced", "not reproduced")
    assert verdict(claim) == before
    if claim in MISTAKES:
        MISTAKES[claim](monkeypatch)
    assert verdict(claim, MISREAD[claim]() if claim in MISREAD else None) == after


@pytest.mark.parametrize("mistake", BESIDES)
def test_another_mistake_turns_the_verdict(mistake, monkeypatch):
    claim, apply = BESIDES[mistake]
    apply(monkeypatch)
    assert verdict(claim) == "not reproduced"
