"""The claims explorer's data: each claim with what the paper says, ours per seed, criterion, its commit, the code."""

from __future__ import annotations

import ast
import json
import math
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from papertest import files, tables, words
from papertest.accept import Value, leaves
from papertest.history import History, one_form
from papertest.store import Result

from papersite.checkout import Checkout, Paper
from papersite.words import LANGUAGES, Language

MOST = 12  # parts of a claim, and numbers of a part, that are drawn
TIERS = {
    "en": {"exact": "exact", "printed": "printed sum", "trend": "trend", "speed": "speed", "paper": "paper's scale"},
    "zh": {"exact": "精确", "printed": "数字核算", "trend": "趋势", "speed": "速度", "paper": "论文规模"},
}


@dataclass(frozen=True)
class Code:
    """The function that measures a claim: its file in the repository, its first line, and its text."""

    path: str
    line: int
    text: str


def code_of(paper: Paper, root: Path) -> dict[str, Code]:
    """By claim, the function that carries `@claim("<id>")`."""
    found: dict[str, Code] = {}
    for path in paper.package.claim_files:
        text = path.read_text("utf-8")
        lines = text.splitlines()
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.FunctionDef):
                continue
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and isinstance(mark.func, ast.Name) and mark.func.id == "claim":
                    body = "\n".join(lines[mark.lineno - 1 : node.end_lineno])
                    for name in mark.args:
                        if isinstance(name, ast.Constant):
                            found[str(name.value)] = Code(path.relative_to(root).as_posix(), mark.lineno, body)
    return found


def commits(checkout: Checkout, cache: Path) -> dict[str, dict[str, list[str]]]:
    """By `slug/claim`, when its criterion was fixed and its first sample recorded: {"fixed": [hash, day], …}.

    Reading the history takes seconds, so what one commit says is kept in `cache`.
    """
    history = None if not checkout.papers else History(checkout.papers[0].package)
    if history is None or history.unreadable is not None:
        return {}
    criteria = [one_form(claim.accept) for paper in checkout.papers for claim in paper.package.claims.values()]
    key = f"{_head(checkout.root)} {files.checksum(criteria)} {[p.slug for p in checkout.papers]}"
    if cache.exists():
        kept = json.loads(cache.read_text("utf-8"))
        if kept["key"] == key:
            return kept["commits"]
    found: dict[str, dict[str, list[str]]] = {}
    for paper in checkout.papers:
        history = History(paper.package)
        days: dict[str, str] = {}

        def dated(commit: str, history: History = history, days: dict[str, str] = days) -> list[str]:
            days[commit] = days.get(commit) or history.date(commit)
            return [commit[:9], days[commit]]

        for i, claim in paper.package.claims.items():
            entry = found.setdefault(f"{paper.slug}/{i}", {})
            if fixed := history.fixed(i, one_form(claim.accept)):
                entry["fixed"] = dated(fixed)
            if (result := paper.results.get(i)) and (measured := history.measured(i, result.samples)):
                entry["measured"] = dated(measured)
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_text(json.dumps({"key": key, "commits": found}), "utf-8")
    return found


def _head(root: Path) -> str:
    """The commit that is checked out."""
    return subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True).stdout.strip()


def data(checkout: Checkout, cache: Path) -> dict[Language, list[dict[str, Any]]]:
    """All claims, in the order of the site and of the records, in each language."""
    history = commits(checkout, cache)
    found: dict[Language, list[dict[str, Any]]] = {language: [] for language in LANGUAGES}
    for paper in checkout.papers:
        code = code_of(paper, checkout.root)
        for i in paper.package.claims:
            for language in LANGUAGES:
                entry = _entry(paper, i, language) | history.get(f"{paper.slug}/{i}", {})
                if i in code:
                    entry["code"] = {"path": code[i].path, "line": code[i].line, "text": code[i].text}
                found[language].append(entry)
    return found


def _entry(paper: Paper, i: str, language: Language) -> dict[str, Any]:
    package = paper.package
    claim, record = package.claims[i], package.record_of(i)
    english = language == "en"
    entry: dict[str, Any] = {
        "id": f"{paper.slug}/{i}",
        "slug": paper.slug,
        "paper": package.paper_of(i),
        "cite": f"{record.paper.title} ({record.paper.year})",
        "link": record.paper.link,
        "title": claim.title if english else claim.title_zh,
        "what": claim.what if english else claim.what_zh,
        "why": claim.why if english else claim.why_zh,
        "tier": claim.tier,
        "by": claim.by,
        "where": tables.where(package, i, language),
        "controls": claim.controls,
        "says": [
            {"what": each.what if english else each.what_zh,
             "where": each.where if english else each.where_zh or words.place_zh(each.where)}
            for each in (record.reported[name] for name in claim.reports)
        ],
    }  # fmt: skip
    if earlier := claim.earlier if english else claim.earlier_zh:
        entry["earlier"] = earlier
    result = paper.results.get(i)
    if result is None:
        return entry | {"verdict": "not run", "told": words.verdict(claim.tier, claim.by, "not run", language),
                        "ours": "–", "theirs": "–", "criteria": [], "parts": []}  # fmt: skip
    return entry | {
        "verdict": result.verdict,
        "told": tables.verdict(result, language),
        "ours": tables.ours(result, language) + tables.count(result, claim, language),
        "theirs": tables.paper(result, language),
        "criteria": [text.replace("`", "") for text in tables.parts(package, i, result, language)],
        "parts": _parts(result, language),
        "machines": [words.machine(name, language) for name in result.machines],
        "seconds": round(result.seconds, 1),
    }


def _parts(result: Result, language: Language) -> list[dict[str, Any]]:
    """What is drawn: of each part the numbers per seed or round, the interval, the accepted region, the paper's."""
    if not result.samples or not result.bounds:
        return []
    sample = result.samples[0]
    rows = cast("list[Value]", sample["rounds"] or [each["value"] for each in result.samples])
    measured = [leaves(row) for row in rows]
    theirs = leaves(result.paper) if result.paper is not None else {}
    middle = leaves(result.value)
    names = sorted(result.bounds, key=lambda name: name != result.deciding)[:MOST]
    found: list[dict[str, Any]] = []
    for name in names:
        unit = words.unit(words.unit_of(result.unit, name), language).strip()
        for k in range(min(len(result.bounds[name]), MOST)):
            low, high = result.bounds[name][k]
            several = len(result.bounds[name]) > 1
            found.append({
                "name": f"{name} {k + 1}".strip() if several else name,
                "unit": unit,
                "seeds": [_finite(row[name][k]) for row in measured if len(row.get(name, [])) > k],
                "middle": _finite(middle[name][k]),
                "interval": [_finite(x) for x in result.interval[name][k]] if result.interval else None,
                "bound": [_finite(low), _finite(high)],
                "paper": _finite(theirs[name][k]) if len(theirs.get(name, [])) > k else None,
            })  # fmt: skip
    return found


def _finite(x: float | None) -> float | None:
    return float(f"{x:.6g}") if x is not None and math.isfinite(x) else None
