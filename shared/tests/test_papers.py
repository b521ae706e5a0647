"""A package of two papers: its records, its command, its tables, its history, and the form in which a wheel has it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from papertest import check, files, history, tables
from papertest.fingerprint import Sources, of_claim
from papertest.mutation import Mutations
from papertest.package import Package
from papertest.records import RecordError

PYPROJECT = """
[tool.hatch.build.targets.wheel]
packages = ["src/toy"]

[tool.hatch.build.targets.wheel.force-include]
"../../papers/toy.toml" = "toy/records/1-toy.toml"
"../../papers/later.toml" = "toy/records/2-later.toml"
"""
LATER = """
[paper]
title = "A Later Toy"
authors = ["B. Author"]
year = 2021
url = "https://example.org/later"
bibtex = "@misc{later}"

[reported.answer]
where = "Table 9"
what = "Another answer."
what_zh = "另一个答案。"
value = 7
unit = "1"
setting = "none"

[claims.seven]
title = "The later answer is 7"
title_zh = "后来的答案是 7"
what = "The later answer is 7."
what_zh = "后来的答案是 7。"
reports = ["answer"]
tier = "exact"
unit = "1"
accept = { equals = true }
why = "It is stated."
why_zh = "论文给出。"

[claims.later-noise]
title = "The later noise is small"
title_zh = "后来的噪声小"
what = "The later noise is small."
what_zh = "后来的噪声小。"
reports = ["answer"]
tier = "trend"
unit = "1"
accept = { at_most = 50 }
why = "It is said so."
why_zh = "文中如此。"
controls = ["noise"]

[claims.later-sum]
title = "The later answer is a sum"
title_zh = "后来的答案是和"
what = "3 and 4 are the later answer."
what_zh = "3 与 4 之和为后来的答案。"
reports = ["answer"]
tier = "printed"
unit = "1"
accept = { equals = true }
why = "It could be seen through when it was written."
why_zh = "写下判据时即可看出结果。"
"""
CODE = """
from papertest.claims import Run, claim


@claim("seven")
def seven(run: Run) -> float:
    return run.reported["answer"].value


@claim("later-noise")
def later_noise(run: Run) -> float:
    return 10.0 + run.seed


@claim("later-sum")
def later_sum(run: Run) -> float:
    return 3.0 + 4.0
"""


def two(toy):
    """The toy with a second paper."""
    (toy.home / "pyproject.toml").write_text(PYPROJECT)
    later(toy).write_text(LATER)
    (toy.code / "reproduce" / "later.py").write_text(CODE)
    return toy


def later(toy) -> Path:
    return toy.root / "papers" / "later.toml"


def package(toy) -> Package:
    return Package.at(toy.code)


@pytest.fixture
def pair(toy):
    return two(toy)


@pytest.fixture(scope="module")
def recorded(recorded_toy, tmp_path_factory):
    """Recorded by one run; only to be read, or copied."""
    root = tmp_path_factory.mktemp("pair") / "checkout"
    shutil.copytree(recorded_toy.root, root)
    toy = two(type(recorded_toy)(root, recorded_toy.nursery))
    assert toy.run("--record").code == 0
    return toy


@pytest.fixture
def copied(recorded, tmp_path):
    shutil.copytree(recorded.root, tmp_path / "checkout")
    return type(recorded)(tmp_path / "checkout", recorded.nursery)


def test_records_are_in_the_order_of_the_pyproject_and_each_claim_reads_its_own(pair):
    found = package(pair)
    assert list(found.papers) == ["toy", "later"]
    assert list(found.claims)[:2] == ["answer", "pair"] and list(found.claims)[-3:] == [
        "seven",
        "later-noise",
        "later-sum",
    ]
    assert found.paper_of("answer") == "toy" and found.paper_of("seven") == "later"
    assert (
        found.record_of("answer").paper_value("answer") == 42 and found.record_of("answer").where("answer") == "Table 1"
    )
    assert found.record_of("seven").paper_value("seven") == 7 and found.record_of("seven").where("seven") == "Table 9"
    assert found.record_of("seven").paper.link == "https://example.org/later"
    with pytest.raises(RecordError, match="toy has the records toy, later: take one of `papers`, or `record_of`"):
        _ = found.record
    one, other = PYPROJECT.strip().splitlines()[-2:]
    (pair.home / "pyproject.toml").write_text(PYPROJECT.replace(f"{one}\n{other}", f"{other}\n{one}"))
    assert list(package(pair).papers) == ["later", "toy"]


def test_one_record_may_be_called_otherwise_than_its_package(toy):
    toy.record.rename(toy.root / "papers" / "other.toml")
    table = '[tool.hatch.build.targets.wheel.force-include]\n"../../papers/other.toml" = "toy/record.toml"\n'
    (toy.home / "pyproject.toml").write_text(table)
    assert package(toy).record.paper.title == "A Toy" and package(toy).called() == "papers/other.toml"


def test_a_wheel_has_its_records_in_the_same_order(pair, tmp_path):
    """And the eleventh comes after the second."""
    code = tmp_path / "site" / "toy"
    shutil.copytree(pair.code, code)
    (code / "records").mkdir()
    shutil.copy(pair.record, code / "records" / "2-toy.toml")
    shutil.copy(later(pair), code / "records" / "11-later.toml")
    installed = Package.at(code)
    assert installed.checkout is None and list(installed.papers) == ["toy", "later"]
    assert installed.called("seven") == "toy/records/11-later.toml"
    here, there = Sources(package(pair)), Sources(installed)
    assert {i: of_claim(here, i) for i in here.claims} == {i: of_claim(there, i) for i in there.claims}
    (code / "records" / "last.toml").write_text(LATER)
    with pytest.raises(RecordError, match=r"^toy/records/last.toml: of several records .* <n>-<name>.toml"):
        _ = Package.at(code).papers


def test_a_fingerprint_does_not_depend_on_the_name_or_the_number_of_records(toy):
    alone = {i: of_claim(Sources(package(toy)), i) for i in package(toy).claims}
    two(toy)
    assert {i: of_claim(Sources(package(toy)), i) for i in alone} == alone
    before = of_claim(Sources(package(toy)), "seven")
    toy.edit(toy.record, "value = 42", "value = 43")  # the other paper's entry of the same id
    assert of_claim(Sources(package(toy)), "seven") == before
    assert of_claim(Sources(package(toy)), "answer") != alone["answer"]
    toy.edit(later(toy), "value = 7", "value = 8")
    assert of_claim(Sources(package(toy)), "seven") != before


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[claims.seven]", "[claims.answer]",
         "papers/later.toml: [claims.answer]: papers/toy.toml has a claim of this id too, and one package has each id "
         "once"),
        ('title = "The later answer is 7"', 'title = "The pair"',
         "papers/later.toml: [claims.seven] title: [claims.pair] of papers/toy.toml has the same"),
        ('controls = ["noise"]', 'controls = ["noises"]',
         "papers/later.toml: [claims.later-noise] controls: there is no [claims.noises]; did you mean `noise`?"),
        ('reports = ["answer"]\ntier = "trend"', 'reports = ["curve"]\ntier = "trend"',
         "papers/later.toml: [claims.later-noise] reports: there is no [reported.curve]; there are: answer"),
        ("year = 2021\n", "", "papers/later.toml: [paper] lacks the key `year`"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_several_records_is_one_line(pair, old, new, said):
    pair.edit(later(pair), old, new)
    done = pair.run("--list")
    assert (done.code, done.err) == (2, f"reproduce: {said}\n")


def test_a_claim_cannot_be_its_own_control_by_way_of_another_record(pair):
    pair.edit(pair.record, 'why_zh = "文中如此。"', 'why_zh = "文中如此。"\ncontrols = ["later-noise"]')
    with pytest.raises(RecordError, match=r"^papers/toy.toml: \[claims.noise\] controls: `noise` would be its own"):
        _ = package(pair).papers


def test_a_pyproject_that_is_not_toml_is_one_line(pair):
    (pair.home / "pyproject.toml").write_text("[tool")
    done = pair.run("--list")
    assert done.code == 2 and done.err.startswith("reproduce: packages/toy/pyproject.toml: not TOML")


def test_a_control_of_a_sibling_record_counts(copied):
    result = files.read_json(copied.results / "later-noise.json")
    assert (result["verdict"], result["control"]) == ("reproduced", None)
    copied.edit(copied.record, "accept = { at_most = 50 }", "accept = { at_most = 40 }")
    assert copied.run("--record").code == 0
    result = files.read_json(copied.results / "later-noise.json")
    assert (result["verdict"], result["control"]) == ("undecided", "noise")


def test_the_terminal_names_the_paper_of_each_claim(recorded):
    out = recorded.run("--full").out
    assert out.startswith("toy: A Toy (2020, arXiv 2001.00001)\nlater: A Later Toy (2021)\n")
    exact = out[out.index("Exact:") : out.index("Trend:")]
    lines = [re.split(" {2,}", line.strip())[0] for line in exact.splitlines()]
    assert lines == ["Exact: computed on our implementation", "toy", "✓ The answer is 42", "✓ The pair", "later",
                     "✓ The later answer is 7"]  # fmt: skip
    assert "Tab. 9" in exact and out.count("Exact:") == 1
    listed = recorded.run("--list").out
    assert listed.index("\n toy\n") < listed.index("  pair ") < listed.index("\n later\n") < listed.index("  seven ")
    shown = recorded.run("--show", "seven").out
    assert shown.startswith("later: A Later Toy (2021)\nseven: The later answer is 7\n") and "Table 9" in shown
    assert "A Toy" not in shown


def test_one_paper_alone(recorded):
    out = recorded.run("--paper", "later", "--full").out
    assert "A Later Toy" in out and "The pair" not in out and "2 reproduced; printed sums 1 of 1" in out
    listed = json.loads(recorded.run("--list", "--json", "--paper", "later", "--tier", "exact").out)
    assert [(entry["id"], entry["record"], entry["where"]) for entry in listed] == [("seven", "later", "Table 9")]
    ran = json.loads(recorded.run("--only", "seven", "--only", "answer", "--json").out)
    assert [(entry["id"], entry["record"], entry["paper"]) for entry in ran] == [
        ("answer", "toy", 42),
        ("seven", "later", 7),
    ]
    for arguments, said in (
        (("--paper", "latter"), "--paper latter: there is no such paper; did you mean `later`?"),
        (("--paper", "later", "--only", "answer"), "none of the chosen claims is of the paper later"),
        (("--paper", "later", "--tier", "speed"), "none of the chosen claims is of tier speed"),
    ):
        done = recorded.run("--list", *arguments)
        assert (done.code, done.err) == (2, f"reproduce: {said}\n")


def test_tables_and_errata_have_a_part_for_each_paper(recorded):
    text = (recorded.home / "README.md").read_text("utf-8")
    table, errata = text.split("## Errata")
    first, second = (
        "### [A Toy](https://arxiv.org/abs/2001.00001) (2020)\n",
        "### [A Later Toy](https://example.org/later) (2021)\n",
    )
    for part, own, others in (
        (table, "The pair |", "The later answer is 7 |"),
        (errata, "The parts are the answer |", "is a sum |"),
    ):
        assert part.index(first) < part.index(own) < part.index(second) < part.index(others)
    assert table.count("Measured on") == 1 and table.rstrip().endswith("<!-- papertest:end -->")
    assert "### [A Later Toy]" in (recorded.home / "README.zh-CN.md").read_text("utf-8")


def test_the_scoreboard_has_a_row_for_each_paper(recorded):
    rows = (recorded.root / "README.md").read_text("utf-8").splitlines()
    toy, later = (row for row in rows if row.startswith("| [`toy`](packages/toy/README.md)"))
    assert "[A Toy](https://arxiv.org/abs/2001.00001) (2020) |" in toy and toy.endswith("| 1 of 1 | 1 of 1 |")
    assert later.endswith("[A Later Toy](https://example.org/later) (2021) | 2 | 0 | 0 | 0 | 1 of 1 | – |")


def test_what_ci_holds_is_empty_and_sees_a_break(copied):
    assert check.problems(package(copied)) == []
    copied.edit(later(copied), "value = 7", "value = 8")
    copied.edit(copied.code / "reproduce" / "later.py", '@claim("later-sum")', '@claim("sum-later")')
    problems = check.problems(package(copied))
    assert any("seven was recorded with another reported" in problem for problem in problems)
    assert '@claim("sum-later") has no [claims.sum-later] in papers/toy.toml or papers/later.toml' in problems
    assert copied.run("--only", "later-sum").err.startswith(
        "reproduce: papers/later.toml: [claims.later-sum] is measured"
    )


def test_a_checkout_in_which_one_of_the_records_is_missing_has_no_row(copied):
    assert [p.slug for p in tables.packages_of(copied.root)] == ["toy"]
    later(copied).unlink()
    assert tables.packages_of(copied.root) == []
    assert copied.run("--list").err.startswith("reproduce: papers/later.toml: there is no such record")


def test_each_claim_has_the_history_of_its_own_record(copied):
    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=A", "-c", "user.email=a@b", "-c", "commit.gpgsign=false", *arguments]
        return subprocess.run(command, cwd=copied.root, capture_output=True, text=True, check=True).stdout.strip()

    git("init")
    git("add", "papers")
    git("commit", "-m", "the records")
    git("add", "packages")
    git("commit", "-m", "the results")
    found = {path.stem: files.read_json(path)["samples"] for path in copied.results.glob("*.json")}
    assert history.problems(package(copied), found) == []
    copied.edit(later(copied), "accept = { at_most = 50 }", "accept = { at_most = 51 }")
    git("commit", "-am", "another criterion")
    (problem,) = history.problems(package(copied), found)
    assert problem.startswith("later-noise: its criterion is of ")


def test_a_misread_entry_names_its_record_where_several_have_the_id(pair):
    bench = Mutations(pair.home / "tests" / "test_claims.py")
    assert bench.transcribed("later/answer", 8)["answer"].value == 8
    assert bench.transcribed("curve", [1, 2, 3])["curve"].value == [1, 2, 3]
    assert bench.transcribed("later/answer", 8)["answer"].where == "Table 9"
    for name, said in (
        ("answer", "2 of the records toy, later have a [reported.answer]: name one that is there"),
        ("other/answer", "0 of the records toy, later have a [reported.answer] and are called other"),
    ):
        with pytest.raises(ValueError, match=re.escape(said)):
            bench.transcribed(name, 8)
