"""The checkout that a command of the whole repository is run in."""

from __future__ import annotations

from pathlib import Path


class NoCheckout(Exception):
    """No folder from here upwards is a checkout; the message says what to do."""


def find(start: Path) -> Path:
    """The nearest folder from `start` upwards that holds `papers/` and `packages/`; NoCheckout where there is none."""
    for folder in (start.resolve(), *start.resolve().parents):
        if (folder / "papers").is_dir() and (folder / "packages").is_dir() and (folder / "pyproject.toml").is_file():
            return folder
    raise NoCheckout("no folder from here upwards holds papers/ and packages/: run it in a checkout of the repository")
