"""`apply_rope` against the matrix of Eq. 15, three libraries' rotary embeddings, and what users of such code hit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPTNeoXConfig, LlamaConfig
from transformers.models.gpt_neox import modeling_gpt_neox as neox
from transformers.models.gptj import modeling_gptj as gptj
from transformers.models.llama import modeling_llama as llama

from rope import apply_rope, apply_rope_2d, half_to_interleaved, interleaved_to_half, rope_frequencies, tables

LAYOUTS = pytest.mark.parametrize("interleaved", [True, False], ids=["interleaved", "half"])


def matrix(m, d, base=10000.0):
    """Eq. 15, entry by entry."""
    R = torch.zeros(d, d, dtype=torch.float64)
    for i in range(d // 2):
        angle = torch.tensor(m * base ** (-2 * i / d), dtype=torch.float64)
        R[2 * i, 2 * i] = R[2 * i + 1, 2 * i + 1] = angle.cos()
        R[2 * i, 2 * i + 1], R[2 * i + 1, 2 * i] = -angle.sin(), angle.sin()
    return R


def randn(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@LAYOUTS
def test_is_the_matrix(interleaved):
    x = randn(3, 7, 16)
    order = torch.arange(16) if interleaved else interleaved_to_half(torch.arange(16), 16)
    for m in range(7):
        turned = apply_rope(x[..., order], interleaved=interleaved)[:, m]
        torch.testing.assert_close(turned, (x[:, m] @ matrix(m, 16).T)[:, order], rtol=0, atol=1e-13)


@LAYOUTS
@given(m=st.integers(0, 10**5), n=st.integers(0, 10**5), shift=st.integers(0, 10**5), pairs=st.integers(1, 32))
@settings(max_examples=40, deadline=None)
def test_scores_depend_on_the_difference(interleaved, m, n, shift, pairs):
    """RP-1, in float64; norms are kept."""
    q, k = randn(2, 1, 2 * pairs)

    def at(x, m):
        return apply_rope(x, torch.tensor([m]), interleaved=interleaved)

    near, far = ((at(q, m + by) @ at(k, n + by).mT).item() for by in (0, shift))
    assert abs(near - far) < 1e-9
    assert abs(at(q, m).norm() - q.norm()) < 1e-10


def test_layouts_after_a_permutation():
    """RP-2: equal scores with permuted W_q and W_k, others without."""
    x, W_q, W_k = randn(11, 24), randn(24, 24, seed=1), randn(24, 24, seed=2)

    def scores(W_q, W_k, interleaved):
        q, k = (
            apply_rope((x @ W.T).unflatten(-1, (3, 8)).transpose(0, 1), interleaved=interleaved) for W in (W_q, W_k)
        )
        return q @ k.mT

    wanted = scores(W_q, W_k, True)
    permuted = scores(interleaved_to_half(W_q, 8), interleaved_to_half(W_k, 8), False)
    torch.testing.assert_close(permuted, wanted, rtol=0, atol=1e-12)
    assert (scores(W_q, W_k, False) - wanted).abs().max() > 0.1
    for rotary_dim in (None, 4):
        assert half_to_interleaved(interleaved_to_half(W_q, 8, rotary_dim), 8, rotary_dim).equal(W_q)
    assert interleaved_to_half(torch.arange(8), 8, 4).tolist() == [0, 2, 1, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("positions", [None, 5, torch.tensor([[3, 0, 7, 1], [9, 9, 2, 4]])], ids=["none", "int", "2d"])
def test_llama(positions):
    """transformers' half-split layout, its positions for left padding among them."""
    q, k = randn(2, 2, 3, 4, 16, dtype=torch.float32)
    rotary = llama.LlamaRotaryEmbedding(
        LlamaConfig(
            hidden_size=64, num_attention_heads=4, rope_parameters={"rope_type": "default", "rope_theta": 500.0}
        )
    )
    ids = positions if isinstance(positions, torch.Tensor) else (torch.arange(4) + (positions or 0))[None]
    theirs = llama.apply_rotary_pos_emb(q, k, *rotary(q, ids))
    for x, wanted in zip((q, k), theirs, strict=True):
        ours = apply_rope(x, positions, base=500.0, interleaved=False)
        torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-6)


def test_gpt_neox_partial():
    """A quarter of each head, whose exponents go by rotary_dim."""
    config = GPTNeoXConfig(hidden_size=128, num_attention_heads=4, rotary_pct=0.25)
    q, k = randn(2, 2, 4, 9, 32, dtype=torch.float32)
    theirs = neox.apply_rotary_pos_emb(q, k, *neox.GPTNeoXRotaryEmbedding(config)(q, torch.arange(9)[None]))
    for x, wanted in zip((q, k), theirs, strict=True):
        ours = apply_rope(x, rotary_dim=8, interleaved=False)
        torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-6)


def test_gptj_interleaved():
    x = randn(2, 9, 4, 16, dtype=torch.float32)  # its heads come after the sequence
    sin, cos = gptj.create_sinusoidal_positions(9, 16).chunk(2, -1)
    theirs = gptj.apply_rotary_pos_emb(x, sin[None], cos[None])
    torch.testing.assert_close(apply_rope(x.transpose(1, 2)).transpose(1, 2), theirs, rtol=1e-5, atol=1e-6)


@LAYOUTS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_half_precision_is_rounded_once(dtype, interleaved, monkeypatch):
    """Each entry is the float64 result's neighbour, whatever the blocks, strides and positions."""
    from rope import rotary

    monkeypatch.setattr(rotary, "_BLOCK", 200)
    for x in (
        randn(2, 3, 10, 8),
        randn(2, 30, 8),
        randn(2, 10, 3, 8).transpose(1, 2),
        randn(7, 8),
        randn(2, 3, 2, 5, 8),
        randn(5, 17, 1, 8),  # a position of all is more than a block; 17 heads of it are not
        randn(3, 40, 1, 8),
    ):
        x = x.to(dtype)
        for positions in (None, 300, torch.arange(x.shape[-2]).expand(len(x), -1) * 7 + 260):
            if x.ndim == 2 and isinstance(positions, torch.Tensor):
                continue
            wanted = apply_rope(x.double(), positions, interleaved=interleaved)
            got = apply_rope(x, positions, interleaved=interleaved)
            assert got.dtype == dtype
            eps = torch.finfo(dtype).eps
            torch.testing.assert_close(
                got.double(), wanted, rtol=0.51 * eps, atol=1e-6 if dtype != torch.float32 else 4e-4
            )


@LAYOUTS
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_gradient_in_half_precision_is_rounded_once(dtype, interleaved, monkeypatch):
    """It is what came from above, turned back, in blocks too."""
    from rope import rotary

    monkeypatch.setattr(rotary, "_BLOCK", 200)
    x, upstream = randn(2, 2, 3, 10, 8).to(dtype)
    wide = x.double()
    found = [
        torch.autograd.grad(apply_rope(each.requires_grad_(), 300, interleaved=interleaved), each, upstream.to(each))[0]
        for each in (x, wide)
    ]
    torch.testing.assert_close(found[0].double(), found[1], rtol=0.51 * torch.finfo(dtype).eps, atol=1e-6)


def test_positions_beyond_256_do_not_collide():
    x = torch.ones(1, 4096, 64, dtype=torch.bfloat16)
    turned = apply_rope(x).float()
    distance = torch.cdist(turned[0, 256:1024], turned[0, 256:1024]).fill_diagonal_(9)
    assert distance.min() > 0.1


@LAYOUTS
@pytest.mark.parametrize("rotary_dim", [None, 4])
def test_compiles_to_real_numbers(interleaved, rotary_dim):
    x = randn(2, 3, 9, 8, dtype=torch.float32).requires_grad_()
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph

    torch.compiler.reset()
    options = {"interleaved": interleaved, "rotary_dim": rotary_dim}
    f = torch.compile(lambda x, m: apply_rope(x, m, **options), fullgraph=True, backend=backend)
    for positions in (None, 4, torch.arange(18).view(2, 9)):
        wanted = apply_rope(x, positions, **options)
        torch.testing.assert_close(f(x, positions), wanted)
    code = "".join(graph.code for graph in graphs)
    assert code and "complex" not in code


def test_tables_grow_and_are_kept(monkeypatch):
    monkeypatch.setattr(tables, "_TABLES", {})
    made = []
    trigonometry = tables._trigonometry
    monkeypatch.setattr(tables, "_trigonometry", lambda *a: made.append(len(a[0])) or trigonometry(*a))
    x = torch.ones(2, 10, 8)
    for _ in range(3):
        apply_rope(x), apply_rope(x, torch.tensor([3, 1, 4, 1, 5, 9, 2, 6, 5, 3])), apply_rope(x[:, :4])
    assert made == [10]
    for offset in range(40):
        apply_rope(x[:, :1], offset)
    assert made == [10, 20, 40]
    for base in range(2, 90):
        apply_rope(x, base=float(base))
    assert len(tables._TABLES) == 32


def test_a_table_outlives_the_mode_it_was_made_in(monkeypatch):
    monkeypatch.setattr(tables, "_TABLES", {})
    x = torch.ones(2, 5, 8)
    with torch.inference_mode():
        apply_rope(x)
    y = x.clone().requires_grad_()
    apply_rope(y).sum().backward()
    monkeypatch.setattr(tables, "_TABLES", {})
    torch.func.grad(lambda x: apply_rope(x).sum())(x)
    torch.func.vmap(apply_rope)(x)
    torch.testing.assert_close(torch.func.grad(lambda x: apply_rope(x).sum())(x), y.grad)


def test_two_axes():
    """Scores of patches depend on the differences of rows and of columns."""
    q, k = randn(2, 1, 1, 8)
    at = torch.tensor([[[5, 2]], [[7, 3]], [[105, 42]], [[107, 43]]])
    a, b, c, d = (apply_rope_2d(x, m) for x, m in zip((q, k, q, k), at, strict=True))
    torch.testing.assert_close(a @ b.mT, c @ d.mT)
    assert (a @ b.mT - a @ d.mT).abs() > 1e-3
    with pytest.raises(ValueError, match="multiple of 4"):
        apply_rope_2d(q[..., :6], at[0])


def test_attention_factor_and_frequencies():
    x = randn(3, 5, 8)
    theta = rope_frequencies(8, 500.0)
    torch.testing.assert_close(apply_rope(x, frequencies=theta), apply_rope(x, base=500.0))
    scaled = apply_rope(x, rotary_dim=6, attention_factor=1.3)
    torch.testing.assert_close(scaled[..., :6], 1.3 * apply_rope(x, rotary_dim=6)[..., :6])
    assert scaled[..., 6:].equal(x[..., 6:])
