"""The tables in Markdown: the numbers and the errata of a write-up, and the scoreboard in the repository's README.

A write-up holds `<!-- papertest:table -->` and `<!-- papertest:end -->`, and the same with `errata` and `end-errata`;
the README `<!-- papertest:scoreboard -->` and `<!-- papertest:end -->`. What stands between the markers is generated,
in the language that the file's name says (`.zh-CN.md`: Chinese).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from papertest import files, store, words
from papertest.accept import Accept, leaves
from papertest.package import Package
from papertest.records import Claim, Paper, Record
from papertest.store import Result
from papertest.words import number

HEADS = {
    "en": ("Claim", "Where", "The paper", "Ours", "Verdict"),
    "zh": ("论断", "出处", "论文", "实测", "结论"),
}
EARLIER = {
    "en": "† An earlier version, or an earlier look at fewer seeds, is told in the details.",
    "zh": "† 更早的版本，或种子较少时的判定，见下面的细目。",
}
SCORES = {
    "en": (
        "Paper",
        "Reproduced",
        "Not reproduced",
        "Undecided",
        "Not run",
        "Printed sums that add up",
        "Our own, held",
    ),
    "zh": ("论文", "已复现", "未复现", "未定", "未运行", "核算吻合", "自设基准达到"),
}
SECTIONS = ("exact", "trend", "speed", "paper", "us")
USUAL = 4  # significant digits of a number
READMES = {"README.md": "en", "README.zh-CN.md": "zh"}
ENDS = {"table": "end", "scoreboard": "end", "errata": "end-errata"}


class MarkerError(ValueError):
    """A file whose markers are missing or doubled; the message is one line naming it."""


def ours(result: Result, language: str, digits: int = USUAL, interval: bool = True) -> str:
    """The measured number that a reader should see: that of the deciding part, with its interval and unit."""
    if not result.samples:
        return "–"
    return spread(result.value, result.interval if interval else None, result.deciding, result.unit, language, digits)


def spread(value: Any, interval: Any, part: str, unit: str | dict[str, str], language: str, digits: int = USUAL) -> str:
    """One part of a value: a number with its interval, or a list by its ends.

    With fewer digits than usual, as on a narrow terminal, a list is its first number, and a long unit is left out.
    """
    row = leaves(value).get(part, [])
    symbol = words.unit(words.unit_of(unit, part), language)
    if not row:
        return "–"
    texts = [number(x, digits, language) for x in row]
    if interval is not None:
        texts = [
            f"{x} [{number(a, digits, language)}, {number(b, digits, language)}]" if a != b else x
            for x, (a, b) in zip(texts, interval[part], strict=True)
        ]
    if digits < USUAL:
        return texts[0] + "…" * (len(texts) > 1) + symbol * (len(symbol) <= len(" GB"))
    return texts[0] + symbol if len(texts) == 1 else f"{texts[0]} … {texts[-1]}{symbol}"


def paper(result: Result, language: str, digits: int = USUAL) -> str:
    """The paper's own value of the same quantity and part, "–" where it states none."""
    if result.paper is None or (result.samples and result.deciding not in leaves(result.paper)):
        return "–"
    part = result.deciding if result.samples else next(iter(leaves(result.paper)))
    return spread(result.paper, None, part, result.unit, language, digits)


def count(result: Result, entry: Claim, language: str) -> str:
    """How many seeds or rounds: `, 5 seeds`."""
    if not result.samples or entry.tier in ("exact", "printed"):
        return ""
    if entry.tier == "speed":
        n = len(result.samples[0]["rounds"])
        return f", {n} rounds" if language == "en" else f"，{n} 轮"
    n = len(result.samples)
    return f", {n} seeds" if language == "en" else f"，{n} 个种子"


def verdict(result: Result, language: str) -> str:
    """The mark and the word, and for what is undecided what would decide it."""
    word = f"{words.MARKS[result.verdict]} {words.verdict(result.tier, result.by, result.verdict, language)}"
    english = language == "en"
    if result.verdict == "undecided":
        if result.control is not None:
            word += f" (control `{result.control}`)" if english else f"（对照 `{result.control}` 不成立）"
        elif result.null is not None and abs(result.null - 1) > store.NOISE:
            word += " (noisy machine)" if english else "（机器噪声过大）"
        elif result.seeds:
            unit = ("rounds" if english else "轮") if result.tier == "speed" else ("seeds" if english else "个种子")
            word += f" ({result.seeds} {unit} would decide)" if english else f"（需 {result.seeds} {unit}）"
    if result.verdict == "not run" and "GPU-hours" in result.why:
        hours = result.why.split("costs ")[-1].split(" ")[0]
        word += f" ({hours} GPU-hours)" if english else f"（需 {hours} GPU 小时）"
    elif result.verdict == "not run" and result.why.startswith(store.UNMEASURED):
        word += f" ({store.UNMEASURED})" if english else "（尚未测量）"
    return word


def where(package: Package, claim: str, language: str) -> str:
    """The places in the paper: all of up to three, else two and how many more."""
    record = package.record_of(claim)
    entries = [record.reported[i] for i in record.claims[claim].reports]
    english = language == "en"
    stop = "; " if english else "；"
    told = [entry.where if english else entry.where_zh or words.place_zh(entry.where) for entry in entries]
    places = list(dict.fromkeys(place for each in told for place in each.split(stop)))
    if len(places) > 3:
        more = f"and {len(places) - 2} more places" if english else f"等 {len(places)} 处"
        places = [*places[:2], more]
    return stop.join(places)


def writeup(package: Package, results: dict[str, Result], language: str) -> str:
    """The tables of a write-up, for each paper under its title where there are several: five columns by tier, then a
    folded list of sentences, criteria and reasons."""
    lines: list[str] = []
    for record in package.papers.values():
        lines += [*_title(package, record), *_tables(package, record, results, language)]
    shown = [i for i, c in package.claims.items() if c.tier != "printed" and i in results]
    machines = sorted({words.machine(m, language) for i in shown for m in results[i].machines})
    versions = sorted({s["versions"]["torch"] for i in shown for s in results[i].samples if "torch" in s["versions"]})
    on, gap, stop, none = {"en": ("Measured on ", "; ", ".", "Nothing is measured yet."),
                           "zh": ("测量环境：", "；", "。", "尚未测量。")}[language]  # fmt: skip
    last = f"{on}{gap.join([*machines, *(f'torch {v}' for v in versions)])}{stop}" if machines else none
    return "\n".join(lines) + f"\n{last}\n"


def _title(package: Package, record: Record) -> list[str]:
    """The heading of a paper in a write-up of several."""
    cite = record.paper
    return [f"### [{cite.title}]({cite.link}) ({cite.year})", ""] if len(package.papers) > 1 else []


def _tables(package: Package, record: Record, results: dict[str, Result], language: str) -> list[str]:
    """One paper's claims by tier, and all about them."""
    lines: list[str] = []
    for section in SECTIONS:
        claims = [i for i, c in record.claims.items() if words.section(c.tier, c.by) == section and i in results]
        if claims:
            lines += [f"**{words.TIERS[language][section]}**", "", *_rows(package, results, claims, language), ""]
    shown = [i for i, c in record.claims.items() if c.tier != "printed" and i in results]
    summary = {"en": "What each claim says, its criterion, all its parts, and the reason for the criterion",
               "zh": "每条论断的完整表述、判据、全部分项与判据的理由"}[language]  # fmt: skip
    return lines + _note(package, shown, language) + _details(package, results, shown, summary, language)


def _note(package: Package, claims: list[str], language: str) -> list[str]:
    """What the dagger of `_rows` means, where there is one."""
    return [EARLIER[language], ""] if any(package.claims[i].earlier for i in claims) else []


def errata(package: Package, results: dict[str, Result], language: str) -> str:
    """The printed sums, those that do not add up first, for each paper under its title where there are several."""
    told = [
        "\n".join([*_title(package, record), _sums(package, record, results, language)])
        for record in package.papers.values()
    ]
    return "\n".join(told)


def _sums(package: Package, record: Record, results: dict[str, Result], language: str) -> str:
    claims = [i for i, c in record.claims.items() if c.tier == "printed" and i in results]
    claims.sort(key=lambda i: results[i].verdict == "reproduced")
    if not claims:
        return {"en": "None of this paper's sums is checked.\n", "zh": "本文没有核算过的数字。\n"}[language]
    summary = {"en": "What each sum says, and all its parts", "zh": "每项核算的完整表述与全部分项"}[language]
    return "\n".join([*_rows(package, results, claims, language), "", *_note(package, claims, language),
                      *_details(package, results, claims, summary, language)])  # fmt: skip


def _rows(package: Package, results: dict[str, Result], claims: list[str], language: str) -> list[str]:
    lines = [f"| {' | '.join(HEADS[language])} |", "|---" * len(HEADS[language]) + "|"]
    for i in claims:
        entry, result = package.claims[i], results[i]
        title = entry.title if language == "en" else entry.title_zh
        if entry.earlier:
            title += " †"
        cells = (title, where(package, i, language), paper(result, language),
                 ours(result, language) + count(result, entry, language), verdict(result, language))  # fmt: skip
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines


def _details(package: Package, results: dict[str, Result], claims: list[str], summary: str, language: str) -> list[str]:
    lines = ["<details>", f"<summary>{summary}</summary>", ""]
    english = language == "en"
    stop, colon, gap = (". ", ": ", "; ") if english else ("。", "：", "；")
    reason, before = ("Reason", "Earlier") if english else ("理由", "此前")
    for i in claims:
        entry, result = package.claims[i], results[i]
        title, what, why, earlier = (
            (entry.title, entry.what, entry.why, entry.earlier)
            if english
            else (entry.title_zh, entry.what_zh, entry.why_zh, entry.earlier_zh)
        )
        said = [what, gap.join(parts(package, i, result, language)), f"{reason}{colon}{why}"]
        if earlier:
            said.append(f"{before}{colon}{earlier}")
        text = "".join(each.rstrip(".。") + stop for each in said).rstrip()
        lines.append(f"- **{title}** (`{i}`){colon}{text}".replace("|", "\\|"))
    return [*lines, "", "</details>", ""]


def parts(package: Package, claim: str, result: Result, language: str) -> list[str]:
    """Every part with its criterion, ours and the paper's: `speed ≥ 1.2: 1.83 [1.73, 1.93]`."""
    accept: Accept = package.claims[claim].accept
    targets = leaves(result.paper) if result.paper is not None else {}
    criteria = (
        accept if isinstance(accept, dict) else dict.fromkeys(leaves(result.value) if result.samples else [""], accept)
    )
    found: list[str] = []
    for part, entry in criteria.items():
        target = targets.get(part)
        text = f"`{part}` " * bool(part) + words.criterion(
            entry, target if target and len(target) == 1 else None, language
        )
        if result.samples:
            text += ": " if language == "en" else "："
            text += spread(result.value, result.interval, part, result.unit, language)
        found.append(text)
    return found


@dataclass(frozen=True)
class Score:
    """What came out for one paper: its own claims by verdict, and of its printed sums and our own benchmarks how many
    are reproduced and how many there are."""

    package: Package
    name: str  # the paper's short name
    verdicts: dict[str, int]
    printed: tuple[int, int]
    ours: tuple[int, int]

    @property
    def cite(self) -> Paper:
        return self.package.papers[self.name].paper

    def cells(self, language: str) -> list[str]:
        """The numbers as they are shown, in the order of `SCORES`."""
        of = {"en": " of ", "zh": " / "}[language]
        return [*map(str, self.verdicts.values()), *(f"{k}{of}{n}" if n else "–" for k, n in (self.printed, self.ours))]


def scores(packages: list[Package]) -> list[Score]:
    """The scores of all papers of these packages."""
    found: list[Score] = []
    for package, name in [(each, name) for each in packages for name in each.papers]:
        recorded = store.recorded(package, warn=lambda _: None)
        results = [result for claim, result in recorded.items() if claim in package.papers[name].claims]
        scored = [r for r in results if r.tier != "printed" and r.by is None]
        groups = ([r for r in results if r.tier == "printed"], [r for r in results if r.by == "us"])
        held, ours = ((sum(r.verdict == "reproduced" for r in group), len(group)) for group in groups)
        found.append(Score(package, name, {v: sum(r.verdict == v for r in scored) for v in words.MARKS}, held, ours))
    return found


def scoreboard(packages: list[Package], language: str) -> str:
    """The scoreboard in Markdown: one row per paper, some of them of one package."""
    heads = SCORES[language]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for score in scores(packages):
        cite, slug = score.cite, score.package.slug
        name = "README.md" if language == "en" else "README.zh-CN.md"
        title = f"[`{slug}`](packages/{slug}/{name}): [{cite.title}]({cite.link}) ({cite.year})"
        lines.append(f"| {' | '.join([title, *score.cells(language)])} |")
    return "\n".join(lines) + "\n"


def generated(package: Package, results: dict[str, Result]) -> dict[Path, str]:
    """Every generated text of a checkout that this package's results appear in: file -> its whole new content."""
    assert package.checkout is not None and package.home is not None
    texts: dict[Path, str] = {}
    for name, language in READMES.items():
        path = package.home / name
        for marker, text in (
            ("table", writeup(package, results, language)),
            ("errata", errata(package, results, language)),
        ):
            if path.exists():
                old = texts.get(path) or path.read_text("utf-8")
                texts[path] = _between(old, marker, text, str(path.relative_to(package.checkout)))
    return texts | boards(package.checkout)


def boards(checkout: Path) -> dict[Path, str]:
    """The READMEs of a checkout with the scoreboard of what is in it: file -> its whole new content."""
    packages = packages_of(checkout)
    paths = {checkout / name: language for name, language in READMES.items() if (checkout / name).exists()}
    return {
        path: _between(path.read_text("utf-8"), "scoreboard", scoreboard(packages, language), path.name)
        for path, language in paths.items()
    }


def packages_of(checkout: Path) -> list[Package]:
    """All packages of a checkout whose records are there, in order of their slugs."""
    codes = sorted(checkout.glob("packages/*/src/*/__init__.py"))
    found = [Package.at(path.parent) for path in codes]
    return [p for p in found if all(path.exists() for path in p.record_files.values())]


def write(package: Package, results: dict[str, Result]) -> None:
    """Bring all generated texts up to date."""
    for path, text in generated(package, results).items():
        if text != path.read_text("utf-8"):
            files.write_bytes(path, text.encode())


def _between(text: str, marker: str, content: str, name: str) -> str:
    start, end = f"<!-- papertest:{marker} -->", f"<!-- papertest:{ENDS[marker]} -->"
    if text.count(start) != 1 or text.count(end) != 1 or text.index(start) > text.index(end):
        raise MarkerError(f"{name} needs `{start}` once, and below it `{end}` once: the table stands between them")
    head, rest = text.split(start)
    return f"{head}{start}\n\n{content}\n{end}{rest.split(end)[1]}"
