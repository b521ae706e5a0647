"""The encoder: parity with the transformers library, padding that changes nothing, and input that is none."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from bert_cases import batch, config, positions, sentences, shake, small

from papertest.models import minilm_folder as minilm
from papertest.parity import relative_error

from bert import Bert
from bert.pretrained import load_pretrained, their_name
from bert.wordpiece import WordPiece

transformers = pytest.importorskip("transformers", reason="the group peers is not installed")


def peer(model: Bert) -> Any:
    """The same sizes and weights in the transformers library."""
    c = model.config
    theirs = transformers.BertModel(
        transformers.BertConfig(
            vocab_size=c.vocab_size, num_hidden_layers=c.n_layers, hidden_size=c.hidden_size,
            num_attention_heads=c.n_heads, intermediate_size=c.ff_size, max_position_embeddings=c.max_positions,
            type_vocab_size=c.n_types, is_decoder=c.causal, attn_implementation="eager", use_cache=False,
            pad_token_id=None,  # or its embedding has no gradient
        )
    )  # fmt: skip
    theirs.load_state_dict({their_name(name, ""): x for name, x in model.state_dict().items()})
    return theirs.to(next(model.parameters()).dtype).eval()


@pytest.mark.parametrize("fused", [False, True], ids=["formula", "fused"])
@pytest.mark.parametrize("causal", [False, True], ids=["both ways", "causal"])
@pytest.mark.parametrize("padded", [False, True], ids=["full", "padded"])
def test_hidden_states_pooled_and_all_gradients_are_those_of_transformers(fused, causal, padded):
    model = small(fused=fused, causal=causal).double()
    theirs = peer(model)
    ids, types, mask = batch()
    mask = mask if padded else None
    hidden, pooled = model(ids, types, mask)
    out = theirs(ids, mask, types, position_ids=None if mask is None else positions(mask))
    real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask == 1
    assert relative_error(hidden[real], out.last_hidden_state[real]) < 1e-10
    assert relative_error(pooled, out.pooler_output) < 1e-10
    weight = torch.randn(hidden[real].shape, dtype=torch.float64)
    ((hidden[real] * weight).sum() + pooled.square().sum()).backward()
    ((out.last_hidden_state[real] * weight).sum() + out.pooler_output.square().sum()).backward()
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    scale = max(float(g.abs().max()) for g in gradients.values())
    for name, parameter in model.named_parameters():
        grad, other = parameter.grad, gradients.pop(their_name(name, ""))
        assert grad is not None
        if "W_K.bias" in name:  # softmax does not feel it: rounding is all there is
            assert grad.abs().max() < 1e-10 * scale
        else:
            assert other.abs().max() > 0, name
            assert relative_error(grad, other) < 1e-10, name
    assert not gradients


def test_without_types_all_is_sentence_a():
    model = small()
    ids, _, mask = batch()
    for ours, given in zip(model(ids, None, mask), model(ids, torch.zeros_like(ids), mask), strict=True):
        assert torch.equal(ours, given)


@pytest.mark.parametrize("fused", [False, True], ids=["formula", "fused"])
def test_padding_changes_nothing(fused):
    model = small(fused=fused).double()
    ids, types, mask = batch()
    hidden, pooled = model(ids, types, mask)
    alone = model(ids[1:2, :5], types[1:2, :5])
    assert relative_error(hidden[1:2, :5], alone[0]) < 1e-14
    assert relative_error(pooled[1:2], alone[1]) < 1e-14
    other = torch.where(mask == 1, ids, (ids + 1) % 23)
    assert torch.equal(model(other, types, mask)[1], pooled)
    assert not torch.equal(model(other, types)[1], pooled)
    for kind in (mask.bool(), mask.int()):
        assert torch.equal(model(ids, types, kind)[0], hidden)


def test_a_causal_model_sees_nothing_later_and_the_other_does():
    ids, *_ = batch()
    changed = ids.clone()
    changed[:, 5:] = (ids[:, 5:] + 1) % 23
    for causal in (True, False):
        model = small(causal=causal)
        same = torch.isclose(model(ids)[0][:, :5], model(changed)[0][:, :5], atol=1e-6).all()
        assert bool(same) is causal


@pytest.mark.parametrize("fused", [False, True], ids=["formula", "fused"])
def test_real_weights_give_the_states_of_transformers_on_padded_batches(fused):
    model = load_pretrained(minilm(), fused=fused)
    theirs = peer(model)
    ids, types, mask = WordPiece(minilm() / "vocab.txt")(sentences(24))
    assert 0.2 < (mask == 0).float().mean() < 0.8
    with torch.no_grad():
        hidden, pooled = model(ids, types, mask)
        out = theirs(ids, mask, types)
    assert relative_error(hidden[mask == 1], out.last_hidden_state[mask == 1]) < 1e-5
    assert relative_error(pooled, out.pooler_output) < 1e-5


def test_weights_start_as_in_the_authors_code():
    torch.manual_seed(0)
    model = Bert(config(vocab_size=2000, hidden_size=60, init_std=0.05))
    for name, x in model.state_dict().items():
        if name.endswith("bias"):
            assert not x.any(), name
        elif "norm" in name:
            assert (x == 1).all(), name
        else:  # a normal cut off at two deviations has 0.8796 of its deviation
            assert x.abs().max() <= 0.1, name
            assert x.std() == pytest.approx(0.05 * 0.8796, rel=5 / x.numel() ** 0.5), name


@pytest.mark.parametrize("fused", [False, True], ids=["formula", "fused"])
def test_dropout_is_in_all_four_places_in_training_alone(fused):
    model = small(fused=fused, dropout=0.5)
    ids, *_ = batch()
    assert torch.equal(model(ids)[0], model(ids)[0])
    model.train()
    assert not torch.equal(model(ids)[0], model(ids)[0])
    x = model.embeddings(ids, None)
    assert 0.3 < (x == 0).float().mean() < 0.7
    attention = model.encoder[0].attention
    torch.nn.init.eye_(attention.W_O.weight)
    torch.nn.init.zeros_(attention.W_V.weight)
    torch.nn.init.ones_(attention.W_V.bias)
    torch.nn.init.zeros_(attention.W_O.bias)
    ones = attention(torch.randn(40, 9, 12), None)  # sums of softmax weights that are left, each over 1 − 1/2
    assert ones.std() > 0.1
    assert ones.mean().item() == pytest.approx(1, abs=0.1)
    assert torch.allclose(attention.eval()(torch.randn(4, 9, 12), None), torch.ones(4, 9, 12))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_as_good_as_the_plain_formula(dtype):
    ids, types, mask = batch()
    exact, plain, fused = (
        model(ids, types, mask)[0][mask == 1]
        for model in (small().double(), small().to(dtype), small(fused=True).to(dtype))
    )
    assert relative_error(fused, exact) <= 2 * relative_error(plain, exact)


def test_a_fused_model_computes_nothing_for_padding():
    """Its states there are zeros, and what acts on each position alone sees as many rows as there are tokens."""
    model = small(fused=True)
    ids, types, mask = batch()
    rows = []
    hook = model.encoder[0].feed_forward.register_forward_hook(lambda _, args, output: rows.append(len(output)))
    hidden, _ = model(ids, types, mask)
    hook.remove()
    assert rows == [mask.sum()] and not hidden[mask == 0].any() and hidden[mask == 1].all(-1).all()


@pytest.mark.parametrize("causal", [False, True], ids=["both ways", "causal"])
@pytest.mark.parametrize("fused", [False, True], ids=["formula", "fused"])
def test_states_are_those_of_every_layer(fused, causal):
    """The embeddings first, and at the end what the model gives; those between are transformers'."""
    model = small(fused=fused, causal=causal, n_layers=3)
    ids, types, mask = batch()
    for given in (mask, None):
        states = list(model.states(ids, types, given))
        assert len(states) == 4 and torch.equal(states[-1], model(ids, types, given)[0])
        theirs = peer(model)(
            ids, given, types, None if given is None else positions(mask), output_hidden_states=True
        ).hidden_states
        real = torch.ones_like(mask) == 1 if given is None else given == 1
        for ours, other in zip(states, theirs, strict=True):
            assert relative_error(ours[real], other[real]) < 1e-5
    with pytest.raises(ValueError, match="input_ids must be from 0 to 22"):
        next(model.states(ids + 23))


def test_a_gradient_check_in_float64():
    model = small(n_layers=1, hidden_size=4, n_heads=2, d_ff=5).double()
    mask = (batch()[2] == 1)[:, None, None]
    x = torch.randn(3, 9, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: model.encoder[0](x, mask), x)


GOOD = torch.tensor([[5, 3, 0], [4, 0, 0]])
MASK = torch.tensor([[1, 1, 0], [1, 0, 0]])
IDS = "input_ids must hold token ids, int64 or int32, in the shape (batch, seq), neither of them 0, got "
WRONG: dict[str, tuple[tuple[Any, ...], str]] = {
    "too large": ((torch.tensor([[23]]),), "input_ids must be from 0 to 22, got 23 to 23"),
    "negative": ((torch.tensor([[-1, 4]]),), "input_ids must be from 0 to 22, got -1 to 4"),
    "floats": ((torch.ones(2, 3),), IDS + "torch.float32 of shape (2, 3)"),
    "booleans": ((torch.ones(2, 3).bool(),), IDS + "torch.bool of shape (2, 3)"),
    "one row": ((torch.tensor([5, 3]),), IDS + "torch.int64 of shape (2,)"),
    "no tokens": ((torch.ones(2, 0).long(),), IDS + "torch.int64 of shape (2, 0)"),
    "too long": ((torch.ones(1, 12).long(),), "input_ids must be no longer than max_positions 11, got 12 tokens"),
    "types": ((GOOD, 2 * MASK), "token_type_ids must be from 0 to 1, got 0 to 2"),
    "types of another batch": (
        (GOOD, MASK[:1]),
        "token_type_ids must have the shape of input_ids, (2, 3), got (1, 3)",
    ),
    "mask of another batch": (
        (GOOD, None, MASK[:1]),
        "attention_mask must have the shape of input_ids, (2, 3), got (1, 3)",
    ),
    "mask of four axes": (
        (GOOD, None, MASK[:, None, None]),
        "attention_mask must have the shape of input_ids, (2, 3), got (2, 1, 1, 3)",
    ),
    "additive mask": (
        (GOOD, None, (1.0 - MASK) * -10000),
        "attention_mask must hold 1 for tokens and 0 for padding, and got other values",
    ),
    "list": (([[1, 2]],), "input_ids must be a tensor, got [[1, 2]]"),
    "types of float": ((GOOD, MASK.float()), "token_type_ids must be int64 or int32, got torch.float32"),
    "types of bool": ((GOOD, MASK == 1), "token_type_ids must be int64 or int32, got torch.bool"),
    "mask of NaN": (
        (GOOD, None, MASK * float("nan")),
        "attention_mask must hold 1 for tokens and 0 for padding, and got other values",
    ),
    "mask of str": ((GOOD, None, "1"), "attention_mask must be a tensor, got '1'"),
    "a row of padding": (
        (GOOD, None, torch.tensor([[1, 1, 0], [0, 0, 0]])),
        "attention_mask must have a token in each row; row 1 does not",
    ),
}


@pytest.mark.parametrize(("wrong", "message"), WRONG.values(), ids=WRONG.keys())
def test_input_that_is_none(wrong, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        small()(*wrong)


def test_a_config_is_needed():
    with pytest.raises(ValueError, match="^config must be a BertConfig, got {}$"):
        Bert({})


def test_a_causal_model_needs_a_first_token():
    message = "attention_mask must begin with a token in each row of a causal model; row 1 does not"
    mask = torch.tensor([[1, 1, 0], [0, 1, 1]])
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        small(causal=True)(GOOD, None, mask)
    small()(GOOD, None, mask)


def test_shake_moves_every_parameter():
    before = Bert(config())
    after = shake(Bert(config()))
    assert not any(torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True))
