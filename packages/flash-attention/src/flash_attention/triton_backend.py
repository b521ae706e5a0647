"""FlashAttention on NVIDIA GPUs: launches the kernels of `triton_kernels`, and gives them to autograd."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
import triton
from jaxtyping import Bool, Float
from torch import Tensor

from flash_attention.derivatives import Function, Gradients, no_forward_mode
from flash_attention.triton_configs import launch_config
from flash_attention.triton_kernels import _backward_kv, _backward_q, _forward, _preprocess

INTERPRETED: bool = triton.knobs.runtime.interpret  # TRITON_INTERPRET=1: the kernels run in NumPy, on any tensor
_DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def supports(q: Tensor) -> bool:
    """Whether the kernels take q's dtype (float16, bfloat16, float32) and head_dim (at most 256)."""
    return q.dtype in _DTYPES and q.shape[-1] <= 256


def _int32(x: int) -> int:
    """The low 32 bits of x as a signed integer: a kernel argument whose type does not depend on its value."""
    return (x + 2**31) % 2**32 - 2**31


class _Attention(Function):
    """(out, lse) of q, k, v, a mask and the options."""

    @staticmethod
    def forward(
        q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float, dropout_p: float,
        seed: int, block_q: int | None, block_k: int | None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        q, k, v = (_rows(x) for x in (q, k, v))
        out = torch.empty_like(q, memory_format=torch.contiguous_format)
        lse = torch.empty(q.shape[:3], dtype=torch.float32, device=q.device)
        shared, constants = _arguments(q, k, causal, scale, dropout_p, seed)
        plain = dropout_p == 0 and mask is None and q.shape[3] in (64, 128, 256)
        config = launch_config("forward", q, block_q, block_k, plain)
        _forward[(lse.shape[0] * lse.shape[1] * triton.cdiv(q.shape[2], config["BLOCK_Q"]),)](
            q, k, v, mask, out, lse, q.stride(), k.stride(), v.stride(), out.stride(), *shared, **constants, **config
        )
        return out, lse

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*inputs[:4], *output)
        ctx.options = inputs[4:]

    @staticmethod
    def backward(ctx: Any, do: Tensor, dlse: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mask, out, lse = ctx.saved_tensors
        gradients = Gradients.apply(partial(_gradients, ctx.options), q, k, v, mask, do, dlse, out, lse)
        return *gradients, *[None] * 7


class _Eager(_Attention):
    """The same with a sentence of ours for forward mode, which torch.compile does not take in a function."""

    jvp = staticmethod(no_forward_mode)


def _rows(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def _arguments(
    q: Tensor, k: Tensor, causal: bool, scale: float, dropout_p: float, seed: int
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What all kernels but _preprocess are given: arguments and constants."""
    shared = (q.shape[1], q.shape[1] // k.shape[1], q.shape[2], k.shape[2], scale * math.log2(math.e))
    shared += (_int32(seed), _int32(math.floor(dropout_p * 2**32)), 1 / (1 - dropout_p))
    return shared, {"D": q.shape[3], "CAUSAL": causal, "DROPOUT": dropout_p > 0}


def _gradients(
    options: tuple[Any, ...], q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, do: Tensor, dlse: Tensor,
    out: Tensor, lse: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """FlashAttention-2, Algorithm 2. The gradient of lse adds P * dlse to dS, so it is subtracted from Delta."""
    *shared, block_q, block_k = options
    if mask is not None or (shared[0] and q.shape[2] > k.shape[2]):  # rows that may see no key: zero times NaN is NaN
        nothing = (lse == -math.inf)[..., None]
        q, do = q.masked_fill(nothing, 0), do.masked_fill(nothing, 0)
        dlse = dlse.masked_fill(nothing[..., 0], 0)
    q, k, v, do = (_rows(x) for x in (q, k, v, do))
    shared, constants = _arguments(q, k, *shared)
    batch, heads, n_q, head_dim = q.shape
    dq, dk, dv = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
    config_q, config_kv = (launch_config(name, q, block_q, block_k) for name in ("backward_q", "backward_kv"))
    padded = triton.cdiv(n_q, config_q["BLOCK_Q"]) * config_q["BLOCK_Q"]  # at least config_kv's
    lse2, delta = lse.new_empty((2, batch, heads, padded))
    _preprocess[(batch * heads * padded // config_kv["BLOCK_Q"],)](
        out, do, lse, lse2, delta, out.stride(), do.stride(), heads, n_q, padded,
        D=head_dim, BLOCK_Q=config_kv["BLOCK_Q"], BLOCK_D=config_kv["BLOCK_D"],
    )  # fmt: skip
    delta[..., :n_q] -= dlse
    inputs = (q, k, v, mask, do, lse2, delta)
    strides = (q.stride(), k.stride(), v.stride(), do.stride())
    _backward_q[(batch * heads * triton.cdiv(n_q, config_q["BLOCK_Q"]),)](
        *inputs, dq, *strides, dq.stride(), padded, *shared, **constants, **config_q
    )
    constants = {**constants, "RAGGED": n_q % config_kv["BLOCK_Q"] != 0}
    _backward_kv[(batch * k.shape[1] * triton.cdiv(k.shape[2], config_kv["BLOCK_K"]),)](
        *inputs, dk, dv, *strides, dk.stride(), dv.stride(), padded, *shared, **constants, **config_kv
    )
    return dq, dk, dv


def attention(
    q: Float[Tensor, "batch heads seq_q head_dim"], k: Float[Tensor, "batch kv_heads seq_k head_dim"],
    v: Float[Tensor, "batch kv_heads seq_k head_dim"], mask: Bool[Tensor, "batch seq_k"] | None, *, causal: bool,
    scale: float, dropout_p: float, seed: int, block_q: int | None, block_k: int | None,
) -> tuple[Float[Tensor, "batch heads seq_q head_dim"], Float[Tensor, "batch heads seq_q"]]:  # fmt: skip
    """Attention of validated inputs and its logsumexp (float32): see `flash_attention`.

    Raises ValueError for a dtype or head_dim that the kernels do not take (see `supports`), and for blocks that are no
    power of two of at least 16: the sizes that the tensor cores take."""
    if q.dtype not in _DTYPES:
        raise ValueError(f"q.dtype is {q.dtype}: the triton backend takes float16, bfloat16 or float32")
    if q.shape[-1] > 256:
        raise ValueError(f"head_dim is {q.shape[-1]}: the triton backend takes at most 256")
    for name, block in (("block_q", block_q), ("block_k", block_k)):
        if block is not None and (block < 16 or block & (block - 1)):
            raise ValueError(f"{name} is {block}: the triton backend takes powers of two from 16 on")
    if scale <= 0:  # the kernels take the maximum of the scores before they scale them: move the sign into q
        q, scale = q * float(scale < 0) * -1, -scale or 1.0
    if mask is not None:
        mask = mask.contiguous().view(torch.uint8)
    function = _Attention if torch.compiler.is_compiling() else _Eager
    with torch.cuda.device_of(q):
        return function.apply(q, k, v, mask, causal, scale, dropout_p, seed, block_q, block_k)
