"""The neutral form of the lock, and what the check says of one that is not neutral or resolves to something else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import lock as neutralise
from checks import lock

ADDRESS = "https://index.example/simple"  # a made-up index
FULL = f"""version = 1
requires-python = ">=3.11"

[manifest]
members = ["first-paper"]

[manifest.dependency-groups]
dev = [{{ name = "pytest", specifier = ">=8" }}]

[[package]]
name = "first-paper"
version = "0.1.0"
source = {{ editable = "packages/first-paper" }}

[[package]]
name = "torch"
version = "2.9.0"
source = {{ registry = "{ADDRESS}" }}
sdist = {{ url = "{ADDRESS}/aa/bb/torch-2.9.0.tar.gz", hash = "sha256:aa", size = 1 }}
wheels = [
    {{ url = "{ADDRESS}/cc/dd/torch-2.9.0-py3-none-any.whl", hash = "sha256:bb", size = 2 }},
]
"""
NEUTRAL = neutralise.neutral(FULL)


def test_the_neutral_form_names_no_index_and_keeps_versions_and_hashes():
    assert "://" not in NEUTRAL
    assert "index.example" not in NEUTRAL
    assert "[manifest" not in NEUTRAL
    assert lock.locked(NEUTRAL) == lock.locked(FULL)


def test_neutralising_twice_changes_nothing():
    assert neutralise.neutral(NEUTRAL) == NEUTRAL


def test_the_filter_reads_stdin_and_writes_stdout():
    program = Path(neutralise.__file__)
    done = subprocess.run([sys.executable, program, "--filter"], input=FULL, text=True, capture_output=True, check=True)
    assert done.stdout == NEUTRAL


def test_a_neutral_lock_passes():
    assert lock.addresses(NEUTRAL) == []


@pytest.mark.parametrize(
    "text", [FULL, NEUTRAL + "[manifest]\nmembers = []\n[x]\n", NEUTRAL.replace('"index"', f'"{ADDRESS}"')]
)
def test_a_lock_that_is_not_neutral_is_caught(text):
    (problem,) = lock.addresses(text)
    assert "python ci/lock.py" in problem


def test_the_committed_lock_is_the_one_that_is_read(workspace):
    git = ["git", "-c", "user.name=x", "-c", "user.email=x"]
    (workspace / "uv.lock").write_text(NEUTRAL)
    assert lock.committed(workspace) == NEUTRAL  # no checkout yet: the file
    subprocess.run([*git, "init", "--quiet"], cwd=workspace, check=True)
    subprocess.run([*git, "add", "uv.lock"], cwd=workspace, check=True)
    (workspace / "uv.lock").write_text(FULL)  # as uv leaves it in the work tree
    assert lock.committed(workspace) == NEUTRAL


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"2.9.0"', '"2.9.1"', "torch is 2.9.0 in uv.lock and resolves to 2.9.1"),
        ("sha256:bb", "sha256:cc", "torch-2.9.0-py3-none-any.whl has another hash"),
        ('name = "torch"', 'name = "flax"', "flax is needed, but uv.lock does not hold it"),
        ("torch-2.9.0.tar.gz", "torch-2.9.0.zip", "torch-2.9.0.tar.gz is in uv.lock, but the index has it no more"),
    ],
)
def test_a_changed_resolution_names_the_package_and_the_cure(old, new, said):
    problems = lock.differences(lock.locked(NEUTRAL), lock.locked(FULL.replace(old, new)))
    assert any(said in problem and lock.CURE in problem for problem in problems)


def test_a_file_that_the_index_gained_is_no_change():
    gained = FULL.replace("wheels = [\n", f'wheels = [\n    {{ url = "{ADDRESS}/new.whl", hash = "sha256:dd" }},\n')
    assert lock.differences(lock.locked(NEUTRAL), lock.locked(gained)) == []


def test_no_lock_at_all_is_caught(workspace):
    (problem,) = lock.check(workspace)
    assert "there is no uv.lock" in problem
