"""What all methods of one seed share, made once and kept on disk.

It stands in papertest's cache, in a folder that is named by the seed and by what makes it: the data's sha256 and the
code. `train.jsonl` and `held_out.jsonl` can be read: each prompt, both answers and their scores. The reference's
log-probabilities are taken once and kept too.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from filelock import FileLock
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from papertest import Run
from papertest import data as carriers

from dpo.reproduce import models, pairs, sentiment
from dpo.reproduce.models import D_MODEL, Backbone, LanguageModel
from dpo.reproduce.pairs import Pairs, judge, learnt, pair_logps, ranked, rivals
from dpo.reproduce.sentiment import PROMPT
from dpo.reward import RewardModel

TRAIN, HELD_OUT = 25_600, 1_024  # pairs
FEW = 2_048  # pairs of the proxy, a reward model that can be over-optimised
QUICK = 50  # times fewer steps and pairs in `reproduce --quick`


@dataclass(frozen=True)
class Prepared:
    """What the methods of one seed start from.

    train_logps, held_out_logps: the reference's, of chosen and rejected
    rivals: true rewards of the answers that a policy's have to beat
    learned, proxy: reward models of all pairs and of the first few
    ties: the share of drawn pairs with equal scores, which were dropped
    """

    reference: LanguageModel
    train: Pairs
    held_out: Pairs
    train_logps: Float[Tensor, "2 pairs"]
    held_out_logps: Float[Tensor, "2 pairs"]
    rivals: Float[Tensor, " samples"]
    learned: RewardModel
    proxy: RewardModel
    ties: float


def prepared(run: Run) -> Prepared:
    """From the cache, or made and kept there; a second process waits for the first."""
    folder = carriers.cache() / f"dpo-sentiment-{run.seed}-{'quick-' if run.quick else ''}{_mark()}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                _make(run, folder)
    loaded = LanguageModel(), *(RewardModel(Backbone(), D_MODEL) for _ in range(2))
    for name, model in zip(("reference", "learned", "proxy"), loaded, strict=True):
        model.load_state_dict(load_file(folder / f"{name}.safetensors"))
        model.eval().requires_grad_(False)
    reference, learned, proxy = loaded
    train, held_out = (_read(folder / f"{name}.jsonl") for name in ("train", "held_out"))
    kept = load_file(folder / "numbers.safetensors")
    ties = json.loads((folder / "ties.json").read_text("utf-8"))
    return Prepared(reference, train, held_out, kept["train"], kept["held_out"], kept["rivals"], learned, proxy, ties)


@cache
def _mark() -> str:
    """Of the data and the code that make what is kept."""
    files = [Path(str(module)) for module in (sentiment.__file__, models.__file__, pairs.__file__, __file__)]
    code = b"".join(file.read_bytes() for file in files)
    return hashlib.sha256(sentiment.SENTENCES.sha256.encode() + code).hexdigest()[:12]


def _make(run: Run, folder: Path) -> None:
    """Written beside the folder and then renamed, so that what is there is whole."""
    share = QUICK if run.quick else 1
    reference, generator = learnt(run, pairs.STEPS // share), torch.Generator().manual_seed(run.seed)
    train, ties = ranked(reference, sentiment.prompts("train"), TRAIN // share, generator)
    held_out, _ = ranked(reference, sentiment.prompts("test"), HELD_OUT // share, generator)
    trained = {
        "reference": reference, "learned": judge(run, reference, train, pairs.JUDGE_STEPS // share),
        "proxy": judge(run, reference, train.first(FEW), pairs.PROXY_STEPS // share),
    }  # fmt: skip
    beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        for name, model in trained.items():
            save_file(dict(model.state_dict()), beside / f"{name}.safetensors")
        parts = {"train": train, "held_out": held_out}
        numbers = {name: pair_logps(reference, found) for name, found in parts.items()}
        numbers["rivals"] = rivals(reference, generator)
        save_file(numbers, beside / "numbers.safetensors")
        for name, found in parts.items():
            (beside / f"{name}.jsonl").write_text("".join(_lines(found)), "utf-8")
        (beside / "ties.json").write_text(json.dumps(ties), "utf-8")
        os.rename(beside, folder)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def _lines(found: Pairs) -> Iterator[str]:
    prompts = sentiment.texts(found.chosen[:, :PROMPT], 0)
    answers = [sentiment.texts(ids) for ids in (found.chosen, found.rejected)]
    for i, prompt in enumerate(prompts):
        row = {
            "prompt": prompt, "chosen": answers[0][i], "rejected": answers[1][i],
            "scores": [round(of[i].item(), 4) for of in (found.chosen_scores, found.rejected_scores)],  # VADER's digits
            "ids": [found.chosen[i].tolist(), found.rejected[i].tolist()],
        }  # fmt: skip
        yield json.dumps(row, ensure_ascii=False) + "\n"


def _read(path: Path) -> Pairs:
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    ids, scores = torch.tensor([row["ids"] for row in rows]), torch.tensor([row["scores"] for row in rows])
    return Pairs(ids[:, 0], ids[:, 1], scores[:, 0], scores[:, 1])
