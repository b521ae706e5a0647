"""The history: a criterion is in it before the first result that it judges, and does not change after."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from papertest import files, history
from papertest.package import Package


class Repository:
    """The toy as a repository; `commit` takes what has changed."""

    def __init__(self, toy) -> None:
        self.toy = toy
        self.git("init")

    def git(self, *arguments: str, root: Path | None = None) -> str:
        fixed = ["user.name=A", "user.email=a@b", "commit.gpgsign=false", "init.defaultBranch=main",
                 "protocol.file.allow=always"]  # fmt: skip
        command = ["git", *(part for each in fixed for part in ("-c", each)), *arguments]
        done = subprocess.run(command, cwd=root or self.toy.root, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self, *paths: Path) -> str:
        self.git("add", *map(str, paths)) if paths else self.git("add", "-A")
        self.git("commit", "--allow-empty", "-m", "a commit")
        return self.git("rev-parse", "HEAD")[:9]

    def problems(self, root: Path | None = None) -> list[str]:
        root = root or self.toy.root
        package = Package.at(root / "packages" / "toy" / "src" / "toy")
        assert package.results is not None
        found = {p.stem: files.read_json(p)["samples"] for p in sorted(package.results.glob("*.json"))}
        return history.problems(package, found)


@pytest.fixture
def repository(toy, recorded_toy) -> Repository:
    """The record is committed; the results are there, and are not."""
    repository = Repository(toy)
    repository.commit(toy.record, toy.code)
    shutil.copytree(recorded_toy.results, toy.results, dirs_exist_ok=True)
    return repository


def criterion(repository: Repository, bound: int) -> None:
    record = repository.toy.record
    record.write_text(re.sub(r"accept = \{ at_most = \d\d \}", f"accept = {{ at_most = {bound} }}", record.read_text()))


def not_later(claim: str, fixed: str, measured: str) -> str:
    return (f"{claim}: its criterion is of {fixed}, and its first result of {measured}, which is not later: a "
            "criterion that changes is a new version, with new seeds")  # fmt: skip


def test_a_criterion_before_its_result(repository: Repository) -> None:
    assert repository.problems() == []  # not committed yet: later than everything
    repository.commit()
    assert repository.problems() == []


def test_a_criterion_of_the_same_commit_as_its_first_result(toy, recorded_toy) -> None:
    repository = Repository(toy)
    shutil.copytree(recorded_toy.results, toy.results, dirs_exist_ok=True)
    commit = repository.commit()
    found = repository.problems()
    assert not_later("noise", commit, commit) in found
    assert len(found) == 8  # all but the one that was not run


def test_a_criterion_younger_than_its_first_result(toy, recorded_toy) -> None:
    repository = Repository(toy)
    shutil.copytree(recorded_toy.results, toy.results, dirs_exist_ok=True)
    measured = repository.commit(toy.results)
    fixed = repository.commit()
    assert not_later("noise", fixed, measured) in repository.problems()


def test_a_criterion_that_changed_after_its_result(repository: Repository) -> None:
    measured = repository.commit()
    criterion(repository, 45)
    assert repository.problems() == ["noise has a result, and no commit has its criterion: commit the record first"]
    fixed = repository.commit()
    assert repository.problems() == [not_later("noise", fixed, measured)]
    criterion(repository, 50)  # and back again: it was open in between
    fixed = repository.commit()
    assert repository.problems() == [not_later("noise", fixed, measured)]


def test_a_criterion_that_changed_before_its_result(repository: Repository) -> None:
    criterion(repository, 45)
    repository.commit(repository.toy.record)
    criterion(repository, 50)
    repository.commit(repository.toy.record)
    repository.commit()
    assert repository.problems() == []


def test_new_samples_under_a_new_criterion(repository: Repository) -> None:
    """A new version: the old samples are in the history, and judge nothing any more."""
    repository.commit()
    criterion(repository, 45)
    repository.commit()
    path = repository.toy.results / "noise.json"
    content = files.read_json(path)
    for sample in content["samples"]:
        sample["value"] += 0.5
    files.write_json(path, content)
    assert repository.problems() == []
    repository.commit()
    assert repository.problems() == []
    content["samples"][1]["value"] -= 0.5  # one of them is an old one
    files.write_json(path, content)
    assert len(repository.problems()) == 1


def test_rounds_of_a_speed_claim_are_its_samples(repository: Repository) -> None:
    measured = repository.commit()
    repository.toy.edit(repository.toy.record, "at_least = 1.2 }", "at_least = 1.3 }")
    fixed = repository.commit()
    assert repository.problems() == [not_later("fast", fixed, measured)]


def test_what_is_not_the_criterion_may_change(repository: Repository) -> None:
    repository.commit()
    record = repository.toy.record
    repository.toy.edit(record, 'title = "The noise is small"', 'title = "Little noise"')
    repository.toy.edit(record, "accept = { a = { digits = 1 }, b = { within = 0.1 } }",
                        "accept = { b = { within = 0.10 }, a = { digits = 1 } }")  # fmt: skip
    path = repository.toy.results / "noise.json"
    files.write_json(path, files.read_json(path) | {"title": "Little noise"})
    repository.commit()
    assert repository.problems() == []


def test_a_record_that_was_broken_in_between(repository: Repository) -> None:
    """Nobody can say what it asked then, so it counts as changed."""
    measured = repository.commit()
    whole = repository.toy.record.read_text()
    repository.toy.record.write_text("[paper")
    repository.commit()
    repository.toy.record.write_text(whole)
    fixed = repository.commit()
    assert not_later("noise", fixed, measured) in repository.problems()


def test_a_history_that_is_cut_short(repository: Repository, tmp_path: Path) -> None:
    repository.commit()
    repository.git("clone", "--depth", "1", f"file://{repository.toy.root}", str(tmp_path / "shallow"))
    assert repository.problems(tmp_path / "shallow") == [
        "the history is cut short, so that nobody can see whether criteria are older than results: "
        "`git fetch --unshallow`"
    ]
    repository.git("fetch", "--unshallow", root=tmp_path / "shallow")
    assert repository.problems(tmp_path / "shallow") == []


def test_branches_that_are_merged(repository: Repository) -> None:
    """A result of one branch is not later than a criterion of another."""
    toy = repository.toy
    repository.commit(toy.code)
    repository.git("checkout", "-b", "side")
    measured = repository.commit()
    repository.git("checkout", "main")
    criterion(repository, 45)
    fixed = repository.commit(toy.record)
    repository.git("merge", "--no-edit", "side")
    assert repository.problems() == [not_later("noise", fixed, measured)]


def test_a_reader_sees_the_history_of_a_claim(repository: Repository) -> None:
    toy = repository.toy
    fixed = repository.git("rev-parse", "HEAD")[:9]
    date = repository.git("show", "-s", "--format=%cs", "HEAD")
    assert history.of_claim(Package.at(toy.code), "noise") == [f"criterion since {date} ({fixed})"]
    measured = repository.commit()
    assert history.of_claim(Package.at(toy.code), "noise")[1].endswith(f" ({measured})")


def test_without_a_repository_there_is_no_history(recorded_toy) -> None:
    assert history.of_claim(Package.at(recorded_toy.code), "noise") == []
