"""Small causal language models that differ in their feed-forward layers alone: pre-norm, two layers of width 64."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from moe.experts import Experts
from moe.gates import TopKGate
from moe.layer import MoE, MoEInfo

D_MODEL, D_FF, HEADS, LAYERS, LENGTH = 64, 256, 2, 2, 32
INIT_SCALE = 0.1  # Switch's, for the dense layer as well


@dataclass(frozen=True)
class Arm:
    """What stands in place of the feed-forward layers, and how the model is trained.

    experts: 0 for the dense layer of width D_FF
    d_ff: an expert's; k · d_ff of those chosen, and the shared ones', are D_FF together, so operations are equal
    gate: "softmax" is DeepSeekMoE's, whose weights are not renormalised
    alpha, weight: of Switch's balancing loss, and of each of Shazeer's two
    """

    experts: int = 0
    d_ff: int = D_FF
    k: int = 1
    gate: Literal["switch", "noisy_topk", "softmax"] = "switch"
    shared: int = 0
    capacity: float | None = None
    alpha: float = 0.0
    weight: float = 0.0
    steps: int = 2000


ARMS = {
    "dense": Arm(),
    "switch-4": Arm(4, alpha=0.01),
    "switch-16": Arm(16, alpha=0.01),
    "switch-64": Arm(64, alpha=0.01),
    "fine": Arm(32, D_FF // 2, 2, "softmax", alpha=0.01),
    "fine-shared": Arm(31, D_FF // 2, 1, "softmax", shared=1, alpha=0.01),
    "balanced": Arm(16, alpha=0.01, steps=1000),
    "unbalanced": Arm(16, steps=1000),
    "capacity-1.0": Arm(16, capacity=1.0, alpha=0.01, steps=1000),
    "capacity-1.25": Arm(16, capacity=1.25, alpha=0.01, steps=1000),
    "capacity-2.0": Arm(16, capacity=2.0, alpha=0.01, steps=1000),
    "noisy-balanced": Arm(16, D_FF // 2, 2, "noisy_topk", weight=0.1, steps=1000),
    "noisy-unbalanced": Arm(16, D_FF // 2, 2, "noisy_topk", steps=1000),
}


def mixture(arm: Arm) -> MoE:
    """The sparse layer of an arm."""
    gate = arm.gate if arm.gate != "softmax" else TopKGate(D_MODEL, arm.experts, arm.k, renormalise=False)
    return MoE(D_MODEL, arm.d_ff, arm.experts, arm.k, gate, arm.capacity, arm.shared, init_scale=INIT_SCALE)


class Attention(nn.Module):
    """Causal multi-head attention of a sequence to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(D_MODEL, 3 * D_MODEL, bias=False)
        self.out = nn.Linear(D_MODEL, D_MODEL, bias=False)

    def forward(self, x: Float[Tensor, "batch seq d"]) -> Float[Tensor, "batch seq d"]:
        q, k, v = self.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).flatten(2))


class LanguageModel(nn.Module):
    """Logits of the next token, tied to the embedding, and what each mixture of experts did; none where dense."""

    def __init__(self, vocab: int, arm: Arm) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocab, D_MODEL), nn.Embedding(LENGTH, D_MODEL)
        self.attention = nn.ModuleList(Attention() for _ in range(LAYERS))
        self.norms = nn.ModuleList(nn.LayerNorm(D_MODEL) for _ in range(2 * LAYERS + 1))
        for module in self.modules():  # before the experts: the same weights for all arms of one seed
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=D_MODEL**-0.5 / (2 if isinstance(module, nn.Linear) else 1))
        self.ff = nn.ModuleList(
            mixture(arm) if arm.experts else Experts.new(D_MODEL, D_FF, 1, "relu", INIT_SCALE) for _ in range(LAYERS)
        )

    @property
    def device(self) -> torch.device:
        return self.tokens.weight.device

    def forward(self, ids: Int[Tensor, "batch seq"]) -> tuple[Float[Tensor, "batch seq vocab"], list[MoEInfo]]:
        x = (self.tokens(ids) + self.places.weight[: ids.shape[1]]) * math.sqrt(D_MODEL)
        infos: list[MoEInfo] = []
        for i, ff in enumerate(self.ff):
            x = x + self.attention[i](self.norms[2 * i](x))
            h = self.norms[2 * i + 1](x)
            if isinstance(ff, MoE):
                y, info = ff(h)
                infos.append(info)
            else:
                assert isinstance(ff, Experts)
                y = ff.one(0, h)
            x = x + y
        return self.norms[-1](x) @ self.tokens.weight.T, infos
