"""The models of Tables 2 to 5, without weights: shapes on torch's meta device, which stores no numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from papertest import counting

import lora

QUERY_VALUE = ("q_proj", "v_proj")  # Section 5.1: "we only apply LoRA to W_q and W_v in most experiments"

# layers, d_model, vocabulary, positions. The paper names GPT-3's 96 layers (Section 7.1) and width (Section 1); the
# rest is of the papers on GPT-2 and GPT-3.
SIZES = {
    "gpt2_medium": (24, 1024, 50257, 1024),
    "gpt2_large": (36, 1280, 50257, 1024),
    "gpt3": (96, 12288, 50257, 2048),
}


class Block(nn.Module):
    """One layer of GPT-2 and GPT-3; query, key and value as matrices of their own, as Section 4.2 treats them."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.q_proj, self.k_proj = nn.Linear(d_model, d_model), nn.Linear(d_model, d_model)
        self.v_proj, self.o_proj = nn.Linear(d_model, d_model), nn.Linear(d_model, d_model)
        self.fc_in, self.fc_out = nn.Linear(d_model, 4 * d_model), nn.Linear(4 * d_model, d_model)  # Section 1


class Decoder(nn.Module):
    """The parameters of GPT-2 or GPT-3: embeddings, which are the output's as well, positions, layers, a last norm."""

    def __init__(self, layers: int, d_model: int, vocabulary: int, positions: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, d_model), nn.Embedding(positions, d_model)
        self.layers = nn.ModuleList(Block(d_model) for _ in range(layers))
        self.ln_f = nn.LayerNorm(d_model)


def gpt(size: str) -> Decoder:
    """GPT-2 medium or large, or GPT-3 175B, by its name in SIZES."""
    with torch.device("meta"):
        return Decoder(*SIZES[size])


def gpt3_lora(r: int, targets: Sequence[str]) -> int:
    """Trainable parameters of LoRA on GPT-3: of one layer, times the 96 layers, which are alike."""
    layers, *shape = SIZES["gpt3"]
    with torch.device("meta"):
        return layers * with_lora(Decoder(1, *shape), r, targets)


def roberta(size: str) -> Any:
    """RoBERTa base or large, as transformers builds it."""
    from transformers import RobertaConfig, RobertaModel

    shape: dict[str, Any] = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}
    if size == "large":
        shape |= {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
    with torch.device("meta"):
        return RobertaModel(RobertaConfig(**shape))


def deberta_xxl() -> Any:
    """DeBERTa XXL (v2): 48 layers of width 1536, one set of projections for contents and positions."""
    from transformers import DebertaV2Config, DebertaV2Model

    shape: dict[str, Any] = {
        "vocab_size": 128100, "hidden_size": 1536, "num_hidden_layers": 48, "num_attention_heads": 24,
        "intermediate_size": 6144, "type_vocab_size": 0, "relative_attention": True, "position_buckets": 256,
        "norm_rel_ebd": "layer_norm", "share_att_key": True, "pos_att_type": "p2c|c2p",
        "position_biased_input": False, "conv_kernel_size": 3, "conv_act": "gelu",
    }  # fmt: skip
    with torch.device("meta"):
        return DebertaV2Model(DebertaV2Config(**shape))


def with_lora(model: Any, r: int, targets: Sequence[str] = QUERY_VALUE) -> int:
    """Trainable parameters once LoRA is on these matrices: A and B of each, all else frozen."""
    return counting.parameters(lora.add_lora(model, targets, r=r, alpha=r), trainable=True)


def biases(model: nn.Module) -> int:
    """Section 5.1, BitFit: the parameters of all bias vectors."""
    return sum(parameter.numel() for name, parameter in model.named_parameters() if name.endswith("bias"))


def lora_formula(matrices: int, d_model: int, r: int) -> int:
    """Section 5.1: 2 L_LoRA d_model r."""
    return 2 * matrices * d_model * r


def adapter_formula(adapters: int, d_model: int, r: int, norms: int = 0) -> int:
    """Section 5.1: L_Adpt (2 d_model r + r + d_model) + 2 L_LN d_model."""
    return adapters * (2 * d_model * r + r + d_model) + 2 * norms * d_model


def prefix(layers: int, d_model: int, tokens: int) -> int:
    """Section 5.1: activations of l_p + l_i special tokens in so many layers; one layer for PreEmbed."""
    with torch.device("meta"):
        return counting.parameters(nn.ModuleList(nn.Embedding(tokens, d_model) for _ in range(layers)))


def bytes_of(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
