"""The paper's own scale, with a tiny model and sixty made-up sentences in WMT14's place."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from papertest.claims import Run
from papertest.measure import Silent, seed_all
from papertest.package import Package

from transformer.config import TransformerConfig
from transformer.model import Transformer
from transformer.reproduce import paper
from transformer.reproduce.data.corpus import Pair, wmt14
from transformer.reproduce.data.tokens import BOS, EOS, PAD, Vocabulary

RECORD = Package.at(Path(__file__).parents[1] / "src" / "transformer").record
REPORTED = {name: entry.value for name, entry in RECORD.reported.items()}
NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
ZAHLEN = ["eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn"]
PARTS = {"train": range(60), "newstest2013": range(60, 65), "newstest2014": range(65, 75)}


def sentence(words, i):
    return f"{words[i % 10]}, {words[i // 10]}-{words[i % 7]} {words[i % 3]} {words[i % 4]}."


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The layout of WMT14; what is kept goes to a cache of its own."""
    monkeypatch.setenv("PAPERTEST_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("WMT14", raising=False)
    made = tmp_path / "wmt14"
    made.mkdir()
    for name, which in PARTS.items():
        for side, words in (("en", NUMBERS), ("de", ZAHLEN), ("fr", ZAHLEN)):
            (made / f"{name}.{side}").write_text("".join(sentence(words, i) + "\n" for i in which), "utf-8")
    return made


silent = Silent().track


def run_of(seed=0, device="cpu", track=silent):
    return Run(seed, device, True, {}, track, lambda run, function, args: function(run, *args))


def train(folder, size="base", seed=0, **options):
    seed_all(seed)
    return paper.train(run_of(seed, **options), size, "de", folder)


def kept(folder, name="wmt14-en-de-base-0-quick"):
    return {path.name for path in (folder.parent / "cache" / name).iterdir()}


# ------------------------------------------------------------------------------------- training


def test_a_training_is_scored_and_keeps_its_last_checkpoints(folder, monkeypatch):
    averaged, average = [], paper.average_checkpoints

    def watched(checkpoints):
        averaged.append(len(checkpoints))
        return average(checkpoints)

    monkeypatch.setattr(paper, "average_checkpoints", watched)
    found = train(folder)
    assert set(found) == {"tokenised", "sacrebleu"} and all(0 <= bleu <= 100 for bleu in found.values())
    assert kept(folder) == {"vocabulary.json", "step-000015.pt", "step-000020.pt"} and averaged == [2]


def test_sizes_and_seeds_are_kept_apart(folder):
    train(folder)
    train(folder, "big", seed=1)
    assert kept(folder, "wmt14-en-de-big-1-quick") == kept(folder)


class Interrupted:
    """Shows no progress, remembers the steps that were begun, and is interrupted at one of them."""

    def __init__(self, at=None):
        self.at, self.steps = at, []

    def track(self, items, total, what):
        for item in items:
            if what.startswith("WMT14"):
                if item == self.at:
                    raise KeyboardInterrupt
                self.steps.append(item)
            yield item


def test_an_interrupted_training_is_gone_on_from_its_last_checkpoint(folder):
    first, second, third = Interrupted(at=13), Interrupted(), Interrupted()
    with pytest.raises(KeyboardInterrupt):
        train(folder, track=first.track)
    assert first.steps == list(range(1, 13))
    assert kept(folder) == {"vocabulary.json", "step-000005.pt", "step-000010.pt"}
    found = train(folder, track=second.track)
    assert second.steps == list(range(11, 21))
    last = torch.load(folder.parent / "cache" / "wmt14-en-de-base-0-quick" / "step-000020.pt")
    assert last["done"] == last["schedule"]["last_epoch"] == 20
    assert {float(state["step"]) for state in last["optimizer"]["state"].values()} == {20.0}
    assert train(folder, track=third.track) == found and third.steps == []  # and one that is done, from its end


def test_a_checkpoint_that_was_being_written_is_passed_over(folder, monkeypatch):
    save = torch.save

    def cut_off(state, path):
        path.write_bytes(b"half")
        if state["done"] == 15:
            raise KeyboardInterrupt
        save(state, path)

    monkeypatch.setattr(torch, "save", cut_off)
    with pytest.raises(KeyboardInterrupt):
        train(folder)
    monkeypatch.setattr(torch, "save", save)
    again = Interrupted()
    train(folder, track=again.track)
    assert again.steps == list(range(11, 21))
    assert kept(folder) == {"vocabulary.json", "step-000015.pt", "step-000020.pt"}


def tiny():
    return TransformerConfig(vocab_size=20, n_layers=1, d_model=8, d_ff=16, n_heads=2)


def stepper(seed):
    torch.manual_seed(seed)
    return paper.stepper(Transformer(tiny()), "cpu")


def after(step, count):
    """The weights after so many steps more, dropout and batches from a seed."""
    torch.manual_seed(5)
    for _ in range(count):
        src, tgt = torch.randint(3, 20, (4, 5)), torch.randint(3, 20, (4, 6))
        tgt[0, 4:] = PAD
        step((src, tgt))
    return {name: tensor.clone() for name, tensor in step.model.state_dict().items()}


def test_a_stepper_goes_on_from_its_state():
    """Weights, both moments of Adam and the place in the schedule."""
    first, second = stepper(0), stepper(1)
    after(first, 3)
    file = io.BytesIO()
    torch.save(first.state(3), file)
    file.seek(0)
    assert second.load(torch.load(file)) == 3
    expected, found = after(first, 3), after(second, 3)
    assert expected.keys() == found.keys() and all(expected[name].equal(found[name]) for name in expected)


def test_a_step_has_the_schedule_of_the_model_s_width():
    step = stepper(0)
    after(step, 1)
    assert step.optimizer.param_groups[0]["lr"] == pytest.approx(8**-0.5 * 2 * 4000**-1.5)
    assert step.criterion.smoothing == 0.1


def test_long_sentences_are_left_out_and_no_token_is_lost():
    vocabulary = Vocabulary.train(NUMBERS, 300)
    long, short = Pair("one " * 400, "eins", ""), Pair("two three", "zwei drei", "")
    ((source, target),) = paper.encode(vocabulary, [long, short, Pair("eins", "one " * 400, "")])
    assert vocabulary.decode([list(source), list(target)]) == ["two three", "zwei drei"]
    assert max(paper.VOCABULARIES.values()) < 2 ** (8 * source.itemsize)


def test_encoding_goes_on_past_ten_thousand_pairs():
    vocabulary = Vocabulary.train(NUMBERS, 300)
    many = [Pair(NUMBERS[i % 10], ZAHLEN[i % 10], "") for i in range(10_003)]
    found = paper.encode(vocabulary, many)
    assert len(found) == len(many) and list(found[-1][0]) == vocabulary.encode(["three"])[0]


# ------------------------------------------------------------------------------------- scores


def test_translations_that_are_the_references_score_100(folder, monkeypatch):
    """Sixty-four and more, so that there are two batches, and the order counts."""
    pairs = wmt14(folder, "de").train * 2
    vocabulary = Vocabulary.train([pair.target for pair in pairs], 300)
    answers = {tuple(vocabulary.encode([pair.source])[0]): vocabulary.encode([pair.target])[0] for pair in pairs}

    def known(model, src, *, bos, eos, extra):
        assert (bos, eos) == (BOS, EOS)
        return [answers[tuple(t for t in row.tolist() if t not in (PAD, EOS))] for row in src]

    monkeypatch.setattr(paper, "beam_search", known)
    scores = paper.score(None, vocabulary, pairs, run_of())
    assert scores == {"tokenised": pytest.approx(100), "sacrebleu": pytest.approx(100)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a well-known word.", "a well ##AT##-##AT## known word ."),
        ("a - b -c d- -", "a - b -c d- -"),
        ("one-by-one", "one ##AT##-##AT## by ##AT##-##AT## one"),
        ("plain text", "plain text"),
    ],
)
def test_split_compounds(text, expected):
    assert paper.split_compounds(text) == expected


def test_compounds_that_are_split_score_more():
    """A half-right compound is half right."""
    outputs, references = ["the well-known man is here today"], ["the little-known man is here today"]
    whole = paper.sacrebleu.corpus_bleu(outputs, [references], tokenize="none").score
    halves = [[paper.split_compounds(x) for x in side] for side in (outputs, references)]
    assert paper.sacrebleu.corpus_bleu(halves[0], [halves[1]], tokenize="none").score > whole


# ------------------------------------------------------------------------------------- settings


def test_settings_are_the_record_s():
    assert {size: setting["steps"] for size, setting in paper.SETTINGS.items()} == REPORTED["steps"]
    assert {size: setting["averaged"] for size, setting in paper.SETTINGS.items()} == REPORTED["averaging"]
    data = REPORTED["data"]
    assert {language: data[f"en_{language}_vocabulary"] for language in ("de", "fr")} == paper.VOCABULARIES
    assert REPORTED["batch"] == {"source": paper.TOKENS, "target": paper.TOKENS}


@pytest.mark.parametrize("size", paper.SETTINGS)
def test_checkpoints_are_ten_minutes_apart(size):
    assert paper.SETTINGS[size]["every"] * REPORTED["step-time"][size] == 600


@pytest.mark.parametrize("language", ["de", "fr"])
def test_models_are_the_paper_s(language):
    found = REPORTED["regularization"]
    big = found["big_en_fr_dropout" if language == "fr" else "big_dropout"]
    for size, dropout, shape in (("base", found["base_dropout"], (512, 2048, 8)), ("big", big, (1024, 4096, 16))):
        config = paper.config(size, language)
        assert (config.d_model, config.d_ff, config.n_heads) == shape
        assert (config.n_layers, config.dropout, config.label_smoothing) == (6, dropout, found["label_smoothing"])
        assert config.vocab_size == paper.VOCABULARIES[language]


# ------------------------------------------------------------------------------------- the data


def hub(monkeypatch, broken=None):
    """A library `datasets` that has three rows a part, and cannot fetch the part `broken`."""
    asked = []

    def load_dataset(name, setting, split):
        asked.append((name, setting, split))
        if split == broken:
            raise ConnectionError
        return [{"translation": {"en": f"{split}\n{i}", setting[:2]: f"{split} \u2028{i}"}} for i in range(3)]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    return asked


def test_a_folder_is_named_by_the_environment(folder, monkeypatch):
    monkeypatch.setenv("WMT14", str(folder))
    assert paper.data("de") == paper.data("fr") == folder


@pytest.mark.parametrize("language", ["de", "fr"])
def test_the_hub_is_asked_once(folder, monkeypatch, language):
    asked = hub(monkeypatch)
    found = wmt14(paper.data(language), language)
    assert asked == [("wmt/wmt14", f"{language}-en", part) for part in ("train", "validation", "test")]
    assert [(pair.source, pair.target) for pair in found.dev] == [
        (f"validation {i}", f"validation \u2028{i}") for i in range(3)
    ]
    assert (found.train[0].source, found.test[2].source) == ("train 0", "test 2")
    paper.data(language)
    assert len(asked) == 3


def test_half_of_the_data_is_not_taken_for_all(folder, monkeypatch):
    hub(monkeypatch, broken="test")
    with pytest.raises(ConnectionError):
        paper.data("de")
    asked = hub(monkeypatch)
    assert len(wmt14(paper.data("de"), "de").test) == 3 and len(asked) == 3


def test_without_data_the_error_says_what_to_do(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        RuntimeError, match=r"set WMT14 to a folder .* \.en and \.fr; or install the library `datasets`"
    ):
        paper.data("fr")


@pytest.mark.gpu
def test_a_training_on_the_gpu(folder):
    found = train(folder, device="cuda")
    assert set(found) == {"tokenised", "sacrebleu"}
    assert train(folder, device="cuda") == found
