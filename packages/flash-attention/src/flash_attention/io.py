"""HBM traffic and FLOPs of attention, counted by walking the loops of each algorithm block by block.

No tensor exists: the walk adds up what each line would load, store and multiply. Algorithm numbers are those of
FlashAttention (arXiv 2205.14135), with "FA-2" before them those of FlashAttention-2 (arXiv 2307.08691).
`python -m flash_attention.io` prints the bytes and FLOPs of Figure 2.

What is counted:
- bytes between HBM and on-chip memory, every block that a line of a loop loads or stores; there are no caches (L2), and
  filling with zeros before a loop (Algorithm 1, line 2) counts only where the zeros are the output;
- `matmul_flops`: two per multiply-add of a matrix product, which includes adding the product to an accumulator;
- `other_flops`: one per element for each scaling by τ, maximum, subtraction, exponential, sum, product and division;
  the mask and dropout are left out, as they are the same work in every algorithm;
- `rescalings`: those of `other_flops` that multiply an element of O by its row's factor (FA-2, Section 3.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Literal, NamedTuple

STATISTIC = 4  # bytes of one element of m, ℓ, L and D: float32
Passes = Literal["forward", "backward", "both"]


class Blocks(NamedTuple):
    """Rows of a block of Q, and of a block of K and V."""

    B_r: int
    B_c: int


def block_sizes(M: int, d: int) -> Blocks:
    """Algorithm 1, line 1: B_r = min(B_c, d), B_c = ⌈M/4d⌉, for an SRAM of M elements (bytes over bytes per element).

    ValueError where M is less than the 4d elements that a row each of Q, K, V and O takes.
    """
    _positive(M=M, d=d)
    if 4 * d > M:
        raise ValueError(f"M: one row of Q, K, V and O takes 4d = {4 * d} elements, so M = {M} holds no block")
    B_c = math.ceil(M / (4 * d))
    return Blocks(min(B_c, d), B_c)


@dataclass(frozen=True)
class Layer:
    """The attention of one layer: N queries and N keys of size d, in `heads` (batch times heads) independent heads.

    itemsize: bytes per element of Q, K, V, O, S, P and their gradients
    causal: blocks above the diagonal are skipped whole, those on it are computed whole; standard attention skips none
    """

    N: int
    d: int
    heads: int = 1
    itemsize: int = 2
    causal: bool = False

    def __post_init__(self) -> None:
        _positive(N=self.N, d=self.d, heads=self.heads, itemsize=self.itemsize)

    @classmethod
    def figure_2(cls) -> Layer:
        """GPT-2 medium in Figure 2: N = 1024, d = 64, 16 heads, batch 64, FP16."""
        return cls(N=1024, d=64, heads=64 * 16)


@dataclass(frozen=True)
class Accounting:
    """What a count includes where the paper leaves it open. The defaults follow the algorithms' loops to the letter.

    mask_pass: standard attention masks (or scales) S in a pass of its own, which reads and writes N×N elements
    dropout: standard attention drops P, and dP in the backward pass, in passes of their own, with a mask of N×N bytes
    statistics: m, ℓ, L and D are counted, 4 bytes an element
    first_reads: the first visit of a row block reads O_i, ℓ_i, m_i and dQ_i too, although they are still zeros and −∞
    d_once: D_i is computed at the first visit and kept, not from O_i at each (Algorithm 4, lines 10 and 19)
    float32_sums: O and dQ take 4 bytes an element while later visits will add to them, as in the authors' kernel
    """

    mask_pass: bool = False
    dropout: bool = False
    statistics: bool = True
    first_reads: bool = True
    d_once: bool = False
    float32_sums: bool = False

    @classmethod
    def figure_2(cls) -> Accounting:
        """The accounting under which Figure 2's 40.3 and 4.4 GB come out: ours, as the paper prints no formula.

        One kernel per operation of standard attention, mask and dropout among them: 18N² + 12Nd elements a head;
        FlashAttention counted ideally: 33Nd, with four passes over Q at B_c = 256.
        """
        return cls(mask_pass=True, dropout=True, statistics=False, first_reads=False, d_once=True)


TO_THE_LETTER = Accounting()


@dataclass(frozen=True)
class Traffic:
    """A count: FLOPs (see the module's head), and bytes read from and written to HBM."""

    matmul_flops: int = 0
    other_flops: int = 0
    rescalings: int = 0
    reads: int = 0
    writes: int = 0

    @property
    def bytes(self) -> int:
        return self.reads + self.writes

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __mul__(self, times: int) -> Traffic:
        return Traffic(*(getattr(self, f.name) * times for f in fields(self)))


def standard(layer: Layer, *, passes: Passes = "both", accounting: Accounting = TO_THE_LETTER) -> Traffic:
    """Standard attention, Algorithms 0 (forward) and 3 (backward): S, P, dP and dS go through HBM."""
    N, d, e = layer.N, layer.d, layer.itemsize
    matrix, rows, product = N * N * e, N * d * e, 2 * N * N * d
    dropped = N * N if accounting.dropout else 0  # a pass reads and writes these, and the mask of bytes once
    masked = matrix if accounting.mask_pass else 0
    forward = (
        Traffic(product, N * N, 0, reads=2 * rows, writes=matrix)  # Alg. 0, line 1: S = τQKᵀ
        + Traffic(reads=masked, writes=masked)
        + Traffic(0, 5 * N * N, 0, reads=matrix, writes=matrix)  # line 2: P = softmax(S): max, −, exp, sum, ÷
        + Traffic(reads=dropped * e, writes=dropped * (e + 1))
        + Traffic(product, 0, 0, reads=matrix + rows, writes=rows)  # line 3: O = PV
    )
    backward = (
        Traffic(product, 0, 0, reads=matrix + rows, writes=rows)  # Alg. 3, line 1: dV = PᵀdO
        + Traffic(product, 0, 0, reads=2 * rows, writes=matrix)  # line 2: dP = dOVᵀ
        + Traffic(reads=dropped * (e + 1), writes=dropped * e)
        + Traffic(0, 4 * N * N, 0, reads=2 * matrix, writes=matrix)  # line 3: dS = P∘(dP − Σ P dP)
        + Traffic(product, N * N, 0, reads=matrix + rows, writes=rows)  # line 4: dQ = τdSK
        + Traffic(product, 0, 0, reads=matrix + rows, writes=rows)  # line 5: dK = τdSᵀQ
    )
    return _sum(passes, lambda: forward, lambda: backward) * layer.heads


def flash(
    layer: Layer,
    blocks: tuple[int, int],
    *,
    version: Literal[1, 2] = 1,
    passes: Passes = "both",
    accounting: Accounting = TO_THE_LETTER,
    pattern: Sequence[Sequence[bool]] | None = None,
) -> Traffic:
    """FlashAttention: Algorithms 1 (forward) and 4 (backward), or with `version=2` FA-2 Algorithms 1 and 2.

    The first loops over blocks of K and V, and inside over those of Q; the second's forward pass the other way round.
    The second keeps L as its only statistic, and always computes D once (FA-2 Alg. 2, line 4).
    blocks: (B_r, B_c), such as `block_sizes(M, d)`
    pattern: (T_r, T_c) truth values, the blocks that are not zero: block-sparse FlashAttention, Algorithm 5
    """
    if version not in (1, 2):
        raise ValueError(f"version: must be 1 or 2, not {version!r}")
    walk, forward = _Walk(layer, blocks, accounting, pattern), _flash_forward if version == 1 else _flash2_forward
    return _sum(passes, lambda: forward(walk), lambda: _flash_backward(walk, version)) * layer.heads


class _Walk:
    """The blocks of one head, of which the last may be short, and which pairs of them the loops visit."""

    def __init__(
        self, layer: Layer, blocks: tuple[int, int], accounting: Accounting, pattern: Sequence[Sequence[bool]] | None
    ) -> None:
        B_r, B_c = blocks
        _positive(B_r=B_r, B_c=B_c)
        self.N, self.d, self.e, self.accounting = layer.N, layer.d, layer.itemsize, accounting
        self.stat = STATISTIC if accounting.statistics else 0
        self.buffer = 4 if accounting.float32_sums else layer.itemsize
        rows = [min(B_r, layer.N - i) for i in range(0, layer.N, B_r)]
        cols = [min(B_c, layer.N - j) for j in range(0, layer.N, B_c)]
        if pattern is not None and (len(pattern), *{len(row) for row in pattern}) != (len(rows), len(cols)):
            raise ValueError(f"pattern: must be {len(rows)} rows of {len(cols)} truth values, one for each block")

        def visited(i: int, j: int) -> bool:
            causal = not layer.causal or j * B_c < i * B_r + rows[i]  # the first key is not after the last query
            return causal and (pattern is None or bool(pattern[i][j]))

        js = [[j for j in range(len(cols)) if visited(i, j)] for i in range(len(rows))]
        # Each block of Q with those of K and V that it visits; each of K and V with those of Q, and whether it is a
        # block of Q's first visit, and its last. A block is its number of rows.
        self.by_row = [(r, [cols[j] for j in js[i]]) for i, r in enumerate(rows)]
        self.by_column: list[tuple[int, list[tuple[int, bool, bool]]]] = [(c, []) for c in cols]
        for i, r in enumerate(rows):
            for j in js[i]:
                self.by_column[j][1].append((r, j == js[i][0], j == js[i][-1]))
        self.never_visited = sum(r for r, visits in self.by_row if not visits)


def _flash_forward(walk: _Walk) -> Traffic:
    d, e, stat, buffer = walk.d, walk.e, walk.stat, walk.buffer
    matmul = other = rescalings = reads = 0
    writes = walk.never_visited * d * e  # Alg. 1, line 2, where O = 0 is the output
    for c, visits in walk.by_column:  # line 5
        reads += 2 * c * d * e  # line 6: K_j, V_j
        for r, first, last in visits:  # line 7, with Alg. 5, line 8
            reads += r * d * e  # line 8: Q_i
            if walk.accounting.first_reads or not first:
                reads += r * d * buffer + 2 * r * stat  # line 8: O_i, ℓ_i, m_i
            matmul += 4 * r * c * d  # lines 9 and 12: S_ij = τQ_iK_jᵀ, P̃_ijV_j
            other += 5 * r * c  # τ; line 10: max, −, exp, sum
            other += 8 * r + 3 * r  # line 11: m_new, two exponentials, ℓ_new; line 12: the two factors of O_i
            rescalings += 2 * r * d  # line 12: O_i by one factor, P̃_ijV_j by another
            writes += r * d * (e if last else buffer) + 2 * r * stat  # lines 12 and 13: O_i, ℓ_i, m_i
    return Traffic(matmul, other + rescalings, rescalings, reads, writes)


def _flash2_forward(walk: _Walk) -> Traffic:
    d, e, stat = walk.d, walk.e, walk.stat
    matmul = other = rescalings = reads = writes = 0
    for r, visits in walk.by_row:  # FA-2 Alg. 1, line 3
        reads += r * d * e  # line 4: Q_i; O_i, ℓ_i and m_i start on chip (line 5) and stay there
        for c in visits:  # line 6
            reads += 2 * c * d * e  # line 7: K_j, V_j
            matmul += 4 * r * c * d  # lines 8 and 10: S_ij = τQ_iK_jᵀ, P̃_ijV_j
            other += 5 * r * c + 5 * r  # τ; line 9: max, −, exp, sum; m, its exponential, ℓ
            rescalings += r * d  # line 10: O_i
        rescalings += r * d  # line 12: O_i divided by ℓ_i
        other += 2 * r  # line 13: L_i = m_i + log ℓ_i
        writes += r * d * e + r * stat  # lines 14 and 15: O_i, L_i
    return Traffic(matmul, other + rescalings, rescalings, reads, writes)


def _flash_backward(walk: _Walk, version: int) -> Traffic:
    """Alg. 4, or with L in the place of m and ℓ and D computed beforehand FA-2 Alg. 2, which is the same loop."""
    d, e, stat, buffer = walk.d, walk.e, walk.stat, walk.buffer
    matmul = other = reads = 0
    writes = walk.never_visited * d * e  # Alg. 4, line 5 (FA-2 Alg. 2, line 3), where dQ = 0 is the output
    if version == 2:
        reads += 2 * walk.N * d * e  # FA-2 Alg. 2, line 4: D = rowsum(dO∘O)
        other += 2 * walk.N * d
        writes += walk.N * stat
    for c, visits in walk.by_column:  # line 6
        reads += 2 * c * d * e  # line 7: K_j, V_j
        for r, first, last in visits:  # line 9
            reads += 2 * r * d * e  # line 10: Q_i, dO_i
            if walk.accounting.first_reads or not first:
                reads += r * d * buffer  # line 10 (FA-2: line 15): dQ_i
            reads += (2 if version == 1 else 1) * r * stat  # line 10: ℓ_i, m_i (FA-2, line 9: L_i)
            if version == 2 or (walk.accounting.d_once and not first):
                reads += r * stat  # D_i
            else:
                reads += r * d * e  # line 10: O_i
                other += 2 * r * d  # line 19: D_i = rowsum(dO_i∘O_i)
                writes += r * stat if walk.accounting.d_once else 0
            matmul += 10 * r * c * d  # lines 11, 16, 17, 21, 22: S_ij once more, dV_j, dP_ij, dQ_i, dK_j
            other += (7 if version == 1 else 6) * r * c  # τ; line 13: −, exp, ÷ where ℓ is not in L; line 20: −, ×; τ
            writes += r * d * (e if last else buffer)  # line 21: dQ_i
        writes += 2 * c * d * e  # line 24: dK_j, dV_j
    return Traffic(matmul, other, 0, reads, writes)


def memory_bytes(algorithm: Literal["standard", "flash", "block-sparse"], layer: Layer) -> int:
    """Bytes allocated in forward and backward without mask and dropout: closed forms that give Table 21's cells.

    In FP16 with 16 × 8 heads of d = 64, ⌊bytes / 2²⁰⌋ is the printed number. The coefficients are inferred from the
    cells, as the paper states none, and so is what they could stand for:
    - standard, 4N² + 10Nd: S and P (Algorithm 0), dP and dS (Algorithm 3); Q, K, V, O, their gradients, and two more;
    - flash, 11Nd + 2N: the same eight and three more, as a packed copy of Q, K, V or of their gradients would be; two
      float32 statistics a row; and where there is more than one block of keys (N > 256) a float32 N×d to add up in;
    - block-sparse: as flash, and 8 bytes of pattern for each 16 × 256 block.
    """
    N, d, e = layer.N, layer.d, layer.itemsize
    if algorithm not in ("standard", "flash", "block-sparse"):
        raise ValueError(f"algorithm: must be 'standard', 'flash' or 'block-sparse', not {algorithm!r}")
    if algorithm == "standard":
        return layer.heads * e * (4 * N * N + 10 * N * d)
    pattern = 8 * math.ceil(N / 16) * math.ceil(N / 256) if algorithm == "block-sparse" else 0
    return layer.heads * (11 * N * d * e + 2 * N * STATISTIC + (4 * N * d if N > 256 else 0)) + pattern


def _sum(passes: str, forward: Callable[[], Traffic], backward: Callable[[], Traffic]) -> Traffic:
    if passes not in ("forward", "backward", "both"):
        raise ValueError(f"passes: must be 'forward', 'backward' or 'both', not {passes!r}")
    return (Traffic() if passes == "backward" else forward()) + (Traffic() if passes == "forward" else backward())


def _positive(**numbers: int) -> None:
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"{name}: must be a whole number of at least 1, not {value!r}")


def main() -> None:
    """Print the bytes and FLOPs of Figure 2, left, and the bytes behind its middle plot, as counted here."""
    layer, accounting = Layer.figure_2(), Accounting.figure_2()
    both = standard(layer, accounting=accounting), flash(layer, (64, 256), accounting=accounting)
    print("Figure 2, left   standard        flash   the paper")
    print("HBM, GB     ", *(f"{count.bytes / 1e9:12.3f}" for count in both), "  40.3 and 4.4")
    print("GFLOP       ", *(f"{count.matmul_flops / 1e9:12.1f}" for count in both), "  66.6 and 75.2")
    for B_c in (64, 128, 256, 512):
        count = flash(layer, (64, B_c), passes="forward", accounting=accounting)
        print(f"Figure 2, middle: forward, B_c = {B_c:3} {count.bytes / 1e9:6.3f} GB")


if __name__ == "__main__":
    main()
