"""`python -m bert.reproduce.classify movie_sentences FOLDER`: fine-tune MiniLM, report, and save for `bert.predict`."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch

from bert.heads import BertForClassification
from bert.pretrained import load_pretrained, save_pretrained
from bert.reproduce.data.sets import LABELLED, labelled
from bert.reproduce.models import minilm
from bert.reproduce.training.finetuning import accuracy, copy_of, fine_tune, macro_f1, predict
from bert.reproduce.training.minilm import BATCH, HEAD_RATE, RATE, SENTENCE, examples

LONGEST = 512  # tokens: the rows of MiniLM's position embeddings


def classify(
    name: str, folder: str | Path, *, epochs: int = 3, limit: int | None = None, tokens: int = SENTENCE, seed: int = 0
) -> dict[str, float]:
    """Fine-tune on the training part of a set of `data.sets.labelled`, and score the whole test part.

    limit: only so many examples of either part. tokens: of a text, longer ones are cut. The model is saved with its
    vocabulary and labels. Returns accuracy and macro-F1 in %.
    """
    data = labelled(name)
    torch.manual_seed(seed)
    model = BertForClassification(copy_of(load_pretrained(minilm(), fused=True)), len(data.labels))
    train, test = (examples(part[:limit], tokens) for part in (data.train, data.test))
    fine_tune(model, train, epochs=epochs, rate=RATE, head_rate=HEAD_RATE, batch=BATCH, seed=seed)
    found, wanted = predict(model, test), [example.label for example in test]
    save_pretrained(model, folder)
    shutil.copy(minilm() / "vocab.txt", Path(folder) / "vocab.txt")
    (Path(folder) / "labels.json").write_text(json.dumps(data.labels, ensure_ascii=False) + "\n", "utf-8")
    return {"accuracy": accuracy(found, wanted), "macro_f1": macro_f1(found, wanted)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bert.reproduce.classify", description=__doc__)
    parser.add_argument("dataset", choices=sorted(LABELLED))
    parser.add_argument("folder", help="where the fine-tuned model is saved")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--limit", type=int, help="use only so many training and test examples")
    parser.add_argument("--tokens", type=int, default=SENTENCE, help="of a text; longer ones are cut")
    given = parser.parse_args()
    for name, least, most in (("epochs", 1, None), ("limit", 1, None), ("tokens", 3, LONGEST)):
        value = getattr(given, name)
        if value is not None and (value < least or value > (most or value)):
            parser.error(f"--{name} must be {f'from {least} to {most}' if most else f'at least {least}'}, got {value}")
    for key, value in classify(given.dataset, given.folder, epochs=given.epochs, limit=given.limit,
                               tokens=given.tokens).items():  # fmt: skip
        print(f"{key}: {value:.2f} %")


if __name__ == "__main__":
    main()
