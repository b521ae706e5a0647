"""The command `ci/check`: what it lists, what it refuses, and what it says of a check that fails."""

from __future__ import annotations

import sys
from pathlib import Path
from subprocess import CompletedProcess

import nbformat
import pytest

from checks import notebooks, verdicts
from checks.common import Member, packages, run

CHECK = Path(verdicts.__file__).parent.parent / "check"


def ci_check(*options):
    return run([sys.executable, CHECK, *options], CHECK.parent)


def test_list_says_what_each_check_holds():
    listed = ci_check("--list")
    names = [line.split()[0] for line in listed.stdout.splitlines()]
    assert listed.returncode == 0
    assert names == ["workspace", "static", "lock", "verdicts", "notebooks", "scripts", "alone"]


def test_an_unknown_check_is_refused_with_the_known_ones():
    refused = ci_check("--only", "locks")
    assert refused.returncode == 2
    assert "locks" in refused.stderr
    assert "lock, verdicts" in refused.stderr


def test_a_verdict_that_differs_is_told_with_its_numbers_and_the_cure(workspace, monkeypatch):
    claims = """[
        {"id": "a", "where": "Table 1", "verdict": "reproduced", "recorded_verdict": "reproduced",
         "measured": 1, "reported": 1},
        {"id": "b", "where": "Table 2", "verdict": "not reproduced", "recorded_verdict": "reproduced",
         "measured": 3, "reported": 2}]"""
    monkeypatch.setattr(verdicts, "run", lambda *_: CompletedProcess([], 1, claims, ""))
    (problem,) = verdicts.exact(Member(workspace / "packages" / "first-paper"))
    assert "b (Table 2) is recorded as reproduced, recomputed it is not reproduced (measured 3, the paper 2)" in problem
    assert "--only b --record" in problem


def test_claims_that_cannot_be_recomputed_are_a_problem(workspace, monkeypatch):
    monkeypatch.setattr(verdicts, "run", lambda *_: CompletedProcess([], 2, "", "papers/first-paper.toml: not TOML"))
    (problem,) = verdicts.exact(Member(workspace / "packages" / "first-paper"))
    assert "not TOML" in problem


def test_results_without_a_problem_print_no_line(monkeypatch):
    """An empty line was once taken for a problem without words."""
    monkeypatch.setattr(verdicts, "HOLD", verdicts.HOLD.replace("check.problems(", "(lambda _: [])("))
    assert verdicts.kept(packages(CHECK.parent.parent)[0]) == []
    monkeypatch.setattr(verdicts, "HOLD", verdicts.HOLD.replace("[])(", "['one', 'two'])("))
    assert verdicts.kept(packages(CHECK.parent.parent)[0]) == ["one", "two"]


@pytest.mark.parametrize(("cell", "problems"), [("1 + 1", 0), ("1 / 0", 1)])
def test_a_notebook_that_fails_is_a_problem(tmp_path, cell, problems):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = tmp_path / "packages" / "first-paper" / "notebooks" / "walkthrough.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(notebook, path)
    assert len(notebooks.check(tmp_path)) == problems
