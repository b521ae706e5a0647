"""Table 3's last column: parameters counted on models without memory, and what its rows A cost."""

from __future__ import annotations

import math
from typing import Any

import torch

from papertest import counting
from papertest.claims import Measured, Run, claim

from transformer.config import TABLE_3, TransformerConfig
from transformer.model import Transformer

TEXT_VOCABULARY = 37_000  # Section 5.1: "about 37000 tokens"
FITTED_VOCABULARY = 41_106  # the record's: the middle of the range in which the ten rows with P_drop 0.1 fit

# The rows of Table 3 that print parameters, by their names in the record.
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "base": ("base", {}),
    "b_d_k_16": ("B", {"d_k": 16}),
    "b_d_k_32": ("B", {"d_k": 32}),
    "c_n_2": ("C", {"n_layers": 2}),
    "c_n_4": ("C", {"n_layers": 4}),
    "c_n_8": ("C", {"n_layers": 8}),
    "c_d_model_256": ("C", {"d_model": 256}),
    "c_d_model_1024": ("C", {"d_model": 1024}),
    "c_d_ff_1024": ("C", {"d_ff": 1024}),
    "c_d_ff_4096": ("C", {"d_ff": 4096}),
    "big": ("big", {}),
}


def built(row: str, change: dict[str, Any], vocab_size: int) -> Transformer:
    """The model of a row of Table 3, on the device that holds shapes and no numbers."""
    with torch.device("meta"):
        return Transformer(TransformerConfig.table3(row, vocab_size=vocab_size, **change))


def parts(name: str, vocab_size: int) -> dict[str, int]:
    """Parameters of a row by what they are in: the shared embeddings, then the sub-layers and norms of both stacks."""
    model = built(*ROWS[name], vocab_size)
    sums = {"embeddings": counting.parameters(model.tokens), "attention": 0, "feed_forward": 0, "norms": 0}
    for layer in [*model.encoder, *model.decoder]:
        for kind, child in layer.named_children():
            part = "attention" if kind.endswith("attention") else "norms" if kind == "residuals" else kind
            sums[part] += counting.parameters(child)
    assert sum(sums.values()) == counting.parameters(model)
    return sums


def millions(names: list[str], vocab_size: int) -> Measured:
    """Parameters of these rows, in 10^6; the details have the sums by part."""
    counted = {name: parts(name, vocab_size) for name in names}
    value = {name: sum(sums.values()) / 1e6 for name, sums in counted.items()}
    return Measured(value, {"vocab_size": vocab_size, "parts": counted})


def fitting(run: Run, names: list[str]) -> dict[str, list[int]]:
    """The smallest and the largest vocabulary with which each row rounds to its printed number of millions."""
    printed: Any = run.reported["table-3-params"].value
    ranges: dict[str, list[int]] = {}
    for name in names:
        one = parts(name, 1)
        width, rest = one["embeddings"], sum(one.values()) - one["embeddings"]
        low, high = ((printed[name] + half) * 1e6 - rest for half in (-0.5, 0.5))
        ranges[name] = [math.ceil(low / width), math.floor(high / width)]
    return ranges


@claim("params-37000")
def params_37000(run: Run) -> Measured:
    """Table 3: 10^6 parameters of the eleven rows that print them, with the vocabulary of Section 5.1.

    The details have the sums by part, and the vocabularies that each row would need by itself.
    """
    measured = millions(list(ROWS), TEXT_VOCABULARY)
    return Measured(measured.value, measured.details | {"fitting": fitting(run, list(ROWS))})


@claim("params-one-vocabulary")
def params_one_vocabulary(run: Run) -> Measured:
    """Table 3: 10^6 parameters of the ten rows but the big model's, with the vocabulary fitted to them.

    `fitting` in the details is the range of vocabularies in which all ten round to the printed numbers.
    """
    names = [name for name in ROWS if name != "big"]
    lows, highs = zip(*fitting(run, names).values(), strict=True)
    measured = millions(names, FITTED_VOCABULARY)
    return Measured(measured.value, measured.details | {"fitting": [max(lows), min(highs)]})


@claim("params-big")
def params_big(run: Run) -> Measured:
    """Table 3, last row: 10^6 parameters of the big model, with the vocabulary fitted to the other rows."""
    measured = millions(["big"], FITTED_VOCABULARY)
    return Measured(measured.value, measured.details | {"fitting": fitting(run, ["big"])["big"]})


@claim("params-differences")
def params_differences(run: Run) -> Measured:
    """Table 3: 10^6 parameters by which seven rows differ from the base model, whose d_model they share."""
    wide = ("base", "big", "c_d_model_256", "c_d_model_1024")
    names = [name for name in ROWS if name not in wide]
    counts: Any = millions(["base", *names], TEXT_VOCABULARY).value
    printed: Any = run.reported["table-3-params"].value
    differences = {name: counts[name] - counts["base"] for name in names}
    return Measured(
        {name: abs(difference) for name, difference in differences.items()},
        {"signed": differences, "printed": {name: printed[name] - printed["base"] for name in names}},
    )


@claim("heads-cost")
def heads_cost(run: Run) -> Measured:
    """Table 3, rows A and base: (largest − smallest)/smallest of parameters, and of multiply-adds of one sentence pair.

    The multiply-adds are those of every matrix product of a forward pass, 64 tokens on both sides.
    """
    heads, parameters, multiply_adds = [], [], []
    for row, change in [*(("A", change) for change in TABLE_3["A"]), ("base", {})]:
        model = built(row, change, TEXT_VOCABULARY)
        heads.append(model.config.n_heads)
        parameters.append(counting.parameters(model))
        multiply_adds.append(counting.flops(lambda model=model: forward(model, 64)) // 2)
    value = {"parameters": spread(parameters), "multiply_adds": spread(multiply_adds)}
    return Measured(value, {"heads": heads, "parameters": parameters, "multiply_adds": multiply_adds})


def forward(model: Transformer, length: int) -> torch.Tensor:
    """The logits of one pair by shapes alone; the model's own forward looks at the values of its tokens."""
    x = y = torch.empty(1, length, model.config.d_model, device="meta")
    for layer in model.encoder:
        x = layer(x, None)
    for layer in model.decoder:
        y = layer(y, x, None)
    return model.project(y)


def spread(counts: list[int]) -> float:
    return (max(counts) - min(counts)) / min(counts)
