"""The ways to adapt MiniLM that are compared: what of it is trained, and how fast."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor, nn

from lora import add_lora

QUERY_VALUE = ("query", "value")
ALPHA = 8.0  # Table 9, RoBERTa base; the same for every rank, as Section 4.1 has it
FULL, BIAS, LAST, HEAD = "full", "bias only", "last layer", "classifier only"


class Classifier(nn.Module):
    """A linear layer on the mean of the last states: so MiniLM's sentence embeddings were trained."""

    def __init__(self, bert: nn.Module, width: int) -> None:
        super().__init__()
        self.bert = bert
        self.classifier = nn.Linear(width, 2)

    def forward(self, ids: Int[Tensor, "batch seq"], mask: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch 2"]:
        states = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
        real = mask[..., None].to(states)
        return self.classifier((states * real).sum(1) / real.sum(1))


class Method(NamedTuple):
    """`chosen`: whether a parameter of that name is trained, unless `targets` of LoRA are given.

    rate: the learning rate of what is trained; the classifier has its own, unless it is all that is trained.
    """

    rate: float
    chosen: Callable[[str], bool] = lambda name: False
    targets: tuple[str, ...] = ()
    r: int = 0


def lora_name(targets: str, r: int) -> str:
    return f"LoRA {targets} r={r}"


# Each rate is the best of a few by accuracy on dev, one training each, with sentences that no seed of a claim trains on
# (pilot, 800 labels, standard error 1.6 points). English, full: 2.5e-5 80.1 %, 5e-5 80.3, 1e-4 78.4, 2e-4 76.6, 4e-4
# 76.8; bias: 1e-3 78.7, 3e-3 79.5, 1e-2 77.3; last layer: 1e-4 76.3, 3e-4 75.4, 1e-3 75.4; LoRA at r = 8: 5e-4 78.1,
# 1e-3 79.0, 2e-3 79.2, 5e-3 78.9; classifier: 1e-3 71.9, 3e-3 73.3, 1e-2 74.1. Chinese, full: 5e-5 63.7, 1e-4 64.0,
# 2e-4 61.2; bias: 1e-3 64.6. The same for both languages and, LoRA's, for all its ranks and targets.
LORA_RATE = 2e-3
METHODS = {
    FULL: Method(5e-5, lambda name: True),
    BIAS: Method(3e-3, lambda name: name.endswith(".bias")),
    LAST: Method(1e-4, lambda name: ".layer.5." in name),
    HEAD: Method(1e-2),
    **{lora_name("q,v", r): Method(LORA_RATE, targets=QUERY_VALUE, r=r) for r in (1, 2, 4, 8, 64)},
    lora_name("q", 8): Method(LORA_RATE, targets=("query",), r=8),
    lora_name("v", 8): Method(LORA_RATE, targets=("value",), r=8),
}


def prepare(model: Classifier, method: Method) -> int:
    """Set what is trained; the number of trained parameters but the classifier's, which is trained in any case."""
    model.bert.register_module("pooler", None)  # the mean of the states does not pass it
    if method.targets:
        add_lora(model.bert, method.targets, method.r, ALPHA)
    else:
        for name, parameter in model.bert.named_parameters():
            parameter.requires_grad_(method.chosen(name))
    return sum(parameter.numel() for parameter in model.bert.parameters() if parameter.requires_grad)
