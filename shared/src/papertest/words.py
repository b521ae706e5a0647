"""The words of verdicts, tiers, criteria, units and places, in English and in Chinese: every cell in one language."""

from __future__ import annotations

import math
import re
from typing import Any

from papertest.accept import Criterion

MARKS = {"reproduced": "✓", "not reproduced": "✗", "undecided": "?", "not run": "–"}
VERDICTS = {
    "en": {v: v for v in MARKS},
    "zh": {"reproduced": "已复现", "not reproduced": "未复现", "undecided": "未定", "not run": "未运行"},
}
SUMS = {  # printed sums
    "en": {"reproduced": "adds up", "not reproduced": "does not add up", "not run": "not computed"},
    "zh": {"reproduced": "吻合", "not reproduced": "不吻合", "not run": "未计算"},
}
OURS = {  # what the paper never claimed
    "en": {"reproduced": "held", "not reproduced": "missed", "undecided": "undecided", "not run": "not run"},
    "zh": {"reproduced": "达到", "not reproduced": "未达到", "undecided": "未定", "not run": "未运行"},
}
TIERS = {
    "en": {
        "exact": "Exact: computed on our implementation",
        "trend": "Trend: trained at small scale, several seeds, 95 % interval",
        "speed": "Speed: ratios in one run, 95 % interval",
        "paper": "The paper's own scale: needs its hardware or data",
        "us": "Our own benchmarks, outside the paper's score",
        "printed": "Printed sums: the paper's numbers among themselves",
    },
    "zh": {
        "exact": "精确：在我们的实现上计算",
        "trend": "趋势：小规模训练，多个种子，95% 置信区间",
        "speed": "速度：同一次运行中的比值，95% 置信区间",
        "paper": "论文规模：需要论文所用的硬件或数据",
        "us": "我们自己的基准，不计入论文的得分",
        "printed": "论文数字之间的核算",
    },
}
SAME = ("GB", "MB", "TB", "GFLOP", "TFLOP/s", "BLEU", "ms")  # units that are written alike in both languages
SYMBOLS = {  # units that have one
    **{name: f" {name}" for name in SAME},
    "ratio": "×", "%": " %", "percentage points": " pp", "10^6 parameters": " M", "10^9 parameters": " B",
    "s": " s", "nats": " nats",
}  # fmt: skip
UNITS_ZH = {
    **{name: f" {name}" for name in SAME},
    "ratio": " 倍", "%": "%", "percentage points": " 个百分点", "10^6 parameters": " 百万参数",
    "10^9 parameters": " 十亿参数", "s": " 秒", "nats": " 奈特",
}  # fmt: skip
SHORT = {
    "Section": "§",
    "Table": "Tab. ",
    "Figure": "Fig. ",
    "Equation": "Eq. ",
    "Appendix": "App. ",
    "Theorem": "Thm. ",
    "Proposition": "Prop. ",
}  # places
PLACES_ZH = (
    (r"\bFigures? ([\w.]+)", r"图 \1"),
    (r"\bTables? ([\w.]+)", r"表 \1"),
    (r"\bSections ([\w.]+) and ([\w.]+)", r"第 \1、\2 节"),
    (r"\bSections? ([\w.]+)", r"第 \1 节"),
    (r"\bAppendi(?:x|ces) ([\w.]+)", r"附录 \1"),
    (r"\bEquations? ([\w.()]+)", r"式 \1"),
    (r"\bTheorem ([\w.]+)", r"定理 \1"),
    (r"\bProposition ([\w.]+)", r"命题 \1"),
    (r"\bAlgorithm ([\w.]+)", r"算法 \1"),
    (r"\bDefinition ([\w.]+)", r"定义 \1"),
    (r"\bfootnotes? ([\w.]+)", r"脚注 \1"),
    (r"\bAbstract\b", "摘要"),
    (r"\bIntroduction\b", "引言"),
    (r"\bConclusion\b", "结论"),
    (r" to ([\w.]+)", r" 至 \1"),
    (r"\bleft\b", "左"),
    (r"\bmiddle\b", "中"),
    (r"\bright\b", "右"),
    (r",? with ", "、"),
    (r",? and ", "、"),
    (r"; ", "；"),
    (r", ", "、"),
)


def verdict(tier: str, by: str | None, found: str, language: str) -> str:
    """`reproduced` of a claim, in the words of its tier."""
    table = SUMS if tier == "printed" else OURS if by == "us" else VERDICTS
    return table[language][found]


def section(tier: str, by: str | None) -> str:
    """The part of a table that a claim stands in: its tier, or our own benchmarks."""
    return "us" if by == "us" else tier


def number(x: float | int | None, digits: int = 4, language: str = "en") -> str:
    """A number as a reader wants it: so many significant digits, and all of those before the point."""
    if x is None or not math.isfinite(x):
        return {"en": "not a number", "zh": "非数值"}[language]
    if float(x).is_integer() and abs(x) < 1e6:
        return f"{int(x)}"
    text = f"{x:.{digits}g}"
    if "e" not in text:
        return text
    if 1 <= abs(x) < 1e6:
        return f"{x:.0f}"
    mantissa, exponent = text.split("e")
    return f"{mantissa}e{int(exponent)}"


def unit_of(unit: str | dict[str, str], part: str) -> str:
    """The unit of a part, where a claim's parts have units of their own; a pure number where none is named."""
    return unit.get(part, "1") if isinstance(unit, dict) else unit


def unit(name: str, language: str) -> str:
    """What follows a number: its symbol; a unit without one is named in the title alone."""
    return (SYMBOLS if language == "en" else UNITS_ZH).get(name, "")


def criterion(entry: Criterion, paper: list[float] | None, language: str) -> str:
    """A criterion in words; one that compares says with what."""
    target = " " + " ".join(map(number, paper)) if paper else ""
    if language == "en":
        return f"{entry}{target}" if entry.kind in ("equals", "digits", "within", "within_percent") else str(entry)
    bound: Any = entry.bound
    gap = " " if target else ""
    match entry.kind:
        case "equals":
            return f"等于论文的值{target}"
        case "digits":
            return f"与论文的值{target}{gap}在 {bound} 位小数内一致"
        case "within":
            return f"与论文的值{target}{gap}相差不超过 {bound:g}"
        case "within_percent":
            return f"与论文的值{target}{gap}相差不超过 {bound:g}%"
        case "between":
            return f"在 {bound[0]:.12g} 与 {bound[1]:.12g} 之间"
        case "increasing":
            return "递增"
        case "decreasing":
            return "递减"
        case _:
            return str(entry)


def machine(name: str, language: str) -> str:
    """`EPYC, 2 cores` in the language."""
    return name if language == "en" else re.sub(r", (\d+) cores\b", r"，\1 核", name)


def place_short(where: str) -> str:
    """The first place, as short as a terminal's column: `Section 3.5; Table 1` is `§3.5`."""
    text = re.split(r"; |, | \(", where)[0]
    for name, short in SHORT.items():
        text = re.sub(rf"\b{name}s? (?=\w)", short, text)
    return text


def place_zh(where: str) -> str:
    """A place in the paper, in Chinese: `Table 3; Section 5.1` is `表 3；第 5.1 节`."""
    text = where
    for pattern, chinese in PLACES_ZH:
        text = re.sub(pattern, chinese, text)
    return re.sub(r"第 ([\w.]+) 节 至 ([\w.]+)", r"第 \1 至 \2 节", text)
