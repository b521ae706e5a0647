"""The command `new-paper`: what it makes, what it refuses, and that nothing stays behind of what is stopped or removed.

The template and `ci/lock.py` are the repository's; in place of uv a few lines write a lock.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import tomllib
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from papertest import check, drafts, files, new_paper, store
from papertest.package import Package

pytest.importorskip("copier", reason="the extra new-paper is not installed")

ROOT = Path(__file__).parents[2]
TITLE = "Mamba: Linear-Time Sequence Modeling with Selective State Spaces"
MADE = ("mamba", "--title", TITLE, "--arxiv", "2312.00752")
UV = """\
#!{python}
import pathlib, sys, time
assert sys.argv[1:] == ["lock"]
if pathlib.Path("{here}/slow").exists():
    pathlib.Path("{here}/started").touch()
    time.sleep(60)
if pathlib.Path("{here}/fails").exists():
    sys.exit("no such version")
names = sorted(path.parent.name for path in pathlib.Path("packages").glob("*/pyproject.toml"))
own = [f'[[package]]\\nname = "{{n}}"\\nsource = {{{{ editable = "packages/{{n}}" }}}}\\n' for n in names]
numpy = '[[package]]\\nname = "numpy"\\nsource = {{ registry = "https://index.example.org/simple" }}\\n'
pathlib.Path("uv.lock").write_text("version = 1\\n" + "".join([*own, numpy]))
"""
app = typer.Typer()
app.command()(new_paper.command)


def git(root: Path, *arguments: str) -> None:
    settings = ["-c", "user.name=A", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *settings, *arguments], cwd=root, check=True, capture_output=True)


@pytest.fixture
def root(recorded_toy, tmp_path, monkeypatch) -> Path:
    """A checkout with one paper that is measured, all committed."""
    root = tmp_path / "checkout"
    shutil.copytree(recorded_toy.root, root, ignore=shutil.ignore_patterns(".papertest", "__pycache__"))
    shutil.copytree(ROOT / "ci" / "template", root / "ci" / "template")
    shutil.copy(ROOT / "ci" / "lock.py", root / "ci" / "lock.py")
    (root / "packages" / "toy" / "pyproject.toml").write_text('[project]\nname = "toy"\n', "utf-8")
    listed = '[tool.uv]\nreinstall-package = ["toy"]\n\n[tool.uv.workspace]\nmembers = ["packages/*"]\n'
    (root / "pyproject.toml").write_text(listed, "utf-8")
    (root / ".gitignore").write_text(".papertest/\n__pycache__/\n", "utf-8")
    lock = '[[package]]\nname = "{}"\nsource = {{ {} }}\n'
    (root / "uv.lock").write_text(
        "version = 1\n" + lock.format("toy", 'editable = "packages/toy"') + lock.format("numpy", 'registry = "index"'),
        "utf-8",
    )
    uv = tmp_path / "uv"
    uv.write_text(UV.format(python=sys.executable, here=tmp_path), "utf-8")
    uv.chmod(0o755)
    monkeypatch.setattr(drafts, "UV", str(uv))
    git(root, "init")
    git(root, "add", "--all")
    git(root, "commit", "-m", "all")
    monkeypatch.chdir(root)
    return root


def run(*arguments):
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, arguments)


def state(root: Path) -> dict[str, bytes]:
    """Every file of a checkout but git's own."""
    paths = [path for path in sorted(root.rglob("*")) if ".git" not in path.parts]
    return {path.relative_to(root).as_posix(): path.read_bytes() if path.is_file() else b"" for path in paths}


def test_it_makes_a_paper_in_which_everything_is_as_ci_wants_it(root):
    done = run(*MADE, "--authors", "Albert Gu, Tri Dao")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "uv run --package mamba reproduce" in done.stdout
    package = Package.at(root / "packages" / "mamba" / "src" / "mamba")
    cite = package.record.paper
    assert (cite.title, cite.authors) == (f"Draft: {TITLE}", ["Albert Gu", "Tri Dao"])
    assert (cite.year, cite.arxiv) == (2023, "2312.00752")
    assert {claim.tier for claim in package.claims.values()} == {"exact", "printed", "trend", "speed"}
    results = store.recorded(package, pytest.fail)
    assert {(result.verdict, result.why) for result in results.values()} == {("not run", "not yet measured")}
    assert results.keys() == package.claims.keys()
    assert check.problems(package) == []
    for name, word in (("README.md", "– not run (not yet measured)"), ("README.zh-CN.md", "– 未运行（尚未测量）")):
        text = (root / "packages" / "mamba" / name).read_text("utf-8")
        assert text.count(word) == 4 and "{{" not in text and "None" not in text
        row = next(
            line
            for line in (root / name).read_text("utf-8").splitlines()
            if f"[`mamba`](packages/mamba/{name})" in line
        )
        assert f"[Draft: {TITLE}](https://arxiv.org/abs/2312.00752) (2023) | 0 | 0 | 0 | 4 |" in row


def test_the_lists_of_the_root_have_it_and_the_lock_is_neutral(root):
    assert run(*MADE).exit_code == 0
    assert tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["tool"]["uv"]["reinstall-package"] == [
        "mamba",
        "toy",
    ]
    lock = (root / "uv.lock").read_text("utf-8")
    assert [package["name"] for package in tomllib.loads(lock)["package"]] == ["mamba", "toy", "numpy"]
    assert "://" not in lock


def test_a_twin_in_jax_unless_it_is_not_wanted(root):
    assert run(*MADE).exit_code == 0
    assert (
        run("griffin", "--title", "Griffin", "--url", "https://example.org/g", "--year", "2024", "--no-jax").exit_code
        == 2
    )
    git(root, "add", "--all")
    git(root, "commit", "-m", "mamba")
    assert (
        run("griffin", "--title", "Griffin", "--url", "https://example.org/g", "--year", "2024", "--no-jax").exit_code
        == 0
    )
    for slug, twin in (("mamba", True), ("griffin", False)):
        home = root / "packages" / slug
        project = tomllib.loads((home / "pyproject.toml").read_text("utf-8"))
        assert (home / "src" / slug / "jax.py").exists() == (home / "tests" / "test_jax.py").exists() == twin
        assert ("jax" in project["project"]["optional-dependencies"]) == twin
        assert project["dependency-groups"]["dev"] == [f"{slug}[jax,reproduce]" if twin else f"{slug}[reproduce]"]
        assert ("jax" in (home / "README.md").read_text("utf-8").lower()) == twin
    paper = Package.at(root / "packages" / "griffin" / "src" / "griffin").record.paper
    assert (paper.arxiv, paper.url, paper.year) == (None, "https://example.org/g", 2024)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("toy", *MADE[1:]), "packages/toy is there already"),
        (("numpy", *MADE[1:]), "numpy is a package of the public index, and uv.lock holds it"),
        (("Mamba", *MADE[1:]), "'Mamba' is no package's name; accepted: lower-case words joined by '-'"),
        (("mamba_2", *MADE[1:]), "'mamba_2' is no package's name"),
        (("../mamba", *MADE[1:]), "'../mamba' is no package's name"),
        (("class", *MADE[1:]), "class: `import class` means something else"),
        (("json", *MADE[1:]), "json: `import json` means something else"),
        (("mamba", "--arxiv", "2312.00752"), "--title is missing"),
        (("mamba", "--title", " ", "--arxiv", "2312.00752"), "--title is missing"),
        (("mamba", "--title", 'The "A"', "--arxiv", "2312.00752"), "--title 'The \"A\"' has '\"'; accepted: one line"),
        (("mamba", "--title", "A\nB", "--arxiv", "2312.00752"), "accepted: one line"),
        ((*MADE, "--authors", "A,,B"), "--authors '' has no name between two commas"),
        (("mamba", "--title", TITLE), "--arxiv is missing, or --url"),
        ((*MADE[:3], "--url", "example.org"), "--url 'example.org' is no address"),
        ((*MADE[:3], "--url", "https://example.org"), "--year is missing"),
        ((*MADE, "--year", "23"), "--year 23: accepted: a year from 1900"),
        *(
            ((*MADE[:3], "--arxiv", wrong), f"--arxiv {wrong!r} is no arXiv id")
            for wrong in ("2312.0752", "2312.00752v2", "arXiv:2312.00752", "2313.00752", "1412.00001", "0703.0001", "",
                          "cs/011201", "cs/0812017", "2312.007521", "https://arxiv.org/abs/2312.00752")
        ),
    ],
)  # fmt: skip
def test_what_is_refused_changes_nothing(root, arguments, said):
    before = state(root)
    done = run(*arguments)
    assert done.exit_code == 2
    assert f"new-paper: {said}" in done.stderr or said in done.stderr
    assert done.stderr.count("\n") == 1
    assert state(root) == before


@pytest.mark.parametrize(
    ("arxiv", "year"),
    [("0704.0001", 2007), ("1412.9999", 2014), ("1501.00001", 2015), ("cs/0112017", 2001), ("cmp-lg/9404001", 1994)],
)
def test_the_year_is_that_of_the_arxiv_id(arxiv, year):
    assert new_paper.placed(arxiv, None, None) == (year, arxiv, None)
    assert new_paper.placed(arxiv, None, 2017) == (2017, arxiv, None)


@pytest.mark.parametrize("left", ["untracked", "changed", "staged"])
def test_a_dirty_record_folder_is_refused(root, left):
    path = root / "papers" / ("other.toml" if left == "untracked" else "toy.toml")
    path.write_text((path.read_text("utf-8") if path.exists() else "") + "# more\n", "utf-8")
    if left == "staged":
        git(root, "add", "papers")
    before = state(root)
    done = run(*MADE)
    assert done.exit_code == 2 and f"papers/{path.name} is not as the last commit has it" in done.stderr
    assert state(root) == before


def test_a_record_of_the_name_is_enough_to_be_refused(root):
    shutil.copy(root / "papers" / "toy.toml", root / "papers" / "mamba.toml")
    assert "papers/mamba.toml is there already" in run(*MADE).stderr


def test_where_the_lock_cannot_be_made_nothing_changes_and_uv_s_reason_is_told(root, tmp_path):
    before = state(root)
    (tmp_path / "fails").touch()
    done = run(*MADE)
    assert done.exit_code == 2 and "no such version" in done.stderr
    assert state(root) == before


def test_without_copier_it_says_what_to_install(root, monkeypatch):
    before = state(root)
    monkeypatch.setitem(sys.modules, "copier", None)
    done = run(*MADE)
    assert done.exit_code == 2
    assert "copier is not installed: `uv run new-paper` from the checkout brings it, or `uv pip install" in done.stderr
    assert state(root) == before


def test_outside_of_git_and_of_a_checkout(root, tmp_path, monkeypatch):
    shutil.rmtree(root / ".git")
    assert "git cannot read this checkout: fatal: not a git repository" in run(*MADE).stderr
    monkeypatch.chdir(tmp_path)
    assert "run it in a checkout of the repository" in run(*MADE).stderr


def test_a_file_that_something_else_changed_meanwhile_stops_it(root, monkeypatch):
    real = drafts.refreshed

    def changing(*arguments):
        (root / "README.md").write_text("# Mine\n", "utf-8")
        return real(*arguments)

    monkeypatch.setattr(drafts, "refreshed", changing)
    assert "README.md was changed meanwhile" in run(*MADE).stderr
    assert (root / "README.md").read_text("utf-8") == "# Mine\n" and not (root / "packages" / "mamba").exists()


def stopping(monkeypatch, at: int) -> list[str]:
    """Ctrl-C right before or right after the `at`-th step of the last part, in which the checkout changes."""
    seen: list[str] = []

    def stop_at(real):
        def step(*arguments):
            seen.append(real.__name__)
            if len(seen) == at // 2 and at % 2 == 0:
                raise KeyboardInterrupt
            done = real(*arguments)
            if len(seen) == at // 2 and at % 2 == 1:
                raise KeyboardInterrupt
            return done

        return step

    real = drafts.install

    def install(*arguments):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(drafts, "move", stop_at(drafts.move))
            patch.setattr(drafts, "write", stop_at(drafts.write))
            real(*arguments)

    monkeypatch.setattr(drafts, "install", install)
    return seen


@pytest.mark.parametrize("removing", [False, True])
def test_ctrl_c_at_any_step_leaves_nothing_behind(root, removing, monkeypatch):
    if removing:
        assert run(*MADE).exit_code == 0
    monkeypatch.setattr(drafts, "unmeasured", lambda package: None)  # what takes long, and changes no step
    before, arguments = state(root), ("--remove", "mamba") if removing else MADE
    for at in range(2, 2 + 2 * 7):  # three moves and four files
        with pytest.MonkeyPatch.context() as patch:
            seen = stopping(patch, at)
            done = run(*arguments)
        assert (done.exit_code, "nothing was changed" in done.stderr) == (130, True), at
        assert len(seen) >= at // 2
        assert state(root) == before, at
    assert run(*arguments).exit_code == 0
    assert len(seen) >= 7 and state(root) != before


def test_a_real_ctrl_c_leaves_nothing_behind(root, tmp_path):
    before = state(root)
    (tmp_path / "slow").touch()
    # A shell that starts this in the background has it ignore Ctrl-C.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"from papertest import drafts, new_paper; drafts.UV = {drafts.UV!r}; new_paper.main()"
    )
    process = subprocess.Popen([sys.executable, "-c", code, *MADE], cwd=root, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "started").exists():
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (130, "new-paper: stopped; nothing was changed\n")
    assert state(root) == before


def test_remove_undoes_it(root):
    before = state(root)
    assert run(*MADE).exit_code == 0
    cache = root / "packages" / "mamba" / "tests" / "__pycache__"
    cache.mkdir()
    (cache / "test_claims.pyc").touch()
    done = run("mamba", "--remove")
    assert done.exit_code == 0 and done.stdout.startswith("packages/mamba and papers/mamba.toml are gone")
    assert state(root) == before


def test_remove_takes_what_a_commit_holds_and_refuses_what_none_does(root):
    assert run(*MADE).exit_code == 0
    own = root / "packages" / "mamba" / "src" / "mamba" / "scan.py"
    for path, text in ((own, "A = 1\n"), (root / "papers" / "mamba.toml", None)):
        path.write_text(text or path.read_text("utf-8").replace("Draft: ", ""), "utf-8")
        before = state(root)
        done = run("--remove", "mamba")
        assert done.exit_code == 2
        assert f"{path.relative_to(root).as_posix()} has changes that no commit holds" in done.stderr
        assert state(root) == before
        git(root, "add", "--all")
        git(root, "commit", "-m", "more")
    assert run("--remove", "mamba").exit_code == 0
    assert not own.exists()


def test_remove_refuses_what_was_measured_and_what_is_not_there(root):
    before = state(root)
    said = run("--remove", "toy").stderr
    assert "packages/toy/results/" in said and "holds measured samples (8 results do): take a paper out by hand" in said
    assert "there is no packages/mamba" in run("--remove", "mamba").stderr
    assert (
        "--remove takes a name alone, without --title and --no-jax"
        in run("--remove", "toy", "--title", "A", "--no-jax").stderr
    )
    assert state(root) == before


def test_a_long_title_is_broken_over_the_lines_of_the_docstring(root):
    title = textwrap.shorten("On the Very Long Titles of Papers " * 9, 200, placeholder="")
    assert run("mamba", "--title", title, "--arxiv", "2312.00752").exit_code == 0
    lines = (root / "packages" / "mamba" / "src" / "mamba" / "__init__.py").read_text("utf-8").splitlines()
    assert max(map(len, lines)) <= 120
    assert files.read_json(drafts.made_of(root, "mamba")).keys() >= {"papers/mamba.toml"}
