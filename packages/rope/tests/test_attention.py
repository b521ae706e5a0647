"""`RotaryAttention` against transformers' LLaMA attention; caches, padding, scaling and bad input."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding

from rope import Cache, RotaryAttention, apply_rope, interleaved_to_half

DYNAMIC = {"rope_type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 6}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
SETTINGS = [{}, {"interleaved": False, "rotary_dim": 4}, {"scaling": YARN}, {"scaling": DYNAMIC}, {"n_kv_heads": 2}]


def layer(**options):
    torch.manual_seed(0)
    return RotaryAttention(32, 4, **options).double()


@pytest.mark.parametrize("scaling", [None, YARN])
@pytest.mark.parametrize("interleaved", [True, False])
def test_llama_attention(scaling, interleaved):
    """With shared keys; ours interleaved after the permutation of W_q and W_k."""
    parameters = {"rope_theta": 10000.0} | (scaling or {"rope_type": "default"})
    config = LlamaConfig(
        hidden_size=32,
        num_attention_heads=4,
        num_key_value_heads=2,
        rope_parameters=parameters,
        attn_implementation="eager",
        max_position_embeddings=256,
    )
    theirs, ours = LlamaAttention(config, 0).double(), layer(n_kv_heads=2, interleaved=interleaved, scaling=scaling)
    for name in "qkvo":
        W = getattr(ours, f"W_{name}").weight.detach()
        getattr(theirs, f"{name}_proj").weight.data = interleaved_to_half(W, 8) if interleaved and name in "qk" else W
    x = torch.randn(2, 9, 32, dtype=torch.float64)
    mask = torch.full((9, 9), -math.inf, dtype=torch.float64).triu(1)[None, None]
    wanted, _ = theirs(x, LlamaRotaryEmbedding(config)(x, torch.arange(9)[None]), mask)
    torch.testing.assert_close(ours(x), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_cached_decoding_is_the_whole(options):
    """For the dynamic scaling the base at each step is that of the length then: the last output of the whole."""
    attention, x = layer(**options), torch.randn(2, 12, 32, dtype=torch.float64)
    cache = Cache()
    parts = [attention(part, cache=cache) for part in x.split([5, 1, 1, 3, 2], 1)]
    assert len(cache) == 12
    ends = [5, 6, 7, 10, 12]
    for part, end in zip(parts, ends, strict=True):
        whole = attention(x[:, :end])[:, end - part.shape[1] :]
        torch.testing.assert_close(part, whole, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_left_padding_is_unpadded(options):
    """NaN in the padding as well, and decoding after it, with positions of (batch, seq)."""
    if options.get("scaling") is DYNAMIC:  # whose base goes by the number of keys, padding among them
        options = {"scaling": DYNAMIC | {"original_max_position_embeddings": 100}}
    attention, x = layer(**options), torch.randn(2, 7, 32, dtype=torch.float64)
    mask = torch.ones(2, 7, dtype=torch.bool)
    mask[0, :3] = False
    positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
    padded = x.masked_fill(~mask[..., None], math.nan)
    cache, short = Cache(), Cache()
    out = attention(padded, positions, mask, cache)
    assert out[mask].isfinite().all()
    torch.testing.assert_close(out[0, 3:], attention(x[:1, 3:], cache=short)[0])
    torch.testing.assert_close(out[1:], attention(x[1:]))
    new = torch.randn(2, 1, 32, dtype=torch.float64)
    step = attention(new, positions[:, -1:] + 1, torch.cat([mask, torch.ones(2, 1, dtype=torch.bool)], 1), cache)
    torch.testing.assert_close(step[:1], attention(new[:1], cache=short))


def test_gradients_with_padding_are_finite():
    attention, x = layer(), torch.randn(2, 5, 32, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[False, False, True, True, True], [True] * 5])
    attention(x, mask=mask)[mask].square().sum().backward()
    assert x.grad is not None and x.grad.isfinite().all() and (x.grad[0, :2] == 0).all()


def test_state_dict_has_weights_alone(tmp_path):
    attention = layer(scaling=YARN, bias=True)
    attention(torch.randn(1, 3, 32, dtype=torch.float64))
    assert not list(attention.buffers())
    assert set(attention.state_dict()) == {f"W_{n}.{p}" for n in "qkvo" for p in ("weight", "bias")}
    torch.save(attention.state_dict(), tmp_path / "weights.pt")
    with torch.device("meta"):
        other = RotaryAttention(32, 4, scaling=YARN, bias=True)
    other.load_state_dict(torch.load(tmp_path / "weights.pt"), assign=True)
    x = torch.randn(2, 5, 32, dtype=torch.float64)
    assert other(x).equal(attention(x))


def test_positions_shift_and_order():
    """Scores see differences only; without rotation the order of a bidirectional layer would not matter."""
    attention, x = layer(causal=False), torch.randn(1, 6, 32, dtype=torch.float64)
    torch.testing.assert_close(attention(x, 1000), attention(x), rtol=0, atol=1e-10)
    order = torch.randperm(6)
    torch.testing.assert_close(attention(x[:, order], order), attention(x)[:, order])
    assert (attention(x[:, order]) - attention(x)[:, order]).abs().max() > 1e-4


@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_compiles(options):
    torch.compiler.reset()
    attention, x = layer(**options).float(), torch.randn(2, 9, 32)
    compiled = torch.compile(attention, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), attention(x))
    positions = torch.arange(9).expand(2, -1) + 3
    torch.testing.assert_close(compiled(x, positions), attention(x, positions))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    attention, x = layer(), torch.randn(2, 9, 32, dtype=torch.float64)
    wanted = attention(x, 3000)
    assert (attention.to(dtype)(x.to(dtype), 3000).double() - wanted).abs().max() < 16 * torch.finfo(dtype).eps


X = torch.ones(2, 5, 32)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda: RotaryAttention(32, 5), "n_heads must divide d_model 32"),
        (lambda: RotaryAttention(32, 4, 3), "n_kv_heads 3 it"),
        (lambda: RotaryAttention(36, 4), "head_dim, the last size of x, must be an even integer"),
        (lambda: RotaryAttention(32, 4, rotary_dim=10), "rotary_dim must be at most head_dim 8, got 10"),
        (lambda: RotaryAttention(32, 4, base=-1.0), "base must be a finite number above 0, got -1.0"),
        (lambda: RotaryAttention(32, 4.0), "n_heads must be an integer"),
        (lambda: RotaryAttention(32, 4, scaling="linear"), "scaling must be a dictionary"),
        (lambda: RotaryAttention(32, 4, scaling={"rope_type": "linear", "factor": 0.5}), "factor must be"),
        (lambda: RotaryAttention(32, 4, max_positions=0), "max_positions must be"),
        (lambda: RotaryAttention(32, 4)(X[..., :31]), "x must have shape"),
        (lambda: RotaryAttention(32, 4)(X[0]), "x must have at least 3 axes"),
        (lambda: RotaryAttention(32, 4)(X, mask=torch.ones(2, 4, dtype=torch.bool)), "mask must be bool of shape"),
        (lambda: RotaryAttention(32, 4, max_positions=8)(X, 4), "below max_positions 8, got 8"),
        (lambda: RotaryAttention(32, 4, max_positions=8)(X, torch.arange(5) + 6), "below max_positions 8, got 10"),
        (lambda: RotaryAttention(32, 4)(X, torch.zeros(2, 4, dtype=torch.long)), "positions must be int64 or int32"),
        (lambda: apply_rope(torch.ones(3, 5)), "head_dim, the last size of x, must be an even integer"),
        (lambda: apply_rope(torch.ones(4)), "x must have at least 2 axes"),
        (lambda: apply_rope(torch.ones(3, 4, dtype=torch.int64)), "x must have dtype"),
        (lambda: apply_rope([[1.0, 2.0]]), "x must be a tensor, got list"),
        (lambda: apply_rope(X, base=0), "base must be"),
        (lambda: apply_rope(X, base=math.nan), "base must be"),
        (lambda: apply_rope(X, base=True), "base must be"),
        (lambda: apply_rope(X, interleaved=1), "interleaved must be True or False"),
        (lambda: apply_rope(X, rotary_dim=3), "rotary_dim must be an even integer"),
        (lambda: apply_rope(X, rotary_dim=0), "rotary_dim must be an even integer"),
        (lambda: apply_rope(X, rotary_dim=34), "rotary_dim must be at most head_dim 32"),
        (lambda: apply_rope(X, -1), "positions must be None, an offset of at least 0"),
        (lambda: apply_rope(X, 1.0), "positions must be None, an offset"),
        (lambda: apply_rope(X, True), "positions must be None, an offset"),
        (lambda: apply_rope(X, 2**24 - 4), "positions must be below 2\\*\\*24"),
        (lambda: apply_rope(X, torch.arange(5.0)), "got float32 of shape"),
        (lambda: apply_rope(X, torch.arange(6)), "got int64 of shape \\(6,\\)"),
        (lambda: apply_rope(X, torch.zeros(1, 5, dtype=torch.long)), "got int64 of shape \\(1, 5\\)"),
        (lambda: apply_rope(X, torch.tensor([0, 1, 2, 3, -1])), "positions must be in \\[0, 2\\*\\*24\\), got -1"),
        (lambda: apply_rope(X, frequencies=torch.ones(15)), "for each of the 16 pairs, got 15"),
        (lambda: apply_rope(X, frequencies=torch.ones(16) / 0), "frequencies must be finite"),
        (lambda: apply_rope(X, frequencies=torch.ones(16, requires_grad=True)), "must not require a gradient"),
        (lambda: apply_rope(X, attention_factor=0), "attention_factor must be"),
        (lambda: interleaved_to_half(torch.ones(12, 3), 8), "W must be a tensor whose rows are heads"),
        (lambda: RotaryAttention(32, 4)(X[:1], cache=filled()), "cache's batch size 2, got 1"),
    ],
)
def test_bad_input(bad, message):
    with pytest.raises(ValueError, match=message):
        bad()


def filled():
    cache = Cache()
    RotaryAttention(32, 4)(X, cache=cache)
    return cache
