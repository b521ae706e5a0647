"""Our rotary beside the transformers library's, and a training step of the small models by position encoding.

Everything is timed on one thread, in rounds of which each times every side once.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from papertest import Run, Timed, bench, claim
from papertest.counting import peak_memory
from papertest.threads import one_thread

from rope.reproduce import data
from rope.reproduce.models import LanguageModel, Positions
from rope.reproduce.training import HEADS, STEPS, TOKENS, optimiser, step
from rope.rotary import apply_rope

SHAPE, FEW = (1, 16, 4096, 64), (1, 2, 256, 64)  # FEW: in `reproduce --quick`
SHORT, LONG = 64, 512  # tokens of a sequence
CALLS, TURNS = 4, 20  # of a training step, and of a rotation, in a row: one alone is soon over


@claim("rotary-speed")
def rotary_speed(run: Run) -> Timed:
    """Both of our layouts, in float32."""
    return beside_transformers(run, torch.float32)


@claim("rotary-speed-bfloat16")
def rotary_speed_bfloat16(run: Run) -> Timed:
    """The same in bfloat16, in which the library rotates as well."""
    return beside_transformers(run, torch.bfloat16)


@one_thread()
def beside_transformers(run: Run, dtype: torch.dtype) -> Timed:
    """Queries and keys rotated and their gradients: the library's time over ours, and our peak memory over its.

    Cosines and sines are there before on either side: the library makes them once for all layers, and we keep ours.
    """
    from transformers import LlamaConfig
    from transformers.models.llama import modeling_llama as llama

    draw = torch.Generator().manual_seed(run.seed)
    shape = FEW if run.quick else SHAPE
    q, k, *upstream = (torch.randn(shape, generator=draw).to(run.device, dtype) for _ in range(4))
    config = LlamaConfig(hidden_size=shape[1] * shape[3], num_attention_heads=shape[1])
    cos, sin = llama.LlamaRotaryEmbedding(config).to(run.device)(q, torch.arange(shape[2], device=run.device)[None])
    rotations: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
        "interleaved": lambda q, k: (apply_rope(q), apply_rope(k)),
        "half_split": lambda q, k: (apply_rope(q, interleaved=False), apply_rope(k, interleaved=False)),
        "transformers": lambda q, k: llama.apply_rotary_pos_emb(q, k, cos, sin),
    }
    inputs = [x.requires_grad_() for x in (q, k)]
    sides = {name: there_and_back(rotation, inputs, upstream) for name, rotation in rotations.items()}
    times = bench.rounds(run, {name: repeated(side, TURNS) for name, side in sides.items()}, null="interleaved")
    peaks = {name: peak_memory(side, run.device) for name, side in sides.items()}
    layouts = [name for name in sides if name != "transformers"]
    memory = {f"{name}_memory": peaks[name] / peaks["transformers"] for name in layouts}
    ratios = zip(*(times.ratio("transformers", name) for name in layouts), strict=True)
    rounds = [dict(zip(layouts, row, strict=True)) | memory for row in ratios]
    return Timed(rounds, times.null, {"seconds": times.seconds, "bytes": peaks, "calls": TURNS})


def there_and_back(
    rotation: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], inputs: list[Tensor], upstream: list[Tensor]
) -> Callable[[], object]:
    """Forward and backward of a rotation of queries and keys; the gradients are given back and not added up."""
    return lambda: torch.autograd.grad(rotation(*inputs), inputs, upstream)


def repeated(function: Callable[[], object], calls: int) -> Callable[[], None]:
    def several() -> None:
        for _ in range(calls):
            function()

    return several


def training_step(run: Run, positions: Positions, length: int) -> Callable[[], None]:
    """A step of a small model on random pieces, TOKENS of them in sequences of this length."""
    torch.manual_seed(run.seed)
    model = LanguageModel(data.PIECES, positions, HEADS, length=length).to(run.device)
    adam, schedule = optimiser(model, STEPS)
    ids = torch.randint(data.PIECES, (TOKENS // length, length + 1))
    return repeated(lambda: step(model, adam, schedule, ids), 1 if run.quick else CALLS)


@claim("encoding-overhead")
@one_thread()
def encoding_overhead(run: Run) -> Timed:
    """ALiBi's Table 1 at 512 tokens: the time of a step with each encoding over that with sinusoids."""
    names: tuple[Positions, ...] = ("sinusoidal", "rotary", "t5", "alibi")
    sides = {name: training_step(run, name, LONG) for name in names}
    times = bench.rounds(run, sides, null="sinusoidal")
    ratios = {name: times.ratio(name, "sinusoidal") for name in names[1:]}
    rounds = [dict(zip(ratios, row, strict=True)) for row in zip(*ratios.values(), strict=True)]
    return Timed(rounds, times.null, {"seconds": times.seconds, "steps": 1 if run.quick else CALLS})


@claim("short-training-speed")
@one_thread()
def short_training_speed(run: Run) -> Timed:
    """Section 4.1: a step on 512-token sequences with sinusoids over one on 64-token sequences with ALiBi.

    Both steps have the same number of tokens.
    """
    sides = {"alibi": training_step(run, "alibi", SHORT), "sinusoidal": training_step(run, "sinusoidal", LONG)}
    times = bench.rounds(run, sides, null="alibi")
    return Timed(times.ratio("sinusoidal", "alibi"), times.null, {"seconds": times.seconds})
