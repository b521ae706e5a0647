"""Table 1: what adapter layers add to a forward pass, and what merged LoRA adds; random weights of GPT-2's shape."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from papertest import bench
from papertest.claims import Measured, Run, claim

from lora import add_lora, merge_lora
from lora.reproduce.adapters import insert, width_for


class Shape(NamedTuple):
    """GPT-2 medium's: 354.8 million parameters."""

    n_embd: int = 1024
    n_layer: int = 24
    n_head: int = 16
    vocab_size: int = 50257


MEDIUM = Shape()
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


def overheads(
    base: nn.Module, shape: Shape, setting: tuple[int, int, float], *, pairs: int, calls: int, device: str
) -> tuple[dict[str, float], dict[str, Any]]:
    """Time over the base's, of each kind; alternating, each with the base."""
    batch, length, parameters = setting
    ids = torch.randint(shape.vocab_size, (batch, length), device=device)
    details: dict[str, Any] = {"batch": batch, "length": length}
    ratios: dict[str, float] = {}
    for kind in (*AFTER, "merged"):
        model, added = (merged(base), 0) if kind == "merged" else with_adapters(base, kind, shape, parameters)
        sides = [forward(each, ids, calls) for each in (base, model)]
        found = bench.paired(*sides, pairs=pairs, device=device)
        ratios[kind] = found.median
        details[kind] = {**found.as_dict(), "parameters": added}
    return ratios, details


@claim("adapter-latency")
def adapter_latency(run: Run) -> Measured:
    """Batch 1 and 128 tokens, in float32."""
    shape = SMALL if run.quick else MEDIUM
    base = gpt2(shape, run.device, torch.float32)
    ratios, details = overheads(
        base, shape, ONLINE, pairs=3 if run.quick else 5, calls=20 if run.quick else 1, device=run.device
    )
    return Measured(ratios, details)
