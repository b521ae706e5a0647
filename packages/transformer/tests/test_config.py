"""The constants: presets, every row of Table 3, and what is refused."""

from __future__ import annotations

import dataclasses
import re

import pytest

from transformer import TransformerConfig

# (row, what it changes, what of base is then different): copied from Table 3 by hand, not from TABLE_3.
ROWS = [
    ("A", {"n_heads": 1}, (512, 512)), ("A", {"n_heads": 4}, (128, 128)), ("A", {"n_heads": 16}, (32, 32)),
    ("A", {"n_heads": 32}, (16, 16)),
    ("B", {"d_k": 16}, (16, 64)), ("B", {"d_k": 32}, (32, 64)),
    ("C", {"n_layers": 2}, (64, 64)), ("C", {"n_layers": 4}, (64, 64)), ("C", {"n_layers": 8}, (64, 64)),
    ("C", {"d_model": 256}, (32, 32)), ("C", {"d_model": 1024}, (128, 128)), ("C", {"d_ff": 1024}, (64, 64)),
    ("C", {"d_ff": 4096}, (64, 64)),
    ("D", {"dropout": 0.0}, (64, 64)), ("D", {"dropout": 0.2}, (64, 64)), ("D", {"label_smoothing": 0.0}, (64, 64)),
    ("D", {"label_smoothing": 0.2}, (64, 64)),
    ("E", {"positions": "learned"}, (64, 64)),
    ("big", {"d_model": 1024, "d_ff": 4096, "n_heads": 16, "dropout": 0.3}, (64, 64)),
]  # fmt: skip
BASE = {"n_layers": 6, "d_model": 512, "d_ff": 2048, "n_heads": 8, "dropout": 0.1, "label_smoothing": 0.1,
        "positions": "sinusoidal", "norm": "post"}  # fmt: skip


def test_base_has_the_constants_of_the_paper():
    config = TransformerConfig.base()
    assert config == TransformerConfig() == TransformerConfig.table3("base")
    assert {name: getattr(config, name) for name in BASE} == BASE
    assert config.head_sizes == (64, 64)


@pytest.mark.parametrize(("row", "change", "head_sizes"), ROWS, ids=[f"{row} {change}" for row, change, _ in ROWS])
def test_every_row_of_table_3_changes_what_it_says_and_nothing_else(row, change, head_sizes):
    config = TransformerConfig.table3(row, vocab_size=99, **change)
    assert config == dataclasses.replace(TransformerConfig(vocab_size=99), **change)
    assert config.head_sizes == head_sizes


def test_a_row_of_one_change_needs_no_change_named():
    assert TransformerConfig.table3("E").positions == "learned"
    assert TransformerConfig.table3("big") == TransformerConfig.big()
    assert TransformerConfig.table3("base", vocab_size=7).vocab_size == 7


def test_presets_take_changes():
    assert TransformerConfig.base(vocab_size=10, dropout=0.0).dropout == 0
    big = TransformerConfig.big(vocab_size=10, dropout=0.1, norm="pre")
    assert (big.d_model, big.d_ff, big.n_heads, big.dropout, big.norm) == (1024, 4096, 16, 0.1, "pre")
    assert TransformerConfig.big().dropout == 0.3


WRONG_ROWS = {
    "another row": (("F", {}), "Table 3 has the rows base, A, B, C, D, E, big, not 'F'"),
    "a letter alone": (("B", {}), "row B of Table 3 has d_k=16; d_k=32; got none of them"),
    "another value": (("B", {"d_k": 8}), "row B of Table 3 has d_k=16; d_k=32; got {'d_k': 8}"),
    "a value of another row": (
        ("A", {"d_k": 16}),
        "row A of Table 3 has n_heads=1; n_heads=4; n_heads=16; n_heads=32; got {'d_k': 16}",
    ),
    "two changes": (
        ("D", {"dropout": 0.0, "label_smoothing": 0.0}),
        "row D of Table 3 has dropout=0.0; dropout=0.2; label_smoothing=0.0; label_smoothing=0.2; got "
        "{'dropout': 0.0, 'label_smoothing': 0.0}",
    ),
    "base changed": (("base", {"d_k": 8}), "row base of Table 3 has no change; got {'d_k': 8}"),
}


@pytest.mark.parametrize(("call", "message"), WRONG_ROWS.values(), ids=WRONG_ROWS.keys())
def test_rows_that_table_3_has_not_are_refused_with_those_it_has(call, message):
    row, change = call
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        TransformerConfig.table3(row, **change)


WRONG = {
    **{
        f"{name} {value}": ({name: value}, f"{name} must be at least 1, got {value}")
        for name in ("vocab_size", "n_layers", "d_model", "d_ff", "n_heads", "d_k", "d_v", "max_len")
        for value in (0, -2)
    },
    **{
        f"{name} {value}": ({name: value}, f"{name} must be in [0, 1), got {value}")
        for name in ("dropout", "label_smoothing")
        for value in (-0.1, 1, 1.5, float("nan"))
    },
    "positions": ({"positions": "rotary"}, "positions must be 'sinusoidal' or 'learned', got 'rotary'"),
    "norm": ({"norm": "rms"}, "norm must be 'post' or 'pre', got 'rms'"),
    "odd d_model": ({"d_model": 7}, "d_model must be even, a sine and a cosine for each frequency, got 7"),
    "pad below": ({"pad": -1}, "pad must be a token of the vocabulary, 0 to 36999, got -1"),
    "pad above": ({"vocab_size": 5, "pad": 5}, "pad must be a token of the vocabulary, 0 to 4, got 5"),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG.keys())
def test_values_that_make_no_model_are_refused(change, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        TransformerConfig(**change)
    if "max_len" not in change and "pad" not in change and "vocab_size" not in change:
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            TransformerConfig.big(**change)


def test_an_odd_d_model_is_accepted_with_learned_positions():
    assert TransformerConfig(d_model=7, n_heads=1, positions="learned").head_sizes == (7, 7)


@pytest.mark.parametrize("given", [{}, {"d_k": 3}, {"d_v": 3}], ids=str)
def test_heads_that_do_not_divide_d_model_are_refused_where_a_size_is_missing(given):
    config = TransformerConfig(d_model=10, n_heads=3, **given)
    with pytest.raises(ValueError, match="^n_heads must divide d_model 10 where d_k or d_v is not given, got 3$"):
        _ = config.head_sizes
    assert dataclasses.replace(config, d_k=3, d_v=4).head_sizes == (3, 4)


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TransformerConfig().d_model = 3  # pyright: ignore[reportAttributeAccessIssue]
