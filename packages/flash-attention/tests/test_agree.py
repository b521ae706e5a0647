"""Whatever the problem, all attentions agree, torch's and JAX's, or all refuse it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flash_attention import block_sparse_flash_attention, flash_attention, standard_attention

jax = pytest.importorskip("jax", reason="the extra jax is not installed")
import jax.numpy as jnp  # noqa: E402

from flash_attention import jax as for_jax  # noqa: E402

TOLERANCE = {"float16": 1e-2, "bfloat16": 6e-2, "float32": 1e-5}


def sparse(q, k, v, **options):
    blocks = torch.ones(-(-q.shape[2] // 4), -(-k.shape[2] // 4), dtype=torch.bool)
    return block_sparse_flash_attention(q, k, v, blocks, block_q=4, block_k=4, **options)


def in_jax(f):
    """f of JAX as a function of torch's tensors."""

    def of(x):
        if isinstance(x, torch.Tensor):
            name = str(x.dtype).removeprefix("torch.")
            return jnp.asarray(x.float().numpy() if x.is_floating_point() else x.numpy(), name)
        return x

    def run(*x, **options):
        out = f(*map(of, x), **{name: of(y) for name, y in options.items()})
        return torch.from_numpy(np.array(out.astype(jnp.float32)))

    return run


FUNCTIONS = {
    "standard": standard_attention,
    "flash": lambda *x, **options: flash_attention(*x, block_q=5, block_k=3, **options),
    "block-sparse": sparse,
    "jax standard": in_jax(for_jax.standard_attention),
    "jax flash": in_jax(lambda *x, **options: for_jax.flash_attention(*x, block_q=4, block_k=8, **options)),
}


@st.composite
def problems(draw):
    """Mostly good: now and then a number of heads, a dtype or an option that does not go with the rest."""
    batch, kv_heads, heads = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 4))
    n_q, n_k = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    dtype = getattr(torch, draw(st.sampled_from(list(TOLERANCE))))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    sizes = ((heads, n_q), (kv_heads, n_k), (kv_heads, n_k))
    q, k, v = (torch.randn(batch, h, n, 4, generator=generator).to(dtype) for h, n in sizes)
    v = v.float() if draw(st.integers(0, 15)) == 0 else v
    options = {"causal": draw(st.booleans()), "seed": draw(st.sampled_from([0, 2**32 - 1, np.int64(5)]))}
    options["dropout_p"] = draw(st.sampled_from([0.0, 0.0, 0.4, np.float32(0.5)]))
    options["scale"] = draw(st.sampled_from([None, 0.7, -1.0, 0.0, 2]))
    if draw(st.booleans()):
        keys = st.lists(st.booleans(), min_size=n_k, max_size=n_k)
        options["mask"] = torch.tensor([draw(keys) for _ in range(batch)])
        bad = draw(st.sampled_from([0.0, float("nan"), float("inf")]))
        k, v = (x.masked_fill(~options["mask"][:, None, :, None], bad) for x in (k, v))
    if draw(st.integers(0, 7)) == 0:
        name = draw(st.sampled_from(["causal", "seed", "dropout_p", "scale", "mask"]))
        options[name] = draw(st.sampled_from(["x", 2.5, -1.5, float("nan"), [0], torch.ones(3)]))
        options.update({"scale": "x"} if name == "scale" else {})  # of these, the others are scales
    return (q, k, v), options


@settings(max_examples=60, deadline=None, derandomize=True)
@given(problems())
def test_all_agree_or_all_refuse(problem):
    x, options = problem
    results = {}
    for name, f in FUNCTIONS.items():
        try:
            results[name] = f(*x, **options).float()
        except ValueError as error:
            results[name] = str(error)
    wanted = results["standard"]
    for name, out in results.items():
        if isinstance(wanted, str):
            assert isinstance(out, str) and out.split()[0] == wanted.split()[0], (name, wanted, out)
        else:
            assert isinstance(out, torch.Tensor), (name, out)
            tolerance = TOLERANCE[str(x[0].dtype).removeprefix("torch.")]
            torch.testing.assert_close(out, wanted, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")
