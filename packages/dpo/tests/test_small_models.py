"""The small language model, what is measured of it, and its training."""

from __future__ import annotations

import itertools
import json
import math

import pytest
import torch
from sentiment_runs import run_of

from papertest.measure import seed_all

from dpo.reproduce import measures, models, pairs, prepared, sampling, sentiment, training
from dpo.reproduce.measures import kl_and_nats, repeats
from dpo.reproduce.models import LanguageModel, sample
from dpo.reproduce.pairs import nats
from dpo.reproduce.sentiment import END, LENGTH, PIECES, PROMPT, answer_mask
from dpo.reproduce.training import METHODS


def model_of(seed=0):
    seed_all(seed)
    return LanguageModel().eval().requires_grad_(False)


def prompts(count):
    return sentiment.prompts("test")[:count]


# ------------------------------------------------------------------------------------- the model


def test_no_place_sees_a_later_one():
    model, ids = model_of(), torch.randint(PIECES, (2, LENGTH))
    changed = ids.clone()
    changed[:, 10:] = (changed[:, 10:] + 1) % PIECES
    before, after = model(ids), model(changed)
    assert torch.allclose(before[:, :10], after[:, :10], atol=1e-5)
    assert not torch.allclose(before[:, 10:], after[:, 10:], atol=1e-2)


def test_states_with_a_cache_are_those_without():
    model, ids = model_of(), torch.randint(PIECES, (4, LENGTH))
    states, cache = model.backbone.states(ids[:, :PROMPT], None)
    found = [states]
    for place in range(PROMPT, LENGTH):
        states, cache = model.backbone.states(ids[:, place : place + 1], cache)
        found.append(states)
    assert torch.allclose(torch.cat(found, 1), model.backbone(ids), atol=1e-5)


def sample_without_cache(model, prompts, temperature, generator):
    ids = prompts
    for _ in range(PROMPT, LENGTH):
        p = (model(ids)[:, -1].double() / temperature).softmax(-1)
        drawn = torch.rand(len(ids), 1, generator=generator)
        chosen = (p.cumsum(-1) <= drawn).sum(-1)
        ended = (ids[:, PROMPT:] == END).any(-1)
        ids = torch.cat([ids, torch.where(ended, END, chosen)[:, None]], 1)
    return ids


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
def test_sampling_with_a_cache_is_sampling_without(temperature):
    model = model_of()
    model.backbone.tokens.weight[END] *= 3  # some answers end
    cached, plain = (
        draw(model, prompts(64), temperature, torch.Generator().manual_seed(0))
        for draw in (sample, sample_without_cache)
    )
    assert (cached == plain).all(-1).double().mean() > 0.95  # rounding decides a draw now and then
    assert torch.equal(cached[:, :PROMPT], prompts(64))


def test_what_follows_the_end_is_the_end():
    model = model_of()
    model.backbone.norm.bias[:] = 2 * model.backbone.tokens.weight[END] / model.backbone.tokens.weight[END].norm()
    ids = sample(model, prompts(200), 1.0, torch.Generator().manual_seed(0))
    ended = (ids[:, PROMPT:] == END).cumsum(1)
    assert 0 < ended[:, 0].double().mean() < 1 and (ids[:, PROMPT:][ended > 0] == END).all()


def test_temperature_0_takes_the_likeliest():
    model = model_of()
    ids = sample(model, prompts(16), 0.0, torch.Generator())
    inside = answer_mask(ids)[:, PROMPT:]
    assert (model(ids)[:, PROMPT - 1 : -1].argmax(-1) == ids[:, PROMPT:])[inside].all()


def test_draws_have_the_models_probabilities():
    model, one = model_of(), prompts(1)
    ids = sample(model, one.expand(4_000, -1), 1.0, torch.Generator().manual_seed(0))
    p = model(one)[0, -1].softmax(-1)
    seen = torch.bincount(ids[:, PROMPT], minlength=PIECES) / len(ids)
    likely = p > 0.005
    assert likely.sum() > 5
    assert ((seen - p).abs() < 5 * (p * (1 - p) / len(ids)).sqrt())[likely].all()


def test_nats_are_of_pieces_and_not_of_what_fills_a_row():
    model, row = model_of(), sentiment.rows("test")[:1].clone()
    row[0, 6:] = END
    logps = model(row[:, :-1]).log_softmax(-1)[0]
    expected = -sum(logps[t, row[0, t + 1]] for t in range(6)) / 6
    assert nats(model, row).item() == pytest.approx(expected.item(), rel=1e-5)


# ------------------------------------------------------------------------------------- KL, by enumeration


def test_the_kl_of_answers_has_the_mean_that_enumeration_gives(monkeypatch):
    monkeypatch.setattr(models, "PIECES", 4)
    monkeypatch.setattr(models, "LENGTH", PROMPT + 3)
    policy, reference = (model_of(seed).double() for seed in (0, 1))
    written = [
        y for y in itertools.product(range(4), repeat=3) if all(b == END for a, b in itertools.pairwise(y) if a == END)
    ]
    ids = torch.tensor([[1, 2, 3, *y] for y in written])
    inside = answer_mask(ids)[:, PROMPT:]

    def logps(model):
        found = model(ids)[:, PROMPT - 1 : -1].log_softmax(-1).gather(-1, ids[:, PROMPT:, None]).squeeze(-1)
        return (found * inside).sum(-1)

    p, q = logps(policy), logps(reference)
    assert p.exp().sum().item() == pytest.approx(1)
    kl, found = kl_and_nats(policy, reference, ids)
    exact = (p.exp() * (p - q)).sum().item()
    assert (p.exp() * kl).sum().item() == pytest.approx(exact, rel=1e-9) and exact > 0.01
    assert torch.allclose(found, -q)
    assert (p.exp() * (kl - exact).square()).sum() < (p.exp() * (p - q - exact).square()).sum()  # less variance


def test_repeated_pieces():
    ids = torch.full((1, LENGTH), END)
    ids[0, :8] = torch.tensor([5, 5, 5, 7, 8, 7, 7, 5])
    assert repeats(ids) == pytest.approx(2 / 6)  # the second and the third 7; 5 stands in the prompt alone


# ------------------------------------------------------------------------------------- training


@pytest.fixture(scope="module", autouse=True)
def little(tmp_path_factory):
    """A cache of its own, and little to make and to measure."""
    for part in ("train", "test"):
        sentiment.rows(part), sentiment.prompts(part)
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setattr(prepared.carriers, "cache", lambda: folder)
        patch.setattr(prepared, "QUICK", 100)
        patch.setattr(pairs, "SAMPLES", 64)
        patch.setattr(training, "SAMPLES", 256)
        patch.setattr(training, "ROUND", 64)
        yield


@pytest.mark.parametrize("name", ["dpo-0.1", "preferred", "unweighted"])
def test_methods_on_pairs(name):
    found = training.on_pairs(run_of(0), name)
    assert json.loads(json.dumps(found)) == found
    assert [at["temperature"] for at in found["temperatures"]] == list(measures.TEMPERATURES)
    last = found["curve"][-1]
    assert last["step"] == METHODS[name].epochs * (prepared.TRAIN // 100 // 64) and last["kl"] > 0
    assert (last["chosen"] > last["rejected"]) or name == "preferred"
    assert last["chosen"] > 0 or name != "preferred"


def test_the_loss_of_an_untrained_policy_is_log_2():
    found = training.on_pairs(run_of(0), "dpo-0.1")["curve"][0]
    assert found["step"] == 1 and found["loss"] == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize("reward", ["learned", "true", "proxy"])
def test_ppo(reward):
    found = training.on_policy(run_of(0), reward, 0.1)
    assert json.loads(json.dumps(found)) == found and found["curve"][-1]["kl"] > 0
    assert {"score", "reward", "accuracy"} <= set(found["curve"][-1])


def test_a_seed_repeats_and_another_differs():
    one, again, other = (training.on_pairs(run_of(seed), "dpo-1") for seed in (0, 0, 1))
    assert one == again != other
    assert training.on_policy(run_of(0), "true", 0.1) == training.on_policy(run_of(0), "true", 0.1)


def test_rewards_of_ppo_have_mean_0_and_deviation_1_on_the_reference():
    given = prepared.prepared(run_of(0))
    score = training.scorer(given, "learned", run_of(0))
    ids = sample(given.reference, sentiment.prompts("train")[:2048], 1.0, torch.Generator().manual_seed(7))
    found = score(ids, sampling.padding_mask(ids), answer_mask(ids))
    assert abs(found.mean().item()) < 0.3 and found.std().item() == pytest.approx(1, abs=0.2)


def test_the_controls_and_best_of_n():
    found = sampling.of_reference(run_of(0))
    assert json.loads(json.dumps(found)) == found
    assert found["nats"] < math.log(PIECES) and 4 < found["unigram"] < math.log(PIECES)
    assert found["measured"]["kl"] == pytest.approx(0, abs=1e-4) and found["measured"]["chosen"] == 0
    best = sampling.best_of_n(run_of(0))
    assert best["n"] == [1, 2, 4, 8, 16] and best["kl"][0] == 0
    assert len({found[0]["reward"] for found in best["by"].values()}) == 1
    true = [at["reward"] for at in best["by"]["true"]]
    assert true == sorted(true) and true[-1] > true[0]
