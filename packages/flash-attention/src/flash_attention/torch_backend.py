"""FlashAttention in plain torch: Algorithms 1, 2, 4 and 5 of the paper (2205.14135), on the CPU and on any device.

Two loops, over blocks of queries (i) and of keys (j), in the paper's symbols: S_ij = τ Q_i K_jᵀ are the scores, m_i and
l_i the running maximum and sum of their rows, P_ij the probabilities, O_i the output; a d before a name means its
gradient. Nothing here has the size of S: the largest buffer is one block of scores.

Deviations from the letter, none of which changes what is computed:
1. The outer loop is over queries, as in FlashAttention-2, so O_i stays in the cache until it is done.
2. O_i is divided by l_i once, after its last block, and not after every block.
3. Exponentials are base 2, which a CPU has faster: scores are scaled by τ log2(e), and m is in these units.
4. Under a causal mask the rows of Q_i that see no key of K_j are cut off before anything is computed.
5. Short sequences are computed several heads together, up to 2²⁰ scores at a time.
6. Where one block holds all the keys that a row sees, D is the row sum of P∘dP and not of dO∘O (Eq. 4 says that they
   are equal): then the errors of dP and of D cancel, which matters in rows with few keys, where dS is nearly zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from flash_attention.dropout import kept

# Rows and columns of a block. 4 MiB of float32 scores stay in the last-level cache; the backward pass, which writes dK
# and dV once for each block of queries, has long ones.
FORWARD, BACKWARD = (2048, 512), (8192, 256)
TOGETHER = 2**20  # scores of several heads that are computed together, where one head has fewer

Scores = Float[Tensor, "items rows columns"]


@dataclass(frozen=True)
class _Loops:
    """The two loops, and the masks, which forward and backward share.

    An item is one sequence's key head; `group` query heads share it. n_q and n_k are the lengths of Q and K.
    """

    items: int
    group: int
    n_q: int
    n_k: int
    causal: bool
    scale: float
    dropout_p: float
    seed: int
    block_q: int
    block_k: int
    pattern: list[list[bool]] | None  # Algorithm 5: which blocks are not zero

    def outer(self) -> Iterator[tuple[slice, int, slice]]:
        """(items, member of the group, queries) to compute together."""
        size = min(self.block_q, self.n_q) * min(self.block_k, self.n_k)
        for items in _slices(0, self.items, max(1, TOGETHER // size)):
            for member in range(self.group):
                for queries in _slices(0, self.n_q, self.block_q):
                    yield items, member, queries

    def inner(self, queries: slice) -> Iterator[tuple[slice, slice]]:
        """(rows, columns) of each block that these queries visit; if causal, only the rows that see one of its keys."""
        for columns in _slices(0, self.n_k, self.block_k):
            if self.pattern and not self.pattern[queries.start // self.block_q][columns.start // self.block_k]:
                continue
            first = columns.start - (self.n_k - self.n_q) if self.causal else 0  # query that sees key columns.start
            if first < queries.stop:
                yield slice(max(first, queries.start), queries.stop), columns

    def complete(self, rows: slice, columns: slice) -> int:
        """How many of the rows, from the first on, see no key outside of these columns."""
        if columns.start > 0:
            return 0
        if columns.stop == self.n_k:
            return rows.stop - rows.start
        return max(0, columns.stop - (self.n_k - self.n_q) - rows.start) if self.causal else 0

    def mask(self, S: Scores, keys: Bool[Tensor, "items seq_k"] | None, rows: slice, columns: slice) -> None:
        """Algorithm 2, line 11: S = -inf where a query must not see a key."""
        if keys is not None:
            S.masked_fill_(~keys[:, None, columns], -math.inf)
        if self.causal:
            seen = rows.start + self.n_k - self.n_q - columns.start  # the last column that the first row sees
            corner = S[:, : max(0, S.shape[2] - 1 - seen)]  # rows further down see all columns
            future = torch.ones(corner.shape[1:], dtype=torch.bool, device=S.device).triu_(seen + 1)
            corner.masked_fill_(future, -math.inf)

    def drop(self, S: Scores, items: slice, member: int, rows: slice, columns: slice) -> Scores:
        """Algorithm 2, line 14: S with its dropped entries zero and the others divided by 1 - p, in place."""
        if self.dropout_p == 0:
            return S
        item = torch.arange(items.start, items.stop, device=S.device)[:, None, None]
        head = item * self.group + member  # counted over the whole batch
        row = head * self.n_q + torch.arange(rows.start, rows.stop, device=S.device)[:, None]
        column = torch.arange(columns.start, columns.stop, device=S.device)
        return S.mul_(kept(row, column, self.seed, self.dropout_p)).div_(1 - self.dropout_p)


def _slices(start: int, stop: int, step: int) -> Iterator[slice]:
    return (slice(i, min(i + step, stop)) for i in range(start, stop, step))


def _within(rows: slice, queries: slice) -> slice:
    """The same rows, counted from the first of the queries."""
    return slice(rows.start - queries.start, rows.stop - queries.start)


class _Tile:
    """A buffer for one block of scores, which every block uses again."""

    def __init__(self) -> None:
        self.memory: Tensor | None = None

    def product(self, A: Tensor, B: Tensor, alpha: float = 1.0) -> Scores:
        """alpha A Bᵀ, written into the buffer."""
        shape = (A.shape[0], A.shape[1], B.shape[1])
        if self.memory is None or self.memory.numel() < math.prod(shape):
            self.memory = A.new_empty(math.prod(shape))
        S = self.memory[: math.prod(shape)].view(shape)
        return torch.baddbmm(S, A, B.mT, beta=0, alpha=alpha, out=S)


class _Attention(torch.autograd.Function):
    """(out, lse) of q, k, v, a mask and loops of both passes; q is (items, group, n_q, d), k and v (items, n_k, d)."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, loops: _Loops, backward: _Loops
    ) -> tuple[Tensor, Tensor]:
        """Algorithm 2; without mask and dropout it is Algorithm 1, and with a pattern Algorithm 5."""
        wide = torch.promote_types(q.dtype, torch.float32)  # half precision is summed in float32
        out = torch.empty_like(q, memory_format=torch.contiguous_format)
        m_all, l_all = (q.new_empty((*q.shape[:3], 1), dtype=wide) for _ in range(2))
        tile = _Tile()
        for items, member, queries in loops.outer():
            Q = q[items, member, queries].to(wide)  # line 9
            O = torch.zeros_like(Q)  # line 3
            m_i = Q.new_full((*Q.shape[:2], 1), torch.finfo(wide).min)  # not -inf: -inf - -inf would be NaN
            l_i = Q.new_zeros((*Q.shape[:2], 1))
            for rows, columns in loops.inner(queries):
                part = _within(rows, queries)
                K, V = k[items, columns].to(wide), v[items, columns].to(wide)  # line 7
                S = tile.product(Q[:, part], K, loops.scale * math.log2(math.e))  # line 10
                loops.mask(S, None if mask is None else mask[items], rows, columns)  # line 11
                m, l, o = m_i[:, part], l_i[:, part], O[:, part]
                m_new = S.amax(-1, keepdim=True).maximum(m)  # lines 12 and 13
                P = S.sub_(m_new).exp2_()  # line 12, already relative to the new maximum
                alpha = m.sub_(m_new).exp2_()
                torch.addcmul(P.sum(-1, keepdim=True), l, alpha, out=l)  # line 13: the sum before dropout
                o.mul_(alpha).baddbmm_(loops.drop(P, items, member, rows, columns), V)  # lines 14 and 15
                m.copy_(m_new)  # line 16
            m_all[items, member, queries], l_all[items, member, queries] = m_i, l_i
            out[items, member, queries] = O.div_(l_i.masked_fill(l_i == 0, 1))  # rows that saw no key: zeros
        ctx.save_for_backward(q, k, v, mask, out, m_all, l_all)
        ctx.loops = backward
        lse = (m_all * math.log(2) + l_all.log()).squeeze(-1)
        ctx.mark_non_differentiable(lse)
        return out, lse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, do: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Algorithm 4. The division of P by l is done to dO and D, which are smaller: d and 1 columns, not N."""
        q, k, v, mask, out, m_all, l_all = ctx.saved_tensors
        loops: _Loops = ctx.loops
        wide = m_all.dtype
        dq = torch.empty_like(q, memory_format=torch.contiguous_format)
        dk, dv = (torch.zeros_like(x, dtype=wide, memory_format=torch.contiguous_format) for x in (k, v))  # line 5
        l_all = l_all.masked_fill(l_all == 0, 1)
        tile, gradient_tile = _Tile(), _Tile()
        for items, member, queries in loops.outer():
            Q = q[items, member, queries].to(wide)  # line 10
            dQ = torch.zeros_like(Q)
            m_i, l_i = m_all[items, member, queries], l_all[items, member, queries]
            dO = do[items, member, queries].to(wide) / l_i
            D = (dO * out[items, member, queries]).sum(-1, keepdim=True)  # line 19
            for rows, columns in loops.inner(queries):
                part = _within(rows, queries)
                K, V = k[items, columns].to(wide), v[items, columns].to(wide)  # line 7
                S = tile.product(Q[:, part], K, loops.scale * math.log2(math.e))  # line 11
                loops.mask(S, None if mask is None else mask[items], rows, columns)  # line 12
                P = S.sub_(m_i[:, part]).exp2_()  # line 13
                dP = loops.drop(gradient_tile.product(dO[:, part], V), items, member, rows, columns)  # lines 17, 18
                if whole := loops.complete(rows, columns):
                    first = slice(part.start, part.start + whole)
                    D[:, first] = (P[:, :whole] * dP[:, :whole]).sum(-1, keepdim=True) / l_i[:, first]
                dS = dP.sub_(D[:, part]).mul_(P)  # line 20
                loops.drop(P, items, member, rows, columns)  # lines 14, 15
                dv[items, columns].baddbmm_(P.mT, dO[:, part])  # line 16
                dQ[:, part].baddbmm_(dS, K, alpha=loops.scale)  # line 21
                dk[items, columns].baddbmm_(dS.mT, Q[:, part], alpha=loops.scale)  # line 22
            dq[items, member, queries] = dQ
        return dq, dk.to(k.dtype), dv.to(v.dtype), None, None, None


def attention(
    q: Float[Tensor, "batch heads seq_q head_dim"], k: Float[Tensor, "batch kv_heads seq_k head_dim"],
    v: Float[Tensor, "batch kv_heads seq_k head_dim"], mask: Bool[Tensor, "batch seq_k"] | None, *, causal: bool,
    scale: float, dropout_p: float, seed: int, block_q: int | None, block_k: int | None,
    pattern: list[list[bool]] | None = None,
) -> tuple[Float[Tensor, "batch heads seq_q head_dim"], Float[Tensor, "batch heads seq_q"]]:  # fmt: skip
    """Attention of validated inputs and its logsumexp (not differentiable): see `flash_attention`.

    `pattern` is Algorithm 5's block mask, a row of booleans for each block of queries.
    """
    batch, heads, n_q, _ = q.shape
    kv_heads, n_k = k.shape[1:3]
    items, group = batch * kv_heads, heads // kv_heads
    forward, backward = (
        _Loops(items, group, n_q, n_k, causal, scale, dropout_p, seed, block_q or rows, block_k or columns, pattern)
        for rows, columns in (FORWARD, BACKWARD)
    )
    if mask is not None:
        mask = None if mask.all() else mask.repeat_interleave(kv_heads, 0)
    q_, k_, v_ = q.reshape(items, group, *q.shape[2:]), k.flatten(0, 1), v.flatten(0, 1)
    out, lse = _Attention.apply(q_, k_, v_, mask, forward, backward)
    return out.view(q.shape), lse.view(q.shape[:3])
