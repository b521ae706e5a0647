"""`uv run --package … reproduce` runs the right paper, whichever ran before."""

from __future__ import annotations

import tempfile
from pathlib import Path

from checks.common import UV, copy_workspace, packages, read_toml, run, tail


def check(root: Path) -> list[str]:
    with tempfile.TemporaryDirectory() as scratch:
        copy = copy_workspace(root, Path(scratch) / "workspace")
        recorded = [member for member in packages(copy) if all(path.exists() for path in member.records.values())]
        found: list[str] = []
        for member in [*recorded, *recorded]:
            slug, (first, *_) = member.slug, member.records.values()
            title = read_toml(first)["paper"]["title"]
            listed = run([UV, "run", "--package", slug, "reproduce", "--list"], copy, COLUMNS="200")
            if listed.returncode or title not in " ".join((listed.stdout + listed.stderr).split()):
                found.append(f"`uv run --package {slug} reproduce --list` does not show '{title}': "
                             f"is it in `reinstall-package` of pyproject.toml?{tail(listed)}")  # fmt: skip
        return found
