"""The Triton backend without a GPU: its kernels are interpreted on CPU tensors, and compiled for the GPUs they are for.

The interpreted tests run in a process of their own: see triton_interpreted.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="triton is for Linux machines, with an NVIDIA GPU to run it")
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from flash_attention import triton_backend, triton_configs

SHARED_MEMORY = {80: 163, 86: 99, 90: 227}  # KiB a block may have, by compute capability (CUDA C++ Programming Guide)


def test_interpreted_kernels():
    file = Path(__file__).with_name("triton_interpreted.py")
    command = [sys.executable, "-m", "pytest", str(file), "-q", "-p", "no:cacheprovider"]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, cwd=file.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


class _Driver:
    """As much of a Triton driver as compiling needs, for a GPU that is not there."""

    def __init__(self, capability: int) -> None:
        self.capability = capability

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> str:
        return f"sm_{self.capability}"  # the key of the cache of compiled kernels

    def get_current_stream(self, device: str) -> int:
        return 0


@pytest.fixture
def compile_for(monkeypatch):
    """A function that runs forward and backward on CPU tensors, compiling each kernel where it would be launched."""
    kernels = {}

    def launch(self, grid):
        def compile_only(*args, **options):
            kernels[self.fn.__name__] = self.run(*args, grid=grid, warmup=True, **options)

        return compile_only

    def run(capability, dtype, head_dim, causal, dropout_p=0.0):
        monkeypatch.setattr(triton.runtime.driver, "_active", _Driver(capability))
        monkeypatch.setattr(JITFunction, "__getitem__", launch)
        if capability >= 90:  # the tensors are on the CPU, which has the table for "any other GPU"
            monkeypatch.setattr(triton_configs, "AMPERE", triton_configs.HOPPER)
        q, k, v = (torch.zeros(1, h, 256, head_dim, dtype=dtype, requires_grad=True) for h in (4, 2, 2))
        options = {"scale": 0.1, "dropout_p": dropout_p, "seed": 1, "block_q": None, "block_k": None}
        out, _ = triton_backend.attention(q, k, v, None, causal=causal, **options)
        out.backward(torch.zeros_like(out))
        assert set(kernels) == {"_forward", "_preprocess", "_backward_q", "_backward_kv"}
        return kernels

    return run


@pytest.mark.parametrize(
    ("capability", "dtype", "head_dim", "causal", "dropout_p"),
    [
        (90, torch.bfloat16, 64, True, 0.0),
        (90, torch.bfloat16, 128, False, 0.0),
        (86, torch.float16, 128, True, 0.1),
    ],
    ids=str,
)
def test_kernels_compile_within_shared_memory(compile_for, capability, dtype, head_dim, causal, dropout_p):
    for name, kernel in compile_for(capability, dtype, head_dim, causal, dropout_p).items():
        assert kernel.asm["cubin"], name
        assert kernel.metadata.shared <= SHARED_MEMORY[capability] * 1024, name
        instruction = "wgmma" if capability == 90 else "mma.sync"  # the tensor cores are used
        assert name == "_preprocess" or instruction in kernel.asm["ptx"], name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("head_dim", [40, 64, 128, 256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("causal", [False, True])
def test_on_the_gpu(dtype, head_dim, causal):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 4, 333, head_dim, device="cuda", dtype=dtype, requires_grad=True) for _ in range(3))
    wide, do = [x.detach().double().requires_grad_() for x in (q, k, v)], torch.randn_like(q)
    options = {"scale": head_dim**-0.5, "dropout_p": 0.0, "seed": 0, "block_q": None, "block_k": None}
    out, _ = triton_backend.attention(q, k, v, None, causal=causal, **options)
    true = torch.nn.functional.scaled_dot_product_attention(*wide, is_causal=causal)
    gradients = torch.autograd.grad(out, (q, k, v), do)
    true_gradients = torch.autograd.grad(true, wide, do.double())
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    for a, b in zip((out, *gradients), (true, *true_gradients), strict=True):
        assert (a - b).abs().max() <= tolerance * b.abs().max()
    again, _ = triton_backend.attention(q, k, v, None, causal=causal, **options)
    assert all(map(torch.equal, gradients, torch.autograd.grad(again, (q, k, v), do)))  # no atomics
