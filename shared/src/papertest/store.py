"""What was measured: samples in the reader's own state, results in the repository. Every file is whole or not there."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from papertest import files
from papertest.accept import Accept, Judgement, Value, estimate, judge
from papertest.bench import PAIRS
from papertest.files import Damaged
from papertest.package import Package
from papertest.records import SEEDED

Verdict = Literal["reproduced", "not reproduced", "undecided", "not run"]
UNMEASURED = "not yet measured"  # why a claim was not run that nobody has measured, as a result's `why` begins
NOISE = 0.03  # of the null comparison's 1.00, past which the machine was too noisy
LIBRARIES = ("torch", "jax", "numpy")  # another version of one of these may give other numbers


def _number_or(infinite: float) -> BeforeValidator:
    """JSON has no word for what is not finite: null stands for it."""
    return BeforeValidator(lambda x: infinite if x is None else x)


Low = Annotated[float, _number_or(-math.inf)]
High = Annotated[float, _number_or(math.inf)]
End = Annotated[float, _number_or(math.nan)]


class Kept(BaseModel):
    """One measurement as a result keeps it: of one seed, or all rounds of a speed claim."""

    model_config = ConfigDict(extra="forbid")

    seed: int
    device: str
    machine: str
    versions: dict[str, str]
    value: Any  # a Value; null stands for a number that is not finite
    rounds: list[Any] | None = None
    null: list[Any] | None = None
    details: dict[str, Any]
    seconds: float  # without the shared runs
    shared: dict[str, float]  # key of each shared run that it is made from, and the seconds that it took


class Sample(Kept):
    """One measurement in the reader's state."""

    claim: str
    quick: bool
    fingerprint: str


class Result(BaseModel):
    """All samples of a claim, judged: what `results/<claim>.json` holds."""

    model_config = ConfigDict(extra="forbid")

    claim: str
    tier: str
    by: str | None
    title: str
    where: str
    reported: Any
    paper: Any  # the paper's value of the measured quantity
    unit: str | dict[str, str]  # one, or by part; a part that a table leaves out is a pure number
    accept: str
    value: Any
    interval: dict[str, list[tuple[End, End]]] | None
    bounds: dict[str, list[tuple[Low, High]]]
    verdict: Verdict
    why: str
    deciding: str  # the part that a reader should see first
    seeds: int | None  # an undecided claim: how many seeds, or rounds, would decide it at the spread seen
    control: str | None  # the control that does not hold
    null: float | None  # a speed claim: A over A again
    fingerprint: str
    samples: list[dict[str, Any]]

    @property
    def details(self) -> dict[str, Any]:
        """The details of the first seed; `samples` has them all."""
        return self.samples[0]["details"] if self.samples else {}

    @property
    def kept(self) -> list[Kept]:
        return [Kept.model_validate(sample) for sample in self.samples]

    @property
    def seconds(self) -> float:
        """What all samples took, each shared run counted once."""
        return cost(self.kept)

    @property
    def machines(self) -> list[str]:
        return list(dict.fromkeys(sample["machine"] for sample in self.samples))


def cost(samples: Sequence[Kept], paid: set[str] | None = None) -> float:
    """Seconds of these samples; shared runs in `paid` cost nothing, and what is counted joins them."""
    paid = set[str]() if paid is None else paid
    total = 0.0
    for sample in samples:
        total += sample.seconds + sum(seconds for key, seconds in sample.shared.items() if key not in paid)
        paid |= set(sample.shared)
    return total


class Store:
    """The samples and shared runs in a state folder. `warn` is told of every file that is not usable."""

    def __init__(self, root: Path, warn: Callable[[str], None]) -> None:
        self.root = root
        self._warn = warn
        self._warned: set[str] = set()

    def sample(self, claim: str, seed: int, device: str, quick: bool) -> Sample | None:
        """The kept sample, None where there is none that can be read."""
        path = self._path(claim, seed, device, quick)
        content = self._read(path, f"{claim} is measured again")
        if content is None:
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

    def shared(self, key: str) -> tuple[Any, float] | None:
        """The kept value of a shared run and the seconds that it took; None where there is none."""
        content = self._read(self._run(key), "that run is made again")
        return None if content is None else (content["value"], float(content.get("seconds", 0)))

    def keep_shared(self, key: str, value: Any, seconds: float) -> None:
        files.sweep(self._run(key).parent)
        files.write_json(self._run(key), {"value": value, "seconds": seconds})

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


@dataclass(frozen=True)
class Verdicted:
    """A judgement with what may overrule it: a control that does not hold, or a machine too noisy to time on."""

    judgement: Judgement
    verdict: Verdict
    why: str
    control: str | None
    null: float | None


def verdict(package: Package, claim: str, samples: Sequence[Kept], verdicts: Mapping[str, str]) -> Verdicted:
    """Judge the samples of a claim, given the verdicts of others (for its controls).

    Raises ValueError where the measured value has not the shape that the record states.
    """
    entry = package.claims[claim]
    values: list[Value] = [sample.value for sample in samples]
    null = None
    if entry.tier == "speed":
        values, null = rounds_of(samples)
    judgement = judge(entry.accept, package.record_of(claim).paper_value(claim), values, entry.scales)
    failed = next((c for c in entry.controls if verdicts.get(c, "not run") != "reproduced"), None)
    if failed is not None:
        why = f"its control {failed} is {verdicts.get(failed, 'not run')}"
        return Verdicted(judgement, "undecided", why, failed, null)
    if null is not None and not abs(null - 1) <= NOISE:
        why = f"noisy machine: the same side twice gave {null:.3f}, not 1.00 ± {NOISE}"
        return Verdicted(judgement, "undecided", why, None, null)
    if entry.tier == "speed" and len(values) < PAIRS:
        why = f"{len(values)} of {PAIRS} rounds are measured"
        return Verdicted(judgement, "undecided", why, None, null)
    if entry.tier in SEEDED and len(samples) < entry.runs:
        why = f"{len(samples)} of {entry.runs} seeds are measured"
        return Verdicted(judgement, "undecided", why, None, null)
    why = "; ".join(judgement.why.values())
    if judgement.verdict == "undecided":
        unit = "rounds" if entry.tier == "speed" else "seeds"
        why += f"; {judgement.seeds} {unit} would decide" if judgement.seeds else f"; no number of {unit} would decide"
    return Verdicted(judgement, judgement.verdict, why, None, null)


def rounds_of(samples: Sequence[Kept]) -> tuple[list[Value], float]:
    """The rounds of a speed claim, and the geometric mean of its null comparison. ValueError where it has none."""
    (sample,) = samples
    if not sample.rounds or not sample.null:
        raise ValueError("a claim of tier speed gives papertest.Timed: its rounds, and A against A again")
    null = [math.nan if x is None else float(x) for x in cast("list[float | None]", sample.null)]
    return list(sample.rounds), estimate(null, "log")[0]


def result(
    package: Package, claim: str, samples: Sequence[Kept], fingerprint: str, verdicts: Mapping[str, str]
) -> Result:
    """The result that these samples make. ValueError as in `verdict`."""
    found = verdict(package, claim, samples, verdicts)
    return Result(
        **_entry(package, claim),
        value=found.judgement.value,
        interval=found.judgement.interval,
        bounds=found.judgement.bounds,
        verdict=found.verdict,
        why=found.why,
        deciding=found.judgement.deciding,
        seeds=found.judgement.seeds,
        control=found.control,
        null=found.null,
        fingerprint=fingerprint,
        samples=[sample.model_dump(include=set(Kept.model_fields)) for sample in samples],
    )


def not_run(package: Package, claim: str, why: str, fingerprint: str) -> Result:
    """The result of a claim that was not measured, and why."""
    empty: dict[str, Any] = {"value": None, "interval": None, "bounds": {}, "samples": [], "deciding": ""}
    empty |= {"seeds": None, "control": None, "null": None}
    return Result(**_entry(package, claim), **empty, verdict="not run", why=why, fingerprint=fingerprint)


def _entry(package: Package, claim: str) -> dict[str, Any]:
    """What a result repeats of the record; ci/check holds that it is still so."""
    record = package.record_of(claim)
    entry = record.claims[claim]
    criteria: Accept = entry.accept
    accept = ", ".join(f"{k}: {c}" for k, c in criteria.items()) if isinstance(criteria, dict) else str(criteria)
    return {
        "claim": claim,
        "tier": entry.tier,
        "by": entry.by,
        "title": entry.title,
        "where": record.where(claim),
        "reported": record.reported_value(claim),
        "paper": record.paper_value(claim),
        "unit": entry.unit,
        "accept": accept,
    }


def stated(package: Package, claim: str) -> dict[str, Any]:
    """The same as it is read again from a file."""
    return files.finite(_entry(package, claim))


def recorded(package: Package, warn: Callable[[str], None]) -> dict[str, Result]:
    """The committed results by claim; a damaged file is told to `warn` and left out."""
    found: dict[str, Result] = {}
    if package.results is None:
        return found
    for claim in package.claims:
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
