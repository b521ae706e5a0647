"""GLUE and SQuAD from published weights: the claims' own code on tiny files of the published formats, on the CPU."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from bert_cases import checkpoint, run_of
from test_squad import entry, write

from papertest.fingerprint import Sources
from papertest.package import Package

from bert.reproduce.paper import published as gpu
from bert.reproduce.paper import squad
from bert.reproduce.paper.published import TASKS, glue_examples, read_glue

SOURCES = Sources(Package.at(Path(__file__).parents[1] / "src" / "bert"))
RECORD = SOURCES.package.record
WORDS = ["good", "bad", "film", "##s", "q", "is", "w1", "w2", "w3", '"', "."]
MRPC = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"
FILES = {  # the published headers, and a row by number
    "MNLI/train": ("id\tsentence1\tsentence2\tlabel1\tgold_label", lambda i: f"{i}\tgood film\tbad\tbad\t{NLI[i % 3]}"),
    "MNLI/dev_matched": ("index\tsentence1\tsentence2\tgold_label", lambda i: f"{i}\tgood film\tbad\t{NLI[i % 3]}"),
    "QNLI/train": ("index\tquestion\tsentence\tlabel", lambda i: f"{i}\tq\tfilm\t{('not_', '')[i % 2]}entailment"),
    "QNLI/dev": ("index\tquestion\tsentence\tlabel", lambda i: f"{i}\tq\tfilm\t{('not_', '')[i % 2]}entailment"),
    "MRPC/train": ("\ufeff" + MRPC, lambda i: f"{i % 2}\t7\t8\t\"good film\tfilms are \"bad\""),
    "MRPC/dev": ("\ufeff" + MRPC, lambda i: f"{i % 2}\t7\t8\t\"good film\tfilms are \"bad\""),
    "SST-2/train": ("sentence\tlabel", lambda i: f"{('bad', 'good')[i % 2]} film\t{i % 2}"),
    "SST-2/dev": ("sentence\tlabel", lambda i: f"{('bad', 'good')[i % 2]} film\t{i % 2}"),
}  # fmt: skip
NLI = ("entailment", "neutral", "contradiction")


def reported():
    return {"fine-tuning-tasks": RECORD.reported["fine-tuning-tasks"]}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A checkpoint, GLUE and SQuAD where the environment says; the hub's libraries are not installed."""
    for name, (header, row) in FILES.items():
        file = tmp_path / "glue" / f"{name}.tsv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join([header, *map(row, range(70))]) + "\n", "utf-8")
    (tmp_path / "squad").mkdir()
    for part in ("train", "dev"):
        write(tmp_path / "squad" / f"{part}-v1.1.json", *(entry(f"w1 is w2 w{i % 3 + 1}", "w2") for i in range(18)))
    weights = checkpoint(tmp_path / "weights", WORDS, n_layers=1, hidden_size=12, max_positions=384)
    for variable, folder in (("BERT_BASE", weights), ("GLUE", tmp_path / "glue"), ("SQUAD", tmp_path / "squad")):
        monkeypatch.setenv(variable, str(folder))
    monkeypatch.setenv("PAPERTEST_CACHE", str(tmp_path / "cache"))
    for library in ("huggingface_hub", "datasets"):
        monkeypatch.setitem(sys.modules, library, None)
    return tmp_path


# ------------------------------------------------------------------------------------- the claims


def test_glue_from_files_to_scores(here):
    found = gpu.glue(run_of(reported=reported()))
    assert set(found.value) == set(RECORD.claims["glue"].accept) == set(TASKS)
    assert all(0 <= accuracy <= 100 for accuracy in found.value.values())
    assert found.details["examples"] == {name: {"train": 64, "dev": 64} for name in TASKS}
    assert not (here / "cache").exists()


def test_glue_is_learned(here, monkeypatch):
    """The one task of the four whose made-up texts tell the label, with a rate for a model so small."""
    monkeypatch.setattr(gpu, "TASKS", {"sst_2": TASKS["sst_2"]})
    monkeypatch.setattr(gpu, "_setting", lambda run, row: (8, 20, 1e-2))
    assert gpu.glue(run_of()).value == {"sst_2": 100}


def test_squad_from_files_to_scores(here):
    found = gpu.squad(run_of(reported=reported()))
    assert set(found.value) == {"em", "f1"} and 0 <= found.value["em"] <= found.value["f1"] <= 100
    assert found.details == {"questions": 16, "windows": 16}
    assert not (here / "cache").exists()


def test_a_whole_run_takes_all_examples(here, monkeypatch):
    monkeypatch.setattr(gpu, "fine_tune", lambda *args, **asked: None)
    monkeypatch.setattr(gpu, "train_spans", lambda *args, **asked: None)
    found = gpu.glue(run_of(quick=False, reported=reported()))
    assert found.details["examples"] == {name: {"train": 70, "dev": 70} for name in TASKS}
    assert gpu.squad(run_of(quick=False, reported=reported())).details == {"questions": 18, "windows": 18}


def test_settings_are_the_record_s(here, monkeypatch):
    asked = []
    for name in ("fine_tune", "train_spans"):
        monkeypatch.setattr(gpu, name, lambda model, data, **given: asked.append((type(model).__name__, given)))
    for claim in ("glue", "squad"):
        SOURCES.function(claim)(run_of(seed=5, reported=reported()))
    paper = {"batch": 32, "epochs": 3, "rate": 5e-5, "seed": 5}
    assert asked == [("BertForClassification", paper)] * 4 + [("SpanModel", paper)]
    assert gpu.LENGTHS == {"glue": 128, "squad": 384} and squad.STRIDE == 128


# ------------------------------------------------------------------------------------- the files


def test_rows_of_each_task(here):
    first = {name: read_glue(gpu.glue_data(name) / f"{task.dev}.tsv", task)[:2] for name, task in TASKS.items()}
    assert first == {
        "mnli_m": [("good film", "bad", 0), ("good film", "bad", 1)],
        "qnli": [("q", "film", 1), ("q", "film", 0)],
        "mrpc": [('"good film', 'films are "bad"', 0), ('"good film', 'films are "bad"', 1)],
        "sst_2": [("bad film", None, 0), ("good film", None, 1)],
    }


@pytest.mark.parametrize(
    ("task", "text", "what"),
    [
        ("sst_2", "sentence\tlabel\ngood\t1\nbad\t2\n", "sentence, no second and a label of 0, 1, and has '2'"),
        ("sst_2", "sentence\tlabel\ngood\t1\n\t0\n", "sentence, no second and a label of 0, 1, and has '0'"),
        ("sst_2", "sentence\tlabel\ngood\t1\nbad\n", "sentence, no second and a label of 0, 1, and has None"),
        ("qnli", "question\tsentence\tlabel\nq\ta\tentailment\nq\t\tentailment\n",
         "question, sentence and a label of entailment, not_entailment, and has 'entailment'"),
    ],
    ids=["label", "no text", "no label", "no second"],
)  # fmt: skip
def test_a_row_that_is_none_is_named(task, text, what, tmp_path):
    file = tmp_path / "dev.tsv"
    file.write_text(text, "utf-8")
    with pytest.raises(ValueError, match=f"^{re.escape(f'row 3 of dev.tsv should have {what}')}$"):
        read_glue(file, TASKS[task])


def test_a_file_with_other_columns_is_named(tmp_path):
    (tmp_path / "dev.tsv").write_text("text\tlabel\ngood\t1\n", "utf-8")
    with pytest.raises(ValueError, match=r"^row 2 of dev\.tsv should have sentence"):
        read_glue(tmp_path / "dev.tsv", TASKS["sst_2"])


def test_examples_are_cut_at_the_end_of_the_longer_sentence(here):
    tokens = gpu.tokenizer(here / "weights")
    good, bad = 5, 6
    (pair,) = glue_examples([("good " * 100, "bad " * 40, 2)], tokens)
    assert pair.ids == [2, *[good] * 85, 3, *[bad] * 40, 3] and pair.types == [0] * 87 + [1] * 41 and pair.label == 2
    (pair,) = glue_examples([("good " * 100, "bad " * 90, 0)], tokens)
    assert (pair.ids.count(good), pair.ids.count(bad)) == (62, 63)
    (one,) = glue_examples([("good " * 200, None, 1)], tokens)
    assert one.ids == [2, *[good] * 126, 3] and one.types == [0] * 128
    assert glue_examples([("Films", "", 0)], tokens)[0].ids == [2, 7, 8, 3, 3]  # film ##s, and an empty second


def test_a_vocabulary_without_cls_is_named(here):
    (here / "weights" / "vocab.txt").write_text("[PAD]\n[UNK]\n[SEP]\ngood\n", "utf-8")
    with pytest.raises(ValueError, match=r"\[CLS\] and \[SEP\]"):
        gpu.glue(run_of(reported=reported()))


# ------------------------------------------------------------------------------------- the hub


def hub(monkeypatch, broken=None):
    """A library `datasets` that has two rows a part, and cannot fetch the part `broken`."""
    asked = []

    def load_dataset(*names, split):
        asked.append((*names, split))
        if split == broken:
            raise ConnectionError
        if names[0] == "rajpurkar/squad":
            answers = {"text": ["w2", "is w2"], "answer_start": [6, 3]}
            return [{"id": f"{split}{i}", "question": "q", "context": "w1 is w2", "answers": answers} for i in range(2)]
        texts = ("premise", "hypothesis", "question", "sentence", "sentence1", "sentence2")
        return [{name: f"{split}\t{name}\n{i}" for name in texts} | {"label": 1 - i} for i in range(2)]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    return asked


@pytest.mark.parametrize("name", TASKS)
def test_the_hub_s_glue_is_read_as_the_published_files(name, here, monkeypatch):
    monkeypatch.delenv("GLUE")
    asked, task = hub(monkeypatch), TASKS[name]
    rows = read_glue(gpu.glue_data(name) / f"{task.dev}.tsv", task)
    dev = "validation_matched" if name == "mnli_m" else "validation"
    assert asked == [("nyu-mll/glue", task.hub, "train"), ("nyu-mll/glue", task.hub, dev)]
    column = {"mnli_m": "premise", "qnli": "question", "mrpc": "sentence1", "sst_2": "sentence"}[name]
    assert [(first, label) for first, _, label in rows] == [(f"{dev} {column} {i}", 1 - i) for i in range(2)]
    gpu.glue_data(name)
    assert len(asked) == 2


def test_the_hub_s_squad_is_read_as_the_published_files(here, monkeypatch):
    monkeypatch.delenv("SQUAD")
    asked = hub(monkeypatch)
    found = gpu.squad(run_of(reported=reported()))
    assert asked == [("rajpurkar/squad", "train"), ("rajpurkar/squad", "validation")]
    assert found.details == {"questions": 2, "windows": 2}
    (first, second) = squad.read_squad(here / "cache" / "squad-1.1" / "dev-v1.1.json")
    assert first == squad.Question("validation0", "q", "w1 is w2", ["w2", "is w2"], 6) and second.id == "validation1"


def test_the_hub_s_weights_are_copied_once(here, monkeypatch):
    source = gpu.weights()
    monkeypatch.delenv("BERT_BASE")
    asked = []

    def hf_hub_download(repository, name):
        asked.append((repository, name))
        return source / name

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(hf_hub_download=hf_hub_download))
    folder = gpu.weights()
    assert gpu.weights() == folder == here / "cache" / "bert-base-uncased"
    assert asked == [(gpu.WEIGHTS, name) for name in ("model.safetensors", "config.json", "vocab.txt")]
    assert all((folder / name).read_bytes() == (source / name).read_bytes() for _, name in asked)


def test_half_of_the_data_is_not_taken_for_all(here, monkeypatch):
    monkeypatch.delenv("GLUE")
    hub(monkeypatch, broken="validation")
    with pytest.raises(ConnectionError):
        gpu.glue_data("qnli")
    asked = hub(monkeypatch)
    assert (gpu.glue_data("qnli") / "dev.tsv").exists() and len(asked) == 2
    assert [path.name for path in (here / "cache").iterdir()] == ["glue-qnli"]


@pytest.mark.parametrize(
    ("variable", "claim", "name", "library"),
    [
        ("BERT_BASE", "glue", "bert-base-uncased", "huggingface_hub"),
        ("GLUE", "glue", "glue-mnli", "datasets"),
        ("SQUAD", "squad", "squad-1.1", "datasets"),
    ],
)
def test_without_data_the_error_says_what_to_do(variable, claim, name, library, here, monkeypatch):
    monkeypatch.delenv(variable)
    message = f"{name} is not here: set {variable} to its folder, or install the library `{library}`, which fetches it"
    with pytest.raises(RuntimeError, match=f"^{re.escape(message)}$"):
        SOURCES.function(claim)(run_of(reported=reported()))
