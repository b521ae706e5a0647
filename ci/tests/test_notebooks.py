"""The notebooks in two languages: what is copied, what is kept, and that each difference is refused by name."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import nbformat
import pytest

import notebooks_zh
from checks.notebooks import apart
from notebooks_zh import differences, merged, pairs, read, untranslated

ROOT = Path(__file__).resolve().parents[2]
NAME = "packages/first-paper/notebooks/walkthrough.zh-CN.ipynb"


def english_one():
    cells = [
        nbformat.v4.new_markdown_cell("# A sum", id="title"),
        nbformat.v4.new_code_cell(
            "1 + 1", id="sum", outputs=[nbformat.v4.new_output("execute_result", {"text/plain": "2"})]
        ),
        nbformat.v4.new_markdown_cell("It is two.", id="said"),
        nbformat.v4.new_code_cell("2 + 2", id="more"),
    ]
    return json.loads(nbformat.writes(nbformat.v4.new_notebook(cells=cells)))


def chinese_one():
    notebook = english_one()
    for cell, text in zip(notebook["cells"][::2], ("# 求和", "结果是二。"), strict=True):
        cell["source"] = [text]
    return notebook


@pytest.fixture
def both(tmp_path):
    """A checkout with one notebook in both languages, and a function that writes a changed Chinese one."""
    home = tmp_path / "packages" / "first-paper" / "notebooks"
    home.mkdir(parents=True)
    (home / "walkthrough.ipynb").write_text(json.dumps(english_one()), "utf-8")
    (tmp_path / NAME).write_text(json.dumps(chinese_one(), ensure_ascii=False), "utf-8")
    return tmp_path


def change_code(notebook):
    notebook["cells"][1]["source"] = ["1 + 2"]


def change_output(notebook):
    notebook["cells"][1]["outputs"][0]["data"]["text/plain"] = ["3"]


def drop_output(notebook):
    notebook["cells"][1]["outputs"] = []


def drop_cell(notebook):
    del notebook["cells"][1]


def add_cell(notebook):
    notebook["cells"].append(notebook["cells"][1] | {"id": "own"})


def repeat_cell(notebook):
    notebook["cells"].append(notebook["cells"][3])


def swap_cells(notebook):
    cells = notebook["cells"]
    cells[1], cells[3] = cells[3], cells[1]


def make_code_of_text(notebook):
    notebook["cells"][2]["cell_type"] = "code"


def tag(notebook):
    notebook["cells"][1]["metadata"] = {"tags": ["own"]}


def name_kernel(notebook):
    notebook["metadata"]["kernelspec"] = {"name": "other"}


def leave_english(notebook):
    notebook["cells"][2]["source"] = english_one()["cells"][2]["source"]


CHANGES = {
    change_code: "sum differs in its code",
    change_output: "sum differs in its outputs",
    drop_output: "sum differs in its outputs",
    drop_cell: "sum is missing",
    add_cell: "own is not in the English notebook",
    repeat_cell: "more stands where the English notebook has its end",
    swap_cells: "more stands where the English notebook has sum",
    make_code_of_text: "said differs in its type",
    tag: "sum differs in its metadata",
    name_kernel: "the notebook's own metadata differ",
    leave_english: "said has no Chinese: translate it",
}


def test_notebooks_in_step_pass(both):
    assert apart(both) == []


@pytest.mark.parametrize("change", CHANGES)
def test_a_difference_is_refused_with_notebook_and_cell(both, change):
    notebook = chinese_one()
    change(notebook)
    (both / NAME).write_text(json.dumps(notebook, ensure_ascii=False), "utf-8")
    (problem,) = apart(both)
    assert problem.startswith(f"{NAME}: {CHANGES[change]}")


@pytest.mark.parametrize("change", [change for change in CHANGES if change is not leave_english])
def test_the_command_puts_every_difference_right_and_keeps_the_text(change):
    notebook = chinese_one()
    change(notebook)
    assert differences(english_one(), merged(english_one(), notebook)) == []
    kept = merged(english_one(), notebook)["cells"]
    assert kept[0]["source"] == ["# 求和"]
    assert (kept[2]["source"] == ["结果是二。"]) is (change is not make_code_of_text)


def test_a_new_cell_of_text_waits_for_its_translation():
    english = english_one()
    english["cells"].insert(2, english["cells"][2] | {"id": "new"})
    notebook = merged(english, chinese_one())
    assert differences(english, notebook) == []
    assert untranslated(notebook) == ["new"]
    assert untranslated(merged(english, None)) == ["title", "new", "said"]


def test_one_of_the_two_that_is_not_there_is_refused(both):
    chinese = both / NAME
    chinese.rename(chinese.with_name("other.zh-CN.ipynb"))
    other, missing = apart(both)
    assert other.startswith("packages/first-paper/notebooks/other.zh-CN.ipynb has no English notebook")
    assert missing.startswith(f"{NAME} is not there")


def test_the_command_writes_what_is_not_in_step_alone(both, monkeypatch, capsys):
    monkeypatch.setattr(notebooks_zh, "ROOT", both)
    monkeypatch.setattr("sys.argv", ["notebooks_zh.py"])
    before = (both / NAME).read_bytes()
    assert notebooks_zh.main() == 0
    assert (both / NAME).read_bytes() == before
    assert capsys.readouterr().out == f"{NAME}: in step\n"
    notebook = chinese_one()
    change_code(notebook)
    (both / NAME).write_text(json.dumps(notebook), "utf-8")
    assert notebooks_zh.main() == 0
    assert capsys.readouterr().out == f"{NAME}: brought in step\n"
    assert read(both / NAME) == chinese_one()
    assert "求和" in (both / NAME).read_text("utf-8")
    (both / NAME).unlink()
    assert notebooks_zh.main() == 0
    assert capsys.readouterr().out == f"{NAME}: translate title, said\n"
    monkeypatch.setattr("sys.argv", ["notebooks_zh.py", "third-paper"])
    assert notebooks_zh.main() == 2


def test_the_template_makes_both_in_step():
    (home,) = (ROOT / "ci" / "template" / "packages").glob("*/notebooks")
    english, chinese = (read(home / f"walkthrough{suffix}.jinja") for suffix in (".ipynb", notebooks_zh.SUFFIX))
    assert differences(english, chinese) == untranslated(chinese) == []
    assert all(cell["outputs"] for cell in english["cells"] if cell["cell_type"] == "code")


def test_our_notebooks_are_in_step():
    assert len(pairs(ROOT)) >= 7
    assert apart(ROOT) == []
    english, chinese = (read(path) for path in pairs(ROOT)[0])
    changed = copy.deepcopy(chinese)
    next(cell for cell in changed["cells"] if cell["cell_type"] == "code")["source"].append("# ours")
    assert len(differences(english, changed)) == 1
