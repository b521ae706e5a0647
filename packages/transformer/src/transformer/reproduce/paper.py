"""The paper's own scale: WMT 2014 on a CUDA device, the base and the big model, and the time of their steps."""

from __future__ import annotations

import os
import re
import shutil
from array import array
from collections.abc import Iterable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import sacrebleu
import torch
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
from tokenizers import Tokenizer

from papertest import bench
from papertest.claims import Measured, Run, claim
from papertest.data import cache

from transformer.config import TransformerConfig
from transformer.decoding import beam_search
from transformer.model import Transformer
from transformer.reproduce.data.corpus import Pair, wmt14
from transformer.reproduce.data.tokens import BOS, EOS, PAD, Batch, Encoded, Vocabulary, batches, pad
from transformer.training import LabelSmoothing, adam, average_checkpoints

SETTINGS = {  # Sections 5 and 6.1: steps, checkpoints averaged, steps between them (ten minutes of the paper's time)
    "base": {"steps": 100_000, "averaged": 5, "every": 1500},
    "big": {"steps": 300_000, "averaged": 20, "every": 600},
}
VOCABULARIES = {"de": 37_000, "fr": 32_000}  # Section 5.1
TOKENS = 25_000  # of a batch, source and target each (Section 5.1)
LONGEST = 250  # tokens of a training sentence; the paper does not say


@claim("gpu-step-time")
def gpu_step_time(run: Run) -> Measured:
    """Section 5.2: seconds of a step of 25,000 tokens on each side, in bfloat16, sentences of 25 tokens; the median."""
    times: dict[str, Any] = {}
    draw = torch.Generator().manual_seed(run.seed)
    batch = tuple(torch.randint(3, VOCABULARIES["de"], (TOKENS // 25, n), generator=draw) for n in (25, 26))
    for size in SETTINGS:
        model = Transformer(config(size, "de")).to(run.device)
        step = stepper(model, run.device)
        src, tgt = (x.to(run.device) for x in batch)
        ratio = bench.paired(lambda f=step, b=(src, tgt): f(b), lambda: None, pairs=20, warmup=5, device=run.device)
        times[size] = ratio.ours
    return Measured(times, {"tokens": TOKENS, "sentence": 25})


@claim("wmt14-en-de")
def wmt14_en_de(run: Run) -> Measured:
    """Table 2: BLEU on newstest2014, English to German."""
    return table_2(run, "de")


@claim("wmt14-en-fr")
def wmt14_en_fr(run: Run) -> Measured:
    """Table 2: BLEU on newstest2014, English to French."""
    return table_2(run, "fr")


def table_2(run: Run, language: str) -> Measured:
    found = {size: train(run, size, language, data(language)) for size in SETTINGS}
    return Measured({size: scores["tokenised"] for size, scores in found.items()}, found)


def config(size: str, language: str) -> TransformerConfig:
    """The base or the big model as trained for this pair: the big one has dropout 0.1 for French (Section 6.1)."""
    one = getattr(TransformerConfig, size)(vocab_size=VOCABULARIES[language], fused=True)
    return replace(one, dropout=0.1) if language == "fr" else one


def data(language: str) -> Path:
    """The folder of the published set: $WMT14, or fetched once from the hub by the `datasets` library.

    Raises RuntimeError where neither is there.
    """
    if "WMT14" in os.environ:
        return Path(os.environ["WMT14"])
    folder = cache() / f"wmt14-en-{language}"
    if not folder.exists():
        try:
            load_dataset = import_module("datasets").load_dataset
        except ModuleNotFoundError:
            raise RuntimeError(
                "WMT14 is not here: set WMT14 to a folder with train, newstest2013 and newstest2014 as plain text, "
                f".en and .{language}; or install the library `datasets`, which fetches it"
            ) from None
        parts = {"train": "train", "newstest2013": "validation", "newstest2014": "test"}
        unfinished = folder.with_suffix(".part")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        for name, part in parts.items():
            rows: Iterable[Any] = load_dataset("wmt/wmt14", f"{language}-en", split=part)
            with (
                (unfinished / f"{name}.en").open("w", encoding="utf-8", newline="\n") as source,
                (unfinished / f"{name}.{language}").open("w", encoding="utf-8", newline="\n") as target,
            ):
                for row in rows:
                    for file, side in ((source, "en"), (target, language)):
                        file.write(" ".join(row["translation"][side].split("\n")) + "\n")
        unfinished.rename(folder)
    return folder


def train(run: Run, size: str, language: str, folder: Path) -> dict[str, Any]:
    """Train one model and score the mean of its last checkpoints. What an interruption leaves is gone on from.

    Steps, vocabulary and sizes are the paper's; with `run.quick` a tiny model of a few steps.
    """
    pairs = wmt14(folder, language)
    setting = {"steps": 20, "averaged": 2, "every": 5} if run.quick else SETTINGS[size]
    kept = cache() / f"wmt14-en-{language}-{size}-{run.seed}{'-quick' * run.quick}"
    kept.mkdir(parents=True, exist_ok=True)
    wanted = config(size, language)
    vocabulary = _vocabulary(kept / "vocabulary.json", pairs.train, 300 if run.quick else wanted.vocab_size)
    if run.quick:
        wanted = replace(wanted, vocab_size=300, n_layers=1, d_model=16, d_ff=32, n_heads=2)
    model = Transformer(wanted).to(run.device)
    step = stepper(model, run.device)
    files = sorted(kept.glob("step-*.pt"))
    begun = 0
    if files:
        begun = step.load(torch.load(files[-1], map_location=run.device))
    feed = batches(encode(vocabulary, pairs.train), 200 if run.quick else TOKENS, run.seed + begun)
    for done in run.progress(range(begun + 1, setting["steps"] + 1), f"WMT14 en-{language}, {size}"):
        src, tgt = next(feed)
        step((src.to(run.device), tgt.to(run.device)))
        if done % setting["every"] == 0:
            file = kept / f"step-{done:06}.pt"
            torch.save(step.state(done), file.with_suffix(".part"))
            file.with_suffix(".part").rename(file)
            for old in sorted(kept.glob("step-*.pt"))[: -setting["averaged"]]:
                old.unlink()
    last = [torch.load(file, map_location="cpu")["model"] for file in sorted(kept.glob("step-*.pt"))]
    model.load_state_dict(average_checkpoints(last[-setting["averaged"] :]))
    return score(model.eval(), vocabulary, pairs.test, run)


def _vocabulary(file: Path, pairs: list[Pair], size: int) -> Vocabulary:
    if not file.exists():
        Vocabulary.train((text for p in pairs for text in (p.source, p.target)), size).tokenizer.save(str(file))
    return Vocabulary(Tokenizer.from_file(str(file)))


def encode(vocabulary: Vocabulary, pairs: list[Pair]) -> Encoded:
    """As tokens of two bytes each, since there are 10⁸; sentences that are too long are left out."""
    encoded: Encoded = []
    for i in range(0, len(pairs), 10_000):
        part = pairs[i : i + 10_000]
        sides = (vocabulary.encode([getattr(p, side) for p in part]) for side in ("source", "target"))
        encoded += [
            (array("H", s), array("H", t)) for s, t in zip(*sides, strict=True) if max(len(s), len(t)) < LONGEST
        ]
    return encoded


class stepper:
    """One training step in bfloat16 where there is CUDA, with the paper's optimizer; and all of its state."""

    def __init__(self, model: Transformer, device: str) -> None:
        self.model, self.device = model, device
        self.optimizer, self.schedule = adam(model, model.config.d_model)
        self.criterion = LabelSmoothing(model.config.label_smoothing, PAD)

    def __call__(self, batch: Batch) -> None:
        src, tgt = batch
        said = tgt[:, 1:]
        real = said != PAD
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            y = self.model.decode(tgt[:, :-1], *self.model.encode(src))
            logits = self.model.project(y[real])
        loss = self.criterion(logits.float(), said[real])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()

    def state(self, done: int) -> dict[str, Any]:
        parts = {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule}
        return {"done": done} | {name: part.state_dict() for name, part in parts.items()}

    def load(self, state: dict[str, Any]) -> int:
        """Go on from there; how many steps were done."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        return state["done"]


def score(model: Transformer, vocabulary: Vocabulary, pairs: list[Pair], run: Run) -> dict[str, float]:
    """BLEU with a beam of 4, α = 0.6: `tokenised` with compounds split, as the authors scored, and sacrebleu's own."""
    outputs: list[str] = []
    for i in run.progress(range(0, len(pairs), 64), "translating"):
        src = pad([[*tokens, EOS] for tokens in vocabulary.encode([pair.source for pair in pairs[i : i + 64]])])
        found = beam_search(model, src.to(run.device), bos=BOS, eos=EOS, extra=2 if run.quick else 50)
        outputs += vocabulary.decode(found)
    references = [pair.target for pair in pairs]
    return {
        "tokenised": sacrebleu.corpus_bleu(
            [split_compounds(x) for x in outputs], [[split_compounds(x) for x in references]], tokenize="none"
        ).score,
        "sacrebleu": sacrebleu.corpus_bleu(outputs, [references]).score,
    }


def split_compounds(text: str) -> str:
    """The text as tokens, hyphens between words as tokens of their own: it raises BLEU by about half a point."""
    return re.sub(r"(?<=\S)-(?=\S)", " ##AT##-##AT## ", Tokenizer13a()(text))
