"""The history of a record: which commit fixed a criterion, and which first held a result under it.

A criterion has to be older than the first measurement that it judges. This reads git, and nothing else.
"""

from __future__ import annotations

import json
import subprocess
import tomllib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from papertest import accept, files
from papertest.package import Package


@dataclass
class History:
    """The commits that touched a package's records and its results, newest first."""

    package: Package
    _versions: dict[str, list[tuple[str, dict[str, str]]]] = field(default_factory=dict[str, Any], init=False)

    @cached_property
    def root(self) -> Path:
        assert self.package.checkout is not None
        return self.package.checkout

    @cached_property
    def unreadable(self) -> str | None:
        """Why the history cannot be judged: git refuses, or only the last commits are here. None where it can."""
        done = subprocess.run(
            ["git", "rev-parse", "--is-shallow-repository"], cwd=self.root, capture_output=True, text=True
        )
        if done.returncode:
            return f"git cannot read the history: {(done.stderr.strip().splitlines() or ['it gives no reason'])[0]}"
        if done.stdout.strip() != "false":
            return ("the history is cut short, so that nobody can see whether criteria are older than results: "
                    "`git fetch --unshallow`")  # fmt: skip
        return None

    def criteria(self, path: str) -> list[tuple[str, dict[str, str]]]:
        """(commit, criterion by claim) for each version of a record, `papers/<name>.toml`."""
        if path not in self._versions:
            commits = self._git("log", "--topo-order", "--format=%H", "--", path).split()
            self._versions[path] = [(c, criteria_of(self._git("show", f"{c}:{path}"))) for c in commits]
        return self._versions[path]

    @cached_property
    def results(self) -> dict[str, list[str]]:
        """By claim, the commits that touched its result."""
        folder = f"packages/{self.package.slug}/results"
        found: dict[str, list[str]] = {}
        commit = ""
        for line in self._git("log", "--topo-order", "--format=commit %H", "--name-only", "--", folder).splitlines():
            if line.startswith("commit "):
                commit = line.removeprefix("commit ")
            elif line.endswith(".json"):
                found.setdefault(Path(line).stem, []).append(commit)
        return found

    def fixed(self, claim: str, criterion: str) -> str | None:
        """The commit since which the claim has this criterion without a break; None where no commit has it."""
        since = None
        for commit, criteria in self.criteria(self.package.called(claim)):
            if criteria.get(claim) != criterion:
                break
            since = commit
        return since

    def measured(self, claim: str, samples: list[dict[str, Any]]) -> str | None:
        """The first commit that holds one of these samples; None where none does yet."""
        now = {_sign(sample) for sample in samples}
        first = None
        for commit in self.results.get(claim, []):
            text = self._git("show", f"{commit}:packages/{self.package.slug}/results/{claim}.json")
            try:
                old = json.loads(text)["samples"]
            except (ValueError, KeyError):
                continue
            if now & {_sign(sample) for sample in old}:
                first = commit
        return first

    def older(self, one: str, other: str) -> bool:
        """Whether `one` is a commit before `other`, and not the same."""
        command = ["git", "merge-base", "--is-ancestor", one, other]
        return one != other and subprocess.run(command, cwd=self.root, capture_output=True).returncode == 0

    def date(self, commit: str) -> str:
        return self._git("show", "--no-patch", "--format=%cs", commit).strip()

    def _git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.root, capture_output=True, text=True)
        return done.stdout if done.returncode == 0 else ""


def criteria_of(text: str) -> dict[str, str]:
    """The criterion of each claim in a record's text, in one form however it was written."""
    try:
        claims = tomllib.loads(text).get("claims", {})
    except tomllib.TOMLDecodeError:
        return {}
    found: dict[str, str] = {}
    for claim, entry in claims.items():
        try:
            found[claim] = one_form(accept.parse(entry.get("accept")))
        except (ValueError, AttributeError):
            continue
    return found


def one_form(criteria: accept.Accept) -> str:
    table = criteria if isinstance(criteria, dict) else {"": criteria}
    return files.checksum({name: [each.kind, each.bound] for name, each in table.items()})


def problems(package: Package, claims: dict[str, list[dict[str, Any]]]) -> list[str]:
    """The claims, given with their samples, whose criterion is not older than the first of those."""
    history = History(package)
    if history.unreadable is not None:
        return [history.unreadable]
    found: list[str] = []
    for claim, samples in claims.items():
        if not samples:
            continue
        fixed = history.fixed(claim, one_form(package.claims[claim].accept))
        measured = history.measured(claim, samples)
        if fixed is None:
            found.append(f"{claim} has a result, and no commit has its criterion: commit the record first")
        elif measured is not None and not history.older(fixed, measured):
            found.append(f"{claim}: its criterion is of {fixed[:9]}, and its first result of {measured[:9]}, which is "
                         "not later: a criterion that changes is a new version, with new seeds")  # fmt: skip
    return found


def of_claim(package: Package, claim: str) -> list[str]:
    """For a reader: when the criterion was fixed, and when the claim was first measured."""
    if package.checkout is None or not (package.checkout / ".git").exists():
        return []
    history = History(package)
    fixed = history.fixed(claim, one_form(package.claims[claim].accept))
    commits = history.results.get(claim, [])
    found = [f"criterion since {history.date(fixed)} ({fixed[:9]})"] if fixed else []
    return [*found, *([f"first result {history.date(commits[-1])} ({commits[-1][:9]})"] if commits else [])]


def _sign(sample: dict[str, Any]) -> str:
    return files.checksum([sample.get("seed"), sample.get("value"), sample.get("rounds")])
