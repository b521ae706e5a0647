"""What ci/check holds of a package without measuring: each rule broken on purpose, and the line that says so."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from papertest import check, drawing, files
from papertest.package import Package

AGAIN = "run `uv run --package toy reproduce --record`"
ONLY = "run `uv run --package toy reproduce --only {} --record`"


@pytest.fixture
def clean(toy, recorded_toy):
    """A checkout in order: recorded, with its tables."""
    shutil.copytree(recorded_toy.root, toy.root, dirs_exist_ok=True)
    return toy


@pytest.fixture(scope="session")
def drawn_toy(tmp_path_factory: pytest.TempPathFactory, recorded_toy) -> Path:
    """The same with a figure, shown in the write-up; only to be copied."""
    root = tmp_path_factory.mktemp("drawn") / "checkout"
    shutil.copytree(recorded_toy.root, root)
    toy = type(recorded_toy)(root, recorded_toy.nursery)
    (toy.code / "reproduce" / "drawn.py").write_text(FIGURE)
    for name in ("README.md", "README.zh-CN.md"):
        with (toy.home / name).open("a", encoding="utf-8") as readme:
            readme.write("![the curve](figures/curve.png)\n")
    assert toy.run("--record").code == 0
    return root


@pytest.fixture
def with_figure(toy, drawn_toy: Path):
    shutil.copytree(drawn_toy, toy.root, dirs_exist_ok=True)
    return toy


FIGURE = """
from papertest.claims import figure


@figure("curve", "curve")
def curve(results):
    from papertest import figures

    drawn, (axes,) = figures.panels(1)
    figures.measured(axes, [1, 2, 3], results["curve"].value, "ours", "ours")
    return drawn
"""


def problems(toy) -> list[str]:
    return check.problems(Package.at(toy.code))


def change(toy, claim: str, **changes: Any) -> None:
    """Another recorded result, with a checksum that fits."""
    path = toy.results / f"{claim}.json"
    files.write_json(path, files.read_json(path) | changes)


def of(toy, claim: str) -> dict[str, Any]:
    return files.read_json(toy.results / f"{claim}.json")


def regenerated(toy) -> list[str]:
    """The problems but those of tables that are not of the results any more."""
    return [line for line in problems(toy) if not line.startswith("the generated table")]


def test_a_package_in_order_has_no_problems(clean):
    assert problems(clean) == []


CORRECTED = {  # the record's text, what it becomes, the claims and the first key that is not the record's any more
    "title": ('title = "The curve falls"', 'title = "The curve rises"', ["curve"]),
    "where": ('where = "Figure 1"', 'where = "Figure 2"', ["curve", "noise"]),
    "unit": ('tier = "exact"\nunit = "GB"', 'tier = "exact"\nunit = "MB"', ["ours"]),
    "reported": ("value = { x = 20, y = 22 }", "value = { x = 19, y = 23 }", ["sum"]),
    "paper": ('"{times.theirs} / {times.ours}"', '"{times.theirs} / 9"', ["fast"]),
    "accept": ("accept = { at_most = 4 }", "accept = { at_most = 5 }", ["ours"]),
    "tier": ('tier = "exact"\nunit = "GB"', 'tier = "trend"\nunit = "GB"', ["ours"]),
    "by": ('by = "us"\n', "", ["ours"]),
}  # fmt: skip


@pytest.mark.parametrize("key", CORRECTED)
def test_a_corrected_record_is_not_that_of_the_results(clean, key: str):
    old, new, claims = CORRECTED[key]
    clean.edit(clean.record, old, new)
    found = regenerated(clean)
    for claim in claims:
        said = f"{claim} was recorded with another {key} than the record has: {ONLY.format(claim)}"
        assert said in found
    assert not [line for line in found if line.split()[0] not in claims]
    clean.run("--record", "--tier", "exact")  # judged again, and measured again what has to be
    clean.run("--record", "--tier", "printed")
    clean.run("--record", "--tier", "trend")
    clean.run("--record", "--tier", "speed")
    assert problems(clean) == []


def test_a_transcription_of_several_claims(clean):
    clean.edit(clean.record, "value = [3, 2, 1]", "value = [3, 2, 0]")
    assert [line.split(" ")[0] for line in regenerated(clean)] == ["curve", "curve", "noise", "noise"]
    assert "curve was recorded with another reported than the record has: " + ONLY.format("curve") in problems(clean)


def test_a_result_that_says_another_thing_than_the_record(clean):
    for key, value in (("title", "x"), ("where", "Table 9"), ("unit", "s"), ("reported", 41), ("paper", 41)):
        whole = of(clean, "answer")
        change(clean, "answer", **{key: value})
        assert f"answer was recorded with another {key} than the record has: {ONLY.format('answer')}" in problems(clean)
        files.write_json(clean.results / "answer.json", whole)
    assert problems(clean) == []


def test_stale_code_of_all_but_what_is_recomputed(clean):
    clean.edit(clean.claims, "return 3.0", "return 3.5")  # ours, exact
    clean.edit(clean.claims, "return height ", "return height + 1 ")  # curve and noise
    clean.edit(clean.claims, "1.5 + i % 5 / 50", "1.5 + i % 5 / 51")  # fast
    clean.edit(clean.claims, "return 2.0", "return 2.5")  # large, which was never run
    assert problems(clean) == [
        f"{claim} was recorded with other code, record or data: {ONLY.format(claim)} and look at its verdict"
        for claim in ("curve", "noise", "fast")
    ]


def test_a_verdict_that_its_samples_do_not_give(clean):
    change(clean, "noise", verdict="not reproduced")
    found = regenerated(clean)
    assert f"noise is recorded as not reproduced, but its own samples say reproduced: {ONLY.format('noise')}" in found
    said = f"curve is recorded as reproduced, but its own samples say undecided: {ONLY.format('curve')}"  # its control
    assert said in found and len(found) == 2
    change(clean, "answer", verdict="undecided")
    assert len(regenerated(clean)) == 3


def test_a_seed_that_is_edited_or_missing(clean):
    samples = of(clean, "noise")["samples"]
    change(clean, "noise", samples=[*samples[:2], samples[2] | {"value": 60}])
    said = f"noise is recorded as reproduced, but its own samples say undecided: {ONLY.format('noise')}"
    assert said in problems(clean)
    change(clean, "noise", samples=samples[:2], verdict="undecided")
    found = problems(clean)
    assert f"noise has 2 of its 3 seeds: {ONLY.format('noise')}" in found
    assert not [line for line in found if "noise is recorded as" in line]
    change(clean, "noise", samples=[*samples, samples[2] | {"seed": 3}], verdict="reproduced")
    assert f"noise has 4 seeds, and the record asks for 3: {ONLY.format('noise')}" in problems(clean)


def test_rounds_that_are_missing_and_a_noisy_machine(clean):
    (sample,) = of(clean, "fast")["samples"]
    for broken in (sample | {"rounds": sample["rounds"][:14]}, sample | {"null": [1.1]}):
        change(clean, "fast", samples=[broken])
        said = f"fast is recorded as reproduced, but its own samples say undecided: {ONLY.format('fast')}"
        assert regenerated(clean) == [said]


def test_a_value_of_another_shape_than_the_record_has_now(clean):
    clean.edit(clean.record, "accept = { at_most = 50 }", "accept = { a = { at_most = 50 } }")
    found = regenerated(clean)
    assert ("noise: measured [''], but the record's criteria are for ['a']: ['', 'a'] has no counterpart: "
            + ONLY.format("noise")) in found  # fmt: skip
    done = clean.run("--record", "--tier", "exact")  # of other claims
    assert done.code == 0 and "Traceback" not in done.err
    assert "noise: measured [''], but the record's criteria are for ['a']" in done.err


def test_a_result_that_was_edited_by_hand_or_is_of_another_version(clean):
    path = clean.results / "noise.json"
    path.write_text(path.read_text("utf-8").replace('"reproduced"', '"not reproduced"'), "utf-8")
    assert problems(clean)[0] == ("noise.json was edited by hand: its checksum does not fit its content; `reproduce "
                                  "--only noise --record` writes it again")  # fmt: skip
    change(clean, "similar", **{"unheard-of": 1})
    assert any(line.startswith("similar.json is not a result of this version; ") for line in problems(clean))


def test_claims_results_and_measurements_without_each_other(clean):
    clean.edit(clean.claims, '@claim("large")', '@claim("small")')
    (clean.results / "similar.json").rename(clean.results / "old.json")
    assert regenerated(clean) == [
        f"similar has no result: {ONLY.format('similar')}",
        '[claims.large] is measured nowhere: no @claim("large") in toy.reproduce',
        '@claim("small") has no [claims.small] in papers/toy.toml',
        "results/old.json belongs to no claim: delete it",
    ]


@pytest.mark.parametrize(
    "name", ["toy/README.md", "toy/README.zh-CN.md", "checkout/README.md", "checkout/README.zh-CN.md"]
)
def test_a_table_that_is_not_of_the_results(clean, name: str):
    folder, file = name.split("/")
    path = (clean.home if folder == "toy" else clean.root) / file
    text = path.read_text("utf-8")
    path.write_text(text.replace("| 6 |", "| 7 |") if folder == "checkout" else text.replace("3 GB", "2 GB"), "utf-8")
    assert problems(clean) == [f"the generated table in {name} is not of results/: {AGAIN}"]
    path.write_text(text + "what stands outside is free\n", "utf-8")
    assert problems(clean) == []


def test_an_erratum_that_is_not_of_the_results(clean):
    path = clean.home / "README.md"
    path.write_text(path.read_text("utf-8").replace("✓ adds up", "✗ does not add up"), "utf-8")
    assert problems(clean) == [f"the generated table in toy/README.md is not of results/: {AGAIN}"]


def test_missing_markers_are_named(clean):
    path = clean.home / "README.md"
    path.write_text(path.read_text("utf-8").replace("<!-- papertest:errata -->", ""), "utf-8")
    assert problems(clean) == ["packages/toy/README.md needs `<!-- papertest:errata -->` once, and below it "
                               "`<!-- papertest:end-errata -->` once: the table stands between them"]  # fmt: skip


def test_a_figure_in_order(with_figure):
    assert problems(with_figure) == []
    key = drawing.drawn_from(with_figure.home / "figures" / "curve.png")
    assert key is not None and len(key) == 16


def test_a_figure_may_wait_for_its_claims(with_figure):
    figure = with_figure.home / "figures" / "curve.png"
    figure.unlink()
    for readme in with_figure.home.glob("README*.md"):
        readme.write_text(readme.read_text("utf-8").replace("figures/curve.png", ""), "utf-8")
    assert f"figures/curve.png is not there: {AGAIN}" in problems(with_figure)
    change(with_figure, "curve", samples=[])
    assert not [said for said in problems(with_figure) if said.startswith("figures/")]


def test_a_figure_that_is_drawn_from_something_else(with_figure):
    said = f"figures/curve.png is not drawn from results/ with the code of today: {AGAIN}"
    path = with_figure.home / "figures" / "curve.png"
    png = path.read_bytes()
    code = with_figure.code / "reproduce" / "drawn.py"
    for broken in (
        lambda: path.write_bytes(png.replace(b"tEXtSource", b"tEXtSourse")),
        lambda: path.write_bytes(b"\x89PNG"),
        lambda: path.write_bytes(b""),
        lambda: code.write_text(FIGURE.replace("[1, 2, 3]", "[1, 2, 4]")),
        lambda: change(with_figure, "curve", samples=[s | {"seconds": 7} for s in of(with_figure, "curve")["samples"]]),
    ):
        before = (with_figure.results / "curve.json").read_bytes()
        broken()
        assert problems(with_figure) == [said]
        path.write_bytes(png)
        code.write_text(FIGURE)
        (with_figure.results / "curve.json").write_bytes(before)
    assert problems(with_figure) == []
    with_figure.edit(code, "    drawn,", "    # a comment\n    drawn,")
    assert problems(with_figure) == []


def test_recording_draws_what_the_readers_run_has_drawn_before(with_figure):
    """The reader's figures stand in .papertest/, and say nothing of those that are committed."""
    path = with_figure.home / "figures" / "curve.png"
    with_figure.edit(with_figure.claims, "2.0, 1.0]", "2.5, 1.0]")
    assert with_figure.run("--full").code == 0
    assert (with_figure.state / "figures" / "curve.png").read_bytes() != path.read_bytes()
    assert with_figure.run("--record").code == 0
    assert problems(with_figure) == []
    assert drawing.drawn_from(with_figure.state / "figures" / "curve.png") == drawing.drawn_from(path)


def test_figures_that_are_missing_shown_nowhere_or_named_alone(with_figure):
    path = with_figure.home / "figures" / "curve.png"
    png = path.read_bytes()
    path.unlink()
    assert problems(with_figure) == [
        "README.md shows figures/curve.png, which is not there",
        "README.zh-CN.md shows figures/curve.png, which is not there",
        f"figures/curve.png is not there: {AGAIN}",
    ]
    path.write_bytes(png)
    for name in ("README.md", "README.zh-CN.md"):
        with_figure.edit(with_figure.home / name, "![the curve](figures/curve.png)\n", "")
    said = "figures/curve.png is shown in no README: show it, or delete its @figure"
    assert problems(with_figure) == [said]


def test_the_history_is_a_part_of_the_check(clean):
    assert problems(clean) == []  # no repository, no history
    for arguments in (["init"], ["add", "-A"], ["-c", "user.name=A", "-c", "user.email=a@b", "commit", "-m", "all"]):
        subprocess.run(["git", *arguments], cwd=clean.root, capture_output=True, check=True)
    found = problems(clean)
    assert len(found) == 8 and all("its criterion is of" in line for line in found)
