"""What the checks share: the members of the workspace, a copy of it, and running a command in a clean environment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

UV = os.environ.get("UV", "uv")  # `uv run` names itself here
LEAVES = shutil.ignore_patterns(".git", ".venv", ".papertest", "__pycache__", ".*_cache")


@dataclass(frozen=True)
class Member:
    """A project of the workspace: a paper's package, or papertest."""

    home: Path

    @cached_property
    def pyproject(self) -> dict[str, Any]:
        return read_toml(self.home / "pyproject.toml")

    @property
    def slug(self) -> str:
        return self.home.name

    @property
    def module(self) -> str:
        return self.slug.replace("-", "_")

    @property
    def records(self) -> dict[str, Path]:
        """The records that the wheel carries, in the package's order: their places in it, and the checkout's files.

        Where the pyproject names none, that is `papers/<slug>.toml`.
        """
        table: Any = self.pyproject
        for key in ("tool", "hatch", "build", "targets", "wheel", "force-include"):
            table = table.get(key, {})
        pattern = rf"{self.module}/(record|records/.+)\.toml"
        stated = {target: source for source, target in table.items() if re.fullmatch(pattern, target)}
        stated = stated or {f"{self.module}/record.toml": f"../../papers/{self.slug}.toml"}
        return {target: (self.home / source).resolve() for target, source in stated.items()}


def packages(root: Path) -> list[Member]:
    """The papers' packages, found by glob."""
    return [Member(path.parent) for path in sorted(root.glob("packages/*/pyproject.toml"))]


def projects(root: Path) -> list[Path]:
    """The folder of every project of the workspace, as the root's pyproject.toml names them."""
    named = read_toml(root / "pyproject.toml")["tool"]["uv"]["workspace"]["members"]
    return sorted(path.parent for pattern in named for path in root.glob(f"{pattern}/pyproject.toml"))


def read_toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text("utf-8"))


def run(command: Sequence[str | Path], cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command without this process's virtual environment; its stdout and stderr come back apart."""
    dropped = {"VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "UV_PROJECT_ENVIRONMENT", "UV_RUN_RECURSION_DEPTH"}
    environment = {k: v for k, v in os.environ.items() if k not in dropped} | variables
    return subprocess.run(list(map(str, command)), cwd=cwd, env=environment, text=True, capture_output=True,
                          stdin=subprocess.DEVNULL, check=False)  # fmt: skip


def tail(done: subprocess.CompletedProcess[str], lines: int = 12) -> str:
    """The last lines of what a command printed, indented below the problem that quotes them."""
    text = (done.stdout + done.stderr).strip().splitlines()[-lines:]
    return "".join(f"\n    {line}" for line in text)


def tracked(root: Path) -> list[Path]:
    """The files that git tracks or would track, relative to `root`; outside a checkout, all but the caches."""
    listed = run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], root)
    if listed.returncode == 0:
        paths = [Path(name) for name in listed.stdout.split("\0") if name]
    else:
        paths = [p.relative_to(root) for p in sorted(root.rglob("*"))]
        paths = [p for p in paths if not LEAVES("", p.parts)]
    return [p for p in paths if (root / p).is_file()]


def copy_workspace(root: Path, target: Path) -> Path:
    """A copy of the workspace as a fresh clone of it would be, with what is not committed yet."""
    for path in tracked(root):
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / path, target / path)
    return target


def script(name: str) -> Path:
    """A console script of the environment that this runs in."""
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        raise FileNotFoundError(f"{name} is not installed: run `uv run --all-packages python ci/check`")
    return Path(found)
