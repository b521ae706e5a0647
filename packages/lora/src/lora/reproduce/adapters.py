"""Adapter layers, which LoRA is compared with (Section 5.1): bottlenecks that every input has to pass one by one."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


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
