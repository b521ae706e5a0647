"""What the site is built from: the packages of a checkout with their results, and the files that belong to no paper."""

from __future__ import annotations

import sys
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from papertest import store
from papertest.package import Package
from papertest.records import RecordError
from papertest.store import Result

from papersite.words import LANGUAGES, NOTEBOOK, README, SECTIONS, Language


@dataclass(frozen=True)
class Paper:
    """One package: its records, results, write-ups and notebooks."""

    package: Package
    results: dict[str, Result]

    @property
    def slug(self) -> str:
        return self.package.slug

    @property
    def home(self) -> Path:
        assert self.package.home is not None
        return self.package.home

    def writeup(self, language: Language) -> str:
        return (self.home / README[language]).read_text("utf-8")

    def lacking(self) -> str | None:
        """What write-ups and notebooks still need before the site can show them; None where nothing is missing."""
        for language in LANGUAGES:
            path = self.home / README[language]
            if not path.exists():
                return f"{path.name} is missing"
            if not (self.home / NOTEBOOK[language]).exists():
                return f"{NOTEBOOK[language]} is missing"
            text = path.read_text("utf-8")
            for heading in SECTIONS.values():
                if f"\n## {heading[language]}\n" not in text:
                    return f"{path.name} has no heading `## {heading[language]}`"
        return None


@dataclass(frozen=True)
class Checkout:
    """The repository whose root this is."""

    root: Path

    @property
    def docs(self) -> Path:
        return self.root / "docs"

    @cached_property
    def papers(self) -> list[Paper]:
        """Every package with a record that can be read and a write-up, the card's order first; others are told of."""
        found: list[Paper] = []
        for init in sorted(self.root.glob("packages/*/src/*/__init__.py")):
            package = Package.at(init.parent)
            try:
                paper = Paper(package, store.recorded(package, warn=_tell))
            except RecordError as error:
                _tell(f"{package.slug} is left out: {error}")
                continue
            if lacking := paper.lacking():
                _tell(f"{package.slug} is left out: {lacking}")
            else:
                found.append(paper)
        order = list(self.cards)
        return sorted(found, key=lambda p: (order.index(p.slug) if p.slug in order else len(order), p.slug))

    @cached_property
    def cards(self) -> dict[str, Any]:
        """`docs/cards.toml`: the idea of each paper in a sentence, in the order of the site."""
        return self._toml("cards")

    @cached_property
    def path(self) -> list[dict[str, Any]]:
        """`docs/path.toml`: the weeks of the learning path."""
        return self._toml("path")["week"]

    @cached_property
    def glossary(self) -> list[dict[str, Any]]:
        """`docs/glossary.toml`: the terms, in both languages."""
        return self._toml("glossary")["term"]

    def _toml(self, name: str) -> dict[str, Any]:
        return tomllib.loads((self.docs / f"{name}.toml").read_text("utf-8"))


def _tell(text: str) -> None:
    print(f"site: {text}", file=sys.stderr)
