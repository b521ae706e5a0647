"""Each package builds with its record, and works alone, in environments made by uv and by plain pip.

Then all of them with `[reproduce]`, in the environment that is already there: each lists its claims outside of a
checkout; and each installs from a Git address with a subdirectory, here that of the checkout's last commit.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import zipfile
from pathlib import Path

from checks.common import UV, Member, packages, read_toml, run, tail

WITHOUT = "import importlib.util, sys; sys.exit(' '.join(m for m in sys.argv[1:] if importlib.util.find_spec(m)))"


def check(root: Path) -> list[str]:
    members = packages(root)
    papertest = Member(root / "shared")
    found: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        for member in (*members, papertest):
            found += built(root, member, Path(scratch))
    if found:
        return found  # what does not build cannot be installed either
    for member in (papertest, *members):
        with tempfile.TemporaryDirectory() as place:
            python = made([UV, "venv", "--quiet", "--python", sys.executable, place], Path(place))
            install = [UV, "pip", "install", "--quiet", "--python", python]
            found += works(root, member, python, install, "uv pip install")
            if member is members[-1]:  # its torch serves all of them
                found += listed(root, members, python, install) + from_git(root, members, python, install)
    return found + by_pip(root, members) + by_pip(root, [papertest])


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


def built(root: Path, member: Member, target: Path) -> list[str]:
    """Whether a wheel can be built with nothing from the workspace, and carries its own records and no other."""
    place = target / name(member)
    done = run([UV, "build", "--quiet", "--wheel", "--no-sources", "--out-dir", place, member.home], target)
    if done.returncode:
        return [f"{name(member)} builds no wheel: see its [build-system]{tail(done)}"]
    (wheel,) = place.glob("*.whl")
    wanted = {place: path.read_bytes() for place, path in member.records.items() if path.exists()}
    with zipfile.ZipFile(wheel) as content:
        carried = {file: content.read(file) for file in content.namelist() if file.endswith(".toml")}
    if carried == wanted:
        return []
    if not wanted:
        return [f"the wheel of {name(member)} carries {', '.join(carried)}: records belong to the papers' packages"]
    return [f"the wheel of {name(member)} must carry its record{'s' * (len(wanted) > 1)}, and no other TOML file, as "
            f"{', '.join(wanted)}; it carries {', '.join(carried) or 'none'}: see force-include in "
            f"{member.slug}/pyproject.toml"]  # fmt: skip


def listed(root: Path, members: list[Member], python: Path, install: list[str | Path]) -> list[str]:
    """What fails of `reproduce --list` where the packages are installed with their extra, and no checkout is near."""
    wanted = [f"./{member.home.relative_to(root).as_posix()}[reproduce]" for member in members]
    done = run([*install, "./shared", *wanted], root)
    if done.returncode:
        return [f"`uv pip install ./shared {' '.join(wanted)}` fails:{tail(done)}"]
    return [problem for member in members for problem in lists(root, member, python)]


def lists(root: Path, member: Member, python: Path) -> list[str]:
    """Whether an installed package lists the claims of its own records.

    The last package installed owns the script `reproduce`, so that this calls what the script would call.
    """
    claims = {claim for path in member.records.values() for claim in read_toml(path)["claims"]}
    code = f"import sys; from {member.module}.reproduce import main; sys.argv[1:] = ['--list', '--json']; main()"
    with tempfile.TemporaryDirectory() as elsewhere:
        done = run([python, "-I", "-c", code], Path(elsewhere))
    try:
        other = claims ^ {claim["id"] for claim in json.loads(done.stdout)}
    except (ValueError, KeyError, TypeError):
        return [f"`reproduce --list` of {member.slug} fails outside of a checkout:{tail(done)}"]
    if other:
        return [f"`reproduce --list` of {member.slug} outside of a checkout and its record differ by {min(other)}"]
    return []


def from_git(root: Path, members: list[Member], python: Path, install: list[str | Path]) -> list[str]:
    """What fails of `uv pip install "a @ git+…#subdirectory=packages/a"`, from the checkout's last commit."""
    head = run(["git", "rev-parse", "HEAD"], root)
    if head.returncode:
        return []  # no checkout
    found: list[str] = []
    for member in members:
        folder = member.home.relative_to(root).as_posix()
        if run(["git", "cat-file", "-e", f"HEAD:{folder}/pyproject.toml"], root).returncode:
            continue  # not committed yet
        source = f"{name(member)} @ git+{root.as_uri()}@{head.stdout.strip()}#subdirectory={folder}"
        done = run([*install, "--no-deps", "--reinstall-package", name(member), source], root)
        if done.returncode:
            found.append(f'`uv pip install "{name(member)} @ git+…#subdirectory={folder}"` fails:{tail(done)}')
            continue
        where = f"from importlib.util import find_spec; print(find_spec('{member.module}').origin)"
        with tempfile.TemporaryDirectory() as elsewhere:
            done = run([python, "-I", "-c", where], Path(elsewhere))
        beside = Path(done.stdout.strip()).parents[1] if not done.returncode else None
        lacking = [place for place in member.records if beside is None or not (beside / place).exists()]
        if lacking:
            found.append(f"{name(member)}, installed from Git, lacks its {lacking[0]}:{tail(done)}")
    return found


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
        if "reproduce" in member.pyproject["project"].get("scripts", {}):
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
