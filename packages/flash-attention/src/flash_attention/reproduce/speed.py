"""Times on this machine's CPU (float32, batch 1, d = 64): all sides take turns in one run, a ratio per round."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
import torch

from papertest import bench
from papertest.claims import Run, Timed, claim

from flash_attention import block_sparse_flash_attention, flash_attention
from flash_attention.reproduce.attentions import ATTENTIONS, call, draw

LENGTHS = [512, 1024, 2048, 4096]
JUDGED = (512, 4096)  # the lengths that a criterion is about have all the rounds, those in between fewer
BETWEEN = 5
HEADS, HEADS_BACKWARD, D = 8, 2, 64


@claim("forward-against-standard")
def forward_against_standard(run: Run) -> Timed:
    """Table 18 on a CPU: standard attention's time over ours, forward, at N = 4096."""
    last = run.shared(forward, lengths(run)[-1])
    return Timed(last["standard"], null=last["null"], details={"seconds": last["seconds"]})


@claim("speed-forward")
def speed_forward(run: Run) -> Timed:
    """The forward pass against standard attention and against torch's fused attention.

    `of_sdpa` is the time of `scaled_dot_product_attention` over ours at N = 4096, `growth` the speed-up over standard
    attention at 4096 over that at 512.
    """
    found = [run.shared(forward, n) for n in lengths(run)]
    first, last = found[0], found[-1]
    values = [
        {"at_4096": at_4096, "of_sdpa": of_sdpa, "growth": at_4096 / at_512}
        for at_4096, of_sdpa, at_512 in zip(last["standard"], last["sdpa"], first["standard"], strict=True)
    ]
    return Timed(values, null=last["null"], details={"lengths": lengths(run), "by_length": found})


@claim("speed-backward")
def speed_backward(run: Run) -> Timed:
    """Table 20 on a CPU: standard attention's time over ours, forward and backward, at N = 4096 with two heads."""
    found: list[dict[str, Any]] = []
    for n in lengths(run):
        inputs = draw(run.seed, (1, HEADS_BACKWARD, n, D), run.device)
        sides = {name: call(ATTENTIONS[name], inputs, "both") for name in ("flash", "standard")}
        times = bench.rounds(run, sides, null="flash", pairs=pairs(n))
        found.append({"seconds": times.seconds, "standard": times.ratio("standard", "flash"), "null": times.null})
    last = found[-1]
    return Timed(last["standard"], null=last["null"], details={"lengths": lengths(run), "by_length": found})


@claim("runtime-by-block-size")
def runtime_by_block_size(run: Run) -> Timed:
    """Figure 2 middle on a CPU: the forward pass at N = 4096 with square blocks of 64 up to 4096.

    `fall` is the time at 64 over that of the best size (by the median of the rounds), `past_cache` the time at 4096,
    where all scores of a head are one block, over the best.
    """
    n = 1024 if run.quick else 4096
    blocks = [64, n // 16, n // 4, n]
    inputs = draw(run.seed, (1, HEADS, n, D), run.device)
    sides = {str(b): call(flash_attention, inputs, "forward", block_q=b, block_k=b) for b in dict.fromkeys(blocks)}
    times = bench.rounds(run, sides, null=str(n // 4))
    best = min(times.seconds, key=lambda side: statistics.median(times.seconds[side]))
    values = [
        {"fall": fall, "past_cache": past_cache}
        for fall, past_cache in zip(times.ratio("64", best), times.ratio(str(n), best), strict=True)
    ]
    return Timed(values, null=times.null, details={"seconds": times.seconds})


@claim("block-sparse-runtime")
def block_sparse_runtime(run: Run) -> Timed:
    """Figure 2 right on a CPU: Algorithm 5 forward at N = 4096 in blocks of 128, from one block in sixteen to all.

    The kept blocks of each row are drawn from the seed, the same number in every row. `r_squared` is that of the
    straight line through the times of a round, `quarter` the time of a quarter of the blocks over that of all.
    """
    n, block = (2048 if run.quick else 4096), 128
    count = n // block
    inputs = draw(run.seed, (1, HEADS, n, D), run.device)
    order = torch.rand(count, count, generator=torch.Generator().manual_seed(run.seed)).argsort(-1).argsort(-1)
    kept = [count * i // 16 for i in (1, 4, 8, 16)]
    sides = {
        str(k): call(
            block_sparse_flash_attention, inputs, "forward", block_mask=order < k, block_q=block, block_k=block
        )
        for k in kept
    }
    times = bench.rounds(run, sides, null=str(count // 4))
    densities = [k / count for k in kept]
    by_round = list(zip(*times.seconds.values(), strict=True))
    values = [
        {"quarter": quarter, "r_squared": r_squared(densities, row)}
        for quarter, row in zip(times.ratio(str(count // 4), str(count)), by_round, strict=True)
    ]
    return Timed(values, null=times.null, details={"densities": densities, "seconds": times.seconds})


def forward(run: Run, n: int) -> dict[str, Any]:
    """The forward pass at one length: seconds of flash, standard and torch's fused attention, and their ratios."""
    inputs = draw(run.seed, (1, HEADS, n, D), run.device)
    sides = {name: call(attention, inputs, "forward") for name, attention in ATTENTIONS.items()}
    times = bench.rounds(run, sides, null="flash", pairs=pairs(n))
    over = {peer: times.ratio(peer, "flash") for peer in ("standard", "sdpa")}
    return {"seconds": times.seconds, "null": times.null, **over}


def lengths(run: Run) -> list[int]:
    return LENGTHS[:2] if run.quick else LENGTHS


def pairs(n: int) -> int:
    return bench.PAIRS if n in JUDGED else BETWEEN


def r_squared(x: list[float], y: tuple[float, ...]) -> float:
    """The share of y's variance that a straight line in x explains."""
    return float(np.corrcoef(x, y)[0, 1] ** 2)
