"""Where a package's parts are: its code, its record, its results and the reader's own measurements."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import platformdirs

from papertest import records
from papertest.records import Record


@dataclass(frozen=True)
class Package:
    """A paper's package. `checkout` is the repository's root, or None when the package is installed alone."""

    slug: str
    code: Path  # the folder of the import package
    checkout: Path | None

    @classmethod
    def find(cls, slug: str) -> Package:
        """The installed package of this slug, without importing it; RecordError where there is none."""
        spec = importlib.util.find_spec(slug.replace("-", "_"))
        if spec is None or spec.origin is None:
            raise records.RecordError(f"{slug}: no package of this name is installed")
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
    def record(self) -> Record:
        """`papers/<slug>.toml` of the checkout, or the copy that the package's wheel carries."""
        if self.checkout:
            return records.load(self.checkout / "papers" / f"{self.slug}.toml")
        return records.load(self.code / "record.toml", f"{self.module}/record.toml")

    @property
    def claim_files(self) -> list[Path]:
        """The modules that hold claims and figures: `reproduce.py`, or all of `reproduce/`."""
        single, folder = self.code / "reproduce.py", self.code / "reproduce"
        return [single] if single.exists() else sorted(folder.rglob("*.py"))
