"""RoPE (Su et al., 2021): rotary position embedding, beside ALiBi, the older encodings and the scalings of RoPE.

The distribution shares its name with an unrelated refactoring library on the public index: install this one from its
folder, or from the repository.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rope.alibi import alibi_attention, alibi_bias, alibi_slopes
    from rope.attention import Cache, RotaryAttention
    from rope.linear import linear_rope_attention
    from rope.permute import half_to_interleaved, interleaved_to_half
    from rope.positions import LearnedPositions, T5Bias, sinusoidal_encoding, t5_buckets
    from rope.rotary import apply_rope, apply_rope_2d
    from rope.scaling import ScaledFrequencies, scale_frequencies
    from rope.tables import rope_frequencies

__all__ = [
    "Cache",
    "LearnedPositions",
    "RotaryAttention",
    "ScaledFrequencies",
    "T5Bias",
    "alibi_attention",
    "alibi_bias",
    "alibi_slopes",
    "apply_rope",
    "apply_rope_2d",
    "half_to_interleaved",
    "interleaved_to_half",
    "linear_rope_attention",
    "rope_frequencies",
    "scale_frequencies",
    "sinusoidal_encoding",
    "t5_buckets",
]

_HOMES = {
    "alibi": ("alibi_attention", "alibi_bias", "alibi_slopes"),
    "attention": ("Cache", "RotaryAttention"),
    "linear": ("linear_rope_attention",),
    "permute": ("half_to_interleaved", "interleaved_to_half"),
    "positions": ("LearnedPositions", "T5Bias", "sinusoidal_encoding", "t5_buckets"),
    "rotary": ("apply_rope", "apply_rope_2d"),
    "scaling": ("ScaledFrequencies", "scale_frequencies"),
    "tables": ("rope_frequencies",),
}


def __getattr__(name: str) -> Any:
    """The names above on first use: `reproduce --list` and `--help` need not wait for torch."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
