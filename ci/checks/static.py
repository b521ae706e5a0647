"""Ruff's rules and layout, pyright (strict on shared/ and the packages), and which code may import which."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from checks.common import Member, packages, run, script, tail


def check(root: Path) -> list[str]:
    with tempfile.NamedTemporaryFile("w", suffix=".toml", encoding="utf-8") as contracts:
        contracts.write(import_contracts(packages(root)))
        contracts.flush()
        tools = (
            ([script("ruff"), "check", "--quiet", "--output-format", "concise", "."], "run `ruff check --fix .`"),
            (
                [script("ruff"), "format", "--check", "--quiet", "--output-format", "concise", "."],
                "run `ruff format .`",
            ),
            ([script("pyright"), "--pythonpath", sys.executable], "say the type, or check it"),
            (
                [script("lint-imports"), "--no-cache", "--no-logo", "--config", contracts.name],
                "move the import into the package's `reproduce`, or copy the few lines",
            ),
        )
        found: list[str] = []
        for command, cure in tools:
            done = run(command, root)
            if done.returncode:
                shown = [Path(command[0]).stem, *(str(word) for word in command[1:2] if word != "--pythonpath")]
                found.append(f"`{' '.join(shown)}` complains: {cure}{tail(done, 40)}")
        return found


def import_contracts(members: list[Member]) -> str:
    """import-linter's configuration, from the packages that are there: none can be left out of it."""
    names = [member.module for member in members]
    text = f"[tool.importlinter]\nroot_packages = {[*names, 'papertest']}\ninclude_external_packages = true\n"
    if len(names) > 1:
        text += contract("independence", "packages are independent of each other", modules=names)
    text += contract("forbidden", "papertest imports no package", source_modules=["papertest"], forbidden_modules=names)
    for member in members:
        text += contract(
            "forbidden",
            f"the implementation of {member.slug} imports neither papertest nor matplotlib",
            source_modules=implementation(member),
            forbidden_modules=["papertest", "papertest.**", "matplotlib"],
            as_packages=False,
        )
    return text


def contract(kind: str, name: str, **keys: list[str] | bool) -> str:
    lines = [f"{key} = {str(value).lower() if isinstance(value, bool) else value}" for key, value in keys.items()]
    return "\n".join(["[[tool.importlinter.contracts]]", f'type = "{kind}"', f'name = "{name}"', *lines, ""])


def implementation(member: Member) -> list[str]:
    """Every module of a package but those of its `reproduce`."""
    source = member.home / "src"
    files = sorted((source / member.module).rglob("*.py"))
    modules = [file.relative_to(source).with_suffix("").parts for file in files]
    names = [".".join(parts[:-1] if parts[-1] == "__init__" else parts) for parts in modules]
    return [name for name in names if not f"{name}.".startswith(f"{member.module}.reproduce.")]
