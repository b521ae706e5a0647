"""The counted models and the helpers of the exact claims: against transformers, formulas and cases known by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2Model

from papertest import counting

from lora.reproduce import models
from lora.reproduce.exact import memory, parameters, served


@pytest.mark.parametrize("size", ["gpt2_medium", "gpt2_large"])
def test_the_decoder_has_the_parameters_of_gpt2(size):
    layers, d_model, vocabulary, positions = models.SIZES[size]
    with torch.device("meta"):
        sizes = {"vocab_size": vocabulary, "n_positions": positions, "n_embd": d_model, "n_layer": layers}
        theirs = GPT2Model(GPT2Config(**sizes, n_head=16))
    assert counting.parameters(models.gpt(size)) == counting.parameters(theirs)


@pytest.mark.parametrize(("targets", "r"), [(("v_proj",), 2), (("q_proj", "v_proj"), 8), (parameters.ATTENTION, 64)])
def test_lora_counts_as_section_5_1_has_it(targets, r):
    layers, d_model = models.SIZES["gpt3"][:2]
    counted = models.with_lora(models.gpt("gpt3"), r, targets)
    assert counted == models.lora_formula(layers * len(targets), d_model, r)
    assert counted == models.gpt3_lora(r, targets)


@pytest.mark.parametrize("norm", [False, True])
def test_adapters_count_as_section_5_1_has_it(norm):
    layers, d_model = models.SIZES["gpt2_medium"][:2]
    with torch.device("meta"):
        counted = models.insert(models.gpt("gpt2_medium"), ("fc_out",), d_model, 224, norm=norm)
    assert counted == models.adapter_formula(layers, d_model, 224, norms=layers * norm)
    assert round(counted / 1e6, 2) == 11.09 or not norm  # Table 3's AdapterL


def test_prefixes_count_as_section_5_1_has_it():
    assert models.prefix(96, 12288, 16) == 96 * 12288 * 16


def test_biases_are_all_vectors_that_are_added():
    """Six matrices, of which one is four times as high, and two norms: eleven vectors of d_model."""
    assert models.biases(models.Block(8)) == (4 + 4 + 1 + 2) * 8


def test_no_gpt2_rank_gives_the_printed_count_and_one_of_deberta_does():
    assert parameters.ranks_that_fit(4.7, 1, 2 * 48, 1536) == [16]
    assert parameters.ranks_that_fit(0.39, 2, 2 * 24, 1024) == [4]
    assert parameters.ranks_that_fit(0.35, 2, 2 * 24, 1024) == []


def test_adam_holds_two_numbers_for_each_that_is_trained():
    full, adapted = (memory.held_bytes(adapted=adapted) for adapted in (False, True))
    steps = 4 * 4  # one count of steps for each of four weights
    assert full["states"] == 2 * full["weights"] + steps and full["gradients"] == full["weights"]
    assert adapted["gradients"] == adapted["weights"] - full["weights"] == 4 * 4 * 2 * 1024


def test_operators_are_counted_whatever_they_are():
    with served.Operators() as operators:
        x = torch.ones(2, 2) * 2
        x.add_(1)
    assert operators.names == ["aten.ones.default", "aten.mul.Tensor", "aten.add_.Tensor"]


NORMAL = torch.special.ndtri(torch.linspace(0, 1, 4003)[1:-1])
UNIFORM = torch.linspace(-math.sqrt(3), math.sqrt(3), 4001)


@pytest.mark.parametrize(("sample", "expected"), [(NORMAL, 0.0), (UNIFORM, 0.057)], ids=["normal", "uniform"])
def test_the_distance_from_a_normal_distribution(sample, expected):
    assert served.distance_from_normal(sample) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_changed_bit_is_a_changed_weight(dtype):
    before = {"weight": torch.ones(10, dtype=dtype), "bias": torch.zeros(10, dtype=dtype)}
    after = {name: nn.Parameter(x.clone()) for name, x in before.items()}
    assert served.share_changed(before, after) == 0
    with torch.no_grad():
        after["bias"][3] = -0.0
    assert served.share_changed(before, after) == 1 / 20
