"""The parts of the check `alone` that need no fresh environment."""

from __future__ import annotations

import sys

import pytest

from checks import alone
from checks.common import Member, run


def test_a_sibling_that_came_along_is_named(tmp_path):
    brought = run([sys.executable, "-I", "-c", alone.WITHOUT, "papertest", "no_such_package"], cwd=tmp_path)
    assert brought.stderr.strip() == "papertest"


def test_the_smallest_example_is_the_first_python_block(workspace):
    home = workspace / "packages" / "first-paper"
    assert alone.smallest_example(Member(home)) == "import first_paper\n"
    (home / "README.md").write_text("no code\n")
    assert alone.smallest_example(Member(home)) is None


GOOD = 'reproduce: papertest is not installed: uv pip install "./packages/x[reproduce]"'


@pytest.mark.parametrize(
    ("said", "code", "good"),
    [(GOOD, 2, True), (GOOD, 1, False), (f"Traceback\n{GOOD}", 2, False), ("papertest is not installed", 2, False)],
)
def test_reproduce_without_its_extra_must_name_the_install_in_one_line(tmp_path, said, code, good):
    script = tmp_path / "reproduce"
    script.write_text(f"#!{sys.executable}\nimport sys\nsys.stderr.write({said!r})\nsys.exit({code})\n")
    script.chmod(0o755)
    assert (alone.says_what_is_missing(script, "./packages/x", tmp_path) == []) is good
