"""Eq. 3, h = W_0 x + s B A x with s = α / r: the plain formula, and the same with fewer passes over memory.

Vectors are rows here, so W_0 x is `x @ W_0.T`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable


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
    """`plain`, by `Fused` where that holds: W_0 and b frozen, one dtype, no autocast, no dropout."""
    frozen = not W_0.requires_grad and (b is None or not b.requires_grad)
    one_dtype = x.dtype == W_0.dtype == A.dtype and not torch.is_autocast_enabled(x.device.type)
    if frozen and one_dtype and not dropout:
        return Fused.apply(x, W_0, b, A, B, s)[0]
    return plain(x, W_0, b, A, B, s, dropout)


class Fused(torch.autograd.Function):
    """`plain` for frozen W_0 and b, without its temporaries, and with its backward pass written out. It can be
    differentiated once; a second time raises RuntimeError.

    Let u = s A x and g = s Bᵀ dh, of r numbers a token, where the scale costs next to nothing. Then

        h  = W_0 x + B u         added in place: no B u of its own, no scaled copy of it, no sum
        dx = W_0ᵀ dh + Aᵀ g      likewise
        dB = dh uᵀ,  dA = g xᵀ   summed over the tokens

    Kept for the backward pass are x and u alone. u and g lie as (r, tokens), because matrix libraries are about twice
    as fast at a product of few rows as at one of few columns.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Float[Tensor, "*batch k"],
        W_0: Float[Tensor, "d k"],
        b: Float[Tensor, " d"] | None,
        A: Float[Tensor, "r k"],
        B: Float[Tensor, "d r"],
        s: float,
    ) -> tuple[Float[Tensor, "*batch d"], Float[Tensor, "r tokens"]]:
        h = F.linear(x, W_0, b)
        u = (A @ x.reshape(-1, x.shape[-1]).T).mul_(s)
        h.view(-1, h.shape[-1]).addmm_(u.T, B.T)
        return h, u

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, W_0, _, A, B, ctx.s = inputs
        _, u = output
        ctx.mark_non_differentiable(u)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, W_0, A, B, u)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh: Float[Tensor, "*batch d"] | None, _: None) -> tuple[Tensor | None, ...]:
        if dh is None:
            return (None,) * 6
        x, W_0, A, B, u = ctx.saved_tensors
        needs_x, _, _, needs_A, needs_B, _ = ctx.needs_input_grad
        dh = dh.reshape(-1, dh.shape[-1])
        dx = dA = dB = None
        if needs_B:
            dB = (u @ dh).T
        if needs_x or needs_A:
            g = (B.T.contiguous() @ dh.T).mul_(ctx.s)
            if needs_A:
                dA = g @ x.reshape(-1, x.shape[-1])
            if needs_x:
                dx = (dh @ W_0).addmm_(g.T, A).view(x.shape)
        return dx, None, None, dA, dB, None
