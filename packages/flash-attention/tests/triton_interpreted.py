"""The Triton kernels run by Triton's interpreter on CPU tensors: test_triton.py runs this file in a process of its own.

Triton decides when a kernel is decorated whether it is interpreted, so the choice is the process's: TRITON_INTERPRET
has to be set before flash_attention.triton_backend is first imported, and must not leak into the tests that compile.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

from flash_attention import flash_attention, standard_attention, triton_backend, triton_kernels

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, on log(0) and exp2 of large numbers

_interpreted_dot = InterpreterBuilder.create_dot


def _dot(self, a, b, *rest):
    """The interpreter keeps bfloat16 as uint16 and multiplies these integers: widen them to float32 first."""
    a, b = (self.create_fp_ext(x, tl.float32) if x.dtype.scalar == tl.bfloat16 else x for x in (a, b))
    return _interpreted_dot(self, a, b, *rest)


InterpreterBuilder.create_dot = _dot
_interpreted_cast = InterpreterBuilder.cast_impl


def _cast(self, src, dst_type):
    """The interpreter cuts float32 off to bfloat16, where a GPU rounds to the nearest: round before the cut."""
    if src.dtype.scalar == tl.float32 and dst_type.scalar == tl.bfloat16:
        bits = torch.from_numpy(np.array(src.data)).bfloat16().view(torch.int16).numpy().view(np.uint16)
        return TensorHandle(bits, dst_type.scalar)
    return _interpreted_cast(self, src, dst_type)


InterpreterBuilder.cast_impl = _cast


def fmix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return x ^ (x >> np.uint32(16))


def kept(shape: tuple[int, int, int, int], seed: int, p: float) -> Tensor:
    """Dropout's mask as the design defines it, in NumPy."""
    rows = np.arange(np.prod(shape[:3]), dtype=np.uint32).reshape(*shape[:3], 1)
    columns = np.arange(shape[3], dtype=np.uint32) * np.uint32(0x9E3779B9)
    return torch.from_numpy(fmix(fmix(rows ^ np.uint32(seed % 2**32)) + columns) >= np.uint32(int(p * 2**32)))


def standard(q, k, v, mask, causal: bool, scale: float, p: float, seed: int) -> tuple[Tensor, Tensor]:
    """Attention by its definition, in the precision of its inputs."""
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    s = q @ k.mT * scale
    visible = torch.ones(s.shape[-2:], dtype=torch.bool).tril(s.shape[-1] - s.shape[-2] if causal else s.shape[-1])
    visible = visible if mask is None else visible & mask[:, None, None]
    some = visible.any(-1, keepdim=True)
    probabilities = torch.where(visible, s, -1e30).softmax(-1) * (visible & some)
    lse = torch.where(visible, s, -torch.inf).logsumexp(-1)
    return (probabilities * kept(tuple(s.shape), seed, p) / (1 - p)) @ v, lse


def inputs(n_q: int, n_k: int, heads: int, kv_heads: int, d: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """q, k, v and dO, for two sequences."""
    generator = torch.Generator().manual_seed(n_q + n_k + d)
    shapes = ((heads, n_q), (kv_heads, n_k), (kv_heads, n_k), (heads, n_q))
    return [torch.randn(2, h, n, d, generator=generator).to(dtype) for h, n in shapes]


def errors(case: list[Tensor], mask=None, causal=False, scale=0.3, p=0.0, seed=7, run=None) -> list[float]:
    """Largest error of the output, the three gradients and the logsumexp, each against float64, and over the largest
    value where that is above 1: how sums round depends on the processor."""
    *qkv, do = case
    run = run or (
        lambda q, k, v: triton_backend.attention(
            q, k, v, mask, causal=causal, scale=scale, dropout_p=p, seed=seed, block_q=16, block_k=16
        )
    )
    qkv = [x.detach().requires_grad_() for x in qkv]
    wide = [x.detach().double().requires_grad_() for x in qkv]
    out, lse = run(*qkv)
    true_out, true_lse = standard(*wide, mask, causal, scale, p, seed)
    assert out.dtype == qkv[0].dtype
    # The reference's logsumexp of a row without keys is -inf too: an infinity in one alone stays infinite.
    lse_error = torch.where(lse.double() == true_lse, 0, lse.double() - true_lse).detach()
    pairs = [(out, true_out), *zip(torch.autograd.grad(out, qkv, do), torch.autograd.grad(true_out, wide, do.double()),
                                   strict=True)]  # fmt: skip
    differences = [*((a - b).detach() / b.detach().abs().max().clamp(min=1) for a, b in pairs), lse_error]
    return [float(torch.nan_to_num(x, nan=torch.inf).abs().max()) for x in differences]


# n_q, n_k, heads, kv_heads, head_dim, causal, mask, dropout_p
CASES = [
    (16, 16, 1, 1, 16, False, False, 0.0),
    (37, 21, 2, 1, 24, False, True, 0.0),
    (21, 37, 2, 2, 40, True, False, 0.0),
    (37, 21, 2, 1, 16, True, True, 0.3),
    (1, 35, 4, 2, 8, True, False, 0.2),
    (33, 17, 1, 1, 1, True, False, 0.0),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_and_gradients_agree_with_float64(case):
    n_k, causal, masked, p = case[1], *case[5:]
    mask = None
    if masked:  # the second sequence has no key at all
        mask = torch.rand(2, n_k, generator=torch.Generator().manual_seed(0)) > 0.4
        mask[1] = False
    assert max(errors(inputs(*case[:5]), mask, causal, p=p)) < 5e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_errs_at_most_twice_as_much_as_the_standard_algorithm(dtype):
    case = inputs(20, 36, 2, 1, 32, dtype)
    plain = errors(case, causal=True, run=lambda *qkv: standard(*qkv, None, True, 0.3, 0.0, 7))
    ours = errors(case, causal=True)
    assert all(a <= 2 * b + 1e-6 for a, b in zip(ours, plain, strict=True)), (ours, plain)


@pytest.mark.parametrize("scale", [-0.5, 0.0])
def test_scale_may_be_negative_or_zero(scale):
    assert max(errors(inputs(17, 17, 1, 1, 16), causal=True, scale=scale)) < 5e-6


def test_strides_of_any_kind():
    q, k, v, do = inputs(18, 18, 2, 2, 16)
    q = q.transpose(1, 2).contiguous().transpose(1, 2)  # (batch, seq, heads, head_dim) in memory
    k = k.mT.contiguous().mT  # a row's elements apart
    v = torch.cat([v, v], -1)[..., 5:21]  # misaligned rows inside longer ones
    do = do[:1, :1, :1, :1].expand(do.shape)  # what sum() sends back
    assert max(errors([q, k, v, do])) < 5e-6


@pytest.mark.parametrize("blocks", [(16, 32), (32, 16)])
def test_dropout_is_the_defined_mask_whatever_the_blocks(blocks):
    p, seed, n = 0.4, 2**32 - 5, 32
    q, k = torch.zeros(2, 2, n, 32), torch.zeros(2, 2, n, 32)
    options = {"causal": False, "scale": 1.0, "dropout_p": p, "seed": seed, "block_q": blocks[0], "block_k": blocks[1]}
    out, _ = triton_backend.attention(q, k, torch.eye(n).expand(2, 2, n, n), None, **options)
    mask = kept((2, 2, n, n), seed, p)  # with V the identity the output is P itself
    assert torch.equal(out > 0, mask)
    torch.testing.assert_close(out, mask / (n * (1 - p)))


def test_rows_without_keys_are_zero():
    q, k, v, do = (x.requires_grad_() for x in inputs(20, 10, 1, 1, 16))
    options = {"scale": 1.0, "dropout_p": 0.0, "seed": 0, "block_q": 16, "block_k": 16}
    out, lse = triton_backend.attention(q, k, v, None, causal=True, **options)
    dq, dk, dv = torch.autograd.grad(out, (q, k, v), do)
    assert (out[:, :, :10] == 0).all() and (lse[:, :, :10] == -torch.inf).all() and (dq[:, :, :10] == 0).all()
    assert all(x.isfinite().all() for x in (out, dq, dk, dv)) and lse[:, :, 10:].isfinite().all()


@pytest.mark.parametrize("causal", [False, True])
def test_gradient_of_lse(causal):
    """Of both outputs together; rows without a key have -inf, and nothing comes back from them."""
    *qkv, do = inputs(37, 21, 2, 1, 24)
    mask = torch.arange(21).expand(2, 21) > torch.tensor([[3], [30]])
    options = {"scale": 0.3, "dropout_p": 0.0, "seed": 0, "block_q": 16, "block_k": 16}
    ours, wide = [x.clone().requires_grad_() for x in qkv], [x.double().requires_grad_() for x in qkv]
    both = triton_backend.attention(*ours, mask, causal=causal, **options), standard(*wide, mask, causal, 0.3, 0.0, 0)
    losses = [(out * do).sum() + lse[lse.isfinite()].sin().sum() for out, lse in both]
    pairs = zip(torch.autograd.grad(losses[0], ours), torch.autograd.grad(losses[1], wide), strict=True)
    for a, b in pairs:
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-5)


def test_what_is_hidden_has_no_influence():
    """NaN in masked keys and values, and in queries that see nothing; by the public function."""
    q, k, v, do = inputs(20, 20, 2, 1, 16)
    mask = torch.arange(20).expand(2, 20) > 4
    results = []
    for bad in (0.0, torch.nan):
        x = [y.clone() for y in (q, k, v)]
        x[0][:, :, :5], x[1][:, :, :5], x[2][:, :, :5] = bad, bad, bad
        x = [y.requires_grad_() for y in x]
        out = flash_attention(*x, mask=mask, causal=True, backend="triton", block_q=16, block_k=16)
        results.append([out, *torch.autograd.grad(out, x, do)])
    assert all(torch.equal(a, b) and a.isfinite().all() for a, b in zip(*results, strict=True))


def test_transforms_and_refusals():
    q, k, v, do = inputs(18, 20, 2, 1, 16)

    def loss(q, k, v):
        return flash_attention(q, k, v, backend="triton").square().sum()

    true = torch.func.grad(lambda q: standard_attention(q, k, v).square().sum())(q)
    torch.testing.assert_close(torch.func.grad(loss)(q, k, v), true, rtol=1e-4, atol=1e-5)
    out = torch.vmap(lambda q: flash_attention(q, k, v, backend="triton", dropout_p=0.3, seed=1))(torch.stack([do, q]))
    torch.testing.assert_close(out[1], standard_attention(q, k, v, dropout_p=0.3, seed=1), rtol=1e-4, atol=1e-5)
    with pytest.raises(RuntimeError, match="^flash attention has no second derivative"):
        torch.func.grad(lambda q: torch.func.grad(loss)(q, k, v).square().sum())(q)
    with pytest.raises(RuntimeError, match="^flash attention has no forward-mode derivative"):
        torch.func.jvp(lambda q: loss(q, k, v), (q,), (do,))


@triton.jit
def _sees_one_too_many(rows, columns, key_mask, n_q, n_k, CAUSAL: tl.constexpr):
    return (columns < n_k) & (columns <= rows + (n_k - n_q) + 1)


@triton.jit
def _keeps_by_the_query_alone(head, rows, columns, n_q, seed, threshold):
    return triton_kernels._fmix((head * n_q + rows + 0 * columns).to(tl.uint32)) >= threshold.to(
        tl.uint32, bitcast=True
    )


@pytest.mark.parametrize(("name", "mutant"), [("_visible", _sees_one_too_many), ("_kept", _keeps_by_the_query_alone)])
def test_a_broken_kernel_is_noticed(monkeypatch, name, mutant):
    case = inputs(20, 20, 1, 1, 16)
    assert max(errors(case, causal=True, p=0.3)) < 5e-6
    monkeypatch.setattr(triton_kernels, name, mutant)
    assert max(errors(case, causal=True, p=0.3)[:4]) > 1e-2


def test_bad_input_is_named():
    q = torch.zeros(1, 1, 4, 8)
    good = {"causal": False, "scale": 1.0, "dropout_p": 0.0, "seed": 0, "block_q": None, "block_k": None}
    with pytest.raises(ValueError, match=r"float64.*takes float16, bfloat16 or float32"):
        triton_backend.attention(q.double(), q.double(), q.double(), None, **good)
    wide = torch.zeros(1, 1, 4, 257)
    with pytest.raises(ValueError, match="head_dim is 257: .* at most 256"):
        triton_backend.attention(wide, wide, wide, None, **good)
    for block in (8, 48, 0):
        with pytest.raises(ValueError, match=f"block_q is {block}: .* powers of two from 16"):
            triton_backend.attention(q, q, q, None, **{**good, "block_q": block})
    assert triton_backend.supports(q) and not triton_backend.supports(q.double())
    assert not triton_backend.supports(wide)
