"""The Pallas kernels in interpret mode, against the torch implementation and JAX's standard attention."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("jax", reason="the extra jax is not installed")
import jax
import jax.numpy as jnp

import flash_attention as for_torch
from flash_attention import dropout
from flash_attention import jax as module

OUT, LSE, DQ, DK, DV = range(5)


def arrays(n_q: int, n_k: int, heads: int = 2, kv_heads: int = 2, d: int = 16, dtype: str = "float32") -> list[Any]:
    """q, k, v and dO of two sequences, in NumPy."""
    random = np.random.default_rng(n_q + n_k + d)
    shapes = ((heads, n_q), (kv_heads, n_k), (kv_heads, n_k), (heads, n_q))
    return [random.standard_normal((2, h, n, d)).astype(dtype) for h, n in shapes]


def key_padding(n_k: int) -> np.ndarray:
    """The first sequence has two thirds of its keys; the second has none."""
    return np.stack([np.arange(n_k) < 2 * n_k // 3, np.zeros(n_k, bool)])


def in_torch(case: list[Any], function: Any = for_torch.flash_attention, **options: Any) -> list[np.ndarray]:
    """[out, lse, dq, dk, dv]."""
    *qkv, do = (torch.from_numpy(x) for x in case)
    if options.get("mask") is not None:
        options["mask"] = torch.from_numpy(options["mask"])
    qkv = [x.requires_grad_() for x in qkv]
    out, lse = function(*qkv, return_lse=True, **options)
    return [x.detach().numpy() for x in (out, lse, *torch.autograd.grad(out, qkv, do))]


def in_jax(case: list[Any], **options: Any) -> list[np.ndarray]:
    """[out, lse, dq, dk, dv]."""

    @jax.jit
    def run(q: Any, k: Any, v: Any, do: Any) -> Any:
        attention = partial(module.flash_attention, return_lse=True, **options)
        out, pull, lse = jax.vjp(attention, q, k, v, has_aux=True)
        return out, lse, *pull(do)

    return [np.asarray(x) for x in run(*case)]


def difference(case: list[Any], blocks: tuple[int | None, int | None] = (None, None), **options: Any) -> float:
    """Largest difference of out, lse, dq, dk and dv, each relative to its largest entry; NaN if any is."""
    pairs = zip(in_jax(case, block_q=blocks[0], block_k=blocks[1], **options), in_torch(case, **options), strict=True)
    found = []
    for mine, wanted in pairs:
        assert mine.dtype == wanted.dtype
        assert np.array_equal(np.isinf(mine), np.isinf(wanted))
        mine, wanted = (np.where(np.isinf(x), 0, x) for x in (mine, wanted))
        found.append(abs(mine - wanted).max() / abs(wanted).max())
    return float(np.max(found))


CASES = {
    "one block": (arrays(16, 16), (None, None), {}),
    "causal, many blocks": (arrays(50, 50), (16, 16), {"causal": True, "scale": 0.4}),
    "causal, more queries": (arrays(45, 19), (16, 8), {"causal": True}),
    "causal, more keys": (arrays(19, 45), (8, 16), {"causal": True}),
    "one query, head_dim 24, groups": (arrays(1, 40, 4, 2, d=24), (None, 16), {"causal": True}),
    "mask, an empty row": (arrays(33, 20), (16, 16), {"mask": key_padding(20)}),
    "blocks not powers of two": (arrays(30, 41), (12, 7), {"causal": True, "mask": key_padding(41)}),
    "all": (
        arrays(37, 43, 4, 2, d=8),
        (16, 16),
        {"causal": True, "mask": key_padding(43), "dropout_p": 0.3, "seed": 2**32 - 1, "scale": 0.7},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_like_torch(name: str) -> None:
    case, blocks, options = CASES[name]
    assert difference(case, blocks, **options) < 1e-5


def test_like_torch_in_float64() -> None:
    case, blocks, options = CASES["all"]
    with jax.enable_x64(True):
        assert difference([x.astype("float64") for x in case], blocks, **options) < 1e-13


def test_dropout_drops_the_same_entries() -> None:
    """The kept entries are those of dropout.py; at the block sizes of no other test, so are the kernel's."""
    rows, columns, seed, p = np.arange(100)[:, None] * 99_999_999, np.arange(60), 2**31 + 5, 0.4
    mine = module._kept(jnp.asarray(rows.astype("uint32")), jnp.asarray(columns), jnp.uint32(seed), p)
    assert np.array_equal(mine, dropout.kept(torch.from_numpy(rows), torch.from_numpy(columns), seed, p))
    qkv = arrays(20, 24, 4, 2)[:3]

    @partial(jax.jit, static_argnums=(1, 2))
    def out(seed: Any, block_q: int | None, block_k: int | None) -> Any:
        return module.flash_attention(*qkv, dropout_p=p, seed=seed, block_q=block_q, block_k=block_k)

    assert np.allclose(out(jnp.uint32(seed), None, None), out(jnp.uint32(seed), 7, 16), atol=1e-6)
    assert not np.allclose(out(jnp.uint32(seed), None, None), out(jnp.uint32(seed + 1), None, None), atol=0.1)


@pytest.mark.parametrize("options", [{}, CASES["all"][2]])
def test_standard_attention_like_torch(options: dict[str, Any]) -> None:
    *qkv, _ = arrays(37, 43, 4, 2, d=8)
    mine = module.standard_attention(*map(jnp.asarray, qkv), **options)
    options = {key: torch.from_numpy(x) if key == "mask" else x for key, x in options.items()}
    wanted = for_torch.standard_attention(*map(torch.from_numpy, qkv), **options)
    assert np.allclose(mine, wanted, rtol=1e-5, atol=1e-6)


def test_bfloat16_is_as_exact_as_standard() -> None:
    """Each error at most twice the one of standard attention in bfloat16, from float32."""
    case = [jnp.asarray(x, jnp.bfloat16) for x in arrays(40, 40, 4, 2)]

    @partial(jax.jit, static_argnums=0)
    def run(function: Any, q: Any, k: Any, v: Any, do: Any) -> list[Any]:
        out, pull = jax.vjp(partial(function, causal=True), q, k, v)
        return [out, *pull(do)]

    mine = run(partial(module.flash_attention, block_q=16, block_k=16), *case)
    standard = run(module.standard_attention, *case)
    exact = run(module.standard_attention, *(x.astype(jnp.float32) for x in case))
    for x, y, true in zip(mine, standard, exact, strict=True):
        assert x.dtype == jnp.bfloat16
        assert abs(x - true).max() <= 2 * abs(y - true).max()


# ---------------------------------------------------------------- as a function of JAX


def test_jit_grad_and_a_traced_seed() -> None:
    *qkv, do = map(jnp.asarray, arrays(20, 24))

    @jax.jit
    def gradients(qkv: Any, seed: Any) -> Any:
        def loss(q: Any, k: Any, v: Any) -> Any:
            return (module.flash_attention(q, k, v, dropout_p=0.5, seed=seed) * do).sum()

        return jax.grad(loss, (0, 1, 2))(*qkv)

    for seed in (3, 2**32 - 1):
        wanted = in_torch(arrays(20, 24), dropout_p=0.5, seed=seed)[DQ:]
        for mine, true in zip(gradients(qkv, jnp.uint32(seed)), wanted, strict=True):
            assert abs(mine - true).max() < 1e-5 * abs(true).max()
    assert gradients._cache_size() == 1  # the seed was traced


def test_lse() -> None:
    """The natural logarithm of what the softmax divides by, -inf without a key."""
    case, mask = arrays(18, 20), key_padding(20)
    out, lse, *_ = in_jax(case, mask=mask, block_k=16)
    q, k = (torch.from_numpy(x) for x in case[:2])
    wanted = (q @ k.mT / 4).masked_fill(~torch.from_numpy(mask)[:, None, None], -torch.inf).logsumexp(-1)
    assert lse.dtype == np.float32
    assert np.allclose(lse[0], wanted[0], rtol=1e-6)
    assert (lse[1] == -np.inf).all()
    assert (out[1] == 0).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_kernels_are_lowered_to_triton(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    """Without a GPU: what JAX would give Triton to compile is made, for every kernel, but not compiled."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    q, k = (jax.ShapeDtypeStruct((2, h, n, 48), dtype) for h, n in ((4, 100), (2, 70)))
    mask, seed = jax.ShapeDtypeStruct((2, 70), "bool"), jax.ShapeDtypeStruct((), "uint32")

    def gradients(q: Any, k: Any, v: Any, mask: Any, seed: Any) -> Any:
        run = partial(module.flash_attention, causal=True, mask=mask, dropout_p=0.1, seed=seed, backend="pallas")
        out, pull = jax.vjp(run, q, k, v)
        return pull(out)

    unstable = jax.export.DisabledSafetyCheck.custom_call("__gpu$xla.gpu.triton")
    export = jax.export.export(jax.jit(gradients), platforms=["cuda"], disabled_checks=[unstable])
    lowered = export(q, k, k, mask, seed).mlir_module()
    assert lowered.count("stablehlo.custom_call @__gpu$xla.gpu.triton") == 3
    assert all(f'name = "{kernel}"' in lowered for kernel in ("_forward_kernel", "_dq_kernel", "_dkv_kernel"))


# ---------------------------------------------------------------- what is refused

Q = jnp.zeros((2, 4, 8, 16))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"q": Q[0]}, "q must have shape (batch, heads, seq, head_dim), got (4, 8, 16)"),
        ({"v": Q[:, :, :0]}, "v must not be empty, got shape (2, 4, 0, 16)"),
        ({"q": Q.astype(int)}, "q must have dtype float16, bfloat16, float32, float64, got int32"),
        ({"k": Q.astype("float16")}, "k must have q's dtype float32, got float16"),
        ({"k": Q[:1]}, "k must have q's batch size 2, got 1"),
        ({"k": Q[..., :8]}, "k must have q's head_dim 16, got 8"),
        ({"v": Q[:, :, :4]}, "v must have k's shape (2, 4, 8, 16), got (2, 4, 4, 16)"),
        ({"k": Q[:, :3], "v": Q[:, :3]}, "k must have a number of heads that divides q's 4, got 3"),
        (
            {"mask": jnp.ones((2, 7), bool)},
            "mask must be bool of shape (batch, seq_k) = (2, 8), True where attended to, got bool of shape (2, 7)",
        ),
        (
            {"mask": jnp.ones((2, 8))},
            "mask must be bool of shape (batch, seq_k) = (2, 8), True where attended to, got float32 of shape (2, 8)",
        ),
        ({"scale": float("nan")}, "scale must be a finite number, or None for 1/sqrt(head_dim), got nan"),
        ({"dropout_p": 1.0}, "dropout_p must be a number in [0, 1), got 1.0"),
        ({"seed": 2**32}, "seed must be an integer in [0, 2**32), or None to draw one, got 4294967296"),
        ({"seed": 3.0}, "seed must be an integer in [0, 2**32), or None to draw one, got 3.0"),
        ({"seed": True}, "seed must be an integer in [0, 2**32), or None to draw one, got True"),
        ({"seed": "3"}, "seed must be an integer in [0, 2**32), or None to draw one, got '3'"),
        ({"scale": "1"}, "scale must be a finite number, or None for 1/sqrt(head_dim), got '1'"),
        ({"scale": True}, "scale must be a finite number, or None for 1/sqrt(head_dim), got True"),
        ({"dropout_p": "0.1"}, "dropout_p must be a number in [0, 1), got '0.1'"),
        ({"dropout_p": float("nan")}, "dropout_p must be a number in [0, 1), got nan"),
        ({"causal": 1}, "causal must be True or False, got 1"),
        ({"seed": -1}, "seed must be an integer in [0, 2**32), or None to draw one, got -1"),
    ],
)
def test_bad_inputs_are_named(changes: dict[str, Any], message: str) -> None:
    """By both functions, in the words of torch's."""
    arguments = {"q": Q, "k": Q, "v": Q} | changes
    same = {key: torch.from_numpy(np.array(x)) if isinstance(x, jax.Array) else x for key, x in arguments.items()}
    for refuse in (
        partial(module.flash_attention, **arguments),
        partial(module.standard_attention, **arguments),
        partial(for_torch.flash_attention, **same),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            refuse()


def test_bad_options_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"^seed must be given where dropout_p > 0, got None"):
        module.flash_attention(Q, Q, Q, dropout_p=0.1)
    with pytest.raises(
        ValueError, match="^block_k must be an integer of at least 1, or None for the backend's own, got 0$"
    ):
        module.flash_attention(Q, Q, Q, block_k=0)
    for block in (2.0, True, "16"):
        with pytest.raises(ValueError, match=f"^block_q must be an integer of at least 1, .* got {block!r}$"):
            module.flash_attention(Q, Q, Q, block_q=block)
    with pytest.raises(ValueError, match="^return_lse must be True or False, got 'no'$"):
        module.flash_attention(Q, Q, Q, return_lse="no")
    with pytest.raises(ValueError, match=r"^q must be an array, got \[1.0\] of type list$"):
        module.flash_attention([1.0], Q, Q)
    for seed in (jnp.float32(3), jnp.arange(2), jax.random.key(0)):
        with pytest.raises(ValueError, match="^seed must be one integer, got an array of "):
            module.flash_attention(Q, Q, Q, dropout_p=0.1, seed=seed)
    with pytest.raises(ValueError, match=r"^scale must be a finite number, or None for 1/sqrt\(head_dim\), got .*Tr"):
        jax.grad(lambda scale: module.flash_attention(Q, Q, Q, scale=scale).sum())(0.5)
    with pytest.raises(ValueError, match="^backend must be one of auto, pallas, interpret, got 'triton'$"):
        module.flash_attention(Q, Q, Q, backend="triton")
    with pytest.raises(RuntimeError, match="^backend 'pallas' needs a GPU, and JAX runs on cpu: use 'interpret'$"):
        module.flash_attention(Q, Q, Q, backend="pallas")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    with pytest.raises(ValueError, match="^block_q must be a power of two of at least 16, .* got 24$"):
        module.flash_attention(Q, Q, Q, block_q=24)


# ---------------------------------------------------------------- the tests themselves


@pytest.fixture
def fresh_caches():
    """What a mutated kernel was traced to must not outlive the mutation."""
    jax.clear_caches()
    yield
    jax.clear_caches()


@pytest.mark.parametrize("helper", ["_block", "_kept", "_gradients"])
@pytest.mark.usefixtures("fresh_caches")
def test_a_mutation_is_seen(monkeypatch: pytest.MonkeyPatch, helper: str) -> None:
    right = getattr(module, helper)
    wrong = {
        "_block": lambda c, *rest: right(c._replace(n_k=c.n_k - 1), *rest),  # causal is one key too strict
        "_kept": lambda rows, columns, seed, p: right(rows, columns, seed + 1, p),
        "_gradients": lambda *rest: right(*rest)[::-1],
    }
    monkeypatch.setattr(module, helper, wrong[helper])
    case, options = arrays(20, 20), {"causal": True, "dropout_p": 0.3, "seed": 1}
    pairs = zip(in_jax(case, block_q=8, block_k=8, **options), in_torch(case, **options), strict=True)
    same = [np.allclose(mine, wanted, atol=1e-3) for mine, wanted in pairs]
    assert same[OUT] == (helper == "_gradients")
    assert not same[DQ]
