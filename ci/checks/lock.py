"""uv.lock names no index, and resolves to the versions and hashes that it holds."""

from __future__ import annotations

import tempfile
import tomllib
from pathlib import Path

from checks.common import UV, projects, run, tail
from lock import neutral

CURE = "run `uv lock && python ci/lock.py`, then `git add uv.lock`"
Locked = dict[str, tuple[set[str], dict[str, str]]]  # name -> versions, and the hash of each file


def check(root: Path) -> list[str]:
    lock = committed(root)
    if lock is None:
        return [f"there is no uv.lock: {CURE}"]
    if found := addresses(lock):
        return found
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch)
        for home in (root, *projects(root)):
            target = copy / home.relative_to(root) / "pyproject.toml"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((home / "pyproject.toml").read_bytes())
        (copy / "uv.lock").write_text(lock, "utf-8")
        resolved = run([UV, "lock"], copy)
        if resolved.returncode:
            return [f"`uv lock` fails from the committed lock:{tail(resolved)}"]
        return differences(locked(lock), locked((copy / "uv.lock").read_text("utf-8")))


def committed(root: Path) -> str | None:
    """The lock as the next commit would hold it (git's index); outside a checkout, the file."""
    staged = run(["git", "show", ":uv.lock"], root)
    if staged.returncode == 0:
        return staged.stdout
    file = root / "uv.lock"
    return file.read_text("utf-8") if file.exists() else None


def addresses(lock: str) -> list[str]:
    """Whether a lock is in its neutral form."""
    if neutral(lock) == lock and "://" not in lock:
        return []
    line = next((i for i, text in enumerate(lock.splitlines(), 1) if "://" in text), None)
    where = f"line {line} of uv.lock names an address" if line else "uv.lock is not in its neutral form"
    return [f"{where}: {CURE} (git's filter does it by itself: see CONTRIBUTING.md)"]


def locked(lock: str) -> Locked:
    """Versions and hashes of every package that comes from an index."""
    found: Locked = {}
    for package in tomllib.loads(lock)["package"]:
        if "registry" not in package["source"]:
            continue
        versions, files = found.setdefault(package["name"], (set(), {}))
        versions.add(package["version"])
        for file in [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]:
            files[file["url"].rsplit("/", 1)[-1]] = file["hash"]
    return found


def differences(before: Locked, after: Locked) -> list[str]:
    """What the resolution changes. A file that the index has since gained is no change of what was locked."""
    found: list[str] = []
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            found.append(f"{name} is in uv.lock, but nothing needs it: {CURE}")
        elif name not in before:
            found.append(f"{name} is needed, but uv.lock does not hold it: {CURE}")
        elif before[name][0] != after[name][0]:
            old, new = (" and ".join(sorted(versions)) for versions in (before[name][0], after[name][0]))
            found.append(f"{name} is {old} in uv.lock and resolves to {new}: {CURE}")
        else:
            now = after[name][1]
            changed = sorted(file for file, hash_ in before[name][1].items() if now.get(file) != hash_)
            found += [
                f"{file} has another hash in the index than in uv.lock: find out why before you trust it; then {CURE}"
                if file in now
                else f"{file} is in uv.lock, but the index has it no more: {CURE}"
                for file in changed[:3]
            ]
    return found
