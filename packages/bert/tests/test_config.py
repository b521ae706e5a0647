"""The sizes that the paper states, and sizes that are none."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from bert import Bert, BertConfig, BertForPreTraining


@pytest.mark.parametrize(
    ("config", "count"), [(BertConfig.base(), 109_482_240), (BertConfig.large(), 335_141_888)], ids=["base", "large"]
)
def test_the_parameters_of_the_paper_sizes(config, count):
    with torch.device("meta"):
        model = Bert(config)
        whole = BertForPreTraining(config)
    assert sum(p.numel() for p in model.parameters()) == count
    H = config.hidden_size  # the heads: dense, norm, bias; and two columns. The embeddings are not counted again
    heads = H * H + H + 2 * H + config.vocab_size + 2 * H + 2
    assert sum(p.numel() for p in whole.parameters()) == count + heads


def test_presets_take_changes():
    assert (BertConfig.large(n_layers=3).n_layers, BertConfig.large(n_layers=3).hidden_size) == (3, 1024)
    assert BertConfig.base(hidden_size=24).ff_size == 96
    assert BertConfig.base(d_ff=5).ff_size == 5


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no layers": ({"n_layers": 0}, "n_layers must be at least 1, got 0"),
    "no width": ({"d_ff": 0}, "d_ff must be at least 1, got 0"),
    "heads": ({"n_heads": 7}, "n_heads must divide hidden_size 768, got 7"),
    "dropout": ({"dropout": 1.0}, "dropout must be in [0, 1), got 1.0"),
    "epsilon": ({"layer_norm_eps": 0.0}, "layer_norm_eps must be above 0, got 0.0"),
    "float": ({"n_layers": 2.0}, "n_layers must be a whole number, got 2.0"),
    "bool": ({"hidden_size": True}, "hidden_size must be a whole number, got True"),
    "str": ({"vocab_size": "9"}, "vocab_size must be a whole number, got '9'"),
    "float width": ({"d_ff": 8.0}, "d_ff must be a whole number, got 8.0"),
    "dropout of str": ({"dropout": "0.1"}, "dropout must be in [0, 1), got '0.1'"),
    "dropout of bool": ({"dropout": False}, "dropout must be in [0, 1), got False"),
    "endless epsilon": ({"layer_norm_eps": float("inf")}, "layer_norm_eps must be above 0, got inf"),
    "causal": ({"causal": "false"}, "causal must be True or False, got 'false'"),
    "fused": ({"fused": 1}, "fused must be True or False, got 1"),
    "deviation": ({"init_std": float("nan")}, "init_std must be above 0, got nan"),
}


@pytest.mark.parametrize(("changes", "message"), WRONG.values(), ids=WRONG.keys())
def test_sizes_that_are_none(changes, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        BertConfig(**changes)
