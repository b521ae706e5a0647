"""`uv run --package … reproduce` runs the right paper, whichever ran before; so does a package from the template."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from checks import verdicts, workspace
from checks.common import UV, Member, copy_workspace, packages, read_toml, run, script, tail
from checks.workspace import EXAMPLE


def check(root: Path) -> list[str]:
    with tempfile.TemporaryDirectory() as scratch:
        copy = copy_workspace(root, Path(scratch) / "workspace")
        before = workspace.check(copy)
        made = from_template(copy)
        if made.returncode:
            return [f"the template of a new paper (ci/template) makes no package:{tail(made)}"]
        found: list[str] = []
        if not any("`reinstall-package`" in problem for problem in set(workspace.check(copy)) - set(before)):
            found.append("a package that `reinstall-package` does not name goes unseen: ci/checks/workspace.py")
        reinstall(copy, EXAMPLE["slug"])
        found += runs(copy, EXAMPLE["slug"])
        found += [f"a package from ci/template: {new}" for new in workspace.check(copy) if new not in before]
        recorded = [member for member in packages(copy) if all(path.exists() for path in member.records.values())]
        example = Member(copy / "packages" / EXAMPLE["slug"])
        others = [member for member in recorded if member.slug != example.slug]
        for member in [*others, example, *others]:
            slug, (first, *_) = member.slug, member.records.values()
            title = read_toml(first)["paper"]["title"]
            listed = run([UV, "run", "--package", slug, "reproduce", "--list"], copy, COLUMNS="200")
            if listed.returncode or title not in " ".join((listed.stdout + listed.stderr).split()):
                found.append(f"`uv run --package {slug} reproduce --list` does not show '{title}': "
                             f"is it in `reinstall-package` of pyproject.toml?{tail(listed)}")  # fmt: skip
        return found


def runs(root: Path, slug: str) -> list[str]:
    """What fails of a package just made, in the order of CONTRIBUTING: commit, record, then its tests and checks."""
    home = f"packages/{slug}"
    python = root / ".venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    git = ["git", "-c", "user.name=ci", "-c", "user.email=ci", "-c", "core.autocrlf=false"]
    steps = (
        ["git", "init", "--quiet"],
        ["git", "add", "papers", home],
        [*git, "commit", "--quiet", "-m", "The record, older than any result"],
        [UV, "run", "--package", slug, "reproduce", "--record"],
        [UV, "run", "--all-packages", "pytest", "--quiet", "--nbval-lax", home],
        [script("pyright"), "--pythonpath", python, f"{home}/src"],
        [script("ruff"), "check", "--quiet", home],
        [script("ruff"), "format", "--check", "--quiet", home],
    )
    for step in steps:
        done = run(step, root)
        if done.returncode:
            name = " ".join([Path(step[0]).stem, *map(str, step[1:])])
            return [f"in a package from ci/template, `{name}` fails:{tail(done, 30)}"]
    found = verdicts.problems(Member(root / home), python)
    return [f"a package from ci/template, recorded: {problem}" for problem in found]


def from_template(root: Path) -> subprocess.CompletedProcess[str]:
    """Make the example package in a workspace, as CONTRIBUTING.md says."""
    answers = [word for key, value in EXAMPLE.items() for word in ("--data", f"{key}={value}")]
    return run([UV, "tool", "run", "copier", "copy", "--defaults", "--quiet", *answers, "ci/template", "."], root)


def reinstall(root: Path, slug: str) -> None:
    """Add a package to `reinstall-package`, which a person does by hand."""
    file = root / "pyproject.toml"
    file.write_text(re.sub(r"(reinstall-package = \[)", rf'\1"{slug}", ', file.read_text("utf-8")), "utf-8")
