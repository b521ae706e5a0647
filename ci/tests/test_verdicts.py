"""The check `verdicts` on a small package with a history: in order it passes, and each thing that breaks is told."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from checks import verdicts
from checks.common import Member, run

RECORD = """
[paper]
title = "A Tiny Paper"
authors = ["A. Author"]
year = 2020
url = "https://example.org/tiny"
bibtex = "@misc{tiny}"

[reported.circle]
where = "Equation 1"
what = "The area of the unit circle."
what_zh = "单位圆的面积。"
value = 3.14
unit = "1"
setting = "none"

[claims.circle]
title = "The unit circle's area"
title_zh = "单位圆的面积"
what = "The area is the paper's."
what_zh = "面积等于论文的值。"
reports = ["circle"]
tier = "exact"
unit = "1"
paper = { area = "{circle}" }
accept.area = { digits = 2 }
accept.error = { at_most = 1e-5 }
accept.residual = { between = [-1e-4, 1e-4] }
accept.share = { at_most = 2 }
rounding = ["share"]
why = "The paper gives two decimals."
why_zh = "论文给出两位小数。"

[claims.growth]
title = "It grows"
title_zh = "它会增长"
what = "Each seed grows."
what_zh = "每个种子都增长。"
reports = ["circle"]
tier = "trend"
unit = "1"
accept = { at_least = 0.5 }
why = "Growth is said in words."
why_zh = "论文只用文字说增长。"
"""
CLAIMS = """
from papertest.claims import Measured, Run, claim, figure

AREA = 3.14159
ERROR, RESIDUAL, SHARE = 1.234e-7, -3e-6, 1.04


@claim("circle")
def circle(run: Run) -> Measured:
    return Measured({"area": AREA, "error": ERROR, "residual": RESIDUAL, "share": SHARE})


@claim("growth")
def growth(run: Run) -> Measured:
    return Measured(step(run.seed))


def step(seed: int) -> float:
    return 1 + 0.01 * seed


@figure("growth", "growth")
def draw(results):
    from papertest import figures

    drawn, (axes,) = figures.panels(1)
    axes.plot([sample["value"] for sample in results["growth"].samples])
    return drawn
"""
README = """# Tiny

![growth](figures/growth.png)

<!-- papertest:table -->
<!-- papertest:end -->
<!-- papertest:errata -->
<!-- papertest:end-errata -->
"""
RECORD_IT = "from papertest.reproduce import run; run('tiny')"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    """The root of a checkout with one package: its record committed first, its results later."""
    root = tmp_path_factory.mktemp("recorded") / "clone"
    home = root / "packages" / "tiny"
    files = {
        root / "papers" / "tiny.toml": RECORD,
        home / "README.md": README,
        home / "README.zh-CN.md": README,
        home / "src" / "tiny" / "__init__.py": "",
        home / "src" / "tiny" / "reproduce" / "__init__.py": "",
        home / "src" / "tiny" / "reproduce" / "claims.py": CLAIMS,
        root / ".gitignore": ".papertest/\n__pycache__/\n",
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    for folder in ("results", "figures"):
        (home / folder).mkdir()
    git(root, "init", "--quiet")
    commit(root, "The record")
    done = run([sys.executable, "-c", RECORD_IT, "--record"], root, PYTHONPATH=str(home / "src"))
    assert done.returncode == 0, done.stderr
    commit(root, "The results")
    return root


@pytest.fixture
def tiny(recorded, tmp_path, monkeypatch) -> Member:
    """A copy of it that a test may break; its package is not installed, so it is put onto the path."""
    root = tmp_path / "clone"
    shutil.copytree(recorded, root)
    source = root / "packages" / "tiny" / "src"
    monkeypatch.setattr(verdicts, "run", lambda command, cwd: run(command, cwd, PYTHONPATH=str(source)))
    return Member(root / "packages" / "tiny")


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x", *arguments], cwd=root, check=True)


def commit(root: Path, message: str) -> None:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "-m", message)


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def claims_of(member: Member) -> Path:
    return member.home / "src" / "tiny" / "reproduce" / "claims.py"


def record_of(member: Member) -> Path:
    return member.home.parents[1] / "papers" / "tiny.toml"


def test_a_package_in_order_passes(tiny):
    assert verdicts.check(tiny.home.parents[1]) == []


def test_an_exact_claim_whose_verdict_turns_is_told_with_its_numbers_and_the_cure(tiny):
    change(claims_of(tiny), "AREA = 3.14159", "AREA = 3.24159")
    (problem,) = verdicts.computed(tiny)
    assert "circle (Equation 1) is recorded as reproduced, recomputed it is not reproduced" in problem
    assert "3.14159" in problem
    assert "3.24159" in problem
    assert "uv run --package tiny reproduce --only circle --record" in problem


def test_an_exact_value_that_moves_is_told_though_its_verdict_stays(tiny):
    change(claims_of(tiny), "AREA = 3.14159", "AREA = 3.14359")
    (problem,) = verdicts.computed(tiny)
    assert "circle (Equation 1) is recorded with another value, area 3.14159 and now 3.14359" in problem


@pytest.mark.parametrize(
    ("old", "new"), [("3.14159", "3.14160"), ("1.234e-7", "5e-7"), ("-3e-6", "4e-6"), ("1.04", "1.07")]
)
def test_what_another_processor_may_change_is_no_change(tiny, old, new):
    change(claims_of(tiny), old, new)
    assert verdicts.computed(tiny) == []


def test_a_claim_that_fails_is_told(tiny):
    change(claims_of(tiny), '{"area": AREA,', '{"area": AREA / 0,')
    (problem,) = verdicts.computed(tiny)
    assert problem.startswith("circle: ZeroDivisionError: ")
    assert "--only circle --fresh" in problem


def test_claims_that_cannot_be_recomputed_are_a_problem(tiny):
    record_of(tiny).write_text("[paper", "utf-8")
    (problem,) = verdicts.computed(tiny)
    assert "not TOML" in problem


def test_the_readers_own_samples_are_neither_used_nor_changed(tiny):
    change(claims_of(tiny), "AREA = 3.14159", "AREA = 3.24159")
    samples = tiny.home.parents[1] / ".papertest"
    before = {path: path.read_bytes() for path in samples.rglob("*") if path.is_file()}
    assert before
    assert verdicts.computed(tiny)
    assert {path: path.read_bytes() for path in samples.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("a", "b", "agree"),
    [(1234.4, 1234.6, True), (1.2344, 1.2346, True), (1.2344, 1.2350, False), (0.0, 5e-17, True), (0.0, 1e-9, False),
     (-2.0, 2.0, False), (1e-7, 1.1e-7, False), (None, None, True), (None, 1.0, False), (1.0, None, False)],
)  # fmt: skip
def test_numbers_agree_to_what_tables_print(a, b, agree):
    assert verdicts.same(a, b) is agree


def test_a_value_of_another_shape_is_another_value():
    assert verdicts.difference([1, 2], [1, 2, 3], []) == "[1, 2] and now [1, 2, 3]"
    assert verdicts.difference({"a": [1, 2]}, {"a": [1, 3]}, ["b"]) == "a 2 and now 3"
    assert verdicts.difference({"a": [1, 2]}, {"a": [1, 3]}, ["a"]) is None
    assert verdicts.difference(1e-7, 2e-7, [""]) is None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("value = 3.14", "value = 3.141", "reported"),
        ('where = "Equation 1"', 'where = "Equation 2"', "where"),
        ('title = "It grows"', 'title = "It grows well"', "title"),
        ('tier = "trend"\nunit = "1"', 'tier = "trend"\nunit = "nats"', "unit"),
        ("accept = { at_least = 0.5 }", 'accept = { at_least = 0.5 }\nby = "us"', "by"),
    ],
)
def test_a_result_repeats_what_the_record_says(tiny, old, new, said):
    change(record_of(tiny), old, new)
    assert any(f"was recorded with another {said} than the record has" in problem for problem in verdicts.kept(tiny))


def test_a_trend_result_of_other_code_is_told(tiny):
    change(claims_of(tiny), "1 + 0.01 * seed", "1 + 0.02 * seed")
    assert any("growth was recorded with other code, record or data" in problem for problem in verdicts.kept(tiny))


def test_a_figure_that_is_not_drawn_from_the_results_is_told(tiny):
    change(claims_of(tiny), "figures.panels(1)", "figures.panels(1, height=4)")
    assert any("figures/growth.png is not drawn from results/" in problem for problem in verdicts.kept(tiny))


def test_a_result_edited_by_hand_is_told(tiny):
    path = tiny.home / "results" / "growth.json"
    result = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(result | {"verdict": "not reproduced"}), "utf-8")
    assert any("growth.json was edited by hand" in problem for problem in verdicts.kept(tiny))


def test_a_criterion_that_no_commit_has_is_told(tiny):
    change(record_of(tiny), "at_least = 0.5", "at_least = 0.9")
    (problem,) = [each for each in verdicts.kept(tiny) if "commit the record first" in each]
    assert problem.startswith("growth has a result, and no commit has its criterion")


def test_a_criterion_that_is_younger_than_its_first_result_is_told(tiny):
    change(record_of(tiny), "at_least = 0.5", "at_least = 0.9")
    commit(tiny.home.parents[1], "Moves a criterion")
    (problem,) = [each for each in verdicts.kept(tiny) if "not later" in each]
    assert problem.startswith("growth: its criterion is of ")


def test_a_history_that_is_cut_short_is_told(tiny, monkeypatch):
    root = tiny.home.parents[1]
    git(root.parent, "clone", "--quiet", "--depth", "1", f"file://{root}", "short")
    short = Member(root.parent / "short" / "packages" / "tiny")
    assert any("the history is cut short" in problem for problem in verdicts.kept(short))
