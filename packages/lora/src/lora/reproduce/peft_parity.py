"""Against somebody else's LoRA: peft, on real weights, with the same A and B, and with each other's files."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from papertest.claims import Measured, Run, claim
from papertest.parity import relative_error

import lora
from lora.reproduce.factors import factors, randomise
from lora.reproduce.models import minilm, smollm2
from lora.reproduce.served import TARGETS, states, tokens
from lora.reproduce.threads import one_thread

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
