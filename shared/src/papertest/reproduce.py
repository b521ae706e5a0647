"""The command `reproduce` of every package: measure the paper's claims here, beside what the paper reports.

Exit code 0: every verdict as recorded; 1: a verdict differs, or a claim's code failed; 2: bad usage, a broken record,
or a place that cannot be written; 130: interrupted.
"""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from typing import Annotated, Any, NoReturn

import typer

from papertest import drawing, files, records, store, tables
from papertest.data import DataError
from papertest.measure import ClaimFailed, Measurer, has_cuda
from papertest.package import Package
from papertest.records import RecordError
from papertest.screen import Terminal, differs
from papertest.store import Result


class Tier(StrEnum):
    exact = "exact"
    trend = "trend"
    paper = "paper"


class Device(StrEnum):
    cpu = "cpu"
    cuda = "cuda"


class Problem(Exception):
    """Ends the command with exit code 2 and this one line."""


def run(slug: str) -> None:
    """The entry point of package `slug`: parse the command line, measure, print, exit."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

    @app.command(help=f"Reproduce the claims of {slug}: measure them here and print them beside the paper's numbers.")
    def reproduce(
        list_: Annotated[bool, typer.Option("--list", help="List the claims and measure nothing.")] = False,
        only: Annotated[list[str] | None, typer.Option(metavar="ID", help="Only this claim (repeatable).")] = None,
        tier: Annotated[Tier | None, typer.Option(help="Only the claims of this tier.")] = None,
        fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what was already measured.")] = False,
        quick: Annotated[
            bool, typer.Option("--quick", help="Fewer steps and one seed; marked as quick, never recorded.")
        ] = False,
        device: Annotated[
            Device | None, typer.Option(help="Where to run; by default where each claim belongs.")
        ] = None,
        seed: Annotated[int, typer.Option(help="The first seed; another than 0 is never recorded.", min=0)] = 0,
        as_json: Annotated[bool, typer.Option("--json", help="Print a list of objects, one a claim.")] = False,
        record: Annotated[
            bool,
            typer.Option("--record", help="Maintainers: write results/, figures/ and the tables of the write-ups."),
        ] = False,
    ) -> None:
        terminal = Terminal()
        try:
            package = Package.find(slug)
            chosen = _choose(package, only or [], tier)
            if record and (quick or seed != 0):
                raise Problem("--record takes full runs from seed 0: drop --quick and --seed")
            if record and package.results is None:
                raise Problem("--record writes into a checkout of the repository, and this is an installed package")
            if list_:
                _list(terminal, package, chosen, as_json)
                return
            if device is Device.cuda and not has_cuda():
                raise Problem("--device cuda: this machine has no CUDA device that torch can use; accepted here: cpu")
            measurer = Measurer(package, terminal, seed, str(device) if device else None, quick)
            raise typer.Exit(_reproduce(terminal, measurer, chosen, fresh, as_json, record))
        except (Problem, RecordError, DataError, tables.MarkerError) as problem:
            _fail(terminal, str(problem))
        except OSError as error:
            _fail(terminal, f"cannot write {error.filename}: {error.strerror}")

    app(prog_name="reproduce")


def _choose(package: Package, only: list[str], tier: Tier | None) -> list[str]:
    claims = package.record.claims
    for name in only:
        if name not in claims:
            raise Problem(f"--only {name}: there is no such claim{records.nearest(name, claims)}")
    order = ["exact", "trend", "paper"]
    chosen = [i for i, c in claims.items() if (not only or i in only) and (tier is None or c.tier == tier)]
    if not chosen:
        raise Problem(f"none of the chosen claims is of tier {tier}")
    return sorted(chosen, key=lambda i: order.index(claims[i].tier))


def _list(terminal: Terminal, package: Package, chosen: list[str], as_json: bool) -> None:
    if not as_json:
        terminal.claims(package, chosen)
        return
    claims = package.record.claims
    where = {i: [package.record.reported[r].where for r in claims[i].reports] for i in chosen}
    _print_json(
        [{"id": i, "tier": claims[i].tier, "where": "; ".join(where[i]), "what": claims[i].what} for i in chosen]
    )


def _reproduce(
    terminal: Terminal, measurer: Measurer, chosen: list[str], fresh: bool, as_json: bool, record: bool
) -> int:
    package = measurer.package
    if missing := [i for i in chosen if i not in measurer.sources.claims]:
        raise Problem(f"papers/{package.slug}.toml: [claims.{missing[0]}] is measured nowhere: "
                      f'no @claim("{missing[0]}") in {package.module}.reproduce')  # fmt: skip
    known = store.recorded(package, terminal.say)
    if fresh:
        for claim in chosen:
            measurer.forget(claim)
    results: dict[str, Result] = {}
    failed: list[str] = []
    expected = {i: known[i].seconds if i in known and known[i].samples else 5.0 for i in chosen}
    try:
        with terminal.progress(sum(expected.values())):
            for claim in chosen:
                terminal.note(f"{claim} …") if not terminal.err.is_terminal and None in measurer.kept(claim) else None
                try:
                    results[claim] = measurer.measure(claim)
                except ClaimFailed as failure:
                    if isinstance(failure.__cause__, DataError):
                        failed.append(f"{claim}: {failure.__cause__}")
                    else:
                        failed.append(str(failure))
                terminal.done(expected[claim])
            if record:
                with measurer.alone():
                    _record(terminal, measurer, results, known)
            elif not measurer.quick:
                drawing.draw(measurer.sources, results, package.state / "figures")
    except KeyboardInterrupt:
        terminal.say(f"stopped: {len(results)} of {len(chosen)} claims are measured and kept; "
                     "the same command goes on from there")  # fmt: skip
        return 130
    if as_json:
        _print_json([_object(r, known.get(i)) for i, r in results.items()])
    else:
        terminal.verdicts(package, results, known, measurer.quick)
        if not record and not measurer.quick:
            terminal.note(f"figures: {package.state / 'figures'}")
    for line in failed:
        terminal.say(line)
    contradicted = not measurer.quick and any(i in known and differs(r, known[i]) for i, r in results.items())
    return 1 if failed or (contradicted and not record) else 0


def _record(terminal: Terminal, measurer: Measurer, results: dict[str, Result], known: dict[str, Result]) -> None:
    """Write results/, figures/ and the generated tables. A claim that cannot run here keeps the result it has."""
    package = measurer.package
    assert package.results and package.figures and package.home and package.checkout
    files.sweep(package.results, package.figures, package.home, package.checkout)
    for claim, result in results.items():
        if result.verdict == "not run" and claim in known and known[claim].samples:
            terminal.say(f"{claim} keeps its result from {known[claim].machine}: {result.why}")
            results[claim] = known[claim]
        else:
            store.write_result(package, result)
    now = store.recorded(package, terminal.say)
    drawing.draw(measurer.sources, now, package.figures)
    tables.write(package, now)


def _object(result: Result, known: Result | None) -> dict[str, Any]:
    return {
        "id": result.claim,
        "tier": result.tier,
        "where": result.where,
        "reported": result.reported,
        "unit": result.unit,
        "accept": result.accept,
        "measured": result.value,
        "interval": result.interval,
        "verdict": result.verdict,
        "why": result.why,
        "recorded": known.value if known else None,
        "recorded_verdict": known.verdict if known else None,
        "seconds": result.seconds,
        "machine": result.machine,
    }


def _print_json(content: Any) -> None:
    print(json.dumps(files.finite(content), indent=1, ensure_ascii=False))


def _fail(terminal: Terminal, line: str) -> NoReturn:
    terminal.err.print(f"reproduce: {line}", style="red", markup=False, soft_wrap=True)
    sys.exit(2)
