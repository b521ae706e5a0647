"""The command `ci/check`: what it lists, what it refuses, and what it says of a check that fails."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
import pytest

from checks import notebooks, verdicts
from checks.common import run

CHECK = Path(verdicts.__file__).parent.parent / "check"


def ci_check(*options):
    return run([sys.executable, CHECK, *options], CHECK.parent)


def test_list_says_what_each_check_holds():
    listed = ci_check("--list")
    names = [line.split()[0] for line in listed.stdout.splitlines()]
    assert listed.returncode == 0
    assert all(len(line) < 140 for line in listed.stdout.splitlines())
    assert names == ["workspace", "static", "lock", "verdicts", "notebooks", "scripts", "paper", "alone"]


def test_an_unknown_check_is_refused_with_the_known_ones():
    refused = ci_check("--only", "locks")
    assert refused.returncode == 2
    assert "locks" in refused.stderr
    assert "lock, verdicts" in refused.stderr


@pytest.mark.parametrize(
    ("cell", "stored", "problems"), [("print(2)", "2\n", 0), ("1 / 0", "", 1), ("print(2)", "3\n", 1)]
)
def test_a_notebook_that_fails_or_has_another_output_is_a_problem(tmp_path, cell, stored, problems):
    outputs = [nbformat.v4.new_output("stream", text=stored)] if stored else []
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell, outputs=outputs, execution_count=1)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = tmp_path / "packages" / "first-paper" / "notebooks" / "walkthrough.ipynb"
    path.parent.mkdir(parents=True)
    for name in (path, path.with_suffix(".zh-CN.ipynb")):  # the second has the same code, and is not run
        nbformat.write(notebook, name)
    assert len(notebooks.check(tmp_path)) == problems
