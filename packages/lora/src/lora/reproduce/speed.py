"""Training SmolLM2 with LoRA: time and memory beside full fine-tuning's and peft's, and switching between adapters."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import peft
import torch
from torch import Tensor

from papertest import bench
from papertest.claims import Measured, Run, claim
from papertest.counting import peak_memory

from lora import add_lora, load_adapter, save_adapter, set_adapter
from lora.reproduce.models import smollm2
from lora.reproduce.steps import Step, step, total_memory
from lora.reproduce.threads import one_thread

BATCH, LENGTH = 4, 64
R, ALPHA = 8, 16
QUERY_VALUE = ("q_proj", "v_proj")
ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def tokens(run: Run) -> Tensor:
    return torch.randint(49152, (1, 8) if run.quick else (BATCH, LENGTH), device=run.device)


def ours(ids: Tensor, targets: Sequence[str]) -> Step:
    """A training step of a SmolLM2 of its own; of all its parameters where no targets are given."""
    model = smollm2()[0]
    return step(add_lora(model, targets, R, ALPHA) if targets else model, ids)


def theirs(ids: Tensor, targets: Sequence[str]) -> Step:
    """The same with peft."""
    config = peft.LoraConfig(r=R, lora_alpha=ALPHA, target_modules=list(targets), lora_dropout=0.0)
    return step(peft.get_peft_model(smollm2()[0], config), ids)


@claim("training-memory")
def training_memory(run: Run) -> Measured:
    """Against full fine-tuning, bytes over bytes."""
    ids = tokens(run)
    found = {
        name: total_memory(ours(ids, targets), run.device) for name, targets in (("lora", QUERY_VALUE), ("full", ()))
    }
    value = {
        key: found["lora"][name] / found["full"][name] for key, name in (("optimizer", "states"), ("peak", "peak"))
    }
    return Measured(value, found)


@claim("training-step")
@one_thread()
def training_step(run: Run) -> Measured:
    """Against full fine-tuning, on one thread."""
    ids = tokens(run)
    ratio = bench.paired(ours(ids, QUERY_VALUE).run, ours(ids, ()).run, pairs=2 if run.quick else 3, device=run.device)
    return Measured(ratio.median, ratio.as_dict())


@claim("peft-step")
@one_thread()
def peft_step(run: Run) -> Measured:
    """Against peft, on one thread; `query_value`, in the details: the same with query and value alone."""
    ids = tokens(run)
    found: dict[str, Any] = {}
    for name, targets, pairs in (("all", ALL, 5), ("query_value", QUERY_VALUE, 3)):
        sides = [ours(ids, targets), theirs(ids, targets)]
        ratio = bench.paired(sides[0].run, sides[1].run, pairs=2 if run.quick else pairs, device=run.device)
        memory = [peak_memory(side.run, run.device) for side in sides]
        found[name] = {**ratio.as_dict(), "bytes": memory}
    every = found["all"]
    return Measured({"speed": every["median"], "memory": every["bytes"][0] / every["bytes"][1]}, found)


@claim("peft-switch")
@one_thread()
def peft_switch(run: Run) -> Measured:
    """From one adapter on query and value to another, against `load_adapter`, on one thread; in models with these two.

    `peft`, in the details: peft's own loading, over an adapter that is there.
    """
    names, pairs = itertools.cycle("ab"), 3 if run.quick else 15
    with tempfile.TemporaryDirectory() as folder:
        model, config = smollm2()[0], peft.LoraConfig(r=R, lora_alpha=ALPHA, target_modules=list(QUERY_VALUE))
        for adapter in "ab":
            add_lora(model, QUERY_VALUE, R, ALPHA, adapter=adapter)
            save_adapter(model, Path(folder) / adapter, adapter)
        theirs = peft.get_peft_model(smollm2()[0], config)
        weights = {id(p): p for p in model.parameters()}
        copies = iter([deepcopy(model, dict(weights)) for _ in range(1 + pairs)])  # a load leaves its adapter behind

        def switch() -> None:
            set_adapter(model, next(names))

        def load() -> None:
            load_adapter(next(copies), Path(folder) / "a", "loaded")

        def load_with_peft() -> None:
            theirs.load_adapter(str(Path(folder) / "a"), "default", is_trainable=True)

        ratio = bench.paired(switch, load, pairs=pairs, device=run.device)
        beside = bench.paired(switch, load_with_peft, pairs=pairs, device=run.device)
    return Measured(ratio.median, {**ratio.as_dict(), "peft": beside.as_dict()})
