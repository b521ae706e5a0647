"""LoRA (Hu et al., 2021): low-rank adapters on any torch model, trained, merged, switched, and kept in peft's files."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lora.adapt import add_lora, lora_state_dict, mark_trainable, merge_lora, set_adapter, unmerge_lora
    from lora.checkpoint import load_adapter, save_adapter
    from lora.layers import LoRAConv1D, LoRAEmbedding, LoRALinear
    from lora.merged import LoRAMergedLinear

__all__ = [
    "LoRAConv1D",
    "LoRAEmbedding",
    "LoRALinear",
    "LoRAMergedLinear",
    "add_lora",
    "load_adapter",
    "lora_state_dict",
    "mark_trainable",
    "merge_lora",
    "save_adapter",
    "set_adapter",
    "unmerge_lora",
]

_HOMES = {
    "adapt": ("add_lora", "lora_state_dict", "mark_trainable", "merge_lora", "set_adapter", "unmerge_lora"),
    "checkpoint": ("load_adapter", "save_adapter"),
    "layers": ("LoRAConv1D", "LoRAEmbedding", "LoRALinear"),
    "merged": ("LoRAMergedLinear",),
}


def __getattr__(name: str) -> Any:
    """The names above on first use: `reproduce --list` and `--help` need not wait for torch."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
