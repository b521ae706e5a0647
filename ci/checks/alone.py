"""Each package builds, and works alone in an environment without its siblings, made by uv and by plain pip."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from checks.common import UV, Member, packages, run, tail

WITHOUT = "import importlib.util, sys; sys.exit(' '.join(m for m in sys.argv[1:] if importlib.util.find_spec(m)))"


def check(root: Path) -> list[str]:
    members = packages(root)
    papertest = Member(root / "shared")
    found: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        for member in (*members, papertest):
            found += built(member, Path(scratch))
        if found:
            return found  # what does not build cannot be installed either
        for member in (*members, papertest):
            with tempfile.TemporaryDirectory() as place:
                python = made([UV, "venv", "--quiet", "--python", sys.executable, place], Path(place))
                install = [UV, "pip", "install", "--quiet", "--python", python]
                found += works(root, member, python, install, "uv pip install")
        found += by_pip(root, members) + by_pip(root, [papertest])
    return found


def by_pip(root: Path, members: list[Member]) -> list[str]:
    """Plain pip takes minutes to unpack torch, so the papers share an environment: each is taken out for the next.

    A requirement that a package forgot to state shows in uv's environments, which are fresh for each.
    """
    found: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        python = made([UV, "venv", "--quiet", "--seed", "--python", sys.executable, place], Path(place))  # with pip
        pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        for member in members:
            found += works(root, member, python, [*pip, "install"], "pip install")
            run([*pip, "uninstall", "--yes", name(member)], root)
    return found


def made(command: list[str | Path], environment: Path) -> Path:
    """The Python of an environment that this command makes."""
    done = run(command, environment.parent)
    if done.returncode:
        raise RuntimeError(f"no environment can be made here:{tail(done)}")
    return environment / ("Scripts" if sys.platform == "win32" else "bin") / "python"


def name(member: Member) -> str:
    return member.pyproject["project"]["name"]


def built(member: Member, target: Path) -> list[str]:
    """Whether a wheel can be built with nothing from the workspace."""
    done = run([UV, "build", "--quiet", "--wheel", "--no-sources", "--out-dir", target, member.home], target)
    return [f"{name(member)} builds no wheel: see its [build-system]{tail(done)}"] if done.returncode else []


def works(root: Path, member: Member, python: Path, install: list[str | Path], how: str) -> list[str]:
    """What is wrong with a package installed into the environment of `python`, and nothing else with it."""
    path = f"./{member.home.relative_to(root).as_posix()}"
    done = run([*install, path], root)
    if done.returncode:
        return [f"`{how} {path}` fails in an empty environment:{tail(done)}"]
    found: list[str] = []
    siblings = [other.module for other in packages(root)] + ["papertest"]
    others = [module for module in siblings if module != name(member).replace("-", "_")]
    with tempfile.TemporaryDirectory() as elsewhere:
        if brought := run([python, "-I", "-c", WITHOUT, *others], Path(elsewhere)).stderr.strip():
            found.append(f"`{how} {path}` brings {brought} along: a package stands without its siblings")
        code = smallest_example(member)
        if code is None:
            return [*found, f"{path}/README.md has no ```python block: write the smallest example, which ci/check runs"]
        done = run([python, "-I", "-c", code], Path(elsewhere))
        if done.returncode:
            found.append(f"the first example of {path}/README.md fails after `{how} {path}`:{tail(done)}")
        if "scripts" in member.pyproject["project"]:
            found += says_what_is_missing(python.parent / "reproduce", path, Path(elsewhere))
    return found


def smallest_example(member: Member) -> str | None:
    """The first Python block of a package's README: what a reader tries first, and so what has to work alone."""
    readme = member.home / "README.md"
    text = readme.read_text("utf-8") if readme.exists() else ""
    block = re.search(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return block[1] if block else None


def says_what_is_missing(reproduce: Path, path: str, cwd: Path) -> list[str]:
    """`reproduce` without its extra: one line naming the install that is needed, and exit code 2."""
    done = run([reproduce, "--list"], cwd)
    lines = (done.stdout + done.stderr).strip().splitlines()
    if done.returncode == 2 and len(lines) == 1 and "[reproduce]" in lines[0] and "install" in lines[0]:
        return []
    return [f"{path}: `reproduce` without its extra must exit with 2 and one line that names the install with "
            f"[reproduce]; it exits with {done.returncode}:{tail(done)}"]  # fmt: skip
