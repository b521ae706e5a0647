"""Section 3.3, Eq. 17 to 19: linear attention with rotary, which needs O(N) time and memory."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rope.arguments import check_flags, check_heads, check_mask
from rope.rotary import DTYPES, apply_rope

_CHUNK = 64


def linear_rope_attention(
    q: Float[Tensor, "*batch seq d"],
    k: Float[Tensor, "*batch seq d"],
    v: Float[Tensor, "*batch seq d_v"],
    positions: Int[Tensor, "*#batch seq"] | int | None = None,
    *,
    causal: bool = False,
    mask: Bool[Tensor, "batch seq"] | None = None,
    rotary: bool = True,
    quadratic: bool = False,
    base: float = 10000.0,
    interleaved: bool = True,
) -> Float[Tensor, "*batch seq d_v"]:
    """Σ_n (R_m φ(q_m))·(R_n φ(k_n)) v_n / Σ_n φ(q_m)·φ(k_n), with φ(x) = elu(x) + 1 (Eq. 18, 19).

    The denominator is not rotated, so that it stays positive. Weights may be negative and do not sum to 1.

    positions, base, interleaved: as for `apply_rope`
    causal: n ≤ m, by prefix sums over chunks of 64 positions
    mask: True at the keys that are attended to, for the first axis of q as the batch; a query without any gives zeros
    rotary: False for Eq. 18, without positions
    quadratic: form all N × N weights; the same result, as a check

    Computed in float32 at least, and returned in q's dtype.

    Raises ValueError for arguments of other shapes or dtypes, and for q and k of different lengths.
    """
    check_heads(q, k, v, (Tensor,), DTYPES)
    check_flags(causal=causal, rotary=rotary, quadratic=quadratic)
    if q.shape[-2] != k.shape[-2]:
        raise ValueError(f"k must have q's length {q.shape[-2]}, got {k.shape[-2]}")
    dtype = q.dtype
    q, k, v = (x.to(torch.promote_types(dtype, torch.float32)) for x in (q, k, v))
    f, g = F.elu(q) + 1, F.elu(k) + 1
    if mask is not None:
        if q.ndim < 3:
            raise ValueError(f"mask must be None for a q without a batch, got q of shape {tuple(q.shape)}")
        check_mask(mask, q.shape[0], k.shape[-2], (Tensor,), torch.bool)
        hidden = ~mask.view(mask.shape[0], *[1] * (q.ndim - 3), -1, 1)
        g, v = g.masked_fill(hidden, 0), v.masked_fill(hidden, 0)
    f_m, g_n = (apply_rope(x, positions, base=base, interleaved=interleaved) if rotary else x for x in (f, g))
    if quadratic:
        weights, plain = f_m @ g_n.mT, f @ g.mT
        if causal:
            weights, plain = weights.tril(), plain.tril()
        numerator, denominator = weights @ v, plain.sum(-1, keepdim=True)
    elif causal:
        numerator, denominator = _prefix_sums(f_m, g_n, v), (f * g.cumsum(-2)).sum(-1, keepdim=True)
    else:
        numerator, denominator = f_m @ (g_n.mT @ v), f @ g.sum(-2, keepdim=True).mT
    empty = denominator == 0
    return (numerator / denominator.masked_fill(empty, 1)).masked_fill(empty, 0).to(dtype)


def _prefix_sums(f: Tensor, g: Tensor, v: Tensor) -> Tensor:
    """Σ_{n ≤ m} (f_m · g_n) v_n: from Σ g_n v_nᵀ over the chunks before, and the weights within the own chunk."""
    n = f.shape[-2]
    f, g, v = (F.pad(x, (0, 0, 0, -n % _CHUNK)).unflatten(-2, (-1, _CHUNK)) for x in (f, g, v))
    sums = g.mT @ v
    before = sums.cumsum(-3) - sums
    return (f @ before + (f @ g.mT).tril() @ v).flatten(-3, -2)[..., :n, :]
