"""Against others: peft on real weights, with the same A and B and each other's files, and our own Flax twin."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from papertest import Measured, Run, claim
from papertest.models import minilm, smollm2
from papertest.parity import relative_error
from papertest.threads import one_thread

import lora
from lora.reproduce.exact.served import TARGETS, states, tokens
from lora.reproduce.models import factors, randomise

R, ALPHA = 8, 16.0
MODELS = {"minilm": (minilm, TARGETS), "smollm2": (smollm2, ("q_proj", "v_proj"))}


@claim("peft-parity")
@one_thread()
def peft_parity(run: Run) -> Measured:
    """Eq. 3 in float32: outputs, gradients of A and B, and outputs after reading each other's adapter files.

    Largest difference over largest value; the gradients' is that of the worst of all A and B. peft's names of A and B
    are those of the file layout.
    """
    value: dict[str, float] = {}
    files: dict[str, list[float]] = {"ours_in_peft": [], "peft_in_ours": []}
    for name, (load, targets) in MODELS.items():
        base, tokenizer = load()
        ids = tokens(tokenizer)
        ours = randomise(lora.add_lora(copy.deepcopy(base), targets, r=R, alpha=ALPHA), seed=0)
        theirs = peft_model(copy.deepcopy(base), targets)
        for layer, (A, B) in factors(ours).items():
            peer_A, peer_B = peft_factors(theirs, layer)
            with torch.no_grad():
                peer_A.copy_(A)
                peer_B.copy_(B)
        outputs = [gradients_of(model, ids) for model in (ours, theirs)]
        value[f"{name}_output"] = relative_error(*outputs)
        errors = []
        for layer, pair in factors(ours).items():
            errors += [relative_error(a.grad, b.grad) for a, b in zip(pair, peft_factors(theirs, layer), strict=True)]
        value[f"{name}_gradients"] = max(errors)
        ours_there, theirs_here = exchanged(base, ours, theirs, ids)
        files["ours_in_peft"].append(relative_error(ours_there, outputs[0]))
        files["peft_in_ours"].append(relative_error(theirs_here, outputs[1]))
    return Measured(value | {name: max(errors) for name, errors in files.items()}, {"files": files})


def peft_model(base: Any, targets: tuple[str, ...]) -> Any:
    from peft import LoraConfig, get_peft_model

    return get_peft_model(base, LoraConfig(r=R, lora_alpha=int(ALPHA), target_modules=list(targets)))


def peft_factors(model: Any, layer: str) -> tuple[Any, Any]:
    """A and B of peft's layer that stands where ours of this name does."""
    peer = model.get_submodule(f"base_model.model.{layer}")
    return peer.lora_A["default"].weight, peer.lora_B["default"].weight


def gradients_of(model: Any, ids: Tensor) -> Tensor:
    """The output, once the gradients of a random linear loss of it are in A and B."""
    output = model(ids)[0]
    (output * torch.randn(output.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    return output.detach()


def exchanged(base: Any, ours: Any, theirs: Any, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs of peft with our file, and of ours with peft's, both on the same base in turn."""
    from peft import PeftModel

    with tempfile.TemporaryDirectory() as folder:
        lora.save_adapter(ours, Path(folder) / "ours")
        theirs.save_pretrained(Path(folder) / "theirs", save_embedding_layers=False)  # else it asks a server
        loaded = PeftModel.from_pretrained(base, Path(folder) / "ours")
        there = states(loaded, ids)
        here = states(lora.load_adapter(loaded.unload(), Path(folder) / "theirs"), ids)
    return there, here


@claim("flax-twin")
@one_thread()
def flax_twin(run: Run) -> Measured:
    """Eq. 3 in float32: outputs, gradients of A, B and x, and merged weights of the twin against ours.

    Largest difference over largest value, the worst of a layer with a bias and one without, 96 inputs and 80 outputs,
    r = 8. The loss is not linear in the output.
    """
    errors = {f"bias {bias}": twin_errors(bias=bias) for bias in (True, False)}
    value = {name: max(row[name] for row in errors.values()) for name in ("output", "gradients", "merged")}
    return Measured(value, {"errors": errors})


def twin_errors(*, bias: bool) -> dict[str, float]:
    import jax.numpy as jnp
    from flax import nnx

    from lora.jax import LoRALinear, from_torch

    model = lora.add_lora(nn.ModuleDict({"layer": nn.Linear(96, 80, bias=bias)}), ["layer"], r=8, alpha=16)
    layer: Any = randomise(model, seed=0).get_submodule("layer")
    x = torch.randn(7, 96, requires_grad=True)
    output = layer(x)
    output.tanh().square().sum().backward()
    twin = from_torch(layer)

    def loss(twin: LoRALinear, x: Any) -> Any:
        return (jnp.tanh(twin(x)) ** 2).sum()

    numbers = jnp.asarray(x.detach().numpy())
    factors, dx = nnx.grad(loss, argnums=(nnx.DiffState(0, nnx.LoRAParam), 1))(twin, numbers)
    pairs = [
        (factors["A"][...], layer.lora_A["default"].grad),
        (factors["B"][...], layer.lora_B["default"].grad),
        (dx, x.grad),
    ]
    errors = {"output": relative_error(twin(numbers), output)}
    errors["gradients"] = max(relative_error(theirs, ours) for theirs, ours in pairs)
    twin.merge()
    lora.merge_lora(model)
    errors["merged"] = relative_error(twin.base.kernel[...].T, layer.weight)
    return errors
