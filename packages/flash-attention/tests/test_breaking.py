"""The tests of attention fail for an implementation with a mistake in it, and pass for the one that is edited."""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import torch

from flash_attention import attention, block_sparse, flash_attention, torch_backend


def load(name):
    """A test file of this folder as a module."""
    spec = importlib.util.spec_from_file_location(f"broken_{name}", Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


dense, sparse, bad_input = load("test_attention"), load("test_block_sparse"), load("test_bad_input")
derivatives, hidden = load("test_derivatives"), load("test_hidden")


def equal(shape, causal=False, masked=False):
    """test_attention's comparison of output and gradients, at one of its sizes or another."""
    shape = dense.SHAPES[shape] if isinstance(shape, str) else shape
    return partial(dense.test_equals_standard_and_torch, shape, causal, masked, dense.BLOCKS)


def equal_with_dropout():
    x, options = dense.inputs(dense.SHAPES["grouped"]), {"dropout_p": 0.3, "seed": 2}
    ours = dense.results(flash_attention, *x, **options, **dense.BLOCKS)
    dense.compare(ours, dense.results(attention.standard_attention, *x, **options))


full, causal, grouped = equal("blocks cut short"), equal("more keys", causal=True), equal("grouped")
padded, no_keys = equal("grouped", masked=True), partial(dense.test_rows_without_keys_are_zero, dense.BLOCKS)
large = partial(dense.test_large_scores, torch.float32, dense.BLOCKS)
dropout = partial(dense.test_dropout, 0.5)
lse = partial(dense.test_lse, False, torch.float64)
lse_gradient = partial(derivatives.test_lse_gradient, dense.BLOCKS)
lse_gradient_of_one_block = partial(derivatives.test_lse_gradient, {})
half = partial(dense.test_half_precision, torch.float16, 65, False)
one_key = partial(dense.test_one_key_has_no_gradient, dense.BLOCKS)
nan_ahead = partial(hidden.test_causal, flash_attention, {})
nan_row = partial(hidden.test_rows_that_see_nothing, flash_attention)
memory = partial(dense.test_nothing_has_the_size_of_the_scores, True, 0.2)
blocks = partial(sparse.test_equals_standard, sparse.SHAPES["blocks cut short"], False, False)
unchanged = partial(bad_input.test_accepted_arguments_are_not_changed, flash_attention)

MISTAKES = {  # what is wrong: (the source, what it becomes, the test that notices)
    "O is not rescaled": ("o.mul_(alpha).baddbmm_(", "o.baddbmm_(", full),
    "l is not rescaled": ("l, alpha, out=l)", "l, torch.ones_like(alpha), out=l)", full),
    "m is not stored": ("m.copy_(m_new)", "m.copy_(m)", full),
    "O is not divided by l": ("O.div_(l_i.masked_fill(l_i == 0, 1))", "O", full),
    "O is divided by an l of zero": ("O.div_(l_i.masked_fill(l_i == 0, 1))", "O.div_(l_i)", no_keys),
    "m starts at -inf": ("torch.finfo(wide).min)", "-math.inf)", no_keys),
    "the maximum is not subtracted": ("S.amax(-1, keepdim=True).maximum(m)", "torch.zeros_like(m)", large),
    "the maximum of one block": ("S.amax(-1, keepdim=True).maximum(m)", "S.amax(-1, keepdim=True)", no_keys),
    "base 2 without log2(e), forward": ("* math.log2(math.e))  # line 10", ")  # line 10", full),
    "base 2 without log2(e), backward": ("* math.log2(math.e))  # line 11", ")  # line 11", full),
    "lse in base 2": ("m_all * math.log(2)", "m_all", lse),
    "the gradient of lse is left out": (" - dL  # line 19", "  # line 19", lse_gradient),
    "the gradient of lse is left out where D is P∘dP": (" - dL[:, first]", "", lse_gradient_of_one_block),
    "half precision is summed in half": ("torch.promote_types(q.dtype, torch.float32)", "q.dtype", half),
    "the last keys are left out": (
        "_slices(0, self.n_k, self.block_k)",
        "_slices(0, self.n_k // self.block_k * self.block_k, self.block_k)",
        full,
    ),
    "causal, a key too many": ("- columns.start  # the last", "- columns.start + 1  # the last", causal),
    "causal, a key too few": ("- columns.start  # the last", "- columns.start - 1  # the last", causal),
    "causal from the upper left": ("rows.start + self.n_k - self.n_q - columns", "rows.start - columns", causal),
    "causal, a block too few": (
        "if first < queries.stop:",
        "if first < queries.stop - 1:",
        equal((1, 1, 1, 16, 17, 2), causal=True),
    ),
    "causal is ignored": ("if self.causal:", "if False:", causal),
    "the key mask is ignored": ("S.masked_fill_(~keys[:, None, columns], -math.inf)", "pass", padded),
    "the key mask of another sequence": ("mask.repeat_interleave(kv_heads, 0)", "mask.repeat(kv_heads, 1)", padded),
    "NaN in keys beyond the causal line": ("if not loops.causal or not _readable(k):", "if True:", nan_ahead),
    "NaN in rows that see no key, dK": ("if some else unclean", "if False else unclean", nan_row),
    "another scale for dQ": ("(dS, K, alpha=loops.scale)", "(dS, K)", full),
    "another scale for dK": ("(dS.mT, Q[:, part], alpha=loops.scale)", "(dS.mT, Q[:, part])", full),
    "D left out of dS": (".sub_(D[:, part])", "", full),
    "D of the last block alone": ("if columns.start > 0:", "if False:", full),
    "D of causal rows that see more keys": (
        "max(0, columns.stop - (",
        "max(0, columns.stop + 1 - (",
        equal("whole blocks", causal=True),
    ),
    "D from O where its errors do not cancel": ("return rows.stop - rows.start", "return 0", one_key),
    "dO not divided by l": ("do[items, member, queries].to(wide) / l_i", "do[items, member, queries].to(wide)", full),
    "dK of one query head": ("(dS.mT, Q[:, part], alpha", "(dS.mT, Q[:, part], beta=0, alpha", grouped),
    "1 / (1 - p) left out": (".div_(1 - self.dropout_p)", "", dropout),
    "l of what dropout leaves": (
        "P.sum(-1, keepdim=True), l",
        "loops.drop(P.clone(), items, member, rows, columns).sum(-1, keepdim=True), l",
        dropout,
    ),
    "dropout left out of dV": ("loops.drop(P, items, member, rows, columns)  #", "pass  #", equal_with_dropout),
    "dropout left out of dS": (
        "loops.drop(gradient_tile.product(dO[:, part], V), items, member, rows, columns)",
        "gradient_tile.product(dO[:, part], V)",
        equal_with_dropout,
    ),
    "dropout by place in the block": ("torch.arange(rows.start, rows.stop", "torch.arange(len(S[0])", dropout),
    "dropout the same in every head": ("item * self.group + member", "item * 0", dropout),
    "dropout the same in a group": ("item * self.group + member", "item * self.group", equal_with_dropout),
    "dropout of another seed": ("self.seed, self.dropout_p)", "self.seed + 1, self.dropout_p)", dropout),
    "all scores at once": ("block_q or rows, block_k or columns", "n_q, n_k", memory),
    "dO is written to": ("to(wide) / l_i", "to(wide).div_(l_i)", unchanged),
    "all blocks are visited": ("if self.pattern and not", "if self.pattern and False and not", blocks),
    "the first row's blocks for all": ("[queries.start // self.block_q]", "[0]", blocks),
}


def edit(monkeypatch, old, new):
    """Let attention run on a copy of the torch backend in which one piece of the source is another."""
    source = Path(torch_backend.__file__).read_text(encoding="utf-8")
    assert source.count(old) == 1, f"{source.count(old)} times in torch_backend.py: {old}"
    module = ModuleType(torch_backend.__name__)
    exec(compile(source.replace(old, new), "torch_backend.py, edited", "exec"), vars(module))
    for user in (attention, block_sparse):
        monkeypatch.setattr(user, "torch_backend", module)


@pytest.mark.parametrize(("old", "new", "test"), MISTAKES.values(), ids=MISTAKES)
def test_mistake_is_noticed(old, new, test, monkeypatch):
    edit(monkeypatch, old, new)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        test()


def test_without_a_mistake(monkeypatch):
    """The same tests, on a copy with nothing but a comment changed."""
    edit(monkeypatch, "(  # line 10", "(  # the same")
    for test in {test for _, _, test in MISTAKES.values()}:
        test()
