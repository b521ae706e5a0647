"""Eq. 3, h = W_0 x + s B A x with s = α / r: the plain formula, and the same with fewer passes over memory.

Vectors are rows here, so W_0 x is `x @ W_0.T`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils.flop_counter import register_flop_formula


def plain(
    x: Float[Tensor, "*batch k"],
    W_0: Float[Tensor, "d k"],
    b: Float[Tensor, " d"] | None,
    A: Float[Tensor, "r k"],
    B: Float[Tensor, "d r"],
    s: float,
    dropout: float = 0.0,
) -> Float[Tensor, "*batch d"]:
    """Eq. 3 as it is printed. The dropout is on the x that A sees."""
    return F.linear(x, W_0, b) + s * F.linear(F.linear(F.dropout(x, dropout, dropout > 0), A), B)


def lora_linear(
    x: Float[Tensor, "*batch k"],
    W_0: Float[Tensor, "d k"],
    b: Float[Tensor, " d"] | None,
    A: Float[Tensor, "r k"],
    B: Float[Tensor, "d r"],
    s: float,
    dropout: float = 0.0,
) -> Float[Tensor, "*batch d"]:
    """`plain`, by `Fused` where that holds: W_0 and b frozen, one dtype, no autocast, torch.func, duals or dropout."""
    frozen = not W_0.requires_grad and (b is None or not b.requires_grad)
    one_dtype = x.dtype == W_0.dtype == A.dtype and not torch.is_autocast_enabled(x.device.type)
    transformed = torch._C._are_functorch_transforms_active()  # pyright: ignore[reportPrivateUsage]  (no public name)
    transformed = transformed or forward_ad._current_level >= 0  # pyright: ignore[reportPrivateUsage]  (likewise)
    if dropout or transformed or not frozen or not one_dtype:
        return plain(x, W_0, b, A, B, s, dropout)
    return Fused.apply(x, W_0, b, A, B, s)


if not hasattr(torch._C, "_are_functorch_transforms_active") or not hasattr(forward_ad, "_current_level"):  # pyright: ignore[reportPrivateUsage]  (as above)
    # nothing says then where `Fused` does not hold
    lora_linear = plain


class Fused(torch.autograd.Function):
    """`plain` for frozen W_0 and b, without its temporaries, and with its backward pass written out.

    Let u = s A x and g = s Bᵀ dh, of r numbers a token, where the scale costs next to nothing. Then

        h  = W_0 x + B u         added in place: no B u of its own, no scaled copy of it, no sum
        dx = W_0ᵀ dh + Aᵀ g      likewise
        dA = g xᵀ,  dB = dh uᵀ   summed over the tokens

    Kept for the backward pass are x and u alone. u and g lie as (r, tokens), because matrix libraries are about twice
    as fast at a product of few rows as at one of few columns.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Float[Tensor, "*batch k"],
        W_0: Float[Tensor, "d k"],
        b: Float[Tensor, " d"] | None,
        A: Float[Tensor, "r k"],
        B: Float[Tensor, "d r"],
        s: float,
    ) -> Float[Tensor, "*batch d"]:
        rows = x.reshape(-1, W_0.shape[1])
        h = rows @ W_0.T if b is None else torch.addmm(b, rows, W_0.T)
        u = (A @ rows.T).mul_(s)
        h.addmm_(u.T, B.T)
        ctx.save_for_backward(x, W_0.detach(), A, B, u)  # not the Parameter: merging gives that another tensor
        ctx.s = s
        return h.view(*x.shape[:-1], W_0.shape[0])

    @staticmethod
    def backward(ctx: Any, dh: Float[Tensor, "*batch d"]) -> tuple[Tensor | None, ...]:
        x, W_0, A, B, u = ctx.saved_tensors
        if torch.is_autocast_enabled(x.device.type):  # of the backward pass: there was none in the forward one
            with torch.autocast(x.device.type, enabled=False):
                return Fused.backward(ctx, dh)
        needs_x, _, _, needs_A, needs_B, _ = ctx.needs_input_grad
        rows, dh = x.reshape(-1, W_0.shape[1]), dh.reshape(-1, W_0.shape[0])
        if torch.is_grad_enabled():  # for a second derivative u has to be what it was made from
            u = ctx.s * (A @ rows.T)
        dx = dA = dB = None
        if needs_x or needs_A:
            g = (B.T.contiguous() @ dh.T).mul_(ctx.s)
            if needs_x:
                dx = _product(dh, W_0).addmm_(g.T, A).view(x.shape)
            if needs_A:
                dA = g @ rows
        if needs_B:
            dB = (u @ dh).T
        return dx, None, None, dA, dB, None


_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _product(dh: Float[Tensor, "tokens d"], W_0: Float[Tensor, "d k"]) -> Float[Tensor, "tokens k"]:
    """dh @ W_0, half of what training spends on a frozen layer.

    torch gives a product in float32 to MKL, which takes about twice as long on AMD's processors as oneDNN, the other
    library that torch has. The forward pass stays with MKL, so that h has the very bits of W_0 x while B is zero.
    The operator that reaches oneDNN is private to torch: where torch has it no more, all products are MKL's.
    """
    fits = _ONEDNN and torch.backends.mkldnn.enabled and dh.device.type == "cpu" and dh.dtype == torch.float32
    if not fits or torch.is_grad_enabled():
        return dh @ W_0
    return torch.ops.mkldnn._linear_pointwise(dh, W_0.T, None, "none", [], "")


if _ONEDNN:  # torch's counter of operations does not know this one

    @register_flop_formula(torch.ops.mkldnn._linear_pointwise)
    def _flops(x: Sequence[int], W: Sequence[int], *_: Any, **__: Any) -> int:  # pyright: ignore[reportUnusedFunction]
        return 2 * x[0] * x[1] * W[0]
