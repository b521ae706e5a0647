"""The terminal: messages, progress with the time left (on a terminal only), and the table of verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from papertest.package import Package
from papertest.store import Result
from papertest.tables import VERDICTS, brief, measured

COLOURS = {"reproduced": "green", "not reproduced": "red", "not run": "dim"}


class Terminal:
    """Messages and bars on stderr, so that stdout holds the table, or the JSON, alone."""

    def __init__(self) -> None:
        self.out = Console()
        self.err = Console(stderr=True, highlight=False)
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.err,
            disable=not self.err.is_terminal,
            transient=True,
        )
        self.all: TaskID | None = None

    def say(self, message: str) -> None:
        self.err.print(message, style="yellow", markup=False, soft_wrap=True)

    def note(self, message: str) -> None:
        self.err.print(message, style="dim", markup=False, soft_wrap=True)

    @contextmanager
    def progress(self, seconds: float) -> Iterator[None]:
        """A bar over the whole work, `seconds` long by what the recorded results took."""
        with self.bars:
            self.all = self.bars.add_task("all claims (seconds of work)", total=max(1, round(seconds)))
            yield

    def done(self, seconds: float) -> None:
        if self.all is not None:
            self.bars.advance(self.all, round(seconds))

    def track(self, items: Iterable[Any], total: int | None, what: str) -> Iterator[Any]:
        yield from self.bars.track(items, total=total, description=f"  {what}")

    def claims(self, package: Package) -> None:
        """What `--list` prints: the paper and its claims, nothing measured."""
        paper = package.record.paper
        self.out.print(f"{paper.title} ({paper.year}, arXiv {paper.arxiv})", style="bold", markup=False)
        table = Table("claim", "tier", "where in the paper", "what is checked")
        for i, claim in package.record.claims.items():
            where = "; ".join(dict.fromkeys(package.record.reported[r].where for r in claim.reports))
            table.add_row(i, claim.tier, where, claim.what)
        self.out.print(table)

    def verdicts(self, package: Package, results: dict[str, Result], recorded: dict[str, Result], quick: bool) -> None:
        paper = package.record.paper
        title = f"{paper.title} ({paper.year})" + (" · quick: fewer steps, one seed, not a verdict" if quick else "")
        table = Table("claim", "where", "paper reports", "recorded", "measured here", "verdict", title=title)
        for i, result in results.items():
            mine, known = _verdict(result), recorded.get(i)
            if known is not None and differs(result, known):
                mine += f"\n[bold red]recorded: {known.verdict}[/]"
            before = brief(known.value) if known is not None else "–"
            here = measured(result) if result.samples else "–"
            table.add_row(i, result.where, brief(result.reported, result.unit), before, here, mine)
        self.out.print(table)
        for i, result in results.items():
            if result.why:
                self.out.print(f"{i}: {result.verdict}: {result.why}", markup=False, soft_wrap=True, highlight=False)


def differs(result: Result, known: Result) -> bool:
    """Whether a verdict contradicts the recorded one; a claim that was not run contradicts nothing."""
    return "not run" not in (result.verdict, known.verdict) and result.verdict != known.verdict


def _verdict(result: Result) -> str:
    return f"[{COLOURS[result.verdict]}]{VERDICTS['en'][result.verdict]}[/]"
