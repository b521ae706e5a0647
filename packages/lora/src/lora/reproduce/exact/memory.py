"""Section 4.2: what LoRA saves in storage and in training, in bytes of tensors that exist or could."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from papertest import Measured, Run, claim, counting
from papertest.threads import one_thread

import lora
from lora.reproduce.models import QUERY_VALUE, bytes_of, gpt
from lora.reproduce.training.steps import smollm2_ids, smollm2_step, total_memory

CHECKPOINT_R = 4  # Section 4.2: "With r = 4 and only the query and value projection matrices being adapted"
HALF = 2  # bytes of a number in half precision
STEP = (4, 64)  # sentences and tokens of the training step that is counted
MOMENTS = 2  # Adam keeps a mean and a mean square of each gradient


@claim("checkpoint-size")
def checkpoint_size(run: Run) -> Measured:
    """Section 4.2, footnote 4: GPT-3's weights (GB) and LoRA's state (MB) in half precision, and their ratio.

    hundred_gb, hundred_full_tb: the footnote's own sum, 100 models with LoRA and 100 in full. The details have LoRA's
    state in MiB.
    """
    paper: Any = run.reported["checkpoint"].value
    model = gpt("gpt3").half()
    full = bytes_of(model.parameters())
    state = lora.lora_state_dict(lora.add_lora(model, QUERY_VALUE, r=CHECKPOINT_R))
    adapter = bytes_of(x.half() for x in state.values())  # Section 7.1: "roughly 35MB if stored in FP16"
    value = {
        "full_gb": full / 1e9,
        "lora_mb": adapter / 1e6,
        "times": full / adapter,
        "hundred_gb": paper["full_gb"] + 100 * paper["lora_mb"] / 1000,
        "hundred_full_tb": 100 * paper["full_gb"] / 1000,
    }
    return Measured(value, {"lora_mib": adapter / 2**20})


def gpt3_counts(r: int) -> tuple[int, int]:
    """Parameters of GPT-3 175B, and of LoRA on its query and value projections."""
    model = gpt("gpt3")
    full = counting.parameters(model)
    return full, counting.parameters(lora.add_lora(model, QUERY_VALUE, r=r), trainable=True)


@claim("parameter-share")
def parameter_share(run: Run) -> Measured:
    """Abstract, Section 2: LoRA's parameters in per cent of GPT-3's, and how many times fewer, at r = 4.

    The details have the same at r = 1, the smallest of Table 4.
    """
    shares = {}
    for r in (CHECKPOINT_R, 1):
        full, adapter = gpt3_counts(r)
        shares[r] = {"percent": 100 * adapter / full, "times": full / adapter}
    return Measured(shares[CHECKPOINT_R], {"r_1": shares[1]})


@claim("optimizer-memory")
def optimizer_memory(run: Run) -> Measured:
    """Section 4.2: memory of weights and of Adam's moments on GPT-3, in TB for full fine-tuning and GB for LoRA (r 4).

    Half precision throughout. The details have other accountings, in TB and GB: with the gradients; with moments in
    single precision; with both; and the bytes a parameter that 1.2 TB would be.
    """
    paper: Any = run.reported["memory"].value
    full, adapter = gpt3_counts(CHECKPOINT_R)

    def memory(moment: int, gradient: int) -> dict[str, float]:
        """Bytes with so many for a moment and for a gradient of a trained number."""
        trained = MOMENTS * moment + gradient
        return {
            "full_tb": full * (HALF + trained) / 1e12,
            "lora_gb": (full * HALF + adapter * (HALF + trained)) / 1e9,
        }

    others = {
        "gradients": memory(HALF, HALF),
        "float32_moments": memory(4, 0),
        "gradients_and_float32_moments": memory(4, HALF),
        "bytes_a_parameter": 1e12 * paper["full_tb"] / full,
    }
    return Measured(memory(HALF, 0), others)


@claim("memory-two-thirds")
def memory_two_thirds(run: Run) -> Measured:
    """Section 4.2: share of the bytes of weights and Adam's states that LoRA (r 1) saves, four layers of width 1024.

    Both are trained for one step with torch's Adam. The details have the bytes, and the share with gradients counted.
    """
    held = {name: held_bytes(adapted=name == "lora") for name in ("full", "lora")}
    without = {name: parts["weights"] + parts["states"] for name, parts in held.items()}
    everything = {name: sum(parts.values()) for name, parts in held.items()}
    details = {"bytes": held, "saved_with_gradients": 1 - everything["lora"] / everything["full"]}
    return Measured({"saved": 1 - without["lora"] / without["full"]}, details)


def held_bytes(*, adapted: bool) -> dict[str, int]:
    """Bytes of weights, of gradients and of Adam's states after one step."""
    model = nn.Sequential(*(nn.Linear(1024, 1024, bias=False) for _ in range(4)))
    if adapted:
        lora.add_lora(model, [name for name, _ in model.named_children()], r=1, alpha=1)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad])
    model(torch.randn(4, 1024)).square().mean().backward()
    optimizer.step()
    states = [x for state in optimizer.state.values() for x in state.values() if isinstance(x, Tensor)]
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return {
        "weights": bytes_of(model.parameters()),
        "gradients": bytes_of(gradients),
        "states": bytes_of(states),
    }


@claim("training-memory")
@one_thread()
def training_memory(run: Run) -> Measured:
    """Section 4.2: LoRA (r 8, q and v) over full fine-tuning, bytes over bytes, in a training step of SmolLM2.

    Adam's states; and the peak of weights, states, gradients and activations, counted from torch's allocations. The
    details have the bytes.
    """
    ids = smollm2_ids(*STEP)
    sides = {"lora": smollm2_step(ids, QUERY_VALUE), "full": smollm2_step(ids, ())}
    found = {name: total_memory(side, "cpu") for name, side in sides.items()}
    value = {key: found["lora"][key] / found["full"][key] for key in ("peak", "states")}
    return Measured({"peak": value["peak"], "optimizer": value["states"]}, found)
