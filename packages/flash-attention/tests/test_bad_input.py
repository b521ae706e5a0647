"""What no attention accepts: the error names the argument, its value and what is accepted."""

from __future__ import annotations

import math
import re
import sys

import numpy as np
import pytest
import torch

from flash_attention import flash_attention, standard_attention

Q, K = (2, 4, 5, 8), (2, 2, 7, 8)
DTYPES = "float16, bfloat16, float32, float64"
MASK = "mask must be bool of shape (batch, seq_k) = (2, 7), True where attended to, got "


def good(**changed):
    """Arguments that are accepted, but for the changes."""
    return {"q": torch.randn(Q), "k": torch.randn(K), "v": torch.randn(K), "mask": None} | changed


WRONG = {  # (what is changed, the whole message)
    "q of rank 3": ({"q": torch.randn(4, 5, 8)}, "q must have shape (batch, heads, seq, head_dim), got (4, 5, 8)"),
    "k of rank 5": (
        {"k": torch.randn(1, *K)},
        "k must have shape (batch, heads, seq, head_dim), got (1, 2, 2, 7, 8)",
    ),
    "v of rank 2": ({"v": torch.randn(7, 8)}, "v must have shape (batch, heads, seq, head_dim), got (7, 8)"),
    "no queries": ({"q": torch.randn(2, 4, 0, 8)}, "q must not be empty, got shape (2, 4, 0, 8)"),
    "no keys": ({"k": torch.randn(2, 2, 0, 8)}, "k must not be empty, got shape (2, 2, 0, 8)"),
    "no head_dim": ({"v": torch.randn(2, 2, 7, 0)}, "v must not be empty, got shape (2, 2, 7, 0)"),
    "no batch": ({"q": torch.randn(0, 4, 5, 8)}, "q must not be empty, got shape (0, 4, 5, 8)"),
    "no heads": ({"k": torch.randn(2, 0, 7, 8)}, "k must not be empty, got shape (2, 0, 7, 8)"),
    "integer q": ({"q": torch.ones(Q, dtype=torch.int64)}, f"q must have dtype {DTYPES}, got int64"),
    "complex v": ({"v": torch.ones(K, dtype=torch.complex64)}, f"v must have dtype {DTYPES}, got complex64"),
    "mixed dtypes, k": ({"k": torch.randn(K).half()}, "k must have q's dtype float32, got float16"),
    "mixed dtypes, v": ({"v": torch.randn(K).double()}, "v must have q's dtype float32, got float64"),
    "another device": ({"k": torch.randn(K, device="meta")}, "k must be on q's device cpu, got meta"),
    "batch sizes": ({"k": torch.randn(1, 2, 7, 8)}, "k must have q's batch size 2, got 1"),
    "head sizes": ({"k": torch.randn(2, 2, 7, 4)}, "k must have q's head_dim 8, got 4"),
    "v shorter than k": ({"v": torch.randn(2, 2, 6, 8)}, "v must have k's shape (2, 2, 7, 8), got (2, 2, 6, 8)"),
    "v narrower than k": ({"v": torch.randn(2, 2, 7, 4)}, "v must have k's shape (2, 2, 7, 8), got (2, 2, 7, 4)"),
    "heads do not divide": (
        {"k": torch.randn(2, 3, 7, 8), "v": torch.randn(2, 3, 7, 8)},
        "k must have a number of heads that divides q's 4, got 3",
    ),
    "more heads in k": (
        {"k": torch.randn(2, 8, 7, 8), "v": torch.randn(2, 8, 7, 8)},
        "k must have a number of heads that divides q's 4, got 8",
    ),
    "list for q": ({"q": [[1.0]]}, "q must be a tensor, got [[1.0]] of type list"),
    "None for v": ({"v": None}, "v must be a tensor, got None of type NoneType"),
    "list for a mask": ({"mask": [True]}, MASK + "[True] of type list"),
    "str for causal": ({"causal": "no"}, "causal must be True or False, got 'no'"),
    "int for causal": ({"causal": 1}, "causal must be True or False, got 1"),
    "float mask": ({"mask": torch.ones(2, 7)}, MASK + "float32 of shape (2, 7)"),
    "uint8 mask": ({"mask": torch.ones(2, 7, dtype=torch.uint8)}, MASK + "uint8 of shape (2, 7)"),
    "mask of queries": ({"mask": torch.ones(2, 5, dtype=torch.bool)}, MASK + "bool of shape (2, 5)"),
    "mask of all pairs": ({"mask": torch.ones(2, 1, 5, 7, dtype=torch.bool)}, MASK + "bool of shape (2, 1, 5, 7)"),
    "mask on another device": (
        {"mask": torch.ones(2, 7, dtype=torch.bool, device="meta")},
        "mask must be on q's device cpu, got meta",
    ),
    **{
        f"scale {x}": ({"scale": x}, f"scale must be a finite number, or None for 1/sqrt(head_dim), got {x!r}")
        for x in (math.nan, math.inf, -math.inf, "0.5", True, torch.tensor(0.5), torch.tensor(0.5, requires_grad=True))
    },
    **{
        f"dropout_p {x}": ({"dropout_p": x}, f"dropout_p must be a number in [0, 1), got {x!r}")
        for x in (1.0, -0.1, 1.5, math.nan, math.inf, False, "0.1", None)
    },
    **{
        f"seed {x}": (
            {"dropout_p": 0.1, "seed": x},
            f"seed must be an integer in [0, 2**32), or None to draw one, got {x!r}",
        )
        for x in (-1, 2**32, 3.0, True, "3", math.nan, np.float32(3), torch.tensor(3))
    },
}
ONLY_FLASH = {
    **{
        f"{name} {x}": ({name: x}, f"{name} must be an integer of at least 1, or None for the backend's own, got {x!r}")
        for name in ("block_q", "block_k")
        for x in (0, -3, 2.0, True, "16", math.nan)
    },
    "return_lse": ({"return_lse": 1}, "return_lse must be True or False, got 1"),
    "backend None": ({"backend": None}, "backend must be one of auto, torch, triton, got None"),
    "backend": ({"backend": "cuda"}, "backend must be one of auto, torch, triton, got 'cuda'"),
}


def assert_refused(attention, changed, message):
    arguments = good(**changed)
    tensors = {name: x for name, x in arguments.items() if isinstance(x, torch.Tensor) and x.device.type == "cpu"}
    before = {name: x.clone() for name, x in tensors.items()}
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        attention(arguments.pop("q"), arguments.pop("k"), arguments.pop("v"), **arguments)
    assert all(torch.equal(x, before[name]) for name, x in tensors.items())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("attention", [flash_attention, standard_attention])
@pytest.mark.parametrize(("changed", "message"), WRONG.values(), ids=WRONG)
def test_refused(attention, changed, message):
    assert_refused(attention, changed, message)


@pytest.mark.parametrize(("changed", "message"), ONLY_FLASH.values(), ids=ONLY_FLASH)
def test_refused_by_flash_attention(changed, message):
    assert_refused(flash_attention, changed, message)


def test_triton_needs_a_gpu():
    pytest.importorskip("triton", reason="triton is for Linux machines")
    x = torch.randn(Q), torch.randn(K), torch.randn(K)
    with pytest.raises(RuntimeError) as error:
        flash_attention(*x, backend="triton")
    assert str(error.value) == "backend 'triton' needs tensors on a CUDA device, and q is on cpu: use 'torch'"


def test_triton_not_installed(monkeypatch):
    """Required, it is an error that names what is missing."""
    monkeypatch.delitem(sys.modules, "flash_attention.triton_backend", raising=False)
    monkeypatch.delattr("flash_attention.triton_backend", raising=False)
    monkeypatch.setitem(sys.modules, "triton", None)
    x = torch.randn(Q), torch.randn(K), torch.randn(K)
    with pytest.raises(RuntimeError) as error:
        flash_attention(*x, backend="triton")
    assert str(error.value) == "backend 'triton' needs triton, which is not installed: use 'torch'"
    assert flash_attention(*x).isfinite().all()


@pytest.mark.parametrize("attention", [flash_attention, standard_attention])
def test_accepted_arguments_are_not_changed(attention):
    q, k, v = (torch.randn(shape, requires_grad=True) for shape in (Q, K, K))
    mask, do = torch.rand(2, 7) < 0.5, torch.randn(Q)
    before = [x.detach().clone() for x in (q, k, v, mask, do)]
    attention(q, k, v, causal=True, mask=mask, dropout_p=0.3, seed=2).backward(do)
    assert all(torch.equal(a, b) for a, b in zip((q, k, v, mask, do), before, strict=True))


NUMPY = {"seed": np.int64(3), "scale": np.float32(0.5), "causal": np.True_, "block_q": np.int32(2)}


@pytest.mark.parametrize("changed", [{"seed": 2**32 - 1}, {"seed": 0}, {"scale": 0}, {"dropout_p": 0}, NUMPY], ids=str)
def test_accepted(changed):
    arguments = good(**({"dropout_p": 0.5} | changed))
    out = flash_attention(arguments.pop("q"), arguments.pop("k"), arguments.pop("v"), **arguments)
    assert out.isfinite().all()
