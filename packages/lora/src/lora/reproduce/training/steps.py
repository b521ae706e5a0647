"""A training step of a causal language model, and the memory that it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor, nn

from papertest.counting import peak_memory
from papertest.models import smollm2

from lora import add_lora


class Step(NamedTuple):
    """`run` takes a step: forward, backward, Adam's update."""

    run: Callable[[], None]
    model: nn.Module
    optimizer: torch.optim.Optimizer


def step(model: nn.Module, ids: Int[Tensor, "batch seq"]) -> Step:
    """Of what the model trains: Adam, and the loss of the next token."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-4, fused=True)

    def run() -> None:
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return Step(run, model, optimizer)


def total_memory(side: Step, device: str) -> dict[str, int]:
    """Bytes, after a first step: of the weights, of Adam's states, and the largest sum of both, gradients and
    activations.
    """
    side.run()
    weights = size(list(side.model.parameters()))
    states = size([x for state in side.optimizer.state.values() for x in state.values() if isinstance(x, Tensor)])
    return {"weights": weights, "states": states, "peak": weights + states + peak_memory(side.run, device)}


def size(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in {id(t): t for t in tensors}.values())


def smollm2_ids(batch: int, length: int, device: str = "cpu") -> Int[Tensor, "batch length"]:
    """Random tokens of SmolLM2's vocabulary."""
    return torch.randint(49152, (batch, length), device=device)


def smollm2_step(ids: Int[Tensor, "batch seq"], targets: Sequence[str]) -> Step:
    """A training step of a SmolLM2 of its own, LoRA at r = 8; of all its parameters where no targets are given."""
    model = smollm2()[0]
    return step(add_lora(model, targets, 8, 16) if targets else model, ids)
