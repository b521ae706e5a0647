"""What the core does not accept: the error names the argument, its value and what is accepted."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from transformer import (
    LabelSmoothing,
    MultiHeadAttention,
    Transformer,
    TransformerConfig,
    average_checkpoints,
    beam_search,
    greedy_search,
    noam_schedule,
    sinusoidal_encoding,
)
from transformer.training import adam

GOOD = torch.tensor([[5, 3, 0], [4, 0, 0]])
IDS = "must hold token ids in the shape (batch, seq), neither of them 0, got "
RANGE = "must hold tokens from 0 to 22, got "


def small(**changes: Any) -> Transformer:
    torch.manual_seed(0)
    sizes = {"vocab_size": 23, "n_layers": 1, "d_model": 8, "d_ff": 8, "n_heads": 2}
    return Transformer(TransformerConfig(**(sizes | changes))).eval()


def assert_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()


TOKENS = {  # (what stands for the tokens, the message after their name)
    "too large": (torch.tensor([[5, 23, 0], [4, 0, 0]]), RANGE + "0 to 23"),
    "far too large": (torch.tensor([[2**40], [1]]), RANGE + f"1 to {2**40}"),
    "negative": (torch.tensor([[5, -1, 0], [4, 0, 0]]), RANGE + "-1 to 5"),
    "floats": (torch.ones(2, 3), IDS + "torch.float32 of shape (2, 3)"),
    "half": (torch.ones(2, 3).half(), IDS + "torch.float16 of shape (2, 3)"),
    "one row": (torch.tensor([5, 3]), IDS + "torch.int64 of shape (2,)"),
    "one token": (torch.tensor(5), IDS + "torch.int64 of shape ()"),
    "one-hot": (torch.ones(2, 3, 23, dtype=torch.int64), IDS + "torch.int64 of shape (2, 3, 23)"),
    "no tokens": (torch.ones(2, 0, dtype=torch.int64), IDS + "torch.int64 of shape (2, 0)"),
    "no rows": (torch.ones(0, 3, dtype=torch.int64), IDS + "torch.int64 of shape (0, 3)"),
    "a row of padding": (
        torch.tensor([[5, 3], [0, 0]]),
        "must have a token other than padding (0) in each row; row 1 has none",
    ),
}
NOT_TOKENS = {  # what torch's embedding does not take
    "booleans": torch.ones(2, 3, dtype=torch.bool),
    "uint8": torch.ones(2, 3, dtype=torch.uint8),
    "int16": torch.ones(2, 3, dtype=torch.int16),
    "complex": torch.ones(2, 3, dtype=torch.complex64),
}
tokens = pytest.mark.parametrize(("wrong", "message"), TOKENS.values(), ids=TOKENS.keys())


@tokens
def test_sources_that_are_none(wrong, message):
    model = small()
    for call in (lambda: model(wrong, GOOD), lambda: model.encode(wrong), lambda: model.start(wrong)):
        assert_refused(call, "src " + message)


@tokens
def test_targets_that_are_none(wrong, message):
    model = small()
    memory, mask = model.encode(GOOD)
    for call in (
        lambda: model(GOOD, wrong),
        lambda: model.decode(wrong, memory, mask),
        lambda: model.attention_maps(GOOD, wrong),
    ):
        assert_refused(call, "tgt " + message)
    assert not any(layer.encoder_attention._forward_pre_hooks for layer in model.decoder)  # none left behind


@tokens
@pytest.mark.parametrize("search", [greedy_search, beam_search])
@pytest.mark.parametrize("cache", [True, False], ids=["cache", "no cache"])
def test_sources_that_cannot_be_decoded(search, cache, wrong, message):
    assert_refused(lambda: search(small(), wrong, bos=1, eos=2, cache=cache), "src " + message)


@pytest.mark.parametrize("wrong", NOT_TOKENS.values(), ids=NOT_TOKENS.keys())
def test_dtypes_that_are_no_token_ids(wrong):
    message = IDS + f"{wrong.dtype} of shape (2, 3)"
    assert_refused(lambda: small()(wrong, GOOD), "src " + message)
    assert_refused(lambda: small()(GOOD, wrong), "tgt " + message)


@pytest.mark.parametrize("row", [[0, 3, 5], [3, 0, 5], [0, 0, 3]], ids=str)
def test_padding_before_a_targets_tokens(row):
    tgt = torch.tensor([[1, 2, 3], row])
    assert_refused(lambda: small()(GOOD, tgt), "tgt must have its padding (0) at the end of each row")
    small()(tgt, GOOD)  # a source may have it anywhere


@pytest.mark.parametrize("rows", [1, 3])
def test_batches_that_differ(rows):
    tgt = torch.ones(rows, 2, dtype=torch.int64)
    assert_refused(lambda: small()(GOOD, tgt), f"src and tgt must have the same batch size, got 2 and {rows}")


def test_sequences_longer_than_learned_positions():
    model = small(positions="learned", max_len=4)
    long = torch.ones(2, 5, dtype=torch.int64)
    message = "a sequence of 5 tokens is longer than max_len 4, the rows of the learned positions"
    model(long[:, :4], long[:, :4])
    assert_refused(lambda: model(long, GOOD), message)
    assert_refused(lambda: model(GOOD, long), message)
    state = model.start(GOOD)
    for _ in range(4):
        model.step(torch.tensor([1, 1]), state)
    assert_refused(lambda: model.step(torch.tensor([1, 1]), state), message)


@pytest.mark.parametrize("search", [greedy_search, beam_search])
@pytest.mark.parametrize("cache", [True, False], ids=["cache", "no cache"])
def test_decoding_past_learned_positions(search, cache):
    model = small(positions="learned", max_len=4)
    with torch.no_grad():
        model.decoder[-1].residuals[-1].norm.weight[0] = 0
        model.decoder[-1].residuals[-1].norm.bias[0] = 1
        model.tokens.weight[2, 0] = -100  # eos never comes
    for extra, lengths in ((1, [3, 2]), (2, [4, 3]), (3, [4, 4]), (50, [4, 4])):  # the table ends at the fourth
        found = search(model, GOOD, bos=1, eos=2, extra=extra, cache=cache)
        assert [len(x) for x in found] == lengths
    message = "a sequence of 5 tokens is longer than max_len 4, the rows of the learned positions"
    long = torch.ones(2, 5, dtype=torch.int64)
    assert_refused(lambda: search(model, long, bos=1, eos=2, cache=cache), message)


END = "must be a token from 0 to 22 other than padding (0), got "
BOTH = {
    "bos too large": ({"bos": 23}, "bos " + END + "23"),
    "bos negative": ({"bos": -1}, "bos " + END + "-1"),
    "bos padding": ({"bos": 0}, "bos " + END + "0"),
    "eos too large": ({"eos": 23}, "eos " + END + "23"),
    "eos negative": ({"eos": -1}, "eos " + END + "-1"),
    "eos padding": ({"eos": 0}, "eos " + END + "0"),
    "extra": ({"extra": -1}, "extra must be at least 0, got -1"),
}
ONLY_BEAM = {
    **{
        f"beam {beam}": ({"beam": beam}, f"beam must be at least 1 and at most half of the vocabulary, 11, got {beam}")
        for beam in (0, -1, 12)
    },
    **{
        f"alpha {alpha}": ({"alpha": alpha}, f"alpha must be at least 0, got {alpha}") for alpha in (-0.1, float("nan"))
    },
}


@pytest.mark.parametrize(("change", "message"), BOTH.values(), ids=BOTH.keys())
@pytest.mark.parametrize("search", [greedy_search, beam_search])
def test_what_no_search_accepts(search, change, message):
    assert_refused(lambda: search(small(), GOOD, **{"bos": 1, "eos": 2, **change}), message)


@pytest.mark.parametrize(("change", "message"), ONLY_BEAM.values(), ids=ONLY_BEAM.keys())
def test_what_beam_search_does_not_accept(change, message):
    assert_refused(lambda: beam_search(small(), GOOD, bos=1, eos=2, **change), message)


def test_the_largest_beam_that_is_accepted():
    assert len(beam_search(small(), GOOD, bos=1, eos=2, beam=11, extra=1)) == 2


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, 2.0, float("nan")])
def test_smoothing_outside_its_range(smoothing):
    assert_refused(lambda: LabelSmoothing(smoothing), f"smoothing must be in [0, 1), got {smoothing}")


@pytest.mark.parametrize("pad", [0, 3])
def test_targets_of_padding_alone(pad):
    targets = torch.full((2, 3), pad)
    message = f"targets must have a token other than padding ({pad})"
    assert_refused(lambda: LabelSmoothing(0.1, pad)(torch.randn(2, 3, 7), targets), message)


@pytest.mark.parametrize("pad", [0, None])
@pytest.mark.parametrize(
    ("logits", "targets"),
    [((2, 3, 7), (3, 2)), ((2, 3, 7), (6,)), ((6, 7), (1,)), ((2, 3, 7), (2, 2)), ((7,), (7,))],
    ids=str,
)
def test_targets_that_are_not_one_for_each_row_of_logits(logits: Any, targets: Any, pad: int | None):
    message = f"targets must have the shape of logits without its last axis, {logits[:-1]}, got {targets}"
    ones = torch.ones(targets, dtype=torch.int64)
    assert_refused(lambda: LabelSmoothing(0.1, pad)(torch.randn(logits), ones), message)


SIZES = {
    "step 0": (lambda: noam_schedule(0, 512), "step must be at least 1, got 0"),
    "step -1": (lambda: noam_schedule(-1, 512), "step must be at least 1, got -1"),
    "d_model 0": (lambda: noam_schedule(1, 0), "d_model must be at least 1, got 0"),
    "warm-up 0": (lambda: noam_schedule(1, 512, 0), "warmup_steps must be at least 1, got 0"),
    "Adam's warm-up 0": (lambda: adam(nn.Linear(1, 1), 512, 0), "warmup_steps must be at least 1, got 0"),
    "Adam's d_model 0": (lambda: adam(nn.Linear(1, 1), 0), "d_model must be at least 1, got 0"),
    "odd sinusoids": (lambda: sinusoidal_encoding(3, 5), "d_model must be even and at least 2, got 5"),
    "no sinusoids": (lambda: sinusoidal_encoding(3, 0), "d_model must be even and at least 2, got 0"),
    "negative length": (lambda: sinusoidal_encoding(-1, 4), "length and start must be at least 0, got -1 and 0"),
    "negative start": (
        lambda: sinusoidal_encoding(2, 4, start=-1),
        "length and start must be at least 0, got 2 and -1",
    ),
    **{
        f"heads with {given}": (
            lambda given=given: MultiHeadAttention(10, 3, **given),
            "n_heads must divide d_model 10 where d_k or d_v is None, got 3",
        )
        for given in ({}, {"d_k": 4}, {"d_v": 4})
    },
    "heads of the model": (
        lambda: small(n_heads=3),
        "n_heads must divide d_model 8 where d_k or d_v is None, got 3",
    ),
}


@pytest.mark.parametrize(("call", "message"), SIZES.values(), ids=SIZES.keys())
def test_sizes_and_steps_that_are_none(call, message):
    assert_refused(call, message)


def heads(*arguments: Any, **options: Any) -> Any:
    return MultiHeadAttention(8, 2, fused=bool(options.pop("fused", False)))(*arguments, **options)


X, TARGETS = torch.ones(1, 3, 8), torch.tensor([[1, 2]])
TYPES = {  # (what has an argument of a wrong type, the argument)
    "a step of float": (lambda: noam_schedule(1.5, 512), "step"),
    "a step of bool": (lambda: noam_schedule(True, 512), "step"),
    "a warm-up of NaN": (lambda: noam_schedule(1, 512, float("nan")), "warmup_steps"),
    "a scale of NaN": (lambda: adam(nn.Linear(1, 1), 512, scale=float("nan")), "scale"),
    "a scale of string": (lambda: adam(nn.Linear(1, 1), 512, scale="1"), "scale"),
    "a size of float": (lambda: small(d_model=8.0), "d_model"),
    "a size of bool": (lambda: small(n_layers=True), "n_layers"),
    "no vocabulary": (lambda: small(vocab_size=None), "vocab_size"),
    "a dropout of string": (lambda: small(dropout="0.1"), "dropout"),
    "a dropout of bool": (lambda: small(dropout=False), "dropout"),
    "a pad of float": (lambda: small(pad=0.0), "pad"),
    "fused of int": (lambda: small(fused=1), "fused"),
    "a norm of list": (lambda: small(norm=["pre"]), "norm"),
    "keys of size 0": (lambda: MultiHeadAttention(8, 2, 0), "d_k"),
    "heads of float": (lambda: MultiHeadAttention(8, 2.0), "n_heads"),
    "a dtype of integers": (lambda: sinusoidal_encoding(3, 4, dtype=torch.int64), "dtype"),
    "a length of float": (lambda: sinusoidal_encoding(3.0, 4), "length"),
    "a list for tokens": (lambda: small()([[1, 2]], GOOD), "src"),
    "a list for the newest tokens": (lambda: small().step([1, 1], small().start(GOOD)), "tokens"),
    "a column of newest tokens": (lambda: small().step(GOOD, small().start(GOOD)), "tokens"),
    "a beam of float": (lambda: beam_search(small(), GOOD, bos=1, eos=2, beam=2.0), "beam"),
    "an alpha of string": (lambda: beam_search(small(), GOOD, bos=1, eos=2, alpha="1"), "alpha"),
    "an infinite alpha": (lambda: beam_search(small(), GOOD, bos=1, eos=2, alpha=float("inf")), "alpha"),
    "bos of bool": (lambda: greedy_search(small(), GOOD, bos=True, eos=2), "bos"),
    "eos of float": (lambda: greedy_search(small(), GOOD, bos=1, eos=2.0), "eos"),
    "extra of float": (lambda: greedy_search(small(), GOOD, bos=1, eos=2, extra=2.0), "extra"),
    "cache of string": (lambda: greedy_search(small(), GOOD, bos=1, eos=2, cache="no"), "cache"),
    "a smoothing of string": (lambda: LabelSmoothing("0.1"), "smoothing"),
    "a smoothing of bool": (lambda: LabelSmoothing(False), "smoothing"),
    "a pad of the loss of bool": (lambda: LabelSmoothing(pad=False), "pad"),
    "targets of float": (lambda: LabelSmoothing()(torch.randn(1, 2, 5), TARGETS.float()), "targets"),
    "targets too large": (lambda: LabelSmoothing()(torch.randn(1, 2, 2), TARGETS), "targets"),
    "targets below 0": (lambda: LabelSmoothing()(torch.randn(1, 2, 5), -TARGETS), "targets"),
    "no targets": (lambda: LabelSmoothing(pad=None)(torch.ones(0, 5), TARGETS[0, :0]), "targets"),
    "logits of int": (lambda: LabelSmoothing()(torch.ones(1, 2, 5, dtype=torch.int64), TARGETS), "logits"),
    "one state dict": (lambda: average_checkpoints(nn.Linear(1, 1).state_dict()), "checkpoints"),  # pyright: ignore
    "x without a batch": (lambda: heads(X[0], X[0]), "x"),
    "memory of a list": (lambda: heads(X, [1.0]), "memory"),
    "memory of another batch": (lambda: heads(X, X.expand(2, 3, 8)), "x"),
    "causal of int": (lambda: heads(X, X, causal=1), "causal"),
    **{
        f"a mask of {kind}, {'fused' if fused else 'plain'}": (
            lambda m=m, fused=fused: heads(X, X, m, fused=fused),
            "mask",
        )
        for fused in (False, True)
        for kind, m in {
            "float": torch.ones(1, 1, 1, 3),
            "int": torch.ones(1, 1, 1, 3, dtype=torch.int64),
            "one key for all": torch.ones(1, 1, 1, 1, dtype=torch.bool),
            "another length": torch.ones(1, 1, 1, 4, dtype=torch.bool),
            "three axes": torch.ones(1, 1, 3, dtype=torch.bool),
            "list": [True] * 3,
        }.items()
    },
}


@pytest.mark.parametrize(("call", "argument"), TYPES.values(), ids=TYPES.keys())
def test_arguments_of_another_type(call, argument):
    with pytest.raises(ValueError, match=rf"^{argument}\b"):
        call()


def test_targets_of_32_bits_are_targets():
    logits = torch.randn(1, 2, 5)
    assert torch.equal(LabelSmoothing()(logits, TARGETS.int()), LabelSmoothing()(logits, TARGETS))


A, B = torch.zeros(2), torch.zeros(3)
CHECKPOINTS = {
    "none": ([], "checkpoints must be at least one state dict, got none"),
    "missing": ([{"a": A, "b": A}, {"a": A}], "checkpoint 1 does not have the tensors of checkpoint 0: b"),
    "more": (
        [{"a": A}, {"a": A}, {"a": A, "c": A, "b": A}],
        "checkpoint 2 does not have the tensors of checkpoint 0: b, c",
    ),
    "shapes": ([{"a": A}, {"a": B}], "a has shape (3,) in checkpoint 1, (2,) in checkpoint 0"),
}


@pytest.mark.parametrize(("checkpoints", "message"), CHECKPOINTS.values(), ids=CHECKPOINTS.keys())
def test_checkpoints_that_have_no_average(checkpoints, message):
    assert_refused(lambda: average_checkpoints(checkpoints), message)
