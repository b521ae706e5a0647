"""ALiBi (Press, Smith and Lewis, 2021): a penalty on each score that grows with the distance, in place of positions."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from rope.arguments import check_flags, check_heads, check_integer, check_mask

_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def alibi_slopes(n_heads: int) -> Float[Tensor, " heads"]:
    """2^(−8/n), 2^(−16/n), …, 2^(−8) for n = n_heads (Section 3), in float64 on the CPU.

    Where n is no power of 2, the authors' code takes the slopes of the power below, and then every other slope of twice
    that power: they do not fall from head to head.

    Raises ValueError for what is no integer of at least 1.
    """
    check_integer("n_heads", n_heads)
    power = 2 ** (int(n_heads).bit_length() - 1)

    def geometric(n: int) -> Tensor:
        return 2.0 ** (-8.0 * torch.arange(1, n + 1, dtype=torch.float64, device="cpu") / n)

    return torch.cat([geometric(power), geometric(2 * power)[::2][: n_heads - power]])


def alibi_bias(
    n_heads: int, seq_q: int, seq_k: int | None = None, *, causal: bool = True, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "heads seq_q seq_k"]:
    """What is added to the scores q·k/√d (the factor is not on it): −slope · distance.

    The last query stands at the last key, as after a cache. causal: −∞ at later keys; else the distance to both sides.

    Raises ValueError for sizes below 1, more queries than keys, and a dtype that is no float.
    """
    slopes = alibi_slopes(n_heads)
    seq_k = seq_q if seq_k is None else seq_k
    check_integer("seq_q", seq_q)
    check_integer("seq_k", seq_k)
    check_flags(causal=causal)
    if dtype not in _DTYPES:
        raise ValueError(f"dtype must be float32, float64, bfloat16 or float16, got {dtype}")
    if seq_q > seq_k:
        raise ValueError(f"seq_q must be at most seq_k {seq_k}, got {seq_q}")
    keys = torch.arange(seq_k, device="cpu")
    distance = keys[seq_k - seq_q :, None] - keys
    bias = -slopes[:, None, None] * distance.abs()
    return (bias.masked_fill(distance < 0, -math.inf) if causal else bias).to(dtype)


def alibi_attention(
    q: Float[Tensor, "batch heads seq_q d"],
    k: Float[Tensor, "batch heads seq_k d"],
    v: Float[Tensor, "batch heads seq_k d_v"],
    mask: Bool[Tensor, "batch seq_k"] | None = None,
    *,
    causal: bool = True,
) -> Float[Tensor, "batch heads seq_q d_v"]:
    """softmax(qkᵀ/√d + slope · [−(i−1), …, −1, 0]) v (Section 3), by torch's fused kernel.

    mask: True at the keys that are attended to; a query that sees none gives zeros. Distances count all keys.
    Causal attention without a mask holds nothing of size seq_q × seq_k where seq_q is seq_k or 1: a row of scores may
    be shifted, so the penalty becomes slope · key index, which rides on the product of queries and keys as a few more
    coordinates. With a mask, the mask alone has that size, without heads. Attention to both sides needs the biases.

    In float32 a score of head h is off by up to slope · seq_k · 6e-8; half precision has the same penalty.

    Raises ValueError for arguments of other shapes or dtypes, and for more queries than keys.
    """
    check_heads(q, k, v, (Tensor,), _DTYPES)
    check_flags(causal=causal)
    if q.ndim != 4:
        raise ValueError(f"q must have shape (batch, heads, seq, d), got {tuple(q.shape)}")
    (batch, heads, seq_q, d), seq_k = q.shape, k.shape[2]
    if seq_q > seq_k:
        raise ValueError(f"q must be at most as long as k, {seq_k}, got {seq_q}")
    if mask is not None:
        check_mask(mask, batch, seq_k, (Tensor,), torch.bool)
        k, v = (x.masked_fill(~mask[:, None, :, None], 0) for x in (k, v))
    if not causal:
        bias = alibi_bias(heads, seq_q, seq_k, causal=False, dtype=q.dtype).to(q.device)
        if mask is not None:
            bias = bias.masked_fill(~mask[:, None, None], -math.inf)
        return _seen(F.scaled_dot_product_attention(q, k, v, bias), mask, None)
    q, k, width = *_with_penalty(q, k), v.shape[-1]
    if q.shape[-1] > width:  # the fused kernels want one size for all three
        v = F.pad(v, (0, q.shape[-1] - width))
    square = seq_q == seq_k
    visible = None
    if mask is not None or not (square or seq_q == 1):
        rows = torch.arange(seq_k - seq_q, seq_k, device=q.device)
        visible = (torch.arange(seq_k, device=q.device) <= rows[:, None])[None, None]
        visible = visible if mask is None else visible & mask[:, None, None]
    is_causal = visible is None and square
    out = F.scaled_dot_product_attention(q, k, v, visible, is_causal=is_causal, scale=1 / math.sqrt(d))[..., :width]
    return _seen(out, mask, visible)


def _with_penalty(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """q and k with more coordinates whose product is slope · √d · key index.

    The index in digits to base 256, and the slope for each digit in two parts: half precision holds them exactly, or
    to 16 bits.
    """
    heads, d, seq_k = q.shape[1], q.shape[-1], k.shape[2]
    half = q.dtype in (torch.bfloat16, torch.float16)
    slopes = (alibi_slopes(heads) * math.sqrt(d)).to(q.device)
    index = torch.arange(seq_k, device=k.device)
    on_q: list[Any] = []
    on_k: list[Any] = []
    for weight in [256**i for i in range(max(1, math.ceil(math.log(seq_k, 256))))] if half else [1]:
        digit = (index // weight % 256 if half else index).to(k.dtype)
        first = (slopes * weight).to(q.dtype)
        on_q += [first, (slopes * weight - first.double()).to(q.dtype)] if half else [first]
        on_k += [digit] * (2 if half else 1)
    padding = -(d + len(on_q)) % 8
    q_more = F.pad(torch.stack(on_q, -1)[None, :, None], (0, padding)).expand(*q.shape[:3], -1)
    k_more = F.pad(torch.stack(on_k, -1)[None, None], (0, padding)).expand(*k.shape[:3], -1)
    return torch.cat([q, q_more], -1), torch.cat([k, k_more], -1)


def _seen(out: Tensor, mask: Tensor | None, visible: Tensor | None) -> Tensor:
    """Zeros for the queries that see no key."""
    if mask is None:
        return out
    seen = mask.any(-1)[:, None, None, None] if visible is None else visible.any(-1, keepdim=True)
    return out.masked_fill(~seen, 0)
