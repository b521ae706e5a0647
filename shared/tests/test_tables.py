"""Tables between markers in both languages, errata, the scoreboard, and numbers as a reader wants them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from papertest import fingerprint, store, tables, words
from papertest.fingerprint import Sources
from papertest.package import Package
from papertest.store import Result, Sample
from papertest.tables import HEADS, MarkerError, spread

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
where = "Figure 2; Section 5.1"
what = "Loss."
what_zh = "损失。"
value = 1.5
unit = "1"
setting = "none"

[reported.times]
where = "Appendix C.2"
what = "Times."
what_zh = "时间。"
value = {{ ours = 10, theirs = 15 }}
unit = "ms"
setting = "none"

[claims.bytes]
title = "Fewer bytes | by far"
title_zh = "字节 | 更少"
what = "Fewer bytes | by far."
what_zh = "字节更少。"
reports = ["bytes"]
tier = "exact"
unit = "GB"
accept = {{ standard = {{ within_percent = 5 }}, flash = {{ at_most = 5 }} }}
why = "It is printed."
why_zh = "论文给出。"

[claims.loss]
title = "The loss is the paper's"
title_zh = "损失与论文一致"
what = "The loss."
what_zh = "损失。"
reports = ["loss", "bytes", "times"]
tier = "trend"
unit = "nats"
paper = "{{loss}}"
accept = {{ within = 0.1 }}
why = "It is drawn."
why_zh = "图中如此。"
earlier = "A first set-up of 100 steps gave 3.1"
earlier_zh = "最初的 100 步设置给出 3.1"

[claims.falls]
title = "The loss falls"
title_zh = "损失下降"
what = "The loss falls."
what_zh = "损失下降。"
reports = ["loss"]
tier = "trend"
unit = "percentage points"
accept = {{ decreasing = true }}
why = "It is drawn."
why_zh = "图中如此。"
controls = ["loss"]

[claims.speed]
title = "Half as fast again"
title_zh = "速度是对照的 1.5 倍"
what = "Half as fast again."
what_zh = "速度是对照的 1.5 倍。"
reports = ["times"]
tier = "speed"
unit = "ratio"
paper = {{ speed = "{{times.theirs}} / {{times.ours}}" }}
accept = {{ speed = {{ at_least = 1.2 }}, memory = {{ at_most = 2 }} }}
why = "It is measured."
why_zh = "实测如此。"

[claims.large]
title = "The loss at scale"
title_zh = "大规模的损失"
what = "The loss at scale."
what_zh = "大规模的损失。"
reports = ["loss"]
tier = "paper"
unit = "1"
accept = {{ at_most = 2 }}
why = "It is drawn."
why_zh = "图中如此。"
needs = "cuda"
cost = "3 GPU-hours on one card"

[claims.ours]
title = "Faster than the peer"
title_zh = "比对照实现快"
what = "Faster than the peer."
what_zh = "比对照实现快。"
reports = ["times"]
tier = "exact"
unit = "%"
accept = {{ between = [1, 3] }}
why = "We want it."
why_zh = "我们的目标。"
by = "us"
earlier = "Three seeds of 7 pairs: 1.83"
earlier_zh = "三个种子、各 7 对：1.83"

[claims.adds-up]
title = "The ratio in the text is the table's"
title_zh = "正文的比值与表一致"
what = "The ratio in the text is the table's."
what_zh = "正文的比值与表一致。"
reports = ["times"]
tier = "printed"
unit = "1"
paper = "{{times.ours}}"
accept = {{ digits = 1 }}
why = "It could be seen through when it was written."
why_zh = "写下判据时即可看出结果。"

[claims.wrong-sum]
title = "The average is the rows'"
title_zh = "平均值与各行一致"
what = "The average is the rows'."
what_zh = "平均值与各行一致。"
reports = ["bytes"]
tier = "printed"
unit = "1"
accept = {{ equals = true }}
why = "It could be seen through when it was written."
why_zh = "写下判据时即可看出结果。"
"""
CLAIMS = ["bytes", "loss", "falls", "speed", "large", "ours", "adds-up", "wrong-sum"]
CODE = "from papertest import claim\n" + "".join(
    f'\n@claim("{i}")\ndef measure_{i.replace("-", "_")}(run):\n    return 1.5\n' for i in CLAIMS
)
TABLE = """# {0}

before: ∑ |x|

<!-- papertest:table -->
<!-- papertest:end -->

after \\1
<!-- papertest:errata -->
old
<!-- papertest:end-errata -->
the end \\2 """
SCORES = "# All\n<!-- papertest:scoreboard -->\nold\n<!-- papertest:end -->\nno newline at the end"
MACHINE = "a CPU, 2 cores"


def build(root: Path, slug: str, title: str) -> Package:
    """A package of these claims in the checkout `root`."""
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


def sample(package: Package, claim: str, seed: int, value: Any, **more: Any) -> Sample:
    return Sample(
        claim=claim, seed=seed, device="cpu", quick=False, fingerprint=fingerprint.of_claim(Sources(package), claim),
        value=value, details={}, seconds=1.0, machine=MACHINE, versions={"torch": "2.9.0"}, shared={}, **more,
    )  # fmt: skip


def judged(package: Package, claim: str, *values: Any, verdicts: dict[str, str] | None = None) -> Result:
    """The committed result of a claim whose seeds, or rounds, measured these values."""
    if package.record.claims[claim].tier == "speed":
        samples = [sample(package, claim, 0, None, rounds=list(values), null=[1.0])]
    else:
        samples = [sample(package, claim, i, v) for i, v in enumerate(values)]
    outcome = store.result(package, claim, samples, samples[0].fingerprint, verdicts or {})
    store.write_result(package, outcome)
    return outcome


@pytest.fixture
def results(package: Package) -> dict[str, Result]:
    mark = fingerprint.of_claim(Sources(package), "large")
    large = store.not_run(package, "large", "no CUDA device here; costs 3 GPU-hours on one card", mark)
    store.write_result(package, large)
    return {
        "bytes": judged(package, "bytes", {"standard": 41.0, "flash": 4.5}),
        "loss": judged(package, "loss", 1.9, 2.0, 2.1),
        "falls": judged(package, "falls", [3, 2], [3, 1], [4, 2], verdicts={"loss": "not reproduced"}),
        "speed": judged(package, "speed", *({"speed": 1.5 + i % 5 / 50, "memory": 2} for i in range(15))),
        "large": large,
        "ours": judged(package, "ours", 5.0),
        "adds-up": judged(package, "adds-up", 9.96),
        "wrong-sum": judged(package, "wrong-sum", {"standard": 40.3, "flash": 4.5}),
    }


def texts(package: Package) -> dict[str, str]:
    """The four files that hold generated text."""
    assert package.home is not None and package.checkout is not None
    names = ("README.md", "README.zh-CN.md")
    return {f"{f.name}/{n}": (f / n).read_bytes().decode() for f in (package.home, package.checkout) for n in names}


@pytest.mark.parametrize(
    ("value", "interval", "unit", "shown"),
    [
        (40.3, None, "GB", "40.3 GB"), (1, None, "1", "1"), (1.5, None, "ratio", "1.5×"), (12, None, "%", "12 %"),
        (7.5, None, "percentage points", "7.5 pp"), (2, None, "something else", "2"), (None, None, "1", "not a number"),
        (2.0, [(1.75, 2.25)], "nats", "2 [1.75, 2.25] nats"), (2.0, [(2.0, 2.0)], "nats", "2 nats"),
        ([1, 2, 3], None, "ms", "1 … 3 ms"), ([1], None, "ms", "1 ms"),
        ([1, 2.0], [(0.5, 1.5), (2, 2)], "1", "1 [0.5, 1.5] … 2"), ([], None, "1", "–"),
        (1.23456, [(1.2, 1.26789)], "1", "1.235 [1.2, 1.268]"),
    ],
)  # fmt: skip
def test_spread(value: Any, interval: Any, unit: str, shown: str) -> None:
    assert spread({"part": value}, {"part": interval} if interval else None, "part", unit, "en") == shown
    assert spread(value, {"": interval} if interval else None, "", unit, "en") == shown
    assert spread({"part": value}, None, "another", unit, "en") == "–"


@pytest.mark.parametrize(
    ("unit", "shown"),
    [
        ("GB", "2 GB"),
        ("ratio", "2 倍"),
        ("%", "2%"),
        ("percentage points", "2 个百分点"),
        ("nats", "2 奈特"),
        ("s", "2 秒"),
    ],
)
def test_units_in_chinese(unit: str, shown: str) -> None:
    assert spread(2, None, "", unit, "zh") == shown


def test_the_table_of_a_write_up(package: Package, results: dict[str, Result]) -> None:
    lines = tables.writeup(package, results, "en").splitlines()
    assert [line for line in lines if line.startswith("**")] == [
        f"**{words.TIERS['en'][section]}**" for section in ("exact", "trend", "speed", "paper", "us")
    ]
    assert lines.count("| Claim | Where | The paper | Ours | Verdict |") == 5
    assert [line for line in lines if line.startswith("| ") and not line.startswith("| Claim ")] == [
        "| Fewer bytes \\| by far | Table 1 | 40.3 GB | 41 GB | ✓ reproduced |",
        "| The loss is the paper's † | Figure 2; Section 5.1; and 2 more places | "
        "1.5 nats | 2 [1.752, 2.248] nats, 3 seeds | ✗ not reproduced |",
        "| The loss falls | Figure 2; Section 5.1 | – | 3.333 [1.899, 4.768] … 1.667 [0.2324, 3.101] pp, 3 seeds | "
        "? undecided (control `loss`) |",
        "| Half as fast again | Appendix C.2 | 1.5× | 1.54 [1.524, 1.556]×, 15 rounds | ✓ reproduced |",
        "| The loss at scale | Figure 2; Section 5.1 | – | – | – not run (3 GPU-hours) |",
        "| Faster than the peer † | Appendix C.2 | – | 5 % | ✗ missed |",
    ]
    assert lines.count(tables.EARLIER["en"]) == 1
    assert lines[-1] == "Measured on a CPU, 2 cores; torch 2.9.0."


def test_the_details_are_folded_away(package: Package, results: dict[str, Result]) -> None:
    head, folded = tables.writeup(package, results, "en").split("<details>\n<summary>")
    assert "Reason" not in head and "It is printed" not in head
    body = folded.split("</summary>\n\n")[1].split("\n\n</details>")[0]
    assert body.splitlines() == [
        "- **Fewer bytes \\| by far** (`bytes`): Fewer bytes \\| by far. `standard` within 5 % of the paper's 40.3: "
        "41 GB; `flash` ≤ 5: 4.5 GB. Reason: It is printed.",
        "- **The loss is the paper's** (`loss`): The loss. within 0.1 of the paper's 1.5: 2 [1.752, 2.248] nats. "
        "Reason: It is drawn. Earlier: A first set-up of 100 steps gave 3.1.",
        "- **The loss falls** (`falls`): The loss falls. decreasing: 3.333 [1.899, 4.768] … 1.667 [0.2324, 3.101] pp. "
        "Reason: It is drawn.",
        "- **Half as fast again** (`speed`): Half as fast again. `speed` ≥ 1.2: 1.54 [1.524, 1.556]×; `memory` ≤ 2: "
        "2×. Reason: It is measured.",
        "- **The loss at scale** (`large`): The loss at scale. ≤ 2. Reason: It is drawn.",
        "- **Faster than the peer** (`ours`): Faster than the peer. between 1 and 3: 5 %. Reason: We want it. "
        "Earlier: Three seeds of 7 pairs: 1.83.",
    ]


def test_the_deciding_part_is_shown(package: Package) -> None:
    row = tables.writeup(package, {"bytes": judged(package, "bytes", {"standard": 41.0, "flash": 5.5})}, "en")
    assert "| Fewer bytes \\| by far | Table 1 | 4.4 GB | 5.5 GB | ✗ not reproduced |" in row


def test_a_part_without_a_papers_value_has_none(package: Package) -> None:
    rounds = [{"speed": 1.5, "memory": 3} for _ in range(15)]
    row = tables.writeup(package, {"speed": judged(package, "speed", *rounds)}, "en")
    assert "| Half as fast again | Appendix C.2 | – | 3×, 15 rounds | ✗ not reproduced |" in row


def test_errata_stand_apart_and_those_that_do_not_add_up_first(package: Package, results: dict[str, Result]) -> None:
    text = tables.errata(package, results, "en")
    assert [line for line in text.splitlines() if line.startswith("| ")] == [
        "| Claim | Where | The paper | Ours | Verdict |",
        "| The average is the rows' | Table 1 | 4.4 | 4.5 | ✗ does not add up |",
        "| The ratio in the text is the table's | Appendix C.2 | 10 | 9.96 | ✓ adds up |",
    ]
    assert text.index("</details>") > text.index("- **The average is the rows'** (`wrong-sum`)")
    table = tables.writeup(package, results, "en")
    assert "The average" not in table and "adds-up" not in table
    assert tables.errata(package, {"loss": results["loss"]}, "en") == "None of this paper's sums is checked.\n"
    assert [tables.errata(package, results, "zh").count(word) for word in ("✗ 不吻合", "✓ 吻合")] == [1, 1]


def test_a_tier_without_results_has_no_table(package: Package) -> None:
    text = tables.writeup(package, {"bytes": judged(package, "bytes", {"standard": 41.0, "flash": 4.5})}, "en")
    assert "**Exact" in text
    assert "Trend" not in text and "Our own" not in text and "loss" not in text


def test_a_seed_that_diverged_is_shown(package: Package) -> None:
    judged(package, "loss", 1.5, float("nan"), 1.5)
    known = store.recorded(package, pytest.fail)["loss"]
    assert known.verdict == "undecided"
    assert tables.ours(known, "en") == "not a number [not a number, not a number] nats"
    assert not english(tables.ours(known, "zh"))


@pytest.mark.parametrize(
    ("change", "en", "zh"),
    [
        ({"verdict": "undecided", "seeds": 7}, "? undecided (7 seeds would decide)", "? 未定（需 7 个种子）"),
        ({"verdict": "undecided", "seeds": 40, "tier": "speed"}, "? undecided (40 rounds would decide)",
         "? 未定（需 40 轮）"),
        ({"verdict": "undecided", "null": 1.05, "seeds": 7}, "? undecided (noisy machine)", "? 未定（机器噪声过大）"),
        ({"verdict": "undecided", "control": "bytes", "null": 1.05}, "? undecided (control `bytes`)",
         "? 未定（对照 `bytes` 不成立）"),
        ({"verdict": "undecided"}, "? undecided", "? 未定"),
        ({"verdict": "reproduced"}, "✓ reproduced", "✓ 已复现"),
        ({"verdict": "not reproduced", "seeds": 7}, "✗ not reproduced", "✗ 未复现"),
        ({"verdict": "not run", "why": "no CUDA device here; costs 0.5 GPU-hours"}, "– not run (0.5 GPU-hours)",
         "– 未运行（需 0.5 GPU 小时）"),
        ({"verdict": "undecided", "by": "us", "seeds": 7}, "? undecided (7 seeds would decide)",
         "? 未定（需 7 个种子）"),
        ({"verdict": "reproduced", "by": "us"}, "✓ held", "✓ 达到"),
        ({"verdict": "not reproduced", "by": "us"}, "✗ missed", "✗ 未达到"),
        ({"verdict": "reproduced", "tier": "printed"}, "✓ adds up", "✓ 吻合"),
        ({"verdict": "not reproduced", "tier": "printed"}, "✗ does not add up", "✗ 不吻合"),
    ],
)  # fmt: skip
def test_the_verdict_in_words(package: Package, change: dict[str, Any], en: str, zh: str) -> None:
    plain = {"seeds": None, "control": None, "null": None, "why": ""}
    result = judged(package, "loss", 1.9, 2.0, 2.1).model_copy(update=plain | change)
    assert (tables.verdict(result, "en"), tables.verdict(result, "zh")) == (en, zh)


NAMES = {"GB", "ms", "GPU", "torch", "CPU"}


def english(text: str) -> list[str]:
    """The English words of a text that are no code, no link's target, and no name."""
    prose = re.sub(r"`[^`]*`|\]\([^)]*\)|<[^>]*>", " ", text)
    return [word for word in re.findall(r"[A-Za-z]{2,}", prose) if word not in NAMES]


def test_the_chinese_table_is_chinese(package: Package, results: dict[str, Result]) -> None:
    for text in (tables.writeup(package, results, "zh"), tables.errata(package, results, "zh")):
        assert english(text) == []
        assert not re.search(r"[一-鿿] ?[,;:?!]|[,;:?!] ?[一-鿿]", re.sub(r"^\|.*\|$", "", text, flags=re.M))
        assert "| " + " | ".join(HEADS["zh"]) + " |" in text
    lines = tables.writeup(package, results, "zh").splitlines()
    assert "| 字节 \\| 更少 | 表 1 | 40.3 GB | 41 GB | ✓ 已复现 |" in lines
    assert ("| 损失与论文一致 † | 图 2；第 5.1 节；等 4 处 | 1.5 奈特 | "
            "2 [1.752, 2.248] 奈特，3 个种子 | ✗ 未复现 |") in lines  # fmt: skip
    assert "| 速度是对照的 1.5 倍 | 附录 C.2 | 1.5 倍 | 1.54 [1.524, 1.556] 倍，15 轮 | ✓ 已复现 |" in lines
    assert lines[-1] == "测量环境：a CPU，2 核；torch 2.9.0。"


def test_no_english_word_hides_in_what_a_toy_records(recorded_toy) -> None:
    """Of every kind of claim, as the command writes it."""
    text = (recorded_toy.home / "README.zh-CN.md").read_text()
    text = text.split("<!-- papertest:table -->")[1].replace("## Errata", "")
    (machine,) = [line for line in text.splitlines() if line.startswith("测量环境")]
    assert english(text.replace(machine, "")) == [] and " cores" not in machine
    scores = (recorded_toy.root / "README.zh-CN.md").read_text().split("<!-- papertest:scoreboard -->")[1]
    assert english(scores) == ["Toy"]


def test_a_chinese_place_that_is_written_is_taken(package: Package) -> None:
    assert package.checkout is not None
    path = package.checkout / "papers" / "first-paper.toml"
    path.write_text(
        path.read_text("utf-8").replace('where = "Table 1"', 'where = "Table 1"\nwhere_zh = "第一张表"'), "utf-8"
    )
    again = Package.at(package.code)
    assert (tables.where(again, "bytes", "zh"), tables.where(again, "bytes", "en")) == ("第一张表", "Table 1")


def test_each_file_is_in_its_language(package: Package, results: dict[str, Result]) -> None:
    tables.write(package, results)
    written = texts(package)
    for word, chinese in (("✓ reproduced", "✓ 已复现"), ("✗ does not add up", "✗ 不吻合"), ("✗ missed", "✗ 未达到")):
        assert word in written["first-paper/README.md"] and chinese not in written["first-paper/README.md"]
        assert chinese in written["first-paper/README.zh-CN.md"] and word not in written["first-paper/README.zh-CN.md"]
    assert "| Paper | Reproduced |" in written["checkout/README.md"]
    assert "| 论文 | 已复现 |" in written["checkout/README.zh-CN.md"]


def test_the_rest_of_a_file_is_untouched(package: Package, results: dict[str, Result]) -> None:
    before = texts(package)
    tables.write(package, results)
    for name, text in texts(package).items():
        assert text != before[name]
        outside = r"(<!-- papertest:(?:table|scoreboard|errata) -->).*?(<!-- papertest:end(?:-errata)? -->)"
        assert re.sub(outside, r"\1\2", text, flags=re.S) == re.sub(outside, r"\1\2", before[name], flags=re.S)
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


ERRATA = "<!-- papertest:errata -->\n<!-- papertest:end-errata -->\n"


@pytest.mark.parametrize(
    "text",
    [
        "# no markers\n",
        "<!-- papertest:table -->\n" + ERRATA,
        "<!-- papertest:end -->\n" + ERRATA,
        "<!-- papertest:end -->\n<!-- papertest:table -->\n" + ERRATA,
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


@pytest.mark.parametrize("lost", ["<!-- papertest:errata -->", "<!-- papertest:end-errata -->"])
def test_markers_of_the_errata_are_needed_too(package: Package, results: dict[str, Result], lost: str) -> None:
    assert package.home is not None
    path = package.home / "README.md"
    path.write_text(path.read_text("utf-8").replace(lost, ""), "utf-8")
    with pytest.raises(
        MarkerError, match="^packages/first-paper/README.md needs `<!-- papertest:errata -->` once, and"
    ):
        tables.write(package, results)


def test_the_scoreboard_counts_verdicts_and_keeps_sums_and_our_own_apart(
    package: Package, results: dict[str, Result]
) -> None:
    assert package.checkout is not None
    second = build(package.checkout, "second-paper", "Second")
    judged(second, "bytes", {"standard": 41.0, "flash": 5.5})
    judged(second, "ours", 2.0)
    lines = tables.scoreboard(tables.packages_of(package.checkout), "en").splitlines()
    assert lines[0] == f"| {' | '.join(tables.SCORES['en'])} |"
    assert len(tables.SCORES["en"]) == len(tables.SCORES["zh"]) == 7
    first, other = (
        f"| [`{slug}`](packages/{slug}/README.md): [{title}](https://arxiv.org/abs/2101.00001) (2021) |"
        for slug, title in (("first-paper", "First"), ("second-paper", "Second"))
    )
    assert lines[2:] == [f"{first} 2 | 1 | 1 | 1 | 1 of 2 | 0 of 1 |", f"{other} 0 | 1 | 0 | 0 | – | 1 of 1 |"]
    (row,) = tables.scoreboard([second], "zh").splitlines()[2:]
    assert row.startswith("| [`second-paper`](packages/second-paper/README.zh-CN.md): ")
    assert row.endswith(" (2021) | 0 | 1 | 0 | 0 | – | 1 / 1 |")


def test_a_package_without_a_record_is_not_on_the_scoreboard(package: Package) -> None:
    assert package.checkout is not None
    build(package.checkout, "second-paper", "Second")
    (package.checkout / "papers" / "second-paper.toml").unlink()
    assert [p.slug for p in tables.packages_of(package.checkout)] == ["first-paper"]
