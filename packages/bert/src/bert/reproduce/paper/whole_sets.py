"""MiniLM fine-tuned on whole data sets, beside TF-IDF with a linear classifier."""

from __future__ import annotations

from typing import Any

from papertest.claims import Measured, Run, claim

from bert.pretrained import load_pretrained
from bert.reproduce.data import sets as datasets
from bert.reproduce.models import minilm
from bert.reproduce.training.finetuning import copy_of, predict
from bert.reproduce.training.minilm import examples, scored, tuned

WHOLE = {"newsgroups": "newsgroups", "reuters": "reuters52"}  # whole sets, on a GPU
WHOLE_POST, WHOLE_EPOCHS, WHOLE_BATCH = 256, 3, 32


@claim("whole-sets")
def whole_sets(run: Run) -> Measured:
    """20 Newsgroups and Reuters R52, every document: the fine-tuned model minus TF-IDF with a linear classifier.

    The model reads the first 256 tokens; the classifier, whose C is the best on dev, all words. Both learn from the
    published training part, dev included.
    """
    value: dict[str, float] = {}
    details: dict[str, Any] = {}
    for key, name in run.progress(WHOLE.items(), "whole sets", total=len(WHOLE)):
        data = datasets.labelled(name)
        train, dev, test = (part[:40] if run.quick else part for part in (data.train, data.dev, data.test))
        bert = copy_of(load_pretrained(minilm(), fused=True))
        learned = examples([*train, *dev], WHOLE_POST)
        model = tuned(bert, learned, len(data.labels), WHOLE_EPOCHS, run.seed, batch=WHOLE_BATCH, device=run.device)
        outputs = {
            "tfidf": datasets.tfidf_baseline(train, dev, [text for text, _ in test]),
            "minilm": predict(model, examples(test, WHOLE_POST)),
        }
        details[key] = scored(outputs, [label for _, label in test])
        for score in ("accuracy", "macro_f1"):
            value[f"{key}_{score}"] = details[key]["minilm"][score] - details[key]["tfidf"][score]
    return Measured(value, details)
