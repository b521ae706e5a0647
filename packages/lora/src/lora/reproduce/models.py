"""The models of the tables without their weights, and what is put into them: LoRA, adapter layers, A and B by name.

Real weights come from `papertest.models`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from papertest import counting

from lora import add_lora, merge_lora
from lora.adapt import layers_with

# ---------------------------------------------------------------- Tables 2 to 5: shapes, to be counted

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
    return counting.parameters(add_lora(model, targets, r=r, alpha=r), trainable=True)


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


def bytes_of(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


# ---------------------------------------------------------------- adapter layers, to compare LoRA with (Section 5.1)


class Bottleneck(nn.Module):
    """h + W_up f(W_down h), both with biases; `norm`: of LayerNorm(h), as in Adapter-L.

    d_model: the width of h.
    width: the width in between, r in the paper's count (Section 5.1): 2 d_model r + r + d_model parameters, and
        2 d_model for the LayerNorm.
    """

    def __init__(self, d_model: int, width: int, *, norm: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model) if norm else nn.Identity()
        self.down = nn.Linear(d_model, width)
        self.up = nn.Linear(width, d_model)

    def forward(self, h: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return h + self.up(F.relu(self.down(self.norm(h))))


def insert(model: nn.Module, after: Sequence[str], d_model: int, width: int, *, norm: bool) -> int:
    """Put a Bottleneck after every module whose name ends in one of `after`; the number of parameters that it adds.

    Adapter-H (Houlsby et al., 2019): after the last matrix of self-attention and of the MLP, before the residual
    connection. Adapter-L (Lin et al., 2020): after the MLP alone, with a LayerNorm.
    """
    names = [name for name, _ in model.named_modules() if name.endswith(tuple(after))]
    added = 0
    for name in names:
        parent, _, last = name.rpartition(".")
        inner = model.get_submodule(name)
        weight = next(inner.parameters())
        adapter = Bottleneck(d_model, width, norm=norm).to(weight.device, weight.dtype)
        added += sum(parameter.numel() for parameter in adapter.parameters())
        setattr(model.get_submodule(parent), last, nn.Sequential(inner, adapter))
    return added


def width_for(parameters: float, layers: int, d_model: int, *, norm: bool) -> int:
    """The bottleneck that makes so many adapter layers have about so many parameters together."""
    fixed = d_model + (2 * d_model if norm else 0)
    return max(1, round((parameters / layers - fixed) / (2 * d_model + 1)))


# ---------------------------------------------------------------- A and B of an adapted model, by the name of the layer

Factors = tuple[Float[Tensor, "r k"], Float[Tensor, "d r"]]


def factors(model: nn.Module, adapter: str = "default") -> dict[str, Factors]:
    """A and B of every layer that has this adapter: the parameters themselves and no copies."""
    layers = layers_with(model, adapter)
    return {name: (layer.lora_A[adapter], layer.lora_B[adapter]) for name, layer in layers.items()}


@torch.no_grad()
def randomise(model: nn.Module, *, seed: int, adapter: str = "default") -> nn.Module:
    """Fill A and B with normal numbers of standard deviation 0.05, as if they had been trained; returns the model."""
    generator = torch.Generator().manual_seed(seed)
    for pair in factors(model, adapter).values():
        for x in pair:
            x.copy_(0.05 * torch.randn(x.shape, generator=generator))
    return model


# ---------------------------------------------------------------- Table 1: random weights of GPT-2's shape


class Shape(NamedTuple):
    """GPT-2 medium's: 354.8 million parameters."""

    n_embd: int = 1024
    n_layer: int = 24
    n_head: int = 16
    vocab_size: int = 50257


MEDIUM = Shape()
THIRD = Shape(n_layer=8, vocab_size=50257 // 3)  # of MEDIUM, and of its operations
SMALL = Shape(64, 2, 2, 512)  # for --quick
R, ALPHA = 4, 32  # Table 11
AFTER = {"adapter_l": ("mlp.c_proj",), "adapter_h": ("attn.c_proj", "mlp.c_proj")}
ONLINE = (1, 128, 11e6)  # batch, length, parameters of the adapter layers: Table 1's last column; less in SMALL
SETTINGS = ((32, 512, 0.5e6), (16, 256, 11e6), ONLINE)


def gpt2(shape: Shape, device: str, dtype: torch.dtype) -> GPT2LMHeadModel:
    """Random weights."""
    config: dict[str, Any] = {**shape._asdict(), "use_cache": False, "bos_token_id": None, "eos_token_id": None}
    with torch.device(device):
        return GPT2LMHeadModel(GPT2Config(**config)).to(dtype).eval()  # pyright: ignore[reportArgumentType]


def with_adapters(base: nn.Module, kind: str, shape: Shape, parameters: float) -> tuple[nn.Module, int]:
    """A model on the base's own weights, with Adapter-L or Adapter-H put in; and their number of parameters."""
    model = deepcopy(base, {id(p): p for p in base.parameters()})
    layers, norm = shape.n_layer * len(AFTER[kind]), kind == "adapter_l"
    share = shape.n_layer * shape.n_embd**2 / (MEDIUM.n_layer * MEDIUM.n_embd**2)
    width = width_for(share * parameters, layers, shape.n_embd, norm=norm)
    return model, insert(model, AFTER[kind], shape.n_embd, width, norm=norm)


def merged(base: nn.Module) -> nn.Module:
    """A copy of the base with LoRA merged into it, moved off zero."""
    model = add_lora(deepcopy(base), ("c_attn",), R, ALPHA, enabled=(True, False, True))
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.02)
    return merge_lora(model)


def forward(model: nn.Module, ids: torch.Tensor, calls: int) -> Callable[[], None]:
    @torch.inference_mode()
    def run() -> None:
        for _ in range(calls):
            model(input_ids=ids)

    return run
