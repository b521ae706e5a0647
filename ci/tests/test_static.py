"""The import contracts are made from the packages that are there, and they break when an import crosses a border."""

from __future__ import annotations

import os

import pytest

from checks.common import packages, run, script
from checks.static import implementation, import_contracts


def lint(workspace):
    """Whether the contracts hold, and what import-linter prints."""
    contracts = workspace / "contracts.toml"
    contracts.write_text(import_contracts(packages(workspace)), "utf-8")
    sources = [workspace / "shared" / "src", *(member.home / "src" for member in packages(workspace))]
    command = [script("lint-imports"), "--no-cache", "--no-logo", "--config", contracts]
    done = run(command, workspace, PYTHONPATH=os.pathsep.join(map(str, sources)))
    return done.returncode == 0, done.stdout + done.stderr


def test_the_implementation_is_every_module_but_those_of_reproduce(workspace):
    assert implementation(packages(workspace)[0]) == ["first_paper", "first_paper.jax", "first_paper.model"]


def test_claims_may_import_papertest(workspace):
    held, said = lint(workspace)
    assert held, said


@pytest.mark.parametrize(
    ("file", "line", "broken"),
    [
        ("packages/first-paper/src/first_paper/model.py", "import papertest", "implementation of first-paper"),
        (
            "packages/first-paper/src/first_paper/__init__.py",
            "import matplotlib.pyplot",
            "implementation of first-paper",
        ),
        ("packages/first-paper/src/first_paper/model.py", "import first_paper.reproduce.claims", "implementation"),
        ("packages/second-paper/src/second_paper/reproduce/claims.py", "import first_paper.model", "independent"),
        ("shared/src/papertest/__init__.py", "import first_paper", "papertest imports no package"),
    ],
)
def test_an_import_that_crosses_a_border_is_caught(workspace, file, line, broken):
    (workspace / file).write_text(f"{line}\n", "utf-8")
    held, said = lint(workspace)
    assert not held
    assert any("BROKEN" in text and broken in text for text in said.splitlines()), said
