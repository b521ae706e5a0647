"""Launch options of the Triton kernels, by kernel, head_dim, dtype and generation of the GPU.

Each entry is (block_q, block_k, num_warps, num_stages) under the head_dim padded to a power of two, 64 standing for all
smaller ones. They were chosen from the compiler's output (shared memory, registers, spills, instructions in the inner
loop), without timings. Hopper gives a block 227 KiB of shared memory; the other tables also fit the 99 KiB of consumer
cards. float32 products run on the ordinary cores in full precision, so its tiles are small.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor

HOPPER = {
    "forward": {64: (128, 128, 4, 3), 128: (128, 128, 8, 2), 256: (128, 64, 8, 2)},
    "backward_kv": {64: (64, 128, 8, 3), 128: (64, 128, 8, 2), 256: (32, 64, 8, 2)},
    "backward_q": {64: (128, 64, 8, 3), 128: (128, 64, 8, 3), 256: (64, 32, 8, 2)},
}
AMPERE = {
    "forward": {64: (128, 64, 4, 3), 128: (128, 64, 8, 2), 256: (64, 32, 8, 2)},
    "backward_kv": {64: (64, 64, 4, 2), 128: (32, 64, 4, 2), 256: (16, 32, 8, 1)},
    "backward_q": {64: (64, 64, 4, 2), 128: (64, 32, 4, 2), 256: (32, 16, 8, 1)},
}
FLOAT32 = {
    "forward": {64: (64, 32, 8, 2), 128: (32, 32, 8, 2), 256: (32, 16, 8, 1)},
    "backward_kv": {64: (32, 32, 8, 2), 128: (32, 16, 4, 1), 256: (16, 16, 4, 1)},
    "backward_q": {64: (32, 32, 4, 2), 128: (32, 16, 4, 1), 256: (16, 16, 4, 1)},
}


def launch_config(
    kernel: str, q: Tensor, block_q: int | None, block_k: int | None, plain: bool = True
) -> dict[str, int]:
    """Launch options of a kernel for q's dtype, head_dim and device; `block_q` and `block_k` override the table's.

    Not `plain` (dropout, a key mask, a padded head_dim) needs registers that a wide block of keys would take."""
    hopper = q.is_cuda and torch.cuda.get_device_capability(q.device)[0] in (9, 10)
    table = FLOAT32 if q.dtype == torch.float32 else HOPPER if hopper else AMPERE
    block_d = max(16, triton.next_power_of_2(q.shape[-1]))
    default_q, default_k, num_warps, num_stages = table[kernel][max(64, block_d)]
    default_k = default_k if plain else min(default_k, 64)
    blocks = {"BLOCK_Q": block_q or default_q, "BLOCK_K": block_k or default_k, "BLOCK_D": block_d}
    return {**blocks, "num_warps": num_warps, "num_stages": num_stages, "enable_fp_fusion": True}
