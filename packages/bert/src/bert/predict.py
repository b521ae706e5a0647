"""`python -m bert.predict FOLDER`: one text a line from standard input, its label and probability to standard output.

FOLDER is what `python -m bert.reproduce.classify` has saved: model.safetensors, config.json, vocab.txt, labels.json.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch

from bert.arguments import check_whole
from bert.heads import BertForClassification
from bert.pretrained import load_pretrained
from bert.wordpiece import WordPiece

BATCH = 32


def predict(folder: str | Path, texts: Iterable[str], *, max_tokens: int | None = None) -> Iterator[tuple[str, float]]:
    """Of each text the likeliest label and its probability, a batch at a time.

    max_tokens: cut longer texts; None for the longest that the model can read.

    Raises FileNotFoundError where a file is missing, and ValueError for labels of another number than the model's, for
    what `load_pretrained` does not read, for a model whose logits are not finite, and for texts that are one string.
    """
    if isinstance(texts, str | bytes):
        raise ValueError(f"texts must be several strings, got {texts!r}")
    folder = Path(folder)
    model = load_pretrained(folder, BertForClassification, fused=True)
    labels: Any = json.loads((folder / "labels.json").read_text("utf-8"))
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in cast("list[Any]", labels)):
        raise ValueError(f"{folder / 'labels.json'} must be a list of strings")
    if len(labels) != model.n_labels:
        raise ValueError(f"{folder / 'labels.json'} must name {model.n_labels} labels, and names {len(labels)}")
    longest = model.config.max_positions
    if max_tokens is not None and check_whole("max_tokens", max_tokens, 2) > longest:
        raise ValueError(f"max_tokens must be at most the model's {longest}, got {max_tokens}")
    wordpiece = WordPiece(folder / "vocab.txt")
    left = iter(texts)
    while batch := list(islice(left, BATCH)):
        with torch.inference_mode():
            logits = model(*wordpiece(batch, max_tokens=longest if max_tokens is None else max_tokens))
        if not bool(logits.isfinite().all()):
            raise ValueError(f"the model in {folder} gives logits that are not finite: its weights are no good")
        for probability, label in zip(*logits.softmax(-1).max(-1), strict=True):
            yield labels[int(label)], float(probability)


def main() -> None:
    """The command; one line and exit code 2 for wrong use or a folder that cannot be read."""
    if len(sys.argv) != 2:
        print("usage: python -m bert.predict FOLDER < texts, one a line", file=sys.stderr)
        sys.exit(2)
    try:
        for label, probability in predict(sys.argv[1], (line.rstrip("\n") for line in sys.stdin)):
            print(f"{label}\t{probability:.3f}", flush=True)
    except (OSError, ValueError) as error:
        print(f"bert.predict: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
