"""Words in two languages: places, criteria, numbers, verdicts and tiers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from papertest import accept, records, words

PAPERS = sorted((Path(__file__).parents[2] / "papers").glob("*.toml"))
CODE = r"[A-Za-z0-9./-]*[_/][A-Za-z0-9_./-]*"  # names of functions and files
NAMES = {"eps", "ls", "PI", "YaRN", "Llama", "DeepSeek", "LLM", "exllama", "bloc", "NTK", "aware", "Rotary",
         "PPO", "GAE", "InstructGPT", "Schulman", "Stiennon", "Ouyang", "arXiv", "Mikolov", "Levy", "Goldberg",
         "Bojanowski"}  # fmt: skip


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (3, "3"), (3.0, "3"), (-0.0, "0"), (42, "42"), (-7, "-7"), (999999.0, "999999"), (2e6, "2e6"),
        (3.14159, "3.142"), (0.000123456, "0.0001235"), (1234.56, "1235"), (12345.67, "12346"),
        (1e-12, "1e-12"), (-1.5e-9, "-1.5e-9"),
        (None, "not a number"), (float("nan"), "not a number"), (float("inf"), "not a number"),
    ],
)  # fmt: skip
def test_number(value: float | None, shown: str) -> None:
    assert words.number(value) == shown


def test_number_of_so_many_digits() -> None:
    assert [words.number(3.14159, digits) for digits in (2, 3, 5)] == ["3.1", "3.14", "3.1416"]


def test_a_machine_in_chinese() -> None:
    assert words.machine("AMD EPYC, 2 cores", "zh") == "AMD EPYC，2 核"
    assert words.machine("NVIDIA H100", "zh") == "NVIDIA H100"
    assert words.machine("AMD EPYC, 2 cores", "en") == "AMD EPYC, 2 cores"


@pytest.mark.parametrize(
    ("place", "chinese"),
    [
        ("Table 3", "表 3"), ("Figure 2", "图 2"), ("Section 5.1", "第 5.1 节"),
        ("Sections 4.1 to 4.4", "第 4.1 至 4.4 节"),
        ("Appendix C.2", "附录 C.2"), ("Equation 3", "式 3"), ("Abstract", "摘要"), ("Introduction", "引言"),
        ("Conclusion", "结论"), ("footnote 3", "脚注 3"), ("Theorem 1", "定理 1"), ("Proposition 4", "命题 4"),
        ("Algorithm 2", "算法 2"), ("Definition 1", "定义 1"), ("Figure 2, left", "图 2、左"),
        ("Table 3; Section 5.1", "表 3；第 5.1 节"), ("Abstract, Sections 1 and 4", "摘要、第 1、4 节"),
        ("Section 3, with footnote 3; Appendix A.2", "第 3 节、脚注 3；附录 A.2"), ("Figures 5 and 6", "图 5、6"),
        ("Appendix E.5, Figures 5 to 8", "附录 E.5、图 5 至 8"),
        ("Theorem 1; Sections 2.2 and 4.3", "定理 1；第 2.2、4.3 节"),
    ],
)  # fmt: skip
def test_places_in_chinese(place: str, chinese: str) -> None:
    assert words.place_zh(place) == chinese


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_every_place_of_our_records_is_chinese_in_chinese(path: Path, our_records) -> None:
    entries = our_records[path.stem].reported.values()
    places = [entry.where_zh or words.place_zh(entry.where) for entry in entries]
    words_left = {p: set(re.findall(r"[A-Za-z]{2,}", re.sub(CODE, "", p))) - NAMES for p in places}
    assert {p: left for p, left in words_left.items() if left} == {}
    assert not [place for place in places if re.search("[,;]", place)]


@pytest.mark.parametrize(
    ("place", "short"),
    [("Section 3.5; Table 1", "§3.5"), ("Sections 4.1 to 4.4", "§4.1 to 4.4"), ("Figure 2, left", "Fig. 2"),
     ("Tables 1 and 2", "Tab. 1 and 2"), ("Equation 3", "Eq. 3"), ("Appendix C.2", "App. C.2"),
     ("Abstract", "Abstract"), ("Theorem 1", "Thm. 1")],
)  # fmt: skip
def test_places_in_a_terminals_column(place: str, short: str) -> None:
    assert words.place_short(place) == short


CRITERIA = {
    "equals": (True, "equal to the paper's 1.5", "等于论文的值 1.5"),
    "digits": (1, "the paper's to 1 decimal 1.5", "与论文的值 1.5 在 1 位小数内一致"),
    "within": (0.2, "within 0.2 of the paper's 1.5", "与论文的值 1.5 相差不超过 0.2"),
    "within_percent": (5, "within 5 % of the paper's 1.5", "与论文的值 1.5 相差不超过 5%"),
    "at_least": (1.2, "≥ 1.2", "≥ 1.2"),
    "at_most": (1.2, "≤ 1.2", "≤ 1.2"),
    "between": ([1, 2], "between 1 and 2", "在 1 与 2 之间"),
    "increasing": (True, "increasing", "递增"),
    "decreasing": (True, "decreasing", "递减"),
}


@pytest.mark.parametrize("kind", accept.KINDS)
def test_criteria(kind: str) -> None:
    bound, english, chinese = CRITERIA[kind]
    criterion: Any = accept.parse({kind: bound})
    assert words.criterion(criterion, [1.5], "en") == english
    assert words.criterion(criterion, [1.5], "zh") == chinese
    assert not re.search("[A-Za-z]", words.criterion(criterion, None, "zh"))


def test_every_verdict_has_a_mark_and_words_in_both_languages() -> None:
    for language in words.VERDICTS:
        assert set(words.VERDICTS[language]) == set(words.OURS[language]) == set(words.MARKS)
        assert set(words.SUMS[language]) == set(words.MARKS) - {"undecided"}  # what is computed is never undecided
        assert set(words.TIERS[language]) == {*records.TIERS, "us"}
    assert len(set(words.MARKS.values())) == 4
    assert set(words.SYMBOLS) == set(words.UNITS_ZH)
    for table in (words.VERDICTS, words.SUMS, words.OURS, words.TIERS):
        assert not [text for text in table["zh"].values() if re.search("[A-Za-z]", text)]
