"""The Flax twin against the torch model: the same weights give the same states, logits and gradients."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("flax", reason="the extra jax is not installed")
import jax
import jax.numpy as jnp
import numpy as np
from bert_cases import batch, config, sentences, shake, small
from flax import nnx

from papertest.fixtures import compiled_fast as compiled_fast
from papertest.models import minilm_folder as minilm
from papertest.parity import relative_error

from bert import Bert, BertForClassification, BertForPreTraining, WordPiece, load_pretrained, mask_tokens
from bert import jax as twins

PARITY = 1e-5


def both(**changes: Any) -> list[Any]:
    torch.manual_seed(0)
    return [shake(Bert(config(**changes))), shake(BertForPreTraining(config(**changes)))]


def to_jax(*tensors: Tensor) -> list[jax.Array]:
    return [jnp.asarray(x.numpy()) for x in tensors]


@nnx.jit
def call(twin: Any, *inputs: Any) -> Any:
    return twin(*inputs)


@nnx.jit
def backward(twin: Any, inputs: Any, weights: Any) -> Any:
    """Both outputs and, with respect to each parameter, the gradient of their sum with these weights."""

    def loss(twin: Any) -> Any:
        outputs = twin(*inputs)
        return sum((x * w).sum() for x, w in zip(outputs, weights, strict=True)), outputs

    return nnx.grad(loss, has_aux=True)(twin)


def assert_parity(model: Any, ids: Tensor, types: Tensor, mask: Tensor) -> None:
    """Outputs within 1e-5, relative; each parameter's gradient too."""
    outputs = model(ids, types, mask)
    torch.manual_seed(5)
    weights = [torch.randn_like(x) for x in outputs]
    weights[0][mask == 0] = 0  # states of padding mean nothing
    model.zero_grad()
    torch.autograd.backward(outputs, weights)
    twin = twins.from_torch(model)
    gradients, found = backward(twin, to_jax(ids, types, mask), to_jax(*weights))
    real = mask == 1
    errors = [
        relative_error(np.asarray(found[0])[real.numpy()], outputs[0][real]),
        relative_error(found[1], outputs[1]),
    ]
    assert max(errors) < PARITY
    nnx.update(twin, gradients)  # so that to_torch gives each gradient the name of its parameter
    theirs = dict(twins.to_torch(twin).named_parameters())
    scale = max(float(p.grad.abs().max()) for p in model.parameters())
    assert theirs.keys() == dict(model.named_parameters()).keys()
    for name, parameter in model.named_parameters():
        if "W_K.bias" in name:  # softmax does not feel it: rounding is all there is
            assert (theirs[name] - parameter.grad).abs().max() < PARITY * scale
            continue
        assert parameter.grad.abs().max() > 0, name
        assert relative_error(theirs[name], parameter.grad) < PARITY, name


@pytest.mark.parametrize("changes", [{}, {"causal": True, "n_types": 3, "layer_norm_eps": 1e-3}], ids=["", "causal"])
@pytest.mark.parametrize("heads", [0, 1], ids=["Bert", "heads"])
def test_outputs_and_all_gradients_are_those_of_torch(heads, changes):
    assert_parity(both(**changes)[heads], *batch())


def test_real_weights_have_the_states_and_gradients_of_torch():
    assert_parity(load_pretrained(minilm()), *WordPiece(minilm() / "vocab.txt")(sentences(6, 120)))


@pytest.mark.parametrize("heads", [0, 1], ids=["Bert", "heads"])
def test_weights_cross_and_come_back_bit_by_bit_as_copies(heads):
    model = both()[heads]
    twin = twins.from_torch(model)
    back = twins.to_torch(twin)
    assert type(back) is type(model)
    assert back.config == twin.config == model.config
    ours = {name: x.clone() for name, x in model.state_dict().items()}
    assert list(ours) == list(back.state_dict())
    assert all(torch.equal(x, back.state_dict()[name]) for name, x in ours.items())
    with torch.no_grad():
        for parameter in [*model.parameters(), *back.parameters()]:
            parameter.zero_()
    assert all(torch.equal(x, ours[name]) for name, x in twins.to_torch(twin).state_dict().items())
    assert len(jax.tree.leaves(nnx.state(twin, nnx.Param))) == len(ours)  # the embeddings once


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_crosses_bit_by_bit(dtype):
    model = small().to(dtype)
    twin = twins.from_torch(model)
    assert str(nnx.eval_shape(twin, jnp.ones((1, 2), int))[1].dtype) == str(dtype).removeprefix("torch.")
    back = twins.to_torch(twin).state_dict()
    assert all(x.dtype == dtype and torch.equal(x, back[name]) for name, x in model.state_dict().items())


def test_float64_crosses_where_jax_holds_it_and_is_refused_where_not():
    model = small().double()
    with pytest.raises(ValueError, match=r"^\S+ is float64, which JAX holds with jax_enable_x64 alone$"):
        twins.from_torch(model)
    ids, types, mask = batch()
    with jax.enable_x64(True):
        pooled = call(twins.from_torch(model), *to_jax(ids, types, mask))[1]
        assert relative_error(pooled, model(ids, types, mask)[1]) < 1e-13


def test_weights_start_as_in_torch():
    c = config(vocab_size=500, hidden_size=60, init_std=0.05)
    torch.manual_seed(0)
    ours = BertForPreTraining(c).state_dict()
    theirs = twins.to_torch(twins.BertForPreTraining(c, rngs=nnx.Rngs(3))).state_dict()
    for name, x in ours.items():
        if x.ndim == 1:
            assert torch.equal(theirs[name], x), name
            continue
        assert theirs[name].std() == pytest.approx(float(x.std()), rel=6 / x.numel() ** 0.5), name
        assert float(theirs[name].abs().max()) <= 0.1, name
    assert not torch.equal(theirs["bert.encoder.0.attention.W_Q.weight"], theirs["bert.encoder.0.attention.W_K.weight"])


def test_logits_at_some_positions_are_those_of_all():
    twin = twins.from_torch(both()[1])
    ids, types, mask = to_jax(*batch())
    at = jnp.array([[0, 4], [2, 2], [8, 5]])
    some = nnx.jit(lambda twin, at: twin(ids, types, mask, at=at)[0])(twin, at)
    everywhere = call(twin, ids, types, mask)[0]
    assert relative_error(some, jnp.take_along_axis(everywhere, at[..., None], 1)) < 1e-6
    for wrong, message in (
        (jnp.array([[0], [9], [1]]), "at must be from 0 to 8, got 0 to 9"),
        (at[:2], "at must have the shape (3, n), n positions in each row, got (2, 2)"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            twin(ids, at=wrong)


def test_the_loss_of_masked_tokens_is_that_of_torch():
    optax = pytest.importorskip("optax")
    model = both()[1]
    ids, types, mask = batch()
    generator = torch.Generator().manual_seed(0)
    inputs, labels = mask_tokens(ids, mask_id=4, vocab_size=23, special=(), rate=0.5, generator=generator)
    labels[mask == 0] = -100
    inputs_, labels_, types_, mask_ = to_jax(inputs, labels, types, mask)
    logits, _ = call(twins.from_torch(model), inputs_, types_, mask_)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels_.clip(0))
    expected = model.loss(inputs, labels, None, types, mask)
    assert float(losses.mean(where=labels_ != -100)) == pytest.approx(expected.item(), rel=1e-5)


def test_padding_changes_nothing_and_without_types_all_is_sentence_a():
    twin = twins.from_torch(small())
    ids, types, mask = to_jax(*batch())
    hidden, pooled = call(twin, ids, types, mask)
    alone = call(twin, ids[1:2, :5], types[1:2, :5])
    assert relative_error(hidden[1:2, :5], alone[0]) < PARITY
    assert relative_error(pooled[1:2], alone[1]) < PARITY
    assert jnp.array_equal(call(twin, ids)[0], call(twin, ids, 0 * types, 0 * mask == 0)[0])


def test_dropout_is_on_in_training_alone_and_follows_the_torch_model():
    ids = to_jax(batch()[0])[0]
    model = small(dropout=0.5)
    off, on = twins.from_torch(model), twins.from_torch(model.train())
    assert not twins.to_torch(off).training
    assert twins.to_torch(on).training
    assert jnp.array_equal(call(off, ids)[0], call(off, ids)[0])
    assert not jnp.array_equal(call(on, ids)[0], call(on, ids)[0])
    on.eval()
    assert jnp.array_equal(call(on, ids)[0], call(off, ids)[0])
    kinds = [path for path, node in nnx.iter_graph(on) if isinstance(node, nnx.Dropout)]
    assert sorted(".".join(map(str, path)) for path in kinds) == sorted(
        name for name, module in model.named_modules() if isinstance(module, torch.nn.Dropout)
    )


GOOD = [[5, 3, 0], [4, 0, 0]]
WRONG: dict[str, tuple[tuple[Any, ...], bool]] = {  # the arguments, and whether jit sees it too
    "too large": (([[5, 23]],), False),
    "negative": (([[5, -1]],), False),
    "floats": (([[1.0, 2.0]],), True),
    "one row": (([1, 2],), True),
    "too long": (([[1] * 12],), True),
    "types": ((GOOD, [[0, 2, 0]] * 2), False),
    "types of another batch": ((GOOD, [[0, 0, 0]]), True),
    "mask of another batch": ((GOOD, GOOD, [[1, 1, 1]]), True),
    "mask of other values": ((GOOD, [[0] * 3] * 2, [[1, 2, 0]] * 2), False),
    "a row of padding": ((GOOD, [[0] * 3] * 2, [[1, 1, 0], [0, 0, 0]]), False),
}


@pytest.mark.parametrize(("wrong", "jitted"), WRONG.values(), ids=WRONG.keys())
def test_bad_input_is_refused_with_the_words_of_torch(wrong, jitted):
    model = small(n_types=6 if len(wrong) == 3 else 2)
    with pytest.raises(ValueError, match=" ") as ours:  # the words are in test_model
        model(*map(torch.tensor, wrong))
    words = str(ours.value).replace("torch.", "").replace("got int64", "got int32")
    arrays = [jnp.asarray(np.array(x, np.float32 if x == [[1.0, 2.0]] and isinstance(x[0][0], float) else np.int32))
              for x in wrong]  # fmt: skip
    twin = twins.from_torch(model)
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        twin(*arrays)
    if jitted:
        with pytest.raises(ValueError, match=f"^{re.escape(words)}"):  # jit adds lines of its own
            call(twin, *arrays)


def test_bad_values_under_jit_give_nan_and_never_a_wrong_number():
    twin = twins.from_torch(small())
    good = jnp.asarray(GOOD)
    assert not jnp.isnan(call(twin, good)[0]).any()
    for out in (23, -1, -23, -24):
        assert jnp.isnan(call(twin, good.at[0, 0].set(out))[0][0]).all(), out
    for out in (2, -1, -2):
        hidden, pooled = call(twin, good, (0 * good).at[0, 1].set(out))
        assert jnp.isnan(hidden[0]).all(), out
        assert jnp.isnan(pooled[0]).all(), out
        assert not jnp.isnan(hidden[1]).any()
    empty = jnp.array([[1, 1, 1], [0, 0, 0]])
    hidden, pooled = call(twin, good, 0 * good, empty)
    assert jnp.isnan(hidden[1]).all()
    assert jnp.isnan(pooled[1]).all()
    assert not jnp.isnan(hidden[0]).any()
    assert jnp.isnan(call(twin, good, 0 * good, empty.at[0, 1].set(2))[1][0]).all()


def test_arguments_of_another_type_are_refused():
    twin = twins.from_torch(both()[1])
    good = jnp.asarray(GOOD)
    for call_, message in (
        (lambda: twin([[1]]), "input_ids must be an array, got"),
        (lambda: twin(good, good.astype(float)), "token_type_ids must be int64 or int32, got float32"),
        (lambda: twin(good, None, "1"), "attention_mask must be an array, got '1'"),
        (lambda: twin(good, at=[[0], [0]]), "at must be an array, got"),
        (lambda: twin(good, at=jnp.array([[0.0], [1.0]])), "at must be int64 or int32, got float32"),
        (lambda: twins.Bert({}, rngs=nnx.Rngs(0)), "config must be a BertConfig, got"),
        (lambda: twins.from_torch(twin), "model must be a Bert or a BertForPreTraining of torch, got"),
        (lambda: twins.from_torch(BertForClassification(config(), 2)), "model must be a Bert or a BertForPreTraining"),
        (lambda: twins.to_torch(both()[0]), "twin must be a Bert or a BertForPreTraining of Flax, got"),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            call_()
    model = both()[0]
    changed = torch.nn.DataParallel(torch.compile(model))
    assert relative_error(twins.from_torch(changed)(good)[1], model(torch.tensor(GOOD))[1]) < PARITY
    model.pooler = torch.nn.Sequential(model.pooler)
    with pytest.raises(ValueError, match=r"pooler\.0\.bias.* are missing or too many$"):
        twins.from_torch(model)


@pytest.mark.parametrize("out", [3, -1, -3])
def test_positions_outside_the_row_give_nan_under_jit(out):
    twin = twins.from_torch(both()[1])
    logits = nnx.jit(lambda twin, at: twin(jnp.asarray(GOOD), at=at)[0])(twin, jnp.array([[0, out], [1, 2]]))
    assert jnp.isnan(logits).all(-1).tolist() == [[False, True], [False, False]]
    assert jnp.isnan(logits).any(-1).tolist() == [[False, True], [False, False]]


def test_jax_users_need_no_torch():
    """An import of the twin and a call of it leave torch out of the process."""
    code = (
        "import sys; sys.modules['torch'] = None; import jax, jax.numpy as jnp; from flax import nnx;"
        "from bert.jax import BertForPreTraining; from bert.config import BertConfig;"
        "config = BertConfig(vocab_size=9, n_layers=1, hidden_size=4, n_heads=1, max_positions=5);"
        "run = lambda: BertForPreTraining(config, rngs=nnx.Rngs(0))(jnp.ones((1, 2), int))[0];"
        "print(jax.eval_shape(run).shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "(1, 2, 9)\n", done.stderr
