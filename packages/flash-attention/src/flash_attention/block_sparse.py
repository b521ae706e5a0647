"""Block-sparse FlashAttention: the paper's Algorithm 5."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flash_attention import torch_backend
from flash_attention.arguments import check_block, dtype_name
from flash_attention.attention import as_autocast_says, check, without_hidden


def block_sparse_flash_attention(
    q: Float[Tensor, "batch heads seq_q head_dim"],
    k: Float[Tensor, "batch kv_heads seq_k head_dim"],
    v: Float[Tensor, "batch kv_heads seq_k head_dim"],
    block_mask: Bool[Tensor, "q_blocks k_blocks"],
    *,
    causal: bool = False,
    mask: Bool[Tensor, "batch seq_k"] | None = None,
    scale: float | None = None,
    dropout_p: float = 0.0,
    seed: int | None = None,
    block_q: int = 128,
    block_k: int = 128,
) -> Float[Tensor, "batch heads seq_q head_dim"]:
    """Attention over the blocks that `block_mask` keeps, in time and traffic proportional to their share (Algorithm 5).

    The same as `flash_attention` with the scores of the other blocks at -inf, and differentiable like it. block_mask
    has one entry for each block of block_q queries and block_k keys (the last may be cut short), the same for all
    heads; True keeps the block. Other arguments as in `flash_attention`. Runs on the torch backend.

    Raises ValueError for an argument that is not accepted.
    """
    q, k, v = as_autocast_says(q, k, v)
    options = check(q, k, v, mask, causal, scale, dropout_p, seed)
    block_q, block_k = check_block("block_q", block_q, fixed=True), check_block("block_k", block_k, fixed=True)
    wanted = (-(-q.shape[2] // block_q), -(-k.shape[2] // block_k))
    dtype, shape = getattr(block_mask, "dtype", type(block_mask).__name__), tuple(getattr(block_mask, "shape", ()))
    if dtype != torch.bool or shape != wanted:
        got = f"{dtype_name(dtype)} of shape {shape}"
        size = f"blocks of {block_q} queries and {block_k} keys"
        raise ValueError(f"block_mask must be bool of shape {wanted}, for {size}, got {got}")
    k, v = without_hidden(k, v, mask)
    out, _ = torch_backend.attention(
        q, k, v, mask, **vars(options), block_q=block_q, block_k=block_k, pattern=block_mask.tolist()
    )
    return out
