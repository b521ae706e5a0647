"""FlashAttention on NVIDIA GPUs: Triton kernels in the loop order of FlashAttention-2 (Dao 2023, arXiv 2307.08691).

Against FlashAttention's Algorithms 1 and 4 (2205.14135), as FlashAttention-2 does it: the outer loop of the forward
pass runs over blocks of queries, all in parallel; O stays un-normalised until one division at the end; only the
logsumexp L = m + log(l) is kept for the backward pass; causal attention visits only the blocks that it needs and masks
only those on the diagonal.

Deviation: where FlashAttention-2's Algorithm 2 adds into dQ atomically, a kernel of its own, parallel over blocks of
queries, computes dQ. That is seven matrix products instead of five, but the gradients are the same bits in every run.

Symbols: q, k, v, o, do are tiles of Q, K, V, O, dO; s = q k^T, p the probabilities, dp and ds their gradients, m and l
the running row maximum and row sum. Exponentials are base 2, as the hardware has them, so m, and L as the backward
kernels read it, are in units of log2. A head_dim that is no power of two is padded in registers, never in memory.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl

_LOG2_E: tl.constexpr = tl.constexpr(math.log2(math.e))
_LN_2: tl.constexpr = tl.constexpr(math.log(2))
_NO_SPECIALISATION = ["n_q", "n_k", "padded", "seed", "threshold"]  # compile once for all lengths and seeds


@triton.jit
def _matrix(base, stride, head, heads):
    """The (n, D) matrix of one head, counted over batch and heads. 64 bits: a tensor may exceed 2^31 elements."""
    return base + (head // heads).to(tl.int64) * stride[0] + (head % heads).to(tl.int64) * stride[1]


@triton.jit
def _tile(base, start, stride, n, D: tl.constexpr, BLOCK: tl.constexpr, BLOCK_D: tl.constexpr, CHECK: tl.constexpr):
    """Rows start .. start + BLOCK of an (n, D) matrix, padded with zeros. `CHECK`: rows may lie beyond n."""
    stride = tl.cast(stride, tl.int64)
    rows, columns = tl.arange(0, BLOCK), tl.arange(0, BLOCK_D)
    pointers = base + start * stride + (rows[:, None] * stride + columns[None, :])
    if CHECK or D != BLOCK_D:
        return tl.load(pointers, mask=(start + rows < n)[:, None] & (columns < D)[None, :], other=0.0)
    else:
        return tl.load(pointers)


@triton.jit
def _store(base, start, stride, n, tile, D: tl.constexpr, BLOCK: tl.constexpr, BLOCK_D: tl.constexpr):
    """Store a tile into rows start .. start + BLOCK of an (n, D) matrix, without the padding."""
    stride = tl.cast(stride, tl.int64)
    rows, columns = tl.arange(0, BLOCK), tl.arange(0, BLOCK_D)
    pointers = base + start * stride + (rows[:, None] * stride + columns[None, :])
    inside = (start + rows < n)[:, None] & (columns < D)[None, :]
    tl.store(pointers, tile.to(base.dtype.element_ty), mask=inside)


@triton.jit
def _fmix(x):
    """The final mix of MurmurHash3 on uint32: every bit of x reaches every bit of the result."""
    x ^= x >> 16
    x *= 0x85EBCA6B
    x ^= x >> 13
    x *= 0xC2B2AE35
    return x ^ (x >> 16)


@triton.jit
def _kept(head, rows, columns, n_q, seed, threshold):
    """Which entries dropout keeps: a hash of (seed, batch and head, query, key), whatever the block sizes are."""
    rows = (head * n_q + rows).to(tl.uint32) ^ tl.cast(seed, tl.uint32, bitcast=True)
    bits = _fmix(_fmix(rows) + columns.to(tl.uint32) * 0x9E3779B9)
    return bits >= tl.cast(threshold, tl.uint32, bitcast=True)


@triton.jit
def _visible(rows, columns, key_mask, n_q, n_k, CAUSAL: tl.constexpr):
    """Which keys each query sees: those inside the sequence, let through by the mask and, if causal, not in its future.

    Broadcasts `rows` against `columns`. Causal aligns the last query with the last key: j <= i + n_k - n_q."""
    visible = columns < n_k
    if CAUSAL:
        visible &= columns <= rows + (n_k - n_q)
    if key_mask is not None:
        visible &= tl.load(key_mask + columns, mask=columns < n_k, other=0) != 0
    return visible


@triton.jit
def _key_range(q_start, key_mask, n_q, n_k, CAUSAL: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr):
    """(full, end): queries q_start .. + BLOCK_Q all see every key before `full`, and none sees a key from `end` on."""
    full, end = n_k, n_k
    if CAUSAL:
        full = tl.minimum(n_k, tl.maximum(0, q_start + n_k - n_q + 1))
        end = tl.minimum(n_k, tl.maximum(0, q_start + n_k - n_q + BLOCK_Q))
    if key_mask is not None:
        full = 0
    return full // BLOCK_K * BLOCK_K, end


@triton.jit(do_not_specialize=_NO_SPECIALISATION)
def _forward(
    Q, K, V, key_mask, O, L, q_stride, k_stride, v_stride, o_stride, heads, group, n_q, n_k, scale, seed, threshold,
    keep_scale, D: tl.constexpr, CAUSAL: tl.constexpr, DROPOUT: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """FlashAttention-2, Algorithm 1: one program makes one block of O and of L."""
    blocks = tl.cdiv(n_q, BLOCK_Q)
    head = tl.program_id(0) // blocks  # batch and head together
    q_start = (blocks - 1 - tl.program_id(0) % blocks) * BLOCK_Q  # the longest causal rows first
    if key_mask is not None:
        key_mask += (head // heads).to(tl.int64) * n_k
    k_base = _matrix(K, k_stride, head // group, heads // group)
    v_base = _matrix(V, v_stride, head // group, heads // group)
    rows = q_start + tl.arange(0, BLOCK_Q)
    q = _tile(_matrix(Q, q_stride, head, heads), q_start, q_stride[2], n_q, D, BLOCK_Q, BLOCK_D, True)  # line 4

    o = tl.zeros([BLOCK_Q, BLOCK_D], tl.float32)  # line 5
    l = tl.zeros([BLOCK_Q], tl.float32)
    m = tl.full([BLOCK_Q], float("-inf"), tl.float32)
    full, end = _key_range(q_start, key_mask, n_q, n_k, CAUSAL, BLOCK_Q, BLOCK_K)
    for MASKED in tl.static_range(2):  # first the blocks that all rows see, then those that need a mask
        for k_start in tl.range(full if MASKED else 0, end if MASKED else full, BLOCK_K):  # line 6
            columns = k_start + tl.arange(0, BLOCK_K)
            k = _tile(k_base, k_start, k_stride[2], n_k, D, BLOCK_K, BLOCK_D, MASKED)  # line 7
            s = tl.dot(q, k.T, input_precision="ieee")  # line 8
            if MASKED:
                s = tl.where(_visible(rows[:, None], columns[None, :], key_mask, n_q, n_k, CAUSAL), s, float("-inf"))
            m_new = tl.maximum(m, tl.max(s, 1) * scale)  # line 9; scale is positive
            # A row that has seen no key has m_new = -inf, and -inf - -inf would be NaN.
            m_safe = tl.where(m_new == float("-inf"), 0.0, m_new) if MASKED else m_new
            p = tl.exp2(s * scale - m_safe[:, None])
            alpha = tl.exp2(m - m_safe)
            l = l * alpha + tl.sum(p, 1)  # the sum before dropout: dropout acts on the normalised P
            m = m_new
            if DROPOUT:
                p = tl.where(_kept(head, rows[:, None], columns[None, :], n_q, seed, threshold), p, 0.0)
            v = _tile(v_base, k_start, v_stride[2], n_k, D, BLOCK_K, BLOCK_D, MASKED)
            o = tl.dot(p.to(v.dtype), v, o * alpha[:, None], input_precision="ieee")  # line 10

    o *= (keep_scale / tl.where(l == 0, 1.0, l))[:, None]  # line 12
    _store(_matrix(O, o_stride, head, heads), q_start, o_stride[2], n_q, o, D, BLOCK_Q, BLOCK_D)  # line 14
    tl.store(L + head.to(tl.int64) * n_q + rows, m * _LN_2 + tl.log(l), mask=rows < n_q)  # lines 13 and 15


@triton.jit(do_not_specialize=_NO_SPECIALISATION)
def _preprocess(
    O, dO, L, L2, Delta, o_stride, do_stride, heads, n_q, padded,
    D: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """FlashAttention-2, Algorithm 2, line 4: Delta = rowsum(dO * O). Also L in base 2, with +inf for rows that see no
    key or are padding (`padded` rows a head), so that the kernels below find p = exp2(s - L2) = 0 there."""
    head, q_start = tl.program_id(0) // (padded // BLOCK_Q), tl.program_id(0) % (padded // BLOCK_Q) * BLOCK_Q
    o = _tile(_matrix(O, o_stride, head, heads), q_start, o_stride[2], n_q, D, BLOCK_Q, BLOCK_D, True)
    do = _tile(_matrix(dO, do_stride, head, heads), q_start, do_stride[2], n_q, D, BLOCK_Q, BLOCK_D, True)
    rows = q_start + tl.arange(0, BLOCK_Q)
    lse = tl.load(L + head.to(tl.int64) * n_q + rows, mask=rows < n_q, other=float("-inf"))
    offsets = head.to(tl.int64) * padded + rows
    tl.store(L2 + offsets, tl.where(lse == float("-inf"), float("inf"), lse * _LOG2_E))
    tl.store(Delta + offsets, tl.sum(o.to(tl.float32) * do.to(tl.float32), 1))


@triton.jit(do_not_specialize=_NO_SPECIALISATION)
def _backward_kv(
    Q, K, V, key_mask, dO, L2, Delta, dK, dV, q_stride, k_stride, v_stride, do_stride, dk_stride, dv_stride, padded,
    heads, group, n_q, n_k, scale, seed, threshold, keep_scale, D: tl.constexpr, CAUSAL: tl.constexpr,
    DROPOUT: tl.constexpr, RAGGED: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """FlashAttention-2, Algorithm 2 without dQ: one program makes one block of dK and dV, over all heads of its group.

    Works on the transposed s, p, dp and ds, which are then the left factors of dV += p^T do and dK += ds^T q.
    Keys beyond n_k or behind the key mask reach only their own rows of dK and dV, which the end drops or zeroes."""
    blocks = tl.cdiv(n_k, BLOCK_K)
    kv_head = tl.program_id(0) // blocks  # batch and key head together
    k_start = tl.program_id(0) % blocks * BLOCK_K
    columns = k_start + tl.arange(0, BLOCK_K)
    k_base = _matrix(K, k_stride, kv_head, heads // group)
    v_base = _matrix(V, v_stride, kv_head, heads // group)
    k = _tile(k_base, k_start, k_stride[2], n_k, D, BLOCK_K, BLOCK_D, True)  # line 6
    v = _tile(v_base, k_start, v_stride[2], n_k, D, BLOCK_K, BLOCK_D, True)

    dk = tl.zeros([BLOCK_K, BLOCK_D], tl.float32)  # line 7
    dv = tl.zeros([BLOCK_K, BLOCK_D], tl.float32)
    begin, full = 0, 0  # no query before `begin` sees these keys; all from `full` on see them all
    if CAUSAL:
        begin = tl.maximum(0, k_start - (n_k - n_q)) // BLOCK_Q * BLOCK_Q
        full = tl.minimum(tl.cdiv(tl.maximum(0, k_start + BLOCK_K - 1 - (n_k - n_q)), BLOCK_Q) * BLOCK_Q, n_q)
    for member in tl.range(group):
        head = kv_head * group + member
        q_base = _matrix(Q, q_stride, head, heads)
        do_base = _matrix(dO, do_stride, head, heads)
        for MASKED in tl.static_range(2):
            for q_start in tl.range(begin if MASKED else full, full if MASKED else n_q, BLOCK_Q):  # line 8
                rows = q_start + tl.arange(0, BLOCK_Q)
                q = _tile(q_base, q_start, q_stride[2], n_q, D, BLOCK_Q, BLOCK_D, RAGGED)  # line 9
                do = _tile(do_base, q_start, do_stride[2], n_q, D, BLOCK_Q, BLOCK_D, RAGGED)
                lse = tl.load(L2 + head.to(tl.int64) * padded + rows)
                delta = tl.load(Delta + head.to(tl.int64) * padded + rows)
                s = tl.dot(k, q.T, input_precision="ieee")  # line 10, transposed
                p = tl.exp2(s * scale - lse[None, :])  # line 11
                if MASKED:
                    p = tl.where(_visible(rows[None, :], columns[:, None], None, n_q, n_k, CAUSAL), p, 0.0)
                if DROPOUT:
                    kept = _kept(head, rows[None, :], columns[:, None], n_q, seed, threshold)
                    dv = tl.dot(tl.where(kept, p, 0.0).to(do.dtype), do, dv, input_precision="ieee")  # line 12
                    dp = tl.where(kept, tl.dot(v, do.T, input_precision="ieee") * keep_scale, 0.0)  # line 13
                else:
                    dv = tl.dot(p.to(do.dtype), do, dv, input_precision="ieee")
                    dp = tl.dot(v, do.T, input_precision="ieee")
                ds = p * (dp - delta[None, :])  # line 14
                dk = tl.dot(ds.to(q.dtype), q, dk, input_precision="ieee")  # line 16

    dk *= scale * _LN_2  # the scale of the scores: the kernel's own is in base 2
    dv *= keep_scale
    if key_mask is not None:
        key_mask += (kv_head // (heads // group)).to(tl.int64) * n_k
        attended = tl.load(key_mask + columns, mask=columns < n_k, other=0) != 0
        dk = tl.where(attended[:, None], dk, 0.0)
        dv = tl.where(attended[:, None], dv, 0.0)
    dk_base = _matrix(dK, dk_stride, kv_head, heads // group)
    dv_base = _matrix(dV, dv_stride, kv_head, heads // group)
    _store(dk_base, k_start, dk_stride[2], n_k, dk, D, BLOCK_K, BLOCK_D)  # line 18
    _store(dv_base, k_start, dv_stride[2], n_k, dv, D, BLOCK_K, BLOCK_D)


@triton.jit(do_not_specialize=_NO_SPECIALISATION)
def _backward_q(
    Q, K, V, key_mask, dO, L2, Delta, dQ, q_stride, k_stride, v_stride, do_stride, dq_stride, padded, heads, group, n_q,
    n_k, scale, seed, threshold, keep_scale, D: tl.constexpr, CAUSAL: tl.constexpr, DROPOUT: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """FlashAttention-2, Algorithm 2, line 15: one program makes one block of dQ, in the forward pass's loop order."""
    blocks = tl.cdiv(n_q, BLOCK_Q)
    head = tl.program_id(0) // blocks
    q_start = (blocks - 1 - tl.program_id(0) % blocks) * BLOCK_Q
    if key_mask is not None:
        key_mask += (head // heads).to(tl.int64) * n_k
    k_base = _matrix(K, k_stride, head // group, heads // group)
    v_base = _matrix(V, v_stride, head // group, heads // group)
    rows = q_start + tl.arange(0, BLOCK_Q)
    q = _tile(_matrix(Q, q_stride, head, heads), q_start, q_stride[2], n_q, D, BLOCK_Q, BLOCK_D, True)
    do = _tile(_matrix(dO, do_stride, head, heads), q_start, do_stride[2], n_q, D, BLOCK_Q, BLOCK_D, True)
    lse = tl.load(L2 + head.to(tl.int64) * padded + rows)
    delta = tl.load(Delta + head.to(tl.int64) * padded + rows)

    dq = tl.zeros([BLOCK_Q, BLOCK_D], tl.float32)
    full, end = _key_range(q_start, key_mask, n_q, n_k, CAUSAL, BLOCK_Q, BLOCK_K)
    for MASKED in tl.static_range(2):
        for k_start in tl.range(full if MASKED else 0, end if MASKED else full, BLOCK_K):
            columns = k_start + tl.arange(0, BLOCK_K)
            k = _tile(k_base, k_start, k_stride[2], n_k, D, BLOCK_K, BLOCK_D, MASKED)
            v = _tile(v_base, k_start, v_stride[2], n_k, D, BLOCK_K, BLOCK_D, MASKED)
            s = tl.dot(q, k.T, input_precision="ieee")
            p = tl.exp2(s * scale - lse[:, None])
            if MASKED:
                p = tl.where(_visible(rows[:, None], columns[None, :], key_mask, n_q, n_k, CAUSAL), p, 0.0)
            dp = tl.dot(do, v.T, input_precision="ieee")
            if DROPOUT:
                kept = _kept(head, rows[:, None], columns[None, :], n_q, seed, threshold)
                dp = tl.where(kept, dp * keep_scale, 0.0)
            ds = p * (dp - delta[:, None])
            dq = tl.dot(ds.to(k.dtype), k, dq, input_precision="ieee")

    dq *= scale * _LN_2
    _store(_matrix(dQ, dq_stride, head, heads), q_start, dq_stride[2], n_q, dq, D, BLOCK_Q, BLOCK_D)
