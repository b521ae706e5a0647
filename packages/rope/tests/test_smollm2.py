"""What the claims on SmolLM2 beyond its context stand on, with a tiny model of random weights in its place."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from papertest import texts
from papertest.claims import Run
from papertest.measure import Silent

from rope.reproduce.trend import smollm2

CONTEXT, SCORED, VOCAB, BASE = 32, 32, 96, 1000.0
PARAMETERS = {  # of a configuration whose context is twice as long
    "default": {},
    "linear": {"factor": 2.0},
    "dynamic": {"factor": 2.0},
    "yarn": {"factor": 2.0, "original_max_position_embeddings": CONTEXT},
    "llama3": {
        "factor": 2.0,
        "original_max_position_embeddings": CONTEXT,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
    },
}


def tiny(method="default"):
    """The library's model with its own scaling, and the same weights for every method."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=CONTEXT, initializer_range=0.3,
        rope_parameters={"rope_type": method, "rope_theta": BASE, **PARAMETERS[method]},
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@pytest.fixture(autouse=True)
def made_up(monkeypatch):
    """Texts of random letters, a tokeniser of letters, and windows of a few dozen."""
    draw = torch.Generator().manual_seed(1)
    letters = {name: "".join(map(chr, torch.randint(VOCAB, (200,), generator=draw))) for name in smollm2.TEXTS}
    tokenizer = SimpleNamespace(encode=lambda text: SimpleNamespace(ids=list(map(ord, text))))
    monkeypatch.setattr(smollm2, "bible", lambda: dict(list(letters.items())[::2]))
    monkeypatch.setattr(smollm2, "plays", lambda: dict(list(letters.items())[1::2]))
    monkeypatch.setattr(smollm2, "smollm2", lambda: (tiny(), tokenizer))
    for name, value in {"CONTEXT": CONTEXT, "SCORED": SCORED, "CHUNK": 8, "POINTS": 4}.items():
        monkeypatch.setattr(smollm2, name, value)
    return {name: torch.tensor(list(map(ord, text))) for name, text in letters.items()}


def read(method, window, seed=0):
    def share(run, function, args):
        return function(run, *args)

    return smollm2.read(Run(seed, "cpu", False, {}, Silent().track, share), method, window)


@torch.no_grad()
def library(ids, method, scored):
    """Nats of the last tokens by the library alone."""
    logits = tiny(method)(ids[None, :-1]).logits[0]
    return F.cross_entropy(logits, ids[1:], reduction="none")[-scored:]


@pytest.mark.parametrize("method", PARAMETERS)
def test_beyond_the_context_as_the_library_with_the_same_configuration(method, made_up):
    """The last 32 of 64 tokens, out of the last 65 of a text of 129."""
    ids = made_up["Genesis"][: 4 * CONTEXT + 1]
    theirs = library(ids[-2 * CONTEXT - 1 :], method, SCORED)
    ours = read(method, 2 * CONTEXT)
    assert ours["nats"] == pytest.approx(theirs.mean().item(), rel=1e-5)
    assert ours["curve"] == pytest.approx([part.mean().item() for part in theirs.chunk(4)], rel=1e-4)


def test_methods_differ():
    methods = smollm2.METHODS[2]
    assert len({round(read(method, 2 * CONTEXT)["nats"], 4) for method in methods}) == len(methods)


@pytest.mark.parametrize("window", [CONTEXT // 4, CONTEXT // 2, CONTEXT])
def test_within_the_context_the_same_tokens_are_scored_in_the_later_halves_of_windows(window, made_up):
    ids = made_up["hamlet"][: 4 * CONTEXT + 1]
    half, last = window // 2, len(ids)
    theirs = torch.cat([library(ids[end - window - 1 : end], "default", half)
                        for end in range(last - SCORED + half, last + 1, half)])  # fmt: skip
    assert len(theirs) == SCORED
    assert read("default", window, seed=1)["nats"] == pytest.approx(theirs.mean().item(), rel=1e-5)


def test_every_token_is_scored_once_and_after_the_same_text(made_up, monkeypatch):
    """Windows end where the tokens that they score do, and the longest begins where the text does."""
    seen = {}

    def noted(model, ids, scored, use):
        seen.setdefault(len(ids) - 1, []).append(ids[-scored:])
        return torch.zeros(scored)

    monkeypatch.setattr(smollm2, "nats", noted)
    for times in (1, 2, 4):
        read("linear", times * CONTEXT)
    ids = made_up["Genesis"][: 4 * CONTEXT + 1]
    assert {window: torch.equal(torch.cat(parts), ids[-SCORED:]) for window, parts in seen.items()} == {
        times * CONTEXT: True for times in (1, 2, 4)
    }


def test_entropy_is_that_of_the_scored_tokens(made_up):
    shares = made_up["Isaiah"][3 * CONTEXT + 1 : 4 * CONTEXT + 1].bincount() / SCORED
    assert read("default", CONTEXT, seed=2)["entropy"] == pytest.approx(torch.special.entr(shares).sum().item())


def test_dynamic_has_the_scale_of_its_length():
    theta = smollm2.rope_frequencies(16, BASE)
    found = smollm2.scaled(theta, "dynamic", CONTEXT, 4 * CONTEXT).frequencies
    assert (theta / found)[-1].item() == pytest.approx(4 * 4 - 3)
    assert (theta / smollm2.scaled(theta, "ntk", CONTEXT, 4 * CONTEXT).frequencies)[-1].item() == pytest.approx(4)


def test_a_text_that_is_too_short_is_named(made_up):
    with pytest.raises(ValueError, match="name must be a text of at least 201 tokens, got hamlet with 200"):
        smollm2.text(smollm2.smollm2()[1], "hamlet", 201)


def test_no_text_served_for_choosing():
    chosen = {name for names in texts.HELD_OUT["dev"] for name in names}
    assert not chosen & set(smollm2.TEXTS)
    assert len(set(smollm2.TEXTS)) == len(smollm2.TEXTS)
