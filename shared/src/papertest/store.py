"""What was measured: samples in the reader's own state, results in the repository. Every file is whole or not there."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from papertest import files
from papertest.accept import Accept, judge, leaves
from papertest.files import Damaged
from papertest.package import Package

Verdict = Literal["reproduced", "not reproduced", "not run"]
Bound = Annotated[float, BeforeValidator(lambda x: math.nan if x is None else x)]  # null: not finite, as in a value


class Sample(BaseModel):
    """One measurement of one claim: one seed, one device."""

    model_config = ConfigDict(extra="forbid")

    claim: str
    seed: int
    device: str
    quick: bool
    fingerprint: str
    value: Any  # a Value; null stands for a number that is not finite
    details: dict[str, Any]
    seconds: float
    machine: str
    versions: dict[str, str]
    shared: list[str]  # keys of the shared runs that it is made from


class Result(BaseModel):
    """All samples of a claim, judged: what `results/<claim>.json` holds."""

    model_config = ConfigDict(extra="forbid")

    claim: str
    tier: str
    where: str
    reported: Any
    unit: str
    accept: str
    value: Any
    interval: dict[str, list[tuple[Bound, Bound]]] | None
    spread: dict[str, list[tuple[Bound, Bound]]] | None
    verdict: Verdict
    why: str
    fingerprint: str
    machine: str
    versions: dict[str, str]
    seconds: float
    samples: list[dict[str, Any]]

    @property
    def details(self) -> dict[str, Any]:
        """The details of the first seed; `samples` has them all."""
        return self.samples[0]["details"] if self.samples else {}


class Store:
    """The samples and shared runs in a package's state folder. `warn` is told of every file that is not usable."""

    def __init__(self, package: Package, warn: Callable[[str], None]) -> None:
        self.root = package.state
        self._warn = warn
        self._warned: set[str] = set()

    def sample(self, claim: str, seed: int, device: str, quick: bool, fingerprint: str) -> Sample | None:
        """The kept sample, None where there is none that was measured with this code, record and data."""
        path = self._path(claim, seed, device, quick)
        content = self._read(path, f"{claim} is measured again")
        if content is None or content.get("fingerprint") != fingerprint:
            return None
        try:
            return Sample.model_validate(content)
        except ValidationError:
            self.warn(f"{path.name} is not a sample of this version; {claim} is measured again")
            return None

    def keep(self, sample: Sample) -> None:
        path = self._path(sample.claim, sample.seed, sample.device, sample.quick)
        files.sweep(path.parent)
        files.write_json(path, sample.model_dump())

    def drop(self, sample: Sample) -> None:
        """Forget a sample and the shared runs that it was made from."""
        self._path(sample.claim, sample.seed, sample.device, sample.quick).unlink(missing_ok=True)
        for key in sample.shared:
            self._run(key).unlink(missing_ok=True)

    def shared(self, key: str) -> Any:
        """The kept value of a shared run, as [value]; None where there is none."""
        content = self._read(self._run(key), "that run is made again")
        return None if content is None else [content["value"]]

    def keep_shared(self, key: str, value: Any) -> None:
        files.sweep(self._run(key).parent)
        files.write_json(self._run(key), {"value": value})

    def warn(self, message: str) -> None:
        """Once each, however often the file is looked at."""
        if message not in self._warned:
            self._warned.add(message)
            self._warn(message)

    def _path(self, claim: str, seed: int, device: str, quick: bool) -> Path:
        return self.root / "samples" / claim / f"seed-{seed}-{device}{'-quick' if quick else ''}.json"

    def _run(self, key: str) -> Path:
        return self.root / "runs" / f"{key}.json"

    def _read(self, path: Path, then: str) -> dict[str, Any] | None:
        try:
            return files.read_json(path)
        except FileNotFoundError:
            return None
        except Damaged as damage:
            self.warn(f"{damage}; {then}")
            return None


def result(package: Package, claim: str, samples: list[Sample]) -> Result:
    """Judge the samples of a claim. ValueError where the measured value has not the shape that the record states."""
    record = package.record
    entry = record.claims[claim]
    reported = record.reported_value(claim)
    judgement = judge(entry.accept, reported, [sample.value for sample in samples])
    spread = None
    if len(samples) > 1:
        tables = [leaves(sample.value) for sample in samples]
        spread = {n: [_ends([t[n][i] for t in tables]) for i in range(len(tables[0][n]))] for n in tables[0]}
    return Result(
        **_entry(package, claim),
        value=judgement.value,
        interval=judgement.interval,
        spread=spread,
        verdict="not reproduced" if judgement.failures else "reproduced",
        why="; ".join(judgement.failures),
        fingerprint=samples[0].fingerprint,
        machine=samples[0].machine,
        versions=samples[0].versions,
        seconds=round(sum(sample.seconds for sample in samples), 2),
        samples=[sample.model_dump(include={"seed", "value", "details", "seconds"}) for sample in samples],
    )


def _ends(column: list[float]) -> tuple[float, float]:
    return (math.nan, math.nan) if any(math.isnan(x) for x in column) else (min(column), max(column))


def not_run(package: Package, claim: str, why: str, fingerprint: str) -> Result:
    """The result of a claim that was not measured, and why."""
    empty: dict[str, Any] = {"value": None, "interval": None, "spread": None, "samples": [], "versions": {}}
    return Result(
        **_entry(package, claim), **empty, verdict="not run", why=why, fingerprint=fingerprint, machine="", seconds=0
    )


def _entry(package: Package, claim: str) -> dict[str, Any]:
    record = package.record
    entry = record.claims[claim]
    criteria: Accept = entry.accept
    accept = ", ".join(f"{k}: {c}" for k, c in criteria.items()) if isinstance(criteria, dict) else str(criteria)
    first = record.reported[entry.reports[0]]
    return {
        "claim": claim,
        "tier": entry.tier,
        "where": "; ".join(dict.fromkeys(record.reported[i].where for i in entry.reports)),
        "reported": record.reported_value(claim),
        "unit": first.unit,
        "accept": accept,
    }


def recorded(package: Package, warn: Callable[[str], None]) -> dict[str, Result]:
    """The committed results by claim; a damaged file is told to `warn` and left out."""
    found: dict[str, Result] = {}
    if package.results is None:
        return found
    for claim in package.record.claims:
        path = package.results / f"{claim}.json"
        try:
            found[claim] = Result.model_validate(files.read_json(path))
        except FileNotFoundError:
            continue
        except (Damaged, ValidationError) as error:
            reason = error if isinstance(error, Damaged) else f"{path.name} is not a result of this version"
            warn(f"{reason}; `reproduce --only {claim} --record` writes it again")
    return found


def write_result(package: Package, outcome: Result) -> None:
    """Commit-ready: `results/<claim>.json`."""
    assert package.results is not None
    files.write_json(package.results / f"{outcome.claim}.json", outcome.model_dump())
