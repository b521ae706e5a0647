"""FlashAttention for JAX: forward and backward as Pallas kernels, joined by a `custom_vjp`.

The twin of `flash_attention.flash_attention`, with the same arguments, the same results and, for one seed, the same
dropout mask. Algorithms 1, 2 and 4 of the paper (2205.14135) in FlashAttention-2's loop order (2307.08691), as in the
Triton backend: programs run in parallel over blocks of queries (forward, dQ) or of keys (dK, dV), each loops over the
blocks of the other side, and only the logsumexp L is kept for the backward pass. Here every visited block is masked:
this file is for reading and for JAX users, and is not tuned.

The kernels see lengths padded to whole blocks and head_dim padded to a power of two, which Triton asks for.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as pltriton
from jaxtyping import Array, Bool, Float

from flash_attention.arguments import check_arrays, check_backend, check_block, check_options, check_seed

_BACKENDS = ("auto", "pallas", "interpret")
_DTYPES = tuple(map(jnp.dtype, ("float16", "bfloat16", "float32", "float64")))


class _Setting(NamedTuple):
    """What the kernels are compiled for; n_q and n_k are the lengths before padding."""

    n_q: int
    n_k: int
    causal: bool
    scale: float
    dropout_p: float
    block_q: int
    block_k: int
    interpret: bool


def _dot(a: Array, b: Array, contract: tuple[int, int]) -> Array:
    """Contract a's axis with b's: in full float32 precision, accumulated in at least float32."""
    precision = jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
    dtype = jnp.promote_types(a.dtype, jnp.float32)
    dims = (((contract[0],), (contract[1],)), ((), ()))
    return jax.lax.dot_general(a, b, dims, precision=precision, preferred_element_type=dtype)


def _fmix(x: Array) -> Array:
    """The final mix of MurmurHash3 on uint32: every bit of x reaches every bit of the result."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def _kept(row_ids: Array, columns: Array, seed: Array, dropout_p: float) -> Array:
    """Which entries dropout keeps: a hash of (seed, row of the whole batch, key), whatever the block sizes are."""
    bits = _fmix(_fmix(row_ids.astype(jnp.uint32) ^ seed) + columns.astype(jnp.uint32) * jnp.uint32(0x9E3779B9))
    return bits >= jnp.uint32(math.floor(dropout_p * 2**32))


def _block(c: _Setting, q: Array, k: Array, key_mask: Array, q_start: Array, k_start: Array) -> tuple[Array, ...]:
    """Scores of one block with -inf where a query does not see a key, its rows (i, 1) and its columns (1, j)."""
    rows = (q_start + jnp.arange(q.shape[0]))[:, None]
    columns = (k_start + jnp.arange(k.shape[0]))[None, :]
    visible = key_mask[None, :] != 0
    if c.causal:
        visible &= columns <= rows + (c.n_k - c.n_q)
    return jnp.where(visible, _dot(q, k, (1, 1)) * c.scale, -jnp.inf), rows, columns


def _key_blocks(c: _Setting, q_start: Array, blocks: int) -> Array:
    """How many blocks of keys the queries from q_start on need to visit (FlashAttention-2, section 3.1)."""
    if not c.causal:
        return jnp.int32(blocks)
    return jnp.clip((q_start + c.block_q + c.n_k - c.n_q + c.block_k - 1) // c.block_k, 0, blocks).astype(jnp.int32)


def _forward_kernel(c: _Setting, *refs: Any) -> None:
    """FlashAttention-2, Algorithm 1: one program makes one block of O and of L."""
    seed, q_ref, k_ref, v_ref, mask_ref, o_ref, l_ref = refs
    head = pl.program_id(0) * pl.num_programs(1) + pl.program_id(1)
    q_start = pl.program_id(2) * c.block_q
    q = q_ref[...]  # line 4
    dtype = jnp.promote_types(q.dtype, jnp.float32)

    def body(j: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        o, l, m = carry
        keys = pl.ds(j * c.block_k, c.block_k)  # line 7
        s, rows, columns = _block(c, q, k_ref[keys, :], mask_ref[keys], q_start, j * c.block_k)  # line 8
        m_new = jnp.maximum(m, s.max(1))  # line 9
        m_safe = jnp.where(m_new == -jnp.inf, 0, m_new)  # a row that has seen no key: -inf - -inf would be NaN
        p = jnp.exp(s - m_safe[:, None])
        alpha = jnp.exp(m - m_safe)
        l = alpha * l + p.sum(1)  # the sum before dropout: dropout acts on the normalised P
        if c.dropout_p > 0:
            p = jnp.where(_kept(head * c.n_q + rows, columns, seed[0], c.dropout_p), p, 0)
        v = v_ref[keys, :]
        return alpha[:, None] * o + _dot(p.astype(v.dtype), v, (1, 0)), l, m_new  # line 10

    zeros = jnp.zeros(c.block_q, dtype)
    start = (jnp.zeros(q.shape, dtype), zeros, zeros - jnp.inf)  # line 5
    o, l, m = jax.lax.fori_loop(0, _key_blocks(c, q_start, k_ref.shape[0] // c.block_k), body, start)  # line 6
    o_ref[...] = (o / jnp.where(l == 0, 1, l * (1 - c.dropout_p))[:, None]).astype(o_ref.dtype)  # lines 12 and 14
    l_ref[...] = jnp.where(l == 0, -jnp.inf, m + jnp.log(jnp.where(l == 0, 1, l)))  # lines 13 and 15


def _gradients(
    c: _Setting, head: Array, seed: Any, q: Array, k: Array, v: Array, key_mask: Array, do: Array, lse: Array,
    delta: Array, q_start: Array, k_start: Array,
) -> tuple[Array, Array]:  # fmt: skip
    """(p with dropout, ds) of one block, recomputed from L: FlashAttention-2, Algorithm 2, lines 10 to 14."""
    s, rows, columns = _block(c, q, k, key_mask, q_start, k_start)
    p = jnp.exp(s - lse[:, None])
    dp = _dot(do, v, (1, 1))
    if c.dropout_p == 0:
        return p, p * (dp - delta[:, None])
    keep = _kept(head * c.n_q + rows, columns, seed[0], c.dropout_p).astype(p.dtype) / (1 - c.dropout_p)
    return p * keep, p * (dp * keep - delta[:, None])


def _dq_kernel(c: _Setting, *refs: Any) -> None:
    """FlashAttention-2, Algorithm 2, line 15: one program makes one block of dQ."""
    seed, q_ref, k_ref, v_ref, mask_ref, do_ref, l_ref, delta_ref, dq_ref = refs
    head = pl.program_id(0) * pl.num_programs(1) + pl.program_id(1)
    q_start = pl.program_id(2) * c.block_q
    q, do, lse, delta = q_ref[...], do_ref[...], l_ref[...], delta_ref[...]

    def body(j: Array, dq: Array) -> Array:
        keys = pl.ds(j * c.block_k, c.block_k)
        k, v, key_mask = k_ref[keys, :], v_ref[keys, :], mask_ref[keys]
        _, ds = _gradients(c, head, seed, q, k, v, key_mask, do, lse, delta, q_start, j * c.block_k)
        return dq + _dot(ds.astype(k.dtype), k, (1, 0))

    start = jnp.zeros(q.shape, lse.dtype)
    dq = jax.lax.fori_loop(0, _key_blocks(c, q_start, k_ref.shape[0] // c.block_k), body, start)
    dq_ref[...] = (dq * c.scale).astype(dq_ref.dtype)


def _dkv_kernel(c: _Setting, *refs: Any) -> None:
    """FlashAttention-2, Algorithm 2 without dQ: one program makes one block of dK and dV, over its group's heads."""
    seed, q_ref, k_ref, v_ref, mask_ref, do_ref, l_ref, delta_ref, dk_ref, dv_ref = refs
    group, padded_q = q_ref.shape[:2]
    first_head = (pl.program_id(0) * pl.num_programs(1) + pl.program_id(1)) * group
    k_start = pl.program_id(2) * c.block_k
    k, v, key_mask = k_ref[...], v_ref[...], mask_ref[...]  # line 6

    def body(step: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        dk, dv = carry
        member, i = step // (blocks - first), first + step % (blocks - first)
        queries = pl.ds(i * c.block_q, c.block_q)
        q, do = q_ref[member, queries, :], do_ref[member, queries, :]  # line 9
        lse, delta = l_ref[member, queries], delta_ref[member, queries]
        p, ds = _gradients(c, first_head + member, seed, q, k, v, key_mask, do, lse, delta, i * c.block_q, k_start)
        return dk + _dot(ds.astype(q.dtype), q, (0, 0)), dv + _dot(p.astype(do.dtype), do, (0, 0))  # lines 16 and 12

    blocks = padded_q // c.block_q
    first = jnp.maximum(k_start - (c.n_k - c.n_q), 0) // c.block_q if c.causal else jnp.int32(0)
    start = (jnp.zeros(k.shape, l_ref.dtype), jnp.zeros(k.shape, l_ref.dtype))  # line 7
    dk, dv = jax.lax.fori_loop(0, group * (blocks - first), body, start)  # line 8
    dk_ref[...], dv_ref[...] = (dk * c.scale).astype(dk_ref.dtype), dv.astype(dv_ref.dtype)  # line 18


def _call(kernel: Any, c: _Setting, grid: Any, inputs: Any, in_specs: Any, outputs: Any, out_specs: Any) -> list[Array]:
    """Run a kernel over the grid (batch, head, block); `outputs` are (shape, dtype)."""
    call = jax.custom_jvp(
        pl.pallas_call(
            partial(kernel, c),
            grid=grid,
            in_specs=list(in_specs),
            out_specs=list(out_specs),
            out_shape=[jax.ShapeDtypeStruct(*output) for output in outputs],
            interpret=c.interpret,
            compiler_params=pltriton.CompilerParams(num_warps=4, num_stages=2),
        )
    )
    call.defjvp(_no_second_derivative)
    return call(*inputs)


def _no_second_derivative(primals: Any, tangents: Any) -> NoReturn:
    """The kernels are differentiated only in a gradient: the first time `custom_vjp` stands before them."""
    raise RuntimeError("flash attention has no second derivative: use standard_attention, which has")


def _pad(x: Array, block: int, value: float = 0) -> Array:
    """Pad the sequence (axis 2) to whole blocks, and head_dim (axis 3), if there is one, to a power of two."""
    head_dim = [(0, max(16, pl.next_power_of_2(x.shape[3])) - x.shape[3])] if x.ndim == 4 else []
    return jnp.pad(x, [(0, 0), (0, 0), (0, -x.shape[2] % block), *head_dim], constant_values=value)


def _specs(c: _Setting, q: Array, k: Array) -> tuple[pl.BlockSpec, ...]:
    """For programs of one block of queries: the seed, the block, its row statistics, its keys or values, their mask."""
    group = q.shape[1] // k.shape[1]
    return (
        pl.BlockSpec((1,), lambda b, h, i: (0,)),
        pl.BlockSpec((None, None, c.block_q, q.shape[3]), lambda b, h, i: (b, h, i, 0)),
        pl.BlockSpec((None, None, c.block_q), lambda b, h, i: (b, h, i)),
        pl.BlockSpec((None, None, *k.shape[2:]), lambda b, h, i: (b, h // group, 0, 0)),
        pl.BlockSpec((None, k.shape[2]), lambda b, h, i: (b, 0)),
    )


def _attention_fwd(c: _Setting, q: Array, k: Array, v: Array, key_mask: Array, seed: Array) -> tuple[Any, Any]:
    q_, k_, v_ = _pad(q, c.block_q), _pad(k, c.block_k), _pad(v, c.block_k)
    seed_, rows, stats, keys, key_mask_ = _specs(c, q_, k_)
    grid = (*q_.shape[:2], q_.shape[2] // c.block_q)
    outputs = ((q_.shape, q.dtype), (q_.shape[:3], jnp.promote_types(q.dtype, jnp.float32)))
    specs = (seed_, rows, keys, keys, key_mask_)
    o, lse = _call(_forward_kernel, c, grid, (seed, q_, k_, v_, key_mask), specs, outputs, (rows, stats))
    o, lse = o[:, :, : c.n_q, : q.shape[3]], lse[:, :, : c.n_q]
    return (o, lse), (q, k, v, key_mask, seed, o, lse)


def _attention_bwd(c: _Setting, residuals: Any, cotangents: tuple[Array, Array]) -> tuple[Array | None, ...]:
    q, k, v, key_mask, seed, o, lse = residuals
    do, dlse = cotangents
    nothing = lse == -jnp.inf  # rows that see no key: a p of zero must not meet their NaN
    q, do = (jnp.where(nothing[..., None], 0, x).astype(x.dtype) for x in (q, do))
    # FlashAttention-2, Algorithm 2, line 4; the gradient of L adds p * dlse to ds, so it is subtracted here.
    delta = (do.astype(lse.dtype) * o.astype(lse.dtype)).sum(-1) - jnp.where(nothing, 0, dlse)
    # +inf makes p = exp(s - L) zero in padding and in rows that see no key.
    lse = _pad(jnp.where(nothing, jnp.inf, lse), c.block_q, jnp.inf)
    q_, do, delta, k_, v_ = *(_pad(x, c.block_q) for x in (q, do, delta)), _pad(k, c.block_k), _pad(v, c.block_k)
    inputs = (seed, q_, k_, v_, key_mask, do, lse, delta)
    (batch, heads, n, d), (kv_heads, n_k) = q_.shape, k_.shape[1:3]

    seed_, rows, stats, keys, key_mask_ = _specs(c, q_, k_)
    specs = (seed_, rows, keys, keys, key_mask_, rows, stats, stats)
    (dq,) = _call(_dq_kernel, c, (batch, heads, n // c.block_q), inputs, specs, [(q_.shape, q.dtype)], [rows])

    rows = pl.BlockSpec((None, heads // kv_heads, n, d), lambda b, h, j: (b, h, 0, 0))
    stats = pl.BlockSpec((None, heads // kv_heads, n), lambda b, h, j: (b, h, 0))
    keys = pl.BlockSpec((None, None, c.block_k, d), lambda b, h, j: (b, h, j, 0))
    specs = (seed_, rows, keys, keys, pl.BlockSpec((None, c.block_k), lambda b, h, j: (b, j)), rows, stats, stats)
    outputs = ((k_.shape, k.dtype), (v_.shape, v.dtype))
    dk, dv = _call(_dkv_kernel, c, (batch, kv_heads, n_k // c.block_k), inputs, specs, outputs, (keys, keys))
    return *(dx[:, :, : x.shape[2], : x.shape[3]] for dx, x in ((dq, q), (dk, k), (dv, v))), None, None


_attention: Any = jax.custom_vjp(lambda c, *inputs: _attention_fwd(c, *inputs)[0], nondiff_argnums=(0,))
_attention.defvjp(_attention_fwd, _attention_bwd)


def _checked(
    q: Any, k: Any, v: Any, mask: Any, causal: Any, scale: float | None, dropout_p: float, seed: Any
) -> tuple[Array, Array, float, Array]:
    """Validate the arguments both functions share; returns k and v with zeros where the mask hides a key (a p of zero
    times NaN would be NaN), the scale, and the seed as uint32 (1,)."""
    check_arrays(q, k, v, mask, (jax.Array, np.ndarray), _DTYPES, jnp.bool_)
    check_options(scale, dropout_p, causal=causal)
    if dropout_p > 0 and seed is None:
        raise ValueError("seed must be given where dropout_p > 0, got None: JAX has no global generator to draw it")
    if isinstance(seed, (jax.Array, np.ndarray)):
        if seed.size != 1 or not jnp.issubdtype(seed.dtype, jnp.integer):
            raise ValueError(f"seed must be one integer, got an array of {seed.dtype} of shape {tuple(seed.shape)}")
        if not isinstance(seed, Tracer):
            check_seed(seed.item())
    else:
        check_seed(seed)
    number = jnp.asarray(0 if seed is None else seed, jnp.uint32)
    if mask is not None:
        k, v = (jnp.where(mask[:, None, :, None], x, 0).astype(x.dtype) for x in (k, v))
    return k, v, q.shape[3] ** -0.5 if scale is None else float(scale), number.reshape(1)


def _poisoned(n_q: int, heads: int, k: Array, v: Array) -> tuple[Array, Array, Array]:
    """k, v with zeros for keys that hold NaN or infinity, and the rows (batch, heads, n_q, 1) that see one, if causal:
    p is zero in the future, and zero times NaN would reach rows that do not see it."""
    n_k = k.shape[2]
    poison = ~(jnp.isfinite(k).all(-1) & jnp.isfinite(v).all(-1))
    k, v = (jnp.where(poison[..., None], 0, x).astype(x.dtype) for x in (k, v))
    last = np.arange(n_k - n_q, n_k)  # the last key that each row sees
    rows = (jnp.cumsum(poison, -1) > 0)[..., last.clip(0)] & (last >= 0)
    return k, v, jnp.repeat(rows, heads // k.shape[1], axis=1)[..., None]


def flash_attention(
    q: Float[Array, "batch heads seq_q head_dim"], k: Float[Array, "batch kv_heads seq_k head_dim"],
    v: Float[Array, "batch kv_heads seq_k head_dim"], *, causal: bool = False,
    mask: Bool[Array, "batch seq_k"] | None = None, scale: float | None = None, dropout_p: float = 0.0,
    seed: int | Array | None = None, block_q: int | None = None, block_k: int | None = None,
    return_lse: bool = False, backend: str = "auto",
) -> Any:  # fmt: skip
    """Exact attention in memory linear in the sequence: softmax(scale q k^T) v, as `flash_attention.flash_attention`.

    Works under `jit`, `vmap` and `grad`, with the options static; `seed` may be traced (then modulo 2**32), and is
    needed where `dropout_p` > 0. Second derivatives are refused, and by JAX forward mode (`jvp`): `standard_attention`
    has both. `mask` is True where a key may be attended to; rows that see no key give zeros, and what is hidden has no
    influence, NaN included. `causal` aligns the last query with the last key. `scale` defaults to 1/sqrt(head_dim);
    `block_q` and `block_k` to at most 128 (64 compiled). With `return_lse`, also each row's logsumexp (batch, heads,
    seq_q), float32 (float64 for float64 inputs), -inf where no key is seen, differentiable like the output.
    `backend`: "pallas" compiles for an NVIDIA GPU, "interpret" runs the same kernels anywhere, "auto" takes the first
    where there is a GPU.

    Raises ValueError for a wrong shape, dtype or option, and RuntimeError for "pallas" without a GPU."""
    k, v, scale, seed = _checked(q, k, v, mask, causal, scale, dropout_p, seed)
    check_options(None, 0, return_lse=return_lse)
    check_backend(backend, _BACKENDS)
    block_q, block_k = check_block("block_q", block_q), check_block("block_k", block_k)
    device = jax.default_backend()
    if backend == "pallas" and device != "gpu":
        raise RuntimeError(f"backend 'pallas' needs a GPU, and JAX runs on {device}: use 'interpret'")
    interpret = backend == "interpret" or device != "gpu"
    for name, block in (("block_q", block_q), ("block_k", block_k)):
        if block is not None and not interpret and (block < 16 or block & (block - 1)):
            raise ValueError(f"{name} must be a power of two of at least 16, or None for our own, got {block}")
    n_q, n_k = q.shape[2], k.shape[2]
    most = 128 if interpret else 64
    block_q = block_q or min(most, max(16, pl.next_power_of_2(n_q)))
    block_k = block_k or min(most, max(16, pl.next_power_of_2(n_k)))
    key_mask = jnp.ones((q.shape[0], n_k), jnp.int8) if mask is None else mask.astype(jnp.int8)
    key_mask = jnp.pad(key_mask, ((0, 0), (0, -n_k % block_k)))
    c = _Setting(n_q, n_k, bool(causal), scale, float(dropout_p), block_q, block_k, interpret)
    k, v, rows = _poisoned(n_q, q.shape[1], k, v) if causal else (k, v, None)
    out, lse = _attention(c, q, k, v, key_mask, seed)
    if rows is not None:
        out, lse = jnp.where(rows, jnp.nan, out).astype(out.dtype), jnp.where(rows[..., 0], jnp.nan, lse)
    return (out, lse) if return_lse else out


def standard_attention(
    q: Float[Array, "batch heads seq_q head_dim"], k: Float[Array, "batch kv_heads seq_k head_dim"],
    v: Float[Array, "batch kv_heads seq_k head_dim"], *, causal: bool = False,
    mask: Bool[Array, "batch seq_k"] | None = None, scale: float | None = None, dropout_p: float = 0.0,
    seed: int | Array | None = None,
) -> Float[Array, "batch heads seq_q head_dim"]:  # fmt: skip
    """The paper's Algorithm 0, with its matrices of seq_q x seq_k: the reference; see `flash_attention`."""
    k, v, scale, seed = _checked(q, k, v, mask, causal, scale, dropout_p, seed)
    (batch, heads, n_q, _), n_k = q.shape, k.shape[2]
    k, v, rows = _poisoned(n_q, heads, k, v) if causal else (k, v, None)
    k, v = (jnp.repeat(x, heads // k.shape[1], axis=1) for x in (k, v))
    visible = jnp.ones((1, 1, n_q, n_k), bool) if mask is None else mask[:, None, None, :]
    if causal:
        visible = visible & jnp.tri(n_q, n_k, n_k - n_q, dtype=bool)
    some = visible.any(-1, keepdims=True)
    q = jnp.where(some, q, 0).astype(q.dtype)
    wide = jnp.promote_types(q.dtype, jnp.float32)  # a float16 score may exceed 65504 before it is scaled
    s = jnp.einsum("bhid,bhjd->bhij", q, k, precision="highest", preferred_element_type=wide) * scale
    s = jnp.where(visible, s, -jnp.inf)
    p = jnp.where(some, jax.nn.softmax(jnp.where(some, s, 0), axis=-1), 0)
    if dropout_p > 0:
        ids = jnp.arange(batch * heads * n_q, dtype=jnp.uint32).reshape(batch, heads, n_q, 1)
        p = jnp.where(_kept(ids, jnp.arange(n_k), seed[0], dropout_p), p / (1 - dropout_p), 0)
    out = jnp.einsum("bhij,bhjd->bhid", p.astype(v.dtype), v, precision="highest")
    return out if rows is None else jnp.where(rows, jnp.nan, out).astype(out.dtype)
