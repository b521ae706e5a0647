"""What is served and where training starts, on real weights: merging, switching, and step 0."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from papertest import Measured, Run, claim, counting
from papertest.models import minilm, smollm2
from papertest.parity import relative_error
from papertest.threads import one_thread

import lora
from lora.reproduce.models import factors, randomise

TARGETS = ("query", "value")  # of MiniLM
SENTENCE = "The film is slow, and worth every minute of it."
ADAPTERS = ("first", "second", "third")


class Operators(TorchDispatchMode):
    """Names of the operators that torch dispatches while this is on, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def tokens(tokenizer: Any) -> Tensor:
    return torch.tensor([tokenizer.encode(SENTENCE).ids])


@torch.no_grad()
def states(model: Any, ids: Tensor) -> Tensor:
    """The last hidden states of MiniLM, or the logits of SmolLM2."""
    return model(ids)[0]


@claim("no-latency")
@one_thread()
def no_latency(run: Run) -> Measured:
    """Section 4.1: FLOPs and operators of MiniLM with merged LoRA over the base's, and the output's relative change.

    The details have both, and the operators before merging.
    """
    model, tokenizer = minilm()
    ids = tokens(tokenizer)
    base = work(model, ids)
    randomise(lora.add_lora(model, TARGETS, r=8, alpha=16), seed=0)
    with Operators() as unmerged:
        output = states(model, ids)
    lora.merge_lora(model)
    merged = work(model, ids)
    value = {
        "flops": merged["flops"] / base["flops"],
        "operators": merged["operators"] / base["operators"],
        "output": relative_error(states(model, ids), output),
    }
    return Measured(value, {"base": base, "merged": merged, "operators_unmerged": len(unmerged.names)})


def work(model: Any, ids: Tensor) -> dict[str, int]:
    """FLOPs of the products, and operators of every kind, in one forward pass."""
    with Operators() as operators:
        states(model, ids)
    return {"flops": counting.flops(lambda: states(model, ids)), "operators": len(operators.names)}


@claim("merge-reversible")
@one_thread()
def merge_reversible(run: Run) -> Measured:
    """Section 4.1: share of MiniLM's weights whose bits differ after three adapters were merged and unmerged in turn.

    The details have the share if W_0 is recovered by subtracting BA, as the section has it, of the adapted matrices.
    """
    value: dict[str, float] = {}
    subtracted: dict[str, float] = {}
    for dtype in (torch.float32, torch.bfloat16):
        model: Any = minilm()[0]
        model.to(dtype)
        weights = {name: p.detach().clone() for name, p in model.named_parameters()}
        kept = dict(model.named_parameters())
        for seed, adapter in enumerate(ADAPTERS):
            lora.add_lora(model, TARGETS, r=8, alpha=16, adapter=adapter)
            randomise(model, seed=seed, adapter=adapter)
        for adapter in ADAPTERS:
            lora.unmerge_lora(lora.merge_lora(lora.set_adapter(model, adapter)))
        name = str(dtype).removeprefix("torch.")
        value[name] = share_changed(weights, kept)
        back = {}
        for layer, (A, B) in factors(model, ADAPTERS[0]).items():
            delta = 2 * (B @ A).detach()
            merged = (weights[f"{layer}.weight"] + delta).to(dtype)
            back[f"{layer}.weight"] = (merged - delta).to(dtype)
        subtracted[name] = share_changed({name: weights[name] for name in back}, back)
    return Measured(value, {"subtracting": subtracted})


def share_changed(before: dict[str, Tensor], after: dict[str, Any]) -> float:
    """Of all numbers, those whose bits differ."""
    changed = sum(int((bits(after[name]) != bits(weight)).sum()) for name, weight in before.items())
    return changed / sum(weight.numel() for weight in before.values())


def bits(x: Tensor) -> Tensor:
    return x.detach().view({2: torch.int16, 4: torch.int32}[x.element_size()])


@claim("zero-init")
@one_thread()
def zero_init(run: Run) -> Measured:
    """Section 4.1: largest change of the outputs of MiniLM and SmolLM2 when LoRA is added, and how Gaussian A is.

    gaussian: largest difference between the distribution of MiniLM's A, over its standard deviation, and the normal
    one. The details have that standard deviation.
    """
    value: dict[str, float] = {}
    details: dict[str, float] = {}
    for name, load, targets in (("minilm", minilm, TARGETS), ("smollm2", smollm2, ("q_proj", "v_proj"))):
        model, tokenizer = load()
        ids = tokens(tokenizer)
        before = states(model, ids)
        lora.add_lora(model, targets, r=8, alpha=16)
        value[name] = float((states(model, ids) - before).abs().max())
        if name == "minilm":
            entries = torch.cat([A.detach().flatten() for A, _ in factors(model).values()])
            value["gaussian"] = distance_from_normal(entries / entries.std())
            details["standard_deviation"] = float(entries.std())
    return Measured(value, details)


def distance_from_normal(x: Tensor) -> float:
    """Kolmogorov and Smirnov: the largest difference of the distribution functions."""
    ordered = x.double().sort().values
    rank = torch.arange(len(x), dtype=torch.float64) / len(x)
    normal = torch.special.ndtr(ordered)
    return float(torch.maximum((normal - rank).abs(), (normal - rank - 1 / len(x)).abs()).max())


@claim("gradient-start")
@one_thread()
def gradient_start(run: Run) -> Measured:
    """Section 4.1: at B = 0, the largest gradient of A in MiniLM, and the share of B's entries that have one.

    The details have the same with A and B both at zero, where neither would ever move.
    """
    model, tokenizer = minilm()
    ids = tokens(tokenizer)
    lora.add_lora(model, TARGETS, r=8, alpha=16)
    value = start_gradients(model, ids)
    with torch.no_grad():
        for A, _ in factors(model).values():
            A.zero_()
    return Measured(value, {"both_zero": start_gradients(model, ids)})


def start_gradients(model: nn.Module, ids: Tensor) -> dict[str, float]:
    """Of a random linear loss of MiniLM's last states: largest gradient of A, share of B's entries that have one."""
    model.zero_grad()
    output = model(ids)[0]
    (output * torch.randn(output.shape, generator=torch.Generator().manual_seed(0))).sum().backward()
    pairs = list(factors(model).values())
    grads_a = [A.grad for A, _ in pairs if A.grad is not None]
    grads_b = [B.grad for _, B in pairs if B.grad is not None]
    return {
        "a": max((float(g.abs().max()) for g in grads_a), default=0.0),
        "b": sum(int((g != 0).sum()) for g in grads_b) / sum(B.numel() for _, B in pairs),
    }


@claim("switching")
@one_thread()
def switching(run: Run) -> Measured:
    """Section 4.2: three adapters on one MiniLM, each against a model that has it alone, and the bytes of base copied.

    Outputs are taken after the adapters were switched back and forth twice. base: with no adapter, against the model
    before any was added.
    """
    model, tokenizer = minilm()
    ids = tokens(tokenizer)
    base = states(model, ids)
    storages = {p.untyped_storage().data_ptr() for p in tensors(model)}
    for seed, adapter in enumerate(ADAPTERS):
        lora.add_lora(model, TARGETS, r=2**seed, alpha=16, adapter=adapter)
        randomise(model, seed=seed, adapter=adapter)
    for adapter in (*ADAPTERS, None, *reversed(ADAPTERS)):
        lora.set_adapter(model, adapter)
        states(model, ids)
    differences: dict[str, float] = {}
    for seed, adapter in enumerate(ADAPTERS):
        alone = randomise(lora.add_lora(minilm()[0], TARGETS, r=2**seed, alpha=16), seed=seed)
        switched = states(lora.set_adapter(model, adapter), ids)
        differences[adapter] = float((switched - states(alone, ids)).abs().max())
    added = {id(x) for adapter in ADAPTERS for pair in factors(model, adapter).values() for x in pair}
    copied = sum(
        p.nbytes for p in tensors(model) if id(p) not in added and p.untyped_storage().data_ptr() not in storages
    )
    alike = float((states(lora.set_adapter(model, None), ids) - base).abs().max())
    return Measured(
        {"difference": max(differences.values()), "copied": copied, "base": alike}, {"by_adapter": differences}
    )


def tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]
