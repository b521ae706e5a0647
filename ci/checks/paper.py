"""`uv run new-paper` adds a paper to a clone: it passes as it is made, goes without a trace, and can be measured."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from papertest import tables

from checks import lock, notebooks, verdicts, workspace
from checks.common import UV, Member, copy_workspace, run, script, tail
from lock import neutral

SLUG = "example-paper"
TITLE = "An Example Paper That Nobody Wrote: On a Title Too Long for a Single Line of a Docstring"
HOME, RECORD = f"packages/{SLUG}", f"papers/{SLUG}.toml"


def check(root: Path) -> list[str]:
    with tempfile.TemporaryDirectory() as scratch:
        copy = copy_workspace(root, Path(scratch) / "workspace")
        if failed := committed(copy):
            return failed
        before = workspace.check(copy)
        if failed := steps(copy, made("--arxiv", "2001.00001", "--authors", "A. Author, B. Author")):
            return failed
        found = [problem for problem in workspace.check(copy) if problem not in before] + lock.check(copy)
        return found + as_made(copy) + gone(copy) + measured(copy)


def committed(root: Path) -> list[str]:
    """Make a clone's first commit, its lock and scoreboards as they should be: other checks hold the root's."""
    file = root / "uv.lock"
    file.write_text(neutral(file.read_text("utf-8")), "utf-8")
    for path, text in tables.boards(root).items():
        path.write_text(text, "utf-8")
    return steps(root, ["git", "init", "--quiet"], *commit("the clone"))


def as_made(root: Path) -> list[str]:
    """What fails of a paper just made: nothing of it is measured."""
    member, python = Member(root / HOME), python_of(root)
    failed = steps(
        root,
        [script("ruff"), "check", "--quiet", HOME],
        [script("ruff"), "format", "--check", "--quiet", HOME],
        [UV, "run", "--package", SLUG, "reproduce", "--minutes", "0"],
        [UV, "run", "--all-packages", "pytest", "--quiet", "--nbval", "--ignore-glob=*.zh-CN.ipynb", HOME],
        [script("pyright"), "--pythonpath", python, f"{HOME}/src"],
    )
    found = verdicts.problems(member, python) + [p for p in notebooks.apart(root) if p.startswith(HOME)]
    return failed + [f"a paper that `new-paper` made: {problem}" for problem in found]


def gone(root: Path) -> list[str]:
    """What `--remove` leaves behind."""
    if failed := steps(root, [UV, "run", "new-paper", "--remove", SLUG]):
        return failed
    left = run(["git", "status", "--porcelain"], root).stdout.splitlines()
    return [f"`new-paper --remove` leaves {line}" for line in left if not line.endswith(" uv.lock")] + lock.check(root)


def measured(root: Path) -> list[str]:
    """What fails of a paper that is made and measured, as CONTRIBUTING.md says: its record is committed first."""
    member, python = Member(root / HOME), python_of(root)
    failed = steps(
        root,
        made("--url", "https://example.org/paper", "--year", "1999", "--no-jax"),
        *commit("the record"),
        [UV, "run", "--package", SLUG, "reproduce", "--record"],
        [python, "-m", "pytest", "--quiet", f"{HOME}/tests/test_claims.py"],
    )
    if failed:
        return failed
    found = [f"a paper that was measured: {problem}" for problem in verdicts.problems(member, python)]
    if not any("is measured on the template's example" in problem for problem in workspace.leftovers(member)):
        found.append("results of the template's example go unseen: ci/checks/workspace.py")
    record = root / RECORD
    record.write_text(record.read_text("utf-8").replace(workspace.DRAFT, ""), "utf-8")
    if not any("is the template's example" in problem for problem in workspace.leftovers(member)):
        found.append("claims of the template's example go unseen: ci/checks/workspace.py")
    return found


def python_of(root: Path) -> Path:
    return root / ".venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python"


def made(*where: str) -> list[str]:
    return [UV, "run", "new-paper", SLUG, "--title", TITLE, *where]


def commit(message: str) -> tuple[list[str], list[str]]:
    settings = ["-c", "user.name=ci", "-c", "user.email=ci", "-c", "core.autocrlf=false", "-c", "commit.gpgsign=false"]
    return ["git", "add", "--all"], ["git", *settings, "commit", "--quiet", "-m", message]


def steps(root: Path, *commands: Sequence[str | Path]) -> list[str]:
    """Run the commands up to the first that fails, and tell of that one."""
    for command in commands:
        done = run(command, root, OMP_NUM_THREADS="1")  # the example is too small for more
        if done.returncode:
            name = " ".join([Path(command[0]).stem, *map(str, command[1:])])
            return [f"with a paper from ci/template, `{name}` fails:{tail(done, 30)}"]
    return []
