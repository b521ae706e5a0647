"""Where a package's parts are: its code, its records, its results and the reader's own measurements."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import platformdirs

from papertest import records
from papertest.records import Claim, Record, RecordError


@dataclass(frozen=True)
class Package:
    """The package of a paper, or of several. `checkout` is the repository's root, None where it is installed alone."""

    slug: str
    code: Path  # the folder of the import package
    checkout: Path | None

    @classmethod
    def find(cls, slug: str) -> Package:
        """The installed package of this slug, without importing it; RecordError where there is none."""
        spec = importlib.util.find_spec(slug.replace("-", "_"))
        if spec is None or spec.origin is None:
            raise RecordError(f"{slug}: no package of this name is installed")
        return cls.at(Path(spec.origin).parent)

    @classmethod
    def at(cls, code: Path) -> Package:
        """The package whose import package is the folder `code`."""
        slug = code.name.replace("_", "-")
        root = code.parents[3] if len(code.parents) > 3 else None
        in_checkout = root is not None and (root / "packages" / slug / "src" / code.name) == code
        return cls(slug, code, root if in_checkout else None)

    @property
    def module(self) -> str:
        return self.code.name

    @property
    def home(self) -> Path | None:
        """`packages/<slug>` of a checkout."""
        return self.checkout / "packages" / self.slug if self.checkout else None

    @property
    def results(self) -> Path | None:
        return self.home / "results" if self.home else None

    @property
    def figures(self) -> Path | None:
        return self.home / "figures" if self.home else None

    @property
    def states(self) -> Path:
        """The folder that holds the states of all packages of a checkout, or of all that are installed alone."""
        return self.checkout / ".papertest" if self.checkout else Path(platformdirs.user_state_dir("papertest"))

    @property
    def state(self) -> Path:
        """Where the reader's own measurements are kept."""
        return self.states / self.slug

    @cached_property
    def record_files(self) -> dict[str, Path]:
        """The file of each paper's record, in the package's order, by the paper's short name.

        In a checkout those that the package's pyproject puts into its wheel, or else `papers/<slug>.toml`, and the name
        is the file's; in a wheel `record.toml`, or of several `records/1-<name>.toml`, `records/2-<name>.toml`, ….
        """
        if self.home is not None and self.checkout is not None:
            stated = _included(self.home / "pyproject.toml", self.module)
            files = [self.home.joinpath(source).resolve() for source in stated]
            return {path.stem: path for path in files or [self.checkout / "papers" / f"{self.slug}.toml"]}
        several = {_numbered(path): path for path in (self.code / "records").glob("*.toml")}
        if not several:
            return {self.slug: self.code / "record.toml"}
        return {name: several[number, name] for number, name in sorted(several)}

    @cached_property
    def papers(self) -> dict[str, Record]:
        """The record of each paper by its short name. RecordError as in `records.together`."""
        found = records.together({self._called(path): path for path in self.record_files.values()})
        return dict(zip(self.record_files, found, strict=True))

    @property
    def record(self) -> Record:
        """The one record of a package with one paper; RecordError where there are several."""
        if len(self.papers) > 1:
            several = ", ".join(self.papers)
            raise RecordError(f"{self.slug} has the records {several}: take one of `papers`, or `record_of` a claim")
        (record,) = self.papers.values()
        return record

    @cached_property
    def claims(self) -> dict[str, Claim]:
        """The claims of all papers by id, in the records' order."""
        return {i: claim for record in self.papers.values() for i, claim in record.claims.items()}

    @cached_property
    def _owners(self) -> dict[str, str]:
        return {i: name for name, record in self.papers.items() for i in record.claims}

    def paper_of(self, claim: str) -> str:
        """The short name of the paper that makes this claim."""
        return self._owners[claim]

    def record_of(self, claim: str) -> Record:
        """The record that has this claim."""
        return self.papers[self._owners[claim]]

    def called(self, claim: str | None = None) -> str:
        """What messages call the record of a claim, or all records of the package: `papers/rope.toml`."""
        names = [*self.record_files] if claim is None else [self._owners[claim]]
        return " or ".join(self._called(self.record_files[name]) for name in names)

    def _called(self, path: Path) -> str:
        return f"papers/{path.name}" if self.checkout else path.relative_to(self.code.parent).as_posix()

    @property
    def claim_files(self) -> list[Path]:
        """The modules that hold claims and figures: `reproduce.py`, or all of `reproduce/`."""
        single, folder = self.code / "reproduce.py", self.code / "reproduce"
        return [single] if single.exists() else sorted(folder.rglob("*.py"))


def _included(pyproject: Path, module: str) -> list[str]:
    """The files that a pyproject puts into its package's wheel as records, in its order."""
    if not pyproject.exists():
        return []
    try:
        table: Any = tomllib.loads(pyproject.read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise RecordError(f"packages/{pyproject.parent.name}/pyproject.toml: not TOML: {error}") from None
    for key in ("tool", "hatch", "build", "targets", "wheel", "force-include"):
        table = table.get(key, {})
    return [source for source, target in table.items() if re.fullmatch(rf"{module}/(record|records/.+)\.toml", target)]


def _numbered(path: Path) -> tuple[int, str]:
    """`2-alibi.toml` is the second, alibi."""
    number, _, name = path.stem.partition("-")
    if not (number.isdecimal() and name):
        place = f"{path.parent.parent.name}/records/{path.name}"
        raise RecordError(f"{place}: of several records in a wheel each is called <n>-<name>.toml")
    return int(number), name
