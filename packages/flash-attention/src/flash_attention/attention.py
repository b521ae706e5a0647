"""The two functions with one signature: flash attention, which dispatches to a backend, and standard attention."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, overload

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flash_attention import torch_backend
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
    for name, x in (("q", q), ("k", k), ("v", v)):
        if x.ndim != 4:
            raise ValueError(f"{name} must have shape (batch, heads, seq, head_dim), got {tuple(x.shape)}")
        if 0 in x.shape:
            raise ValueError(f"{name} must not be empty, got shape {tuple(x.shape)}")
        if x.dtype not in DTYPES:
            raise ValueError(f"{name} must have dtype {', '.join(map(_name, DTYPES))}, got {_name(x.dtype)}")
        if x.dtype != q.dtype:
            raise ValueError(f"{name} must have q's dtype {_name(q.dtype)}, got {_name(x.dtype)}")
        if x.device != q.device:
            raise ValueError(f"{name} must be on q's device {q.device}, got {x.device}")
    batch, heads, _, head_dim = q.shape
    if k.shape[0] != batch:
        raise ValueError(f"k must have q's batch size {batch}, got {k.shape[0]}")
    if k.shape[3] != head_dim:
        raise ValueError(f"k must have q's head_dim {head_dim}, got {k.shape[3]}")
    if v.shape != k.shape:
        raise ValueError(f"v must have k's shape {tuple(k.shape)}, got {tuple(v.shape)}")
    if heads % k.shape[1]:
        raise ValueError(f"k must have a number of heads that divides q's {heads}, got {k.shape[1]}")
    if mask is not None:
        wanted = (batch, k.shape[2])
        if mask.dtype != torch.bool or mask.shape != wanted:
            got = f"{_name(mask.dtype)} of shape {tuple(mask.shape)}"
            raise ValueError(f"mask must be bool of shape (batch, seq_k) = {wanted}, True where attended to, got {got}")
        if mask.device != q.device:
            raise ValueError(f"mask must be on q's device {q.device}, got {mask.device}")
    if scale is not None and not math.isfinite(scale):
        raise ValueError(f"scale must be a finite number, or None for 1/sqrt(head_dim), got {scale}")
    if not 0 <= dropout_p < 1:
        raise ValueError(f"dropout_p must be in [0, 1), got {dropout_p}")
    if seed is not None and not 0 <= seed < 2**32:
        raise ValueError(f"seed must be in [0, 2**32), or None to draw one, got {seed}")
    if seed is None:
        seed = int(torch.randint(2**32, ())) if dropout_p > 0 else 0
    return Options(causal, head_dim**-0.5 if scale is None else float(scale), float(dropout_p), seed)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def check_blocks(**blocks: int | None) -> None:
    for name, size in blocks.items():
        if size is not None and size < 1:
            raise ValueError(f"{name} must be at least 1, or None for the backend's own, got {size}")


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

    Differentiable once in q, k and v; the gradients recompute the probabilities block by block.

    q, k, v: float16, bfloat16, float32 or float64. kv_heads divides heads: each group of heads / kv_heads query heads
        shares a key head. The lengths seq_q and seq_k are any.
    causal: query i sees key j where j <= i + seq_k - seq_q, so the last query sees the last key.
    mask: True where a key may be attended to (key padding). A query that sees no key gets zeros.
    scale: of the scores; None for 1/sqrt(head_dim).
    dropout_p: probability with which an entry of the softmax is dropped; seed: which ones (an integer below 2**32, the
        same entries in every backend and in `standard_attention`), None to draw it from torch's default generator.
    block_q, block_k: rows of q and of k in a block; None for what suits the backend.
    return_lse: also return log(sum(exp(scores))) of each row, -inf where no key is seen; float32 (float64 for float64
        inputs), not differentiable.
    backend: "torch" (any device), "triton" (CUDA; not for float64), "auto" for triton where it can run.

    Raises ValueError for an argument that is not accepted, RuntimeError for a backend that this machine lacks.
    """
    options = check(q, k, v, mask, causal, scale, dropout_p, seed)
    check_blocks(block_q=block_q, block_k=block_k)
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
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
    options = check(q, k, v, mask, causal, scale, dropout_p, seed)
    (batch, heads, n_q, _), n_k = q.shape, k.shape[2]
    if k.shape[1] != heads:
        k, v = (x.repeat_interleave(heads // k.shape[1], 1) for x in (k, v))
    scores = q @ k.mT * options.scale  # S, line 1
    hidden, nothing = None, None  # entries that must not be seen; rows that see nothing
    if causal:
        hidden = torch.ones(n_q, n_k, dtype=torch.bool, device=q.device).triu(n_k - n_q + 1)
    if mask is not None:
        hidden = ~mask[:, None, None] if hidden is None else hidden | ~mask[:, None, None]
    if hidden is not None:
        scores = scores.masked_fill(hidden, -math.inf)
        if mask is not None or n_q > n_k:
            nothing = hidden.all(-1, keepdim=True)
            scores = scores.masked_fill(nothing, 0)  # a softmax of -inf alone would be NaN
    probabilities = scores.softmax(-1)  # P, line 2
    if nothing is not None:
        probabilities = probabilities.masked_fill(nothing, 0)
    if dropout_p > 0:
        rows = torch.arange(batch * heads * n_q, device=q.device).view(batch, heads, n_q, 1)
        keep = kept(rows, torch.arange(n_k, device=q.device), options.seed, dropout_p)
        probabilities = probabilities * keep / (1 - dropout_p)
    return probabilities @ v  # line 3
