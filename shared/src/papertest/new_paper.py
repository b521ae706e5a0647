"""The command `new-paper`: a record and a package for a paper, from the template in `ci/`, or `--remove` them again.

Exit code 0; 2: refused, and nothing was changed; 130: interrupted, and nothing was changed either.
"""

from __future__ import annotations

import datetime
import keyword
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Annotated

import typer

from papertest import checkout, drafts, files, store
from papertest.drafts import Draft, Refused
from papertest.package import Package
from papertest.records import RecordError
from papertest.screen import Terminal

MONTHS = "(0[1-9]|1[0-2])"
ARXIV = re.compile(rf"(\d\d){MONTHS}\.\d{{4,5}}")  # since April 2007: five digits since 2015, four before
OLD_ARXIV = re.compile(rf"[a-z-]+(\.[A-Z]{{2}})?/(\d\d){MONTHS}\d{{3}}")
UNFIT = re.compile(r'["\\`|{}\x00-\x1f\x7f]')  # would end a string of TOML or Python, a cell, a span of code


def main() -> None:
    """The console command."""
    typer.run(command)


def command(
    name: Annotated[str, typer.Argument(help="The package's name, such as flash-attention.")],
    title: Annotated[str | None, typer.Option(help="The paper's title.")] = None,
    arxiv: Annotated[str | None, typer.Option(metavar="ID", help="Its arXiv id, such as 2205.14135.")] = None,
    url: Annotated[str | None, typer.Option(help="Where a paper is that is not on arXiv.")] = None,
    authors: Annotated[str | None, typer.Option(metavar="NAMES", help='"First Author, Second Author".')] = None,
    year: Annotated[int | None, typer.Option(help="Its year; by default that of the arXiv id.")] = None,
    no_jax: Annotated[bool, typer.Option("--no-jax", help="Without a twin in JAX.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Take out again what was never measured.")] = False,
) -> None:
    """Make packages/NAME and papers/NAME.toml for a paper, with a worked example of a claim of each tier.

    Everything passes its tests and ci/check as it is; then put the paper's own in place of the example.
    """
    terminal = Terminal()
    try:
        root = checkout.find(Path.cwd())
        if remove:
            options = {"--title": title, "--arxiv": arxiv, "--url": url, "--authors": authors, "--year": year}
            if given := [option for option, value in options.items() if value is not None] + ["--no-jax"] * no_jax:
                raise Refused(f"--remove takes a name alone, without {' and '.join(given)}")
            records = removable(root, name)
            drafts.remove(root, name, records)
            terminal.line(f"{' and '.join([f'packages/{name}', *records])} are gone, and so is what named them: "
                          f"{', '.join(drafts.SHARED)}")  # fmt: skip
            return
        draft = Draft(free(root, name), *cited(title, authors), *placed(arxiv, url, year), not no_jax)
        clean(root)
        drafts.add(root, draft)
    except (Refused, checkout.NoCheckout) as problem:
        terminal.err.print(f"new-paper: {problem}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        terminal.say("new-paper: stopped; nothing was changed")
        raise typer.Exit(130) from None
    for line in told(draft):
        terminal.line(line)


def told(draft: Draft) -> list[str]:
    """What was made, and how to go on."""
    slug = draft.slug
    return [
        f"packages/{slug} and papers/{slug}.toml are there, with the template's claims, none of them measured.",
        "pyproject.toml, uv.lock and the READMEs' scoreboards have the paper too. As it is, these pass:",
        f"  uv run --package {slug} reproduce",
        f"  uv run --all-packages pytest packages/{slug}",
        "  uv run --all-packages python ci/check",
        f'Then write papers/{slug}.toml from the paper, criteria included, take "Draft: " out of its title, and',
        "commit it before anything is measured: CONTRIBUTING.md says how. Undo all of this with:",
        f"  uv run new-paper --remove {slug}",
    ]


def free(root: Path, name: str) -> str:
    """The name, where a package can have it; Refused where not."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise Refused(
            f"{name!r} is no package's name; accepted: lower-case words joined by '-', such as flash-attention"
        )
    module = name.replace("-", "_")
    if keyword.iskeyword(module) or module in sys.stdlib_module_names:
        raise Refused(f"{name}: `import {module}` means something else in Python; take another name")
    for path in (f"packages/{name}", f"papers/{name}.toml"):
        if (root / path).exists():
            raise Refused(f"{path} is there already; take another name, or `uv run new-paper --remove {name}` first")
    locked = tomllib.loads((root / "uv.lock").read_text("utf-8"))["package"]
    if found := [package for package in locked if package["name"] == name]:
        own = "a package of the public index" if "registry" in found[0]["source"] else "a project of this workspace"
        raise Refused(f"{name} is {own}, and uv.lock holds it: only one of the two could be installed; take another "
                      f"name, such as {name}-paper")  # fmt: skip
    return name


def cited(title: str | None, authors: str | None) -> tuple[str, tuple[str, ...]]:
    """Title and authors' names; Refused where one cannot stand in a record."""
    if title is None or not title.strip():
        raise Refused('--title is missing: the paper\'s title, such as --title "Attention Is All You Need"')
    names = tuple(name.strip() for name in (authors or "First Author").split(","))
    for option, text in (("--title", title), *(("--authors", name) for name in names)):
        hit = UNFIT.search(text)
        if hit or not text:
            wrong = f"has {hit[0]!r}" if hit else "has no name between two commas"
            raise Refused(f"{option} {text!r} {wrong}; accepted: one line without double quotes, backslashes, "
                          "backticks, braces and |")  # fmt: skip
    return title.strip(), names


def placed(arxiv: str | None, url: str | None, year: int | None) -> tuple[int, str | None, str | None]:
    """Year, arXiv id and address; Refused where the paper is found nowhere, or one of them has the wrong form."""
    if arxiv is None and url is None:
        raise Refused("--arxiv is missing, or --url where the paper is not on arXiv")
    if url is not None and not re.fullmatch(r"https?://[^\s\"\\`|<>{}()]+", url):
        raise Refused(f"--url {url!r} is no address; accepted: such as https://example.org/paper.pdf")
    if arxiv is not None:
        of_id = _year_of(arxiv)
        if of_id is None:
            raise Refused(f"--arxiv {arxiv!r} is no arXiv id; accepted: the id alone, without a version, such as "
                          "2312.00752, or cs/0112017 for one before April 2007")  # fmt: skip
        year = of_id if year is None else year
    this = datetime.date.today().year
    if year is None:
        raise Refused("--year is missing: without an arXiv id nothing says it")
    if not 1900 <= year <= this + 1:
        raise Refused(f"--year {year}: accepted: a year from 1900 to {this + 1}")
    return year, arxiv, url


def _year_of(arxiv: str) -> int | None:
    if new := ARXIV.fullmatch(arxiv):
        dated, digits = int(arxiv[:4]), len(arxiv) - len("0704.")
        return 2000 + int(new[1]) if dated >= 704 and digits == (5 if dated >= 1501 else 4) else None
    if old := OLD_ARXIV.fullmatch(arxiv):
        two = int(old[2])
        return 1900 + two if two >= 91 else 2000 + two if two <= 7 else None
    return None


def clean(root: Path) -> None:
    """Refused unless papers/ is as the last commit has it: a criterion's age is read from the history."""
    if changed := dirty(root, "papers"):
        raise Refused(f"{changed[0]} is not as the last commit has it: commit it or take it back first (ci/check reads "
                      "in the history that criteria are older than results)")  # fmt: skip


def dirty(root: Path, *places: str) -> list[str]:
    """The files in these places that git does not hold as they are. Refused outside of a git checkout."""
    command = ["git", "status", "--porcelain", "--untracked-files=all", "-z", "--no-renames", "--", *places]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it gives no reason"])[0]
        raise Refused(f"git cannot read this checkout: {reason}")
    return [entry[3:] for entry in done.stdout.split("\0") if entry]


def removable(root: Path, name: str) -> list[str]:
    """The records that go with a package. Refused unless everything of it can be had back, and nothing is measured.

    That is what git holds, and what new-paper made and nobody has changed since.
    """
    home = root / "packages" / name
    if not home.is_dir():
        raise Refused(f"there is no packages/{name}")
    package = Package.at(home / "src" / name.replace("-", "_"))
    try:
        measured = [i for i, result in store.recorded(package, lambda _: None).items() if result.samples]
        records = [
            path.relative_to(root.resolve()).as_posix() for path in package.record_files.values() if path.exists()
        ]
    except RecordError as error:
        raise Refused(f"{error}: put that right first, so that one can see what is measured") from None
    if measured:
        raise Refused(f"packages/{name}/results/{measured[0]}.json holds measured samples ({len(measured)} results do):"
                      " take a paper out by hand, with git, that was once measured")  # fmt: skip
    note = drafts.made_of(root, name)
    made = files.read_json(note) if note.exists() else {}
    for path in dirty(root, f"packages/{name}", *records):
        if not (root / path).exists():
            continue  # git has it
        if made.get(path) != drafts.sha256(root / path):
            raise Refused(
                f"{path} has changes that no commit holds: commit it, or delete it, and then remove the paper"
            )
    return records
