"""Every package has the same parts and no claim of the template; no file names a registry or a path of a machine."""

from __future__ import annotations

import json
import re
import tomllib
from itertools import zip_longest
from pathlib import Path
from typing import Any

from checks.common import Member, packages, read_toml, tracked

PARTS = ("README.md", "README.zh-CN.md", "src", "tests", "notebooks", "figures", "results")
REGISTRY = re.compile(
    r"[\w.-]*(?:pypi|pythonhosted|npmjs|mirrors?|download\.pytorch)\.(?:[\w-]+\.)*(?:org|com|net|cn|io)\b"
)
HEADINGS = {
    "README.md": (
        "The idea in a paragraph", "The maths", "The main result", "The numbers", "What came out and what did not",
        "Pitfalls", "Interview questions", "Deviations", "Use it", "Read on", "Appendix: errata", "Appendix: lab notes",
    ),
    "README.zh-CN.md": (
        "一段话讲清思想", "数学推导", "主要结果", "数字", "哪些复现了、哪些没有", "常见陷阱", "面试题", "与论文的差异",
        "使用方法", "延伸阅读", "附录：勘误", "附录：实验记录",
    ),
}  # fmt: skip
TEMPLATE = Path(__file__).parent.parent / "template" / "papers" / "{{ slug }}.toml.jinja"
DRAFT = "Draft: "  # before the title of a record whose claims are the template's: `new-paper` writes it
DRAFTED = {
    "README.md": "**Draft.** What follows is the template's example",
    "README.zh-CN.md": "**草稿。** 下文是模板的例子",
}
UNDONE = re.compile(r"\braise NotImplementedError\b")  # and ruff's FIX rules: no comment that puts work off


def check(root: Path) -> list[str]:
    members = packages(root)
    reinstalled = read_toml(root / "pyproject.toml")["tool"]["uv"].get("reinstall-package", [])
    found: list[str] = []
    for member in members:
        if member.slug not in reinstalled:
            found.append(f"packages/{member.slug} is not in `reinstall-package` of pyproject.toml: add it, "
                         f"or `uv run --package {member.slug} reproduce` may run another paper")  # fmt: skip
        found += parts(root, member) + headings(member) + leftovers(member)
    slugs = {member.slug for member in members}
    found += [f"`reinstall-package` of pyproject.toml names {s}, which is no package: take it out"
              for s in reinstalled if s not in slugs]  # fmt: skip
    return found + owners(root, members) + texts(root)


def owners(root: Path, members: list[Member]) -> list[str]:
    """The records that belong to no package, or to several."""
    found: list[str] = []
    for path in sorted(root.resolve().glob("papers/*.toml")):
        of = [f"packages/{member.slug}" for member in members if path in member.records.values()]
        if not of:
            found.append(f"papers/{path.name} has no package: make packages/{path.stem} (see CONTRIBUTING.md), name it "
                         "in the force-include of the package that has it, or delete the record")  # fmt: skip
        elif len(of) > 1:
            found.append(f"papers/{path.name} belongs to {' and '.join(of)}: a record has one package")
    return found


def parts(root: Path, member: Member) -> list[str]:
    """What a package lacks."""
    where = f"packages/{member.slug}"
    missing = [part for part in PARTS if not (member.home / part).exists()]
    found = [f"{where}/{part} is not there: every package has one" for part in missing]
    if not (member.home / "src" / member.module / "__init__.py").exists():
        found.append(f"{where}/src/{member.module}/__init__.py is not there: the import package is the slug with `_`")
    found += records(root, member)
    project = member.pyproject["project"]
    if project["name"] != member.slug:
        found.append(f"{where}/pyproject.toml: the project is called {project['name']}, and its folder {member.slug}")
    if project.get("scripts", {}).get("reproduce") != f"{member.module}.reproduce:main":
        found.append(f'{where}/pyproject.toml: [project.scripts] needs reproduce = "{member.module}.reproduce:main"')
    twin = (member.home / "src" / member.module / "jax.py").exists()
    extras = project.get("optional-dependencies", {})
    wanted = ("jax", "reproduce") if twin else ("reproduce",)
    found += [f"{where}/pyproject.toml: [project.optional-dependencies] lacks `{extra}`"
              for extra in wanted if extra not in extras]  # fmt: skip
    group = member.pyproject.get("dependency-groups", {}).get("dev", [])
    if not any(re.match(rf"{member.slug}\[{', ?'.join(wanted)}", str(entry)) for entry in group):
        found.append(f'{where}/pyproject.toml: [dependency-groups] dev needs "{member.slug}[{",".join(wanted)}]"')
    return found


def records(root: Path, member: Member) -> list[str]:
    """What is wrong with the records that a package's wheel carries: what is missing, or in another place than it is
    read from."""
    found: list[str] = []
    for number, (place, path) in enumerate(member.records.items(), 1):
        if path.parent != root.resolve() / "papers":
            found.append(f"packages/{member.slug}/pyproject.toml: force-include takes {place} from outside of papers/")
        elif not path.exists():
            found.append(f"papers/{path.name} is not there: write the record before the code")
        file = f"records/{number}-{path.stem}.toml" if len(member.records) > 1 else "record.toml"
        if place != f"{member.module}/{file}":
            found.append(f"packages/{member.slug}/pyproject.toml: force-include puts papers/{path.name} at {place}, "
                         f"and it belongs at {member.module}/{file}")  # fmt: skip
    return found


def headings(member: Member) -> list[str]:
    """The write-ups whose headings are not the ones that all have, in their order."""
    found: list[str] = []
    for name, wanted in HEADINGS.items():
        path = member.home / name
        if not path.exists():
            continue
        text = re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
        have = re.findall(r"^## (.+?)\s*$", text, re.MULTILINE)
        if have != list(wanted):
            pairs = enumerate(zip_longest(wanted, have))
            at, (a, b) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
            found.append(f"packages/{member.slug}/{name}: heading {at + 1} is {f'`{b}`' if b else 'missing'}, and "
                         f"must be {f'`{a}`' if a else 'no further one'}: {'; '.join(wanted)}")  # fmt: skip
    return found


def leftovers(member: Member) -> list[str]:
    """What is left of the template's example in a paper that is no draft; and what a draft may not have yet."""
    found = [problem for path in member.records.values() for problem in _left(member, path)]
    if not any(_record(path).get("paper", {}).get("title", "").startswith(DRAFT) for path in member.records.values()):
        found += [f"packages/{member.slug}/{name} still says that it is the template's example: write the paper's own"
                  for name, words in DRAFTED.items()
                  if (path := member.home / name).exists() and words in path.read_text("utf-8")]  # fmt: skip
    return found


def _left(member: Member, path: Path) -> list[str]:
    record, left = _record(path), examples()
    claims = record.get("claims", {})
    example = [claim for claim, entry in claims.items() if left & {claim, entry.get("title"), entry.get("title_zh")}]
    if not record.get("paper", {}).get("title", "").startswith(DRAFT):
        return [f"papers/{path.name}: [claims.{claim}] is the template's example: put the paper's own claim in its "
                "place, and take its function and what only it needs out" for claim in example]  # fmt: skip
    found = [f'papers/{path.name}: [claims.{claim}] is the paper\'s own: take "{DRAFT}" out of the title'
             for claim in claims if claim not in example]  # fmt: skip
    for claim in example:
        result = member.home / "results" / f"{claim}.json"
        if result.exists() and json.loads(result.read_text("utf-8"))["samples"]:
            found.append(f"packages/{member.slug}/results/{claim}.json: a draft has results of its own paper only, and "
                         "this is measured on the template's example: take it back, with git")  # fmt: skip
    return found


def _record(path: Path) -> dict[str, Any]:
    try:
        return read_toml(path)
    except (FileNotFoundError, tomllib.TOMLDecodeError):
        return {}  # `parts` and papertest say so


def examples() -> set[str]:
    """The ids and titles of the claims that the template makes."""
    text = TEMPLATE.read_text("utf-8")
    ids = re.findall(r"^\[claims\.([a-z0-9-]+)\]$", text, re.MULTILINE)
    return {*ids, *re.findall(r'^title(?:_zh)? = "([^{"]+)"$', text, re.MULTILINE)}


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
