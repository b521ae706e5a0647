"""The terminal: messages, progress with the time left (on a terminal only), one line per claim, and all about one."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from papertest import history, store, tables, words
from papertest.accept import leaves
from papertest.arithmetic import Computed
from papertest.package import Package
from papertest.store import Result

COLOURS = {"reproduced": "green", "not reproduced": "red", "undecided": "yellow", "not run": "dim"}
GAP = 2  # spaces between columns
LEAST = 4  # cells of a place worth showing


@dataclass(frozen=True)
class Line:
    """One claim as it came out of this run.

    how: measured whole here, one seed held against the record, only recorded, or not run
    here: this run's result, None where there is none
    known: the recorded one
    agrees: of a spot check, whether the seed lies where the record predicts it
    cost: seconds that measuring it here would take, where it was left out
    """

    claim: str
    how: Literal["measured", "spot", "recorded", "not run"]
    here: Result | None = None
    known: Result | None = None
    agrees: bool | None = None
    cost: float = 0.0

    @property
    def result(self) -> Result | None:
        """What is shown: what was measured whole, else what is recorded."""
        return self.here if self.how == "measured" or self.known is None else self.known

    @property
    def verdict(self) -> str:
        return self.result.verdict if self.result is not None else "not run"

    @property
    def contradicts(self) -> bool:
        """Only reproduced against not reproduced: what is undecided contradicts nothing."""
        if self.how != "measured" or self.here is None or self.known is None:
            return False
        return {self.here.verdict, self.known.verdict} == {"reproduced", "not reproduced"}


class Output(Console):
    """stdout: whoever reads it may have seen enough, which the command ends on, and without an error."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class Terminal:
    """Messages and bars on stderr, so that stdout holds the table, or the JSON, alone."""

    def __init__(self) -> None:
        self.out = Output(highlight=False)
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
        """What `--list` prints: the papers and their claims, nothing measured."""
        self._titles(package, chosen)
        ids = max(map(len, chosen))
        for (section, paper), claims in _sections(package, chosen):
            self._heading(section, paper)
            for i in claims:
                self.line(f"  {i:{ids}}{' ' * GAP}{package.claims[i].title}")

    def verdicts(self, package: Package, lines: Sequence[Line], quick: bool) -> None:
        """One line per claim by tier, and by paper where there are several, then what came out in all."""
        by_claim = {line.claim: line for line in lines}
        self._titles(package, by_claim, " · quick: fewer steps, one seed, not a verdict" if quick else "")
        cells = {line.claim: self._cells(package, line) for line in lines}
        widths = self._widths(list(cells.values()))
        head = Text("   ").append(_columns(("claim", "ours", "paper", "where"), widths), "dim")
        self.out.print(head, no_wrap=True, overflow="crop", soft_wrap=True)
        for (section, paper), claims in _sections(package, list(by_claim)):
            self._heading(section, paper)
            for i in claims:
                verdict = by_claim[i].verdict
                text = Text(f" {words.MARKS[verdict]} ", COLOURS[verdict]).append(_columns(cells[i], widths), "default")
                self.out.print(text, soft_wrap=True)
        self.line(totals(lines), "bold")
        for line in notes(lines):
            self.line(line)
        for line in lines:
            if line.contradicts:
                assert line.here is not None and line.known is not None
                self.line(f"{line.claim}: recorded as {line.known.verdict}, here {line.here.verdict}: "
                           f"{line.here.why or line.known.why}", "bold red")  # fmt: skip

    def claim(self, package: Package, i: str, known: Result | None, kept: Result | None) -> None:
        """All about one claim: what it says, its criterion and reason, every sample, its history."""
        record = package.record_of(i)
        entry = record.claims[i]
        self._titles(package, [i])
        self.line(f"{i}: {entry.title}", "bold")
        self._wrapped("", entry.what)
        self.line("")
        fields = {"tier": words.TIERS["en"][words.section(entry.tier, entry.by)], "where": record.where(i)}
        computed = record.computed(i)
        if computed is not None:
            several = computed if isinstance(computed, dict) else {"": computed}
            fields["the paper"] = "; ".join(f"{part} {_sum(found)}".strip() for part, found in several.items())
        units = entry.unit if isinstance(entry.unit, dict) else {"": entry.unit}
        fields["unit"] = ", ".join(f"{part} {unit}".strip() for part, unit in units.items())
        fields |= {"criterion": str(store.stated(package, i)["accept"]), "why": entry.why}
        if entry.controls:
            fields["controls"] = ", ".join(entry.controls)
        if entry.cost:
            fields["cost"] = entry.cost
        for name, text in fields.items():
            self._wrapped(f"{name:>10}  ", text)
        for name, result in (("recorded", known), ("here", kept)):
            if result is not None:
                self._result(name, result)
        for line in history.of_claim(package, i):
            self._wrapped("   history  ", line)
        if entry.earlier:
            self._wrapped("   earlier  ", entry.earlier)

    def _result(self, name: str, result: Result) -> None:
        word = words.verdict(result.tier, result.by, result.verdict, "en")
        self._wrapped(f"{name:>10}  ", f"{words.MARKS[result.verdict]} {word}{f': {result.why}' if result.why else ''}")
        for sample in result.samples:
            rounds = f"{len(sample['rounds'])} rounds" if sample.get("rounds") else f"seed {sample['seed']}"
            value = result.value if sample.get("rounds") else sample["value"]
            table = leaves(value)
            numbers = ", ".join(f"{part} {tables.spread(value, None, part, '1', 'en')}".strip() for part in table)
            versions = " ".join(f"{k} {v}" for k, v in sample["versions"].items() if k in store.LIBRARIES)
            self._wrapped(" " * 12, f"{rounds}: {numbers} ({sample['seconds']:.4g} s, {sample['machine']}, {versions})")
        if result.interval:
            found = [
                f"{part} {tables.spread(result.value, result.interval, part, '1', 'en')}".strip()
                for part in result.interval
            ]
            self._wrapped(" " * 12, f"95 % interval: {', '.join(found)}")
        if result.null is not None:
            self._wrapped(" " * 12, f"the same side twice: {result.null:.3f}")

    def _titles(self, package: Package, claims: Iterable[str], more: str = "") -> None:
        """The papers of these claims, each with its short name where the package has several."""
        shown = {package.paper_of(i) for i in claims}
        for name, record in package.papers.items():
            if name in shown or len(package.papers) == 1:
                cite, short = record.paper, f"{name}: " if len(package.papers) > 1 else ""
                arxiv = f", arXiv {cite.arxiv}" if cite.arxiv else ""
                self.line(f"{short}{cite.title} ({cite.year}{arxiv}){more}", "bold")

    def _heading(self, section: str, paper: str) -> None:
        """The line above claims of one tier, and of one paper where the package has several."""
        if section:
            self.line(section, "bold")
        if paper:
            self.line(f" {paper}", "dim")

    def line(self, text: str, style: str = "") -> None:
        self.out.print(text, style=style, markup=False, soft_wrap=True)

    def _wrapped(self, label: str, text: str) -> None:
        """A paragraph beside its label."""
        width = max(20, self.out.width - len(label))
        lines = Text(text).wrap(self.out, width)
        for number, line in enumerate(lines):
            self.line((label if number == 0 else " " * len(label)) + line.plain.rstrip())

    def _cells(self, package: Package, line: Line) -> tuple[str, str, str, str]:
        """Title, ours, the paper's, the place (or what it would cost)."""
        digits = tables.USUAL if self.out.width >= 100 else tables.USUAL - 1
        shown = line.result
        ours = paper = "–"
        if shown is not None:
            paper = tables.paper(shown, "en", digits)
            ours = tables.ours(shown, "en", digits, interval=self.out.width >= 120)
        if line.how == "spot" and line.here is not None:
            value = tables.spread(line.here.value, None, shown.deciding if shown else "", line.here.unit, "en", digits)
            ours = {True: "≈", False: "≠", None: ""}[line.agrees] + value
        elif line.how == "recorded" and shown is not None and shown.samples:
            ours = f"({ours})"
        place = words.place_short(package.record_of(line.claim).where(line.claim))
        return package.claims[line.claim].title, ours, paper, f"costs {_time(line.cost)}" if line.cost else place

    def _widths(self, rows: list[tuple[str, str, str, str]]) -> list[int]:
        """Columns as wide as their longest cell; where that is too wide, the place gives way, and then the title."""
        heads = ("claim", "ours", "paper", "where")
        widths = [max([len(heads[c]), *(cell_len(row[c]) for row in rows)]) for c in range(4)]
        free = self.out.width - 3 - sum(widths[:3]) - 3 * GAP
        widths[3] = min(widths[3], free) if free >= LEAST else 0
        over = 3 + sum(widths[:3]) + 2 * GAP - self.out.width
        if widths[3] == 0 and over > 0:
            widths[0] -= over
        return widths


def totals(lines: Sequence[Line]) -> str:
    """One line: the paper's score, its printed sums, our own benchmarks."""
    groups: dict[str, list[str]] = {"": [], "printed": [], "us": []}
    for line in lines:
        result = line.here or line.known
        key = "" if result is None else "us" if result.by == "us" else "printed" if result.tier == "printed" else ""
        groups[key].append(line.verdict)
    short = {"not reproduced": "not"} if "reproduced" in groups[""] else {}
    said = [f"{groups[''].count(v)} {short.get(v, v)}" for v in words.MARKS if v in groups[""]]
    found = [", ".join(said)] if said else []
    for key, what in (("printed", "printed sums"), ("us", "ours")):
        if groups[key]:
            found.append(f"{what} {groups[key].count('reproduced')} of {len(groups[key])}")
    return "; ".join(found)


def notes(lines: Sequence[Line]) -> list[str]:
    """What the signs before a number mean, where they were used."""
    found: list[str] = []
    spots = [line for line in lines if line.how == "spot" and line.agrees is not None]
    if spots:
        agree = sum(line.agrees is True for line in spots)
        outside = any(line.agrees is False for line in spots)
        found.append(f"≈ {agree} of {len(spots)} claims measured with one seed lie where the recorded seeds predict"
                     f"{'; ≠ outside: see --show ID' * outside}")  # fmt: skip
    left = [line for line in lines if line.how == "recorded" and line.cost]
    if left:
        found.append(f"( ) recorded, not measured here: {len(left)} more would take about "
                     f"{_time(sum(line.cost for line in left))} (--minutes, --full)")  # fmt: skip
    return found


def _sections(package: Package, chosen: list[str]) -> list[tuple[tuple[str, str], list[str]]]:
    """((tier, paper), claims): the tier is "" where it goes on, and the paper where the package has one."""
    found: list[tuple[tuple[str, str], list[str]]] = []
    for section in (*tables.SECTIONS, "printed"):
        tier = words.TIERS["en"][section]
        for name, record in package.papers.items():
            own = {i: record.claims[i] for i in chosen if i in record.claims}
            claims = [i for i, c in own.items() if words.section(c.tier, c.by) == section]
            if claims:
                found.append(((tier, name if len(package.papers) > 1 else ""), claims))
                tier = ""
    return found


def _columns(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Title to the left, numbers to the right, the place to the left; what does not fit ends in an ellipsis."""
    fitted = [
        cell if cell_len(cell) <= w else cell[: max(0, w - 1)].rstrip() + "…"
        for cell, w in zip(cells, widths, strict=True)
    ]
    title, ours, paper, place = (
        cell.rjust(w) if 0 < c < 3 else cell.ljust(w) for c, (cell, w) in enumerate(zip(fitted, widths, strict=True))
    )
    gap = " " * GAP
    return gap.join([title, ours, paper, *([place] if widths[3] else [])]).rstrip()


def _sum(computed: Computed) -> str:
    """`5.29 / 4.92 = 1.075`, or the value alone where nothing is computed."""
    if not isinstance(computed.value, float) or " " not in computed.shown:
        return computed.shown
    return f"{computed.shown} = {words.number(computed.value)}"


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
