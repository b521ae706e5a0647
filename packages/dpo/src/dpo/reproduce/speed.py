"""A step of DPO on SmolLM2 beside trl's: forward, backward and AdamW's update, on one thread in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from papertest import Run, Timed, bench, claim
from papertest.counting import peak_memory
from papertest.models import smollm2
from papertest.threads import one_thread

from dpo.packed import packed_logps
from dpo.preferences import Encoded, collate
from dpo.reproduce.smollm2 import encoded
from dpo.reproduce.trl_side import trl_batch, trl_trainer, with_reference
from dpo.trainer import DPOTrainer

# A sixteenth of the mean lengths of the English pairs: 447 tokens of prompt, 311 of chosen and 341 of rejected answer.
# Pairs of one length are the best case for trl, which pads all rows to the longest.
LENGTHS = {"prompt": 28, "chosen": 19, "rejected": 21}
PAIRS, RATE, BETA = 2, 1e-6, 0.1


def pairs(quick: bool) -> list[Encoded]:
    """The first English pairs that are long enough, each part cut to its length."""
    lengths = {part: 2 for part in LENGTHS} if quick else LENGTHS
    long = [pair for pair in encoded("en") if all(len(getattr(pair, part)) >= n for part, n in LENGTHS.items())]
    return [Encoded(**{part: getattr(pair, part)[:n] for part, n in lengths.items()}) for pair in long[:PAIRS]]


def loaded(device: str) -> Any:
    model: Any = smollm2()[0]
    return model.to(device)


def optimizer(model: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), RATE, fused=True)


def our_step(pairs: list[Encoded], device: str) -> Callable[[], Any]:
    """The reference's log-probabilities are there before the first step."""
    model = loaded(device)
    batch = collate(pairs, pad_id=0).to(device)
    trainer = DPOTrainer(model, optimizer(model), BETA, logps=packed_logps)
    trainer.reference(batch)
    return lambda: trainer.step(batch)


def trl_step(pairs: list[Encoded], device: str, *, precomputed: bool) -> Callable[[], Any]:
    """trl's own training step. precomputed: the reference's log-probabilities come with the batch, else each step
    computes them."""
    model, reference = loaded(device), None if precomputed else loaded(device)
    trainer: Any = trl_trainer(model, reference, beta=BETA)
    inputs = {name: tensor.to(device) for name, tensor in trl_batch(trainer, pairs).items()}
    if precomputed:
        inputs = with_reference(trainer, model, inputs)
    update = optimizer(model)

    def step() -> None:
        update.zero_grad()
        trainer.training_step(model, inputs)
        update.step()

    return step


@claim("trl-step")
@one_thread()
def trl_steps(run: Run) -> Timed:
    """trl's step over ours; trl with reference log-probabilities precomputed, as ours are.

    `default`, in the details: trl as it is without being asked for that.
    """
    given = pairs(run.quick)
    ours, theirs = our_step(given, run.device), trl_step(given, run.device, precomputed=True)
    times = bench.rounds(run, {"ours": ours, "trl": theirs}, null="ours")
    memory = [peak_memory(side, run.device) for side in (ours, theirs)]
    default = bench.paired(
        ours, trl_step(given, run.device, precomputed=False), pairs=1 if run.quick else 3, device=run.device
    )
    rounds = [{"speed": ratio, "memory": memory[0] / memory[1]} for ratio in times.ratio("trl", "ours")]
    return Timed(rounds, times.null, {"seconds": times.seconds, "bytes": memory, "default": default.as_dict()})
