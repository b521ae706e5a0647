"""Counts against the papers' printed values, and against models that were built."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from moe import MoE, count_moe
from moe.config import DEEPSEEK, MIXTRAL, SHAZEER, SHAZEER_NEWS, SWITCH, DecoderConfig, LSTMConfig, T5Config
from moe.count import t5_flops

# Table 7 and 8: millions of operations, of parameters without embedding and softmax
TABLE_7 = {
    "LSTM-2048-512": (9.4, 9.4), "4xLSTM-512": (8.4, 8.4), "2xLSTM-8192-1024": (151.0, 151.0), "MoE-1-Wide": (8.4, 8.4),
    "MoE-4": (8.4, 8.4), "MoE-32": (8.4, 37.8), "MoE-256": (8.6, 272.9), "MoE-256-h": (8.4, 272.9),
    "MoE-1024-h": (8.5, 1079.0), "MoE-4096-h": (8.9, 4303.4), "MoE-34M": (33.8, 4313.9), "MoE-143M": (142.7, 4371.1),
}  # fmt: skip
TABLE_8 = {
    "4xLSTM-512": (8.4, 8.4), "MoE-32": (8.4, 37.8), "MoE-256-h": (8.4, 272.9), "MoE-1024-h": (8.5, 1079.0),
    "MoE-4096-h": (8.6, 4303.4), "MoE-16384-h": (8.8, 17201.0), "MoE-65536-h": (9.2, 68791.0),
    "MoE-131072-h": (9.7, 137577.6),
}  # fmt: skip
CONTRADICTED = {("MoE-256", "operations"), ("MoE-143M", "parameters")}


@pytest.mark.parametrize(("table", "configs"), [(TABLE_7, SHAZEER), (TABLE_8, SHAZEER_NEWS)], ids=["7", "8"])
def test_shazeer(table, configs):
    assert table.keys() == configs.keys()
    for name, (operations, parameters) in table.items():
        count = count_moe(configs[name])
        for what, ours, printed in (
            ("operations", count.multiply_adds, operations), ("parameters", count.total - count.tables, parameters)
        ):  # fmt: skip
            agrees = abs(ours / 1e6 - printed) <= 0.0501
            assert agrees != ((name, what) in CONTRADICTED), (name, what, ours)


def test_shazeer_totals():
    totals = {"MoE-4": 0.8, "MoE-32": 0.9, "MoE-256": 1.1, "MoE-1024-h": 1.9, "MoE-4096-h": 5.1, "MoE-143M": 6.0}
    for name, printed in totals.items():
        assert round(count_moe(SHAZEER[name]).total / 1e9, 1) == printed


@pytest.mark.parametrize(
    ("config", "millions"),
    [
        (SWITCH["T5-Base"], 222.9), (SWITCH["T5-Large"], 750), (SWITCH["T5-XXL"], 11_000),
        (SWITCH["Switch-Base"], 7415), (SWITCH["Switch-Large"], 27_120), (SWITCH["Switch-XXL"], 201_300),
        (T5Config(4096, 10240, heads=64, n_layers=24, n_experts=128), 394_500), (SWITCH["Switch-C"], 1_571_300),
        (T5Config(n_experts=16), 1072), (T5Config(n_experts=32), 1979), (T5Config(n_experts=64), 3791),
        (T5Config(n_experts=256), 14_660), (T5Config(1024, 4096, heads=16, n_layers=24, geglu=False), 738),
        (T5Config(1024, 4096, heads=16, n_layers=24, geglu=False, n_experts=128), 26_310),
    ],
)  # fmt: skip
def test_switch(config, millions):
    """../shared/papers/switch-transformer.md has the sums, to four digits."""
    assert count_moe(config).total / 1e6 == pytest.approx(millions, rel=1e-3)


def test_switch_flops():
    printed = {"Switch-Base": 124e9, "Switch-Large": 425e9, "Switch-XXL": 6.3e12, "Switch-C": 890e9}
    for name, flops in printed.items():
        assert t5_flops(SWITCH[name]) == pytest.approx(flops, rel=0.05)
    for name, flops in {"T5-Base": 125.1e9, "T5-Large": 441.7e9, "T5-XXL": 6296e9, "Switch-C": 899e9}.items():
        assert t5_flops(SWITCH[name]) == pytest.approx(flops, rel=1e-3)


@pytest.mark.parametrize(
    ("config", "total", "active"),
    [
        (MIXTRAL["Mixtral-8x7B"], 46_702_792_704, 12_879_925_248),
        (MIXTRAL["Mixtral-8x22B"], 140_630_071_296, 39_161_468_928 ),
        (DEEPSEEK["DeepSeekMoE-16B"], 16_375_728_128, 2_828_650_496),
        (DEEPSEEK["DeepSeek-V2-Lite"], 15_706_484_224, 2_661_150_208),
        (DEEPSEEK["DeepSeek-V2"], 235_741_434_880, 21_375_800_320),
        (DEEPSEEK["DeepSeek-V3"], 671_026_419_200, 37_552_297_472),
    ],
)  # fmt: skip
def test_decoders(config, total, active):
    count = count_moe(config)
    assert (count.total, count.active) == (total, active)


def test_mixtral_experts_and_input_embedding():
    count = count_moe(MIXTRAL["Mixtral-8x7B"])
    assert count.experts == 45_097_156_608
    assert count.active - count.tables // 2 == 12_748_853_248


def test_tiny_mixtral_and_deepseek_are_what_transformers_builds():
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM, MixtralConfig, MixtralForCausalLM

    def size(model: torch.nn.Module) -> int:
        return sum(p.numel() for p in model.parameters())

    mixtral = MixtralConfig(
        vocab_size=50, hidden_size=32, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=4, head_dim=8,
    )  # fmt: skip
    ours = DecoderConfig(50, 2, 32, 4, 24, 4, 2, kv_heads=2, head_dim=8)
    with torch.device("meta"):
        assert size(MixtralForCausalLM(mixtral)) == count_moe(ours).total
        deepseek = DeepseekV3Config(
            vocab_size=50, hidden_size=32, intermediate_size=40, moe_intermediate_size=12, num_hidden_layers=3,
            num_attention_heads=4, num_key_value_heads=4, n_routed_experts=8, num_experts_per_tok=2, n_group=2,
            topk_group=1, kv_lora_rank=16, q_lora_rank=24, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=8,
            first_k_dense_replace=1, n_shared_experts=1,
        )  # fmt: skip
        model = DeepseekV3ForCausalLM(deepseek)
    ours = DecoderConfig(
        50, 3, 32, 4, 12, 8, 2, kv_lora=16, q_lora=24, nope=8, rope=4, v_dim=8, shared=1, dense_layers=1, d_ff_dense=40,
        routing_bias=True,
    )  # fmt: skip
    assert size(model) + 2 * 8 == count_moe(ours).total  # the biases are buffers there


@pytest.mark.parametrize("n_experts", [4, 16, 64])
def test_operations_do_not_grow_with_the_experts(n_experts):
    layer = MoE(16, 24, n_experts, k=2, gate="topk_softmax", activation="swiglu", shared_experts=1).eval()
    with FlopCounterMode(display=False) as counter:
        layer(torch.randn(32, 16))
    count = count_moe(layer)
    assert counter.get_total_flops() == 2 * 32 * count.multiply_adds
    assert count.multiply_adds == 16 * n_experts + 3 * 3 * 16 * 24
    assert count.total == 16 * n_experts + (n_experts + 1) * 3 * 16 * 24


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LSTMConfig(n_experts=10, branch=4), "branch must divide n_experts, 10, got 4"),
        (lambda: LSTMConfig(n_experts=2), "k must be at most the experts it chooses among, got 4"),
        (lambda: LSTMConfig(d_model=512.0), "d_model must be a whole number of at least 1, got 512.0"),  # type: ignore
        (lambda: T5Config(geglu=1), "geglu must be True or False, got 1"),  # type: ignore
        (lambda: T5Config(heads=True), "heads must be a whole number of at least 1, got True"),
        (lambda: DecoderConfig(9, 1, 8, 2, 4, 4, 5, kv_heads=1), "k must be a whole number from 1 to n_experts, 4"),
        (lambda: DecoderConfig(9, 1, 8, 2, 4, 4, 2), "kv_heads or kv_lora must be given, and not both, got 0 and 0"),
        (lambda: DecoderConfig(9, 1, 8, 2, 4, 4, 2, kv_heads=1, dense_layers=2), "dense_layers must be at most"),
        (lambda: count_moe("Mixtral"), "model must be an LSTMConfig, a T5Config, a DecoderConfig or a MoE"),  # type: ignore
    ],
)
def test_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
