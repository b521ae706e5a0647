"""torch's private operators make LoRA faster and are not needed: without them it is imported, and computes the same."""

from __future__ import annotations

import subprocess
import sys

import pytest

WITHOUT = {
    "oneDNN's product": "torch.ops.mkldnn = types.SimpleNamespace()",
    "the question whether torch.func is at work": "del torch._C._are_functorch_transforms_active",
}  # the second is back once lora is imported: torch's own backward pass asks it too
PROGRAM = """
import types

import torch

transforms_active = torch._C._are_functorch_transforms_active
{removal}
import lora
from lora import function, layers

torch._C._are_functorch_transforms_active = transforms_active
from torch.utils.flop_counter import FlopCounterMode

assert {holds}, "this was not removed"
torch.manual_seed(0)
layered = torch.nn.Sequential(torch.nn.Linear(48, 32), torch.nn.Tanh(), torch.nn.Linear(32, 16))
model = lora.add_lora(layered, ("0", "2"))
for name, parameter in model.named_parameters():
    if "lora" in name:
        torch.nn.init.normal_(parameter, std=0.1)
x = torch.randn(5, 48, requires_grad=True)


def numbers(forward):
    layers.lora_linear = forward
    model.zero_grad()
    x.grad = None
    with FlopCounterMode(display=False) as counter:
        output = model(x)
        output.square().sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return counter.get_total_flops(), [output, x.grad, *gradients]


(flops, ours), (_, plain) = numbers(function.lora_linear), numbers(function.plain)
assert len(ours) == len(plain) == 6
for a, b in zip(ours, plain, strict=True):
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
assert flops > 2 * 5 * (48 * 32 + 32 * 16) * 2, flops
jvp = torch.func.jvp(lambda v: model(v), (x.detach(),), (torch.ones_like(x),))
assert jvp[1].shape == (5, 16)
lora.unmerge_lora(lora.merge_lora(model.eval()))
print("survived")
"""


@pytest.mark.parametrize("what", [*WITHOUT, "both"])
def test_import_lora_survives_without(what):
    removal = "\n".join(WITHOUT.values()) if what == "both" else WITHOUT[what]
    holds = {
        "oneDNN's product": "not function._ONEDNN",
        "the question whether torch.func is at work": "function.lora_linear is function.plain",
    }
    checked = " and ".join(holds.values()) if what == "both" else holds[what]
    program = PROGRAM.format(removal=removal, holds=checked)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout == "survived\n", done.stderr
