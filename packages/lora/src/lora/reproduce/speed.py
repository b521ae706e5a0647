"""What adapters add to a forward pass, what LoRA saves in a training step, and both steps and switches beside peft's.

Everything is timed on one thread, in rounds of which each times every side once.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import peft
import torch
from jaxtyping import Int
from torch import Tensor

from papertest import Run, Timed, bench, claim
from papertest.counting import peak_memory
from papertest.models import smollm2
from papertest.threads import one_thread

from lora import add_lora, load_adapter, save_adapter, set_adapter
from lora.reproduce.models import AFTER, ONLINE, SMALL, THIRD, forward, gpt2, merged, with_adapters
from lora.reproduce.training.steps import Step, smollm2_ids, smollm2_step, step

R, ALPHA = 8, 16
QUERY_VALUE = ("q_proj", "v_proj")
ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SWITCHES = 5  # of them in a row are timed, and as many loads: one is over in 2 ms


def ids_of(run: Run) -> Int[Tensor, "batch seq"]:
    """Two sentences of 64 tokens: with more of them 15 rounds would take minutes."""
    return smollm2_ids(*(1, 8) if run.quick else (2, 64), device=run.device)


def peft_step(ids: Int[Tensor, "batch seq"], targets: Sequence[str]) -> Step:
    """`smollm2_step` with peft."""
    config = peft.LoraConfig(r=R, lora_alpha=ALPHA, target_modules=list(targets), lora_dropout=0.0)
    return step(peft.get_peft_model(smollm2()[0], config), ids)


@claim("adapter-latency")
@one_thread()
def adapter_latency(run: Run) -> Timed:
    """Table 1, batch 1 and 128 tokens, in float32: time of a forward pass over the base's.

    A third of GPT-2 medium's layers, vocabulary and adapters has the ratios of the whole, in a third of the time.
    """
    shape, (batch, length, parameters) = SMALL if run.quick else THIRD, ONLINE
    base = gpt2(shape, run.device, torch.float32)
    models = {"base": base, "merged": merged(base)}
    added = {}
    for kind in AFTER:
        models[kind], added[kind] = with_adapters(base, kind, shape, parameters)
    ids = torch.randint(shape.vocab_size, (batch, length), device=run.device)
    calls = 20 if run.quick else 1
    times = bench.rounds(run, {name: forward(model, ids, calls) for name, model in models.items()}, null="base")
    ratios = {kind: times.ratio(kind, "base") for kind in (*AFTER, "merged")}
    rounds = [dict(zip(ratios, row, strict=True)) for row in zip(*ratios.values(), strict=True)]
    return Timed(rounds, times.null, {"seconds": times.seconds, "parameters": added})


@claim("training-step")
@one_thread()
def training_step(run: Run) -> Timed:
    """Section 4.2: a step of full fine-tuning over one with LoRA."""
    ids = ids_of(run)
    sides = {"lora": smollm2_step(ids, QUERY_VALUE).run, "full": smollm2_step(ids, ()).run}
    times = bench.rounds(run, sides, null="lora")
    return Timed(times.ratio("full", "lora"), times.null, {"seconds": times.seconds})


@claim("peft-step")
@one_thread()
def peft_steps(run: Run) -> Timed:
    """A step with peft over ours; `query_value`, in the details: query and value alone, in three pairs."""
    ids = ids_of(run)
    ours, theirs = smollm2_step(ids, ALL), peft_step(ids, ALL)
    times = bench.rounds(run, {"ours": ours.run, "peft": theirs.run}, null="ours")
    memory = [peak_memory(side.run, run.device) for side in (ours, theirs)]
    few = [smollm2_step(ids, QUERY_VALUE).run, peft_step(ids, QUERY_VALUE).run]
    beside = bench.paired(*few, pairs=3, device=run.device)
    rounds = [{"speed": ratio, "memory": memory[0] / memory[1]} for ratio in times.ratio("peft", "ours")]
    return Timed(rounds, times.null, {"seconds": times.seconds, "bytes": memory, "query_value": beside.as_dict()})


@claim("peft-switch")
@one_thread()
def peft_switch(run: Run) -> Timed:
    """From one adapter on query and value to another, against `load_adapter`; in models with these two.

    `load_with_peft`, in the seconds: peft's own loading, over an adapter that is there.
    """
    names = itertools.cycle("ab")
    with tempfile.TemporaryDirectory() as folder:
        model, config = smollm2()[0], peft.LoraConfig(r=R, lora_alpha=ALPHA, target_modules=list(QUERY_VALUE))
        for adapter in "ab":
            add_lora(model, QUERY_VALUE, R, ALPHA, adapter=adapter)
            save_adapter(model, Path(folder) / adapter, adapter)
        theirs = peft.get_peft_model(smollm2()[0], config)
        weights = {id(p): p for p in model.parameters()}
        loads = SWITCHES * (1 + bench.PAIRS)
        copies = iter([deepcopy(model, dict(weights)) for _ in range(loads)])  # a load leaves its adapter behind

        def switch() -> None:
            for _ in range(SWITCHES):
                set_adapter(model, next(names))

        def load() -> None:
            for _ in range(SWITCHES):
                load_adapter(next(copies), Path(folder) / "a", "loaded")

        def load_with_peft() -> None:
            for _ in range(SWITCHES):
                theirs.load_adapter(str(Path(folder) / "a"), "default", is_trainable=True)

        sides = {"switch": switch, "load": load, "load_with_peft": load_with_peft}
        times = bench.rounds(run, sides, null="switch")
    return Timed(times.ratio("load", "switch"), times.null, {"seconds": times.seconds, "calls": SWITCHES})
