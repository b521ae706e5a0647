"""The table of results on the terminal: whole ids, one place, a few numbers, at every usual width."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from papertest import store
from papertest.package import Package
from papertest.screen import Terminal, counterpart, place, short
from papertest.store import Result, Sample

RECORD = """
[paper]
title = "A Paper"
authors = ["A. Author"]
year = 2021
arxiv = "2101.00001"
bibtex = "@misc{x}"

[reported.ratios]
where = "Abstract; Sections 1 and 4; Appendix E"
what = "Ratios."
what_zh = "比值。"
value = { speed_of_large = 3.5, memory = 20, length = 4, other = 7 }
unit = "1"
setting = "none"

[reported.table]
where = "Table 1 (Figure 3, left)"
what = "A table."
what_zh = "表。"
value = { memory = [111, 222, 333, 444, 555], flops = [1, 2] }
unit = "GB"
setting = "none"

[claims.ratios-follow-from-table]
what = "The ratios that the text states follow from the table."
what_zh = "正文的比值可由表得出。"
reports = ["ratios", "table"]
tier = "exact"
accept = { speed_of_large = { at_least = 3.5 }, memory = { at_least = 20 }, length = { at_least = 4 } }
why = "It is printed."
"""
CLAIM = "ratios-follow-from-table"


@pytest.fixture
def package(tmp_path: Path) -> Package:
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "a-paper.toml").write_text(RECORD, "utf-8")
    return Package("a-paper", tmp_path / "packages" / "a-paper" / "src" / "a_paper", tmp_path)


def judged(package: Package, value: Any) -> Result:
    sample = Sample(claim=CLAIM, seed=0, device="cpu", quick=False, fingerprint="0", value=value, details={},
                    seconds=1, machine="a machine", versions={}, shared=[])  # fmt: skip
    return store.result(package, CLAIM, [sample])


def terminal(width: int) -> Terminal:
    made = Terminal()
    made.out = Console(width=width, color_system=None)
    return made


@pytest.mark.parametrize("width", [80, 100, 160])
def test_results_are_readable_at_every_width(package: Package, capsys: pytest.CaptureFixture[str], width: int) -> None:
    result = judged(package, {"speed_of_large": 3.519, "memory": 19.5, "length": 4.0})
    known = judged(package, {"speed_of_large": 3.52, "memory": 20.0, "length": 4.0})
    terminal(width).verdicts(package, {CLAIM: result}, {CLAIM: known}, quick=False)
    table = capsys.readouterr().out.split(f"\n{CLAIM}: ")[0]
    lines = table.splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) <= 12
    assert CLAIM in table
    assert "Abstract, and 3 more" in table
    assert all(number in table for number in ("3.5", "3.519", "19.5", "20"))
    assert "111" not in table
    assert "recorded: reproduced" in table or width == 80
    assert "✗ not reproduced" in table or width == 80


def test_what_is_reported_is_what_the_measured_names_stand_for(package: Package) -> None:
    result = judged(package, {"speed_of_large": 3.519, "memory": 19.5, "length": 4.0})
    accept = package.record.claims[CLAIM].accept
    expected = {"speed_of_large": 3.5, "memory": 20, "length": 4}
    assert counterpart(result, accept) == (expected, None, False)
    assert counterpart(store.not_run(package, CLAIM, "no GPU", "0"), accept) == (expected, None, False)
    unnamed = result.model_copy(update={"value": 1.0})
    assert counterpart(unnamed, None) == (package.record.reported["ratios"].value, None, True)


@pytest.mark.parametrize(
    ("value", "interval", "shown"),
    [
        (None, None, "–"), (2.5, None, "2.5"), ([1, 2, 3], None, "1 2 3"), ([1, 2, 3, 4], None, "1 … 4"),
        ({"a": 1, "b": 2}, None, "a 1, b 2"), ({"a": 1, "b": 2, "c": 3, "d": 4}, None, "a 1, b 2, c 3 …"),
        (2.0, {"": [(1.75, 2.25)]}, "2 [1.75, 2.25]"),
    ],
)  # fmt: skip
def test_short(value: Any, interval: Any, shown: str) -> None:
    assert short(value, interval) == shown


def test_place() -> None:
    assert place("Theorem 1") == "Theorem 1"
    assert place("Theorem 1; Table 2; Table 2; Table 3") == "Theorem 1, and 2 more"


@pytest.mark.parametrize("width", [80, 160])
def test_the_list_shows_whole_ids(package: Package, capsys: pytest.CaptureFixture[str], width: int) -> None:
    terminal(width).claims(package, [CLAIM])
    out = capsys.readouterr().out
    assert CLAIM in out
    assert "exact" in out
    assert max(map(len, out.splitlines())) <= width
