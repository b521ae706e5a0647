"""The Flax twin against the torch model: the same weights give the same logits, gradients and training step."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

pytest.importorskip("flax", reason="the extra jax is not installed")
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from papertest.fixtures import compiled_fast as compiled_fast
from papertest.parity import relative_error

from transformer import LabelSmoothing, Transformer, TransformerConfig, sinusoidal_encoding
from transformer import jax as twins

PARITY = 1e-5  # the claim flax-twin
CASES: dict[str, dict[str, Any]] = {
    "post-norm, sinusoids, two layers": {"n_layers": 2},
    "pre-norm, learned": {"norm": "pre", "positions": "learned", "max_len": 11},
    "pre-norm, sinusoids, odd d_k and d_v, another pad": {"norm": "pre", "n_heads": 3, "d_k": 5, "d_v": 7, "pad": 4},
    "post-norm, learned, an odd d_model": {"d_model": 13, "n_heads": 1, "positions": "learned", "max_len": 12},
}
cases = pytest.mark.parametrize("changes", CASES.values(), ids=CASES.keys())


def small(**changes: Any) -> Transformer:
    """A torch model whose biases and norms are not at their start of 0 and 1, in evaluation."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 23, "n_layers": 1, "d_model": 12, "d_ff": 20, "n_heads": 2}
    model = Transformer(TransformerConfig(**(sizes | changes)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()


def batch(pad: int = 0) -> tuple[Tensor, Tensor]:
    """Source and target of three rows with padding at the end of some, and in the middle of a source."""
    torch.manual_seed(1)
    tokens = torch.randint(22, (3, 20))
    tokens += tokens >= pad  # all but padding
    src, tgt = tokens[:, :11], tokens[:, 11:]
    src[1, 5:], src[2, 3], tgt[0, 7:], tgt[2, 1:] = pad, pad, pad, pad
    return src.clone(), tgt.clone()


def to_jax(*tensors: Tensor) -> list[jax.Array]:
    return [jnp.asarray(x.numpy()) for x in tensors]


@nnx.jit
def call(twin: Any, src: Any, tgt: Any) -> Any:
    return twin(src, tgt)


@nnx.jit
def backward(twin: Any, src: Any, tgt: Any, weight: Any) -> Any:
    """The logits and, with respect to each parameter, the gradient of their sum with these weights."""

    def loss(twin: Any) -> Any:
        logits = twin(src, tgt)
        return (logits * weight).sum(), logits

    return nnx.grad(loss, has_aux=True)(twin)


@cases
def test_logits_and_all_gradients_are_those_of_torch(changes):
    model = small(**changes)
    src, tgt = batch(model.config.pad)
    logits = model(src, tgt)
    weight = torch.randn_like(logits)
    (logits * weight).sum().backward()
    twin = twins.from_torch(model)
    gradients, output = backward(twin, *to_jax(src, tgt, weight))
    assert relative_error(output, logits) < PARITY
    nnx.update(twin, gradients)  # so that to_torch gives each gradient the name of its parameter
    theirs = dict(twins.to_torch(twin).named_parameters())
    ours = dict(model.named_parameters())
    assert theirs.keys() == ours.keys()
    for name, parameter in ours.items():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0
        assert relative_error(theirs[name], parameter.grad) < PARITY, name


@cases
def test_weights_cross_and_come_back_bit_by_bit(changes):
    model = small(**changes)
    twin = twins.from_torch(model)
    back = twins.to_torch(twin)
    assert back.config == twin.config == model.config
    ours, theirs = model.state_dict(), back.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    again = twins.from_torch(back)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, nnx.state(twin, nnx.Param), nnx.state(again, nnx.Param)))


def test_weights_that_cross_are_copies():
    model = small()
    twin = twins.from_torch(model)
    back = twins.to_torch(twin)
    before = {name: x.clone() for name, x in back.state_dict().items()}
    with torch.no_grad():
        for parameter in [*model.parameters()]:
            parameter.zero_()
    assert all(torch.equal(x, before[name]) for name, x in twins.to_torch(twin).state_dict().items())
    with torch.no_grad():
        for parameter in back.parameters():
            parameter.zero_()
    assert all(torch.equal(x, before[name]) for name, x in twins.to_torch(twin).state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_crosses_bit_by_bit(dtype):
    model = small().to(dtype)
    twin = twins.from_torch(model)
    tokens = jnp.ones((1, 2), int)
    assert str(nnx.eval_shape(twin, tokens, tokens).dtype) == str(dtype).removeprefix("torch.")
    back = twins.to_torch(twin).state_dict()
    assert all(x.dtype == dtype and torch.equal(x, back[name]) for name, x in model.state_dict().items())


def test_float64_crosses_where_jax_holds_it_and_is_refused_where_not():
    model = small(positions="learned").double()
    with pytest.raises(ValueError, match=r"^\S+ is float64, which JAX holds with jax_enable_x64 alone$"):
        twins.from_torch(model)
    src, tgt = batch()
    with jax.enable_x64(True):
        twin = twins.from_torch(model)
        assert relative_error(call(twin, *to_jax(src, tgt)), model(src, tgt)) < 1e-13
        back = twins.to_torch(twin).state_dict()
    assert all(torch.equal(x, model.state_dict()[name]) for name, x in back.items())


def test_modules_and_parameters_have_the_names_and_shapes_of_torch():
    model = small(norm="pre", positions="learned", n_layers=2)
    twin = twins.from_torch(model)
    assert [m for m in ("encoder", "decoder", "tokens", "source", "target", "dropout") if not hasattr(twin, m)] == []
    assert twin.encoder[1].self_attention.W_Q.kernel.shape == tuple(model.encoder[1].self_attention.W_Q.weight.T.shape)
    assert twin.decoder[0].residuals[2].norm.scale.shape == (12,)
    sizes = [x.size for x in jax.tree.leaves(nnx.state(twin, nnx.Param))]
    assert sum(sizes) == sum(p.numel() for p in model.parameters())
    assert len(sizes) == len(list(model.parameters()))  # the embeddings once


@pytest.mark.parametrize("changes", [{}, {"norm": "pre", "positions": "learned"}], ids=["post", "pre"])
def test_weights_start_as_in_torch(changes):
    config = TransformerConfig(vocab_size=300, n_layers=1, d_model=64, d_ff=128, n_heads=4, **changes)
    ours = Transformer(config).state_dict()
    theirs = twins.to_torch(twins.Transformer(config, rngs=nnx.Rngs(3))).state_dict()
    for name, x in ours.items():
        if x.ndim == 1:
            assert torch.equal(theirs[name], x), name  # biases 0, norms 1 and 0
            continue
        assert theirs[name].std() == pytest.approx(float(x.std()), rel=0.05), name
        assert abs(theirs[name].mean()) < 5 * x.std() / x.numel() ** 0.5, name
        if "W_" in name:  # Xavier-uniform: nothing past the bound, much close to it
            assert float(theirs[name].abs().max()) == pytest.approx(float(x.abs().max()), rel=0.02), name
    assert not torch.equal(theirs["encoder.0.self_attention.W_Q.weight"], theirs["encoder.0.self_attention.W_K.weight"])


def test_one_optax_step_is_one_torch_step():
    optax = pytest.importorskip("optax")
    model = small(dropout=0.0).train()
    twin = twins.from_torch(model)
    src, tgt = batch()
    targets = torch.cat([tgt[:, 1:], tgt.new_zeros(3, 1)], 1)
    src_, tgt_, targets_ = to_jax(src, tgt, targets)
    # Adam's first step is the gradient's sign; an epsilon as large as the gradients keeps their sizes in it.
    ours = torch.optim.Adam(model.parameters(), 0.01, (0.9, 0.98), 0.01)
    theirs = optax.adam(0.01, b1=0.9, b2=0.98, eps=0.01)
    before = {name: x.clone() for name, x in model.state_dict().items()}

    loss = LabelSmoothing(0.1)(model(src, tgt), targets)
    loss.backward()
    ours.step()

    @nnx.jit
    def step(twin: Any, state: Any) -> Any:
        loss, grads = nnx.value_and_grad(lambda twin: twins.label_smoothing(twin(src_, tgt_), targets_, 0.1))(twin)
        state.update(twin, grads)
        return loss

    assert float(step(twin, nnx.Optimizer(twin, theirs, wrt=nnx.Param))) == pytest.approx(loss.item(), rel=1e-5)
    after = twins.to_torch(twin).state_dict()
    for name, x in model.state_dict().items():
        assert not torch.equal(x, before[name])
        assert relative_error(after[name] - before[name], x - before[name]) < 1e-4, name  # a difference of roundings
        assert relative_error(after[name], x) < PARITY, name


def test_logits_are_those_of_torch_without_jit_and_in_a_closure_under_it():
    model = small()
    twin, (src, tgt) = twins.from_torch(model), batch()
    src_, tgt_ = to_jax(src, tgt)
    assert relative_error(twin(src_, tgt_), model(src, tgt)) < PARITY
    assert relative_error(nnx.jit(lambda twin: twin(src_, tgt_))(twin), model(src, tgt)) < PARITY
    with pytest.raises(ValueError, match="from 0 to 22, got 1 to 33"):  # known while it is traced
        nnx.jit(lambda twin: twin(np.asarray(src_) % 3 + 30 * (np.asarray(src_) == 2) + 1, tgt_))(twin)


def test_no_logit_sees_a_later_token_or_padding_of_the_source():
    twin = twins.from_torch(small())
    src, tgt = batch()
    src, tgt = src[:, :5], tgt[:, :7].clamp(min=1)
    logits = call(twin, *to_jax(src, tgt))
    changed = tgt.clone()
    changed[:, 4:] = changed[:, 4:] % 22 + 1
    later = call(twin, *to_jax(src, changed))
    assert np.array_equal(logits[:, :4], later[:, :4])
    assert not np.array_equal(logits[:, 4:], later[:, 4:])
    padded = call(twin, *to_jax(F.pad(src, (0, 3)), tgt))
    assert relative_error(padded, logits) < PARITY


def test_dropout_is_on_in_training_alone_and_follows_the_torch_model():
    src, tgt = to_jax(*batch())
    model = small(dropout=0.5)
    off, on = twins.from_torch(model), twins.from_torch(model.train())
    assert not twins.to_torch(off).training
    assert twins.to_torch(on).training
    assert jnp.array_equal(call(off, src, tgt), call(off, src, tgt))
    assert not jnp.array_equal(call(on, src, tgt), call(on, src, tgt))
    on.eval()
    assert jnp.array_equal(call(on, src, tgt), call(off, src, tgt))
    on.train()
    assert not jnp.array_equal(call(on, src, tgt), call(off, src, tgt))
    fresh = twins.Transformer(model.config, rngs=nnx.Rngs(0))
    assert not jnp.array_equal(call(fresh, src, tgt), call(fresh, src, tgt))


def test_dropout_keeps_the_mean_and_is_not_in_the_attention():
    """A share of 1 − P_drop of the embedding's entries is left, each over 1 − P_drop."""
    twin = twins.from_torch(small(dropout=0.25, vocab_size=40).train())
    tokens = jnp.ones((200, 9), int)
    off = twin._embed(tokens, twin.source)
    twin.eval()
    ratio = np.asarray(off / twin._embed(tokens, twin.source))
    assert set(np.round(np.unique(ratio), 5)) == {0, np.float32(np.round(1 / 0.75, 5))}
    assert abs((ratio == 0).mean() - 0.25) < 4 * (0.25 * 0.75 / ratio.size) ** 0.5
    kinds = [path for path, node in nnx.iter_graph(twin) if isinstance(node, nnx.Dropout)]
    assert sorted(".".join(map(str, path)) for path in kinds) == sorted(
        name for name, module in small().named_modules() if isinstance(module, torch.nn.Dropout)
    )


@pytest.mark.parametrize(("length", "d_model"), [(1, 2), (40, 6), (5000, 512)])
def test_sinusoids_are_those_of_torch(length, d_model):
    theirs = sinusoidal_encoding(length, d_model, dtype=torch.float64).numpy()
    assert np.abs(twins.sinusoidal_encoding(length, d_model) - theirs).max() < 1e-11  # an angle of 5000 has 1e-12


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])
@pytest.mark.parametrize("pad", [0, 3, None])
def test_label_smoothing_is_that_of_torch(smoothing, pad):
    torch.manual_seed(2)
    logits, targets = (3 * torch.randn(4, 5, 7)).requires_grad_(), torch.randint(7, (4, 5))
    ours = LabelSmoothing(smoothing, pad)(logits, targets)
    ours.backward()
    logits_, targets_ = to_jax(logits.detach(), targets)
    loss, gradient = jax.jit(jax.value_and_grad(lambda x: twins.label_smoothing(x, targets_, smoothing, pad)))(logits_)
    assert relative_error(loss, ours) < 1e-6
    assert relative_error(gradient, logits.grad) < PARITY


GOOD = [[5, 3, 0], [4, 0, 0]]
WRONG = {
    "a token too large": ([[5, 23, 0], [4, 0, 0]], GOOD),
    "a negative token": (GOOD, [[5, -1, 0], [4, 0, 0]]),
    "floats": ([[1.0, 2.0]], GOOD),
    "one row": (GOOD, [1, 2]),
    "empty": (GOOD, [[], []]),
    "padding alone": (GOOD, [[5, 3, 0], [0, 0, 0]]),
    "padding alone in the source": ([[0, 0, 0], [4, 0, 0]], GOOD),
    "padding in front": (GOOD, [[0, 3, 2], [4, 0, 0]]),
    "batches": ([[1, 2]], GOOD),
    "too long": ([[1] * 9] * 2, GOOD),
    "too long a target": (GOOD, [[1] * 10] * 2),
}
SHAPES = ("floats", "one row", "empty", "batches", "too long", "too long a target")  # what jit sees as well


@pytest.mark.parametrize(("src", "tgt"), WRONG.values(), ids=WRONG.keys())
def test_bad_input_is_refused_with_the_words_of_torch(src, tgt):
    model = small(positions="learned", max_len=8)
    tensors = [torch.tensor(x) if x != [[], []] else torch.zeros(2, 0, dtype=torch.int64) for x in (src, tgt)]
    with pytest.raises(ValueError, match=" ") as ours:  # the words are in test_bad_input
        model(*tensors)
    words = str(ours.value).replace("torch.", "").replace("int64", "int32")
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        twins.from_torch(model)(*to_jax(*tensors))


@pytest.mark.parametrize("case", SHAPES)
def test_bad_shapes_are_refused_under_jit_too(case):
    src, tgt = (np.array(x, np.int32) if case != "floats" else np.array(x) for x in WRONG[case])
    with pytest.raises(ValueError, match=r"must hold token ids|same batch size|longer than max_len 8"):
        call(twins.from_torch(small(positions="learned", max_len=8)), jnp.asarray(src), jnp.asarray(tgt))


def test_bad_tokens_under_jit_give_nan_and_never_a_wrong_number():
    twin = twins.from_torch(small())
    good = jnp.asarray(GOOD)
    assert not jnp.isnan(call(twin, good, good)).any()
    for out in (23, -1, -23, -24):
        assert jnp.isnan(call(twin, good.at[0, 0].set(out), good)[0]).all(), out
        logits = call(twin, good, good.at[0, 1].set(out))
        assert jnp.isnan(logits[0, 1]).all(), out
        assert not jnp.isnan(logits[1]).any(), out
    assert jnp.isnan(call(twin, good.at[1].set(0), good)[1]).all()


def test_bad_input_of_the_loss():
    logits, targets = jnp.zeros((2, 3, 7)), jnp.zeros((2, 3), int)
    for smoothing in (-0.1, 1.0):
        with pytest.raises(ValueError, match=rf"^smoothing must be in \[0, 1\), got {smoothing}$"):
            twins.label_smoothing(logits, targets, smoothing)
    with pytest.raises(ValueError, match=r"^targets must have the shape .*, \(2, 3\), got \(3, 2\)$"):
        twins.label_smoothing(logits, targets.T)
    with pytest.raises(ValueError, match=r"^targets must have a token other than padding \(0\)$"):
        twins.label_smoothing(logits, targets)
    assert jnp.isnan(jax.jit(twins.label_smoothing)(logits, targets))
    for out in (7, -1):
        wrong = targets.at[0, 1].set(out).at[1, 1].set(3)
        message = f"targets must hold tokens from 0 to 6, got {min(out, 3)} to {max(out, 3)}"
        with pytest.raises(ValueError, match=f"^{message}$"):
            twins.label_smoothing(logits, wrong)
        assert jnp.isnan(jax.jit(twins.label_smoothing)(logits, wrong)), out
        # not where it is the padding: there it means nothing
        loss, gradient = jax.value_and_grad(lambda x, wrong=wrong, out=out: twins.label_smoothing(x, wrong, pad=out))(
            logits
        )
        assert jnp.isfinite(loss)
        assert jnp.isfinite(gradient).all()
        assert (gradient[0, 1] == 0).all()


def test_jax_users_need_no_torch():
    """An import of the twin and a call of it leave torch out of the process."""
    code = (
        "import sys; sys.modules['torch'] = None; import jax, jax.numpy as jnp; from flax import nnx;"
        "from transformer.jax import Transformer; from transformer.config import TransformerConfig;"
        "config = TransformerConfig(vocab_size=9, n_layers=1, d_model=4, d_ff=4, n_heads=1);"
        "run = lambda: Transformer(config, rngs=nnx.Rngs(0))(jnp.ones((1, 2), int), jnp.ones((1, 3), int));"
        "print(jax.eval_shape(run).shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "(1, 3, 9)\n", done.stderr
