"""The attentions that are compared, their inputs, and functions without arguments that run one of their passes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from flash_attention import flash_attention, standard_attention

ATTENTIONS: dict[str, Callable[..., Tensor]] = {
    "flash": flash_attention,
    "standard": standard_attention,
    "sdpa": F.scaled_dot_product_attention,
}


def draw(seed: int, shape: tuple[int, ...], device: str, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Q, K, V and the gradient of O, standard normal, from the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).to(device, dtype) for _ in range(4)]


def call(attention: Callable[..., Tensor], inputs: list[Tensor], what: str, **options: Any) -> Callable[[], Any]:
    """A function without arguments that runs the "forward", the "backward" (of one kept forward), or "both"."""
    *qkv, weight = inputs
    if what == "forward":
        return partial(attention, *qkv, **options)
    leaves = [x.detach().requires_grad_() for x in qkv]
    if what == "backward":
        output = attention(*leaves, **options)
        return lambda: torch.autograd.grad(output, leaves, weight, retain_graph=True)
    return lambda: torch.autograd.grad(attention(*leaves, **options), leaves, weight)
