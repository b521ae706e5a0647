"""The formula, the fused way and the Flax twin agree or all refuse; padding has no influence, wherever it stands."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from bert_cases import batch, config, shake
from hypothesis import given, settings
from hypothesis import strategies as st

from papertest.fixtures import compiled_fast as compiled_fast

from bert import Bert, BertForClassification, BertForPreTraining

jax = pytest.importorskip("jax", reason="the extra jax is not installed")
import jax.numpy as jnp  # noqa: E402

from bert import jax as twins  # noqa: E402

TOLERANCE = {"float32": 1e-5, "bfloat16": 0.1, "float16": 0.02}


@cache
def models(causal: bool, dtype: str) -> dict[str, Any]:
    """Of one config the three ways, with the same weights."""

    def one(fused: bool) -> BertForPreTraining:
        torch.manual_seed(0)
        return shake(BertForPreTraining(config(causal=causal, fused=fused, n_layers=1))).to(getattr(torch, dtype))

    twin = twins.from_torch(one(False))

    def in_jax(*inputs: Any) -> Any:
        arrays = [jnp.asarray(x.numpy()) if isinstance(x, torch.Tensor) else x for x in inputs]
        return tuple(torch.from_numpy(np.array(x, np.float32)) for x in twin(*arrays))

    return {"formula": one(False), "fused": one(True), "jax": in_jax}


@st.composite
def problems(draw: Any) -> Any:
    """Mostly good: now and then a value, a shape or a type that is none."""
    rows, length = draw(st.sampled_from([(1, 1), (2, 5)]))  # few: JAX compiles for each

    def of(top: int) -> torch.Tensor:
        row = st.lists(st.integers(0, top), min_size=length, max_size=length)
        return torch.tensor(draw(st.lists(row, min_size=rows, max_size=rows)), dtype=torch.int32)

    inputs: list[Any] = [of(22), draw(st.sampled_from([None, of(1)])), draw(st.sampled_from([None, of(1)]))]
    if inputs[2] is not None:
        inputs[2][:, 0] |= draw(st.sampled_from([0, 1, 1]))
        inputs[2] = inputs[2].to(draw(st.sampled_from([torch.bool, torch.int32, torch.float32, torch.uint8])))
    if draw(st.integers(0, 5)) == 0:
        wrong = [[[1]], 3, "x", of(1)[0], of(1).float() + 0.5, of(1) + 25, of(1) - 1.0 * math.nan, of(1).bool()]
        inputs[draw(st.integers(0, 2))] = draw(st.sampled_from(wrong))
    return inputs, draw(st.booleans()), draw(st.sampled_from(list(TOLERANCE)))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(problems())
def test_all_agree_or_all_refuse(problem):
    inputs, causal, dtype = problem
    found = {}
    for name, model in models(causal, dtype).items():
        try:
            found[name] = model(*inputs)
        except ValueError as error:
            found[name] = str(error).split()[0]
    expected = found["formula"]
    for name, out in found.items():
        if isinstance(expected, str):
            assert out == expected, (name, out, expected)
            continue
        real = torch.ones_like(inputs[0]) == 1 if inputs[2] is None else inputs[2] == 1
        for ours, theirs in zip(out, expected, strict=True):
            a, b = ((x[real] if x.ndim == 3 else x).detach().float() for x in (ours, theirs))
            assert a.isfinite().all()
            assert (a - b).abs().max() <= TOLERANCE[dtype] * b.abs().max().clip(1), name


@settings(max_examples=6, deadline=None, derandomize=True)
@given(st.lists(st.booleans(), min_size=6, max_size=6).filter(any), st.booleans())
def test_padding_in_front_in_the_middle_and_at_the_end_is_as_none(row, causal):
    """A causal model refuses a row that begins with padding; states, pooled output and loss are those without it."""
    torch.manual_seed(sum(row))
    mask = torch.tensor([row, [True] * len(row)])
    ids, types = torch.randint(23, mask.shape, dtype=torch.int32), torch.randint(2, mask.shape, dtype=torch.int32)
    ours = models(causal, "float32")
    for name, model in ours.items():
        if causal and not row[0]:
            with pytest.raises(ValueError, match="^attention_mask must begin with a token in each row"):
                model(ids, types, mask)
            continue
        padded = model(ids, types, mask)
        alone = model(ids[:1, mask[0]], types[:1, mask[0]])
        torch.testing.assert_close(padded[0][0, mask[0]], alone[0][0], rtol=1e-4, atol=1e-4, msg=name)
        torch.testing.assert_close(padded[1][:1], alone[1], rtol=1e-4, atol=1e-4, msg=name)


@pytest.mark.parametrize("bad", [math.nan, math.inf], ids=str)
@pytest.mark.parametrize("where", [slice(0, 2), slice(3, 5), slice(7, 9)], ids=["front", "middle", "end"])
@pytest.mark.parametrize("fused", [False, True], ids=["formula", "fused"])
def test_a_bad_row_of_the_table_has_no_influence_where_only_padding_reads_it(fused, where, bad):
    """Neither on results nor on gradients, in torch and in JAX: it is [PAD]'s."""
    torch.manual_seed(0)
    ids, types, mask = batch()
    ids, mask = ids.clip(1), torch.ones_like(mask)
    ids[1:, where], mask[1:, where] = 0, 0
    labels = torch.where(mask == 1, ids, -100)
    model = shake(BertForPreTraining(config(fused=fused)))
    results = []
    for value in (0.0, bad):
        model.bert.embeddings.tokens.weight.data[0] = value
        model.zero_grad()
        hidden, pooled = model.bert(ids, types, mask)
        (hidden[mask == 1].square().sum() + pooled.sum()).backward()
        grads = [p.grad.clone() for p in model.bert.parameters()]
        twin = twins.from_torch(model.bert)(*(jnp.asarray(x.numpy()) for x in (ids, types, mask)))
        results.append([hidden[mask == 1].detach(), pooled.detach(), *grads, torch.tensor(np.array(twin[1]))])
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match="^at, or labels other than -100, must not ask at padding, and does in row 1$"):
        model.loss(ids, labels.clip(0), None, types, mask)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_losses_of_half_precision_are_means_in_float32(dtype):
    """Of a model in half precision and under autocast: what torch's loss of the same logits in float64 is."""
    ids, types, mask = batch()
    labels, classes = torch.where(mask == 1, ids, -100), torch.tensor([0, 2, 1])
    is_next = torch.tensor([True, False, True])
    for model, autocast in ((0, False), (0, True), (1, False), (1, True)):
        torch.manual_seed(0)
        model = shake((BertForPreTraining(config()), BertForClassification(config(), 3))[model])
        if not autocast:
            model.to(dtype)
        with torch.autocast("cpu", dtype=dtype, enabled=autocast):
            if isinstance(model, BertForPreTraining):
                loss = model.loss(ids, labels, is_next, types, mask)
                mlm, nsp = model(ids, types, mask, at=labels != -100)
                exact = F.cross_entropy(mlm.double(), labels[labels != -100])
                exact = exact + F.cross_entropy(nsp.double(), (~is_next).long())
            else:
                loss = model.loss(ids, classes, types, mask)
                exact = F.cross_entropy(model(ids, types, mask).double(), classes)
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(exact.item(), rel=1e-6)


def test_scores_of_float16_that_fit_when_scaled_are_finite():
    """40 · 40 · 64 is past float16's largest number, and an eighth of it is not."""
    torch.manual_seed(0)
    for fused in (False, True):
        model = Bert(config(hidden_size=64, n_heads=1, n_layers=1, fused=fused)).eval()
        attention = model.encoder[0].attention
        for W in (attention.W_Q, attention.W_K):
            torch.nn.init.zeros_(W.weight)
            torch.nn.init.constant_(W.bias, 40.0)  # 102400 before the scale of 1/8, 12800 after it
        assert attention.half()(torch.randn(1, 5, 64).half(), None).isfinite().all()
        assert jnp.isfinite(twins.from_torch(model.half())(jnp.ones((1, 5), int))[0]).all()


def test_the_twin_s_softmax_sums_in_float32():
    """A thousand equal weights in bfloat16, whose sums are exact to eight bits: the mean of values is theirs."""
    c = config(hidden_size=4, n_heads=1, n_layers=1, max_positions=1000)
    twin = twins.from_torch(Bert(c).bfloat16().eval())
    x = jnp.ones((1, 1000, 4), jnp.bfloat16)
    attention = twin.encoder[0].attention
    for W in (attention.W_V, attention.W_O):
        W.kernel.set_value(jnp.eye(4, dtype=jnp.bfloat16))
    out = attention(x, jnp.ones((1, 1, 1, 1000), bool))
    assert jnp.abs(out.astype(jnp.float32) - 1).max() < 0.01
