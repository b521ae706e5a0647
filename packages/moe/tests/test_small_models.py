"""The small models behind the trend claims, on made-up text: what they read, how they learn, and what is measured."""

from __future__ import annotations

import json
import math
from random import Random

import pytest
import torch
import torch.nn.functional as F

from papertest import texts
from papertest.claims import Run
from papertest.measure import Silent, seed_all

from moe.reproduce import data, models, training
from moe.reproduce.models import ARMS, LENGTH, Arm, LanguageModel
from moe.reproduce.speech import PARTS, lexicon, parts_told, speech, words
from moe.reproduce.training import evaluate, objective, routing, share_told, trained

SENTENCE = "the a king spake unto him and his servants went into house of lord , . ; so they"
CACHED = (texts.texts, data.vocabulary, data.pieces, data.kinds)


def a_text(seed, words):
    draw = Random(seed)
    return "\n".join(" ".join(draw.choices(SENTENCE.split(), k=20)) for _ in range(words // 20))


@pytest.fixture(autouse=True, scope="module")
def made_up_text():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "texts", lambda: {"train": a_text(0, 20_000), "test": a_text(1, 8000)})
        for each in CACHED[1:]:
            each.cache_clear()
        yield
    for each in CACHED[1:]:
        each.cache_clear()


def run_of(seed):
    return Run(seed, "cpu", True, {}, Silent().track, lambda run, function, args: function(run, *args))


def train(name, seed=0):
    seed_all(seed)
    return trained(run_of(seed), name)


def model_of(arm, seed=0):
    seed_all(seed)
    return LanguageModel(data.PIECES, arm)


def windows(count=70):
    return data.windows(data.pieces("test"), LENGTH, count * LENGTH)


# ------------------------------------------------------------------------------------- the text


def test_held_out_parts_share_no_book_and_no_play():
    for one, other in zip(texts.HELD_OUT["dev"], texts.HELD_OUT["test"], strict=True):
        assert not set(one) & set(other)


def test_kinds_of_pieces():
    pieces = {",": "mark", "▁": "mark", "▁;": "mark", "▁the": "function", "▁unto": "function", "▁king": "start",
              "the": "inside", "s": "inside", "▁th": "start", "1": "inside"}  # fmt: skip
    assert {piece: data.kind(piece) for piece in pieces} == pieces
    names = data.vocabulary().get_vocab()
    assert data.KINDS[data.kinds()[names["▁the"]]] == "function" and data.KINDS[data.kinds()[names[","]]] == "mark"


def test_text_is_cleaned():
    assert texts.clean("He said—“Élan’s”\n\n  it") == "he said-elan's\nit"


def test_windows_follow_each_other():
    found = data.windows(torch.arange(100), 8, 64)
    assert found.shape == (8, 9) and found[:, 0].tolist() == list(range(0, 64, 8))
    assert (found[1:, 0] == found[:-1, -1]).all()


# ------------------------------------------------------------------------------------- the models


@pytest.mark.parametrize("name", ARMS)
def test_all_arms_of_a_seed_start_from_the_same_weights(name):
    dense, other = (dict(model_of(arm).named_parameters()) for arm in (ARMS["dense"], ARMS[name]))
    shared = [n for n in dense if not n.startswith("ff")]
    assert len(shared) == 16 and all(torch.equal(dense[n], other[n]) for n in shared)


@pytest.mark.parametrize("name", ["dense", "switch-16", "fine-shared", "noisy-balanced"])
def test_no_place_sees_a_later_one(name):
    model, ids = model_of(ARMS[name]).eval(), torch.randint(20, (2, LENGTH))
    changed = ids.clone()
    changed[:, 20:] = (changed[:, 20:] + 1) % 20
    before, after = (model(x)[0].detach() for x in (ids, changed))
    assert torch.allclose(before[:, :20], after[:, :20], atol=1e-5)
    assert not torch.allclose(before[:, 20:], after[:, 20:], atol=1e-5)


def test_the_loss_has_each_layers_own_balancing_losses():
    ids = windows(4)
    for arm in (Arm(8, alpha=0.5), Arm(8, k=2, gate="noisy_topk", weight=0.25)):
        model = model_of(arm)
        logits, infos = model(ids[:, :-1])
        assert len(infos) == models.LAYERS
        plain = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        added = sum(arm.alpha * x.balance_loss + arm.weight * (x.importance_loss + x.load_loss) for x in infos)
        assert objective(logits, infos, ids[:, 1:], arm).item() == pytest.approx((plain + added).item())
        assert objective(logits, infos, ids[:, 1:], Arm(8)).item() == pytest.approx(plain.item())


# ------------------------------------------------------------------------------------- the measures


def test_held_out_nats_are_of_all_tokens_and_the_routing_is_of_the_inputs():
    model, ids = model_of(ARMS["switch-4"]), windows()
    nats, routed = evaluate(model, ids)
    assert model.training and not any(ff.gate._forward_hooks for ff in model.ff)
    model.eval()
    logits, infos = model(ids[:, :-1])
    assert nats == pytest.approx(F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).item(), rel=1e-5)
    for (importance, experts), info in zip(routed, infos, strict=True):
        assert torch.allclose(importance, info.importance, rtol=1e-4)
        assert torch.equal(torch.bincount(experts.flatten(), minlength=4), info.counts)


def test_even_and_collapsed_routing():
    inputs = torch.arange(64).view(4, 16) % len(data.kinds())
    even = routing(torch.ones(4), (torch.arange(64) % 4)[:, None], inputs)
    assert even["cv_load"] == 0 and even["max_over_mean"] == 1 and even["unused"] == 0
    assert even["repeats"] == {"next": 0, "random": 0.25}
    one = routing(torch.tensor([4.0, 0, 0, 0]), torch.zeros(64, 1, dtype=torch.long), inputs)
    assert one["cv_importance"] == pytest.approx(math.sqrt(3)) and one["max_over_mean"] == 4 and one["unused"] == 3
    assert one["repeats"] == {"next": 1, "random": 1} and one["kinds"]["told"] == pytest.approx(0, abs=1e-12)


def test_what_an_expert_tells_of_a_kind():
    kinds = torch.tensor([0, 0, 1, 1]).repeat(50)
    assert share_told(kinds + 3, kinds) == pytest.approx(1)
    assert share_told(torch.tensor([0, 1]).repeat(100), kinds) == pytest.approx(0, abs=1e-12)
    assert share_told(torch.tensor([0, 0, 1, 2]).repeat(50), kinds) == pytest.approx(1)
    half = share_told(torch.tensor([0, 0, 0, 1]).repeat(50), kinds)  # H(K) − 3/4 H(1/3)
    assert half == pytest.approx(1 - 0.75 * -(math.log2(1 / 3) / 3 + 2 / 3 * math.log2(2 / 3)))


def test_experts_that_follow_pieces_tell_kinds_no_better_than_other_properties_of_pieces():
    inputs = data.pieces("test")[:4096].view(-1, 16)
    follow_kinds = routing(torch.ones(4), data.kinds()[inputs].flatten()[:, None], inputs)["kinds"]
    assert follow_kinds["told"] == pytest.approx(1) and follow_kinds["pieces"] < 0.7 and follow_kinds["tokens"] < 0.05
    follow_pieces = routing(torch.ones(len(data.kinds())), inputs.flatten()[:, None], inputs)["kinds"]
    assert follow_pieces["told"] == pytest.approx(1) and follow_pieces["pieces"] == pytest.approx(1)


def test_words_are_what_a_space_is_before():
    pieces = ["ing", "▁the", "▁k", "ing", ",", "▁'", "▁o'", "er", "▁lord", ".", "and"]
    assert words(pieces) == [(1, "the"), (2, "king"), (6, "o"), (8, "lord")]


def test_the_lexicon_knows_parts_of_speech():
    parts, known = list(PARTS), lexicon()
    said = {
        "king": "noun",
        "said": "verb",
        "the": "determiner",
        "of": "preposition",
        "thou": "pronoun",
        "and": "conjunction",
    }
    assert {word: parts[known[word]] for word in said} == said
    assert "God" not in known and "," not in known


def test_what_an_expert_tells_of_a_part_of_speech():
    parts = {f"word{i}": i % 4 for i in range(200)}
    read = torch.randint(len(parts), (4000,), generator=torch.Generator().manual_seed(0))
    names, places = [f"word{i}" for i in read.tolist()], torch.arange(1, 4001)
    follow_parts = parts_told(torch.cat([torch.zeros(1).long(), read % 4]), places, names, parts)
    assert follow_parts["told"] == pytest.approx(1) and max(follow_parts["tokens"], follow_parts["words"]) < 0.1
    follow_words = parts_told(torch.cat([torch.zeros(1).long(), read]), places, names, parts)
    assert follow_words["told"] == pytest.approx(1) and follow_words["words"] == pytest.approx(1)


def test_parts_of_speech_are_told_of_the_model_that_is_trained_elsewhere():
    seed_all(0)
    found = speech(run_of(0), "switch-16")
    assert json.loads(json.dumps(found)) == found
    assert found["nats"] == train("switch-16")["nats"] and len(found["layers"]) == models.LAYERS
    assert sum(sum(expert["parts"]) for expert in found["experts"]) == found["words"]


# ------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("name", ["dense", "switch-16", "capacity-1.0", "noisy-balanced", "fine-shared"])
def test_a_model_learns_and_its_numbers_are_json(name):
    found = train(name)
    assert json.loads(json.dumps(found)) == found
    assert [point["step"] for point in found["curve"]] == list(range(1, training.QUICK + 1))
    assert found["nats"] < found["curve"][0]["nats"] - 0.5 and found["curve"][-1]["nats"] == found["nats"]
    assert found["unigram"] < math.log(data.PIECES)
    assert len(found["layers"]) == (0 if name == "dense" else models.LAYERS)
    assert set(found["dropped"]) == (set() if name == "dense" else {"first", "last"})
    if name != "dense":
        assert (found["dropped"]["last"] > 0) == (ARMS[name].capacity is not None)


def test_a_seed_repeats_and_another_differs():
    assert train("switch-4", 1) == train("switch-4", 1) != train("switch-4", 2)
