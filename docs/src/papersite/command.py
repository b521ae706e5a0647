"""`uv run site`: build the site, or serve it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from papersite.build import BuildError, Places, build
from papersite.checkout import Checkout
from papersite.serve import serve

ROOT = Path(__file__).resolve().parents[3]


def command(
    serving: Annotated[bool, typer.Option("--serve", help="Serve it here, and build again what changes.")] = False,
    port: Annotated[int, typer.Option(help="The port of --serve; 0 takes a free one.")] = 8000,
    out: Annotated[Path, typer.Option(help="The build folder.")] = ROOT / "docs" / "build",
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what was built before.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="A warning is an error.")] = False,
) -> None:
    """Build the site from the write-ups, figures, notebooks, records and results, in English and in Chinese."""
    places = Places(out.resolve())

    def once(fresh: bool = False) -> int:
        began = time.perf_counter()
        try:
            warnings = build(Checkout(ROOT), places.work, fresh)
        except (BuildError, ValueError) as error:  # ValueError: what a page is made from cannot be read
            print(error, file=sys.stderr)
            return 1
        for line in warnings:
            print(line, file=sys.stderr)
        print(f"built in {time.perf_counter() - began:.0f} s: {places.html / 'index.html'}", flush=True)
        return 1 if strict and warnings else 0

    code = once(fresh)
    if not serving or code:
        raise typer.Exit(code)
    try:
        serve(places.html, ROOT, port, once)
    except OSError as error:
        print(f"port {port}: {error.strerror}; another with --port", file=sys.stderr)
        raise typer.Exit(2) from None


def main() -> None:
    """The console script."""
    typer.run(command)
