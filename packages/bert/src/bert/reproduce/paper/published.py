"""The paper's own fine-tuning on a CUDA device: the published BASE weights on four tasks of GLUE, and on SQuAD 1.1."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordPiece as Model

from papertest.claims import Measured, Run, claim
from papertest.data import cache

from bert.heads import BertForClassification
from bert.pretrained import load_pretrained
from bert.reproduce.data.text import Example, ends_of
from bert.reproduce.paper.squad import SpanModel, Window, answers, read_squad, scores, train_spans, windows
from bert.reproduce.training.finetuning import fine_tune, tested

WEIGHTS = "google-bert/bert-base-uncased"
LENGTHS = {"glue": 128, "squad": 384}  # the authors' code
GLUE, SQUAD = "glue", "squad_1"  # rows of the record's entry: batch, epochs, learning rate


class GlueTask(NamedTuple):
    """Its name on the hub, the columns of the published files, and the labels, in the hub's order."""

    hub: str
    first: str
    second: str | None
    label: str
    labels: tuple[str, ...]
    dev: str


TASKS = {
    "mnli_m": GlueTask("mnli", "sentence1", "sentence2", "gold_label",
                       ("entailment", "neutral", "contradiction"), "dev_matched"),
    "qnli": GlueTask("qnli", "question", "sentence", "label", ("entailment", "not_entailment"), "dev"),
    "mrpc": GlueTask("mrpc", "#1 String", "#2 String", "Quality", ("0", "1"), "dev"),
    "sst_2": GlueTask("sst2", "sentence", None, "label", ("0", "1"), "dev"),
}  # fmt: skip


def folder_of(variable: str, name: str, make: Callable[[Path], None]) -> Path:
    """The folder that the environment names, or one that is made once by `make` from the hub.

    Raises RuntimeError where neither is there.
    """
    if variable in os.environ:
        return Path(os.environ[variable])
    folder = cache() / name
    if not folder.exists():
        unfinished = folder.with_suffix(".part")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        try:
            make(unfinished)
        except ModuleNotFoundError as missing:
            raise RuntimeError(
                f"{name} is not here: set {variable} to its folder, or install the library `{missing.name}`, which "
                "fetches it"
            ) from None
        unfinished.rename(folder)
    return folder


def weights() -> Path:
    """$BERT_BASE, or the published weights from the hub: model.safetensors, config.json, vocab.txt."""

    def make(folder: Path) -> None:
        fetch = import_module("huggingface_hub").hf_hub_download
        for name in ("model.safetensors", "config.json", "vocab.txt"):
            shutil.copy(fetch(WEIGHTS, name), folder / name)

    return folder_of("BERT_BASE", "bert-base-uncased", make)


def glue_data(name: str) -> Path:
    """$GLUE/MNLI and so on, as GLUE publishes them: train.tsv and dev.tsv with a header; or from the hub."""
    task = TASKS[name]

    def make(folder: Path) -> None:
        load_dataset = import_module("datasets").load_dataset
        columns = {"mnli": ("premise", "hypothesis"), "qnli": ("question", "sentence"),
                   "mrpc": ("sentence1", "sentence2"), "sst2": ("sentence",)}[task.hub]  # fmt: skip
        for part, theirs in (("train", "train"), (task.dev, task.dev.replace("dev", "validation"))):
            rows: Iterable[Any] = load_dataset("nyu-mll/glue", task.hub, split=theirs)
            header = [column for column in (task.first, task.second, task.label) if column]
            with (folder / f"{part}.tsv").open("w", encoding="utf-8", newline="\n") as file:
                file.write("\t".join(header) + "\n")
                for row in rows:
                    texts = [" ".join(row[column].split()) for column in columns]
                    file.write("\t".join([*texts, task.labels[row["label"]]]) + "\n")

    if "GLUE" in os.environ:
        return Path(os.environ["GLUE"]) / {"mnli_m": "MNLI", "sst_2": "SST-2"}.get(name, name.upper())
    return folder_of("GLUE", f"glue-{task.hub}", make)


def read_glue(file: Path, task: GlueTask) -> list[tuple[str, str | None, int]]:
    """Texts and label of each row; ValueError for a row without them, or a label that is none of the task's."""
    found: list[tuple[str, str | None, int]] = []
    with file.open(encoding="utf-8-sig", newline="") as lines:
        for number, row in enumerate(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE), 2):
            first, second, label = row.get(task.first), row.get(task.second or ""), row.get(task.label)
            if not first or (task.second and not second) or label not in task.labels:
                raise ValueError(f"row {number} of {file.name} should have {task.first}, {task.second or 'no second'} "
                                 f"and a label of {', '.join(task.labels)}, and has {label!r}")  # fmt: skip
            found.append((first, second, task.labels.index(label)))
    return found


def tokenizer(folder: Path) -> Tokenizer:
    """The library's tokeniser for vocab.txt, without special tokens."""
    vocab = {token: i for i, token in enumerate((folder / "vocab.txt").read_text("utf-8").splitlines())}
    found = Tokenizer(Model(vocab, unk_token="[UNK]"))
    found.normalizer = normalizers.BertNormalizer(lowercase=True)  # pyright: ignore[reportAttributeAccessIssue]
    found.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # pyright: ignore[reportAttributeAccessIssue]
    return found


def glue_examples(rows: Sequence[tuple[str, str | None, int]], tokens: Tokenizer) -> list[Example]:
    """[CLS] A [SEP] B [SEP] of at most 128 tokens, cut at the end of the longer sentence."""
    cls, sep = ends_of(tokens)
    sides = [
        [found.ids for found in tokens.encode_batch(texts, add_special_tokens=False)]
        for texts in ([first for first, _, _ in rows], [second or "" for _, second, _ in rows])
    ]
    result: list[Example] = []
    for a, b, (_, second, label) in zip(*sides, rows, strict=True):
        room = LENGTHS["glue"] - (2 if second is None else 3)
        while len(a) + len(b) > room:
            (a if len(a) >= len(b) else b).pop()
        ids, types = [cls, *a, sep], [0] * (len(a) + 2)
        if second is not None:
            ids, types = [*ids, *b, sep], [*types, *[1] * (len(b) + 1)]
        result.append(Example(ids, types, label))
    return result


@claim("glue")
def glue(run: Run) -> Measured:
    """Dev accuracy; batch 32, three epochs, 5e-5 (the first of the paper's four rates) for all four tasks."""
    folder = weights()
    tokens = tokenizer(folder)
    found: dict[str, float] = {}
    counts: dict[str, dict[str, int]] = {}
    for name, task in run.progress(TASKS.items(), "GLUE", total=len(TASKS)):
        data = glue_data(name)
        train, dev = (glue_examples(read_glue(data / f"{part}.tsv", task), tokens) for part in ("train", task.dev))
        if run.quick:
            train, dev = train[:64], dev[:64]
        batch, epochs, rate = _setting(run, GLUE)
        torch.manual_seed(run.seed)
        model = BertForClassification(load_pretrained(folder, fused=True), len(task.labels)).to(run.device)
        fine_tune(model, train, epochs=epochs, rate=rate, batch=batch, seed=run.seed)
        found[name] = tested(model, dev)
        counts[name] = {"train": len(train), "dev": len(dev)}
    return Measured(found, {"examples": counts})


@claim("squad")
def squad(run: Run) -> Measured:
    """Exact match and F1 on Dev; batch 32, three epochs, 5e-5; windows of 384 tokens, 128 apart."""
    folder = weights()
    tokens = tokenizer(folder)
    data = folder_of("SQUAD", "squad-1.1", _squad_from_hub)
    train, dev = (read_squad(data / f"{part}-v1.1.json") for part in ("train", "dev"))
    if run.quick:
        train, dev = train[:16], dev[:16]
    batch, epochs, rate = _setting(run, SQUAD)
    torch.manual_seed(run.seed)
    model = SpanModel(load_pretrained(folder, fused=True)).to(run.device)
    learned: list[Window] = windows(train, tokens, LENGTHS["squad"])
    train_spans(model, learned, epochs=epochs, rate=rate, batch=batch, seed=run.seed)
    found = answers(model, windows(dev, tokens, LENGTHS["squad"]), dev)
    return Measured(scores(found, dev), {"questions": len(dev), "windows": len(learned)})


def _squad_from_hub(folder: Path) -> None:
    """The hub's rows, in the layout of the published files."""
    load_dataset = import_module("datasets").load_dataset
    for part, theirs in (("train", "train"), ("dev", "validation")):
        rows: Iterable[Any] = load_dataset("rajpurkar/squad", split=theirs)
        paragraphs: list[dict[str, Any]] = []
        for row in rows:
            given = zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True)
            asked = {"id": row["id"], "question": row["question"],
                     "answers": [{"text": text, "answer_start": start} for text, start in given]}  # fmt: skip
            paragraphs.append({"context": row["context"], "qas": [asked]})
        whole = {"version": "1.1", "data": [{"title": "", "paragraphs": paragraphs}]}
        (folder / f"{part}-v1.1.json").write_text(json.dumps(whole), "utf-8")


def _setting(run: Run, row: str) -> tuple[int, int, float]:
    """Batch, epochs and learning rate of the record's own entry."""
    value: Any = run.reported["fine-tuning-tasks"].value
    batch, epochs, rate = value[row]
    return int(batch), int(epochs), float(rate)
