"""The Flax twin: derivatives, what is hidden or padded, half precision, wrong types, and weights that cross whole."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

pytest.importorskip("flax", reason="the extra jax is not installed")
import jax
import jax.numpy as jnp
from flax import nnx

from papertest.fixtures import compiled_fast as compiled_fast

from transformer import LabelSmoothing, Transformer, TransformerConfig
from transformer import jax as twins

CONFIG = TransformerConfig(vocab_size=23, n_layers=1, d_model=12, d_ff=8, n_heads=3, positions="learned", max_len=8)
BAD = pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf], ids=str)
MASK = jnp.asarray([[[[True, False, True, True]]]])


def small(**changes):
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(**{**CONFIG.__dict__, **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model.eval()


def random(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def eq_1(x):
    return twins.attention(x[None, None], x[None, None], x[None, None], MASK)[0]


def true_eq_1(x):
    seen = x[jnp.asarray([0, 2, 3])]
    return (jax.nn.softmax(x @ seen.T / math.sqrt(x.shape[1]), -1) @ seen)[None, None]


def loss(smoothing):
    return lambda x: twins.label_smoothing(x, jnp.asarray([1, 2, 0, 5]), smoothing)


def true_loss(smoothing):
    def run(x):
        x, p = x[jnp.asarray([0, 1, 3])], jax.nn.log_softmax(x[jnp.asarray([0, 1, 3])], -1)
        return -((1 - smoothing) * p[jnp.arange(3), jnp.asarray([1, 2, 5])] + smoothing * p.mean(-1)).mean()

    return run


FUNCTIONS = {"eq. 1": (eq_1, true_eq_1)} | {f"loss {s}": (loss(s), true_loss(s)) for s in (0.0, 0.1)}
DERIVATIVES = {
    "grad": lambda f, x: jax.grad(lambda x: (f(x) ** 2).sum())(x),
    "jacrev": lambda f, x: jax.jacrev(f)(x),
    "jvp": lambda f, x: jax.jvp(f, (x,), (jnp.cos(x),))[1],
    "hessian": lambda f, x: jax.hessian(lambda x: (f(x) ** 2).sum())(x),
    "vmap": lambda f, x: jax.vmap(jax.grad(lambda x: (f(x) ** 2).sum()))(jnp.stack([x, 2 * x])),
}


@pytest.mark.parametrize("derivative", DERIVATIVES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives(name, derivative):
    ours, true = (DERIVATIVES[derivative](f, random(4, 6)) for f in FUNCTIONS[name])
    assert np.allclose(ours, true, rtol=1e-4, atol=1e-5)


@BAD
@pytest.mark.parametrize("where", [slice(0, 3), slice(5, 8), slice(3, 5)], ids=["left", "right", "middle"])
def test_padding(bad, where):
    """Nor on any gradient."""
    module = twins.MultiHeadAttention(CONFIG, rngs=nnx.Rngs(0))
    x, memory = random(2, 4, 12), random(2, 8, 12, seed=1)
    mask = jnp.ones((2, 1, 1, 8), bool).at[..., where].set(False)

    def run(module, memory):
        return (module(x, memory, mask) ** 2).sum()

    results = [nnx.value_and_grad(run, argnums=(0, 1))(module, memory.at[:, where].set(value)) for value in (0.3, bad)]
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), *results))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_later_position_reaches_who_sees_it_and_no_other(bad):
    q, k, v = (random(1, 2, 5, 3, seed=i) for i in range(3))
    mask = jnp.tri(5, dtype=bool)
    wanted = twins.attention(q, k, v, mask)[0]
    out = twins.attention(q, k.at[0, 0, 3].set(bad), v.at[0, 0, 3].set(bad), mask)[0]
    assert np.array_equal(out[:, :, :3], wanted[:, :, :3])
    assert np.array_equal(out[:, 1], wanted[:, 1])
    assert np.isnan(out[0, 0, 3:]).all()


def test_a_query_that_may_look_nowhere_finds_zeros():
    q = random(1, 1, 3, 4)
    mask = jnp.asarray([[True, False, True], [False] * 3, [False, True, False]])
    out, weights = twins.attention(q, q, q, mask)
    assert (out[0, 0, 1] == 0).all()
    assert (weights[0, 0, 1] == 0).all()
    assert jnp.isfinite(jax.grad(lambda q: (twins.attention(q, q, q, mask)[0] ** 2).sum())(q)).all()


@pytest.mark.parametrize("changes", [{}, {"positions": "sinusoidal", "norm": "pre"}], ids=str)
def test_padding_anywhere_in_a_source_is_none_and_torchs(changes):
    model = small(**changes)
    twin, tgt = twins.from_torch(model), np.asarray([[1, 7, 3]])
    call = nnx.jit(lambda twin, src, tgt: twin(src, tgt))
    wanted = call(twin, np.asarray([[5, 3, 9]]), tgt)
    for row in ([0, 0, 5, 3, 9], [5, 0, 3, 0, 9], [5, 3, 9, 0, 0], [0, 5, 3, 9, 0]):
        assert np.allclose(call(twin, np.asarray([row]), tgt), wanted, atol=1e-5)
        assert np.allclose(model(torch.tensor([row]), torch.tensor(tgt)).detach(), wanted, atol=1e-5)


def test_targets_that_torch_refuses_give_nan_under_jit():
    twin, src = twins.from_torch(small()), np.asarray([[5, 3], [4, 2]])
    call = nnx.jit(lambda twin, src, tgt: twin(src, tgt))
    for row in ([0, 3, 5], [3, 0, 5], [0, 0, 0]):
        logits = call(twin, src, np.asarray([[1, 2, 0], row]))
        assert np.isnan(logits[1]).all()
        assert np.isfinite(logits[0]).all()
        with pytest.raises(ValueError, match="^tgt must have"):
            twin(src, np.asarray([[1, 2, 0], row]))


def test_a_logit_of_minus_infinity_and_what_does_not_count():
    logits, targets = jnp.asarray([[0.0, -jnp.inf, 1.0], [jnp.nan, 0, 0]]), jnp.asarray([2, 0])
    value, gradient = jax.value_and_grad(lambda x: twins.label_smoothing(x, targets, 0.0))(logits)
    assert float(value) == pytest.approx(math.log(1 + math.exp(-1)))
    assert np.allclose(gradient, [[1 / (1 + math.e), 0, -1 / (1 + math.e)], [0, 0, 0]])
    assert float(twins.label_smoothing(logits, targets, 0.1)) == math.inf


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(dtype):
    logits, targets = jnp.asarray(4 * random(40, 1000), dtype), np.arange(1, 41)
    loss = twins.label_smoothing(logits, targets)
    assert loss.dtype == jnp.float32
    exact = torch.from_numpy(np.array(logits, np.float64))
    assert float(loss) == pytest.approx(LabelSmoothing()(exact, torch.from_numpy(targets)).item(), rel=1e-6)
    q = jnp.full((1, 1, 4, 64), 80, dtype)  # 409600 before the division by 8, 51200 after it: float16 ends at 65504
    out, _ = twins.attention(q, q, jnp.ones_like(q), jnp.ones((1, 4), bool))
    assert out.dtype == dtype
    assert (out == 1).all()


X = random(1, 3, 12)
HEADS = twins.MultiHeadAttention(CONFIG, rngs=nnx.Rngs(0))
LOGITS, TARGETS = random(1, 2, 5), np.asarray([[1, 2]])
TYPES = {
    "a mask of float": (lambda: HEADS(X, X, jnp.ones((1, 1, 1, 3))), "mask"),
    "a mask of another length": (lambda: HEADS(X, X, jnp.ones((1, 1, 1, 4), bool)), "mask"),
    "eq. 1 with a mask of int": (lambda: twins.attention(X[None], X[None], X[None], jnp.ones((3, 3), int)), "mask"),
    "x without a batch": (lambda: HEADS(X[0], X, jnp.ones((1, 1, 1, 3), bool)), "x"),
    "memory of another batch": (lambda: HEADS(X, jnp.ones((2, 3, 12)), jnp.ones((1, 1, 1, 3), bool)), "x"),
    "a list for tokens": (lambda: twins.from_torch(small())([[1]], TARGETS), "src"),
    "bytes for tokens": (lambda: twins.from_torch(small())(TARGETS.astype(np.uint8), TARGETS), "src"),
    "an odd d_model": (lambda: twins.sinusoidal_encoding(3, 5), "d_model"),
    "a length of float": (lambda: twins.sinusoidal_encoding(3.0, 4), "length"),
    "a smoothing of string": (lambda: twins.label_smoothing(LOGITS, TARGETS, "0.1"), "smoothing"),
    "a smoothing of bool": (lambda: twins.label_smoothing(LOGITS, TARGETS, False), "smoothing"),
    "a smoothing of NaN": (lambda: twins.label_smoothing(LOGITS, TARGETS, math.nan), "smoothing"),
    "a pad of float": (lambda: twins.label_smoothing(LOGITS, TARGETS, pad=0.0), "pad"),
    "targets of float": (lambda: twins.label_smoothing(LOGITS, TARGETS * 1.0), "targets"),
    "targets of bool": (lambda: twins.label_smoothing(LOGITS, TARGETS > 1), "targets"),
    "no targets": (lambda: twins.label_smoothing(LOGITS[:0], TARGETS[:0], pad=None), "targets"),
    "logits of int": (lambda: twins.label_smoothing(jnp.ones((1, 2, 5), int), TARGETS), "logits"),
}


@pytest.mark.parametrize(("call", "argument"), TYPES.values(), ids=TYPES.keys())
def test_arguments_of_another_type(call, argument):
    with pytest.raises(ValueError, match=rf"^{argument}\b"):
        call()


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel, lambda m: nn.DataParallel(torch.compile(m))])
def test_wrapped_models_cross_as_plain_ones(wrap):
    model = small()
    ours, theirs = (nnx.state(twins.from_torch(m), nnx.Param) for m in (model, wrap(model)))
    assert jax.tree.all(jax.tree.map(jnp.array_equal, ours, theirs))


def test_weights_of_several_dtypes_come_back_as_they_were():
    model = small(norm="pre").bfloat16()
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.float()
            nn.init.normal_(module.weight)  # not what bfloat16 holds
    back = twins.to_torch(twins.from_torch(model)).state_dict()
    assert all(back[name].dtype == x.dtype and torch.equal(back[name], x) for name, x in model.state_dict().items())


def test_torch_and_flax_agree_on_logits_of_padded_rows_and_their_gradients():
    model, twin = (m := small()), twins.from_torch(m)
    src, tgt = torch.tensor([[0, 5, 3, 0], [4, 2, 2, 7]]), torch.tensor([[1, 3, 0], [1, 4, 4]])
    model(src, F.pad(tgt, (0, 1))).square().sum().backward()
    gradient = nnx.grad(lambda twin: (twin(src.numpy(), F.pad(tgt, (0, 1)).numpy()) ** 2).sum())(twin)
    ours, theirs = model.source.learned.weight.grad, gradient.source.learned.embedding[...]
    assert np.allclose(ours, theirs, rtol=1e-3, atol=1e-3 * float(ours.abs().max()))
