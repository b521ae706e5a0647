"""FlashAttention (Dao et al., 2022): exact attention in memory linear in the sequence."""

from flash_attention.attention import flash_attention, standard_attention
from flash_attention.block_sparse import block_sparse_flash_attention

__all__ = ["block_sparse_flash_attention", "flash_attention", "standard_attention"]
