"""BERT (Devlin et al., 2018): its model, its two pre-training objectives, its tokeniser, and its published weights."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bert.config import BertConfig
    from bert.heads import BertForClassification, BertForPreTraining
    from bert.masking import NspPair, make_nsp_pairs, mask_tokens
    from bert.model import Bert
    from bert.pretrained import load_pretrained, save_pretrained
    from bert.wordpiece import WordPiece

__all__ = [
    "Bert",
    "BertConfig",
    "BertForClassification",
    "BertForPreTraining",
    "NspPair",
    "WordPiece",
    "load_pretrained",
    "make_nsp_pairs",
    "mask_tokens",
    "save_pretrained",
]

_HOMES = {
    "config": ("BertConfig",),
    "heads": ("BertForClassification", "BertForPreTraining"),
    "masking": ("NspPair", "make_nsp_pairs", "mask_tokens"),
    "model": ("Bert",),
    "pretrained": ("load_pretrained", "save_pretrained"),
    "wordpiece": ("WordPiece",),
}


def __getattr__(name: str) -> Any:
    """The names above on first use: `reproduce --list` and `--help` need not wait for torch."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
