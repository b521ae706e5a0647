"""Trend claims: times on this machine's CPU (float32, batch 1, 8 heads, d = 64), and a small model's training curve."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from papertest.claims import Measured, Run, claim

from flash_attention import block_sparse_flash_attention, flash_attention
from flash_attention.reproduce.harness import SHAPE, against, call, draw, turns
from flash_attention.reproduce.training import train

LENGTHS = [256, 512, 1024, 2048, 4096]
PAIRS = [15, 15, 9, 9, 9]  # fewer where one call takes longer


@claim("speed-forward")
def speed_forward(run: Run) -> Measured:
    """Tables 9 and 18 on a CPU: the forward pass against standard attention and against torch's fused attention.

    `of_sdpa` is the time of `scaled_dot_product_attention` over ours at N = 4096, `growth` the speed-up over standard
    attention at 4096 over that at 512. Each is the median over pairs in alternation.
    """
    lengths = LENGTHS[:3] if run.quick else LENGTHS
    sizes = list(zip(lengths, PAIRS, strict=False))
    standard = [against(run, "standard", n, "forward", pairs) for n, pairs in run.progress(sizes, "against standard")]
    sdpa = [against(run, "sdpa", n, "forward", pairs) for n, pairs in run.progress(sizes, "against torch's own")]
    value = {
        "at_4096": standard[-1]["median"],
        "of_sdpa": sdpa[-1]["median"],
        "growth": standard[-1]["median"] / standard[lengths.index(512)]["median"],
    }
    return Measured(value, {"lengths": lengths, "standard": standard, "sdpa": sdpa})


@claim("speed-backward")
def speed_backward(run: Run) -> Measured:
    """Table 20 on a CPU: forward and backward against standard attention at N = 4096."""
    lengths = LENGTHS[1:3] if run.quick else LENGTHS[1:]
    sizes = list(zip(lengths, [7, 5, 3, 3], strict=False))
    standard = [against(run, "standard", n, "both", pairs) for n, pairs in run.progress(sizes, "forward and backward")]
    return Measured(standard[-1]["median"], {"lengths": lengths, "standard": standard})


@claim("runtime-by-block-size")
def runtime_by_block_size(run: Run) -> Measured:
    """Figure 2 middle on a CPU: the forward pass at N = 4096 with square blocks of 64 up to 4096.

    `fall` is the time at 64 over the best time, `past_cache` the time at 4096, where all scores are one block, over
    the best.
    """
    n = 1024 if run.quick else 4096
    blocks = [64 * 2**i for i in range((n // 64).bit_length())]
    inputs = draw(run.seed, (*SHAPE[:2], n, SHAPE[2]), run.device)
    runners = [call(flash_attention, inputs, "forward", block_q=b, block_k=b) for b in blocks]
    seconds = turns(runners, 1 if run.quick else 5, run.device)
    best = min(seconds)
    return Measured(
        {"fall": seconds[0] / best, "past_cache": seconds[-1] / best}, {"blocks": blocks, "seconds": seconds}
    )


@claim("block-sparse-runtime")
def block_sparse_runtime(run: Run) -> Measured:
    """Figure 2 right on a CPU: Algorithm 5 forward at N = 4096 in blocks of 128, from one block in sixteen to all.

    The kept blocks of each row are drawn from the seed, the same number in every row. `r_squared` is that of the
    straight line through the times, `quarter` the time of a quarter of the blocks over that of all.
    """
    n, block = (1024 if run.quick else 4096), 128
    count = n // block
    inputs = draw(run.seed, (*SHAPE[:2], n, SHAPE[2]), run.device)
    order = torch.rand(count, count, generator=torch.Generator().manual_seed(run.seed)).argsort(-1).argsort(-1)
    kept = [max(1, count * i // 16) for i in (1, 2, 4, 8, 12, 16)]
    options = [{"block_mask": order < k, "block_q": block, "block_k": block} for k in kept]
    runners = [call(block_sparse_flash_attention, inputs, "forward", **option) for option in options]
    seconds = turns(runners, 1 if run.quick else 5, run.device)
    densities = [k / count for k in kept]
    value = {"r_squared": r_squared(densities, seconds), "quarter": seconds[densities.index(0.25)] / seconds[-1]}
    return Measured(value, {"densities": densities, "seconds": seconds})


@claim("training-curve")
def training_curve(run: Run) -> Measured:
    """Figure 4 at small scale: a GPT on Shakespeare's characters, from one seed, with flash and standard attention.

    `loss` is the largest difference of a step's training loss (nats a character), `perplexity` the difference of the
    validation perplexity after the last step.
    """
    flash: dict[str, Any] = run.shared(train, "flash")
    standard: dict[str, Any] = run.shared(train, "standard")
    signed = [a - b for a, b in zip(flash["losses"], standard["losses"], strict=True)]
    value = {"loss": max(map(abs, signed)), "perplexity": abs(flash["perplexity"] - standard["perplexity"])}
    return Measured(value, {"flash": flash, "standard": standard, "mean_signed": sum(signed) / len(signed)})


def r_squared(x: list[float], y: list[float]) -> float:
    """The share of y's variance that a straight line in x explains."""
    return float(np.corrcoef(x, y)[0, 1] ** 2)
