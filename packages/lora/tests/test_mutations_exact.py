"""For every exact and printed claim a mistake made on purpose, and the verdict that it turns."""

from __future__ import annotations

import json
import math

import torch
from torch import nn

from papertest.mutation import Mutations, put

import lora
from lora import jax as lora_jax
from lora import layers
from lora.reproduce import models
from lora.reproduce.exact import memory, parameters

bench = Mutations(__file__)
ELSEWHERE = {"training-memory"}  # with a tiny model, in test_mutations_trend.py
EXACT = [claim for claim in bench.tier("exact", "printed") if claim not in ELSEWHERE]
NOT_REPRODUCED = {
    "params-deberta",
    "params-gpt2",
    "params-prefix",
    "params-bitfit",
    "params-budgets-text",
    "optimizer-memory",
    "speedup-text",
}


# ------------------------------------------------------------------------------------- the mistakes


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


class OneBiasMore(models.Block):
    """A layer with twelve vectors of d_model that are added."""

    def __init__(self, d_model):
        super().__init__(d_model)
        self.bias = nn.Parameter(torch.empty(d_model))


def one_layer_less(monkeypatch):
    monkeypatch.setitem(models.SIZES, "gpt2_large", (35, *models.SIZES["gpt2_large"][1:]))


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
    "params-gpt3": put(models, "add_lora", with_biases),
    "params-bitfit": put(models, "Block", OneBiasMore),
    "params-adapters": put(parameters, "insert", with_norms),
    "params-ranks": put(models, "add_lora", with_biases),
    "params-budget": put(models, "add_lora", with_biases),
    "params-full": one_layer_less,
    "checkpoint-size": put(memory, "CHECKPOINT_R", 8),
    "parameter-share": put(memory, "CHECKPOINT_R", 8),
    "optimizer-memory": put(memory, "MOMENTS", 2.5),
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
    "params-gpt2": lambda: bench.transcribed("table-3-parameters", medium_lora=0.39, large_lora=0.74),
    "params-prefix": lambda: bench.transcribed(
        "table-15-prefix", embed=[0.5, 0.9, 1.7, 3.2, 6.4], layer=[4.7, 9.4, 18.9, 42.5, 75.5]
    ),
    "params-budgets-text": lambda: bench.transcribed("gpt3-budgets-text", q_k_v_o_2=18.9),
    "memory-text": lambda: bench.transcribed("memory", full_tb=0.8),
    "speedup-text": lambda: bench.transcribed("speedup", lora=40.6),
    "table-1-percentages": lambda: bench.transcribed("table-1", adapter_l=[1482.0, 354.8, 24.9]),
    "table-2-averages": lambda: bench.transcribed("table-2-average", xxl_lora=91.4),
    "table-7-arithmetic": lambda: bench.transcribed("table-7", delta_w_4=0.23),
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


test_a_mistake_turns_the_verdict = bench.turning(EXACT, MISTAKES, MISREAD, NOT_REPRODUCED)
test_another_mistake_turns_the_verdict = bench.turning_besides(BESIDES)
