"""What the trend claims stand on: the texts, the small models, and what is measured of them. All texts are made up."""

from __future__ import annotations

import itertools
import json
import math
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from papertest import texts
from papertest.claims import Run
from papertest.fixtures import on_one_thread as on_one_thread
from papertest.measure import Silent, seed_all
from papertest.mutation import Mutations

import rope.alibi
from rope.reproduce import data, models, training
from rope.reproduce.models import LanguageModel
from rope.scaling import ScaledFrequencies
from rope.tables import rope_frequencies

bench = Mutations(__file__)
ENCODINGS = ("none", "learned", "sinusoidal", "rotary", "t5", "alibi")
BOOKS = ("Genesis", "Exodus", "Proverbs", "Romans", "Job", "Acts", "Hebrews")
PLAYS = ("as-you-like-it", "macbeth", "hamlet", "the-tempest", "othello", "king-lear", "cymbeline")
CACHED = (texts.texts, data.vocabulary, data.pieces, data.characters)


def made_up(names):
    """Lines of random syllables, and in each line the name of its book or play."""
    draw = Random("".join(names))
    syllables = [a + b for a in "bcdfghjklmnpqrstvwxyz" for b in "aeiou"]
    word = lambda: "".join(draw.choices(syllables, k=draw.randint(1, 3)))  # noqa: E731
    return {name: "\n".join(" ".join([name, *(word() for _ in range(12))]) for _ in range(60)) for name in names}


@pytest.fixture
def books(monkeypatch):
    """The made-up books and plays in place of the Bible and Shakespeare."""
    monkeypatch.setattr(texts, "bible", lambda: made_up(BOOKS))
    monkeypatch.setattr(texts, "plays", lambda: made_up(PLAYS))
    for function in CACHED:
        function.cache_clear()
    yield
    for function in CACHED:
        function.cache_clear()


# ------------------------------------------------------------------------------------- texts


def test_each_book_and_play_is_in_one_part(books):
    parts = texts.texts()
    for source, names in enumerate((BOOKS, PLAYS)):
        for name in names:
            wanted = [part for part, held_out in texts.HELD_OUT.items() if name in held_out[source]] or ["train"]
            assert [part for part, text in parts.items() if f"\n{name.lower()} " in f"\n{text}"] == wanted


def test_the_parts_are_all_that_there_is_and_no_line_is_in_two(books):
    lines = {part: set(text.split("\n")) for part, text in texts.texts().items()}
    everything = [texts.clean(text) for found in (made_up(BOOKS), made_up(PLAYS)) for text in found.values()]
    assert set().union(*lines.values()) == {line for text in everything for line in text.split("\n")}
    assert not any(lines[a] & lines[b] for a, b in itertools.combinations(lines, 2))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("In the Beginning", "in the beginning"),
        ("café — Ægir’s", "cafe - gir's"),
        ("a   b \n\n  c", "a b\nc"),
        ("x\u00a0y…", "x y..."),
    ],
)
def test_clean(text, wanted):
    assert texts.clean(text) == wanted


@given(st.text())
def test_cleaned_text_has_characters_of_the_set_alone_and_stays_as_it_is(text):
    once = texts.clean(text)
    assert set(once) <= set(texts.CHARACTERS) and texts.clean(once) == once
    assert "  " not in once and "\n\n" not in once


def test_characters_give_the_text_back(books):
    assert len(set(texts.CHARACTERS)) == len(texts.CHARACTERS) == data.MASK
    assert "".join(texts.CHARACTERS[i] for i in data.characters("dev")) == texts.texts()["dev"]


def test_the_vocabulary_is_the_same_each_time_and_learnt_from_the_training_text_alone(books, monkeypatch):
    first = data.vocabulary().to_str()
    found = dict(texts.texts())
    monkeypatch.setattr(data, "texts", lambda: found | {"dev": "quite another text", "test": "and another"})
    data.vocabulary.cache_clear()
    assert data.vocabulary().to_str() == first
    assert data.vocabulary().get_vocab_size() <= data.PIECES


def test_pieces_give_the_text_back(books):
    line = texts.texts()["test"].split("\n")[0]
    ids = data.pieces("test")[: len(data.vocabulary().encode(line).ids)]
    assert data.vocabulary().decode(ids.tolist()) == line
    assert int(data.pieces("train").max()) < data.PIECES


@given(st.integers(2, 200), st.integers(1, 20), st.integers(1, 300))
def test_windows_predict_each_token_once(count, length, most):
    found = data.windows(torch.arange(count), length, most)
    assert found.shape == (min(most, count - 1) // length, length + 1)
    assert found[:, 1:].flatten().tolist() == list(range(1, 1 + found.shape[0] * length))
    assert torch.equal(found[:, :-1] + 1, found[:, 1:])


def test_draws_are_windows_and_reach_both_ends():
    found = data.draw(torch.arange(6), 3, 200, torch.Generator().manual_seed(0))
    assert set(map(tuple, found.tolist())) == {(0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5)}
    assert torch.equal(found, data.draw(torch.arange(6), 3, 200, torch.Generator().manual_seed(0)))


# ------------------------------------------------------------------------------------- models


def model(positions, seed=0, **more):
    torch.manual_seed(seed)
    return LanguageModel(20, positions, 4, length=12, **more).eval()


@pytest.fixture
def ids():
    return torch.randint(20, (2, 12), generator=torch.Generator().manual_seed(0))


def test_one_seed_gives_all_encodings_the_same_weights_and_another_seed_others():
    plain = model("none").state_dict()
    for positions in ENCODINGS:
        found = model(positions).state_dict()
        assert {name for name in found if name not in plain} <= {"learned.weight", "t5.weight"}
        assert all(torch.equal(found[name], weight) for name, weight in plain.items())
    assert not torch.equal(model("none", seed=1).tokens.weight, plain["tokens.weight"])


def without_positions(positions, monkeypatch):
    """A model whose encoding is there and does nothing."""
    found = model(positions)
    if positions == "rotary":
        found.scaled = ScaledFrequencies(torch.zeros(16, dtype=torch.float64))
    for module in (found.learned, found.t5):
        if module is not None:
            module.weight.data.zero_()
    nothing = lambda seq, d: torch.zeros(seq, d)  # noqa: E731
    monkeypatch.setattr(models, "sinusoidal_encoding", nothing)
    monkeypatch.setattr(rope.alibi, "alibi_slopes", lambda heads: torch.zeros(heads, dtype=torch.float64))
    return found


@pytest.mark.parametrize("positions", ENCODINGS[1:])
def test_models_differ_in_their_positions_alone(positions, ids, monkeypatch):
    plain = model("none")(ids)
    assert (model(positions)(ids) - plain).abs().max() > 1e-3
    torch.testing.assert_close(without_positions(positions, monkeypatch)(ids), plain, rtol=0, atol=1e-5)


KINDS = [*((positions, False) for positions in ENCODINGS), *((positions, True) for positions in ("none", "rotary"))]


@pytest.mark.parametrize(("positions", "linear"), KINDS)
def test_a_causal_model_sees_no_later_token_and_another_does(positions, linear, ids):
    other = ids.clone()
    other[:, 7] = (other[:, 7] + 1) % 20
    for causal in (True, False):
        found = model(positions, causal=causal, linear=linear)
        changed = (found(ids) - found(other)).abs().amax((0, 2))
        assert bool((changed[:7] < 1e-5).all()) == causal
        assert (changed[7:] > 1e-5).all()


def test_scaled_frequencies_are_those_that_queries_and_keys_turn_by(ids, monkeypatch):
    asked = []

    def rotated(x, **setting):
        asked.append(setting)
        return apply_rope(x, **setting)

    apply_rope = models.apply_rope
    monkeypatch.setattr(models, "apply_rope", rotated)
    found = model("rotary")
    plain = found(ids)
    found.scaled = ScaledFrequencies(rope_frequencies(32) / 4, 1.5)
    longer = found(ids)
    assert len(asked) == 8 and (plain - longer).abs().max() > 1e-3
    for setting, (theta, factor) in zip(asked, 4 * [(1, 1.0)] + 4 * [(4, 1.5)], strict=True):
        assert torch.equal(setting["frequencies"], rope_frequencies(32) / theta)
        assert setting["attention_factor"] == factor


def test_an_attention_factor_multiplies_queries_and_keys(ids):
    turned = model("rotary")
    turned.scaled = ScaledFrequencies(torch.zeros(16, dtype=torch.float64), 1.5)
    plain = model("none")
    for layer in plain.layers:
        layer.attention.qkv.weight.data[: 2 * models.D_MODEL] *= 1.5
    torch.testing.assert_close(turned(ids), plain(ids), rtol=0, atol=1e-5)


def test_the_methods_of_a_longer_context():
    theta = rope_frequencies(128 // training.HEADS)
    found = {method: training.scaled(method, 4).frequencies for method in training.METHODS}
    assert torch.equal(found["plain"], theta)
    torch.testing.assert_close(found["linear"], theta / 4)
    for method in ("ntk", "yarn", "yarn, ramp to 4"):  # the fastest pair stays, the slowest is interpolated
        torch.testing.assert_close(found[method][[0, -1]], torch.stack((theta[0], theta[-1] / 4)), rtol=1e-3, atol=0)
    assert not torch.equal(found["yarn"], found["yarn, ramp to 4"])


# ------------------------------------------------------------------------------------- measures


class HandMade:
    """A model of 10 tokens that knows the successor of each from its `knows`-th place on, and nothing before."""

    device = torch.device("cpu")

    def __init__(self, knows):
        self.knows = knows

    def __call__(self, ids):
        right = F.one_hot((ids + 1) % 10, 10) * 100.0
        return torch.where(torch.arange(ids.shape[1])[:, None] >= self.knows, right, torch.zeros(()))


COUNTING = torch.arange(1000) % 10  # each token is the successor of the one before


def test_perplexity_of_a_model_that_knows_nothing_is_the_size_of_its_vocabulary():
    found = training.perplexities(HandMade(10**9), COUNTING, 8, [8, 16, 32], 200)
    assert found["lengths"] == [8, 16, 32]
    assert found["all"] == pytest.approx([10] * 3) and found["last"] == pytest.approx([10] * 3)


def test_perplexity_is_of_all_tokens_and_of_the_last_of_each_window():
    found = training.perplexities(HandMade(8), COUNTING, 8, [8, 16, 32], 200)
    assert found["all"] == pytest.approx([10, 10**0.5, 10**0.25])
    assert found["last"] == pytest.approx([10, 1, 1])


def test_losses_are_those_of_a_plain_computation_however_many_go_at_once(ids):
    found = model("alibi")
    with torch.no_grad():
        logits = found(ids[:, :-1]).log_softmax(-1)
    wanted = -logits.gather(-1, ids[:, 1:, None])[..., 0]
    for at_once in (1, 4096):
        torch.testing.assert_close(training.losses(found, ids, at_once), wanted, rtol=0, atol=1e-5)


def test_sliding_windows_score_the_same_tokens_at_every_length(monkeypatch):
    scored = []

    def losses(model, ids):
        scored.append(ids[:, 1:])
        return ids[:, 1:] * 0.01

    monkeypatch.setattr(training, "losses", losses)
    found = training.sliding(None, torch.arange(500), [16, 32, 64], 9)
    assert len(set(found)) == 1 and [ids.shape for ids in scored] == [(9, 16), (9, 32), (9, 64)]
    assert all(torch.equal(ids[:, -training.STRIDE :], scored[0]) for ids in scored)
    assert scored[0][[0, -1], -1].tolist() == [64, 499]  # from the first with so much before it to the last of all


def test_sliding_windows_give_every_scored_token_its_context():
    assert training.sliding(HandMade(16), COUNTING, [16, 32, 64], 9) == pytest.approx([10, 1, 1])
    assert training.sliding(HandMade(24), COUNTING, [32, 64], 9) == pytest.approx([10**0.5, 1])


def test_unigram_is_the_cross_entropy_of_the_training_frequencies():
    found = training.unigram(torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 2]), 3)  # with one more of each
    assert found == pytest.approx(-(math.log(4 / 7) + math.log(2 / 7) + math.log(1 / 7)) / 3)


def test_hidden_characters_have_bert_s_shares():
    clear = torch.randint(data.MASK, (2000, 100), generator=torch.Generator().manual_seed(1))
    shown, chosen = training.hide(clear, torch.Generator().manual_seed(0))
    assert torch.equal(shown[~chosen], clear[~chosen])
    assert chosen.float().mean().item() == pytest.approx(0.15, abs=0.005)
    masked, same = shown[chosen] == data.MASK, shown[chosen] == clear[chosen]
    assert masked.float().mean().item() == pytest.approx(0.8, abs=0.01)
    assert same.float().mean().item() == pytest.approx(0.1 + 0.1 / data.MASK, abs=0.01)
    assert shown[chosen][~masked & ~same].unique().numel() == data.MASK


def test_the_rate_rises_for_a_tenth_of_the_steps_and_falls_to_0():
    adam, schedule = training.optimiser(torch.nn.Linear(1, 1), 100)
    rates = []
    for _ in range(100):
        rates.append(adam.param_groups[0]["lr"] / training.RATE)
        adam.step()
        schedule.step()
    assert rates[:10] == pytest.approx([i / 10 for i in range(1, 11)])
    assert rates[10:] == pytest.approx([(100 - i) / 90 for i in range(10, 100)])


def test_held_out_nats_are_of_the_chosen_places_alone():
    clear = COUNTING[:60].view(6, 10)
    chosen = torch.zeros(6, 10, dtype=torch.bool)
    chosen[:, :4] = True
    found = training.held_out_nats(HandMade(2), (clear - 1) % 10, clear, chosen)  # what is seen tells what is hidden
    assert found == pytest.approx(math.log(10) / 2)


# ------------------------------------------------------------------------------------- quick runs


@pytest.fixture
def few(books, monkeypatch):
    """Runs of 8 steps, of a layer that is narrow."""
    for name, value in {"QUICK": 8, "POINTS": 2, "LONGEST": 1024}.items():
        monkeypatch.setattr(training, name, value)
    monkeypatch.setattr(models, "D_FF", 32)
    monkeypatch.setattr(models, "LAYERS", 1)


KEPT = {}


def share(run, function, args):
    """Runs each once for all tests."""
    key = (function, args, run.seed)
    if key not in KEPT:
        seed_all(run.seed)
        KEPT[key] = json.loads(json.dumps(function(run, *args), allow_nan=False))  # numbers alone
    return KEPT[key]


QUICK = ("extrapolation-learns", "order-at-16", "early-tokens", "short-against-long", "linear-gain", "masked-gain",
         "context-learns", "ntk-untrained", "yarn-untrained", "pi-tuned", "yarn-tuned-steps")  # fmt: skip


@pytest.mark.parametrize("claim", QUICK)
def test_a_quick_run_gives_what_the_claim_asks_for(claim, few):
    verdicts = ("reproduced", "not reproduced", "undecided")  # any of them, of numbers of the criterion's shape
    assert bench.verdict(claim, quick=True, share=share) in verdicts


@pytest.mark.parametrize(
    ("function", "args"),
    [(training.linear, ("rotary",)), (training.masked, ("learned", 1.0, 3e-3)), (training.causal, ("t5", 64, 4))],
)
def test_a_seed_gives_the_same_numbers_again_and_another_seed_others(function, args, few):
    def found(seed):
        seed_all(seed)
        return function(Run(seed, "cpu", True, {}, Silent().track, share), *args)

    assert found(0) == found(0) != found(1)


def test_quick_curves_have_their_points(few):
    bench.measure("masked-gain", quick=True, share=share)
    bench.measure("linear-gain", quick=True, share=share)
    curves = [found["curve"] for (function, *_), found in KEPT.items() if function.__name__ in ("linear", "masked")]
    assert len(curves) == 5
    assert all([point["step"] for point in curve] == [4, 8] for curve in curves)
