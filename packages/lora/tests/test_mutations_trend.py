"""For every claim that trains, takes the time or needs a GPU a mistake made on purpose, and the verdict that it turns.

Nothing is trained here and no time is measured. Accuracies are made up from what a method really trains, A and B are
made up too, and the clock is a price of what is computed: operators, or operations of the products. Models are tiny.
"""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from papertest import bench as benchmarks
from papertest.mutation import Clock, Mutations, put

from lora.reproduce import models, paper, speed, trend
from lora.reproduce.exact import memory
from lora.reproduce.models import factors
from lora.reproduce.training import classifiers, steps
from lora.reproduce.training.classifiers import METHODS, Classifier, lora_name, prepare
from lora.reproduce.training.steps import Step

bench = Mutations(__file__)
CLAIMED = [*bench.tier("trend", "speed", "paper"), "training-memory"]


# ------------------------------------------------------------------------------------- what stands in for measuring


WIDTH = 96


@cache
def _bert():
    config = BertConfig(hidden_size=WIDTH, intermediate_size=8, num_attention_heads=2, num_hidden_layers=6)
    torch.manual_seed(0)
    model = BertModel(config)
    for place, layer in enumerate(model.encoder.layer):
        u, v = wanted(place)
        sizes = torch.tensor([10.0] * 4 + [2.0] * 4)
        layer.attention.self.query.weight.data = 1e-4 * torch.randn(WIDTH, WIDTH) + (u * sizes) @ v.T
    return model


def bert():
    """MiniLM's layers and vocabulary, and little else. W_q has four large singular values, and four that are 2."""
    return deepcopy(_bert())


def wanted(layer):
    """Eight directions of W_q on either side; an adaptation is in the last four."""
    noise = torch.Generator().manual_seed(layer)
    u, v = (torch.linalg.qr(torch.randn(WIDTH, 8, generator=noise))[0] for _ in range(2))
    return u, v


def trained(run, name, language, seed):
    """A model with the A and B that one would like to see, and the accuracy expected of what is trained in it."""
    del run, language
    model = Classifier(bert(), WIDTH)
    count = prepare(model, METHODS[name])
    names = [n for n, parameter in model.bert.named_parameters() if parameter.requires_grad]
    adapted = {part for part in ("query", "value") if any("lora_A" in n and part in n for n in names)}
    if adapted:
        at = 80.0 - (3 if "query" not in adapted else 0) - (5 if "value" not in adapted else 0)
        noise = torch.Generator().manual_seed(seed)
        for place, (a, b) in enumerate(factors(model.bert).values()):
            r, layer = a.shape[0], place // len(adapted)
            u, v = wanted(layer)
            a.data = 1e-3 * torch.randn(a.shape, generator=noise)
            b.data = 1e-3 * torch.randn(b.shape, generator=noise)
            few = min(r, 4)
            strength = torch.tensor([4.0, 3.0, 2.0, 1.0])[:few]
            a.data[:few] += strength[:, None] * v.T[4 : 4 + few]
            b.data[:, :few] += strength * r * u[:, 4 : 4 + few]
    else:
        weights = [n for n in names if not n.endswith(".bias")]
        layers = {n.split(".")[2] for n in weights if n.startswith("encoder")}
        at = 80.2 if len(layers) == 6 else 76.0 if layers else 77.0 if names else 73.0
    total = sum(parameter.numel() for parameter in model.parameters())
    return model, {"accuracy": at, "trained": count, "percent": 100 * count / total, "majority": 51.0}


def llama():
    """A model with SmolLM2's names, and a tokenizer with none."""
    torch.manual_seed(0)
    config = LlamaConfig(hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=4,
                         vocab_size=49152, tie_word_embeddings=True)  # fmt: skip
    return LlamaForCausalLM(config).eval(), Tokenizer(WordLevel({"a": 0}, "a"))


CLOCK = Clock()


def spend(time):
    """A training step that takes so long."""
    return lambda ids, targets: Step(lambda: CLOCK.spend(time), None, None)


class Counted(TorchDispatchMode):
    """How many operators are computed; a view of what is there costs nothing."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += not any(view in str(function) for view in ("view", ".t.", "_T", "transpose", "split"))
        return function(*args, **(kwargs or {}))


def once(function, device):
    """A clock of a processor that waits for the next operator, and does nothing else."""
    with Counted() as mode:
        function()
    return 1 + mode.count


def operators(function, device):
    """A clock of a processor that waits for the next operator most of the time."""
    return once(function, device) + operations(function, device) / 1e6


def operations(function, device):
    """A clock of a processor that only multiplies matrices."""
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def prepare_for(monkeypatch, claim):
    """No training, no wall clock, no network."""
    monkeypatch.setattr(trend, "trained", trained)
    monkeypatch.setattr(trend, "minilm", lambda: (bert(), None))
    monkeypatch.setattr(memory, "STEP", (1, 8))
    for module in (speed, steps):
        monkeypatch.setattr(module, "smollm2", llama)
    forward = models.forward
    for module in (speed, paper):
        monkeypatch.setattr(module, "forward", lambda model, ids, calls: forward(model, ids, 1))
    if claim == "peft-step":
        monkeypatch.setattr(speed, "smollm2_step", spend(1.0))
        monkeypatch.setattr(speed, "peft_step", spend(1.2))
        monkeypatch.setattr(speed, "peak_memory", lambda function, device: 100)
    clocks = {
        "training-step": operations, "gpu-training": operations, "peft-step": CLOCK.seconds, "peft-switch": once
    }  # fmt: skip
    monkeypatch.setattr(benchmarks, "seconds", clocks.get(claim, operators))


# ------------------------------------------------------------------------------------- the mistakes


def method(name, **changes):
    return lambda monkeypatch: monkeypatch.setitem(METHODS, name, METHODS[name]._replace(**changes))


def upside_down(times, above, below):
    return ratio(times, below, above)


def last_first(a):
    """The directions of the smallest singular values before those of the largest."""
    return torch.linalg.svd(a.double())[2][: len(a)].flip(0)


def base_trains_too(model, *rest, **more):
    add_lora(model, *rest, **more)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model


def nothing_learnt(run, name, language, seed):
    """A classifier that says one label to everything."""
    model, kept = trained(run, name, language, seed)
    return model, kept | {"accuracy": kept["majority"]}


ratio, add_lora, projections = benchmarks.Times.ratio, steps.add_lora, trend.projections
MISTAKES = {
    "adapters-learn": put(trend, "trained", nothing_learnt),
    "close-to-full": method(trend.LORA, r=64),
    "ahead-of-bias": method(classifiers.BIAS, chosen=lambda name: True),
    "ahead-of-last-layer": method(classifiers.LAST, chosen=lambda name: ".layer." in name),
    "ranks-level": method(lora_name("q,v", 1), targets=("query",)),
    "q-and-v-together": method(lora_name("v", 8), targets=classifiers.QUERY_VALUE),
    "subspace-similarity": put(trend, "directions", last_first),
    "two-seeds-similarity": put(trend, "directions", last_first),
    "amplification": put(trend, "projections", lambda w, delta, *rest: projections(w, w, *rest)),
    "adapter-latency": put(models, "merge_lora", lambda model: model),
    "training-memory": put(steps, "add_lora", base_trains_too),
    "training-step": put(steps, "add_lora", base_trains_too),
    "peft-step": put(benchmarks.Times, "ratio", upside_down),
    "peft-switch": put(benchmarks.Times, "ratio", upside_down),
    "gpu-latency": put(models, "merge_lora", lambda model: model),
    "gpu-training": put(paper, "add_lora", base_trains_too),
}


def test_every_claim_has_a_mistake():
    assert set(MISTAKES) == set(CLAIMED)


@pytest.mark.parametrize("claim", CLAIMED)
def test_a_mistake_turns_the_verdict(claim, monkeypatch):
    prepare_for(monkeypatch, claim)
    assert bench.verdict(claim, quick=True) == "reproduced"
    MISTAKES[claim](monkeypatch)
    assert bench.verdict(claim, quick=True) == "not reproduced"


ENGLISH_AND_CHINESE = [trend.ENGLISH, trend.CHINESE]
TRAININGS = {  # the trainings behind each claim, but those of `together`
    "adapters-learn": {(trend.LORA, trend.CHINESE)},
    "close-to-full": {(classifiers.FULL, language) for language in ENGLISH_AND_CHINESE} | {(trend.LORA, trend.CHINESE)},
    "ahead-of-bias": {(classifiers.BIAS, language) for language in ENGLISH_AND_CHINESE} | {(trend.LORA, trend.CHINESE)},
    "ahead-of-last-layer": {(classifiers.LAST, language) for language in ENGLISH_AND_CHINESE}
    | {(trend.LORA, trend.CHINESE), (classifiers.HEAD, trend.ENGLISH)},
    "ranks-level": {(lora_name("q,v", r), trend.ENGLISH) for r in (1, 2, 4)},
    "q-and-v-together": {(lora_name(*each), trend.ENGLISH) for each in (("q,v", 4), ("q", 8), ("v", 8))},
    "subspace-similarity": set(),
    "two-seeds-similarity": set(),
    "amplification": {(lora_name("q,v", 4), trend.ENGLISH)},
}


@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize("claim", TRAININGS)
def test_a_claim_asks_for_its_own_trainings_with_its_own_seed(claim, seed, monkeypatch):
    prepare_for(monkeypatch, claim)
    asked = set()

    def share(run, function, args):
        asked.add((function.__name__, args, run.seed))
        return function(run, *args)

    bench.measure(claim, seed=seed, quick=True, share=share)
    together = {("together", (), seed)} if claim != "q-and-v-together" else set()
    assert asked == {("train", args, seed) for args in TRAININGS[claim]} | together


@pytest.mark.parametrize("language", ENGLISH_AND_CHINESE)
def test_no_two_seeds_share_a_training_example_and_none_is_tested(language, monkeypatch):
    monkeypatch.setattr(classifiers, "encode", lambda texts, longest: texts)
    parts = [classifiers.data(language, seed) for seed in range(10)]
    learnt = {text for part in parts for text in part.train}
    assert sum(len(part.train) for part in parts) == len(learnt) == 10 * classifiers.LABELS
    assert all(part.test == parts[0].test and len(part.test) == classifiers.TESTED for part in parts)
    assert not learnt & set(parts[0].test) and not set(parts[0].dev) & set(parts[0].test)


def test_a_seed_for_which_no_sentence_is_left_is_refused():
    with pytest.raises(ValueError, match=r"seed must be below 10 for English sentences, got 10"):
        classifiers.data(trend.ENGLISH, 10)
