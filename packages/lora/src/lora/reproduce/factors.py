"""A and B of an adapted model, by the name of the layer that they are on."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lora.adapt import layers_with

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
