"""The small models of the trend claims, trained on real pairs, and all that is measured of each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, cast

import sacrebleu
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from papertest.claims import Run
from papertest.threads import one_thread

from transformer.config import TransformerConfig
from transformer.decoding import beam_search, greedy_search
from transformer.model import Transformer
from transformer.reproduce.data.corpus import Corpus, Pair, catalogues
from transformer.reproduce.data.tokens import BOS, EOS, PAD, Batch, Encoded, Vocabulary, batches, pad, tensors
from transformer.reproduce.models import Recurrent
from transformer.training import LabelSmoothing, adam, average_checkpoints

WORDS = 8  # English words of a pair, at most
VOCABULARY = {"de": 1500, "zh": 3000}  # tokens of both languages together
BASE = TransformerConfig(vocab_size=VOCABULARY["de"], n_layers=2, d_model=64, d_ff=256, n_heads=4, fused=True)
STEPS, WARMUP, TOKENS = 1500, 300, 500  # tokens: target tokens of a batch, padding included
PAIRS = 5000  # to learn from: the run passes over them 12 times; the paper's passes over its own about 19 times
RATE = 0.5  # times Eq. 3, whose peak of 7e-3 at this width and warm-up is more than a model of two layers bears
CHECKPOINTS, CURVE = 5, 5  # kept over the last quarter of the run; points of the learning curve
QUICK = 40  # steps, and pairs of each part, in `reproduce --quick`
EXTRA = 10  # tokens by which a translation may be longer than its source: enough for pairs this short

# What each experiment changes in the base model, and nothing else.
VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "one head": {"n_heads": 1},
    "small keys": {"d_k": 4, "d_v": 16},
    "narrow": {"d_model": 32},
    "shallow": {"n_layers": 1},
    "no dropout": {"dropout": 0.0},
    "learned positions": {"positions": "learned"},
    "no smoothing": {"label_smoothing": 0.0},
    "recurrent": {},
}
# Two models to be looked at and not judged: they learn from all pairs, in four passes, where dropout only slows.
SHOWN: dict[str, dict[str, Any]] = {
    "German": {"dropout": 0.0},
    "Chinese": {"dropout": 0.0, "vocab_size": VOCABULARY["zh"]},
}
SHOWN_STEPS = 3000
RECURRENT_RATE = 0.5  # the best of 0.25, 0.5, 1 and 2 on the development pairs
WITH_BEAM = ("base", "no smoothing", *SHOWN)

Model = Transformer | Recurrent


@cache
def corpus(language: str) -> tuple[Corpus, Vocabulary]:
    """The pairs of at most so many words, and the vocabulary, made from the training pairs alone."""
    full = catalogues(language)
    parts = {name: _short(getattr(full, name)) for name in ("train", "dev", "test")}
    texts = (text for pair in parts["train"] for text in (pair.source, pair.target))
    return replace(full, **parts), Vocabulary.train(texts, VOCABULARY[language])


def _short(pairs: list[Pair]) -> list[Pair]:
    return [pair for pair in pairs if len(pair.source.split()) <= WORDS]


def build(name: str) -> Model:
    """The untrained model of an experiment, drawn from torch's generator."""
    config = replace(BASE, **(VARIANTS | SHOWN)[name])
    return Recurrent(config) if name == "recurrent" else Transformer(config)


def steps(name: str, model: Model) -> Callable[[Batch], float]:
    """A function that takes one training step on a batch and returns the loss."""
    optimizer, schedule = adam(model, BASE.d_model, WARMUP, RECURRENT_RATE if name == "recurrent" else RATE)
    criterion = LabelSmoothing(model.config.label_smoothing, PAD)

    def step(batch: Batch) -> float:
        src, tgt = batch
        said = tgt[:, 1:]
        real = said != PAD
        y = model.decode(tgt[:, :-1], *model.encode(src))
        loss = criterion(model.project(y[real]), said[real])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        return loss.item()

    return step


@one_thread()
def train(run: Run, name: str, count: int = STEPS) -> dict[str, Any]:
    """Train one model for so many steps; what it scores on the test pairs, and on the development pairs on its way.

    Weights, order of the pairs and dropout come from the seed alone, so two experiments of one seed differ in what
    their names say and in no more. Perplexity is of the true token, without smoothing.
    """
    pairs, vocabulary = corpus("zh" if name == "Chinese" else "de")
    learned = pairs.train if name in SHOWN else pairs.train[:: len(pairs.train) // PAIRS][:PAIRS]
    test = pairs.test[:QUICK] if run.quick else pairs.test
    dev = encode(vocabulary, pairs.dev[:QUICK] if run.quick else pairs.dev)
    count = QUICK if run.quick else count
    model = build(name)
    step, feed = steps(name, model), batches(encode(vocabulary, learned), TOKENS, run.seed)
    curve: list[dict[str, float]] = []
    checkpoints: list[dict[str, Tensor]] = []
    for done in run.progress(range(1, count + 1), f"training: {name}, seed {run.seed}"):
        loss = step(next(feed))
        if done % (count // CURVE) == 0:
            curve.append({"step": done, "loss": loss, "perplexity": scores(model, dev)["perplexity"]})
        if done > count - CHECKPOINTS * (count // 20) and (count - done) % (count // 20) == 0:
            checkpoints.append({key: value.clone() for key, value in model.state_dict().items()})
    result = scores(model, encode(vocabulary, test))
    result |= {"curve": curve, "greedy": bleu(pairs.language, test, translate(model, vocabulary, test, greedy_search))}
    if name in WITH_BEAM:
        result["beam"] = bleu(pairs.language, test, translate(model, vocabulary, test, beam_search))
    if name in SHOWN:
        result["shown"] = shown(cast(Transformer, model), vocabulary, test)
    if name == "base":
        model.load_state_dict(average_checkpoints(checkpoints))
        result["averaged"] = scores(model, encode(vocabulary, test))["perplexity"]
    return result


def encode(vocabulary: Vocabulary, pairs: list[Pair]) -> Encoded:
    sources, targets = [pair.source for pair in pairs], [pair.target for pair in pairs]
    return list(zip(vocabulary.encode(sources), vocabulary.encode(targets), strict=True))


@torch.no_grad()
def scores(model: Model, pairs: Encoded) -> dict[str, Any]:
    """Perplexity of a token, and the share of tokens that are the likeliest one, given those before them."""
    model.eval()
    ordered = sorted(pairs, key=lambda pair: len(pair[1]))
    nats, right, total = 0.0, 0, 0
    for i in range(0, len(ordered), 100):
        src, tgt = tensors(ordered[i : i + 100])
        said = tgt[:, 1:]
        real = said != PAD
        logits = model.project(model.decode(tgt[:, :-1], *model.encode(src))[real])
        nats += F.cross_entropy(logits, said[real], reduction="sum").item()
        right += int((logits.argmax(1) == said[real]).sum())
        total += int(real.sum())
    model.train()
    return {"perplexity": math.exp(nats / total), "accuracy": 100 * right / total}


def translate(
    model: Model, vocabulary: Vocabulary, pairs: list[Pair], search: Callable[..., list[list[int]]]
) -> list[str]:
    """The translations of the pairs' sources."""
    model.eval()
    sources = vocabulary.encode([pair.source for pair in pairs])
    order = sorted(range(len(pairs)), key=lambda i: len(sources[i]))
    found: dict[int, list[int]] = {}
    for i in range(0, len(order), 100):
        rows = order[i : i + 100]
        src = pad([[*sources[row], EOS] for row in rows])
        found |= zip(rows, search(model, src, bos=BOS, eos=EOS, extra=EXTRA), strict=True)
    model.train()
    return vocabulary.decode([found[i] for i in range(len(pairs))])


def bleu(language: str, pairs: list[Pair], translations: list[str]) -> float:
    """sacrebleu's corpus BLEU, case kept: 13a tokenisation, and Chinese by the character."""
    tokenize = "zh" if language == "zh" else "13a"
    return sacrebleu.corpus_bleu(translations, [[pair.target for pair in pairs]], tokenize=tokenize).score


def shown(model: Transformer, vocabulary: Vocabulary, pairs: list[Pair]) -> dict[str, Any]:
    """Ten held-out sentences with their translations, and where the decoder looked while it wrote one of them."""
    some = pairs[:: max(1, len(pairs) // 10)][:10]
    outputs = translate(model, vocabulary, some, beam_search)
    rows = [{"source": p.source, "reference": p.target, "output": o} for p, o in zip(some, outputs, strict=True)]
    (source,), (target,) = vocabulary.encode([some[0].source]), vocabulary.encode([outputs[0]])
    src, tgt = tensors([(source, target)])
    model.eval()
    with torch.no_grad():
        maps: list[Float[Tensor, "1 heads seq_tgt seq_src"]] = model.attention_maps(src, tgt[:, :-1])
    model.train()
    names = [[vocabulary.decode([[token]])[0] for token in sentence] for sentence in (source, target)]
    weights = [[round(w, 4) for w in row] for row in maps[-1][0].mean(0).tolist()]  # the mean of the last layer's heads
    return {
        "translations": rows,
        "map": {"source": [*names[0], "⟨end⟩"], "target": [*names[1], "⟨end⟩"], "weights": weights},
    }
