"""A new paper as `new-paper` makes it: a record, a package and its unmeasured results, from the template in `ci/`.

Everything is made in a folder aside, in which a small copy of the checkout stands, so that the lock and the scoreboard
come out as they will be. Only then is it moved into the checkout, and whatever interrupts that is undone.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import tomllib
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from papertest import drawing, figures, files, store, tables
from papertest.fingerprint import Sources
from papertest.package import Package
from papertest.records import RecordError

UV = os.environ.get("UV", "uv")  # `uv run` names itself here
SHARED = ("pyproject.toml", "uv.lock", *tables.READMES)  # the files of the checkout that a new paper changes


class Refused(Exception):
    """Nothing was changed; the message says why, and what is accepted."""


@dataclass(frozen=True)
class Draft:
    """A paper to be added. `arxiv` or `url` says where it is; `jax`: whether its package has a twin in JAX."""

    slug: str
    title: str
    names: tuple[str, ...]
    year: int
    arxiv: str | None
    url: str | None
    jax: bool

    @property
    def answers(self) -> dict[str, Any]:
        """What the template asks."""
        first = self.names[0]
        several = {1: first, 2: " and ".join(self.names)}
        place = f"arXiv {self.arxiv}" if self.arxiv else str(self.url)
        return {
            "slug": self.slug,
            "module": self.slug.replace("-", "_"),
            "title": self.title,
            "names": list(self.names),
            "authors": several.get(len(self.names), f"{first} et al."),
            "authors_zh": {1: first, 2: "、".join(self.names)}.get(len(self.names), f"{first} 等"),
            "year": self.year,
            "arxiv": self.arxiv or "",
            "url": self.url or "",
            "docstring": "\n".join(textwrap.wrap(f"{self.title} ({place}).", 114, break_long_words=False)),
            "link": f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else self.url,
            "jax": self.jax,
        }


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def made_of(root: Path, slug: str) -> Path:
    """Where it is kept what `new-paper` wrote for this paper: the sha256 of each file."""
    return root / ".papertest" / "new-paper" / f"{slug}.json"


def add(root: Path, draft: Draft) -> list[str]:
    """Make the paper in the checkout `root`, and give the files that were written. Refused where something fails."""
    home, record = f"packages/{draft.slug}", f"papers/{draft.slug}.toml"
    with aside(root) as stage:
        before = copy(root, stage)
        render(root / "ci" / "template", stage, draft)
        reinstall(stage / "pyproject.toml", add=draft.slug)
        unmeasured(Package.at(stage / home / "src" / draft.slug.replace("-", "_")))
        changed = refreshed(root, stage)
        written = [record, *(path.relative_to(stage).as_posix() for path in sorted((stage / home).rglob("*"))
                             if path.is_file())]  # fmt: skip
        note = made_of(stage, draft.slug)
        files.write_json(note, {name: sha256(stage / name) for name in written})
        moves = [(stage / name, root / name) for name in (record, home, note.relative_to(stage))]
        install(root, moves, before, changed)
        return [*written, *changed]


def remove(root: Path, slug: str, records: Sequence[str]) -> list[str]:
    """Take a package and its records out of the checkout `root`, and give what else changed."""
    with aside(root) as stage:
        before = copy(root, stage)
        for name in (f"packages/{slug}", *records):
            path = stage / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        reinstall(stage / "pyproject.toml", drop=slug)
        changed = refreshed(root, stage)
        bin_ = stage / "removed"
        gone = [name for name in (*records, f"packages/{slug}") if (root / name).exists()]
        moves = [(root / name, bin_ / name) for name in gone]
        if made_of(root, slug).exists():
            moves.append((made_of(root, slug), bin_ / "note.json"))
        install(root, moves, before, changed)
        return list(changed)


@contextmanager
def aside(root: Path) -> Generator[Path]:
    """A folder that git ignores, on the checkout's own disk, so that a move out of it is one step."""
    state = root / ".papertest"
    state.mkdir(exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="new-paper-", dir=state) as folder:
            yield Path(folder)
    finally:
        for empty in (state / "new-paper", state):
            if empty.exists() and not any(empty.iterdir()):
                empty.rmdir()


def copy(root: Path, stage: Path) -> dict[str, bytes]:
    """What the lock and the scoreboard are made of; gives the files of `SHARED` as they are."""
    members = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["tool"]["uv"]["workspace"]["members"]
    patterns = [*SHARED, *(f"{member}/pyproject.toml" for member in members)]
    patterns += ["papers/*.toml", "packages/*/src/*/__init__.py", "packages/*/results/*.json"]
    for path in (path for pattern in patterns for path in root.glob(pattern)):
        target = stage / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return {name: (stage / name).read_bytes() for name in SHARED}


def render(template: Path, target: Path, draft: Draft) -> None:
    """The template's files, filled in. Refused where copier is not installed."""
    try:
        import copier
    except ModuleNotFoundError as missing:
        raise Refused(f"{missing.name} is not installed: `uv run new-paper` from the checkout brings it, or "
                      '`uv pip install "./shared[new-paper]"`') from None  # fmt: skip
    copier.run_copy(str(template), target, data=draft.answers, defaults=True, overwrite=True, quiet=True)


def reinstall(pyproject: Path, *, add: str = "", drop: str = "") -> None:
    """Add a name to `reinstall-package` in its place, or take one out."""
    text = pyproject.read_text("utf-8")
    listed: list[str] = tomllib.loads(text)["tool"]["uv"].get("reinstall-package", [])
    names = ", ".join(json.dumps(name) for name in sorted({*listed, add} - {drop, ""}))
    text, found = re.subn(
        r"^reinstall-package = \[[^\]]*\]", f"reinstall-package = [{names}]", text, flags=re.MULTILINE
    )
    if not found:
        raise Refused("pyproject.toml has no list `reinstall-package` in [tool.uv]")
    pyproject.write_text(text, "utf-8")


def unmeasured(package: Package) -> None:
    """Results that say so, every figure drawn from them, and the tables of the write-ups."""
    for claim in package.claims:
        store.write_result(package, store.not_run(package, claim, store.UNMEASURED, ""))
    results, sources = store.recorded(package, lambda _: None), Sources(package)
    assert package.figures is not None
    for name, ((module, function), claims) in sources.figures.items():
        # The file alone, and not its package, whose libraries need not be here.
        code = runpy.run_path(str(package.code.parent.joinpath(*module.split(".")).with_suffix(".py")))
        with figures.house_style():
            drawn = code[function]({claim: results[claim] for claim in claims})
            source = drawing.source(sources, name, results)
            files.write_bytes(package.figures / f"{name}.png", figures.png(drawn, source=source))
    tables.write(package, results)


def refreshed(root: Path, stage: Path) -> dict[str, bytes]:
    """The files of `SHARED` as they are to be: the scoreboards, and the lock in its neutral form."""
    try:
        boards = tables.boards(stage)
    except (RecordError, tables.MarkerError) as error:
        raise Refused(f"{error}: put that right first, the scoreboard is made anew") from None
    for path, text in boards.items():
        path.write_text(text, "utf-8")
    own = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "UV_PROJECT")}
    done = subprocess.run([UV, "lock"], cwd=stage, env=own, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise Refused(f"`uv lock` fails with the change:\n{done.stderr.strip()}")
    lock = (stage / "uv.lock").read_text("utf-8")
    neutral = subprocess.run(
        [sys.executable, root / "ci" / "lock.py", "--filter"], input=lock, capture_output=True, text=True, check=True
    )
    (stage / "uv.lock").write_text(neutral.stdout, "utf-8")
    return {name: (stage / name).read_bytes() for name in SHARED}


def move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(source, target)


def write(path: Path, content: bytes) -> None:
    files.write_bytes(path, content)


def install(root: Path, moves: list[tuple[Path, Path]], before: dict[str, bytes], after: dict[str, bytes]) -> None:
    """Move and write everything, or nothing: what stops it half way, Ctrl-C too, is undone before it is passed on."""
    undo: list[Callable[[], object]] = []
    try:
        for name in before:
            if (root / name).read_bytes() != before[name] and name != "uv.lock":  # which uv rewrites at each run
                raise Refused(f"{name} was changed meanwhile, by something else: run the command again")
        for source, target in moves:
            undo.append(lambda source=source, target=target: source.exists() or os.replace(target, source))
            move(source, target)
        for name, content in after.items():
            old = (root / name).read_bytes()
            undo.append(lambda name=name, old=old: files.write_bytes(root / name, old))
            write(root / name, content)
    except BaseException:
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C does not stop the undoing
        try:
            for step in reversed(undo):
                step()
        finally:
            signal.signal(signal.SIGINT, handler)
        raise
