"""The structural check: a workspace in order passes, and each thing that can be wrong is caught by name."""

from __future__ import annotations

import re
import shutil

import pytest

from checks import workspace as check
from checks.common import copy_workspace, packages


def replace(path, old, new):
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def test_a_workspace_in_order_passes(workspace):
    assert check.check(workspace) == []


def test_a_package_missing_from_reinstall_package_is_caught(workspace):
    replace(workspace / "pyproject.toml", ', "second-paper"', "")
    (problem,) = check.check(workspace)
    assert "packages/second-paper is not in `reinstall-package`" in problem


def test_a_name_in_reinstall_package_that_is_no_package_is_caught(workspace):
    replace(workspace / "pyproject.toml", '"second-paper"', '"second-paper", "third-paper"')
    (problem,) = check.check(workspace)
    assert "third-paper" in problem


@pytest.mark.parametrize("part", check.PARTS)
def test_each_part_is_asked_for(workspace, part):
    path = workspace / "packages" / "first-paper" / part
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert f"packages/first-paper/{part} is not there: every package has one" in check.check(workspace)


def test_a_record_without_a_package_and_the_reverse_are_caught(workspace):
    (workspace / "papers" / "first-paper.toml").rename(workspace / "papers" / "third-paper.toml")
    problems = check.check(workspace)
    assert any("papers/first-paper.toml is not there" in problem for problem in problems)
    assert any("papers/third-paper.toml has no package" in problem for problem in problems)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "first-paper"', 'name = "paper"', "the project is called paper"),
        ("first_paper.reproduce:main", "first_paper:main", "[project.scripts]"),
        ('jax = ["jax"]\n', "", "lacks `jax`"),
        ('reproduce = ["papertest"]\n', "", "lacks `reproduce`"),
        ("first-paper[jax,reproduce]", "first-paper", "[dependency-groups] dev"),
    ],
)
def test_each_thing_that_a_pyproject_must_say_is_asked_for(workspace, old, new, said):
    replace(workspace / "packages" / "first-paper" / "pyproject.toml", old, new)
    (problem,) = check.check(workspace)
    assert said in problem


@pytest.mark.parametrize(
    ("readme", "old", "new", "said"),
    [
        ("README.md", "## Pitfalls\n", "", "heading 6 is `Interview questions`, and must be `Pitfalls`"),
        ("README.md", "## The maths", "## Maths", "heading 2 is `Maths`, and must be `The maths`"),
        ("README.md", "## Appendix: lab notes\n", "", "heading 12 is missing, and must be `Appendix: lab notes`"),
        ("README.md", "notes\n", "notes\n## More\n", "heading 13 is `More`, and must be no further one"),
        ("README.zh-CN.md", "## 面试题", "## 面试常问", "heading 7 is `面试常问`, and must be `面试题`"),
    ],
)
def test_a_write_up_has_the_headings_that_all_have(workspace, readme, old, new, said):
    replace(workspace / "packages" / "first-paper" / readme, old, new)
    (problem,) = check.check(workspace)
    assert f"packages/first-paper/{readme}: {said}" in problem


@pytest.mark.parametrize(
    "left",
    [
        '[claims.more-examples]\ntitle = "Our own"',
        '[claims.our-own]\ntitle = "Every row sums to one"',
        '[claims.our-own]\ntitle_zh = "每一行之和为 1"',
    ],
)
def test_what_is_left_of_the_template_is_caught(workspace, left):
    record = workspace / "papers" / "first-paper.toml"
    record.write_text(f'[paper]\ntitle = "A Paper"\n{left}\n', "utf-8")
    (problem,) = check.check(workspace)
    assert f"papers/first-paper.toml: {left.splitlines()[0]} is the template's example" in problem
    record.write_text(f'[paper]\ntitle = "Draft: A Paper"\n{left}\n', "utf-8")
    assert check.check(workspace) == []


def test_a_draft_has_the_template_s_claims_alone_and_no_results(workspace):
    home = workspace / "packages" / "first-paper"
    record = workspace / "papers" / "first-paper.toml"
    record.write_text('[paper]\ntitle = "Draft: A Paper"\n[claims.more-examples]\n[claims.our-own]\n', "utf-8")
    (problem,) = check.check(workspace)
    assert problem == 'papers/first-paper.toml: [claims.our-own] is the paper\'s own: take "Draft: " out of the title'
    replace(record, "[claims.our-own]\n", "")
    result = home / "results" / "more-examples.json"
    result.write_text('{"samples": []}', "utf-8")
    assert check.check(workspace) == []
    result.write_text('{"samples": [{"seed": 0}]}', "utf-8")
    (problem,) = check.check(workspace)
    assert problem.startswith("packages/first-paper/results/more-examples.json: ")
    assert "is measured on the template's example" in problem


@pytest.mark.parametrize("name", check.DRAFTED)
def test_a_write_up_that_still_calls_itself_a_draft_is_caught(workspace, name):
    path = workspace / "packages" / "first-paper" / name
    path.write_text(f"{check.DRAFTED[name]}\n{path.read_text('utf-8')}", "utf-8")
    (problem,) = check.check(workspace)
    assert problem.startswith(f"packages/first-paper/{name} still says that it is the template's example")
    (workspace / "papers" / "first-paper.toml").write_text('[paper]\ntitle = "Draft: A"\n', "utf-8")
    assert check.check(workspace) == []


def test_the_template_says_that_it_makes_a_draft():
    (home,) = (check.TEMPLATE.parents[1] / "packages").iterdir()
    assert f'title = "{check.DRAFT}{{{{ title }}}}"' in check.TEMPLATE.read_text("utf-8")
    for name, words in check.DRAFTED.items():
        assert words in (home / f"{name}.jinja").read_text("utf-8")


def test_a_package_without_a_twin_needs_no_extra_for_it(workspace):
    home = workspace / "packages" / "first-paper"
    (home / "src" / "first_paper" / "jax.py").unlink()
    replace(home / "pyproject.toml", 'jax = ["jax"]\n', "")
    replace(home / "pyproject.toml", "[jax,reproduce]", "[reproduce]")
    assert check.check(workspace) == []


def test_the_template_has_an_example_of_every_tier_that_a_laptop_measures():
    text = check.TEMPLATE.read_text("utf-8")
    assert set(re.findall(r'^tier = "(\w+)"$', text, re.MULTILINE)) == {"exact", "printed", "trend", "speed"}
    assert len(check.examples()) == 3 * text.count("\n[claims.")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("see files." + "python" + "hosted.org", "registry"),
        ("index = https://" + "pypi" + ".some.example.edu.cn/simple", "registry"),
        ("https://mirror" + "s.example.com/simple", "registry"),
        ("data = '/ho" + "me/somebody/data'", "path of one machine"),
        ("{clone}/data", "path of one machine"),
        ("raise NotImplemented" + "Error", "finish it"),
    ],
)
def test_what_no_file_may_hold(workspace, text, said):
    file = workspace / "packages" / "first-paper" / "src" / "first_paper" / "model.py"
    file.write_text(f"answer = 42\n# {text.format(clone=workspace)}\n", "utf-8")
    (problem,) = check.check(workspace)
    assert "packages/first-paper/src/first_paper/model.py, line 2" in problem
    assert said in problem


def test_what_a_file_may_hold(workspace):
    harmless = "a mirror, <your mirror>/simple, https://pytorch.org/docs, ../home/x, NotImplementedError is not raised"
    (workspace / "README.md").write_text(harmless, "utf-8")
    assert check.check(workspace) == []


def test_a_copy_is_what_git_would_hold(workspace, tmp_path):
    (workspace / ".venv").mkdir()
    (workspace / ".venv" / "pyvenv.cfg").write_text("")
    copy = copy_workspace(workspace, tmp_path / "copy")
    assert [member.slug for member in packages(copy)] == ["first-paper", "second-paper"]
    assert not (copy / ".venv").exists()


TABLE = "[tool.hatch.build.targets.wheel.force-include]\n"
BOTH = (
    '"../../papers/first-paper.toml" = "first_paper/records/1-first-paper.toml"\n'
    '"../../papers/a-sequel.toml" = "first_paper/records/2-a-sequel.toml"\n'
)


def name_records(workspace, table):
    pyproject = workspace / "packages" / "first-paper" / "pyproject.toml"
    pyproject.write_text(f"{pyproject.read_text('utf-8')}\n{TABLE}{table}", "utf-8")
    (workspace / "papers" / "a-sequel.toml").write_text("[paper]\n", "utf-8")


def test_a_package_may_have_several_records(workspace):
    name_records(workspace, BOTH)
    assert check.check(workspace) == []
    (workspace / "papers" / "a-sequel.toml").write_text('[paper]\ntitle = "B"\n[claims.more-examples]\n', "utf-8")
    (problem,) = check.check(workspace)
    assert "papers/a-sequel.toml: [claims.more-examples] is the template's example" in problem


def test_each_of_several_records_has_to_be_there(workspace):
    name_records(workspace, BOTH)
    (workspace / "papers" / "a-sequel.toml").unlink()
    assert check.check(workspace) == ["papers/a-sequel.toml is not there: write the record before the code"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("records/2-a", "records/3-a", "papers/a-sequel.toml at first_paper/records/3-a-sequel.toml, and it belongs at "
         "first_paper/records/2-a-sequel.toml"),
        ("records/2-a-sequel", "record", "it belongs at first_paper/records/2-a-sequel.toml"),
        ("records/2-a-sequel", "records/2-b", "it belongs at first_paper/records/2-a-sequel.toml"),
        (BOTH.splitlines()[0], "", "it belongs at first_paper/record.toml"),
        ("papers/a-sequel", "packages/a-sequel", "takes first_paper/records/2-a-sequel.toml from outside of papers/"),
        (BOTH.splitlines()[1], "", "papers/a-sequel.toml has no package"),
        ("papers/a-sequel", "papers/second-paper", "papers/second-paper.toml belongs to packages/first-paper and "
         "packages/second-paper: a record has one package"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_names_of_records_is_caught(workspace, old, new, said):
    assert old in BOTH
    name_records(workspace, BOTH.replace(old, new))
    assert any(said in problem for problem in check.check(workspace))
