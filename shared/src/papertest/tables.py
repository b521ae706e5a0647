"""The table of numbers: on the terminal, in the write-ups, and as the scoreboard in the repository's README.

A write-up holds `<!-- papertest:table -->` and `<!-- papertest:end -->`, the README `<!-- papertest:scoreboard -->`;
what stands between the markers is generated, in the language that the file's name says (`.zh-CN.md`: Chinese).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

from papertest import files, store
from papertest.package import Package
from papertest.store import Result

VERDICTS = {
    "en": {"reproduced": "✓ reproduced", "not reproduced": "✗ not reproduced", "not run": "– not run"},
    "zh": {"reproduced": "✓ 已复现", "not reproduced": "✗ 未复现", "not run": "– 未运行"},
}
HEADS = {
    "en": ("Claim", "Where", "The paper reports", "Measured", "Criterion, fixed in advance", "Verdict"),
    "zh": ("论断", "出处", "论文所报", "实测", "判据（事先写定）", "结论"),
}
TIERS = {
    "en": {"exact": "Exact", "trend": "Trend (3 seeds or more, 95 % interval)", "paper": "The paper's own scale (GPU)"},
    "zh": {"exact": "精确", "trend": "趋势（至少 3 个种子，95% 区间）", "paper": "论文规模（GPU）"},
}
SCORES = {
    "en": ("Paper", "Package", "Reproduced", "Not reproduced", "Not run", "Write-up"),
    "zh": ("论文", "包", "已复现", "未复现", "未运行", "文档"),
}


class MarkerError(ValueError):
    """A file whose markers are missing or doubled; the message is one line naming it."""


def number(x: float | int | None) -> str:
    """A number as a reader wants it: integers whole, others with four significant digits."""
    if isinstance(x, int):
        return f"{x}"
    if x is None or not math.isfinite(x):
        return "not a number"
    if x.is_integer() and abs(x) < 1e6:
        return f"{int(x)}"
    return f"{x:.4g}"


def brief(value: Any, unit: str = "", limit: int = 4) -> str:
    """A value in one line: `standard 40.3, flash 4.4 GB`; long lists by their ends."""

    def leaf(x: Any) -> str:
        if not isinstance(x, list):
            return number(x)
        row = cast("list[Any]", x)
        if len(row) <= limit + 2:
            return " ".join(number(y) for y in row)
        return f"{number(row[0])} {number(row[1])} … {number(row[-1])}"

    if value is None:
        return "–"
    if isinstance(value, dict):
        table = cast("dict[str, Any]", value)
        shown = [f"{name} {leaf(x)}" for name, x in list(table.items())[:limit]]
        text = ", ".join(shown) + (" …" if len(table) > limit else "")
    else:
        text = leaf(value)
    return f"{text} {unit}" if unit not in ("", "1") else text


def measured(result: Result, unit: str = "") -> str:
    """The measured value; for several seeds with the 95 % interval of every number."""
    if result.interval is None:
        return brief(result.value, unit)
    parts: list[str] = []
    for name, intervals in result.interval.items():
        leaf = cast("dict[str, Any]", result.value)[name] if isinstance(result.value, dict) else result.value
        means = cast("list[Any]", leaf) if isinstance(leaf, list) else [leaf]
        shown = [f"{number(m)} [{number(lo)}, {number(hi)}]" for m, (lo, hi) in zip(means, intervals, strict=True)]
        parts.append(f"{name} {' '.join(shown)}".strip())
    return ", ".join(parts) + (f" {unit}" if unit not in ("", "1") else "")


def writeup(package: Package, results: dict[str, Result], language: str) -> str:
    """The table of a write-up in Markdown."""
    heads, verdicts = HEADS[language], VERDICTS[language]
    lines: list[str] = []
    for tier, title in TIERS[language].items():
        claims = {i: c for i, c in package.record.claims.items() if c.tier == tier and i in results}
        if not claims:
            continue
        lines += [f"**{title}**", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        for i, claim in claims.items():
            result = results[i]
            what = claim.what if language == "en" else claim.what_zh
            verdict = verdicts[result.verdict] + (f" ({result.why})" if result.why else "")
            cells = (f"{what} (`{i}`)", result.where, brief(result.reported, result.unit), measured(result),
                     result.accept, verdict)  # fmt: skip
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    machines = sorted({r.machine for r in results.values() if r.machine})
    versions = sorted({f"torch {r.versions['torch']}" for r in results.values() if "torch" in r.versions})
    on = {"en": "Measured on", "zh": "测量环境"}[language]
    return "\n".join(lines) + f"\n{on}: {'; '.join([*machines, *versions])}.\n"


def scoreboard(packages: list[Package], language: str) -> str:
    """The scoreboard in Markdown: one row a package that has a record."""
    heads = SCORES[language]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for package in packages:
        results = store.recorded(package, warn=lambda _: None).values()
        counts = [sum(r.verdict == v for r in results) for v in ("reproduced", "not reproduced", "not run")]
        paper = package.record.paper
        name = "README.md" if language == "en" else "README.zh-CN.md"
        cells = (f"[{paper.title}](https://arxiv.org/abs/{paper.arxiv}) ({paper.year})", f"`{package.slug}`",
                 *map(str, counts), f"[{SCORES[language][-1]}](packages/{package.slug}/{name})")  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def generated(package: Package, results: dict[str, Result]) -> dict[Path, str]:
    """Every generated text of a checkout that this package's results appear in: file -> its whole new content."""
    assert package.checkout is not None and package.home is not None
    texts: dict[Path, str] = {}
    for name, language in (("README.md", "en"), ("README.zh-CN.md", "zh")):
        for path, marker, text in (
            (package.home / name, "table", writeup(package, results, language)),
            (package.checkout / name, "scoreboard", scoreboard(siblings(package), language)),
        ):
            if path.exists():
                texts[path] = _between(path, marker, text, str(path.relative_to(package.checkout)))
    return texts


def siblings(package: Package) -> list[Package]:
    """All packages of the checkout that have a record, in order of their slugs."""
    assert package.checkout is not None
    codes = sorted(package.checkout.glob("packages/*/src/*/__init__.py"))
    found = [Package.at(path.parent) for path in codes]
    return [p for p in found if (package.checkout / "papers" / f"{p.slug}.toml").exists()]


def write(package: Package, results: dict[str, Result]) -> None:
    """Bring all generated texts up to date."""
    for path, text in generated(package, results).items():
        if text != path.read_text("utf-8"):
            files.write_bytes(path, text.encode())


def _between(path: Path, marker: str, content: str, name: str) -> str:
    text = path.read_text("utf-8")
    start, end = f"<!-- papertest:{marker} -->", "<!-- papertest:end -->"
    if text.count(start) != 1 or text.count(end) != 1 or text.index(start) > text.index(end):
        raise MarkerError(f"{name} needs `{start}` once, and below it `{end}` once: the table stands between them")
    head, rest = text.split(start)
    return f"{head}{start}\n\n{content}\n{end}{rest.split(end)[1]}"
