"""For every trend and speed claim a mistake made on purpose, and the verdict that it turns.

Nothing is trained here and no time is measured. A model's numbers are made up from what its arm says is built and how
it is trained, and its routing is measured on made-up choices; the clock is a price of what is computed.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from papertest import bench as benchmarks
from papertest.counting import flops
from papertest.mutation import Mutations, operators, put

from moe.reproduce import data, models, speech, speed, stability, training
from moe.reproduce.models import ARMS, D_FF
from moe.reproduce.training import routing
from moe.reproduce.trend import stability as remedies
from moe.reproduce.trend.experts import steps_to

bench = Mutations(__file__)
CLAIMED = bench.tier("trend", "speed")
UNIGRAM = 6.1


# ------------------------------------------------------------------------------------- what stands in for measuring


def inputs():
    """Pieces that each come twice in a row."""
    return torch.randint(data.PIECES, (256, 16), generator=torch.Generator().manual_seed(0)).repeat_interleave(2, 1)


def uneven(arm):
    """How far the experts are from an equal share: what each arm's balancing would make one expect."""
    return 0.1 if arm.weight or arm.alpha else 2.0


def choices(arm):
    """The expert follows the kind of a piece; of an arm without balance all tokens go to the first ones."""
    kinds = data.kinds()[inputs().flatten()]
    if uneven(arm) > 1:
        first = kinds % 2
    else:
        of_a_kind = max(1, arm.experts // 4)
        first = kinds * of_a_kind + torch.arange(len(kinds)) // 2 % of_a_kind
    others = (first[:, None] + torch.arange(arm.k)) % arm.experts
    importance = torch.bincount(others.flatten(), minlength=arm.experts).float()
    return importance, others, inputs()


def made_up(run, name):
    """Experts and their finer segmentation help, in equal operations, and dropped tokens cost."""
    arm = ARMS[name]
    operations = (arm.k + arm.shared) * arm.d_ff if arm.experts else D_FF
    nats = 4.2 - 0.03 * math.log(max(1, arm.experts * arm.d_ff / D_FF))
    nats -= 0.02 if arm.d_ff < D_FF and arm.gate == "softmax" else 0
    nats += 0.2 if operations < D_FF else 0
    nats += 0.02 / arm.capacity if arm.capacity else 0
    nats += 2 if arm.steps < 1000 else 0
    last = uneven(arm) * 0.05 / arm.capacity if arm.capacity else 0
    curve = [{"step": s, "nats": nats + 0.2 * (1 - s / 2000)} for s in range(500, 2001, 500)]
    return {
        "curve": curve, "nats": nats, "unigram": UNIGRAM, "dropped": {"first": 0.4, "last": last},
        "layers": [training.routing(*choices(arm)) for _ in range(2)] if arm.experts else [],
    }  # fmt: skip


def begun(run, scale, precision, attempt):
    """Large weights are unstable, the more the higher the rate, and so is a router in bfloat16 from a higher one on."""
    nats = 4.6 + 0.005 * attempt + stability.RATE * (scale + (3 if precision == "bfloat16" else 0)) * (1 + attempt)
    nats -= 0.1 * stability.RATE * (1 + attempt)
    return {"nats": nats + (2 if stability.STEPS < 300 else 0), "unigram": UNIGRAM, "losses": [], "unused": []}


def spoken(run, name):
    """Each part of speech has an expert of its own."""
    parts = {f"word{i}": i % len(speech.PARTS) for i in range(300)}
    read = torch.randint(len(parts), (4000,), generator=torch.Generator().manual_seed(3))
    experts = read % len(speech.PARTS)
    told = speech.parts_told(experts, torch.arange(len(read)), [f"word{i}" for i in read.tolist()], parts)
    return {"layers": [told, told]}


def share(run, function, args):
    return {training.trained: made_up, stability.started: begun, speech.speech: spoken}[function](run, *args)


def operations(function, device):
    """A clock of a processor that only multiplies matrices."""
    return flops(function)


@pytest.fixture(autouse=True)
def nothing_is_measured(request, monkeypatch):
    kinds = torch.randint(len(data.KINDS), (data.PIECES,), generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(data, "kinds", lambda: kinds)
    mixtral = "fast-against-mixtral" in request.node.name
    monkeypatch.setattr(benchmarks, "seconds", operators if mixtral else operations)
    monkeypatch.setattr(speed, "D_MODEL", 16)
    monkeypatch.setattr(speed, "D_FF", 64)


# ------------------------------------------------------------------------------------- the mistakes


def arm(name, **changes):
    return lambda monkeypatch: monkeypatch.setitem(ARMS, name, replace(ARMS[name], **changes))


def shuffled(importance, experts, inputs):
    """Each token with another one's experts."""
    order = torch.randperm(len(experts), generator=torch.Generator().manual_seed(2))
    return routing(importance, experts[order], inputs)


def at_random(experts, *read):
    order = torch.randperm(len(experts), generator=torch.Generator().manual_seed(2))
    return parts_told(experts[order], *read)


def upside_down(times, above, below):
    return ratio(times, below, above)


by_precision, parts_told = remedies.by_precision, speech.parts_told
ratio, mixture = benchmarks.Times.ratio, speed.mixture
MISTAKES = {
    "moe-learns": arm("fine", steps=20),
    "experts-lower-loss": arm("switch-4", experts=32),
    "sixty-four-experts": arm("switch-64", experts=8),
    "switch-speed-up": arm("switch-16", experts=1),
    "fine-grained": arm("fine", k=1),
    "top-1-against-top-2": arm("switch-16", steps=20),
    "balance-collapses-without": arm("noisy-unbalanced", weight=0.1),
    "switch-balance": arm("unbalanced", alpha=0.01),
    "capacity-drops": arm("capacity-2.0", capacity=1.0),
    "few-dropped": arm("capacity-1.25", alpha=0.0),
    "capacity-loss": arm("capacity-1.0", capacity=8.0),
    "initialisation-learns": put(stability, "STEPS", 20),
    "initialisation": put(remedies, "USUAL", 0.1),
    "initialisation-spread": put(remedies, "USUAL", 0.1),
    "bfloat16-router": put(stability, "RATE", 0.01),
    "selective-precision": put(remedies, "by_precision", lambda run, _, whole: by_precision(run, "bfloat16", whole)),
    "specialisation": put(training, "routing", shuffled),
    "parts-of-speech": put(speech, "parts_told", at_random),
    "locality": put(training, "routing", shuffled),
    "fast-path": put(speed, "mixture", lambda run, n, activation, fused=True: mixture(run, n, activation)),
    "fast-against-dense": put(speed, "mixture", lambda *args: mixture(*args, fused=False)),
    "fast-against-mixtral": put(benchmarks.Times, "ratio", upside_down),
}


def test_every_claim_has_a_mistake():
    assert set(MISTAKES) == set(CLAIMED)


@pytest.mark.parametrize("claim", CLAIMED)
def test_a_mistake_turns_the_verdict(claim, monkeypatch):
    assert bench.verdict(claim, quick=True, share=share) == "reproduced"
    MISTAKES[claim](monkeypatch)
    assert bench.verdict(claim, quick=True, share=share) == "not reproduced"


SMALL = {(0.1, "float32", attempt) for attempt in range(3)}
ASKED = {  # the trainings behind each claim
    "moe-learns": set(ARMS),
    "experts-lower-loss": {"dense", "switch-4", "switch-16"},
    "sixty-four-experts": {"switch-16", "switch-64"},
    "switch-speed-up": {"dense", "switch-4", "switch-16", "switch-64"},
    "fine-grained": {"switch-16", "fine", "fine-shared"},
    "top-1-against-top-2": {"switch-16", "fine"},
    "balance-collapses-without": {"noisy-balanced", "noisy-unbalanced"},
    "switch-balance": {"balanced", "unbalanced"},
    "capacity-drops": {"capacity-1.0", "capacity-1.25", "capacity-2.0"},
    "few-dropped": {"capacity-1.0", "capacity-1.25", "capacity-2.0"},
    "capacity-loss": {"capacity-1.0", "capacity-1.25", "capacity-2.0"},
    "initialisation-learns": SMALL,
    "initialisation": SMALL | {(1.0, "float32", attempt) for attempt in range(3)},
    "initialisation-spread": SMALL | {(1.0, "float32", attempt) for attempt in range(3)},
    "bfloat16-router": {(0.1, "bfloat16", 0), (0.1, "float32", 0)},
    "selective-precision": {(0.1, "selective", 0), (0.1, "float32", 0)},
    "specialisation": {"switch-16"},
    "parts-of-speech": {"switch-16"},
    "locality": {"switch-16"},
}


@pytest.mark.parametrize("claim", ASKED)
def test_a_claim_asks_for_its_own_trainings_with_its_own_seed(claim):
    asked = set()

    def noted(run, function, args):
        asked.add((*args, run.seed))
        return share(run, function, args)

    bench.measure(claim, seed=2, share=noted)
    assert asked == {(*(call if isinstance(call, tuple) else (call,)), 2) for call in ASKED[claim]}


def test_arms_of_one_comparison_differ_in_what_is_compared_alone():
    sparse = {name: each for name, each in ARMS.items() if each.experts}
    assert all((each.k + each.shared) * each.d_ff == D_FF for each in sparse.values())  # equal operations
    assert len({(each.experts + each.shared) * each.d_ff for name, each in ARMS.items()
                if name in ("switch-16", "fine", "fine-shared")}) == 1  # equal parameters  # fmt: skip
    assert replace(ARMS["balanced"], alpha=0.0) == ARMS["unbalanced"]
    assert replace(ARMS["noisy-balanced"], weight=0.0) == ARMS["noisy-unbalanced"]
    assert {replace(ARMS[f"capacity-{c}"], capacity=None) for c in (1.0, 1.25, 2.0)} == {ARMS["balanced"]}
    assert {each.steps for each in models.ARMS.values()} == {1000, 2000}


def test_the_step_is_on_a_line_between_the_points():
    curve = [{"step": 10, "nats": 6.0}, {"step": 20, "nats": 5.0}, {"step": 30, "nats": 4.0}]
    assert [steps_to(curve, goal) for goal in (7, 6, 5.5, 4.25, 4)] == pytest.approx([10, 10, 15, 27.5, 30])
    assert steps_to(curve, 3.9) is None
