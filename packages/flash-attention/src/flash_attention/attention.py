"""The two functions with one signature: flash attention, which dispatches to a backend, and standard attention."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, overload

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flash_attention import torch_backend
from flash_attention.arguments import check_arrays, check_backend, check_block, check_options, check_seed
from flash_attention.dropout import kept

BACKENDS = ("auto", "torch", "triton")
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Options:
    """What every attention is told beside its tensors, validated."""

    causal: bool
    scale: float
    dropout_p: float
    seed: int


def check(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float | None, dropout_p: float,
    seed: int | None,
) -> Options:  # fmt: skip
    """Raise ValueError for what no attention takes; the message has the argument, its value and what is accepted."""
    check_arrays(q, k, v, mask, (Tensor,), DTYPES, torch.bool)
    for name, x in (("k", k), ("v", v), ("mask", mask)):
        if x is not None and x.device != q.device:
            raise ValueError(f"{name} must be on q's device {q.device}, got {x.device}")
    check_options(scale, dropout_p, causal=causal)
    check_seed(seed)
    if seed is None:
        seed = int(torch.randint(2**32, ())) if dropout_p > 0 else 0
    factor = q.shape[3] ** -0.5 if scale is None else float(scale)
    return Options(bool(causal), factor, float(dropout_p), int(seed))


def as_autocast_says(*tensors: Any) -> Any:
    """q, k and v in autocast's dtype where it is on, as torch's own attention has them: it leaves float64 alone."""
    if not all(isinstance(x, Tensor) for x in tensors):
        return tensors  # for `check` to name
    device = tensors[0].device.type
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return tuple(x.to(dtype) if x.is_floating_point() and x.dtype != torch.float64 else x for x in tensors)


def without_hidden(k: Tensor, v: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """k and v with zeros for the keys that the mask hides: a P of zero times NaN or infinity would be NaN."""
    if mask is None:
        return k, v
    hidden = ~mask[:, None, :, None]
    return k.masked_fill(hidden, 0), v.masked_fill(hidden, 0)


@overload
def flash_attention(
    q: Tensor, k: Tensor, v: Tensor, *, causal: bool = ..., mask: Tensor | None = ..., scale: float | None = ...,
    dropout_p: float = ..., seed: int | None = ..., block_q: int | None = ..., block_k: int | None = ...,
    return_lse: Literal[False] = ..., backend: str = ...,
) -> Tensor: ...  # fmt: skip
@overload
def flash_attention(
    q: Tensor, k: Tensor, v: Tensor, *, causal: bool = ..., mask: Tensor | None = ..., scale: float | None = ...,
    dropout_p: float = ..., seed: int | None = ..., block_q: int | None = ..., block_k: int | None = ...,
    return_lse: Literal[True], backend: str = ...,
) -> tuple[Tensor, Tensor]: ...  # fmt: skip
def flash_attention(
    q: Float[Tensor, "batch heads seq_q head_dim"],
    k: Float[Tensor, "batch kv_heads seq_k head_dim"],
    v: Float[Tensor, "batch kv_heads seq_k head_dim"],
    *,
    causal: bool = False,
    mask: Bool[Tensor, "batch seq_k"] | None = None,
    scale: float | None = None,
    dropout_p: float = 0.0,
    seed: int | None = None,
    block_q: int | None = None,
    block_k: int | None = None,
    return_lse: bool = False,
    backend: str = "auto",
) -> (
    Float[Tensor, "batch heads seq_q head_dim"]
    | tuple[Float[Tensor, "batch heads seq_q head_dim"], Float[Tensor, "batch heads seq_q"]]
):
    """Exact attention, softmax(scale q kᵀ) v, in memory linear in the sequence (Dao et al. 2022, Algorithms 1, 2, 4).

    Differentiable once in q, k and v, by backward and torch.func.grad; torch.vmap is a loop. The gradients recompute
    the probabilities block by block. Second and forward-mode derivatives are refused: `standard_attention` has them.

    Under autocast q, k and v are cast to its dtype, as torch's own attention does. NaN and infinity in a key or value
    that a query does not see have no influence on it (on the torch backend for causal; both backends for `mask`).

    q, k, v: float16, bfloat16, float32 or float64. kv_heads divides heads: each group of heads / kv_heads query heads
        shares a key head. The lengths seq_q and seq_k are any.
    causal: query i sees key j where j <= i + seq_k - seq_q, so the last query sees the last key.
    mask: True where a key may be attended to (key padding). A query that sees no key gets zeros.
    scale: of the scores; None for 1/sqrt(head_dim).
    dropout_p: probability with which an entry of the softmax is dropped; seed: which ones (an integer below 2**32, the
        same entries in every backend and in `standard_attention`), None to draw it from torch's default generator.
    block_q, block_k: rows of q and of k in a block; None for what suits the backend.
    return_lse: also return log(sum(exp(scores))) of each row, -inf where no key is seen; float32 (float64 for float64
        inputs), differentiable like the output.
    backend: "torch" (any device), "triton" (CUDA; not for float64), "auto" for triton where it can run.

    Raises ValueError for an argument that is not accepted, RuntimeError for a backend that this machine lacks.
    """
    q, k, v = as_autocast_says(q, k, v)
    options = check(q, k, v, mask, causal, scale, dropout_p, seed)
    block_q, block_k = check_block("block_q", block_q), check_block("block_k", block_k)
    check_options(None, 0, return_lse=return_lse)
    check_backend(backend, BACKENDS)
    k, v = without_hidden(k, v, mask)
    run = torch_backend.attention
    if backend == "triton" or (backend == "auto" and q.is_cuda):
        triton = _triton(q, required=backend == "triton")
        run = triton or run
    out, lse = run(q, k, v, mask, **vars(options), block_q=block_q, block_k=block_k)
    return (out, lse) if return_lse else out


def _triton(q: Tensor, required: bool) -> Callable[..., tuple[Tensor, Tensor]] | None:
    """The triton backend's function; None where it cannot take q and is not required."""
    try:
        from flash_attention import triton_backend
    except ModuleNotFoundError as missing:
        if not required:
            return None
        raise RuntimeError(f"backend 'triton' needs {missing.name}, which is not installed: use 'torch'") from missing
    if required and not q.is_cuda and not triton_backend.INTERPRETED:
        raise RuntimeError(f"backend 'triton' needs tensors on a CUDA device, and q is on {q.device}: use 'torch'")
    return triton_backend.attention if required or triton_backend.supports(q) else None


def standard_attention(
    q: Float[Tensor, "batch heads seq_q head_dim"],
    k: Float[Tensor, "batch kv_heads seq_k head_dim"],
    v: Float[Tensor, "batch kv_heads seq_k head_dim"],
    *,
    causal: bool = False,
    mask: Bool[Tensor, "batch seq_k"] | None = None,
    scale: float | None = None,
    dropout_p: float = 0.0,
    seed: int | None = None,
) -> Float[Tensor, "batch heads seq_q head_dim"]:
    """The paper's Algorithm 0, with its matrices S and P of seq_q x seq_k: the reference; see `flash_attention`."""
    q, k, v = as_autocast_says(q, k, v)
    options = check(q, k, v, mask, causal, scale, dropout_p, seed)
    k, v = without_hidden(k, v, mask)
    (batch, heads, n_q, _), n_k = q.shape, k.shape[2]
    if k.shape[1] != heads:
        k, v = (x.repeat_interleave(heads // k.shape[1], 1) for x in (k, v))
    hidden, nothing, poisoned = None, None, None  # entries not seen; rows that see nothing; rows that see a NaN
    if causal:
        hidden = torch.ones(n_q, n_k, dtype=torch.bool, device=q.device).triu(n_k - n_q + 1)
        poison = ~(k.isfinite().all(-1) & v.isfinite().all(-1))  # zero times NaN must not reach rows before that key
        k, v = (x.masked_fill(poison[..., None], 0) for x in (k, v))
        last = torch.arange(n_k - n_q, n_k, device=q.device)  # the last key that each row sees
        poisoned = (poison.cumsum(-1) > 0)[..., last.clamp(min=0)] & (last >= 0)
    if mask is not None:
        hidden = ~mask[:, None, None] if hidden is None else hidden | ~mask[:, None, None]
    if hidden is not None and (mask is not None or n_q > n_k):
        nothing = hidden.all(-1, keepdim=True)
        q = q.masked_fill(nothing, 0)
    if q.dtype == torch.float16 and abs(options.scale) < 1:
        scores = q * options.scale @ k.mT  # the product alone may exceed 65504 where the scaled score does not
    else:
        scores = q @ k.mT * options.scale  # S, line 1
    if hidden is not None:
        scores = scores.masked_fill(hidden, -math.inf)
        if nothing is not None:
            scores = scores.masked_fill(nothing, 0)  # a softmax of -inf alone would be NaN
    probabilities = scores.softmax(-1)  # P, line 2
    if nothing is not None:
        probabilities = probabilities.masked_fill(nothing, 0)
    if dropout_p > 0:
        rows = torch.arange(batch * heads * n_q, device=q.device).view(batch, heads, n_q, 1)
        keep = kept(rows, torch.arange(n_k, device=q.device), options.seed, dropout_p)
        probabilities = probabilities * keep / (1 - dropout_p)
    out = probabilities @ v  # line 3
    return out if poisoned is None else out.masked_fill(poisoned[..., None], math.nan)
