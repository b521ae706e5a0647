"""RoFormer, Table 5, on a CUDA device: similar case matching in Chinese, with the published weights and our rotary."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor, nn

from papertest.claims import Measured, Run, claim

from rope.rotary import apply_rope

WEIGHTS = "junnyu/roformer_chinese_base"  # on the hub; or the folder in $ROFORMER
LENGTHS = (512, 1024)
EPOCHS, BATCH, RATE, WARM_UP = 3, 16, 2e-5, 0.1  # ours: the paper states none for this task
LABELS = ("B", "C")


class Triplet(NamedTuple):
    """Three fact descriptions; label: 0 where B is more like A than C is, 1 where C is."""

    A: str
    B: str
    C: str
    label: int


Encode = Callable[[Sequence[str], Sequence[str], int], dict[str, Tensor]]


def read_cail(file: Path) -> list[Triplet]:
    """A file of CAIL2019-SCM: a JSON object per line, with the texts A, B and C, and label "B" or "C".

    Raises ValueError that names the line for another layout, and for a file without triplets.
    """
    found: list[Triplet] = []
    for number, line in enumerate(file.read_text("utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row: Any = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"line {number} of {file.name} is no JSON: {error}") from None
        texts: list[Any] = [row.get(key) for key in "ABC"] if isinstance(row, dict) else []  # pyright: ignore
        if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
            raise ValueError(f"line {number} of {file.name} should be an object with the texts A, B and C")
        if row.get("label") not in LABELS:
            raise ValueError(f'line {number} of {file.name} should have the label "B" or "C", not {row.get("label")!r}')
        A, B, C = texts
        found.append(Triplet(A, B, C, LABELS.index(row["label"])))
    if not found:
        raise ValueError(f"{file.name} has no triplets")
    return found


def triplets() -> list[Triplet]:
    """All triplets of the .json files in the folder $CAIL, each once, in the order of the files' names."""
    if "CAIL" not in os.environ:
        raise RuntimeError(
            "CAIL2019-SCM is not here: set CAIL to the folder of its .json files, which the competition's repository "
            "china-ai-law-challenge/CAIL2019 links to"
        )
    folder = Path(os.environ["CAIL"])
    files = sorted(folder.glob("*.json"))
    if not files:
        raise RuntimeError(f"the folder that CAIL names, {folder.name}, has no .json files")
    return list(dict.fromkeys(each for file in files for each in read_cail(file)))


def split(data: Sequence[Triplet], shares: Sequence[int]) -> list[list[Triplet]]:
    """In an order of our own that is the same in every run, cut by these shares: training, validation, test."""
    order = Random(2021).sample(list(data), len(data))
    ends = [len(order) * sum(shares[:i]) // sum(shares) for i in range(len(shares) + 1)]
    return [order[first:last] for first, last in pairwise(ends)]


def rotary(_: Tensor, q: Tensor, k: Tensor, v: Tensor | None = None) -> tuple[Tensor, ...]:
    """What the library's model asks of its rotary, by ours: adjacent pairs, from position 0."""
    turned = apply_rope(q), apply_rope(k)
    return turned if v is None else (*turned, v)


def published() -> tuple[nn.Module, Encode]:
    """The library's RoFormer with a score for each (A, B) and (A, C), and its tokeniser of words."""
    transformers = import_module("transformers")
    source = os.environ.get("ROFORMER", WEIGHTS)
    try:
        import_module("rjieba")
    except ModuleNotFoundError:
        raise RuntimeError("RoFormer's tokeniser needs the package rjieba, which is not installed") from None
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)

    def encode(first: Sequence[str], second: Sequence[str], length: int) -> dict[str, Tensor]:
        return dict(
            tokenizer(list(first), list(second), truncation="longest_first", max_length=length, padding=True,
                      return_tensors="pt")
        )  # fmt: skip

    return transformers.RoFormerForMultipleChoice.from_pretrained(source), encode


def batches(data: Sequence[Triplet], encode: Encode, length: int, size: int) -> Iterator[tuple[dict[str, Tensor], Any]]:
    """Inputs of shape (batch, 2, seq), the pair (A, B) before the pair (A, C), and labels."""
    for i in range(0, len(data), size):
        group = data[i : i + size]
        first = [each.A for each in group for _ in range(2)]
        second = [text for each in group for text in (each.B, each.C)]
        inputs = encode(first, second, length)
        labels: Int[Tensor, " batch"] = torch.tensor([each.label for each in group])
        yield {name: x.view(len(group), 2, -1) for name, x in inputs.items()}, labels


def logits(model: nn.Module, inputs: dict[str, Tensor], device: str) -> Tensor:
    """(batch, 2): how well B, and C, go with A; bfloat16 on a GPU."""
    with torch.autocast("cuda", torch.bfloat16, enabled=device == "cuda"):
        return model(**{name: x.to(device) for name, x in inputs.items()}).logits.float()


@torch.no_grad()
def accuracy(model: nn.Module, data: Sequence[Triplet], encode: Encode, length: int, device: str) -> float:
    """Per cent of the triplets whose more similar case has the larger score."""
    model.eval()
    right = 0
    for inputs, labels in batches(data, encode, length, BATCH):
        right += int((logits(model, inputs, device).argmax(-1).cpu() == labels).sum())
    return 100 * right / len(data)


def fine_tuned(
    model: nn.Module, parts: Sequence[Sequence[Triplet]], encode: Encode, length: int, seed: int, device: str
) -> dict[str, float]:
    """Validation and test accuracy after the epoch that is best on validation."""
    train, validation, test = parts
    draw, model = Random(seed), model.to(device)
    steps = EPOCHS * -(-len(train) // BATCH)
    warm = max(1, round(WARM_UP * steps))
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, (steps - step) / max(1, steps - warm))
    )
    best, kept = -1.0, deepcopy(model.state_dict())
    for _ in range(EPOCHS):
        model.train()
        for inputs, labels in batches(draw.sample(list(train), len(train)), encode, length, BATCH):
            optimizer.zero_grad()
            F.cross_entropy(logits(model, inputs, device), labels.to(device)).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        if (reached := accuracy(model, validation, encode, length, device)) > best:
            best, kept = reached, deepcopy(model.state_dict())
    model.load_state_dict(kept)
    return {"validation": best, "test": accuracy(model, test, encode, length, device)}


@claim("cail")
def cail(run: Run) -> Measured:
    """Table 5: the published weights at 512 and at 1024 on the same split and order; three epochs of batches of 16 with
    AdamW at 2e-5, the best epoch by validation."""
    paper: Any = run.reported["table-5-triplets"].value
    parts = split(triplets(), [int(paper[part]) for part in ("train", "validation", "test")])
    if run.quick:
        parts = [part[:32] for part in parts]
    modeling = import_module("transformers.models.roformer.modeling_roformer")
    found: dict[str, dict[str, float]] = {}
    with patch.object(modeling.RoFormerSelfAttention, "apply_rotary_position_embeddings", staticmethod(rotary)):
        for length in run.progress(LENGTHS, "lengths", total=len(LENGTHS)):
            torch.manual_seed(run.seed)
            model, encode = published()
            found[str(length)] = fine_tuned(model, parts, encode, length, run.seed, run.device)
    short, long = (found[str(length)]["test"] for length in LENGTHS)
    return Measured({"gain": long - short, "at_512": short}, {"accuracy": found, "triplets": [*map(len, parts)]})
