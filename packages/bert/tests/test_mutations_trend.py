"""For every trend claim, and every paper claim, a mistake made on purpose, and the verdict that it turns.

Nothing is trained here and no time is measured. A pre-training's scores are made up from what is asked of it; the clock
is a price of what is computed. The mistake is in what is asked for, built, or timed.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from papertest import bench
from papertest.accept import judge
from papertest.claims import CLAIMS, Run
from papertest.fingerprint import Sources
from papertest.measure import Silent, seed_all
from papertest.package import Package

from bert.reproduce import gpu, pretrained_trend, pretraining, speed, trend
from bert.reproduce.datasets import Labelled
from bert.reproduce.pretraining import LTR
from bert.reproduce.text import PAIRS, SENTENCES, Example

PACKAGE = Package.at(Path(__file__).parents[1] / "src" / "bert")
RECORD = PACKAGE.record
CLAIMED = [name for name, entry in RECORD.claims.items() if entry.tier != "exact"]


def measure(claim, seed=0, share=lambda run, function, args: function(run, *args)):
    """One measurement, as `reproduce --quick` makes it."""
    importlib.import_module(Sources(PACKAGE).claims[claim][0])
    entries = {i: RECORD.reported[i] for i in RECORD.claims[claim].reports}
    seed_all(seed)
    return CLAIMS[claim](Run(seed, "cpu", True, entries, Silent().track, share))


def verdict(claim):
    return judge(RECORD.claims[claim].accept, None, [measure(claim).value]).verdict


# ------------------------------------------------------------------------------------- what stands in for measuring


def trained(run, name):
    """What the paper would make one expect of a model, from what its name changes."""
    config = pretraining.config(name)
    at = 70.0
    at -= 3 if config.causal else 0
    at -= 2 if config.n_layers < 2 else 0
    at -= 1.5 if config.hidden_size < 64 else 0
    masking = pretraining.MASKING.get(name, {})
    at -= 1 if masking.get("random") == 1 else 0
    at -= 8 if name == trend.FROM_SCRATCH else 0
    pairs = at - (2 if name in pretraining.WITHOUT_NSP else 0)
    early = 1.0 if config.causal else 0.0
    late = 60.0 + (0 if config.causal else -1)
    perplexity = 100.0 * (1.2 if config.n_layers < 2 else 1) * (1.3 if config.hidden_size < 64 else 1)
    features = at - 1 - (1 if masking.get("mask") == 1 else 0)
    by = {SENTENCES: [at, at], PAIRS: [pairs, pairs]}
    return {
        "accuracy": by,
        "curve": [{"perplexity": perplexity}],
        "checkpoints": {"0.1": {SENTENCES: [55 + early], PAIRS: [55 + early]},
                        "0.2": {SENTENCES: [late], PAIRS: [late]}},
        "frozen": {task: {"last": features - 1, "concatenated": features} for task in by},
        "few": [at - 10, at - 8],
        "grid": {str(trend.FEW): [50.0, 55.0, 53.0], str(trend.MANY): [66.0, 67.0, 66.5]},
    }  # fmt: skip


POSTS = [(f"post {i} about {word}", label) for i in range(60) for label, word in enumerate(("cars", "space"))]


def prepare(monkeypatch, claim):
    """No training, no wall clock, no network."""
    monkeypatch.setattr(trend, "train", trained)
    monkeypatch.setattr(pretrained_trend, "train", trained)
    for module in (pretrained_trend, speed):
        monkeypatch.setattr(module, "minilm", Path)
        monkeypatch.setattr(module, "copy_of", lambda bert: bert)
        monkeypatch.setattr(
            module, "load_pretrained", lambda path, fused: SimpleNamespace(config=pretraining.BASE, real=True)
        )
        monkeypatch.setattr(module, "examples", lambda found, longest: [example(*each) for each in found])
    monkeypatch.setattr(pretrained_trend.datasets, "labelled", lambda name: Labelled(POSTS, POSTS, POSTS, ["a", "b"], ""))
    monkeypatch.setattr(pretrained_trend.datasets, "tfidf_baseline", lambda train, dev, texts: [0] * len(texts))
    monkeypatch.setattr(pretrained_trend, "Bert", lambda config: SimpleNamespace(config=config, real=False))
    monkeypatch.setattr(pretrained_trend, "tuned", lambda bert, *rest: bert)
    monkeypatch.setattr(pretrained_trend, "tested", lambda bert, found: 70.0 if bert.real else 55.0)
    monkeypatch.setattr(pretrained_trend, "predict", lambda bert, found: [each.label for each in found])
    monkeypatch.setattr(speed, "ours", lambda: encoder(1.0))
    monkeypatch.setattr(speed, "theirs", lambda: encoder(1.1))
    monkeypatch.setattr(speed, "BertForClassification", lambda bert, n: "ours")
    monkeypatch.setattr(speed, "Peer", lambda: "theirs")
    monkeypatch.setattr(speed, "step", lambda model, batch: lambda: spend(1.0 if model == "ours" else 1.05))
    monkeypatch.setattr(speed, "peak_memory", lambda function, device: 100)
    monkeypatch.setattr(bench, "seconds", seconds)
    monkeypatch.setattr(gpu, "weights", Path)
    monkeypatch.setattr(gpu, "tokenizer", lambda folder: None)
    monkeypatch.setattr(gpu, "glue_data", Path)
    monkeypatch.setattr(gpu, "read_glue", lambda file, task: [("a", "b", 0)] * 4)
    monkeypatch.setattr(gpu, "glue_examples", lambda rows, tokens: [example("a b", 0)] * 4)
    monkeypatch.setattr(gpu, "load_pretrained", lambda folder, fused: None)
    for name in ("BertForClassification", "SpanModel"):
        monkeypatch.setattr(gpu, name, lambda *args: torch.nn.Linear(1, 1))
    monkeypatch.setattr(gpu, "fine_tune", lambda model, train, **asked: ASKED.append(asked))
    monkeypatch.setattr(gpu, "tested", lambda model, dev: 92.5 if ASKED[-1]["rate"] == 5e-5 else 80.0)
    monkeypatch.setattr(gpu, "folder_of", lambda *args: Path())
    monkeypatch.setattr(gpu, "read_squad", lambda file: [])
    monkeypatch.setattr(gpu, "windows", lambda *args: [])
    monkeypatch.setattr(gpu, "train_spans", lambda model, data, **asked: ASKED.append(asked))
    monkeypatch.setattr(gpu, "answers", lambda *args: [])
    monkeypatch.setattr(gpu, "scores", lambda found, dev: {"em": 80.8, "f1": 88.4 if ASKED[-1]["epochs"] == 3 else 80.0})


ASKED = []  # what the last trainings on the GPU were asked for
CLOCK = [0.0]


def example(text, label):
    return Example([2, *range(5, 5 + len(text)), 3], [0] * (len(text) + 2), label)


def spend(time):
    CLOCK[0] += time


def encoder(price):
    """A model that takes so long for a token, padding included."""

    def encode(batch):
        spend(price * batch[0].numel())
        return torch.zeros(*batch[0].shape, 4)

    return encode


def seconds(function, device):
    start = CLOCK[0]
    function()
    return CLOCK[0] - start


# ------------------------------------------------------------------------------------- the mistakes


def put(target, name, value):
    return lambda monkeypatch: monkeypatch.setattr(target, name, value)


def sizes(name, **changes):
    return lambda monkeypatch: monkeypatch.setitem(pretraining.SIZES, name, changes)


def masking(name, **changes):
    return lambda monkeypatch: monkeypatch.setitem(pretraining.MASKING, name, changes)


def with_scores(wrong):
    """Every pre-training's scores, changed by a function of its name and its scores."""

    def train(run, name):
        scores = trained(run, name)
        return scores | wrong(name, scores)

    def apply(monkeypatch):
        for module in (trend, pretrained_trend):
            monkeypatch.setattr(module, "train", train)

    return apply


def swapped(ours, peer, **options):
    return paired(peer, ours, **options)


paired = bench.paired
MISTAKES = {
    "mlm-against-ltr": sizes(LTR, causal=False),
    "nsp-against-none": put(pretraining, "WITHOUT_NSP", ()),
    "masking-robust": with_scores(lambda name, s: trained(None, LTR) if name == "mask alone" else {}),
    "masking-random": masking("random alone", mask=0.8, random=0.1, keep=0.1),
    "masking-features": masking("mask alone", mask=0.8, random=0.1, keep=0.1),
    "mlm-slower-first": put(trend, "EARLY", 0.2),
    "mlm-converges-slower": put(trend, "FIFTH", 0.1),
    "size-layers": sizes("half the layers"),
    "size-width": sizes("half the width"),
    "size-finetuned": sizes("half the layers"),
    "pretrained-against-scratch": put(pretrained_trend, "FROM_SCRATCH", "base"),
    "finetuned-against-frozen": with_scores(lambda name, s: {"accuracy": {t: [68.0] for t in s["accuracy"]}}),
    "large-sets-less-sensitive": put(trend, "MANY", trend.FEW),
    "minilm-against-tfidf": put(pretrained_trend, "predict", lambda bert, found: [1] * len(found[1:]) + [19]),
    "forward-speed": put(bench, "paired", swapped),
    "finetune-step-speed": put(bench, "paired", swapped),
    "glue": put(gpu, "GLUE", "swag"),
    "squad": put(gpu, "SQUAD", "squad_2"),
}


def test_every_trend_and_paper_claim_has_a_mistake():
    assert set(MISTAKES) == set(CLAIMED)


@pytest.mark.parametrize("claim", CLAIMED)
def test_a_mistake_turns_the_verdict(claim, monkeypatch):
    prepare(monkeypatch, claim)
    assert verdict(claim) == "reproduced"
    MISTAKES[claim](monkeypatch)
    assert verdict(claim) == "not reproduced"


TRAININGS = {  # the pre-trainings behind each claim
    "mlm-against-ltr": {"no NSP", LTR},
    "nsp-against-none": {"base", "no NSP"},
    "masking-robust": {"base", "mask alone"},
    "masking-random": {"base", "random alone"},
    "masking-features": {"base", "mask alone"},
    "mlm-slower-first": {"no NSP", LTR},
    "mlm-converges-slower": {"no NSP", LTR},
    "size-layers": {"base", "half the layers"},
    "size-width": {"base", "half the width"},
    "size-finetuned": {"base", "half the layers", "half the width"},
    "pretrained-against-scratch": {"base", trend.FROM_SCRATCH},
    "finetuned-against-frozen": {"base"},
    "large-sets-less-sensitive": {"base"},
}


@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize("claim", TRAININGS)
def test_a_claim_asks_for_its_own_trainings_with_its_own_seed(claim, seed, monkeypatch):
    prepare(monkeypatch, claim)
    asked = []

    def share(run, function, args):
        asked.append((function, args, run.seed))
        return function(run, *args)

    measure(claim, seed, share)
    assert {(function, args, s) for function, args, s in asked} == {(trained, (n,), seed) for n in TRAININGS[claim]}


def test_sentences_sorted_by_length_come_back_in_their_order(monkeypatch):
    found = [example("x" * n, 0) for n in (9, 2, 30, 4, 7)]
    monkeypatch.setattr(speed, "BATCH", 2)
    sides = [
        speed.states(lambda batch: batch[2].sum(1)[:, None, None].expand(-1, 1, 3).float(), found, ordered=ordered)
        for ordered in (True, False)
    ]
    assert [row[0].item() for row in sides[0]] == [row[0].item() for row in sides[1]] == [11, 4, 32, 6, 9]
