"""Both answers of a pair in one row: the numbers of two rows, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_cases import llama, some_pairs
from torch import nn

from papertest.counting import flops, peak_memory
from papertest.parity import relative_error

from dpo import Batch, DPOTrainer, Encoded, collate
from dpo.models import answer_logps
from dpo.packed import pack, packed_logps

MODEL = llama().double()


def slopes(logps: torch.Tensor) -> list[torch.Tensor]:
    weight = torch.linspace(-1, 2, len(logps), dtype=logps.dtype)
    return list(torch.autograd.grad((logps * weight).sum(), list(MODEL.parameters())))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(0, 10**6), st.sampled_from(("right", "left")))
def test_logps_and_gradients_are_those_of_two_rows(count, seed, side):
    batch = collate(some_pairs(count, seed), 0, side)
    (ours, vocab), (theirs, same) = packed_logps(MODEL, batch), answer_logps(MODEL, batch)
    assert vocab == same == 50
    assert relative_error(ours, theirs) < 1e-12
    for mine, other in zip(slopes(ours), slopes(theirs), strict=True):
        assert relative_error(mine, other) < 1e-5  # the model's own norm is in float32


def test_half_precision_sums_in_float32():
    batch = collate(some_pairs(3), 0)
    logps, _ = packed_logps(llama().bfloat16(), batch)
    assert logps.dtype == torch.float32
    assert relative_error(logps, packed_logps(MODEL, batch)[0]) < 0.05


def test_an_answer_does_not_see_the_other():
    first, other = Encoded((1, 2), (3, 4), (5, 6, 7)), Encoded((1, 2), (8, 9), (5, 6, 7))
    rejected = [packed_logps(MODEL, collate([pair], 0))[0][1] for pair in (first, other)]
    assert rejected[0] == rejected[1]


def test_what_a_row_holds():
    packed = pack(collate([Encoded((1, 2), (3, 4), (5,)), Encoded((6,), (7,), (8,))], 0))
    assert packed.ids.tolist() == [[1, 2, 3, 4, 5], [6, 7, 8, 0, 0]]
    assert packed.positions.tolist() == [[0, 1, 2, 3, 2], [0, 1, 1, 0, 0]]
    assert packed.visible[0, 0, 4].tolist() == [True, True, False, False, True]
    assert packed.visible[0, 0, 3].tolist() == [True, True, True, True, False]
    assert packed.answer.tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3]
    assert packed.mask.tolist() == [False, True, True, False, True, False, True, False, True]
    rows, columns = packed.line
    assert packed.ids[rows, columns].tolist() == [2, 3, 4, 6, 7, 2, 5, 6, 8]


def test_a_training_goes_the_same_way():
    """Ten steps: what is wrong in a gradient is seen in the weights by then."""
    batches = [collate(some_pairs(4, seed), 0) for seed in range(3)]
    ends: list[nn.Module] = []
    for logps in (answer_logps, packed_logps):
        model = llama().double()
        trainer = DPOTrainer(model, torch.optim.SGD(model.parameters(), 0.2), logps=logps)
        for batch in batches:
            trainer.reference(batch)
        seen = [trainer.step(batches[i % 3]) for i in range(10)]
        assert seen[0]["loss"] == pytest.approx(math.log(2), abs=1e-12)
        assert abs(seen[-1]["loss"] - seen[0]["loss"]) > 0.01
        ends.append(model)
    for a, b in zip(*(end.parameters() for end in ends), strict=True):
        assert relative_error(a, b) < 1e-6


def test_the_prompt_is_computed_once():
    model = llama()
    batch = collate([Encoded(tuple(range(40)), (1, 2), (3, 4))], 0)
    assert flops(lambda: packed_logps(model, batch)) < 0.65 * flops(lambda: answer_logps(model, batch))


def changed(name: str, row: int, column: int, value: int) -> Batch:
    batch = collate([Encoded((9,), (2, 3, 4), (5,)), Encoded((9, 9), (1,), (2,))], 0)
    tensor = getattr(batch, name).clone()
    tensor[row, column] = value
    return replace(batch, **{name: tensor})


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (changed("ids", 3, 0, 8), "the same prompt in both rows of a pair, got two in pair 1"),
        (changed("mask", 0, 2, False), "a prompt and behind it an answer up to the row's end, got others in row 0"),
        (changed("mask", 2, 1, False), "got others in row 2"),
        (changed("mask", 2, 3, True), "got others in row 2"),
        (changed("mask", 0, 0, True), "got others in row 0"),
    ],
    ids=["two prompts", "a hole", "no answer", "padding", "no prompt"],
)
def test_bad_batches_are_refused(batch, message):
    with pytest.raises(ValueError, match=message):
        pack(batch)


def test_another_model_is_refused():
    model, batch = nn.Linear(2, 2), collate(some_pairs(2), 0)
    with pytest.raises(ValueError, match="causal language model of transformers, got Linear"):
        packed_logps(model, batch)


def test_tied_embeddings_cost_one_gradient_of_the_vocabulary():
    """Two at a time, the head's and the embeddings'; a third would be their sum."""
    model = llama(width=32, vocab=20_000)
    batch = collate(some_pairs(1, vocab=20_000, longest=2), 0)

    def backward() -> None:
        packed_logps(model, batch)[0].sum().backward()
        model.zero_grad()

    vocabulary = model.lm_head.weight
    assert vocabulary is model.model.embed_tokens.weight
    assert peak_memory(backward) < 2.8 * vocabulary.nbytes


def test_autocast_and_heads_with_a_bias_go_the_modules_own_way():
    batch = collate(some_pairs(3), 0)
    model, whole = llama(), packed_logps(MODEL, batch)[0]
    with torch.autocast("cpu", torch.bfloat16):
        logps, _ = packed_logps(model, batch)
    logps.sum().backward()
    assert relative_error(logps, whole) < 0.05
    model.lm_head.bias = nn.Parameter(torch.full((50,), 3.0))  # the same for all tokens: the softmax stays
    assert relative_error(packed_logps(model, batch)[0], whole) < 1e-5
