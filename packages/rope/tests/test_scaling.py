"""`scale_frequencies` against transformers' functions, the papers' formulas and their printed numbers."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from rope import rope_frequencies, scale_frequencies

ROPE_SCALING = [
    {"rope_type": "linear", "factor": 4.0},
    {"rope_type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 4096},
    {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 4096},
    {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 2048, "beta_fast": 20, "beta_slow": 2.0},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096, "truncate": False},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096, "attention_factor": 1.25},
    {"rope_type": "yarn", "factor": 40, "original_max_position_embeddings": 4096, "mscale": 0.7, "mscale_all_dim": 1.0},
    {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
]


@pytest.mark.parametrize("seq_len", [100, 4096, 5000, 30000])
@pytest.mark.parametrize("scaling", ROPE_SCALING, ids=lambda s: s["rope_type"])
@pytest.mark.parametrize(("dim", "base"), [(64, 10000.0), (128, 500000.0), (8, 10000.0)])
def test_transformers(scaling, dim, base, seq_len):
    parameters = scaling | {"rope_theta": base}
    config = LlamaConfig(
        hidden_size=2 * dim, num_attention_heads=2, max_position_embeddings=4096, rope_parameters=parameters
    )
    theirs, factor = ROPE_INIT_FUNCTIONS[scaling["rope_type"]](config, seq_len=seq_len)
    length = {"seq_len": seq_len} if scaling["rope_type"] == "dynamic" else {}
    ours = scale_frequencies(rope_frequencies(dim, base), parameters, **length)
    torch.testing.assert_close(ours.frequencies.float(), theirs, rtol=2e-5, atol=0)
    assert ours.attention_factor == pytest.approx(factor, rel=1e-12)


@pytest.mark.parametrize(("s", "base"), [(2, 20221), (4, 40890), (8, 82685), (16, 167199), (32, 338097)])
def test_ntk_is_another_base(s, base):
    """YaRN, Eq. 16, at D = 128: the highest frequency stays, and the lowest is divided by s."""
    theta = rope_frequencies(128)
    scaled = scale_frequencies(theta, "ntk", factor=s).frequencies
    torch.testing.assert_close(scaled, rope_frequencies(128, 10000.0 * s ** (128 / 126)), rtol=1e-12, atol=0)
    torch.testing.assert_close(scaled, rope_frequencies(128, float(base)), rtol=3e-5, atol=0)
    assert scaled[0] == theta[0]
    assert scaled[-1] == pytest.approx(theta[-1].item() / s, rel=1e-12)


@pytest.mark.parametrize(("s", "root"), [(2, 1.0693), (4, 1.1386), (8, 1.2079), (16, 1.2773), (32, 1.3466)])
def test_temperature(s, root):
    scaled = scale_frequencies(rope_frequencies(128), "yarn", factor=s, original_max_position_embeddings=4096)
    assert scaled.attention_factor == pytest.approx(root, abs=5e-5)


def test_two_ramps():
    """Eq. 18 against the authors' code: up to 3.04 in frequency at s = 16."""
    theta = rope_frequencies(128)
    common = {"factor": 16.0, "original_max_position_embeddings": 4096}
    code, paper = (scale_frequencies(theta, "yarn", ramp=ramp, **common).frequencies for ramp in ("code", "paper"))
    assert (code / paper).max() == pytest.approx(3.04, abs=0.005)
    r = 4096 * theta / (2 * math.pi)
    torch.testing.assert_close(paper[r > 32], theta[r > 32])
    torch.testing.assert_close(paper[r < 1], theta[r < 1] / 16)


def test_llama3_is_by_parts():
    theta = rope_frequencies(128, 500000.0)
    llama = scale_frequencies(theta, "llama3", factor=8.0, original_max_position_embeddings=8192).frequencies
    parts = scale_frequencies(
        theta, "yarn", ramp="paper", beta_fast=4.0, factor=8.0, original_max_position_embeddings=8192
    )
    torch.testing.assert_close(llama, parts.frequencies, rtol=1e-12, atol=0)
    ratio = theta / llama
    kept, divided = (int(((ratio - x).abs() < 1e-12).sum()) for x in (1, 8))
    assert (kept, 64 - kept - divided, divided) == (29, 6, 29)


def test_dynamic():
    """Without a factor s is max(1, l'/L), as in YaRN's Section 3.3; within L nothing changes."""
    theta = rope_frequencies(64)
    common = {"method": "dynamic", "original_max_position_embeddings": 2048}
    assert scale_frequencies(theta, seq_len=2000, factor=4.0, **common).frequencies.equal(theta)
    assert scale_frequencies(theta, **common).frequencies.equal(theta)
    ntk = scale_frequencies(theta, "ntk", factor=2.5).frequencies
    torch.testing.assert_close(scale_frequencies(theta, seq_len=5120, **common).frequencies, ntk)
    assert scale_frequencies(theta, "default").frequencies.equal(theta)


@pytest.mark.parametrize("factor", [0.5, 0.99, 0, -1, float("nan"), float("inf"), True, "2", None])
@pytest.mark.parametrize("method", ["linear", "ntk", "yarn", "llama3"])
def test_factor(method, factor):
    L = {} if method in ("linear", "ntk") else {"original_max_position_embeddings": 2048}
    with pytest.raises(ValueError, match="factor must be"):
        scale_frequencies(rope_frequencies(64), method, factor=factor, **L)


@pytest.mark.parametrize(
    ("method", "parameters", "message"),
    [
        ("longrope", {}, "method must be one of"),
        ({"factor": 2.0}, {}, "method must be one of"),
        ({"rope_type": "linear", "factor": 2.0, "rope_theta": 5e5}, {}, "rope_theta must be the base"),
        ("linear", {"factor": 2.0, "beta_fast": 3}, "got beta_fast"),
        ("linear", {"faktor": 2.0}, "got faktor"),
        ("yarn", {"factor": 2.0}, "original_max_position_embeddings must be given"),
        ("yarn", {"factor": 2.0, "original_max_position_embeddings": 2048.0}, "must be an integer"),
        ("yarn", {"factor": 2.0, "original_max_position_embeddings": 64, "beta_fast": 1}, "beta_fast must be above"),
        ("yarn", {"factor": 2.0, "original_max_position_embeddings": 64, "ramp": "both"}, "ramp must be one of"),
        ("yarn", {"factor": 2.0, "original_max_position_embeddings": 64, "truncate": 1}, "truncate must be True"),
        ("yarn", {"factor": 2.0, "original_max_position_embeddings": 64, "attention_factor": -1}, "attention_factor"),
        ("llama3", {"factor": 2.0, "original_max_position_embeddings": 64, "low_freq_factor": 4}, "high_freq_factor"),
        ("dynamic", {"original_max_position_embeddings": 64, "seq_len": 2.5}, "seq_len must be an integer"),
    ],
)
def test_bad_parameters(method, parameters, message):
    with pytest.raises(ValueError, match=message):
        scale_frequencies(rope_frequencies(64), method, **parameters)


def test_scaled_twice_is_refused():
    """A ramp in the index wants the powers of one base: YaRN of what YaRN gave would be another method."""
    common = {"factor": 4.0, "original_max_position_embeddings": 2048}
    once = scale_frequencies(rope_frequencies(64), "yarn", **common).frequencies
    with pytest.raises(ValueError, match="powers of one base"):
        scale_frequencies(once, "yarn", **common)
