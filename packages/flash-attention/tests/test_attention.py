"""flash_attention on the torch backend against standard attention, torch's own attention and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from flash_attention import flash_attention, standard_attention
from flash_attention.dropout import kept

BLOCKS = {"block_q": 16, "block_k": 8}
SHAPES = {  # (batch, heads, kv_heads, seq_q, seq_k, head_dim)
    "one": (1, 1, 1, 1, 1, 1),
    "whole blocks": (2, 2, 2, 32, 32, 8),
    "blocks cut short": (2, 3, 3, 37, 29, 5),
    "decoding": (2, 4, 2, 1, 45, 8),
    "one key": (1, 2, 1, 19, 1, 4),
    "more queries": (1, 2, 2, 50, 21, 4),
    "more keys": (1, 2, 2, 21, 50, 4),
    "grouped": (2, 6, 2, 33, 33, 7),
    "multi-query": (2, 5, 1, 20, 40, 3),
}
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
causals = pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])


def inputs(shape, seed=0, dtype=torch.float64):
    """q, k, v and the gradient of the output."""
    batch, heads, kv_heads, n_q, n_k, d = shape
    generator = torch.Generator().manual_seed(seed)
    sizes = [(batch, heads, n_q, d), (batch, kv_heads, n_k, d), (batch, kv_heads, n_k, d), (batch, heads, n_q, d)]
    return [torch.randn(size, generator=generator, dtype=torch.float64).to(dtype) for size in sizes]


def padding(shape, seed=0):
    """A key mask with about half of the keys, of which the last sequence has none."""
    mask = torch.rand(shape[0], shape[4], generator=torch.Generator().manual_seed(seed)) < 0.5
    mask[-1] = False
    return mask


def visible(shape, causal, mask=None):
    """Which query may see which key, (batch, 1, seq_q, seq_k)."""
    batch, _, _, n_q, n_k, _ = shape
    seen = torch.ones(batch, 1, n_q, n_k, dtype=torch.bool)
    seen = seen.tril(n_k - n_q) if causal else seen
    return seen if mask is None else seen & mask[:, None, None]


def results(f, q, k, v, do, **options):
    """The output and the gradients of q, k and v."""
    q, k, v = (x.detach().clone().requires_grad_() for x in (q, k, v))
    out = f(q, k, v, **options)
    return [out.detach(), *torch.autograd.grad(out, (q, k, v), do)]


def compare(ours, theirs, tolerance=1e-12):
    for name, a, b in zip(("out", "dq", "dk", "dv"), ours, theirs, strict=True):
        assert a.shape == b.shape, name
        assert a.isfinite().all(), f"{name} is not finite"
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance, msg=lambda m, name=name: f"{name}: {m}")


def rms(ours, exact):
    return [float((a.double() - b).square().mean().sqrt()) for a, b in zip(ours, exact, strict=True)]


def torch_attention(q, k, v, seen, scale=None):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=scale, enable_gqa=True)


@causals
@shapes
@pytest.mark.parametrize("masked", [False, True], ids=["all keys", "padding"])
@pytest.mark.parametrize("blocks", [{}, BLOCKS], ids=["own blocks", "16x8"])
def test_equals_standard_and_torch(shape, causal, masked, blocks):
    x, mask = inputs(shape), padding(shape) if masked else None
    ours = results(flash_attention, *x, causal=causal, mask=mask, backend="torch", **blocks)
    compare(ours, results(standard_attention, *x, causal=causal, mask=mask))
    compare(ours, results(torch_attention, *x, seen=visible(shape, causal, mask)))


@st.composite
def problems(draw):
    batch, kv_heads, group = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 3))
    n_q, n_k, d = draw(st.integers(1, 24)), draw(st.integers(1, 24)), draw(st.integers(1, 9))
    options = {"causal": draw(st.booleans()), "dropout_p": draw(st.sampled_from([0.0, 0.0, 0.3, 0.9]))}
    options["seed"] = draw(st.integers(0, 2**32 - 1))
    options["scale"] = draw(st.sampled_from([None, 0.3, 2.0, -1.0, 0.0]))
    if draw(st.booleans()):
        keys = st.lists(st.booleans(), min_size=n_k, max_size=n_k)
        options["mask"] = torch.tensor([draw(keys) for _ in range(batch)])
    blocks = {name: draw(st.none() | st.integers(1, 12)) for name in ("block_q", "block_k")}
    return (batch, kv_heads * group, kv_heads, n_q, n_k, d), options, blocks


@settings(max_examples=60, deadline=None, derandomize=True)
@given(problems())
def test_equals_standard_whatever_the_problem(problem):
    shape, options, blocks = problem
    x = inputs(shape)
    compare(results(flash_attention, *x, **options, **blocks), results(standard_attention, *x, **options), 1e-11)


def test_gradcheck():
    shape = (1, 2, 1, 4, 5, 2)
    q, k, v = (x.requires_grad_() for x in inputs(shape)[:3])
    options = {
        "causal": True,
        "mask": torch.arange(5)[None] != 1,
        "dropout_p": 0.2,
        "seed": 1,
        "block_q": 3,
        "block_k": 2,
    }
    assert torch.autograd.gradcheck(lambda *x: flash_attention(*x, **options), (q, k, v))


@causals
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16], ids=str)
def test_lse(causal, dtype):
    shape = (2, 4, 2, 30, 21, 5)
    q, k, v, _ = inputs(shape, dtype=dtype)
    mask = padding(shape)
    out, lse = flash_attention(q.requires_grad_(), k, v, causal=causal, mask=mask, return_lse=True, **BLOCKS)
    S = (q.double() @ k.double().repeat_interleave(2, 1).mT / math.sqrt(5)).detach()
    wanted = S.masked_fill(~visible(shape, causal, mask), -math.inf).logsumexp(-1)
    assert out.requires_grad
    assert lse.requires_grad
    assert lse.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert (lse[-1] == -math.inf).all()
    assert lse[0].isfinite().any()
    torch.testing.assert_close(lse.double(), wanted, rtol=0, atol=1e-12 if dtype == torch.float64 else 1e-5)


@pytest.mark.parametrize("blocks", [{}, BLOCKS], ids=["own blocks", "16x8"])
def test_rows_without_keys_are_zero(blocks):
    shape = (2, 2, 2, 50, 21, 4)  # causal: the first 29 queries see nothing; the second sequence has no key at all
    mask = padding(shape)
    mask[0] = True
    out, dq, dk, dv = results(flash_attention, *inputs(shape), causal=True, mask=mask, **blocks)
    for x in (out, dq):
        assert (x[0, :, :29] == 0).all()
        assert (x[0, :, 29:] != 0).any(-1).all() or x is dq  # softmax of one key has no gradient
    for x in (out, dq, dk, dv):
        assert x.isfinite().all()
        assert (x[1] == 0).all()


@causals
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("n", [65, 200])
def test_half_precision(dtype, n, causal):
    """At most twice as far from float64 as standard attention in the same dtype; and hardly more than by rounding."""
    x = inputs((1, 2, 1, n, n, 32), dtype=dtype)
    exact = results(standard_attention, *(y.double() for y in x), causal=causal)
    ours = results(flash_attention, *x, causal=causal, block_q=64, block_k=32)
    standard = results(standard_attention, *x, causal=causal)
    assert [y.dtype for y in ours] == [dtype] * 4
    assert [y.shape for y in ours] == [y.shape for y in exact]
    for a, b, y in zip(ours, standard, exact, strict=True):
        assert (a.double() - y).abs().max() <= 2 * (b.double() - y).abs().max()
    rounded = rms([y.to(dtype) for y in exact], exact)
    assert all(a <= 1.1 * b for a, b in zip(rms(ours, exact), rounded, strict=True))


@causals
@pytest.mark.parametrize(("heads", "n", "d"), [(16, 100, 16), (8, 300, 64), (2, 1000, 128)])
def test_error_in_float32(heads, n, d, causal):
    """The paper's sums in blocks round no worse than standard attention, forward and backward."""
    x = inputs((1, heads, heads, n, n, d), dtype=torch.float32)
    exact = results(standard_attention, *(y.double() for y in x), causal=causal)
    standard = rms(results(standard_attention, *x, causal=causal), exact)
    for blocks in ({}, {"block_q": 64, "block_k": 64}):
        ours = rms(results(flash_attention, *x, causal=causal, **blocks), exact)
        assert all(a <= 1.1 * b for a, b in zip(ours, standard, strict=True)), (ours, standard)


@pytest.mark.parametrize("blocks", [{}, BLOCKS], ids=["own blocks", "16x8"])
def test_one_key_has_no_gradient(blocks):
    """A softmax over one key is 1 whatever the score: dP - D is zero to the last bit, not a difference of roundings."""
    _, dq, dk, _ = results(flash_attention, *inputs((1, 4, 2, 50, 1, 16), dtype=torch.float32), **blocks)
    assert (dq == 0).all()
    assert (dk == 0).all()
    dq = results(flash_attention, *inputs((1, 4, 2, 50, 50, 16), dtype=torch.float32), causal=True, **blocks)[1]
    assert (dq[:, :, 0] == 0).all()
    assert (dq[:, :, 1:] != 0).all()


@causals
def test_layouts(causal):
    """Transposed, expanded and strided inputs give what contiguous ones do."""
    shape = (2, 6, 2, 33, 33, 8)
    q, k, v, do = inputs(shape)
    wanted = results(flash_attention, q, k, v, do, causal=causal, **BLOCKS)
    q_, k_, v_ = (x.transpose(1, 2).contiguous().requires_grad_() for x in (q, k, v))  # (batch, seq, heads, d)
    out = flash_attention(q_.transpose(1, 2), *(x.transpose(1, 2) for x in (k_, v_)), causal=causal, **BLOCKS)
    do_ = do.mT.contiguous().mT
    gradients = torch.autograd.grad(out, (q_, k_, v_), do_)
    compare([out.detach(), *(x.transpose(1, 2) for x in gradients)], wanted)

    one = k[:, :1].clone().requires_grad_()
    out = flash_attention(q, one.expand(-1, 6, -1, -1), one.expand(-1, 6, -1, -1), causal=causal, **BLOCKS)
    out.backward(torch.ones(()).double().expand_as(out))
    shared = k[:, :1].clone().requires_grad_()
    wanted = standard_attention(q, shared, shared, causal=causal)
    wanted.sum().backward()
    torch.testing.assert_close(out, wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(one.grad, shared.grad, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("blocks", [{}, BLOCKS], ids=["own blocks", "16x8"])
def test_large_scores(dtype, blocks):
    """Scores in the thousands, whose exponentials no dtype holds."""
    x = inputs((1, 2, 2, 64, 64, 16), dtype=dtype)
    ours = results(flash_attention, *x, scale=100.0, **blocks)
    exact = results(standard_attention, *(y.double() for y in x), scale=100.0)
    assert all(y.isfinite().all() for y in ours)
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(ours[0].double(), exact[0], rtol=eps, atol=1e-3 if dtype == torch.float32 else 2e-2)


@pytest.mark.parametrize("sign", [-1, 1], ids=["falling", "rising"])
def test_maximum_moves(sign):
    """Scores that rise or fall by hundreds from one block of keys to the next."""
    q, k, v, do = inputs((1, 1, 1, 40, 64, 1), dtype=torch.float32)
    k = sign * torch.arange(64.0).view(1, 1, 64, 1) * 40
    x = (q.abs() + 1, k, v, do)
    exact = results(standard_attention, *(y.double() for y in x))
    compare([y.double() for y in results(flash_attention, *x, **BLOCKS)], exact, 1e-4)


def test_deterministic():
    x = inputs((2, 4, 2, 100, 130, 16), dtype=torch.float32)
    options = {"causal": True, "dropout_p": 0.1, "seed": 5, "block_q": 32, "block_k": 32}
    first, second = (results(flash_attention, *x, **options) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout(p):
    """With v the identity the output is P after dropout, so every dropped entry shows."""
    n = 128
    q, k, _, _ = inputs((2, 2, 2, 96, n, n))
    v = torch.eye(n).double().expand_as(k)
    P = standard_attention(q, k, v)
    rows = torch.arange(2 * 2 * 96).view(2, 2, 96, 1)
    keep = kept(rows, torch.arange(n), 7, p)
    for blocks in ({}, BLOCKS, {"block_q": 96, "block_k": 1}, {"block_q": 7, "block_k": 100}):
        out = flash_attention(q, k, v, dropout_p=p, seed=7, **blocks)
        assert torch.equal(out != 0, keep)
        torch.testing.assert_close(out, P * keep / (1 - p), rtol=1e-12, atol=1e-15)
    assert torch.equal(standard_attention(q, k, v, dropout_p=p, seed=7) != 0, keep)
    rate = float(keep.double().mean())
    assert abs(rate - (1 - p)) < 4 * math.sqrt(p * (1 - p) / keep.numel())


@pytest.mark.parametrize("attention", [flash_attention, standard_attention])
def test_seed_from_the_default_generator(attention):
    q, k, v, _ = inputs((1, 2, 2, 40, 40, 8))
    torch.manual_seed(3)
    first, second = (attention(q, k, v, dropout_p=0.5) for _ in range(2))
    torch.manual_seed(3)
    again = attention(q, k, v, dropout_p=0.5)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    torch.manual_seed(3)
    assert torch.equal(first, attention(q, k, v, dropout_p=0.5, seed=int(torch.randint(2**32, ()))))


def test_no_dropout_draws_nothing():
    q, k, v, _ = inputs((1, 1, 1, 4, 4, 2))
    state = torch.get_rng_state()
    flash_attention(q, k, v)
    flash_attention(q, k, v, dropout_p=0.5, seed=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_gradients_of_some_inputs():
    """Any one of q, k and v may be the only one that needs a gradient."""
    q, k, v, do = inputs((1, 2, 1, 20, 30, 4))
    wanted = results(flash_attention, q, k, v, do)[1:]
    for i in range(3):
        x = [y.detach().requires_grad_(i == j) for j, y in enumerate((q, k, v))]
        (ours,) = torch.autograd.grad(flash_attention(*x), x[i], do)
        assert torch.equal(ours, wanted[i])


class _Largest(TorchDispatchMode):
    """Records the entries of the largest tensor that any operation returns, views and their storage included."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(x, Tensor):
                held = x.untyped_storage().nbytes() // x.element_size()
                self.numel = max(self.numel, x.numel(), held)
        return result


@pytest.mark.parametrize(("causal", "p"), [(False, 0.0), (True, 0.2)], ids=["full", "causal with dropout"])
def test_nothing_has_the_size_of_the_scores(causal, p):
    n, d = 1024, 8
    shape = (1, 1, 1, n, n, d)
    x = inputs(shape, dtype=torch.float32)
    options = {"causal": causal, "dropout_p": p, "seed": 0, "mask": torch.rand(1, n) < 0.9}
    with _Largest() as ours:
        results(flash_attention, *x, block_q=64, block_k=64, **options)
    with _Largest() as standard:
        results(standard_attention, *x, **options)
    assert ours.numel <= n * n / 64
    assert standard.numel >= n * n
