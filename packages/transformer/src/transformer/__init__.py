"""The Transformer (Vaswani et al., 2017), from its parameter table to a translation."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformer.attention import MultiHeadAttention
    from transformer.config import TransformerConfig
    from transformer.decoding import beam_search, greedy_search
    from transformer.model import Transformer
    from transformer.positions import sinusoidal_encoding
    from transformer.training import LabelSmoothing, average_checkpoints, noam_schedule

__all__ = [
    "LabelSmoothing",
    "MultiHeadAttention",
    "Transformer",
    "TransformerConfig",
    "average_checkpoints",
    "beam_search",
    "greedy_search",
    "noam_schedule",
    "sinusoidal_encoding",
]

_HOMES = {
    "attention": ("MultiHeadAttention",),
    "config": ("TransformerConfig",),
    "decoding": ("beam_search", "greedy_search"),
    "model": ("Transformer",),
    "positions": ("sinusoidal_encoding",),
    "training": ("LabelSmoothing", "average_checkpoints", "noam_schedule"),
}


def __getattr__(name: str) -> Any:
    """The names above on first use: `reproduce --list` and `--help` need not wait for torch."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
