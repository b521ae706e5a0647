"""The command `scoreboard`: the README's numbers, one line per paper at every width, also beside a broken one."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import typer
from rich.cells import cell_len
from typer.testing import CliRunner

from papertest import scoreboard, tables

LONG = "Attention Is All You Need, and a Subtitle of Ninety Cells So That a Narrow Terminal Cannot Hold It"
app = typer.Typer()
app.command()(scoreboard.command)


@pytest.fixture
def checkout(recorded_toy, tmp_path, monkeypatch) -> Path:
    """The recorded toy, and beside it a package with another title and nothing measured."""
    root = tmp_path / "checkout"
    shutil.copytree(recorded_toy.root, root)
    shutil.copytree(root / "packages" / "toy", root / "packages" / "other")
    (root / "packages" / "other" / "src" / "toy").rename(root / "packages" / "other" / "src" / "other")
    shutil.rmtree(root / "packages" / "other" / "results")
    record = (root / "papers" / "toy.toml").read_text("utf-8")
    (root / "papers" / "other.toml").write_text(record.replace('title = "A Toy"', f'title = "{LONG}"'), "utf-8")
    monkeypatch.chdir(root / "packages" / "toy")
    return root


def run(*arguments, width=80):
    return CliRunner(env={"COLUMNS": str(width)}).invoke(app, arguments)


@pytest.mark.parametrize("width", [80, 100, 200])
def test_one_line_per_paper_with_the_numbers_of_the_readme(checkout, width):
    done = run(width=width)
    head, other, toy, *legend = done.stdout.splitlines()
    assert done.exit_code == 0
    assert head.split() == ["paper", "✓", "✗", "?", "–", "sums", "ours"]
    assert all(cell_len(line) <= width for line in (head, other, toy, *legend))
    rows = tables.scoreboard(tables.packages_of(checkout), "en").splitlines()[2:]
    for line, row in zip((other, toy), rows, strict=True):
        assert re.split(r"\s{2,}", line)[1:] == row.strip("| ").split(" | ")[1:]
    assert toy.startswith("toy: A Toy (2020)  ")
    assert other.startswith(f"other: {LONG} (2020)  " if width == 200 else "other: Attention Is All You Need, ")
    assert ("…" in other) == (width < 200)
    assert "✗ not reproduced" in legend[0]


def test_columns_stand_below_each_other(checkout):
    lines = run().stdout.splitlines()[:3]
    assert len({cell_len(line) for line in lines}) == 1


def test_json(checkout):
    other, toy = json.loads(run("--json").stdout)
    assert other["verdicts"] == {"reproduced": 0, "not reproduced": 0, "undecided": 0, "not run": 0}
    assert (other["title"], other["printed"]) == (LONG, {"add_up": 0, "of": 0})
    assert toy == {
        "package": "toy", "record": "toy", "title": "A Toy", "year": 2020, "link": "https://arxiv.org/abs/2001.00001",
        "verdicts": {"reproduced": 6, "not reproduced": 0, "undecided": 0, "not run": 1},
        "printed": {"add_up": 1, "of": 1}, "ours": {"held": 1, "of": 1},
    }  # fmt: skip


def test_a_record_that_cannot_be_read_is_told_and_hides_no_other(checkout):
    (checkout / "papers" / "other.toml").write_text("[paper]\n", "utf-8")
    done = run()
    assert done.exit_code == 2
    assert [line.split(":")[0] for line in done.stdout.splitlines()][1:2] == ["toy"]
    assert done.stderr.startswith("scoreboard: papers/other.toml: [paper] lacks the key `title`")


def test_outside_of_a_checkout_it_says_where_to_run_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run()
    assert (done.exit_code, done.stdout) == (2, "")
    assert "run it in a checkout of the repository" in done.stderr
