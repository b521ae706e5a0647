"""The trainings behind the trend claims, on a made-up corpus: what they learn from, and what they measure."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import asdict

import pytest
import torch

from papertest import counting
from papertest.claims import Run
from papertest.measure import Silent, seed_all

from transformer.model import Transformer
from transformer.reproduce import training
from transformer.reproduce.data.corpus import Corpus, Pair
from transformer.reproduce.data.tokens import EOS, PAD, Vocabulary
from transformer.reproduce.models import Recurrent
from transformer.reproduce.training import BASE, SHOWN, VARIANTS, build, corpus, scores, translate

VERBS = {"Open": "öffnen", "Close": "schließen", "Delete": "löschen", "Save": "speichern", "Print": "drucken"}
NOUNS = {"file": "Datei", "window": "Fenster", "page": "Seite", "list": "Liste", "image": "Bild", "text": "Text"}
ENDS = {
    "": "",
    " now": " jetzt",
    " again": " wieder",
    " and go on": " und weiter",
    " one two three four five six": " x",
}


def catalogues(language):
    """150 pairs, of which 30 are longer than 8 words."""
    made = [
        Pair(f"{v} the {n}{e}", f"{NOUNS[n]} {VERBS[v]}{ENDS[e]}", "made up")
        for v, n, e in itertools.product(VERBS, NOUNS, ENDS)
    ]
    return Corpus(made[:110], made[110:130], made[130:], language)


@pytest.fixture(autouse=True, scope="module")
def made_up_corpus():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "catalogues", catalogues)
        patch.setattr(training, "PAIRS", 40)
        corpus.cache_clear()
        yield
    corpus.cache_clear()


def run_of(seed, quick=True):
    return Run(seed, "cpu", quick, {}, Silent().track, lambda run, function, args: function(run, *args))


def train(name, seed=0, quick=True, **options):
    seed_all(seed)
    return training.train(run_of(seed, quick), name, **options)


# ------------------------------------------------------------------------------------- the corpus


@pytest.mark.parametrize("language", ["de", "zh"])
def test_pairs_are_short_and_no_others_are_left_out(language):
    full, (short, _) = catalogues(language), corpus(language)
    assert short.language == language
    for part in ("train", "dev", "test"):
        kept = [pair for pair in getattr(full, part) if len(pair.source.split()) <= 8]
        assert getattr(short, part) == kept and len(kept) < len(getattr(full, part))


def test_vocabulary_is_made_from_training_pairs_alone(monkeypatch):
    seen = []

    def from_texts(texts, size):
        seen.extend(texts)
        return Vocabulary.train(seen, size)

    monkeypatch.setattr(training, "Vocabulary", type("", (), {"train": staticmethod(from_texts)}))
    short, _ = corpus.__wrapped__("de")
    assert sorted(seen) == sorted(text for pair in short.train for text in (pair.source, pair.target))


def test_models_have_a_row_for_every_token():
    for name in VARIANTS | SHOWN:
        language = "zh" if name == "Chinese" else "de"
        assert build(name).config.vocab_size == training.VOCABULARY[language] >= len(corpus(language)[1])


# ------------------------------------------------------------------------------------- the experiments


def changes(name):
    config, base = (asdict(build(n).config) for n in (name, "base"))
    return {key: value for key, value in config.items() if value != base[key]}


@pytest.mark.parametrize("name", [*VARIANTS, *SHOWN])
def test_an_experiment_changes_what_it_says_and_no_more(name):
    said = (VARIANTS | SHOWN)[name]
    assert changes(name) == {key: value for key, value in said.items() if value != asdict(BASE)[key]}
    assert type(build(name)) is (Recurrent if name == "recurrent" else Transformer)


def test_the_base_model_is_the_record_s():
    config = build("base").config
    assert (config.n_layers, config.d_model, config.d_ff, config.n_heads) == (2, 64, 4 * 64, 4)
    assert (config.d_k, config.d_v, config.dropout, config.label_smoothing) == (None, None, 0.1, 0.1)
    assert (config.positions, config.norm) == ("sinusoidal", "post")


def test_variations_are_those_of_table_3():
    """One head is as costly as four; small keys leave the values; a narrow model has small keys and values too."""
    shapes = {name: build(name).encoder[0].self_attention for name in ("base", "one head", "small keys", "narrow")}
    sizes = {name: [tuple(w.weight.shape) for w in (x.W_K, x.W_V)] for name, x in shapes.items()}
    assert sizes["one head"] == sizes["base"] == [(64, 64), (64, 64)]
    assert sizes["small keys"] == [(4 * 4, 64), (64, 64)]
    assert sizes["narrow"] == [(32, 32), (32, 32)] and build("narrow").config.d_ff == 256


def test_the_recurrent_model_is_as_large_as_the_base_model():
    base, recurrent = (counting.parameters(build(name)) for name in ("base", "recurrent"))
    assert 0.9 < recurrent / base < 1.1


# ------------------------------------------------------------------------------------- training


@pytest.fixture(scope="module")
def base():
    return train("base")


def test_a_seed_gives_the_same_numbers_and_another_does_not(base):
    assert train("base") == base
    assert train("base", seed=1)["perplexity"] != base["perplexity"]


def test_a_training_measures_what_the_claims_read(base):
    assert set(base) == {"perplexity", "accuracy", "curve", "greedy", "beam", "averaged"}
    assert json.loads(json.dumps(base)) == base
    assert [point["step"] for point in base["curve"]] == [8, 16, 24, 32, 40]
    first, last = base["curve"][0], base["curve"][-1]
    assert last["perplexity"] < 0.6 * first["perplexity"] and last["loss"] < first["loss"]
    assert 1 < base["perplexity"] < first["perplexity"] and base["averaged"] != base["perplexity"]
    assert 0 <= base["accuracy"] <= 100 and 0 <= base["greedy"] <= 100 and 0 <= base["beam"] <= 100


@pytest.mark.parametrize(
    ("name", "more"),
    [("one head", set()), ("no smoothing", {"beam"}), ("recurrent", set()), ("Chinese", {"beam", "shown"})],
)
def test_the_others_measure_less(name, more):
    assert set(train(name)) == {"perplexity", "accuracy", "curve", "greedy"} | more


@pytest.fixture
def watched(monkeypatch):
    """The batches that an experiment is given, not learned from; the model's weights are the step's number."""
    given = []

    def steps(name, model):
        def step(batch):
            given.append(batch)
            with torch.no_grad():
                model.tokens.weight.fill_(len(given))
            return 0.0

        return step

    monkeypatch.setattr(training, "steps", steps)
    return given


def test_two_experiments_of_a_seed_see_the_same_batches_in_the_same_order(watched):
    seen = []
    for name, seed in (("base", 0), ("narrow", 0), ("recurrent", 0), ("base", 1)):
        watched.clear()
        train(name, seed)
        seen.append([(src.tolist(), tgt.tolist()) for src, tgt in watched])
    assert len(seen[0]) == training.QUICK and seen[0] == seen[1] == seen[2] != seen[3]


def test_five_checkpoints_of_the_last_quarter_are_averaged(watched, monkeypatch):
    kept = []

    def average(checkpoints):
        kept.extend(float(checkpoint["tokens.weight"][0, 0]) for checkpoint in checkpoints)
        return checkpoints[0]

    monkeypatch.setattr(training, "average_checkpoints", average)
    found = train("base", quick=False)
    assert len(watched) == 1500 and kept == [1200, 1275, 1350, 1425, 1500]
    assert [point["step"] for point in found["curve"]] == [300, 600, 900, 1200, 1500]


def test_a_count_of_steps_is_what_is_trained(watched):
    found = train("recurrent", quick=False, count=450)
    assert len(watched) == 450 and [point["step"] for point in found["curve"]] == [90, 180, 270, 360, 450]


def test_shown_models_learn_from_all_pairs_and_the_others_from_some(watched, monkeypatch):
    learned, batches = [], training.batches

    def counted(pairs, tokens, seed):
        learned.append((len(pairs), tokens, seed))
        return batches(pairs, tokens, seed)

    monkeypatch.setattr(training, "batches", counted)
    for name in ("base", "one head", "German"):
        train(name, seed=2)
    assert learned == [(40, 500, 2), (40, 500, 2), (len(corpus("de")[0].train), 500, 2)]


@pytest.mark.parametrize(("name", "rate"), [("base", training.RATE), ("recurrent", training.RECURRENT_RATE)])
def test_a_step_is_the_paper_s_with_its_own_rate(name, rate, monkeypatch):
    """Adam at `rate` times Eq. 3, and the smoothed loss of the real tokens."""
    asked, adam = [], training.adam

    def watched_adam(*args):
        asked.append(args[1:])
        return adam(*args)

    monkeypatch.setattr(training, "adam", watched_adam)
    torch.manual_seed(0)
    model = build(name).eval()
    batch = torch.tensor([[5, 6, EOS], [7, EOS, PAD]]), torch.tensor([[1, 8, 9, EOS], [1, 4, EOS, PAD]])
    rows = []
    for src, tgt in zip(*batch, strict=True):
        real = tgt[tgt != PAD]
        source = src[src != PAD][None]
        logs = model.project(model.decode(real[None, :-1], *model.encode(source)))[0].log_softmax(-1)
        rows += (0.9 * logs[range(len(real) - 1), real[1:]] + 0.1 * logs.mean(-1)).tolist()
    loss = training.steps(name, model)(batch)
    assert loss == pytest.approx(-sum(rows) / 5, rel=1e-4) and len(rows) == 5
    assert asked == [(64, 300, rate)]


# ------------------------------------------------------------------------------------- scores


@pytest.fixture
def model(seed):
    return build("base")


def test_perplexity_of_a_uniform_model_is_the_size_of_its_vocabulary(model):
    with torch.no_grad():
        model.tokens.weight.zero_()
    found = scores(model, training.encode(corpus("de")[1], corpus("de")[0].test))
    assert found["perplexity"] == pytest.approx(BASE.vocab_size, rel=1e-5) and found["accuracy"] == 0


def test_scores_are_those_of_a_plain_computation(model):
    pairs = training.encode(corpus("de")[1], corpus("de")[0].test)
    found = scores(model, pairs)
    model.eval()
    nats, right, total = 0.0, 0, 0
    for source, target in pairs:
        with torch.no_grad():
            logits = model(torch.tensor([[*source, EOS]]), torch.tensor([[1, *target]]))[0]
        for row, token in zip(logits, [*target, EOS], strict=True):
            nats -= float(row.log_softmax(-1)[token])
            right += int(row.argmax()) == token
            total += 1
    assert found["perplexity"] == pytest.approx(math.exp(nats / total), rel=1e-4)
    assert found["accuracy"] == pytest.approx(100 * right / total)


def test_scoring_leaves_the_model_in_training(model):
    pairs, vocabulary = corpus("de")
    scores(model, training.encode(vocabulary, pairs.test))
    translate(model, vocabulary, pairs.test[:2], training.greedy_search)
    assert model.training


def test_translations_come_in_the_order_of_the_pairs(model):
    pairs, vocabulary = corpus("de")
    asked = []

    def echo(model, src, *, bos, eos, extra):
        assert not model.training
        asked.append((bos, eos, extra))
        return [[token for token in row.tolist() if token not in (PAD, EOS)] for row in src]

    many = pairs.train + pairs.train[::-1]  # more than fit in one batch
    assert translate(model, vocabulary, many, echo) == [pair.source for pair in many]
    assert asked == [(1, EOS, training.EXTRA)] * math.ceil(len(many) / 100) and len(asked) > 1


@pytest.mark.parametrize(("language", "text"), [("de", "Die Datei {} löschen?"), ("zh", "删除文件，然后继续")])
def test_bleu_of_the_references_is_100(language, text):
    pairs = [Pair("Delete it", text, ""), Pair("Once more", text + " " + text, "")]
    assert training.bleu(language, pairs, [pair.target for pair in pairs]) == pytest.approx(100)
    assert training.bleu(language, pairs, [pair.source for pair in pairs]) < 5


def test_bleu_of_chinese_is_by_the_character():
    pairs = [Pair("", "删除文件然后继续工作", "")]
    nearly = ["删除文件然后继续工厂"]
    assert training.bleu("zh", pairs, nearly) > 80 > 20 > training.bleu("de", pairs, nearly)


def test_ten_held_out_sentences_are_shown_and_where_the_decoder_looked(model):
    pairs, vocabulary = corpus("de")
    found = training.shown(model, vocabulary, pairs.test)
    rows = {(pair.source, pair.target) for pair in pairs.test}
    assert len(found["translations"]) == 10 and model.training
    assert {(row["source"], row["reference"]) for row in found["translations"]} <= rows
    seen = found["map"]
    assert "".join(seen["source"][:-1]) == pairs.test[0].source.replace(" ", "") and seen["source"][-1] == "⟨end⟩"
    assert len(seen["weights"]) == len(seen["target"]) and {len(row) for row in seen["weights"]} == {
        len(seen["source"])
    }
    assert all(sum(row) == pytest.approx(1, abs=1e-3) for row in seen["weights"])
    assert json.loads(json.dumps(found)) == found
