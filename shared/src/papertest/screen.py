"""The terminal: messages, progress with the time left (on a terminal only), and the table of verdicts."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from papertest.accept import Accept
from papertest.package import Package
from papertest.store import Result
from papertest.tables import VERDICTS, number

COLOURS = {"reproduced": "green", "not reproduced": "red", "not run": "dim"}
GAP = 2  # spaces between columns


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
    def progress(self, seconds: float) -> Generator[None]:
        """A bar over the whole work, `seconds` long by what the recorded results took."""
        with self.bars:
            self.all = self.bars.add_task("all claims (seconds of work)", total=max(1, round(seconds)))
            yield

    def done(self, seconds: float) -> None:
        if self.all is not None:
            self.bars.advance(self.all, round(seconds))

    def track(self, items: Iterable[Any], total: int | None, what: str) -> Iterator[Any]:
        yield from self.bars.track(items, total=total, description=f"  {what}")

    def claims(self, package: Package, chosen: list[str]) -> None:
        """What `--list` prints: the paper and its claims, nothing measured."""
        paper, record = package.record.paper, package.record
        self.out.print(f"{paper.title} ({paper.year}, arXiv {paper.arxiv})", style="bold", markup=False)
        places = {i: place("; ".join(record.reported[r].where for r in record.claims[i].reports)) for i in chosen}
        ids = max(map(len, chosen))
        free = self.out.width - ids - len("exact") - 3 * GAP
        wide = max(10, min(free // 3, max(map(len, places.values()))))
        table = _table()
        table.add_column("claim", width=ids)
        table.add_column("tier", width=len("exact"))
        table.add_column("where in the paper", width=wide)
        table.add_column("what is checked")
        for i in chosen:
            table.add_row(i, record.claims[i].tier, Text(places[i]), Text(record.claims[i].what))
        self.out.print(table)

    def verdicts(self, package: Package, results: dict[str, Result], recorded: dict[str, Result], quick: bool) -> None:
        """The table of results; below 120 columns the place stands under the claim, below 100 verdicts wrap."""
        paper, roomy = package.record.paper, self.out.width >= 120
        title = f"{paper.title} ({paper.year})" + (" · quick: fewer steps, one seed, not a verdict" if quick else "")
        self.out.print(title, style="bold", markup=False)
        table = _table()
        table.add_column("claim" if roomy else "claim\nwhere in the paper", width=max(map(len, results), default=5))
        for name in ("where in the paper",) * roomy + ("paper reports", "recorded", "measured here"):
            table.add_column(name, overflow="fold")
        verdicts = {i: _verdict(result, recorded.get(i)) for i, result in results.items()}
        longest = max((len(line) for v in verdicts.values() for line in v.plain.splitlines()), default=0)
        table.add_column("verdict", width=longest if self.out.width >= 100 else len("✓ reproduced"))
        between = ", " if roomy else "\n"
        for i, result in results.items():
            known = recorded.get(i)
            where = [Text(place(result.where))] if roomy else []
            claim = Text(i) if roomy else Text(i).append(f"\n{place(result.where)}", "dim")
            values = (
                short(*counterpart(result, package.record.claims[i].accept), unit=result.unit, between=between),
                short(known.value, between=between) if known is not None else "–",
                short(result.value, result.interval, between=between) if result.samples else "–",
            )
            table.add_row(claim, *where, *map(Text, values), verdicts[i])
        self.out.print(table)
        for i, result in results.items():
            if result.why:
                self.out.print(f"{i}: {result.verdict}: {result.why}", markup=False, soft_wrap=True, highlight=False)


def place(where: str) -> str:
    """The first of the places, and how many more there are."""
    first, *more = dict.fromkeys(where.split("; "))
    return f"{first}, and {len(more)} more" if more else first


def counterpart(result: Result, accept: Accept) -> tuple[Any, None, bool]:
    """Of what the paper reports, what has the names of what is measured, or else the first entry; is that not all?"""
    if not isinstance(result.reported, dict):
        return result.reported, None, False
    reported = cast("dict[str, Any]", result.reported)
    measured = cast("dict[str, Any]", result.value) if isinstance(result.value, dict) else accept
    names = set(measured) if isinstance(measured, dict) else set[str]()
    named: dict[str, Any] = {}
    for name, value in reported.items():
        if (bare := name.split(": ")[-1]) in names:
            named.setdefault(bare, value)  # the claim's first entry is the one that it is about
    if named:
        return named, None, False
    entry = next(iter(reported)).split(": ")[0]
    first = {k.removeprefix(f"{entry}: "): v for k, v in reported.items() if k.startswith(f"{entry}: ")}
    if not first:
        return (reported, None, False) if all(": " not in k for k in reported) else (reported[entry], None, True)
    return first, None, len(first) < len(reported)


def short(
    value: Any,
    interval: dict[str, list[tuple[float, float]]] | None = None,
    more: bool = False,
    *,
    unit: str = "",
    between: str = ", ",
) -> str:
    """About three numbers of a value, each with its interval if there are any, then "…" where some are left out."""
    if value is None:
        return "–"
    table = cast("dict[str, Any]", value) if isinstance(value, dict) else {"": value}
    shown: list[str] = []
    count = 0
    for name, leaf in table.items():
        if count >= 3:
            more = True
            break
        row = cast("list[Any]", leaf) if isinstance(leaf, list) else [leaf]
        texts = [number(x) for x in row]
        if interval is not None:
            texts = [f"{x} [{number(a)}, {number(b)}]" for x, (a, b) in zip(texts, interval[name], strict=True)]
        if len(texts) > 3:
            texts = [texts[0], "…", texts[-1]]
        count += len(texts) - texts.count("…")
        shown.append(f"{name} {' '.join(texts)}".strip())
    if unit not in ("", "1"):
        shown[-1] += f" {unit}"
    return between.join([*shown, "…"] if more and between == "\n" else shown) + (" …" * (more and between != "\n"))


def differs(result: Result, known: Result) -> bool:
    """Whether a verdict contradicts the recorded one; a claim that was not run contradicts nothing."""
    return "not run" not in (result.verdict, known.verdict) and result.verdict != known.verdict


def _verdict(result: Result, known: Result | None) -> Text:
    text = Text(VERDICTS["en"][result.verdict], COLOURS[result.verdict])
    if known is not None and differs(result, known):
        text.append(f"\nrecorded: {known.verdict}", "bold red")
    return text


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, padding=(0, GAP - 1, 0, 0), pad_edge=False, show_edge=False)
