"""What is refused, with which words, and that nothing has changed then."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from lora_cases import Block, Conv1D, assert_same, ids, randomise, state, tiny
from torch import nn
from torch.nn.utils import parametrizations

from lora import (
    LoRAConv1D,
    LoRAEmbedding,
    LoRALinear,
    LoRAMergedLinear,
    add_lora,
    load_adapter,
    lora_state_dict,
    mark_trainable,
    merge_lora,
    save_adapter,
    set_adapter,
    unmerge_lora,
)


def refused(model: nn.Module, message: str, call: Any) -> None:
    before = state(model)
    with pytest.raises(ValueError, match=message):
        call()
    assert_same(before, state(model))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": ["q_prj"]}, r"'q_prj' names none; the nearest that can be adapted are q_proj"),
        ({"targets": ["zzzzzzzz"]}, r"'zzzzzzzz' names none; the nearest that can be adapted are head, embed"),
        ({"targets": ["q_proj", "proj"]}, "'proj' names none"),
        ({"targets": [""]}, "'' names none"),
        ({"targets": [0]}, r"targets must be names of modules, got \[0\]"),
        ({"targets": [["q_proj"]]}, r"targets must be names of modules, got \[\['q_proj'\]\]"),
        ({"targets": None}, "targets must be names of modules, got None"),
        ({"targets": 2}, "targets must be names of modules, got 2"),
        ({"targets": b"q_proj"}, "targets must be names of modules, got b'q_proj'"),
        ({"targets": []}, "targets must name at least one module, got none"),
        ({"targets": ["norm"]}, "layers.0.norm cannot be adapted: it is a LayerNorm"),
        ({"targets": ["q_proj", "layers.1"]}, "layers.1 cannot be adapted: it is a Block"),
        ({"r": 0}, "r must be a whole number of at least 1, got 0"),
        ({"r": -3}, "r must be a whole number of at least 1, got -3"),
        ({"r": 2.0}, "r must be a whole number of at least 1, got 2.0"),
        ({"r": True}, "r must be a whole number of at least 1, got True"),
        ({"alpha": 0}, "alpha must be a positive number, got 0"),
        ({"alpha": -1.5}, "alpha must be a positive number, got -1.5"),
        ({"alpha": math.nan}, "alpha must be a positive number, got nan"),
        ({"alpha": math.inf}, "alpha must be a positive number, got inf"),
        ({"r": "8"}, "r must be a whole number of at least 1, got '8'"),
        ({"r": math.nan}, "r must be a whole number of at least 1, got nan"),
        ({"alpha": True}, "alpha must be a positive number, got True"),
        ({"alpha": None}, "alpha must be a positive number, got None"),
        ({"alpha": torch.tensor(2.0)}, r"alpha must be a positive number, got tensor\(2.\)"),
        ({"alpha": "16"}, "alpha must be a positive number, got '16'"),
        ({"dropout": 1.0}, "dropout must be from 0 to below 1, got 1.0"),
        ({"dropout": -0.1}, "dropout must be from 0 to below 1, got -0.1"),
        ({"dropout": True}, "dropout must be from 0 to below 1, got True"),
        ({"dropout": "0.1"}, "dropout must be from 0 to below 1, got '0.1'"),
        ({"dropout": None}, "dropout must be from 0 to below 1, got None"),
        ({"dropout": math.nan}, "dropout must be from 0 to below 1, got nan"),
        ({"adapter": ""}, "adapter must be a name without a point"),
        ({"adapter": "v1.2"}, "adapter must be a name without a point, and none of torch's own, got 'v1.2'"),
        ({"adapter": "keys"}, "none of torch's own, got 'keys'"),
        ({"adapter": "training"}, "none of torch's own, got 'training'"),
        ({"adapter": None}, "adapter must be a name without a point"),
        ({"enabled": (False, False)}, "layers.0.q_proj cannot be adapted: enabled must be True or False for each part"),
        ({"enabled": True}, "enabled must be True or False for each part, got True"),
        ({"enabled": "yes"}, "enabled must be True or False for each part, got 'yes'"),
        ({"enabled": (1, 0)}, "enabled must be True or False for each part, and True for one at least, got"),
        ({"enabled": (True, False, True)}, "enabled must have as many parts as divide the 8 outputs"),
        ({"targets": ["embed"], "enabled": (True, False)}, "embed cannot be adapted: .*, and this one is a Embedding"),
    ],
)
def test_add_lora(options, message):
    model = tiny()
    refused(model, message, lambda: add_lora(model, **options))


def test_an_adapter_has_one_name_in_a_model():
    model = add_lora(tiny(), r=2)
    refused(model, "adapter must be a new name, and layers.0.q_proj has 'default' already", lambda: add_lora(model))
    refused(model, "has 'default' already", lambda: add_lora(model, ["k_proj"]))


def test_the_parts_of_a_fused_layer_are_those_that_it_has():
    model = add_lora(nn.ModuleDict({"fc": nn.Linear(4, 6)}), ["fc"], 2, enabled=(True, False, True))
    call = lambda: add_lora(model, ["fc"], 2, adapter="b", enabled=(True, True, True))  # noqa: E731
    refused(model, r"fc cannot be adapted: enabled must be as in the adapter that it has, \(True, False, True\)", call)
    add_lora(model, ["fc"], 2, adapter="b")


def test_a_rank_above_the_layers_is_warned_of():
    with pytest.warns(UserWarning, match="r=5 is above the rank that layers.0.k_proj can have, 4"):
        add_lora(tiny(), ["k_proj", "q_proj"], r=5)


@pytest.mark.filterwarnings("error")
def test_a_rank_that_a_layer_can_have_is_not():
    add_lora(tiny(), ["k_proj", "q_proj"], r=4)


class Scaled(nn.Embedding):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 3 * super().forward(input)


class Doubled(nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(input)


def patched() -> nn.Module:
    module = nn.Linear(4, 4)
    module.forward = lambda x: 2 * nn.functional.linear(x, module.weight)
    return module


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (lambda: Doubled(4, 4), "is a Doubled"),
        (lambda: Scaled(4, 4), "is a Scaled"),
        (lambda: nn.Embedding(4, 4, max_norm=1.0), "has max_norm=1.0, with which a forward pass writes to W_0"),
        (patched, "has a forward of its own"),
        (lambda: parametrizations.weight_norm(nn.Linear(4, 4)), "is a ParametrizedLinear|has no weight of its own"),
        (lambda: nn.LazyLinear(4), "has no weight of its own, or none yet|is a LazyLinear"),
        (lambda: nn.Conv2d(4, 4, 1), "is a Conv2d"),
        (lambda: nn.MultiheadAttention(4, 2).out_proj, "is in an nn.MultiheadAttention, which takes the weight"),
    ],
)
def test_a_layer_with_another_formula_is_not_adapted(module, message):
    model = nn.ModuleDict({"fc": module()})
    before = list(model.modules())
    with pytest.raises(ValueError, match=f"fc cannot be adapted: it ({message})"):
        add_lora(model, ["fc"])
    assert all(a is b for a, b in zip(before, model.modules(), strict=True))


@pytest.mark.parametrize(
    ("kind", "base", "message"),
    [
        (LoRALinear, Block, "base must be an nn.Linear, and this one is a Block"),
        (LoRALinear, lambda: LoRALinear(nn.Linear(2, 2)), "base must be an nn.Linear, and this one is a LoRALinear"),
        (LoRAEmbedding, lambda: nn.Linear(2, 2), "base must be an nn.Embedding, and this one is a Linear"),
        (LoRAConv1D, lambda: nn.Linear(2, 2), "base must be a Conv1D, and this one is a Linear"),
        (
            lambda base: LoRAMergedLinear(base, (True,)),
            Block,
            "base must be an nn.Linear or a Conv1D, and this one is a",
        ),
        (lambda base: LoRALinear(base, 0), lambda: nn.Linear(2, 2), "r must be a whole number of at least 1, got 0"),
        (lambda base: LoRAConv1D(base, adapter="a.b"), lambda: Conv1D(2, 2), "adapter must be a name without a point"),
    ],
)
def test_layers(kind, base, message):
    with pytest.raises(ValueError, match=message):
        kind(base())


def test_merging_what_is_merged_and_unmerging_what_is_not():
    model = randomise(add_lora(tiny(), r=2))
    refused(model, "layers.0.q_proj is not merged", lambda: unmerge_lora(model))
    merge_lora(model)
    refused(model, "layers.0.q_proj is merged already", lambda: merge_lora(model))
    for call in (lambda: add_lora(model, adapter="b"), lambda: set_adapter(model, "default")):
        refused(model, "layers.0.q_proj is merged: call unmerge_lora", call)
    refused(model, "is merged", lambda: set_adapter(model, None))
    unmerge_lora(model)
    refused(model, "layers.0.q_proj is not merged", lambda: unmerge_lora(model))


def test_one_merged_layer_of_many_is_named_and_the_others_stay():
    model = randomise(add_lora(tiny(), r=2))
    model.layers[1].v_proj.merge()
    refused(model, "layers.1.v_proj is merged already", lambda: merge_lora(model))
    refused(model, "layers.0.q_proj is not merged", lambda: unmerge_lora(model))
    with pytest.raises(ValueError, match="is merged already"):
        model.layers[1].v_proj.merge()
    with pytest.raises(ValueError, match="is not merged"):
        model.layers[0].v_proj.unmerge()


def test_no_adapter_is_active():
    model = set_adapter(randomise(add_lora(tiny(), r=2)), None)
    refused(model, "model must have an active adapter to merge", lambda: merge_lora(model))
    refused(model, "model must be merged, and has no active adapter", lambda: unmerge_lora(model))
    with pytest.raises(ValueError, match="has no active adapter to merge"):
        model.layers[0].q_proj.merge()


@pytest.mark.parametrize(
    "call", [merge_lora, unmerge_lora, mark_trainable, lora_state_dict, lambda m: set_adapter(m, None),
             lambda m: set_adapter(m, "a")]
)  # fmt: skip
def test_a_model_without_adapters(call):
    model = tiny()
    refused(model, "model must have adapted layers, and this Tiny has none: call add_lora", lambda: call(model))


def test_unknown_names(tmp_path):
    model = add_lora(add_lora(tiny(), r=2, adapter="b"), r=2, adapter="a")
    for call in (set_adapter, lora_state_dict, lambda m, name: save_adapter(m, tmp_path / "x", name)):
        for name in ("c", None, 3, ["a"]) if call is not set_adapter else ("c", 3, ["a"]):
            message = re.escape(f"adapter must be one of 'a', 'b', got {name!r}")
            refused(model, message, lambda call=call, name=name: call(model, name))
    for bias in ("lora_only", True, None, ["lora"]):
        message = re.escape(f"bias must be 'none', 'lora' or 'all', got {bias!r}")
        refused(model, message, lambda bias=bias: mark_trainable(model, bias))
    for path in (3, None, b"x", [tmp_path]):
        for call in (lambda m, p: save_adapter(m, p, "a"), lambda m, p: load_adapter(m, p, "c")):
            message = re.escape(f"path must be the path of a folder, got {path!r}")
            refused(model, message, lambda call=call, path=path: call(model, path))
    for no_model in (None, {}, [model], model.state_dict()):
        for call in (add_lora, merge_lora, unmerge_lora, mark_trainable, lora_state_dict, lambda m: set_adapter(m, "a"),
                     lambda m: load_adapter(m, tmp_path), lambda m: save_adapter(m, tmp_path)):  # fmt: skip
            with pytest.raises(ValueError, match="model must be an nn.Module, got"):
                call(no_model)
    assert not (tmp_path / "x").exists()
    model(ids())
