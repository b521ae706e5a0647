"""How models are called here: those of transformers by name, all others as model(ids, padding_mask)."""

from __future__ import annotations

import inspect
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dpo.logps import sequence_logps
from dpo.preferences import Batch


def logits_of(
    model: nn.Module, ids: Int[Tensor, "batch seq"], padding_mask: Bool[Tensor, "batch seq"]
) -> Float[Tensor, "batch seq vocab"]:
    """The logits of a module that maps (ids, padding_mask) to logits, or of a causal language model of transformers.

    padding_mask: True at real tokens
    """
    return call(model, ids, padding_mask, "logits")


def call(model: nn.Module, ids: Tensor, padding_mask: Tensor, output: str, **options: Any) -> Any:
    """The output, or its attribute of the name `output` where it has one.

    A transformers model (what has a parameter `attention_mask`) is told the positions where padding is on the left: by
    itself it would count from the first column.
    """
    accepted = inspect.signature(model.forward).parameters
    if "attention_mask" not in accepted:
        result = model(ids, padding_mask)
    else:
        if "position_ids" in accepted and not padding_mask[:, 0].all():
            options["position_ids"] = (padding_mask.cumsum(-1) - 1).clamp(min=0)
        if "use_cache" in accepted:
            options["use_cache"] = False
        result = model(input_ids=ids, attention_mask=padding_mask.long(), **options)
    return getattr(result, output, result)


def answer_logps(model: nn.Module, batch: Batch) -> tuple[Float[Tensor, " two_batch"], int]:
    """`sequence_logps` of the batch, the chosen answers first, and the size of the model's vocabulary.

    Columns before the first answer of the batch and behind the last are left out, and a transformers model that can
    (`logits_to_keep`) makes no logits for them.
    """
    columns = batch.mask.any(0).nonzero().flatten().tolist() or [0]
    start, stop = max(columns[0] - 1, 0), columns[-1] + 1
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        kept = torch.arange(start, stop, device=batch.ids.device)
        logits = call(model, batch.ids, batch.padding_mask, "logits", logits_to_keep=kept)
    else:
        logits = logits_of(model, batch.ids, batch.padding_mask)[:, start:stop]
    return sequence_logps(logits, batch.ids[:, start:stop], batch.mask[:, start:stop]), logits.shape[-1]


@contextmanager
def evaluating(*models: nn.Module) -> Generator[None]:
    """In eval mode, without dropout, and afterwards each module as it was."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
