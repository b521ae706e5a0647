"""Claims at the paper's own scale: on a CUDA device, in half precision, with our Triton kernels."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from papertest import bench, counting
from papertest.bench import turns
from papertest.claims import Measured, Run, claim
from papertest.counting import exponent

from flash_attention import flash_attention, standard_attention
from flash_attention.reproduce.attentions import call, draw

Shape = tuple[int, int, int, int]  # batch, heads, length, head size

SETTINGS = {"64": (64, False), "128": (128, False), "causal_64": (64, True), "causal_128": (128, True)}
LENGTHS = [512, 1024, 2048, 4096, 8192, 16384]
PRODUCTS = {"forward": 2, "backward": 5, "both": 7}  # N x N x d matrix products; FlashAttention-2 counts so


@claim("gpu-runtime")
def gpu_runtime(run: Run) -> Measured:
    """Table 20's setting (batch 16, 8 heads, d = 64, float16, no mask nor dropout): seconds of both attentions over N.

    The value is standard attention's time over ours, forward and backward together, at N = 1024, 2048 and 4096.
    """
    rivals = {"flash": flash_attention, "standard": standard_attention}
    lengths = LENGTHS[:4] if run.quick else LENGTHS
    table = {
        what: [timed(run, rivals, (16, 8, n, 64), torch.float16, what) for n in run.progress(lengths, what)]
        for what in PRODUCTS
    }
    both = dict(zip(lengths, table["both"], strict=True))
    speedup = [both[n]["seconds"]["standard"] / both[n]["seconds"]["flash"] for n in (1024, 2048, 4096)]
    return Measured({"speedup": speedup}, {"lengths": lengths, **table})


@claim("gpu-memory")
def gpu_memory(run: Run) -> Measured:
    """Table 21's setting (batch 16, 8 heads, d = 64, float16): bytes at the peak of forward and backward over N.

    They are counted beyond Q, K, V and dO. Standard attention is measured up to N = 4096, as in the table. Each has run
    once before, so that what a library keeps for good, such as cuBLAS its workspace, is not counted.
    """
    lengths = {"flash": LENGTHS, "standard": LENGTHS[:4]}
    attentions = {"flash": flash_attention, "standard": standard_attention}
    for f in attentions.values():
        peak_on(run.device, f, (16, 8, LENGTHS[0], 64))
    peaks = {name: [peak_on(run.device, f, (16, 8, n, 64)) for n in lengths[name]] for name, f in attentions.items()}
    at = LENGTHS.index(4096)
    value = {name: exponent(lengths[name], peaks[name]) for name in peaks}
    value["ratio_4096"] = peaks["standard"][at] / peaks["flash"][at]
    return Measured(value, {"lengths": LENGTHS, **peaks})


@claim("gpu-tflops")
def gpu_tflops(run: Run) -> Measured:
    """FlashAttention-2, Figures 5 and 6: TFLOP/s of our kernels at N = 16K, forward and backward apart, float16."""
    settings = [(what, *setting) for what in ("forward", "backward") for setting in SETTINGS.items()]
    seconds = {
        f"{what}_{name}": timed(run, {"flash": flash_attention}, paper_shape(16384, d), torch.float16, what, causal)
        for what, name, (d, causal) in run.progress(settings, "N = 16K")
    }
    speed = {
        f"{what}_{name}": tflops(paper_shape(16384, d), causal, what, seconds[f"{what}_{name}"]["seconds"]["flash"])
        for what, name, (d, causal) in settings
    }
    return Measured(speed, {"seconds": seconds})


@claim("gpu-tflops-h100")
def gpu_tflops_h100(run: Run) -> Measured:
    """FlashAttention-2, Figure 7: TFLOP/s of our kernels at N = 16K, forward and backward together, float16."""
    speed: dict[str, float] = {}
    for name, (d, causal) in run.progress(SETTINGS.items(), "N = 16K"):
        shape = paper_shape(16384, d)
        took = timed(run, {"flash": flash_attention}, shape, torch.float16, "both", causal)["seconds"]["flash"]
        speed[name if causal else f"d_{name}"] = tflops(shape, causal, "both", took)
    return Measured(speed)


@claim("gpu-sdpa")
def gpu_sdpa(run: Run) -> Measured:
    """The fastest backend of torch's own attention over ours in time, forward, bfloat16, at N = 4096, 8192 and 16384.

    At each length the worst of four settings: d = 64 or 128, causal or not. All backends run in the same round as
    ours. The details have every length from 512, forward and backward, in TFLOP/s, and why a backend did not run.
    """
    names = answering(run.device)
    rivals = {"flash": flash_attention, **{f"sdpa {name}": torchs(BACKENDS[name]) for name in names}}
    lengths = LENGTHS[3:5] if run.quick else LENGTHS
    rows: list[dict[str, Any]] = []
    for n, (d, causal), what in run.progress(
        list(itertools.product(lengths, SETTINGS.values(), ("forward", "backward"))), "against torch's own attention"
    ):
        shape = paper_shape(n, d)
        found = timed(run, rivals, shape, torch.bfloat16, what, causal)
        speeds = {name: tflops(shape, causal, what, took) for name, took in found["seconds"].items()}
        best = max(speed for name, speed in speeds.items() if name != "flash")
        rows.append({"n": n, "d": d, "causal": causal, "pass": what, "tflops": speeds, "refused": found["refused"],
                     "of_fastest": speeds["flash"] / best})  # fmt: skip
    return Measured([worst(rows, n) for n in lengths if n >= 4096], {"rows": rows, "answering": names})


def worst(rows: list[dict[str, Any]], n: int) -> float:
    return min(row["of_fastest"] for row in rows if row["n"] == n and row["pass"] == "forward")


BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}


LIMIT = 60  # seconds in which a backend must have done the longest setting once; one was seen to hang for minutes


def answering(device: str) -> list[str]:
    """The backends that end within `LIMIT`, each tried in a process of its own, all at once.

    One that raises is kept: `timed` says why it refuses.
    """
    code = f"from flash_attention.reproduce import paper; paper.tried({{name!r}}, {device!r})"
    tried = {name: subprocess.Popen([sys.executable, "-c", code.format(name=name)], stderr=subprocess.DEVNULL)
             for name in BACKENDS}  # fmt: skip
    ended: list[str] = []
    end = time.monotonic() + LIMIT
    for name, process in tried.items():
        try:
            process.wait(max(0.0, end - time.monotonic()))
            ended.append(name)
        except subprocess.TimeoutExpired:
            process.kill()
    return ended


def tried(name: str, device: str) -> None:
    """One forward and backward of a backend at the greatest length, in each setting."""
    for d, causal in SETTINGS.values():
        inputs = draw(0, paper_shape(LENGTHS[-1], d), device, torch.bfloat16)
        call(torchs(BACKENDS[name]), inputs, "both", causal=causal)()
        torch.cuda.synchronize()


def torchs(backend: SDPBackend) -> Callable[..., Tensor]:
    """torch's own attention held to one backend; RuntimeError where that backend does not take the input."""

    def attention(q: Tensor, k: Tensor, v: Tensor, *, causal: bool) -> Tensor:
        with sdpa_kernel(backend), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the reasons for a refusal; the error itself follows
            return F.scaled_dot_product_attention(q, k, v, is_causal=causal)

    return attention


def paper_shape(n: int, d: int) -> Shape:
    """FlashAttention-2, Section 4.1: hidden size 2048, and as many sequences as make 16K tokens."""
    return 16384 // n, 2048 // d, n, d


def tflops(shape: Shape, causal: bool, what: str, seconds: float) -> float:
    """FlashAttention-2, Section 4.1: 4 N^2 d FLOPs a head forward, 2.5 times that backward, half of it if causal."""
    batch, heads, n, d = shape
    flops = 2 * PRODUCTS[what] * n * n * d * heads * batch / (2 if causal else 1)
    return flops / seconds / 1e12


def timed(
    run: Run,
    attentions: dict[str, Callable[..., Tensor]],
    shape: Shape,
    dtype: torch.dtype,
    what: str,
    causal: bool = False,
    least: float = 0.02,
) -> dict[str, dict[str, Any]]:
    """Seconds a call of each attention, and the reason of each that refuses or runs out of memory.

    Each is looped for about `least` seconds, so that launching does not count, and all loops take turns; medians.
    """
    inputs = draw(run.seed, shape, run.device, dtype)
    loops: dict[str, tuple[Callable[[], None], int]] = {}
    refused: dict[str, str] = {}
    for name, attention in attentions.items():
        try:
            function = call(attention, inputs, what, causal=causal)
            function()  # compiles
            times = max(1, round(least / max(bench.seconds(function, run.device), 1e-7)))
        except RuntimeError as error:
            if name == "flash":
                raise  # ours has no excuse
            refused[name] = str(error).splitlines()[0]
            continue
        loops[name] = repeated(function, times), times
    seconds = turns([loop for loop, _ in loops.values()], 3 if run.quick else 7, run.device)
    return {
        "seconds": {name: took / times for took, (name, (_, times)) in zip(seconds, loops.items(), strict=True)},
        "refused": refused,
    }


def repeated(function: Callable[[], Any], times: int) -> Callable[[], None]:
    def loop() -> None:
        for _ in range(times):
            function()

    return loop


def peak_on(device: str, attention: Callable[..., Tensor], shape: Shape) -> int:
    inputs = draw(0, shape, device, torch.float16)
    return counting.peak_memory(call(attention, inputs, "both", causal=False), device)
