"""The parts of the check `alone` that need no fresh environment."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from subprocess import CompletedProcess

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


def wheel(*files):
    """What stands in for `uv build`: it makes a wheel that holds these files."""

    def build(command, cwd):
        place = command[command.index("--out-dir") + 1]
        place.mkdir(parents=True)
        with zipfile.ZipFile(place / "some.whl", "w") as content:
            for name, text in files:
                content.writestr(name, text)
        return CompletedProcess(command, 0, "", "")

    return build


OWN = ("first_paper/record.toml", "[paper]\n")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([OWN, ("first_paper/model.py", "")], None),
        ([("first_paper/model.py", "")], "it carries none"),
        ([("first_paper/record.toml", "[paper]\nyear = 1\n")], "it carries first_paper/record.toml"),
        ([OWN, ("first_paper/second-paper.toml", "[paper]\n")], "second-paper.toml"),
    ],
)
def test_a_wheel_carries_its_own_record_and_no_other(workspace, tmp_path, monkeypatch, files, said):
    monkeypatch.setattr(alone, "run", wheel(*files))
    problems = alone.built(workspace, Member(workspace / "packages" / "first-paper"), tmp_path / "out")
    assert len(problems) == (said is not None)
    assert said is None or said in problems[0]


@pytest.mark.parametrize(("missing", "said"), [(None, None), (1, "must carry its records")])
def test_a_wheel_carries_all_records_of_its_package(workspace, tmp_path, monkeypatch, missing, said):
    home = workspace / "packages" / "first-paper"
    places = {"first-paper": "first_paper/records/1-first-paper.toml", "later": "first_paper/records/2-later.toml"}
    table = "".join(f'"../../papers/{name}.toml" = "{place}"\n' for name, place in places.items())
    with (home / "pyproject.toml").open("a") as pyproject:
        pyproject.write(f"[tool.hatch.build.targets.wheel.force-include]\n{table}")
    (workspace / "papers" / "later.toml").write_text("[paper]\n[claims.b]\n")
    carried = [("first_paper/records/1-first-paper.toml", "[paper]\n"), (places["later"], "[paper]\n[claims.b]\n")]
    monkeypatch.setattr(alone, "run", wheel(*carried[:missing]))
    problems = alone.built(workspace, Member(home), tmp_path / "out")
    assert len(problems) == (said is not None)
    assert said is None or (said in problems[0] and places["later"] in problems[0])
    (workspace / "papers" / "first-paper.toml").write_text("[claims.a]\n")
    for listed, differ in ('[{"id": "a"}, {"id": "b"}]', False), ('[{"id": "a"}]', True):
        monkeypatch.setattr(alone, "run", lambda *_, listed=listed: CompletedProcess([], 0, listed, ""))
        assert bool(alone.lists(workspace, Member(home), Path(sys.executable))) is differ


@pytest.mark.parametrize(("files", "problems"), [([], 0), ([("papertest/papers/bert.toml", "")], 1)])
def test_papertests_wheel_carries_no_record(workspace, tmp_path, monkeypatch, files, problems):
    (workspace / "shared" / "pyproject.toml").write_text('[project]\nname = "papertest"\n')
    monkeypatch.setattr(alone, "run", wheel(*files))
    assert len(alone.built(workspace, Member(workspace / "shared"), tmp_path / "out")) == problems


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ('[{"id": "a"}, {"id": "b"}]', None),
        ('[{"id": "a"}]', "differ by b"),
        ("reproduce: no record", "fails outside of a checkout"),
    ],
)
def test_an_installed_package_lists_the_claims_of_its_record(workspace, monkeypatch, printed, said):
    (workspace / "papers" / "first-paper.toml").write_text("[claims.a]\n[claims.b]\n")
    monkeypatch.setattr(alone, "run", lambda *_: CompletedProcess([], 0, printed, ""))
    problems = alone.lists(workspace, Member(workspace / "packages" / "first-paper"), Path(sys.executable))
    assert len(problems) == (said is not None)
    assert said is None or said in problems[0]
