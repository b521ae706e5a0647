"""Counts: HBM traffic, FLOPs and memory, by walking the loops of each algorithm (`flash_attention.io`)."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from papertest.claims import Measured, Run, claim

from flash_attention.io import Accounting, Layer, Traffic, block_sizes, flash, memory_bytes, standard

BLOCKS = (64, 256)  # B_r and B_c in Figure 2: a block of 256 keys is where its middle plot levels off

VERSIONS: tuple[Literal[1, 2], ...] = (1, 2)  # FlashAttention, FlashAttention-2


def figure_2() -> dict[str, Traffic]:
    """Forward and backward of a GPT-2 medium layer, in the accounting that io.Accounting.figure_2 states."""
    layer, accounting = Layer.figure_2(), Accounting.figure_2()
    return {"standard": standard(layer, accounting=accounting), "flash": flash(layer, BLOCKS, accounting=accounting)}


@claim("hbm-bytes")
def hbm_bytes(run: Run) -> Measured:
    """Figure 2 left: GB between HBM and on-chip memory. The details have what other readings of the loops give."""
    layer = Layer.figure_2()
    letter = {"standard": standard(layer).bytes / 1e9, "flash": flash(layer, BLOCKS).bytes / 1e9}
    return Measured({name: count.bytes / 1e9 for name, count in figure_2().items()}, {"to_the_letter": letter})


@claim("gflops")
def gflops(run: Run) -> Measured:
    """Figure 2 left: 10^9 FLOPs of the matrix products, six in standard attention and seven in flash attention.

    The details have the other FLOPs as well, and the difference over 16: the one product that is computed anew, for
    64 heads instead of 1024, is the difference of the printed numbers.
    """
    counts = figure_2()
    value = {name: count.matmul_flops / 1e9 for name, count in counts.items()}
    other = {name: count.other_flops / 1e9 for name, count in counts.items()}
    return Measured(value, {"other": other, "difference_over_16": (value["flash"] - value["standard"]) / 16})


@claim("more-flops-fewer-bytes")
def more_flops_fewer_bytes(run: Run) -> dict[str, float]:
    """Figure 2 left: flash over standard attention in FLOPs of matrix products and in bytes."""
    ours, peer = figure_2()["flash"], figure_2()["standard"]
    return {"flops_ratio": ours.matmul_flops / peer.matmul_flops, "bytes_ratio": ours.bytes / peer.bytes}


@claim("hbm-by-block-size")
def hbm_by_block_size(run: Run) -> Measured:
    """Figure 2 middle: GB of the forward pass at B_c = 64, 128, 256, 512, in the accounting of hbm-bytes."""
    columns, layer, accounting = [64, 128, 256, 512], Layer.figure_2(), Accounting.figure_2()
    counts = [flash(layer, (64, c), passes="forward", accounting=accounting) for c in columns]
    return Measured([count.bytes / 1e9 for count in counts], {"columns": columns})


@claim("theorem-2")
def theorem_2(run: Run) -> Measured:
    """Thm. 2: exponents of M, N and d in the bytes of Algorithm 1, each by a fit with the other two held.

    Block sizes are those of Algorithm 1, line 1; the accounting is to the letter; d <= M <= Nd throughout.
    """
    base = {"M": 2**14, "N": 4096, "d": 64}
    ranges = {"M": [2**i for i in range(12, 18)], "N": [2**i for i in range(10, 15)], "d": [32, 64, 128, 256]}
    counted = {name: [forward_bytes(**base | {name: x}) for x in sizes] for name, sizes in ranges.items()}
    value = {name: float(np.polyfit(np.log(ranges[name]), np.log(counted[name]), 1)[0]) for name in ranges}
    return Measured(value, {"held": base, "sizes": ranges, "bytes": counted})


def forward_bytes(M: int, N: int, d: int) -> int:
    return flash(Layer(N, d), block_sizes(M, d), passes="forward").bytes


@claim("block-sparse-io")
def block_sparse_io(run: Run) -> Measured:
    """Prop. 4: a straight line through the elements that Algorithm 5 moves, over the density of the pattern.

    N = 4096, d = 64, M = 2^14, so 64 x 64 blocks; every row of blocks keeps as many, drawn at random. The intercept
    is in units of Nd.
    """
    layer = Layer(4096, 64)
    blocks = block_sizes(2**14, layer.d)
    rows, columns = layer.N // blocks.B_r, layer.N // blocks.B_c
    order = np.random.default_rng(run.seed).permuted(np.tile(np.arange(columns), (rows, 1)), axis=1)
    kept = [columns * i // 16 for i in (1, 2, 4, 8, 12, 16)]
    moved = [flash(layer, blocks, passes="forward", pattern=(order < k).tolist()).bytes for k in kept]
    x, y = np.array(kept) / columns, np.array(moved) / layer.itemsize / (layer.N * layer.d)
    intercept = float(np.polyfit(x, y, 1)[1])
    value = {"r_squared": float(np.corrcoef(x, y)[0, 1] ** 2), "intercept": intercept}
    return Measured(value, {"densities": x.tolist(), "units_of_Nd": y.tolist()})


@claim("table-21")
def table_21(run: Run) -> dict[str, list[float]]:
    """Table 21: whole MiB of memory at every length for which the paper prints a number; batch 16, 8 heads, d = 64."""
    paper: Any = run.reported["table-21"]
    algorithms: dict[str, Literal["standard", "flash"]] = {"pytorch": "standard", "flash": "flash"}
    lengths = {row: paper.columns[: len(paper.value[row])] for row in algorithms}
    return {
        row: [memory_bytes(algorithm, Layer(n, 64, heads=16 * 8)) // 2**20 for n in lengths[row]]
        for row, algorithm in algorithms.items()
    }


@claim("causal-blocks")
def causal_blocks(run: Run) -> list[float]:
    """FlashAttention-2, Section 3.1.1: matrix products with a causal mask over those without, at T x T blocks."""
    paper: Any = run.reported["fa2-causal"]

    def products(blocks: int, causal: bool) -> int:
        layer = Layer(64 * blocks, 64, causal=causal)
        return flash(layer, (64, 64), version=2, passes="forward").matmul_flops

    return [products(blocks, causal=True) / products(blocks, causal=False) for blocks in paper.columns]


@claim("non-matmul-flops")
def non_matmul_flops(run: Run) -> Measured:
    """FlashAttention-2, Section 3.1: what Algorithm 1 does beside matrix products over what FA-2's does, forward.

    `scalings` of elements of O, and `total`, are the smallest ratios over N = 1024 to 8192 in 64 x 64 blocks, d = 64.
    `statistics` is in bytes that the backward pass is left, seen where every row is visited once (B_c = N).
    """
    lengths = [1024, 2048, 4096, 8192]
    pairs = [[flash(Layer(n, 64), (64, 64), version=v, passes="forward") for v in VERSIONS] for n in lengths]
    scalings = [a.rescalings / b.rescalings for a, b in pairs]
    total = [a.other_flops / b.other_flops for a, b in pairs]
    kept = [statistics_written(version) for version in VERSIONS]
    value = {"scalings": min(scalings), "statistics": kept[0] / kept[1], "total": min(total)}
    return Measured(value, {"lengths": lengths, "scalings": scalings, "total": total, "statistics": kept})


def statistics_written(version: Literal[1, 2]) -> int:
    layer, blocks = Layer(1024, 64), (64, 1024)
    counts = [
        flash(layer, blocks, version=version, passes="forward", accounting=Accounting(statistics=counted))
        for counted in (True, False)
    ]
    return counts[0].writes - counts[1].writes
