"""The command `reproduce` of every package: measure the paper's claims here, beside what the paper reports.

Exit code 0: nothing contradicts the record; 1: a claim is reproduced where the record says not reproduced or the other
way round, or a claim's code failed; 2: bad usage, a broken record, or a place that cannot be written; 130: interrupted.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated, Any, NoReturn

import typer

from papertest import drawing, files, records, store, tables
from papertest.accept import estimate, leaves
from papertest.data import DataError
from papertest.fingerprint import FingerprintError
from papertest.measure import ClaimFailed, Measurer, has_cuda
from papertest.package import Package
from papertest.records import COMPUTED, SEEDED, TIERS, RecordError
from papertest.screen import Line, Terminal
from papertest.store import Result

UNKNOWN = 60.0  # seconds that a claim is taken to cost before it was ever measured


class Tier(StrEnum):
    exact = "exact"
    printed = "printed"
    trend = "trend"
    speed = "speed"
    paper = "paper"


class Device(StrEnum):
    cpu = "cpu"
    cuda = "cuda"


class Problem(Exception):
    """Ends the command with exit code 2 and this one line."""


@dataclass(frozen=True)
class Options:
    """What the command line asked for."""

    minutes: float = 10
    full: bool = False
    fresh: bool = False
    as_json: bool = False
    record: bool = False


def run(slug: str) -> None:
    """The entry point of package `slug`: parse the command line, measure, print, exit."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

    @app.command(help=f"Reproduce the claims of {slug}: measure them here and print them beside the paper's numbers.")
    def reproduce(
        list_: Annotated[bool, typer.Option("--list", help="List the claims and measure nothing.")] = False,
        show: Annotated[
            str | None, typer.Option(metavar="ID", help="All about one claim: criterion, samples, history.")
        ] = None,
        only: Annotated[list[str] | None, typer.Option(metavar="ID", help="Only this claim (repeatable).")] = None,
        tier: Annotated[Tier | None, typer.Option(help="Only the claims of this tier.")] = None,
        paper: Annotated[
            str | None, typer.Option(metavar="NAME", help="Of a package with several papers, only this one's claims.")
        ] = None,
        minutes: Annotated[
            float, typer.Option(help="About how long to measure: one seed per trend claim, as many as fit.", min=0)
        ] = 10,
        full: Annotated[bool, typer.Option("--full", help="Measure every seed and judge afresh.")] = False,
        fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what was already measured.")] = False,
        quick: Annotated[
            bool, typer.Option("--quick", help="Fewer steps and one seed; marked as quick, never recorded.")
        ] = False,
        device: Annotated[
            Device | None, typer.Option(help="Where to run; by default where each claim belongs.")
        ] = None,
        seed: Annotated[int, typer.Option(help="The first seed; another than 0 is never recorded.", min=0)] = 0,
        as_json: Annotated[bool, typer.Option("--json", help="Print a list of objects, one per claim.")] = False,
        record: Annotated[
            bool,
            typer.Option("--record", help="Maintainers: measure what is missing, write results/, figures/ and tables."),
        ] = False,
    ) -> None:
        terminal = Terminal()
        try:
            package = Package.find(slug)
            if show is not None:
                _show(terminal, package, show, as_json)
                return
            chosen = _choose(package, only or [], tier, paper)
            if record and (quick or seed != 0):
                raise Problem("--record takes full runs from seed 0: drop --quick and --seed")
            if record and package.results is None:
                raise Problem("--record writes into a checkout of the repository, and this is an installed package")
            if list_:
                _list(terminal, package, chosen, as_json)
                return
            if device is Device.cuda and not has_cuda():
                raise Problem("--device cuda: this machine has no CUDA device that torch can use; accepted here: cpu")
            options = Options(minutes, full or bool(only) or record or quick, fresh, as_json, record)
            known = store.recorded(package, terminal.say)
            measurer = Measurer(
                package, terminal, seed, str(device) if device else None, quick, known if record else {}
            )
            raise typer.Exit(_Reproduction(terminal, measurer, known, options).run(chosen))
        except (Problem, RecordError, FingerprintError, DataError, tables.MarkerError) as problem:
            _fail(terminal, str(problem))
        except BrokenPipeError:  # whoever reads us has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        except OSError as error:
            _fail(terminal, f"cannot write {error.filename}: {error.strerror}")

    app(prog_name="reproduce")


def _choose(package: Package, only: list[str], tier: Tier | None, paper: str | None) -> list[str]:
    claims = package.claims
    if paper is not None and paper not in package.papers:
        raise Problem(f"--paper {paper}: there is no such paper{records.nearest(paper, package.papers)}")
    for name in only:
        if name not in claims:
            raise Problem(f"--only {name}: there is no such claim{records.nearest(name, claims)}")
    chosen = [i for i in claims if (not only or i in only) and (paper is None or package.paper_of(i) == paper)]
    if not chosen:
        raise Problem(f"none of the chosen claims is of the paper {paper}")
    chosen = [i for i in chosen if tier is None or claims[i].tier == tier]
    if not chosen:
        raise Problem(f"none of the chosen claims is of tier {tier}")
    return sorted(chosen, key=lambda i: TIERS.index(claims[i].tier))


def _list(terminal: Terminal, package: Package, chosen: list[str], as_json: bool) -> None:
    if not as_json:
        terminal.claims(package, chosen)
        return
    claims = package.claims
    _print_json(
        [
            {"id": i, "record": package.paper_of(i), "tier": claims[i].tier, "by": claims[i].by,
             "title": claims[i].title, "where": package.record_of(i).where(i), "what": claims[i].what}
            for i in chosen
        ]
    )  # fmt: skip


def _show(terminal: Terminal, package: Package, claim: str, as_json: bool) -> None:
    if claim not in package.claims:
        raise Problem(f"--show {claim}: there is no such claim{records.nearest(claim, package.claims)}")
    known = store.recorded(package, terminal.say)
    measurer = Measurer(package, terminal)
    try:
        here = _kept(measurer, claim, {i: r.verdict for i, r in known.items()})
    except ClaimFailed as failure:  # what it measured has not the shape that its record has now
        terminal.say(str(failure))
        here = None
    if here is None and claim not in known:
        here = store.not_run(package, claim, measurer.lacks(claim) or "neither recorded nor measured here", "")
    if as_json:
        how = "measured" if here is not None and here.samples else "recorded" if claim in known else "not run"
        _print_json([_object(package, Line(claim, how, here, known.get(claim)))])
        return
    terminal.claim(package, claim, known.get(claim), here)


def _kept(measurer: Measurer, claim: str, verdicts: Mapping[str, str]) -> Result | None:
    """What was measured here before, with nothing measured now."""
    if claim not in measurer.sources.claims or measurer.lacks(claim) is not None:
        return None
    seeds = [seed for seed in measurer.seeds(claim) if measurer.kept(claim, seed) is not None]
    return measurer.measure(claim, verdicts, seeds) if seeds else None


@dataclass
class _Reproduction:
    """One run of the command."""

    terminal: Terminal
    measurer: Measurer
    known: dict[str, Result]
    options: Options

    @property
    def package(self) -> Package:
        return self.measurer.package

    def run(self, chosen: list[str]) -> int:
        """Measure, print, and give the exit code."""
        package, measurer = self.package, self.measurer
        if missing := [i for i in chosen if i not in measurer.sources.claims]:
            raise Problem(f"{package.called(missing[0])}: [claims.{missing[0]}] is measured nowhere: "
                          f'no @claim("{missing[0]}") in {package.module}.reproduce')  # fmt: skip
        if self.options.fresh:
            for claim in chosen:
                measurer.forget(claim)
        verdicts = {i: result.verdict for i, result in self.known.items()}
        lines: dict[str, Line] = {}
        failed: list[str] = []
        try:
            costs, left = self._plan(chosen)
            with self.terminal.progress(sum(costs[i] for i in chosen if i not in left)):
                start = time.perf_counter()
                for claim in chosen:
                    late = time.perf_counter() - start > 60 * self.options.minutes and costs[claim] > 0
                    if claim in left or (late and not self._whole(claim)):
                        lines[claim] = self._left(claim, costs[claim])
                        continue
                    self._announce(claim, costs[claim])
                    try:
                        lines[claim] = self._measure(claim, verdicts)
                    except ClaimFailed as failure:
                        data = isinstance(failure.__cause__, DataError)
                        failed.append(f"{claim}: {failure.__cause__}" if data else str(failure))
                    self.terminal.done(costs[claim])
                self._judge_again(lines, verdicts)
                here = {i: line.here for i, line in lines.items() if line.how == "measured" and line.here is not None}
                if self.options.record:
                    with measurer.alone():
                        self._write()
                elif not measurer.quick:
                    drawing.draw(measurer.sources, self.known | here, package.state / "figures")
        except KeyboardInterrupt:
            self.terminal.say(f"stopped: {len(lines)} of {len(chosen)} claims are done and kept; "
                              "the same command goes on from there")  # fmt: skip
            return 130
        if self.options.as_json:
            _print_json([_object(package, line) for line in lines.values()])
        else:
            self.terminal.verdicts(package, list(lines.values()), measurer.quick)
            if not self.options.record and not measurer.quick:
                folder = os.path.relpath(package.state / "figures")
                self.terminal.line(f"figures: {folder}   more: --show ID, --full, --help")
        for line in failed:
            self.terminal.say(line)
        contradicted = not measurer.quick and not self.options.record and any(x.contradicts for x in lines.values())
        sys.stdout.flush()
        return 1 if failed or contradicted else 0

    def _whole(self, claim: str) -> bool:
        """Whether a claim is measured whatever the time: what is computed, and all with --full."""
        return self.options.full or self.package.claims[claim].tier in COMPUTED

    def _seeds(self, claim: str) -> list[int]:
        """The seeds to measure: all that the claim has with --full, else the first."""
        seeds = self.measurer.seeds(claim)
        spot = not self.options.full and self.package.claims[claim].tier in SEEDED
        return seeds[:1] if spot else seeds

    def _plan(self, chosen: list[str]) -> tuple[dict[str, float], set[str]]:
        """Seconds that each claim will take here by the recorded times, and the claims that do not fit into the time.

        In the record's order; what is kept costs nothing, and a shared run is paid once, by the first claim that is
        not left out. What is computed is never left out, nor anything with --full.
        """
        costs: dict[str, float] = {}
        left: set[str] = set()
        paid: set[str] = set()
        planned = 0.0
        for claim in chosen:
            also = set(paid)
            costs[claim] = 0.0 if self.measurer.lacks(claim) is not None else self._cost(claim, also)
            if not self._whole(claim) and costs[claim] > 0 and planned + costs[claim] > 60 * self.options.minutes:
                left.add(claim)
            else:
                planned += costs[claim]
                paid = also
        return costs, left

    def _cost(self, claim: str, paid: set[str]) -> float:
        recorded = {k.seed: k for k in self.known[claim].kept} if claim in self.known else {}
        missing = [seed for seed in self._seeds(claim) if self.measurer.kept(claim, seed) is None]
        return sum(store.cost([recorded[seed]], paid) if seed in recorded else UNKNOWN for seed in missing)

    def _left(self, claim: str, seconds: float) -> Line:
        known = self.known.get(claim)
        here = store.not_run(self.package, claim, "it was never recorded, and does not fit into --minutes", "")
        return Line(claim, "recorded", None if known else here, known, cost=seconds)

    def _announce(self, claim: str, seconds: float) -> None:
        if not self.terminal.err.is_terminal and seconds > 0:
            self.terminal.note(f"{claim} …")

    def _measure(self, claim: str, verdicts: dict[str, str]) -> Line:
        known, seeds = self.known.get(claim), self._seeds(claim)
        after = self._write_result if self.options.record else None
        here = self.measurer.measure(claim, verdicts, seeds, after)
        if here.verdict == "not run":
            return Line(claim, "recorded" if known is not None and known.samples else "not run", here, known)
        if len(seeds) < len(self.measurer.seeds(claim)):
            return Line(claim, "spot", here, known, _agrees(self.package, claim, here, known))
        if self.options.record:
            self._write_result(here)
        verdicts[claim] = here.verdict
        return Line(claim, "measured", here, known)

    def _judge_again(self, lines: dict[str, Line], verdicts: dict[str, str]) -> None:
        """With the verdicts of all claims: a control may have been measured after what it controls."""
        claims = self.package.claims
        todo = [i for i, line in lines.items() if line.how == "measured" and claims[i].controls]
        for _ in todo:  # as often as a chain of controls may be long
            for i in todo:
                line = lines[i]
                assert line.here is not None
                here = store.result(self.package, i, line.here.kept, line.here.fingerprint, verdicts)
                lines[i], verdicts[i] = replace(line, here=here), here.verdict

    def _write_result(self, result: Result) -> None:
        """Into results/, as each sample comes; what is there already is not written again."""
        known = store.recorded(self.package, lambda _: None).get(result.claim)
        if known is None or files.finite(known.model_dump()) != files.finite(result.model_dump()):
            store.write_result(self.package, result)

    def _write(self) -> None:
        """Judge again what depends on controls, then figures/ and the generated tables, from what is in results/."""
        package = self.package
        assert package.results and package.figures and package.home and package.checkout
        files.sweep(package.results, package.figures, package.home, package.checkout)
        rejudge(self.measurer, self.terminal)
        now = store.recorded(package, self.terminal.say)
        drawing.draw(self.measurer.sources, now, package.figures)
        tables.write(package, now)


def rejudge(measurer: Measurer, terminal: Terminal) -> None:
    """Bring every result to what its own samples say under the record of today; nothing is measured.

    A claim that has no samples and cannot run here is written as not run.
    """
    package = measurer.package
    for _ in package.claims:  # a control's verdict may have changed what it controls, and so on
        changed = False
        known = store.recorded(package, terminal.say)
        verdicts = {i: result.verdict for i, result in known.items()}
        for claim in package.claims:
            result = known.get(claim)
            lacks = measurer.lacks(claim)
            if result is not None and result.samples:
                try:
                    new = store.result(package, claim, result.kept, result.fingerprint, verdicts)
                except ValueError as error:
                    terminal.say(f"{claim}: {error}; `reproduce --only {claim} --record` measures it again")
                    continue
            elif lacks is not None:
                new = store.not_run(package, claim, lacks, "")
            else:
                continue
            if result is None or files.finite(new.model_dump()) != files.finite(result.model_dump()):
                store.write_result(package, new)
                changed = True
        if not changed:
            break


def _agrees(package: Package, claim: str, here: Result, known: Result | None) -> bool | None:
    """Whether one seed lies where the recorded seeds predict it: their 99 % prediction interval, for every part.

    None where fewer than two seeds are recorded. Seeds that gave one number predict it to a millionth.
    """
    if known is None or len(known.samples) < 2:
        return None
    scales = package.claims[claim].scales
    tabled = [leaves(sample["value"]) for sample in known.samples]
    for part, row in leaves(here.samples[0]["value"]).items():
        for i, x in enumerate(row):
            column = [table[part][i] for table in tabled]
            _, (low, high) = estimate(column, scales.get(part, scales[""]), part, 0.99, ahead=True)
            slack = 1e-6 * max(abs(low), abs(high))
            if not low - slack <= x <= high + slack:
                return False
    return True


def _object(package: Package, line: Line) -> dict[str, Any]:
    here, known = line.here, line.known
    result = line.result
    assert result is not None
    return {
        "id": line.claim,
        "record": package.paper_of(line.claim),
        "tier": result.tier,
        "by": result.by,
        "title": result.title,
        "where": result.where,
        "reported": result.reported,
        "paper": result.paper,
        "unit": result.unit,
        "accept": result.accept,
        "how": line.how,
        "agrees": line.agrees,
        "measured": here.value if here else None,
        "interval": here.interval if here else None,
        "verdict": here.verdict if here and line.how == "measured" else result.verdict,
        "why": result.why,
        "recorded": known.value if known else None,
        "recorded_verdict": known.verdict if known else None,
        "seconds": result.seconds,
        "machines": result.machines,
    }


def _print_json(content: Any) -> None:
    print(json.dumps(files.finite(content), indent=1, ensure_ascii=False))
    sys.stdout.flush()


def _fail(terminal: Terminal, line: str) -> NoReturn:
    terminal.err.print(f"reproduce: {line}", style="red", markup=False, soft_wrap=True)
    sys.exit(2)
