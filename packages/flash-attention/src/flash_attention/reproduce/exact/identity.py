"""Exactness: what flash attention computes is standard attention, up to rounding."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from papertest.claims import Measured, Run, claim
from papertest.parity import gradients, rms_error

from flash_attention import flash_attention, standard_attention
from flash_attention.reproduce.attentions import draw

PARTS = ("O", "dQ", "dK", "dV")


@claim("exactness")
def exactness(run: Run) -> Measured:
    """Thm. 1 in float32: RMS errors against float64, flash attention's over standard attention's, the worst cases.

    Over N, d, causal or not, dropout of 0.1 or none; batch 1, 4 heads, standard normal entries. With dropout all
    three drop the same entries of P, because they are given the same seed.
    """
    sizes = [(64, 64), (257, 64)] if run.quick else [(64, 64), (257, 64), (512, 64), (1024, 64), (257, 128), (512, 32)]
    cases: list[dict[str, Any]] = []
    for (n, d), causal, dropout_p in itertools.product(sizes, (False, True), (0.0, 0.1)):
        setting: dict[str, Any] = {"causal": causal, "dropout_p": dropout_p, "seed": 1 if dropout_p else None}
        inputs = draw(run.seed, (1, 4, n, d), run.device)
        exact = results(standard_attention, inputs, torch.float64, setting)
        errors = {
            name: [rms_error(a, b) for a, b in zip(results(f, inputs, torch.float32, setting), exact, strict=True)]
            for name, f in (("flash", flash_attention), ("standard", standard_attention))
        }
        ratios = {part: a / b for part, a, b in zip(PARTS, errors["flash"], errors["standard"], strict=True)}
        cases.append(
            {"N": n, "d": d, "causal": causal, "dropout": dropout_p, "parts": PARTS, **errors, "ratio": ratios}
        )
    value = {
        "forward": max(case["ratio"]["O"] for case in cases),
        "gradients": max(case["ratio"][part] for case in cases for part in PARTS[1:]),
    }
    return Measured(value, {"cases": cases})


@claim("float64-identity")
def float64_identity(run: Run) -> Measured:
    """Thm. 1 in float64: the largest differences from standard attention over block sizes, causal or not.

    N = 200 is a multiple of none of the block sizes; one block is larger than the whole.
    """
    inputs = draw(run.seed, (1, 2, 200, 32), run.device, torch.float64)
    cases: list[dict[str, Any]] = []
    for causal, (rows, columns) in itertools.product(
        (False, True), [(16, 16), (64, 64), (32, 48), (100, 17), (256, 256)]
    ):
        exact = results(standard_attention, inputs, torch.float64, {"causal": causal})
        ours = results(flash_attention, inputs, torch.float64, {"causal": causal, "block_q": rows, "block_k": columns})
        largest = [float((a - b).abs().max()) for a, b in zip(ours, exact, strict=True)]
        cases.append({"block_q": rows, "block_k": columns, "causal": causal, **dict(zip(PARTS, largest, strict=True))})
    value = {
        "forward": max(case["O"] for case in cases),
        "gradients": max(case[part] for case in cases for part in PARTS[1:]),
    }
    return Measured(value, {"cases": cases})


def results(
    attention: Callable[..., Tensor], inputs: list[Tensor], dtype: torch.dtype, setting: dict[str, Any]
) -> list[Tensor]:
    """O, dQ, dK and dV in this precision, for Q, K, V and dO."""
    *qkv, weight = (x.to(dtype) for x in inputs)
    output, found = gradients(partial(attention, **setting), qkv, weight)
    return [output, *found]
