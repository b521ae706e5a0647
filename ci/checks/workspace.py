"""Every package has the same parts, and no file names a registry, a path of this machine, or work left undone."""

from __future__ import annotations

import re
from pathlib import Path

from checks.common import Member, packages, read_toml, tracked

PARTS = ("README.md", "README.zh-CN.md", "src", "tests", "notebooks", "figures", "results")
REGISTRY = re.compile(
    r"[\w.-]*(?:pypi|pythonhosted|npmjs|mirrors?|download\.pytorch)\.(?:[\w-]+\.)*(?:org|com|net|cn|io)\b"
)
UNDONE = re.compile(r"\braise NotImplementedError\b")  # and ruff's FIX rules: no comment that puts work off


def check(root: Path) -> list[str]:
    members = packages(root)
    reinstalled = read_toml(root / "pyproject.toml")["tool"]["uv"].get("reinstall-package", [])
    found: list[str] = []
    for member in members:
        if member.slug not in reinstalled:
            found.append(f"packages/{member.slug} is not in `reinstall-package` of pyproject.toml: add it, "
                         f"or `uv run --package {member.slug} reproduce` may run another paper")  # fmt: skip
        found += parts(root, member)
    slugs = {member.slug for member in members}
    found += [f"`reinstall-package` of pyproject.toml names {s}, which is no package: take it out"
              for s in reinstalled if s not in slugs]  # fmt: skip
    found += [f"papers/{p.name} has no package: make packages/{p.stem} (see CONTRIBUTING.md), or delete the record"
              for p in sorted(root.glob("papers/*.toml")) if p.stem not in slugs]  # fmt: skip
    return found + texts(root)


def parts(root: Path, member: Member) -> list[str]:
    """What a package lacks."""
    where = f"packages/{member.slug}"
    missing = [part for part in PARTS if not (member.home / part).exists()]
    found = [f"{where}/{part} is not there: every package has one" for part in missing]
    if not (member.home / "src" / member.module / "__init__.py").exists():
        found.append(f"{where}/src/{member.module}/__init__.py is not there: the import package is the slug with `_`")
    if not (root / "papers" / f"{member.slug}.toml").exists():
        found.append(f"papers/{member.slug}.toml is not there: write the record before the code")
    project = member.pyproject["project"]
    if project["name"] != member.slug:
        found.append(f"{where}/pyproject.toml: the project is called {project['name']}, and its folder {member.slug}")
    if project.get("scripts", {}).get("reproduce") != f"{member.module}.reproduce:main":
        found.append(f'{where}/pyproject.toml: [project.scripts] needs reproduce = "{member.module}.reproduce:main"')
    extras = project.get("optional-dependencies", {})
    found += [f"{where}/pyproject.toml: [project.optional-dependencies] lacks `{extra}`"
              for extra in ("jax", "reproduce") if extra not in extras]  # fmt: skip
    group = member.pyproject.get("dependency-groups", {}).get("dev", [])
    if not any(re.match(rf"{member.slug}\[jax, ?reproduce", str(entry)) for entry in group):
        found.append(f'{where}/pyproject.toml: [dependency-groups] dev needs "{member.slug}[jax,reproduce]"')
    return found


def texts(root: Path) -> list[str]:
    """What no file of the repository may hold (the lock has a check of its own)."""
    own = "|".join(re.escape(str(path)) for path in (root, root.parent) if str(path) not in ("/", "/tmp"))
    machine = re.compile(rf"(?<![\w.-])(?:/home|/root|{own})/\w")
    found: list[str] = []
    for path in tracked(root):
        if path.name == "uv.lock":
            continue
        try:
            lines = (root / path).read_text("utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(lines, 1):
            place = f"{path.as_posix()}, line {number}"
            if hit := REGISTRY.search(line):
                found.append(f"{place} names the registry {hit[0]}: readers use their own index; name none")
            if machine.search(line):
                found.append(f"{place} names a path of one machine: use a path relative to the repository")
            if path.suffix == ".py" and (hit := UNDONE.search(line)):
                found.append(f"{place} has {hit[0]}: finish it, or take it out")
    return found
