"""Every notebook runs from its first cell to its last."""

from __future__ import annotations

import sys
from pathlib import Path

from checks.common import run, tail


def check(root: Path) -> list[str]:
    found: list[str] = []
    for notebook in sorted(root.glob("packages/*/notebooks/*.ipynb")):
        name = notebook.relative_to(root).as_posix()
        done = run([sys.executable, "-m", "pytest", "--quiet", "--no-header", "--nbval-lax", name], root)
        if done.returncode:
            found.append(f"{name} fails: open it, and run it from the top{tail(done, 30)}")
    return found
