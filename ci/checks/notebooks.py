"""Every notebook gives its stored outputs again, and the Chinese one has the English one's code and outputs."""

from __future__ import annotations

import sys
from pathlib import Path

from checks.common import run, tail
from notebooks_zh import SUFFIX, differences, pairs, read, untranslated

CURE = "`uv run --all-packages python ci/notebooks_zh.py`"


def check(root: Path) -> list[str]:
    found = apart(root)
    for notebook, _ in pairs(root):
        name = notebook.relative_to(root).as_posix()
        done = run([sys.executable, "-m", "pytest", "--quiet", "--no-header", "--nbval", name], root)
        if done.returncode:
            found.append(f"{name} fails: open it, run it from the top, and save it{tail(done, 30)}")
    return found


def apart(root: Path) -> list[str]:
    """Where a notebook in Chinese is not in step with the English one; nothing is run."""
    both = pairs(root)
    found = [f"{path.relative_to(root).as_posix()} has no English notebook: delete it, or write one"
             for path in sorted(root.glob(f"packages/*/notebooks/*{SUFFIX}"))
             if path not in {chinese for _, chinese in both}]  # fmt: skip
    for english, chinese in both:
        name = chinese.relative_to(root).as_posix()
        if not chinese.exists():
            found.append(f"{name} is not there: make it with {CURE}, and translate its text")
            continue
        have = read(chinese)
        found += [f"{name}: {difference}: {CURE} copies it" for difference in differences(read(english), have)]
        found += [f"{name}: {cell} has no Chinese: translate it" for cell in untranslated(have)]
    return found
