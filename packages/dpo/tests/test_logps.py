"""The log-probability of an answer: which tokens count, in what precision, and what it takes in memory."""

from __future__ import annotations

import contextlib

import pytest
import torch
from dpo_cases import PAIRS, VOCAB, Values, few, randn, rows, tiny
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from dpo import Encoded, collate, sequence_logps, token_logps
from dpo import logps as module
from dpo.models import answer_logps, evaluating, logits_of


def by_hand(logits, labels, mask):
    """One token at a time, in the words of the definition."""
    sums = []
    for row in range(len(labels)):
        total = torch.zeros((), dtype=torch.float64)
        for t in range(1, labels.shape[1]):
            if mask[row, t]:
                total = total + logits[row, t - 1].double().log_softmax(-1)[labels[row, t]]
        sums.append(total)
    return torch.stack(sums)


@pytest.mark.parametrize("chunk", [1, 3 * VOCAB, 2**20])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_definition(dtype, chunk, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", chunk)
    logits, labels, mask = rows(dtype)
    ours, expected = sequence_logps(logits, labels, mask), by_hand(logits, labels, mask)
    assert ours.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(ours.double(), expected, rtol=1e-6 if dtype != torch.float64 else 1e-12, atol=0)


@pytest.mark.parametrize("chunk", [1, 3 * VOCAB, 2**20])
def test_the_gradient(chunk, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", chunk)
    logits, labels, mask = rows()
    logits.requires_grad_()
    weights = randn(3, seed=9)
    ours, expected = (
        torch.autograd.grad((f(logits, labels, mask) * weights).sum(), logits)[0] for f in (sequence_logps, by_hand)
    )
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-15)


def test_the_gradient_under_bfloat16_is_float32s_rounded_once():
    logits, labels, mask = rows(torch.bfloat16)
    half, wide = logits.clone().requires_grad_(), logits.float().requires_grad_()
    for leaf in (half, wide):
        sequence_logps(leaf, labels, mask).sum().backward()
    assert half.grad.dtype == torch.bfloat16
    assert torch.equal(half.grad, wide.grad.bfloat16())


def test_by_logits_that_say_one_thing():
    """The model is sure of 'a b c END' after the prompt: a shift by one in either direction would give about −100."""
    labels = torch.tensor([[5, 6, 1, 2, 3, 0]])
    logits = torch.full((1, 6, VOCAB), -100.0)
    for t in range(5):
        logits[0, t, labels[0, t + 1]] = 0.0
    mask = torch.tensor([[False, False, True, True, True, True]])
    assert sequence_logps(logits, labels, mask).item() == 0
    logits[0, 4] = torch.zeros(VOCAB)  # it does not know when to end
    torch.testing.assert_close(sequence_logps(logits, labels, mask), -torch.tensor([float(VOCAB)]).log())
    logits[0, 0] = 7.0  # what it says inside of the prompt does not count
    torch.testing.assert_close(sequence_logps(logits, labels, mask), -torch.tensor([float(VOCAB)]).log())


def test_a_sum_and_not_a_mean():
    logits = torch.zeros(1, 40, VOCAB)
    labels, mask = torch.zeros(1, 40, dtype=torch.long), torch.ones(1, 40, dtype=torch.bool)
    mask[:, 0] = False
    torch.testing.assert_close(sequence_logps(logits, labels, mask), -39 * torch.tensor([float(VOCAB)]).log())


def test_a_long_bfloat16_answer_is_summed_in_float32():
    logits = randn(1, 2000, VOCAB, dtype=torch.bfloat16)
    labels, mask = torch.zeros(1, 2000, dtype=torch.long), torch.ones(1, 2000, dtype=torch.bool)
    mask[:, 0] = False
    exact = by_hand(logits, labels, mask)
    assert (sequence_logps(logits, labels, mask).double() - exact).abs().max() < 1e-3
    in_bfloat16 = logits.log_softmax(-1)[0, :-1, 0].sum()
    assert (in_bfloat16.double() - exact).abs().max() > 1


@pytest.mark.parametrize("junk", [float("nan"), float("inf"), -float("inf")])
def test_prompt_and_padding_act_on_nothing(junk):
    logits, labels, mask = rows()
    expected = sequence_logps(logits, labels, mask)
    counted = torch.cat([mask[:, 1:], torch.zeros(3, 1, dtype=torch.bool)], 1)
    spoilt = logits.masked_fill(~counted[..., None], junk).requires_grad_()
    ours = sequence_logps(spoilt, labels.masked_fill(~mask, -100), mask)
    assert torch.equal(ours, expected)
    (d,) = torch.autograd.grad(ours.sum(), spoilt)
    assert d.isfinite().all()
    assert not d[~counted].any()


def test_forbidden_words_give_no_nan():
    """−∞ is how a vocabulary is cut; the gradient there is 0."""
    logits, labels, mask = rows()
    labels = labels.clamp(max=VOCAB - 3)
    logits[..., -2:] = -float("inf")
    logits.requires_grad_()
    ours = sequence_logps(logits, labels, mask)
    torch.testing.assert_close(ours, by_hand(logits[..., :-2], labels, mask))
    (d,) = torch.autograd.grad(ours.sum(), logits)
    assert d.isfinite().all()
    assert not d[..., -2:].any()


def test_a_forbidden_answer_is_minus_infinity():
    logits, labels, mask = rows()
    logits[1, 0, labels[1, 1]] = -float("inf")
    logits.requires_grad_()
    ours = sequence_logps(logits, labels, mask)
    assert ours.isfinite().tolist() == [True, False, True]
    assert torch.autograd.grad(ours[[0, 2]].sum(), logits)[0].isfinite().all()


def test_token_logps_are_at_their_tokens():
    logits, labels, mask = rows()
    tokens = token_logps(logits, labels, mask)
    assert ((tokens != 0) == mask).all()
    torch.testing.assert_close(tokens[1, 1], logits[1, 0].log_softmax(-1)[labels[1, 1]])
    torch.testing.assert_close(tokens.sum(-1), sequence_logps(logits, labels, mask))


class Largest(TorchDispatchMode):
    """Elements of the largest float32 tensor that an operation made."""

    found = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, tuple | list) else (result,):
            if isinstance(x, torch.Tensor) and x.dtype == torch.float32:
                self.found = max(self.found, x.numel())
        return result


def test_no_float32_copy_of_the_logits(monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 5000)
    logits = randn(2, 60, 500, dtype=torch.bfloat16).requires_grad_()
    labels, mask = torch.zeros(2, 60, dtype=torch.long), torch.ones(2, 60, dtype=torch.bool)
    mask[:, :10] = False
    with Largest() as largest:
        sequence_logps(logits, labels, mask).sum().backward()
    assert 0 < largest.found <= 5000


def test_left_and_right_padding():
    model = tiny().eval()
    right, left = collate(PAIRS, 0), collate(PAIRS, 0, side="left")
    assert not torch.equal(right.ids, left.ids)
    a, b = (sequence_logps(logits_of(model, x.ids, x.padding_mask), x.ids, x.mask) for x in (right, left))
    torch.testing.assert_close(a, b)
    for i, pair in enumerate(PAIRS):  # and alone, without any
        alone = torch.tensor([[*pair.prompt, *pair.chosen]])
        mask = torch.arange(alone.shape[1])[None] >= len(pair.prompt)
        torch.testing.assert_close(a[i : i + 1], sequence_logps(model(alone, alone >= 0), alone, mask))


@few
@given(st.lists(st.tuples(*[st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=5)] * 3), min_size=1, max_size=4))
def test_padding_of_any_batch(pairs):
    model = tiny().eval()
    encoded = [Encoded(*map(tuple, pair)) for pair in pairs]
    a, b = (answer_logps(model, collate(encoded, 0, side))[0] for side in ("right", "left"))
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def gpt2(cls_name="GPT2LMHeadModel"):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=VOCAB, n_positions=32, n_embd=16, n_layer=2, n_head=2)
    return getattr(transformers, cls_name)(config)


def llama():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=VOCAB, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=32,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


@pytest.mark.parametrize("make", [gpt2, llama])
def test_transformers_models(make):
    """Learned and rotary positions; padding on both sides against each row alone; no logits before the answers."""
    model = make().eval()
    for side in ("right", "left"):
        batch = collate(PAIRS, 0, side)
        ours, vocab = answer_logps(model, batch)
        assert vocab == VOCAB
        for i, row in enumerate(batch.ids):
            alone = row[batch.padding_mask[i]][None]
            expected = sequence_logps(model(alone).logits, alone, batch.mask[i][batch.padding_mask[i]][None])
            torch.testing.assert_close(ours[i : i + 1], expected, rtol=1e-4, atol=1e-4)


def test_transformers_makes_logits_for_the_answers_alone():
    model, seen = llama(), []
    model.lm_head.register_forward_hook(lambda module, args, output: seen.append(output.shape[1]))
    batch = collate([Encoded((1, 2, 3, 4, 5, 6), (7, 0), (8, 9, 0))], 0)
    answer_logps(model, batch)
    assert seen == [4]  # three tokens, and the column of the last of them


def test_evaluating_puts_every_mode_back():
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout()), Values())
    model.train()
    model[1].eval()
    before = {name: m.training for name, m in model.named_modules()}
    with contextlib.suppress(KeyError), evaluating(model):
        assert not any(m.training for m in model.modules())
        raise KeyError
    assert {name: m.training for name, m in model.named_modules()} == before
