"""Exact: what is computed on our implementation, without training and without a clock."""

from __future__ import annotations

import torch

from papertest import Measured, Run, claim

from word2vec.softmax import softmax


@claim("rows-sum-to-one")
def rows_sum_to_one(run: Run) -> Measured:
    """The sum that is furthest from one, over rows of growing size of input."""
    scales = [1.0, 1e2, 1e4]
    sums = [softmax(scale * torch.randn(100, 1000, dtype=torch.float64)).sum(dim=1) for scale in scales]
    worst = [row[(row - 1).abs().argmax()].item() for row in sums]
    return Measured(max(worst, key=lambda s: abs(s - 1)), {"scales": scales, "sums": worst})
