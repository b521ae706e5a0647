"""ALiBi, Section 3: slopes and biases."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from papertest.claims import Measured, Run, claim
from papertest.parity import relative_error

from rope.alibi import alibi_bias, alibi_slopes


@claim("alibi-slopes")
def alibi_slopes_claim(run: Run) -> Measured:
    """8 heads against the printed list, 16 against 2^(−k/2), 12 against the authors' list of four decimals."""
    reported: Any = run.reported["alibi-slopes"].value
    twelve: Any = run.reported["alibi-slopes-12"].value
    expected = {
        "heads_8": reported["heads_8"],
        "heads_16": [2 ** (-k / 2) for k in range(1, 17)],
        "heads_12": twelve,
    }
    found = {name: alibi_slopes(int(name.split("_")[1])).tolist() for name in expected}
    value = {
        name: max(abs(ours / theirs - 1) for ours, theirs in zip(found[name], expected[name], strict=True))
        for name in expected
    }
    return Measured(value, {"slopes": found})


def weights(scores: Tensor, bias: Tensor) -> Tensor:
    """Of each query, what it gives to the keys up to itself."""
    hidden = torch.ones(scores.shape[-2:]).tril() == 0
    return (scores + bias).masked_fill(hidden, -math.inf).softmax(-1)


@claim("alibi-key-index")
def alibi_key_index(run: Run) -> Measured:
    """8 heads, 512 positions; the details have the same in bfloat16."""
    draw = torch.Generator().manual_seed(run.seed)
    scores = torch.randn(8, 512, 512, generator=draw, dtype=torch.float64)
    index = alibi_slopes(8).double()[:, None, None] * torch.arange(512)
    differences = {
        dtype: (weights(scores.to(dtype), alibi_bias(8, 512, dtype=dtype)) - weights(scores.to(dtype), index.to(dtype)))
        .abs().max().item() for dtype in (torch.float64, torch.bfloat16)
    }  # fmt: skip
    return Measured(differences[torch.float64], {"bfloat16": differences[torch.bfloat16]})


@claim("alibi-bloom-parity")
def alibi_bloom_parity(run: Run) -> float:
    """Outputs of causal attention over 256 positions with both biases, 8, 12 and 16 heads of 32."""
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    draw = torch.Generator().manual_seed(run.seed)
    worst = 0.0
    for heads in (8, 12, 16):
        q, k, v = (torch.randn(heads, 256, 32, generator=draw) for _ in range(3))
        theirs = build_alibi_tensor(torch.ones(1, 256), heads, torch.float32)
        scores = q @ k.mT / math.sqrt(32)
        outputs = [weights(scores, bias) @ v for bias in (alibi_bias(heads, 256), theirs)]
        worst = max(worst, relative_error(*outputs))
    return worst
