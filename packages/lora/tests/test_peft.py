"""Against peft: outputs, gradients, and files both ways, on transformers' models with random weights."""

from __future__ import annotations

import json
import warnings
from dataclasses import fields
from typing import Any

import pytest
import torch
from lora_cases import randomise
from torch import nn

pytest.importorskip("peft", reason="the extra reproduce is not installed")
from peft import EvaConfig, LoraConfig, LoraGAConfig, PeftModel, get_peft_model
from peft.tuners.lora.config import CordaConfig
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from papertest.parity import relative_error

from lora import LoRAMergedLinear, add_lora, checkpoint, load_adapter, lora_state_dict, merge_lora, save_adapter
from lora.adapt import lora_layers

PARITY = 1e-5
IDS = torch.tensor([[3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 5, 8]])


def bert() -> Any:
    return BertModel(
        BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24)
    )


def llama() -> Any:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**sizes, intermediate_size=24, vocab_size=50, bos_token_id=0, eos_token_id=1))


def gpt2() -> Any:
    sizes = {"n_layer": 2, "n_embd": 16, "n_head": 2, "n_positions": 16}
    return GPT2LMHeadModel(GPT2Config(**sizes, vocab_size=50, bos_token_id=0, eos_token_id=1))


CASES = {
    "bert": (bert, ["query", "value"]),
    "bert all": (bert, ["query", "key", "value", "dense", "word_embeddings"]),
    "llama": (llama, ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]),
    "llama embedding": (llama, ["q_proj", "embed_tokens"]),
    "gpt2": (gpt2, ["c_attn", "c_proj", "c_fc"]),
    "gpt2 embedding": (gpt2, ["wte", "c_attn"]),
    "gpt2 one layer": (gpt2, ["h.1.attn.c_attn"]),
}


def base(case: str) -> Any:
    torch.manual_seed(0)
    return CASES[case][0]().eval()


def ours(case: str, r: int = 4) -> Any:
    return randomise(add_lora(base(case), CASES[case][1], r, 6))


def theirs(case: str, r: int = 4, **options: Any) -> Any:
    config = LoraConfig(r=r, lora_alpha=6, target_modules=CASES[case][1], fan_in_fan_out="gpt2" in case, **options)
    model = get_peft_model(base(case), config)
    generator = torch.Generator().manual_seed(2)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return model.eval()


def out(model: nn.Module) -> torch.Tensor:
    first, second = model(IDS)[:2]
    return torch.cat([first, second[:, None]], 1) if isinstance(second, torch.Tensor) else first  # BERT's is pooled


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="peft|transformers")
        yield


@pytest.mark.parametrize("case", CASES)
def test_our_files_in_peft_have_our_outputs_and_gradients(case, tmp_path):
    model = ours(case)
    save_adapter(model, tmp_path)
    peer = PeftModel.from_pretrained(base(case), tmp_path, is_trainable=True).eval()
    assert relative_error(out(model), out(base(case))) > 0.01
    assert relative_error(out(model), out(peer)) < PARITY
    weights = torch.randn(out(model).shape)
    for one in (model, peer):
        out(one).backward(weights)
    found = {name: p.grad for name, p in peer.named_parameters() if p.requires_grad}
    assert len(found) == len(lora_state_dict(model))
    for name, layer in lora_layers(model).items():
        for factor in "AB":
            prefix = f"base_model.model.{name}.lora_"
            names = [f"{prefix}{factor}.default.weight", f"{prefix}embedding_{factor}.default"]
            gradient = next(found[n] for n in names if n in found)
            own = getattr(layer, f"lora_{factor}")["default"].grad
            assert own.abs().max() > 0, name
            assert relative_error(own, gradient) < PARITY, name


@pytest.mark.parametrize("case", CASES)
def test_peft_files_in_ours_have_pefts_outputs_merged_too(case, tmp_path):
    peer = theirs(case)
    peer.save_pretrained(tmp_path)
    model = load_adapter(base(case), tmp_path)
    assert relative_error(out(model), out(peer)) < PARITY
    if "embedding" in case and "llama" not in case:
        return  # GPT-2's head is tied to what is adapted
    assert relative_error(out(merge_lora(model)), out(peer.merge_and_unload())) < PARITY


def test_ranks_and_alphas_that_differ_cross_both_ways(tmp_path):
    peer = theirs("llama", rank_pattern={"layers.1.self_attn.q_proj": 2, "k_proj": 3}, alpha_pattern={"v_proj": 11})
    peer.save_pretrained(tmp_path / "theirs")
    model = load_adapter(base("llama"), tmp_path / "theirs")
    assert {layer.pairs["default"].r for layer in lora_layers(model).values()} == {2, 3, 4}
    assert relative_error(out(model), out(peer)) < PARITY
    save_adapter(model, tmp_path / "ours")
    assert json.loads((tmp_path / "ours/adapter_config.json").read_text())["rank_pattern"]
    again = PeftModel.from_pretrained(base("llama"), tmp_path / "ours").eval()
    assert relative_error(out(again), out(peer)) < PARITY


def test_parts_of_c_attn_are_one_adapter_in_peft(tmp_path):
    model = randomise(add_lora(base("gpt2"), ["c_attn"], 2, enabled=(True, False, True)))
    assert all(isinstance(layer, LoRAMergedLinear) for layer in lora_layers(model).values())
    save_adapter(model, tmp_path)
    peer = PeftModel.from_pretrained(base("gpt2"), tmp_path).eval()
    assert relative_error(out(peer), out(model)) < PARITY


def test_training_goes_the_same_way(tmp_path):
    """Twenty steps: a wrong scale in a gradient would be seen in Adam's trajectory by then."""
    model = ours("llama")
    save_adapter(model, tmp_path)
    peer = PeftModel.from_pretrained(base("llama"), tmp_path, is_trainable=True)
    losses: list[list[float]] = []
    for one in (model.train(), peer.train()):
        optimizer = torch.optim.AdamW([p for p in one.parameters() if p.requires_grad], 1e-2)
        losses.append([])
        for _ in range(20):
            optimizer.zero_grad()
            loss = one(input_ids=IDS, labels=IDS).loss
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
    assert losses[0][-1] < losses[0][0] - 0.1
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"use_dora": True}, "must be of plain LoRA, and has use_dora=True"),
        ({"use_rslora": True}, "must be of plain LoRA, and has use_rslora=True"),
        ({"modules_to_save": ["lm_head"]}, r"must be of plain LoRA, and has modules_to_save=\['lm_head'\]"),
        ({"bias": "lora_only"}, "must be of plain LoRA, and has bias='lora_only'"),
        ({"init_lora_weights": "olora"}, "must be of plain LoRA, and has init_lora_weights='olora'"),
        ({"init_lora_weights": "pissa_niter_2"}, "must be of plain LoRA, and has init_lora_weights='pissa_niter_2'"),
        (
            {"init_lora_weights": "lora_ga", "lora_ga_config": LoraGAConfig()},
            "must be of plain LoRA, and has init_lora_weights='lora_ga'$",
        ),
    ],
)
def test_other_methods_of_peft_are_refused_by_name(options, message, tmp_path):
    config = LoraConfig(r=2, target_modules=["q_proj"], **options)
    get_peft_model(base("llama"), config).save_pretrained(tmp_path)
    model = base("llama")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load_adapter(model, tmp_path)
    assert {name: type(m) for name, m in model.named_modules()} == {
        n: type(m) for n, m in base("llama").named_modules()
    }
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


STARTS = {
    "eva": {"init_lora_weights": "eva", "eva_config": EvaConfig()},
    "mica": {"init_lora_weights": "mica"},
    "orthogonal": {"init_lora_weights": "orthogonal"},
    "gaussian": {"init_lora_weights": "gaussian"},
    "Gaussian": {"init_lora_weights": "Gaussian"},
    "none": {"init_lora_weights": False},
    "eva not used": {"eva_config": EvaConfig()},
    "corda not used": {"corda_config": CordaConfig()},
    "lora_ga not used": {"lora_ga_config": LoraGAConfig()},
}


@pytest.mark.parametrize("start", STARTS)
def test_how_A_and_B_started_is_no_matter_where_the_base_stayed_as_it_was(start, tmp_path):
    peer = theirs("llama", **STARTS[start])
    peer.save_pretrained(tmp_path)
    assert relative_error(out(load_adapter(base("llama"), tmp_path)), out(peer)) < PARITY


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_a_start_that_peft_has_made_plain_again_is_read(start, tmp_path):
    """peft adds what the start took from the base to A and B, of twice the rank then."""
    config = LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=start, corda_config=CordaConfig())
    peer = get_peft_model(base("llama"), config).eval()
    peer.peft_config["default"].init_lora_weights = True
    peer.save_pretrained(tmp_path / "start")
    peer.peft_config["default"].init_lora_weights = start
    for name, parameter in peer.named_parameters():
        if "lora_" in name:
            parameter.data += 0.1
    h = out(peer)
    peer.save_pretrained(tmp_path / "made", path_initial_model_for_weight_conversion=tmp_path / "start")
    assert relative_error(out(load_adapter(base("llama"), tmp_path / "made")), h) < PARITY


def test_each_option_of_peft_is_read_or_without_effect_or_refused_by_name(tmp_path):
    theirs("llama").save_pretrained(tmp_path)
    file = tmp_path / checkpoint.CONFIG
    config = json.loads(file.read_text())
    inert = {"loftq_config": {"loftq_bits": 4}, "eva_config": {"rho": 2.0}, "corda_config": {"corda_method": "ipm"},
             "lora_ga_config": {"scale": "stable"}}  # fmt: skip
    refused = {option.name for option in fields(LoraConfig)} - checkpoint.KNOWN
    assert refused.isdisjoint(inert)
    assert len(refused) > 10
    file.write_text(json.dumps(config | inert))
    load_adapter(base("llama"), tmp_path)
    for option in refused:
        file.write_text(json.dumps(config | {option: {"some": 1}}))
        with pytest.raises(ValueError, match=f"must be of plain LoRA, and has {option}="):
            load_adapter(base("llama"), tmp_path)


def test_some_of_the_layers_may_be_left_out_by_pefts_options(tmp_path):
    for options in ({"layers_to_transform": [1]}, {"exclude_modules": ["model.layers.0.self_attn.q_proj"]}):
        peer = theirs("llama", **options)
        peer.save_pretrained(tmp_path)
        assert relative_error(out(load_adapter(base("llama"), tmp_path)), out(peer)) < PARITY
