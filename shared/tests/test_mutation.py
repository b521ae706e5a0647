"""The mutation harness: it measures and judges as `reproduce` does, and keeps nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from papertest import bench
from papertest.claims import Measured, Timed
from papertest.mutation import Clock, Mutations, elements, operators, put

HEAD = """
[paper]
title = "A Mutated Paper"
authors = ["A. Author"]
year = 2021
arxiv = "2101.00001"
bibtex = "@misc{x}"

[reported.answer]
where = "Table 1"
what = "The answer."
what_zh = "答案。"
value = 42
unit = "1"
setting = "none"

[reported.rows]
where = "Table 2"
what = "Rows."
what_zh = "各行。"
value = { a = 3.0, b = 2.0 }
columns = ["x"]
unit = "1"
setting = "none"
"""
CLAIM = """
[claims.{id}]
title = "It is {id}"
title_zh = "是{id}之一"
what = "It is."
what_zh = "是。"
reports = ["{reports}"]
tier = "{tier}"
unit = "1"
accept = {accept}
why = "It is printed."
why_zh = "论文给出。"
"""
CLAIMS = [  # id, what it reports, tier, accept
    ("answer", "answer", "exact", "{ equals = true }"),
    ("sum", "rows", "printed", "{ at_least = 1.0 }"),
    ("trained", "answer", "trend", "{ at_least = 0.4 }"),
    ("drawn", "answer", "trend", "{ loss = { at_most = 0.5 }, steps = { at_least = 2 } }"),
    ("faster", "answer", "speed", "{ at_least = 1.2 }"),
    ("broken", "answer", "exact", "{ at_most = 1 }"),
]
CODE = """
import torch
from papertest import Measured, Timed, bench, claim
from mutated_paper import parts

@claim("answer")
def answer(run):
    return parts.double(21)

@claim("sum")
def sum_of_rows(run):
    rows = run.reported["rows"].value
    return rows["a"] - rows["b"]

def train(run, name):
    return {"name": (name, run.seed), "accuracy": 0.5 if name == "base" else 0.1, "drawn": torch.rand(()).item()}

@claim("trained")
def trained(run):
    base, other = run.shared(train, "base"), run.shared(train, "other")
    details = {"base": base, "other": other, "drawn": torch.rand(()).item()}
    return Measured(base["accuracy"] - other["accuracy"], details)

@claim("drawn")
def drawn(run):
    return {"loss": parts.loss(), "steps": 1 if run.quick else 2}

def slow():
    parts.spend(1.5)

def fast():
    parts.spend(1.0)

@claim("faster")
def faster(run):
    times = bench.rounds(run, {"ours": fast, "peer": slow}, null="ours")
    return Timed(times.ratio("peer", "ours"), times.null, {"seconds": times.seconds})

def reads(run):
    return run.reported["answer"].value

@claim("broken")
def broken(run):
    return run.shared(reads)
"""
PARTS = """
def double(x):
    return 2 * x

def loss():
    return 0.3

def spend(seconds):
    raise AssertionError("a test has its own clock")
"""


@pytest.fixture
def mutated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mutations]:
    home = tmp_path / "packages" / "mutated-paper"
    code = home / "src" / "mutated_paper"
    code.mkdir(parents=True)
    (tmp_path / "papers").mkdir()
    keys = ("id", "reports", "tier", "accept")
    claims = [CLAIM.format(**dict(zip(keys, claim, strict=True))) for claim in CLAIMS]
    (tmp_path / "papers" / "mutated-paper.toml").write_text(HEAD + "".join(claims), "utf-8")
    (code / "__init__.py").touch()
    (code / "parts.py").write_text(PARTS)
    (code / "reproduce.py").write_text(CODE)
    monkeypatch.syspath_prepend(code.parent)
    yield Mutations(str(home / "tests" / "test_mutations.py"))
    for name in [n for n in sys.modules if n.startswith("mutated_paper")]:
        del sys.modules[name]


def parts() -> Any:
    return sys.modules["mutated_paper.parts"]


@pytest.fixture
def clock(mutated: Mutations, monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    mutated.measure("answer")  # imports the package
    monkeypatch.setattr(parts(), "spend", found.spend)
    monkeypatch.setattr(bench, "seconds", found.seconds)
    return found


def test_it_knows_the_package_of_the_tests_file(mutated: Mutations) -> None:
    assert mutated.package.slug == "mutated-paper"
    assert mutated.record.paper.title == "A Mutated Paper"
    assert set(mutated.sources.claims) == set(mutated.record.claims)
    assert mutated.tier("exact", "printed") == ["answer", "sum", "broken"]
    assert mutated.tier("speed") == ["faster"]


def test_a_mistake_turns_the_verdict(mutated: Mutations, monkeypatch: pytest.MonkeyPatch) -> None:
    assert mutated.verdict("answer") == "reproduced"
    put(parts(), "double", lambda x: x)(monkeypatch)
    assert mutated.verdict("answer") == "not reproduced"
    monkeypatch.undo()


def test_the_tests_of_mistakes_fail_where_nothing_turns(mutated: Mutations, monkeypatch: pytest.MonkeyPatch) -> None:
    mutated.measure("answer")  # imports the package
    halved, nothing = put(parts(), "double", lambda x: x), put(parts(), "spend", parts().spend)
    mutated.turning(["answer"], {"answer": nothing}, {"answer": lambda: mutated.transcribed("answer", 41)})(
        "answer", monkeypatch
    )
    for test in (
        lambda: mutated.turning(["answer"], {"answer": nothing}, {})("answer", monkeypatch),
        lambda: mutated.turning(["answer"], {"answer": halved}, {}, ["answer"])("answer", monkeypatch),
        lambda: mutated.turning_besides({"it": ("answer", nothing)})("it", monkeypatch),
    ):
        with pytest.raises(AssertionError):
            test()
    mutated.turning_besides({"it": ("answer", halved)})("it", monkeypatch)


def test_what_a_claim_returns_becomes_measured(mutated: Mutations) -> None:
    assert mutated.measure("answer") == Measured(42)
    assert mutated.measure("drawn") == Measured({"loss": 0.3, "steps": 2})


def test_quick_is_handed_on(mutated: Mutations) -> None:
    assert mutated.verdict("drawn") == "reproduced"
    assert mutated.verdict("drawn", quick=True) == "not reproduced"


def test_a_value_that_is_not_finite_is_not_reproduced(mutated: Mutations, monkeypatch: pytest.MonkeyPatch) -> None:
    mutated.measure("drawn")
    put(parts(), "loss", lambda: float("nan"))(monkeypatch)
    assert mutated.verdict("drawn") == "not reproduced"
    monkeypatch.undo()


def test_every_measurement_is_from_its_seed(mutated: Mutations) -> None:
    def run(seed: int) -> Any:
        torch.rand(3)
        return mutated.measure("trained", seed=seed).details

    first, again, other = run(0), run(0), run(1)
    assert first == again
    assert first["drawn"] != other["drawn"] and first["base"]["drawn"] != other["base"]["drawn"]
    assert first["base"]["drawn"] == first["other"]["drawn"]  # each shared run is from the seed too
    assert first["base"]["name"] == ["base", 0]  # as it is read again from JSON


def test_share_stands_in_for_shared_runs(mutated: Mutations) -> None:
    asked: list[Any] = []

    def share(run: Any, function: Any, args: Any) -> Any:
        asked.append((function.__name__, args, run.seed, run.device))
        return {"accuracy": 0.9 if args == ("base",) else 0.8}

    assert mutated.measure("trained", seed=3, share=share).value == pytest.approx(0.1)  # pyright: ignore
    assert asked == [("train", ("base",), 3, "cpu"), ("train", ("other",), 3, "cpu")]
    assert mutated.verdict("trained") == "reproduced"
    assert mutated.verdict("trained", share=share) == "not reproduced"


def test_a_shared_run_reports_nothing(mutated: Mutations) -> None:
    with pytest.raises(KeyError, match="a shared run cannot read `reported`"):
        mutated.measure("broken")
    with pytest.raises(KeyError, match="a shared run cannot read `reported`"):
        mutated.measure("broken", share=lambda run, function, args: function(run, *args))


def test_a_misread_row_turns_a_sum(mutated: Mutations) -> None:
    assert mutated.verdict("sum") == "reproduced"
    misread = mutated.transcribed("rows", b=2.5)
    assert misread["rows"].value == {"a": 3.0, "b": 2.5} and misread["rows"].where == "Table 2"
    assert mutated.verdict("sum", reported=misread) == "not reproduced"
    assert mutated.record.reported["rows"].value == {"a": 3.0, "b": 2.0}


def test_what_is_misread_is_what_a_criterion_compares_with(mutated: Mutations) -> None:
    assert mutated.verdict("answer", reported=mutated.transcribed("answer", 41)) == "not reproduced"


def test_columns_can_be_misread_and_rows_must_be_there(mutated: Mutations) -> None:
    assert mutated.transcribed("rows", columns=["y"])["rows"].columns == ["y"]
    assert mutated.transcribed("rows", columns=["y"])["rows"].value == {"a": 3.0, "b": 2.0}
    with pytest.raises(ValueError, match=r"^\[reported.rows\] has no row 'c'; there are: a, b$"):
        mutated.transcribed("rows", c=1.0)


def test_a_speed_claim_is_judged_on_its_rounds(mutated: Mutations, clock: Clock) -> None:
    measured = mutated.measure("faster")
    assert isinstance(measured, Timed)
    assert (list(measured.rounds), list(measured.null)) == ([1.5] * 15, [1.0] * 15)
    assert mutated.verdict("faster") == "reproduced"
    assert len(mutated.measure("faster", quick=True).null) == 3  # pyright: ignore


def test_a_slower_side_turns_it(mutated: Mutations, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts(), "spend", lambda seconds: clock.spend(1.0))
    assert mutated.verdict("faster") == "not reproduced"


def test_rounds_that_straddle_are_undecided(mutated: Mutations, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = iter(0.8 + i * 0.61803 % 0.9 for i in range(100))
    monkeypatch.setattr(parts(), "spend", lambda seconds: clock.spend(min(seconds, 1.2) * next(noise)))
    assert mutated.verdict("faster") == "undecided"


def test_nothing_is_kept(mutated: Mutations, tmp_path: Path) -> None:
    for claim in ("answer", "trained"):
        mutated.measure(claim)
    assert not (tmp_path / ".papertest").exists()


def test_the_clock_moves_when_time_is_spent() -> None:
    clock = Clock()
    assert clock.seconds(lambda: clock.spend(2.5)) == 2.5
    assert clock.seconds(lambda: None, "cpu") == 0.0
    assert clock.now == 2.5


def test_operators_and_what_they_give_are_counted() -> None:
    x = torch.ones(3, 4)
    assert operators(lambda: x.add(1).sum()) == 2
    assert elements(lambda: x.add(1).sum(), "cpu") == 12 + 1
    assert elements(lambda: x.max(1)) == 3 + 3  # values and indices
    assert operators(lambda: None) == elements(lambda: None) == 0


def test_a_file_outside_of_packages_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(pytest.UsageError, match="is in no packages/<slug>/"):
        Mutations(tmp_path / "test_mutations.py")
