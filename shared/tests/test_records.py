"""Records: a broken one is refused in one line that names file, table and key; ours all load."""

from __future__ import annotations

from pathlib import Path

import pytest

from papertest import records
from papertest.accept import Criterion
from papertest.records import RecordError

PAPERS = sorted((Path(__file__).parents[2] / "papers").glob("*.toml"))

# what is wrong: (a text of the toy's record, what stands there instead, the message after "papers/toy.toml: ")
BROKEN = {
    "an unknown key of a claim": (
        'reports = ["answer"]\ntier = "exact"',
        'reports = ["answer"]\nteir = "exact"\ntier = "exact"',
        "[claims.answer] has the unknown key `teir`; did you mean `tier`?",
    ),
    "an unknown key of a reported number": (
        'unit = "ms"',
        'unit = "ms"\nunits = "ms"',
        "[reported.pair] has the unknown key `units`; did you mean `unit`?",
    ),
    "an unknown key of the paper": (
        "year = 2020",
        "year = 2020\ndoi = '1'",
        "[paper] has the unknown key `doi`; there are: title, authors, year, arxiv, bibtex, url",
    ),
    "an unknown table": ("[paper]", "[notes]\n[paper]", "[notes] has the unknown key `notes`; there are: paper, "
                         "reported, claims"),
    "a missing unit": ('unit = "ms"', "", "[reported.pair] lacks the key `unit`"),
    "an empty unit": ('unit = "ms"', 'unit = ""', "[reported.pair] unit: String should have at least 1 character"),
    "a missing year": ("year = 2020", "", "[paper] lacks the key `year`"),
    "a year that is text": ("year = 2020", "year = '2020'", "[paper] year: Input should be a valid integer"),
    "a claim without a criterion": ("accept = { at_most = 50 }", "", "[claims.noise] lacks the key `accept`"),
    "an empty criterion": (
        "accept = { at_most = 50 }",
        "accept = {}",
        "[claims.noise] accept: must be a criterion such as { at_most = 1.1 } or a table of criteria, not {}",
    ),
    "an unknown criterion": (
        "accept = { at_most = 50 }",
        "accept = { at_mots = 50 }",
        "[claims.noise] accept: unknown criterion `at_mots`; accepted: digits, equals, within, within_percent, "
        "at_least, at_most, between, decreasing, increasing",
    ),
    "a reported id that is not there": (
        'reports = ["pair"]',
        'reports = ["pear"]',
        "[claims.pair] reports: there is no [reported.pear]; did you mean `pair`?",
    ),
    "no reported id": (
        'reports = ["pair"]',
        "reports = []",
        "[claims.pair] reports: List should have at least 1 item after validation, not 0",
    ),
    "an unknown tier": (
        'tier = "paper"',
        'tier = "papper"',
        "[claims.large] tier: Input should be 'exact', 'trend' or 'paper'",
    ),
    "a paper-tier claim without a cost": (
        'cost = "0.5 GPU-hours"',
        "",
        "[claims.large]: a claim of tier `paper`, and only such a one, states `needs` and `cost`",
    ),
    "a cost that is not in GPU-hours": (
        'cost = "0.5 GPU-hours"',
        'cost = "5 dollars"',
        "[claims.large] cost: must be in GPU-hours, such as '0.1 GPU-hours', not '5 dollars'",
    ),
    "two seeds": (
        'accept = { at_most = 50 }',
        'accept = { at_most = 50 }\nseeds = 2',
        "[claims.noise] seeds: Input should be greater than or equal to 3",
    ),
    "a comparison with two reported values": (
        "accept = { at_most = 50 }",
        "accept = { within = 50 }",
        "[claims.noise] accept: a criterion that compares with the paper's value needs exactly one id in `reports`",
    ),
    "a value that is text": ("value = 42", "value = '42'", "[reported.answer] value: Input should be a valid number"),
    "an id that is not lower-case words": (
        "[claims.large]",
        "[claims.Large_one]",
        "[claims.Large_one]: an id is lower-case words joined by '-'",
    ),
    "not TOML": ("[paper]", "[paper", "not TOML: Expected ']' at the end of a table declaration (at line 2, column 7)"),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_record_is_refused_in_one_line(toy, what: str):
    old, new, said = BROKEN[what]
    toy.edit(toy.record, old, new)
    with pytest.raises(RecordError) as refused:
        records.load(toy.record)
    assert str(refused.value) == f"papers/toy.toml: {said}"


def test_the_command_says_that_line_and_ends_with_2(toy):
    toy.edit(toy.record, 'unit = "ms"', "")
    done = toy.run()
    assert (done.code, done.out) == (2, "")
    assert done.err == "reproduce: papers/toy.toml: [reported.pair] lacks the key `unit`\n"


def test_a_missing_record_is_named(tmp_path: Path):
    with pytest.raises(RecordError, match="papers/absent.toml: there is no such record"):
        records.load(tmp_path / "absent.toml")


def test_a_good_record_loads(toy):
    record = records.load(toy.record)
    assert list(record.claims) == ["answer", "pair", "curve", "noise", "large"]
    assert record.claims["noise"].accept == Criterion("at_most", 50)
    assert record.claims["pair"].accept == {"a": Criterion("digits", 1), "b": Criterion("within", 0.1)}
    assert [record.claims[i].runs for i in ("answer", "noise", "large")] == [1, 3, 3]
    assert record.reported_value("pair") == {"a": 1.5, "b": 2}
    assert record.reported_value("noise") == {"answer": 42, "curve": [3, 2, 1]}


def test_the_papers_are_there():
    assert PAPERS


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_every_record_of_ours_loads(path: Path):
    record = records.load(path)
    assert record.reported and record.claims
    assert all(record.reported_value(claim) is not None for claim in record.claims)
