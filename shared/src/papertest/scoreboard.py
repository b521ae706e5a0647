"""The command `scoreboard`: what came out for every paper of the checkout, in one line each.

The numbers are those of the table in the repository's README (`papertest.tables.scores`). Exit code 0; 2 where it is
not run in a checkout, or where a record cannot be read: the papers that can be are shown all the same.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.cells import cell_len, set_cell_size
from rich.text import Text

from papertest import checkout, tables, words
from papertest.records import RecordError
from papertest.screen import COLOURS, GAP, Terminal
from papertest.tables import Score

LEGEND = (
    "✓ reproduced, ✗ not reproduced, ? undecided, – not run: the papers' own claims",
    "sums: printed sums that add up; ours: our own benchmarks that are held",
)


def main() -> None:
    """The console command."""
    typer.run(command)


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print a list of objects, one per paper.")] = False,
) -> None:
    """What came out for every paper: one line each, from the recorded results. Nothing is measured."""
    terminal = Terminal()
    try:
        scores, broken = of(checkout.find(Path.cwd()))
        if as_json:
            print(json.dumps([_object(score) for score in scores], indent=1, ensure_ascii=False))
        else:
            show(terminal, scores)
        sys.stdout.flush()
    except checkout.NoCheckout as problem:
        terminal.err.print(f"scoreboard: {problem}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(2) from None
    except BrokenPipeError:  # whoever reads us has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    for problem in broken:
        terminal.say(f"scoreboard: {problem}")
    raise typer.Exit(2 if broken else 0)


def of(root: Path) -> tuple[list[Score], list[str]]:
    """The scores of all papers of a checkout, and what is wrong with the records that cannot be read."""
    scores: list[Score] = []
    broken: list[str] = []
    for package in tables.packages_of(root):
        try:
            scores += tables.scores([package])
        except RecordError as error:
            broken.append(str(error))
    return scores, broken


def show(terminal: Terminal, scores: Sequence[Score]) -> None:
    """One line per paper, as wide as the terminal at most: a title that does not fit ends in an ellipsis."""
    heads = ["paper", *words.MARKS.values(), "sums", "ours"]
    rows = [[f"{score.package.slug}: {score.cite.title} ({score.cite.year})", *score.cells("en")] for score in scores]
    widths = [max(cell_len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    widths[0] = min(widths[0], terminal.out.width - sum(widths[1:]) - GAP * (len(heads) - 1))
    styles = ["default", *(COLOURS[verdict] for verdict in words.MARKS), "default", "default"]
    for cells in [heads, *rows]:
        title, *numbers = cells
        if cell_len(title) > widths[0]:
            title = set_cell_size(title, widths[0] - 1).rstrip() + "…"
        line = Text(set_cell_size(title, widths[0]), "dim" if cells is heads else "default")
        for cell, width, style in zip(numbers, widths[1:], styles[1:], strict=True):
            line.append(" " * (GAP + width - cell_len(cell))).append(cell, "dim" if cell in ("0", "–") else style)
        terminal.out.print(line, soft_wrap=True)
    for text in LEGEND:
        terminal.line(text)


def _object(score: Score) -> dict[str, Any]:
    adds_up, sums = score.printed
    held, ours = score.ours
    return {
        "package": score.package.slug,
        "record": score.name,
        "title": score.cite.title,
        "year": score.cite.year,
        "link": score.cite.link,
        "verdicts": score.verdicts,
        "printed": {"add_up": adds_up, "of": sums},
        "ours": {"held": held, "of": ours},
    }
