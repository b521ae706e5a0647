"""FlashAttention (Dao et al., 2022): exact attention in memory linear in the sequence."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flash_attention.attention import flash_attention, standard_attention
    from flash_attention.block_sparse import block_sparse_flash_attention

__all__ = ["block_sparse_flash_attention", "flash_attention", "standard_attention"]


def __getattr__(name: str) -> Any:
    """The functions above on first use: `reproduce --list` and `--help` need not wait for torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "block_sparse" if name.startswith("block_sparse") else "attention"
    return getattr(import_module(f"{__name__}.{home}"), name)
