"""`python -m bert.reproduce.classify` saves a model, and `python -m bert.predict` reads it: the same labels."""

from __future__ import annotations

import io
import json
import re
import sys

import pytest
from bert_cases import checkpoint
from tokenizers import Tokenizer, processors

from bert import BertForClassification, load_pretrained, predict, save_pretrained
from bert.reproduce import classify
from bert.reproduce.data.sets import LABELLED, Labelled
from bert.reproduce.paper import published
from bert.reproduce.training import finetuning, minilm

WORDS = ["good", "bad", "film", "it", "is", "a", "not", "##s", ".", "très"]
TEXTS = [(f"{'it is ' * (i % 3)}a {('bad', 'good', 'not')[i % 3]} film{'s' * (i % 2)}.", i % 3) for i in range(90)]
LABELS = ["negative", "positive", "né pas"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A tiny model in MiniLM's place."""
    return checkpoint(tmp_path_factory.mktemp("weights"), WORDS)


@pytest.fixture
def little(weights, monkeypatch):
    tokens: Tokenizer = published.tokenizer(weights)
    tokens.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    monkeypatch.setattr(minilm, "tokenizer", lambda: tokens)
    monkeypatch.setattr(classify, "minilm", lambda: weights)
    monkeypatch.setattr(classify, "RATE", 5e-3)  # MiniLM's would teach so small a model nothing
    monkeypatch.setattr(classify, "labelled", lambda name: Labelled(TEXTS[:70], [], TEXTS[70:], LABELS, ""))
    return weights


def test_a_saved_model_predicts_what_was_scored(little, tmp_path, monkeypatch):
    found = []

    def watched(model, examples):
        found.extend(finetuning.predict(model, examples))
        return found

    monkeypatch.setattr(classify, "predict", watched)
    scores = classify.classify("movie_sentences", tmp_path / "model", epochs=8)
    wanted = [label for _, label in TEXTS[70:]]
    assert scores == {
        "accuracy": finetuning.accuracy(found, wanted), "macro_f1": finetuning.macro_f1(found, wanted),
    }  # fmt: skip
    assert scores["accuracy"] > 90
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert names == {"model.safetensors", "config.json", "vocab.txt", "labels.json"}
    told = list(predict.predict(tmp_path / "model", [text for text, _ in TEXTS[70:]]))
    assert [label for label, _ in told] == [LABELS[i] for i in found]
    assert all(1 / 3 < probability <= 1 for _, probability in told)


def test_the_seed_and_the_limit_decide(little, tmp_path):
    def saved(name, **options):
        classify.classify("movie_sentences", tmp_path / name, epochs=1, **options)
        return (tmp_path / name / "model.safetensors").read_bytes()

    first = saved("a", limit=20)
    assert first == saved("b", limit=20)
    assert first != saved("c", limit=20, seed=1) and first != saved("d", limit=21)
    assert first != saved("e", limit=20, tokens=4)


def model(folder, little, labels=LABELS):
    """What classify saves, without training."""
    save_pretrained(BertForClassification(load_pretrained(little), len(LABELS)).eval(), folder)
    (folder / "vocab.txt").write_bytes((little / "vocab.txt").read_bytes())
    (folder / "labels.json").write_text(json.dumps(labels), "utf-8")
    return folder


def test_predictions_are_made_in_batches_and_no_later_than_asked(little, tmp_path, monkeypatch):
    folder = model(tmp_path, little)
    texts = [text for text, _ in TEXTS[:70]]
    monkeypatch.setattr(predict, "BATCH", 1)
    alone = list(predict.predict(folder, texts))
    monkeypatch.setattr(predict, "BATCH", 32)
    together = list(predict.predict(folder, texts))
    assert [label for label, _ in alone] == [label for label, _ in together]
    assert [p for _, p in alone] == pytest.approx([p for _, p in together], abs=1e-5)
    read = []

    def lines():
        for text in texts:
            read.append(text)
            yield text

    next(predict.predict(folder, lines()))
    assert len(read) == 32
    assert list(predict.predict(folder, [])) == []


def test_what_has_no_prediction_is_refused(little, tmp_path):
    """One string for many texts, a limit that is none, labels that are no list, and weights that give no number."""
    folder = model(tmp_path, little)
    for texts, limit, message in (
        ("good film", None, "texts must be several strings, got 'good film'"),
        ([3], None, "texts must be a list of strings"),
        (["good"], 0, "max_tokens must be at least 2, got 0"),
        (["good"], 9.0, "max_tokens must be a whole number, got 9.0"),
        (["good"], 65, "max_tokens must be at most the model's 64, got 65"),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            list(predict.predict(folder, texts, max_tokens=limit))
    broken = load_pretrained(folder, BertForClassification)
    broken.bert.pooler.weight.data[0, 0] = float("nan")
    save_pretrained(broken, folder)
    with pytest.raises(ValueError, match="gives logits that are not finite"):
        list(predict.predict(folder, ["good"]))
    (folder / "labels.json").write_text('"abc"', "utf-8")
    with pytest.raises(ValueError, match="must be a list of strings$"):
        list(predict.predict(folder, ["good"]))


def test_long_texts_are_cut(little, tmp_path):
    folder = model(tmp_path, little)
    short, long, cut = predict.predict(folder, ["good " * 62, "good " * 62 + "bad " * 300, "good " * 1000])
    assert short == long == cut
    first, second = predict.predict(folder, ["good film", "good bad bad bad"], max_tokens=3)
    assert first == second


# ------------------------------------------------------------------------------------- the commands


def run(monkeypatch, capsys, main, arguments, text=""):
    """Exit code, standard output and standard error."""
    monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code
    return code, *capsys.readouterr()


def test_the_commands(little, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "model"
    code, out, _ = run(monkeypatch, capsys, classify.main, ["movie_sentences", folder, "--epochs", 1, "--limit", 12])
    assert code == 0 and re.fullmatch(r"accuracy: \d+\.\d\d %\nmacro_f1: \d+\.\d\d %\n", out)
    code, out, err = run(monkeypatch, capsys, predict.main, [folder], "a good film\n\nit is bad")
    told = list(predict.predict(folder, ["a good film", "", "it is bad"]))
    assert (code, err) == (0, "") and out == "".join(f"{label}\t{p:.3f}\n" for label, p in told)


def test_options_reach_the_training(little, monkeypatch, capsys, tmp_path):
    asked = []
    monkeypatch.setattr(classify, "classify", lambda *given, **options: asked.append((given, options)) or {})
    run(monkeypatch, capsys, classify.main, ["reuters52", tmp_path, "--epochs", 5, "--tokens", 40])
    assert asked == [(("reuters52", str(tmp_path)), {"epochs": 5, "limit": None, "tokens": 40})]


def test_an_unknown_set_is_refused_and_the_known_ones_named(monkeypatch, capsys):
    code, _, err = run(monkeypatch, capsys, classify.main, ["imdb", "folder"])
    assert code == 2 and all(name in err.splitlines()[-1] for name in ("imdb", *LABELLED))


BROKEN = {
    "nothing given": ([], "usage: python -m bert.predict FOLDER < texts, one a line"),
    "too much": (["a", "b"], "usage: python -m bert.predict FOLDER < texts, one a line"),
    "no folder": (["nowhere"], r"bert\.predict: there is no checkpoint nowhere: path must be a folder with .*"),
}


@pytest.mark.parametrize(("arguments", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_wrong_use_is_one_line(arguments, message, monkeypatch, capsys):
    code, out, err = run(monkeypatch, capsys, predict.main, arguments)
    assert (code, out) == (2, "") and re.fullmatch(message + "\n", err)


def cut_short(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100])


SPOILT = {
    "labels": (lambda folder: (folder / "labels.json").write_text('["a", "b"]'),
               r".*labels\.json must name 3 labels, and names 2"),
    "labels cut short": (lambda folder: (folder / "labels.json").write_text('["a", "b'), ".*"),
    "no labels": (lambda folder: (folder / "labels.json").unlink(), r".*labels\.json.*"),
    "vocabulary": (lambda folder: (folder / "vocab.txt").write_text("good\nbad\n"), r"vocab must have \[PAD\].*"),
    "weights": (cut_short, r".*model\.safetensors is cut short or no safetensors file: .*"),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "message"), SPOILT.values(), ids=SPOILT.keys())
def test_a_folder_that_does_not_fit_is_one_line(spoil, message, little, tmp_path, monkeypatch, capsys):
    spoil(model(tmp_path, little))
    code, out, err = run(monkeypatch, capsys, predict.main, [tmp_path], "a film\n")
    assert (code, out) == (2, "") and re.fullmatch(rf"bert\.predict: {message}\n", err)


@pytest.mark.parametrize(
    ("option", "value", "accepted"),
    [("--epochs", "0", "at least 1"), ("--limit", "0", "at least 1"), ("--tokens", "513", "from 3 to 512"),
     ("--tokens", "2", "from 3 to 512")],
)  # fmt: skip
def test_an_option_out_of_range_is_named(option, value, accepted, monkeypatch, capsys):
    code, out, err = run(monkeypatch, capsys, classify.main, ["movie_sentences", "folder", option, value])
    assert (code, out) == (2, "") and err.endswith(f"{option} must be {accepted}, got {value}\n")
