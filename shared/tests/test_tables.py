"""Tables between markers in both languages, the scoreboard, numbers as a reader wants them, and the check of it all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from papertest import check, fingerprint, store, tables
from papertest.fingerprint import Sources
from papertest.package import Package
from papertest.store import Result, Sample
from papertest.tables import MarkerError, brief, measured, number

RECORD = """
[paper]
title = "{title}"
authors = ["A. Author"]
year = 2021
arxiv = "2101.00001"
bibtex = "@misc{{x}}"

[reported.bytes]
where = "Table 1"
what = "Bytes."
what_zh = "字节。"
value = {{ standard = 40.3, flash = 4.4 }}
unit = "GB"
setting = "N = 1024"

[reported.loss]
where = "Figure 2"
what = "Loss."
what_zh = "损失。"
value = 1.5
unit = "1"
setting = "none"

[claims.bytes]
what = "Fewer bytes | by far."
what_zh = "字节更少。"
reports = ["bytes"]
tier = "exact"
accept = {{ standard = {{ within_percent = 5 }}, flash = {{ at_most = 5 }} }}
why = "It is printed."

[claims.loss]
what = "The loss."
what_zh = "损失。"
reports = ["loss"]
tier = "trend"
accept = {{ within = 0.1 }}
why = "It is drawn."

[claims.large]
what = "The loss at scale."
what_zh = "大规模的损失。"
reports = ["loss"]
tier = "paper"
accept = {{ at_most = 2 }}
why = "It is drawn."
needs = "cuda"
cost = "3 GPU-hours"
"""
CODE = """
from papertest import claim

@claim("bytes")
def measure_bytes(run):
    return {"standard": 41.0, "flash": 4.5}

@claim("loss")
def measure_loss(run):
    return 1.5

@claim("large")
def measure_large(run):
    return 1.5
"""
TABLE = "# {0}\n\nbefore: ∑ |x|\n\n<!-- papertest:table -->\n<!-- papertest:end -->\n\nafter \\1 \n"
SCORES = "# All\n<!-- papertest:scoreboard -->\nold\n<!-- papertest:end -->\nno newline at the end"


def build(root: Path, slug: str, title: str) -> Package:
    """A package of three claims in the checkout `root`."""
    home, code = root / "packages" / slug, root / "packages" / slug / "src" / slug.replace("-", "_")
    for folder in (code, home / "figures", home / "results", root / "papers"):
        folder.mkdir(parents=True, exist_ok=True)
    (root / "papers" / f"{slug}.toml").write_text(RECORD.format(title=title), "utf-8")
    (code / "__init__.py").touch()
    (code / "reproduce.py").write_text(CODE)
    for name in ("README.md", "README.zh-CN.md"):
        (home / name).write_text(TABLE.format(title), "utf-8")
        (root / name).write_text(SCORES, "utf-8")
    return Package.at(code)


@pytest.fixture
def package(tmp_path: Path) -> Package:
    return build(tmp_path / "checkout", "first-paper", "First")


def sample(package: Package, claim: str, seed: int, value: Any) -> Sample:
    return Sample(
        claim=claim, seed=seed, device="cpu", quick=False, fingerprint=fingerprint.of_claim(Sources(package), claim),
        value=value, details={}, seconds=1.0, machine="a CPU, 2 cores", versions={"torch": "2.9.0"}, shared=[],
    )  # fmt: skip


def judged(package: Package, claim: str, *values: Any) -> Result:
    """The committed result of a claim whose seeds measured these values."""
    outcome = store.result(package, claim, [sample(package, claim, i, v) for i, v in enumerate(values)])
    store.write_result(package, outcome)
    return outcome


@pytest.fixture
def results(package: Package) -> dict[str, Result]:
    mark = fingerprint.of_claim(Sources(package), "large")
    large = store.not_run(package, "large", "no CUDA device here; costs 3 GPU-hours", mark)
    store.write_result(package, large)
    return {
        "bytes": judged(package, "bytes", {"standard": 41.0, "flash": 4.5}),
        "loss": judged(package, "loss", 1.9, 2.0, 2.1),
        "large": large,
    }


def texts(package: Package) -> dict[str, str]:
    """The four files that hold generated text."""
    assert package.home is not None and package.checkout is not None
    names = ("README.md", "README.zh-CN.md")
    return {f"{f.name}/{n}": (f / n).read_bytes().decode() for f in (package.home, package.checkout) for n in names}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (3, "3"), (3.0, "3"), (-0.0, "0"), (123456789, "123456789"), (999999.0, "999999"), (2e6, "2e+06"),
        (3.14159, "3.142"), (0.000123456, "0.0001235"), (1234.56, "1235"), (1e-12, "1e-12"), (None, "not a number"),
        (float("nan"), "not a number"), (float("inf"), "not a number"),
    ],
)  # fmt: skip
def test_number(value: float | None, shown: str) -> None:
    assert number(value) == shown


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (40.3, "GB", "40.3 GB"), (1, "1", "1"), (None, "GB", "–"), ([1, 2, 3], "", "1 2 3"),
        (list(range(6)), "", "0 1 2 3 4 5"), (list(range(7)), "ms", "0 1 … 6 ms"),
        ({"standard": 40.3, "flash": 4.4}, "GB", "standard 40.3, flash 4.4 GB"),
        ({"a": [1, 2], "b": None}, "1", "a 1 2, b not a number"),
        (dict(zip("abcde", range(5), strict=True)), "s", "a 0, b 1, c 2, d 3 … s"),
    ],
)  # fmt: skip
def test_brief(value: Any, unit: str, shown: str) -> None:
    assert brief(value, unit) == shown


def test_one_seed_is_shown_without_an_interval(package: Package) -> None:
    assert measured(judged(package, "bytes", {"standard": 41.0, "flash": 4.5}), "GB") == "standard 41, flash 4.5 GB"


def test_several_seeds_are_shown_with_their_interval(package: Package) -> None:
    # Student's t for 2 degrees of freedom is 4.303: 2 ± 4.303 × 0.1 / √3.
    assert measured(judged(package, "loss", 1.9, 2.0, 2.1)) == "2 [1.752, 2.248]"


def test_a_seed_that_diverged_is_shown(package: Package) -> None:
    judged(package, "loss", 1.9, float("nan"), 2.1)
    known = store.recorded(package, pytest.fail)["loss"]
    assert known.verdict == "not reproduced"
    assert measured(known) == "not a number [not a number, not a number]"


def test_the_table_of_a_write_up(package: Package, results: dict[str, Result]) -> None:
    lines = tables.writeup(package, results, "en").splitlines()
    assert [line for line in lines if line.startswith("**")] == [
        "**Exact**",
        "**Trend (3 seeds or more, 95 % interval)**",
        "**The paper's own scale (GPU)**",
    ]
    rows = [line for line in lines if line.startswith("| ") and "Criterion" not in line]
    assert rows == [
        "| Fewer bytes \\| by far. (`bytes`) | Table 1 | standard 40.3, flash 4.4 GB | standard 41, flash 4.5 | "
        "standard: within 5 % of the paper's, flash: ≤ 5 | ✓ reproduced |",
        "| The loss. (`loss`) | Figure 2 | 1.5 | 2 [1.752, 2.248] | within 0.1 of the paper's | "
        "✗ not reproduced ([1.752, 2.248] is not within 0.1 of the paper's 1.5) |",
        "| The loss at scale. (`large`) | Figure 2 | 1.5 | – | ≤ 2 | "
        "– not run (no CUDA device here; costs 3 GPU-hours) |",
    ]
    assert lines[-1] == "Measured on: a CPU, 2 cores; torch 2.9.0."


def test_a_tier_without_results_has_no_table(package: Package) -> None:
    text = tables.writeup(package, {"bytes": judged(package, "bytes", {"standard": 41.0, "flash": 4.5})}, "en")
    assert "**Exact**" in text
    assert "Trend" not in text


def test_the_chinese_table(package: Package, results: dict[str, Result]) -> None:
    text = tables.writeup(package, results, "zh")
    assert "| 论断 | 出处 | 论文所报 | 实测 | 判据（事先写定） | 结论 |" in text
    assert "| 字节更少。 (`bytes`) |" in text
    assert [text.count(word) for word in ("✓ 已复现", "✗ 未复现", "– 未运行")] == [1, 1, 1]
    assert "Fewer bytes" not in text
    assert "测量环境: a CPU" in text


def test_each_file_is_in_its_language(package: Package, results: dict[str, Result]) -> None:
    tables.write(package, results)
    written = texts(package)
    assert "✓ reproduced" in written["first-paper/README.md"]
    assert "✓ 已复现" in written["first-paper/README.zh-CN.md"]
    assert "| Paper | Package |" in written["checkout/README.md"]
    assert "| 论文 | 包 |" in written["checkout/README.zh-CN.md"]


def test_the_rest_of_a_file_is_untouched(package: Package, results: dict[str, Result]) -> None:
    before = texts(package)
    tables.write(package, results)
    for name, text in texts(package).items():
        marker = "table" if name.startswith("first") else "scoreboard"
        start, end = f"<!-- papertest:{marker} -->\n", "<!-- papertest:end -->"
        assert text != before[name]
        assert text.split(start)[0] == before[name].split(start)[0]
        assert text.split(end)[1] == before[name].split(end)[1]
        assert "\nold\n" not in text


def test_the_second_write_changes_nothing(
    package: Package, results: dict[str, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    tables.write(package, results)
    first = texts(package)
    monkeypatch.setattr(tables.files, "write_bytes", lambda *_: pytest.fail("written again"))
    tables.write(package, results)
    assert texts(package) == first


def test_a_write_up_that_is_not_there_is_not_made(package: Package, results: dict[str, Result]) -> None:
    assert package.home is not None
    (package.home / "README.zh-CN.md").unlink()
    tables.write(package, results)
    assert not (package.home / "README.zh-CN.md").exists()


@pytest.mark.parametrize(
    "text",
    [
        "# no markers\n",
        "<!-- papertest:table -->\n",
        "<!-- papertest:end -->\n",
        "<!-- papertest:end -->\n<!-- papertest:table -->\n",
        TABLE + TABLE,
        "<!-- papertest:table -->\n" + TABLE,
        TABLE + "<!-- papertest:end -->\n",
        "<!-- papertest:scoreboard -->\n<!-- papertest:end -->\n",
    ],
)
def test_missing_or_doubled_markers_are_one_line_that_names_the_file(
    package: Package, results: dict[str, Result], text: str
) -> None:
    assert package.home is not None
    (package.home / "README.zh-CN.md").write_text(text, "utf-8")
    before = texts(package)
    with pytest.raises(MarkerError) as caught:
        tables.write(package, results)
    assert str(caught.value) == (
        "packages/first-paper/README.zh-CN.md needs `<!-- papertest:table -->` once, and below it "
        "`<!-- papertest:end -->` once: the table stands between them"
    )
    assert texts(package) == before  # nor is another file written
    assert str(caught.value) in check.problems(package)


def test_the_scoreboard_counts_verdicts(package: Package, results: dict[str, Result]) -> None:
    assert package.checkout is not None
    second = build(package.checkout, "second-paper", "Second")
    judged(second, "bytes", {"standard": 41.0, "flash": 5.5})
    judged(second, "loss", 1.9, 2.0, 2.1)
    assert tables.scoreboard(tables.siblings(package), "en").splitlines()[2:] == [
        "| [First](https://arxiv.org/abs/2101.00001) (2021) | `first-paper` | 1 | 1 | 1 | "
        "[Write-up](packages/first-paper/README.md) |",
        "| [Second](https://arxiv.org/abs/2101.00001) (2021) | `second-paper` | 0 | 2 | 0 | "
        "[Write-up](packages/second-paper/README.md) |",
    ]
    assert "[文档](packages/second-paper/README.zh-CN.md)" in tables.scoreboard([second], "zh")


def test_a_package_without_a_record_is_not_on_the_scoreboard(package: Package) -> None:
    assert package.checkout is not None
    build(package.checkout, "second-paper", "Second")
    (package.checkout / "papers" / "second-paper.toml").unlink()
    assert [p.slug for p in tables.siblings(package)] == ["first-paper"]


def test_a_package_in_order_has_no_problems(package: Package, results: dict[str, Result]) -> None:
    tables.write(package, results)
    assert check.problems(package) == []


def test_a_table_that_is_not_of_the_results(package: Package, results: dict[str, Result]) -> None:
    tables.write(package, results)
    judged(package, "loss", 1.5, 1.5, 1.5)
    found = check.problems(package)
    assert len(found) == 4
    assert found[0] == (
        "the generated table in first-paper/README.md is not of results/: "
        "run `uv run --package first-paper reproduce --record`"
    )


def test_a_verdict_that_its_samples_do_not_give(package: Package, results: dict[str, Result]) -> None:
    wrong = results | {"loss": results["loss"].model_copy(update={"verdict": "reproduced", "why": ""})}
    store.write_result(package, wrong["loss"])
    tables.write(package, wrong)
    assert check.problems(package) == ["loss is recorded as reproduced, but its own samples say not reproduced"]


def test_other_code_makes_all_but_exact_results_stale(package: Package, results: dict[str, Result]) -> None:
    tables.write(package, results)
    path = package.code / "reproduce.py"
    path.write_text(CODE.replace("1.5", "1.6").replace("41.0", "41.1"))
    found = check.problems(package)
    assert [line.split(" was recorded with other code")[0] for line in found] == ["loss", "large"]


def test_claims_results_and_measurements_without_each_other(package: Package, results: dict[str, Result]) -> None:
    assert package.results is not None
    tables.write(package, results)
    (package.code / "reproduce.py").write_text(CODE.replace('"large"', '"small"'))
    (package.results / "bytes.json").rename(package.results / "old.json")
    assert check.problems(package)[:4] == [
        "bytes has no result: run `uv run --package first-paper reproduce --only bytes --record`",
        '[claims.large] is measured nowhere: no @claim("large") in first_paper.reproduce',
        '@claim("small") has no [claims.small] in papers/first-paper.toml',
        "results/old.json belongs to no claim: delete it",
    ]


def test_a_result_that_was_edited(package: Package, results: dict[str, Result]) -> None:
    assert package.results is not None
    tables.write(package, results)
    path = package.results / "loss.json"
    path.write_text(path.read_text("utf-8").replace("not reproduced", "reproduced"), "utf-8")
    assert check.problems(package)[0].startswith("loss.json was edited by hand: its checksum does not fit")


def test_figures_that_are_shown_drawn_or_named_alone(package: Package, results: dict[str, Result]) -> None:
    assert package.home is not None and package.figures is not None
    tables.write(package, results)
    with (package.home / "README.md").open("a") as readme:
        readme.write("![curve](figures/curve.png)\n")
    figures = '@figure("bars", "loss")\ndef bars(results): ...\n\n@figure("plot", "loss")\ndef plot(results): ...\n'
    (package.code / "reproduce.py").write_text(f"from papertest import figure\n{CODE}\n{figures}")
    (package.figures / "bars.png").touch()
    assert check.problems(package) == [
        "README.md shows figures/curve.png, which is not there",
        "figures/bars.png is shown in no README: show it, or delete its @figure",
        "figures/plot.png is not there: run `uv run --package first-paper reproduce --record`",
    ]
