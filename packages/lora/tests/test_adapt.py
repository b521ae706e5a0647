"""Adapters in whole models: put in, trained, chosen, merged."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lora_cases import Conv1D, Tiny, assert_same, ids, randomise, state, tiny
from torch import nn

from lora import (
    LoRAConv1D,
    LoRAEmbedding,
    LoRALinear,
    LoRAMergedLinear,
    add_lora,
    lora_state_dict,
    mark_trainable,
    merge_lora,
    set_adapter,
    unmerge_lora,
)


def trainable(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


# -------------------------------------------------------------------------------------------------- add_lora


def test_it_adapts_what_the_targets_name_in_place_and_changes_no_output():
    model = tiny()
    before, h = {n: p for n, p in model.named_parameters()}, model(ids())
    assert add_lora(model, ("q_proj", "layers.1.v_proj"), r=2) is model
    adapted = {name for name, module in model.named_modules() if isinstance(module, LoRALinear)}
    assert adapted == {"layers.0.q_proj", "layers.1.q_proj", "layers.1.v_proj"}
    assert torch.equal(model(ids()), h)
    after = dict(model.named_parameters())
    assert all(after[name] is parameter for name, parameter in before.items())
    assert trainable(model) == {f"{name}.lora_{x}.default" for name in adapted for x in "AB"}


def test_one_target_may_be_a_string_and_the_default_ones_are_those_of_the_paper():
    assert set(lora_state_dict(add_lora(tiny(), "head"))) == {"head.lora_A.default", "head.lora_B.default"}
    assert {name.split(".")[-3] for name in lora_state_dict(add_lora(tiny()))} == {"q_proj", "v_proj"}


def test_each_kind_of_layer_gets_its_own():
    model = nn.ModuleDict({"a": nn.Linear(4, 6), "b": nn.Embedding(5, 4), "c": Conv1D(6, 4)})
    add_lora(model, ["a", "b", "c"], r=2)
    assert [type(module) for module in model.values()] == [LoRALinear, LoRAEmbedding, LoRAConv1D]
    fused = nn.ModuleDict({"a": nn.Linear(4, 6), "c": Conv1D(6, 4)})
    add_lora(fused, ["a", "c"], r=2, enabled=(True, False, True))
    assert {type(module) for module in fused.values()} == {LoRAMergedLinear}


def test_a_module_in_two_places_is_adapted_once_and_found_in_both():
    shared = nn.Linear(4, 4)
    model = nn.ModuleDict({"one": nn.ModuleDict({"fc": shared}), "two": nn.ModuleDict({"fc": shared})})
    add_lora(model, ["fc"], r=2)
    assert model["one"]["fc"] is model["two"]["fc"]
    assert isinstance(model["two"]["fc"], LoRALinear)
    assert len(lora_state_dict(model)) == 2
    randomise(model)
    merge_lora(model)
    unmerge_lora(model)
    by_its_second_name = nn.ModuleDict({"one": shared, "two": shared})
    add_lora(by_its_second_name, ["two"], r=2)
    assert by_its_second_name["one"] is by_its_second_name["two"]


def test_only_A_and_B_move_in_training():
    model = add_lora(tiny(), r=2).train()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(ids()).flatten(0, 1), ids().flatten()).backward()
        optimizer.step()
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == trainable(model) == {name for name in before if "lora_" in name}


def test_biases_train_where_they_are_asked_to():
    model = add_lora(tiny(), r=2)
    pairs = trainable(model)
    assert mark_trainable(model, "lora") is model
    assert trainable(model) - pairs == {f"layers.{i}.{x}_proj.bias" for i in (0, 1) for x in "qv"}
    mark_trainable(model, "all")
    assert trainable(model) - pairs == {name for name, _ in model.named_parameters() if name.endswith("bias")}
    mark_trainable(model)
    assert trainable(model) == pairs


def test_dropout_works_in_training_alone():
    torch.manual_seed(0)
    model = randomise(add_lora(tiny(), r=2, dropout=0.5))
    assert torch.equal(model(ids()), model(ids()))
    model.train()
    assert not torch.equal(model(ids()), model(ids()))


def test_torchs_own_encoder_uses_the_adapter_though_it_takes_the_weights_when_it_does_not_train():
    torch.manual_seed(0)
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2).eval()
    x, padded = torch.randn(2, 5, 8), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    with torch.no_grad():
        base = model(x, src_key_padding_mask=padded)
        randomise(add_lora(model, ["linear1"], r=2))
        adapted = model(x, src_key_padding_mask=padded)
        assert (adapted - base)[~padded].abs().max() > 0.1
        merge_lora(model)
        assert torch.allclose(model(x, src_key_padding_mask=padded)[~padded], adapted[~padded], atol=1e-5)
    with torch.enable_grad():
        unmerge_lora(model)
        assert torch.allclose(model(x, src_key_padding_mask=padded)[~padded], adapted[~padded], atol=1e-5)


def test_checkpointing_of_activations_gives_the_same_gradients():
    from torch.utils.checkpoint import checkpoint

    model = randomise(add_lora(tiny(), r=2)).train()
    x = torch.randn(3, 5, 8, requires_grad=True)
    model.layers[0](x).sum().backward()
    gradients = {n: p.grad.clone() for n, p in model.layers[0].named_parameters() if p.grad is not None}
    model.zero_grad()
    checkpoint(model.layers[0], x, use_reentrant=False).sum().backward()
    assert gradients.keys() == {n for n, p in model.layers[0].named_parameters() if p.grad is not None}
    assert all(torch.equal(p.grad, gradients[n]) for n, p in model.layers[0].named_parameters() if n in gradients)


# ---------------------------------------------------------------------------------------------- several adapters


def three() -> Any:
    """a in q and v, b in q and the embedding, c in k."""
    model = tiny()
    for name, targets in (("a", ("q_proj", "v_proj")), ("b", ("q_proj", "embed")), ("c", ("k_proj",))):
        randomise(add_lora(model, targets, r=2, adapter=name), name, seed=ord(name))
    return model


def test_each_adapter_gives_what_it_gives_alone_and_none_gives_the_base():
    model, alone = three(), {}
    assert set_adapter(model, None) is model
    assert torch.equal(model(ids()), tiny()(ids()))
    for name, targets in (("a", ("q_proj", "v_proj")), ("b", ("q_proj", "embed")), ("c", ("k_proj",))):
        single = randomise(add_lora(tiny(), targets, r=2, adapter=name), name, seed=ord(name))
        alone[name] = single(ids())
    for name in "abcacb":
        assert torch.equal(set_adapter(model, name)(ids()), alone[name]), name
    assert not torch.equal(alone["a"], alone["b"])


def test_one_base_serves_all_and_only_the_active_one_trains():
    model, base = three(), tiny()
    names = set(dict(base.named_parameters()))
    places = {name: p.data_ptr() for name, p in model.named_parameters()}
    assert sum(p.numel() for n, p in model.named_parameters() if n in names) == sum(
        p.numel() for p in base.parameters()
    )
    for name in "abc":
        set_adapter(model, name)
        assert {n: p.data_ptr() for n, p in model.named_parameters()} == places
        assert trainable(model) == set(lora_state_dict(model, name))
    set_adapter(model, None)
    assert not trainable(model)


def test_the_state_dict_of_an_adapter_is_a_part_of_the_models():
    model = three()
    tensors = lora_state_dict(model, "b")
    assert len(tensors) == 6
    assert all(tensor.data_ptr() == model.state_dict()[name].data_ptr() for name, tensor in tensors.items())
    other = add_lora(tiny(), ("q_proj", "embed"), r=2, adapter="b")
    assert not other.load_state_dict(tensors, strict=False).unexpected_keys
    assert torch.equal(other(ids()), set_adapter(model, "b")(ids()))


# -------------------------------------------------------------------------------------------------------- merging


def test_a_merged_model_gives_the_same_and_comes_back_bit_by_bit():
    model = randomise(add_lora(tiny(), ("q_proj", "v_proj", "embed", "head"), r=3))
    h, before = model(ids()), state(model)
    assert merge_lora(model) is model
    assert torch.allclose(model(ids()), h, atol=1e-5)
    assert model.state_dict().keys() == before["tensors"].keys()
    assert not torch.equal(model.layers[0].q_proj.weight, before["tensors"]["layers.0.q_proj.weight"])
    assert unmerge_lora(model) is model
    assert_same(before, state(model))
    assert torch.equal(model(ids()), h)


def test_each_adapter_is_merged_by_itself():
    model = three()
    for name in "abc":
        h = set_adapter(model, name)(ids())
        merge_lora(model)
        assert torch.allclose(model(ids()), h, atol=1e-5)
        unmerge_lora(model)
    assert torch.equal(set_adapter(model, None)(ids()), tiny()(ids()))


def test_a_graph_from_before_merging_has_the_gradients_of_then():
    model = randomise(add_lora(tiny(), r=2))
    model(ids()).sum().backward()
    expected = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    loss = model(ids()).sum()
    merge_lora(model)
    loss.backward()
    assert all(torch.equal(p.grad, expected[n]) for n, p in model.named_parameters() if n in expected)


def test_a_merged_model_can_be_copied_and_the_copy_unmerged():
    model = randomise(add_lora(tiny(), r=2))
    weight = model.layers[0].q_proj.weight.clone()
    twin = copy.deepcopy(merge_lora(model))
    assert torch.equal(twin(ids()), model(ids()))
    unmerge_lora(twin)
    assert torch.equal(twin.layers[0].q_proj.weight, weight)
    assert not torch.equal(model.layers[0].q_proj.weight, weight)


def test_a_tied_weight_stays_tied_and_is_not_merged():
    model = add_lora(tiny(tied=True), ["embed"], r=2)
    assert isinstance(model, Tiny)
    assert model.head.weight is model.embed.weight
    randomise(model)
    before = state(model)
    with pytest.raises(ValueError, match="embed cannot be merged: head has the same weight, which would change along"):
        merge_lora(model)
    assert_same(before, state(model))
    h = model(ids())
    model.head.weight = nn.Parameter(model.head.weight.detach().clone())
    assert torch.allclose(merge_lora(model)(ids()), h, atol=1e-5)


def test_what_is_merged_is_refused_to_training_but_not_to_use():
    model = merge_lora(randomise(add_lora(tiny(), r=2)))
    model(ids())
    model.train()
    with pytest.raises(ValueError, match="adapter 'default' is merged and cannot be trained: call unmerge_lora"):
        model(ids())
    with torch.no_grad():
        model(ids())
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.head.requires_grad_(True)
    model(ids()).sum().backward()  # a head over frozen layers is nothing to refuse


def test_weights_are_not_loaded_into_a_merged_layer():
    model = randomise(add_lora(tiny(), r=2))
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    merge_lora(model)
    with pytest.raises(RuntimeError, match="layers.0.q_proj is merged: what is loaded now would be lost"):
        model.load_state_dict(tensors)
    unmerge_lora(model).load_state_dict(tensors)
