"""flash_attention.io: the paper's numbers, closed forms, and torch's own FLOP counter."""

from __future__ import annotations

import math
import random
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from flash_attention.io import Accounting, Layer, Traffic, block_sizes, flash, memory_bytes, standard

FIGURE_2, IDEAL = Layer.figure_2(), Accounting.figure_2()
PLAIN = Accounting(statistics=False)
POWERS = [2**k for k in range(7, 17)]  # 128 to 65536, the columns of Table 21


def gigabytes(count: Traffic) -> float:
    return round(count.bytes / 1e9, 2)


def slope(x: list[int], y: list[int]) -> float:
    """Exponent of y ~ x^slope by least squares on the logarithms."""
    u, v = torch.tensor(x).double().log(), torch.tensor(y).double().log()
    return float(((u - u.mean()) * (v - v.mean())).sum() / ((u - u.mean()) ** 2).sum())


def line(x: list[float], y: list[int]) -> tuple[float, float]:
    """R² of the straight line that fits best, and its value at 0."""
    u, v = torch.tensor(x).double(), torch.tensor(y).double()
    fit = torch.linalg.lstsq(torch.stack([u, torch.ones_like(u)], 1), v[:, None]).solution[:, 0]
    rest = v - fit[0] * u - fit[1]
    return float(1 - (rest**2).sum() / ((v - v.mean()) ** 2).sum()), float(fit[1])


# ---------------------------------------------------------------- the paper's numbers


def test_figure_2_bytes() -> None:
    """Figure 2, left, under the stated accounting: 40.3 and 4.4 GB."""
    both = standard(FIGURE_2, accounting=IDEAL), flash(FIGURE_2, (64, 256), accounting=IDEAL)
    assert [round(count.bytes / 1e9, 3) for count in both] == [40.265, 4.429]
    N, d, heads = 1024, 64, 1024
    assert both[0].bytes == 2 * heads * (18 * N * N + 12 * N * d)
    assert both[1].bytes == 2 * heads * 33 * N * d


def test_figure_2_bytes_under_other_accountings() -> None:
    assert gigabytes(standard(FIGURE_2, accounting=PLAIN)) == 25.23  # no mask, no dropout: 11 N² + 12 Nd
    for changed, total in (({"statistics": True}, 4.54), ({"first_reads": True}, 4.70), ({"float32_sums": True}, 6.04)):
        assert gigabytes(flash(FIGURE_2, (64, 256), accounting=replace(IDEAL, **changed))) == total, changed


def test_figure_2_flops() -> None:
    """Six and seven matrix products; their difference is one QKᵀ, of which the printed 8.6 is a sixteenth."""
    both = standard(FIGURE_2).matmul_flops, flash(FIGURE_2, (64, 256)).matmul_flops
    assert [round(flops / 1e9, 1) for flops in both] == [824.6, 962.1]
    assert both[1] - both[0] == 2 * 1024**2 * 64 * 1024
    assert round((both[1] - both[0]) / 16e9, 1) == round(75.2 - 66.6, 1)


@pytest.mark.parametrize(
    ("accounting", "expected"), [(PLAIN, [6.71, 3.49, 1.88, 1.07]), (IDEAL, [6.58, 3.36, 1.74, 0.94])]
)
def test_figure_2_middle(accounting: Accounting, expected: list[float]) -> None:
    counts = [flash(FIGURE_2, (64, B_c), passes="forward", accounting=accounting) for B_c in (64, 128, 256, 512)]
    assert [gigabytes(count) for count in counts] == expected


def test_table_21() -> None:
    """All 26 cells of the table's three closed forms."""
    layers = [Layer(N=N, d=64, heads=16 * 8) for N in POWERS]
    cells = {a: [memory_bytes(a, layer) // 2**20 for layer in layers] for a in ("standard", "flash", "block-sparse")}
    assert cells["standard"][:6] == [36, 104, 336, 1184, 4416, 17024]
    assert cells["flash"] == [22, 44, 104, 209, 418, 836, 1672, 3344, 6688, 13376]
    assert cells["block-sparse"] == [22, 44, 104, 209, 418, 836, 1672, 3344, 6690, 13384]


def test_main_prints_figure_2() -> None:
    command = [sys.executable, "-m", "flash_attention.io"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for number in ("40.265", "4.429", "824.6", "962.1"):
        assert re.search(rf"\b{re.escape(number)}\b", out)


def test_it_needs_no_torch() -> None:
    import flash_attention.io as io

    probe = (
        "import runpy, sys; sys.modules['torch'] = None; "
        f"runpy.run_path({io.__file__!r}); assert 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", probe], check=True)


# ---------------------------------------------------------------- closed forms

divides = st.tuples(*[st.integers(1, 6)] * 4, st.integers(1, 8), st.integers(1, 3), st.sampled_from([2, 4]))


@given(divides)
def test_walked_loops_equal_closed_forms(sizes: tuple[int, ...]) -> None:
    """Where the blocks divide N: Theorem 2's proof with its constants, for each algorithm and pass."""
    t, B, extra_r, extra_c, d, heads, e = sizes
    N, B_r, B_c = t * B * extra_r * extra_c, B * extra_r, B * extra_c
    T_r, T_c = N // B_r, N // B_c
    layer, stat = Layer(N, d, heads, e), 4
    count = {
        (v, p): flash(layer, (B_r, B_c), version=v, passes=p) for v in (1, 2) for p in ("forward", "backward", "both")
    }
    rows = N * d * e * heads
    vector = N * stat * heads
    forward, backward = count[1, "forward"], count[1, "backward"]
    assert (forward.reads, forward.writes) == ((2 + 2 * T_c) * rows + 2 * T_c * vector, T_c * (rows + 2 * vector))
    assert (backward.reads, backward.writes) == ((2 + 4 * T_c) * rows + 2 * T_c * vector, (2 + T_c) * rows)
    forward, backward = count[2, "forward"], count[2, "backward"]
    assert (forward.reads, forward.writes) == ((1 + 2 * T_r) * rows, rows + vector)
    assert (backward.reads, backward.writes) == ((4 + 3 * T_c) * rows + 2 * T_c * vector, (2 + T_c) * rows + vector)
    for v in (1, 2):
        assert count[v, "both"] == count[v, "forward"] + count[v, "backward"]
        assert count[v, "forward"].matmul_flops == 4 * N * N * d * heads
        assert count[v, "backward"].matmul_flops == 10 * N * N * d * heads
    assert count[1, "forward"].rescalings == 2 * T_c * N * d * heads
    assert count[2, "forward"].rescalings == (T_c + 1) * N * d * heads
    scores = 5 * N * N * heads
    assert count[1, "forward"].other_flops == scores + T_c * N * heads * (11 + 2 * d)
    assert count[2, "forward"].other_flops == scores + T_c * N * heads * (5 + d) + N * heads * (2 + d)
    assert count[1, "backward"].other_flops == 7 * N * N * heads + 2 * d * N * heads * T_c
    assert count[2, "backward"].other_flops == 6 * N * N * heads + 2 * d * N * heads


@given(st.integers(1, 60), st.integers(1, 70), st.integers(1, 70), st.integers(1, 8))
def test_ragged_blocks_are_counted_at_their_own_size(N: int, B_r: int, B_c: int, d: int) -> None:
    """A short last block changes how often Q (or K and V) is passed over, and nothing else."""
    T_r, T_c = math.ceil(N / B_r), math.ceil(N / B_c)
    first, second = (flash(Layer(N, d), (B_r, B_c), version=v, accounting=PLAIN) for v in (1, 2))
    assert first.matmul_flops == second.matmul_flops == 14 * N * N * d
    assert first.bytes == 2 * N * d * (2 + 3 * T_c + 4 + 5 * T_c)
    assert second.bytes == 2 * N * d * (2 + 2 * T_r + 6 + 4 * T_c)


def test_standard_agrees_with_torch() -> None:
    """torch's own counter on the plain formula: Layer's FLOPs forward, and forward with backward."""
    layer = Layer(N=24, d=8, heads=6, itemsize=4)
    q, k, v = (torch.randn(2, 3, 24, 8, requires_grad=True) for _ in range(3))
    with FlopCounterMode(display=False) as forward:
        out = torch.softmax(q @ k.mT / 8**0.5, -1) @ v
    with FlopCounterMode(display=False) as backward:
        out.sum().backward()
    assert forward.get_total_flops() == standard(layer, passes="forward").matmul_flops
    assert backward.get_total_flops() == standard(layer, passes="backward").matmul_flops


# ---------------------------------------------------------------- Theorem 2, Proposition 4, FlashAttention-2


@pytest.mark.parametrize("passes", ["forward", "backward"])
def test_theorem_2(passes: str) -> None:
    """HBM accesses grow as N²d²/M, for d ≤ M ≤ Nd; those of standard attention as N², whatever M is."""

    def total(N: int, d: int, M: int) -> int:
        assert d <= M <= N * d
        return flash(Layer(N, d), block_sizes(M, d), passes=passes).bytes

    Ms, Ns, ds = [2**k for k in range(12, 17)], [2**k for k in range(10, 14)], [32, 64, 128]
    assert slope(Ms, [total(4096, 64, M) for M in Ms]) == pytest.approx(-1, abs=0.1)
    assert slope(Ns, [total(N, 64, 2**14) for N in Ns]) == pytest.approx(2, abs=0.05)
    assert slope(ds, [total(4096, d, 2**15) for d in ds]) == pytest.approx(2, abs=0.1)
    assert slope(Ns, [standard(Layer(N, 16), passes=passes).bytes for N in Ns]) == pytest.approx(2, abs=0.05)


@pytest.mark.parametrize("version", [1, 2])
def test_larger_blocks_of_keys_move_no_more_bytes(version: int) -> None:
    """In Algorithm 1 B_c alone decides; FlashAttention-2's forward pass reads K and V once for each block of Q."""
    layer = Layer(N=512, d=16)
    sizes = [(64, 2**k) for k in range(4, 10)] if version == 1 else [(2**k, 64) for k in range(4, 10)]
    counts = [flash(layer, blocks, version=version, passes="forward").bytes for blocks in sizes]
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) == len(counts)


@pytest.mark.parametrize("passes", ["forward", "backward"])
def test_block_sparse_is_linear_in_the_blocks_kept(passes: str) -> None:
    """Proposition 4: Θ(Nd + s N²d²/M), with some block kept in every row; and all blocks are the dense count."""
    layer, draw = Layer(N=512, d=16), random.Random(0)
    by_density: dict[float, int] = {}
    for kept in range(1, 17):
        pattern = [draw.sample([True] * kept + [False] * (16 - kept), 16) for _ in range(16)]
        by_density[kept / 16] = flash(layer, (32, 32), passes=passes, pattern=pattern).bytes
    fit, at_zero = line(list(by_density), list(by_density.values()))
    assert fit > 0.999
    assert at_zero / (512 * 16 * 2) == pytest.approx(2 if passes == "forward" else 4)  # K and V; also dK and dV
    assert by_density[1.0] == flash(layer, (32, 32), passes=passes).bytes


def test_rows_without_blocks_still_write_their_output() -> None:
    """Nothing kept: K and V are loaded (Algorithm 5, line 6), and O is written as zeros."""
    layer = Layer(N=64, d=8)
    none = flash(layer, (16, 16), passes="forward", pattern=[[False] * 4] * 4)
    assert (none.reads, none.writes) == (2 * 64 * 8 * 2, 64 * 8 * 2)
    assert none.matmul_flops == 0
    backward = flash(layer, (16, 16), passes="backward", pattern=[[False] * 4] * 4)
    assert backward.writes == 3 * 64 * 8 * 2  # dQ, dK and dV


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("T", [1, 2, 4, 8, 16, 32])
def test_causal_share(version: int, T: int) -> None:
    """T×T square blocks: (T + 1)/(2T) of them are visited."""
    layer = Layer(N=8 * T, d=4)
    both = (flash(replace(layer, causal=c), (8, 8), version=version).matmul_flops for c in (True, False))
    visited, dense = both
    assert visited * 2 * T == dense * (T + 1)


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 12))
def test_causal_visits_every_block_with_a_pair_and_no_other(N: int, B_r: int, B_c: int) -> None:
    expected = 0
    for i in range(0, N, B_r):
        for j in range(0, N, B_c):
            rows, cols = range(i, min(i + B_r, N)), range(j, min(j + B_c, N))
            expected += len(rows) * len(cols) * any(c <= r for r in rows for c in cols)
    for version in (1, 2):
        assert flash(Layer(N, 1, causal=True), (B_r, B_c), version=version).matmul_flops == 14 * expected


def test_flash_attention_2_saves_work_outside_matrix_products() -> None:
    """FA-2, Section 3.1: one scaling of O a block and one at the end for two a block; one statistic kept for two."""
    first, second = (flash(FIGURE_2, (128, 128), version=v, passes="forward") for v in (1, 2))
    assert first.rescalings / second.rescalings == pytest.approx(2 * 8 / (8 + 1))
    assert first.other_flops > second.other_flops
    kept = [
        flash(FIGURE_2, (128, 1024), version=v, passes="forward").writes
        - flash(FIGURE_2, (128, 1024), version=v, passes="forward", accounting=PLAIN).writes
        for v in (1, 2)
    ]
    assert kept[0] == 2 * kept[1] == 2 * 4 * 1024 * 1024


# ---------------------------------------------------------------- sizes and bad input


def test_block_sizes_by_the_papers_rule() -> None:
    assert block_sizes(64 * 1024, 64) == (64, 256)  # 128 KiB of FP16: the block size of Figure 2's turning point
    assert block_sizes(4 * 64, 64) == (1, 1)
    assert block_sizes(4 * 64 + 1, 64) == (2, 2)  # rounded up


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Layer(N=-1, d=64), "N: .* not -1"),
        (lambda: Layer(N=0, d=64), "N: "),
        (lambda: Layer(N=8, d=2.5), "d: .* not 2.5"),  # type: ignore[arg-type]
        (lambda: Layer(N=8, d=4, heads=0), "heads: "),
        (lambda: Layer(N=8, d=4, itemsize=True), "itemsize: .* not True"),
        (lambda: block_sizes(255, 64), "M: .* 256 .* 255"),
        (lambda: block_sizes(-4, 64), "M: "),
        (lambda: flash(Layer(8, 4), (0, 4)), "B_r: "),
        (lambda: flash(Layer(8, 4), (4, -2)), "B_c: "),
        (lambda: flash(Layer(8, 4), (4, 4), version=3), "version: .* not 3"),  # type: ignore[arg-type]
        (lambda: flash(Layer(8, 4), (4, 4), passes="sideways"), "passes: .* 'sideways'"),  # type: ignore[arg-type]
        (lambda: standard(Layer(8, 4), passes="sideways"), "passes: "),  # type: ignore[arg-type]
        (lambda: flash(Layer(9, 4), (4, 4), pattern=[[True] * 3] * 2), "pattern: must be 3 rows of 3"),
        (lambda: flash(Layer(9, 4), (4, 4), pattern=[[True] * 3, [True] * 3, [True]]), "pattern: "),
        (lambda: flash(Layer(9, 4), (4, 4), pattern=[]), "pattern: "),
        (lambda: memory_bytes("linformer", Layer(8, 4)), "algorithm: .* 'linformer'"),  # type: ignore[arg-type]
    ],
)
def test_bad_input_names_the_argument(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
