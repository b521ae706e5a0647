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
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flash_attention.derivatives import Function, Gradients, no_forward_mode
from flash_attention.dropout import kept

# Rows and columns of a block. 4 MiB of float32 scores stay in the last-level cache; the backward pass, which writes dK
# and dV once for each block of queries, has long ones.
FORWARD, BACKWARD = (2048, 512), (8192, 256)
TOGETHER = 2**20  # scores of several heads that are computed together, where one head has fewer

Scores = Float[Tensor, "items rows columns"]
Keys = Bool[Tensor, "items seq_k"]


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

    def mask(self, S: Scores, keys: Keys | None, poison: Keys | None, rows: slice, columns: slice) -> None:
        """Algorithm 2, line 11: S = -inf where a query must not see a key, NaN where it sees one of `poison`."""
        if keys is not None:
            S.masked_fill_(~keys[:, None, columns], -math.inf)
        if self.causal:
            seen = rows.start + self.n_k - self.n_q - columns.start  # the last column that the first row sees
            corner = S[:, : max(0, S.shape[2] - 1 - seen)]  # rows further down see all columns
            future = torch.ones(corner.shape[1:], dtype=torch.bool, device=S.device).triu_(seen + 1)
            corner.masked_fill_(future, -math.inf)
        if poison is not None:
            S.masked_fill_(S.ne(-math.inf) & poison[:, None, columns], math.nan)

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


def _readable(x: Tensor) -> bool:
    """Whether a branch may depend on x's values: not under export and compile, nor where it has none (meta, fake)."""
    return not torch.compiler.is_compiling() and type(x) in (Tensor, torch.nn.Parameter) and not x.is_meta


def _needed(mask: Keys | None) -> Keys | None:
    """None for a mask that is known to hide nothing, which saves a pass over the scores."""
    return None if mask is None or (_readable(mask) and bool(mask.all())) else mask


def _finite(k: Tensor, v: Tensor, loops: _Loops) -> tuple[Tensor, Tensor, Keys | None]:
    """k, v with zeros for keys that hold NaN or infinity, and which these are; None where there are none.

    In a block on the causal diagonal P is zero in the future, and zero times NaN would reach rows before it."""
    if not loops.causal or not _readable(k):
        return k, v, None
    wide = torch.promote_types(k.dtype, torch.float32)
    if (k.sum(dtype=wide) + v.sum(dtype=wide)).isfinite():
        return k, v, None
    poison = ~(k.isfinite().all(-1) & v.isfinite().all(-1))
    return k.masked_fill(poison[..., None], 0), v.masked_fill(poison[..., None], 0), poison


class _Attention(Function):
    """(out, lse, m, l) of q, k, v, a mask and loops of both passes; q is (items, group, n_q, d), k, v (items, n_k, d).

    m and l, which the backward pass reads, are outputs because torch.func saves nothing else; they have no gradient."""

    @staticmethod
    def forward(
        q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, loops: _Loops, backward: _Loops
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Algorithm 2; without mask and dropout it is Algorithm 1, and with a pattern Algorithm 5."""
        wide = torch.promote_types(q.dtype, torch.float32)  # half precision is summed in float32
        mask, (k, v, poison) = _needed(mask), _finite(k, v, loops)
        out = torch.empty_like(q, memory_format=torch.contiguous_format)
        m_all, l_all = (q.new_empty((*q.shape[:3], 1), dtype=wide) for _ in range(2))
        tile = _Tile()
        for items, member, queries in loops.outer():
            keys, poisoned = (None if x is None else x[items] for x in (mask, poison))
            Q = q[items, member, queries].to(wide)  # line 9
            O = torch.zeros_like(Q)  # line 3
            m_i = Q.new_full((*Q.shape[:2], 1), torch.finfo(wide).min)  # not -inf: -inf - -inf would be NaN
            l_i = Q.new_zeros((*Q.shape[:2], 1))
            for rows, columns in loops.inner(queries):
                part = _within(rows, queries)
                K, V = k[items, columns].to(wide), v[items, columns].to(wide)  # line 7
                S = tile.product(Q[:, part], K, loops.scale * math.log2(math.e))  # line 10
                loops.mask(S, keys, poisoned, rows, columns)  # line 11
                m, l, o = m_i[:, part], l_i[:, part], O[:, part]
                m_new = S.amax(-1, keepdim=True).maximum(m)  # lines 12 and 13
                P = S.sub_(m_new).exp2_()  # line 12, already relative to the new maximum
                alpha = m.sub_(m_new).exp2_()
                torch.addcmul(P.sum(-1, keepdim=True), l, alpha, out=l)  # line 13: the sum before dropout
                o.mul_(alpha).baddbmm_(loops.drop(P, items, member, rows, columns), V)  # lines 14 and 15
                m.copy_(m_new)  # line 16
            m_all[items, member, queries], l_all[items, member, queries] = m_i, l_i
            out[items, member, queries] = O.div_(l_i.masked_fill(l_i == 0, 1))  # rows that saw no key: zeros
        return out, (m_all * math.log(2) + l_all.log()).squeeze(-1), m_all, l_all

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        out, _, m_all, l_all = output
        ctx.save_for_backward(*inputs[:4], out, m_all, l_all)
        ctx.loops = inputs[5]
        ctx.mark_non_differentiable(m_all, l_all)

    @staticmethod
    def backward(ctx: Any, do: Tensor, dlse: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mask, *rest = ctx.saved_tensors
        return *Gradients.apply(partial(_gradients, ctx.loops), q, k, v, mask, do, dlse, *rest), None, None, None


class _Eager(_Attention):
    """The same with a sentence of ours for forward mode, which torch.compile does not take in a function."""

    jvp = staticmethod(no_forward_mode)


def _gradients(
    loops: _Loops, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, do: Tensor, dlse: Tensor, out: Tensor,
    m_all: Tensor, l_all: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Algorithm 4. The division of P by l is done to dO and D, which are smaller: d and 1 columns, not N.

    The gradient of lse adds P∘dlse to dS, so it is subtracted from D."""
    wide = m_all.dtype
    mask, (k, v, poison) = _needed(mask), _finite(k, v, loops)
    dq = torch.empty_like(q, memory_format=torch.contiguous_format)
    dk, dv = (torch.zeros_like(x, dtype=wide, memory_format=torch.contiguous_format) for x in (k, v))  # line 5
    nothing = l_all == 0  # rows that see no key: what they hold must not meet a P of zero
    some = mask is not None or loops.pattern is not None or (loops.causal and loops.n_q > loops.n_k)  # may there be any
    l_all = l_all.masked_fill(nothing, 1)
    tile, gradient_tile = _Tile(), _Tile()
    for items, member, queries in loops.outer():
        keys, poisoned = (None if x is None else x[items] for x in (mask, poison))
        m_i, l_i = m_all[items, member, queries], l_all[items, member, queries]
        unclean = (  # line 10
            q[items, member, queries].to(wide),
            do[items, member, queries].to(wide) / l_i,
            dlse[items, member, queries, None] / l_i,
        )
        unseen = nothing[items, member, queries]
        Q, dO, dL = (x.masked_fill(unseen, 0) for x in unclean) if some else unclean
        dQ = torch.zeros_like(Q)
        D = (dO * out[items, member, queries]).sum(-1, keepdim=True) - dL  # line 19
        for rows, columns in loops.inner(queries):
            part = _within(rows, queries)
            K, V = k[items, columns].to(wide), v[items, columns].to(wide)  # line 7
            S = tile.product(Q[:, part], K, loops.scale * math.log2(math.e))  # line 11
            loops.mask(S, keys, poisoned, rows, columns)  # line 12
            P = S.sub_(m_i[:, part]).exp2_()  # line 13
            dP = loops.drop(gradient_tile.product(dO[:, part], V), items, member, rows, columns)  # lines 17, 18
            if whole := loops.complete(rows, columns):
                first = slice(part.start, part.start + whole)
                D[:, first] = (P[:, :whole] * dP[:, :whole]).sum(-1, keepdim=True) / l_i[:, first] - dL[:, first]
            dS = dP.sub_(D[:, part]).mul_(P)  # line 20
            loops.drop(P, items, member, rows, columns)  # lines 14, 15
            dv[items, columns].baddbmm_(P.mT, dO[:, part])  # line 16
            dQ[:, part].baddbmm_(dS, K, alpha=loops.scale)  # line 21
            dk[items, columns].baddbmm_(dS.mT, Q[:, part], alpha=loops.scale)  # line 22
        dq[items, member, queries] = dQ
    return dq, dk.to(k.dtype), dv.to(v.dtype)


def attention(
    q: Float[Tensor, "batch heads seq_q head_dim"], k: Float[Tensor, "batch kv_heads seq_k head_dim"],
    v: Float[Tensor, "batch kv_heads seq_k head_dim"], mask: Bool[Tensor, "batch seq_k"] | None, *, causal: bool,
    scale: float, dropout_p: float, seed: int, block_q: int | None, block_k: int | None,
    pattern: list[list[bool]] | None = None,
) -> tuple[Float[Tensor, "batch heads seq_q head_dim"], Float[Tensor, "batch heads seq_q"]]:  # fmt: skip
    """Attention of validated inputs and its logsumexp: see `flash_attention`.

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
        mask = mask.repeat_interleave(kv_heads, 0)
    q_, k_, v_ = q.reshape(items, group, *q.shape[2:]), k.flatten(0, 1), v.flatten(0, 1)
    function = _Attention if torch.compiler.is_compiling() else _Eager
    out, lse, *_ = function.apply(q_, k_, v_, mask, forward, backward)
    return out.view(q.shape), lse.view(q.shape[:3])
