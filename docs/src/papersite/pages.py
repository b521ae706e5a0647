"""The pages of one language in Markdown: write-ups and notebooks, and what is drawn together from all papers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from papertest import tables
from papertest.accept import leaves
from papertest.store import Result

from papersite import path as weeks
from papersite import questions, writeups
from papersite.checkout import Checkout, Paper
from papersite.words import NOTEBOOK, README, SUFFIX, TEXT, Language

SHOWN = 3  # claims on a card


def pages(checkout: Checkout, language: Language) -> dict[str, str]:
    """Every page of the site by its place, without the figures."""
    slugs = {paper.slug for paper in checkout.papers}
    found = {
        "index.md": start(checkout, language),
        "papers.md": papers(checkout, language),
        "errata.md": errata(checkout, language),
        "questions.md": questions.page(checkout, language),
        "path.md": weeks.page(checkout, language),
        "glossary.md": glossary(checkout, language),
    }
    for path in sorted((checkout.docs / "pages").rglob(f"*{SUFFIX[language]}")):
        name = path.relative_to(checkout.docs / "pages").as_posix()
        page = name.removesuffix(SUFFIX[language])
        waiting = page.startswith("cheatsheets/") and page.removeprefix("cheatsheets/") not in {*slugs, "index"}
        if not waiting and (language == "zh" or not name.endswith(SUFFIX["zh"])):  # a sheet waits for its package
            found[f"{page}.md"] = path.read_text("utf-8")
    sheets = [name.removesuffix(".md") for name in found if name.startswith("cheatsheets/") and "index" not in name]
    order = [f"cheatsheets/{paper.slug}" for paper in checkout.papers]
    found["cheatsheets/index.md"] += _toctree([s.removeprefix("cheatsheets/") for s in order if s in sheets])
    for paper in checkout.papers:
        folder = f"packages/{paper.slug}"
        found[f"{folder}/index.md"] = writeups.page(paper, language, checkout.root, slugs)
    if language == "zh":
        found = {name: writeups.joined(text) for name, text in found.items()}
    for paper in checkout.papers:
        found[f"packages/{paper.slug}/walkthrough.ipynb"] = notebook(paper, language, checkout.root, slugs)
    return found


def copies(checkout: Checkout) -> dict[str, Path]:
    """The figures, by their place beside the pages."""
    return {
        f"packages/{paper.slug}/figures/{path.name}": path
        for paper in checkout.papers
        for path in sorted((paper.home / "figures").glob("*.png"))
    }


def linked_sources(text: str) -> set[str]:
    """The files of the repository that a page links to."""
    return {match[1] for match in re.finditer(r"\bsource:([^)#\s\"]+)", text)}


def start(checkout: Checkout, language: Language) -> str:
    """The start page: the first words of the repository's README, the scoreboard, a card per paper, the verdicts."""
    name, words = README[language], TEXT[language]
    text = (checkout.root / name).read_text("utf-8")
    slugs = {paper.slug for paper in checkout.papers}
    opening = text.split("\n\n", 2)[2].split("\n```", 1)[0]
    board = tables.scoreboard([paper.package for paper in checkout.papers], language)
    verdicts = _section(text, {"en": "What a verdict means", "zh": "结论的含义"}[language])
    heading = {"en": "Scoreboard", "zh": "记分牌"}[language]
    parts = [
        f"# {_title(text)}",
        writeups.linked(opening, "", "index.md", checkout.root, slugs, language),
        "```sh\npip install uv && uv run --package flash-attention reproduce\n```",
        cards(checkout, language),
        f"## {heading}",
        writeups.linked(board, "", "index.md", checkout.root, slugs, language),
        verdicts,
        _toctree(
            [
                "papers",
                "path",
                "claims",
                f"{words['questions']} <questions>",
                "cheatsheets/index",
                "glossary",
                f"{words['errata']} <errata>",
            ]
        ),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _title(readme: str) -> str:
    return readme.splitlines()[0].removeprefix("# ")


def _section(text: str, heading: str) -> str:
    match = re.search(rf"^## {re.escape(heading)}\n.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return match[0].strip() if match else ""


def _toctree(names: list[str]) -> str:
    lines = "\n".join(names)
    return f"\n\n```{{toctree}}\n:hidden:\n\n{lines}\n```\n"


def cards(checkout: Checkout, language: Language) -> str:
    """A card per paper: the idea in a sentence, its main figure, and what holds."""
    told = "\n\n".join(card(checkout, paper, language) for paper in checkout.papers)
    return f"::::{{container}} cards\n\n{told}\n\n::::"


def card(checkout: Checkout, paper: Paper, language: Language) -> str:
    """One paper on the start page."""
    words = TEXT[language]
    folder = f"packages/{paper.slug}"
    about = checkout.cards.get(paper.slug, {})
    name = about.get("name" if language == "en" else "name_zh") or writeups.title(paper, language)
    idea = about.get("idea" if language == "en" else "idea_zh", "")
    lines = [":::{container} card-paper", "", f"**[{name}]({folder}/index.md)**", ""]
    if idea:
        lines += [idea, ""]
    if figure := writeups.main_figure(paper, language):
        lines += [f"![{figure[1]}]({folder}/{figure[0]})", ""]
    lines += [f"*{words['holds']}.* {score(paper, language)}" if language == "en" else
              f"*{words['holds']}。* {score(paper, language)}", ""]  # fmt: skip
    for i in held(paper):
        result, claim = paper.results[i], paper.package.claims[i]
        title = claim.title if language == "en" else claim.title_zh
        lines.append(f"- [{title}](claim:{paper.slug}/{i}){'：' if language == 'zh' else ': '}"
                     f"{tables.ours(result, language, 3, interval=False)}")  # fmt: skip
    links = [f"[{words['writeup']}]({folder}/index.md)", f"[{words['notebook']}]({folder}/walkthrough.ipynb)",
             f"[{words['claims_of']}](claim:?paper={paper.slug})"]  # fmt: skip
    if (checkout.docs / "pages" / "cheatsheets" / f"{paper.slug}.md").exists():
        links.append(f"[{words['sheet']}](cheatsheets/{paper.slug}.md)")
    return "\n".join([*lines, "", " · ".join(links), "", ":::"])


def score(paper: Paper, language: Language) -> str:
    """How many of the paper's own claims came out, and how."""
    scored = [r for r in paper.results.values() if r.tier != "printed" and r.by is None]
    count = {v: sum(r.verdict == v for r in scored) for v in ("reproduced", "not reproduced", "undecided", "not run")}
    words = TEXT[language]
    text = words["scale"].format(
        measured=len(scored) - count["not run"], reproduced=count["reproduced"], failed=count["not reproduced"],
        undecided=count["undecided"])  # fmt: skip
    if count["not run"]:
        text += (" " if language == "en" else "") + words["unmeasured"].format(n=count["not run"])
    return text


def held(paper: Paper) -> list[str]:
    """Reproduced claims of the paper itself for its card: what was trained first, then speed, then what is computed."""
    order = ("trend", "speed", "exact")
    good = [i for i, r in paper.results.items() if r.verdict == "reproduced" and r.by is None and r.tier in order]
    good.sort(key=lambda i: order.index(paper.results[i].tier))
    return good[:SHOWN]


def papers(checkout: Checkout, language: Language) -> str:
    """The list of all papers, which is also the side navigation of theirs."""
    lines = [f"# {TEXT[language]['papers']}", ""]
    for paper in checkout.papers:
        about = checkout.cards.get(paper.slug, {})
        name = about.get("name" if language == "en" else "name_zh") or writeups.title(paper, language)
        lines += [f"**[{name}](packages/{paper.slug}/index.md)** · "
                  f"[{TEXT[language]['notebook']}](packages/{paper.slug}/walkthrough.ipynb)", ""]  # fmt: skip
        lines += [f"- [{r.paper.title}]({r.paper.link}) ({r.paper.year})" for r in paper.package.papers.values()]
        lines += ["", about.get("idea" if language == "en" else "idea_zh", ""), ""]
    entries = [f"{_name(checkout, paper, language)} <packages/{paper.slug}/index>" for paper in checkout.papers]
    return "\n".join(lines) + _toctree(entries)


def _name(checkout: Checkout, paper: Paper, language: Language) -> str:
    about = checkout.cards.get(paper.slug, {})
    return about.get("name" if language == "en" else "name_zh") or writeups.title(paper, language)


def errata(checkout: Checkout, language: Language) -> str:
    """The printed sums that do not add up, of all papers."""
    words = TEXT[language]
    lines = [(checkout.docs / "intro" / f"errata{SUFFIX[language]}").read_text("utf-8").rstrip(), ""]
    for paper in checkout.papers:
        for record in paper.package.papers.values():
            sums = [i for i, c in record.claims.items() if c.tier == "printed" and i in paper.results]
            wrong = [i for i in sums if paper.results[i].verdict == "not reproduced"]
            if not sums:
                continue
            lines += [f"## [{record.paper.title}]({record.paper.link}) ({record.paper.year})", ""]
            lines += [words["adds"].format(n=len(wrong), of=len(sums)) if wrong else words["no_errata"], ""]
            for i in wrong:
                lines += [erratum(paper, i, language), ""]
        gap = " " if language == "en" else ""
        lines += [f"{words['errata_rest']}{gap}[{words['errata_where']}](packages/{paper.slug}/index.md)"
                  f"{'.' if language == 'en' else '。'}", ""]  # fmt: skip
    return "\n".join(lines)


def erratum(paper: Paper, i: str, language: Language) -> str:
    """One sum that does not add up: what it says, where it stands, what is printed and what comes out."""
    claim, result = paper.package.claims[i], paper.results[i]
    english = language == "en"
    title, what = (claim.title, claim.what) if english else (claim.title_zh, claim.what_zh)
    place = tables.where(paper.package, i, language)
    wrong = _failing(paper, i, result, language)
    opening, closing = (" (", "): ") if english else ("（", "）：")
    stop = ". " if english else "。"
    gap = "; " if english else "；"
    lead = "Accepted, and what comes out: " if english else "判据与结果："
    rest = f"{lead}{gap.join(wrong)}{stop.strip()}" if wrong else ""
    return f"- **[{title}](claim:{paper.slug}/{i})**{opening}{place}{closing}{what.rstrip('.。')}{stop}{rest}"


def _failing(paper: Paper, i: str, result: Result, language: Language) -> list[str]:
    """The parts whose number is outside of what is accepted; all of them where that is an ordering."""
    told = tables.parts(paper.package, i, result, language)
    names = list(result.bounds)
    if len(told) != len(names) or not names:
        return told
    value = leaves(result.value)
    outside = [
        text
        for name, text in zip(names, told, strict=True)
        if any(not low <= x <= high for x, (low, high) in zip(value[name], result.bounds[name], strict=False))
    ]
    return outside or told


def glossary(checkout: Checkout, language: Language) -> str:
    """The terms in alphabetical order of the English ones, each with its counterpart and where it is explained."""
    words = TEXT[language]
    slugs = {paper.slug: _name(checkout, paper, language) for paper in checkout.papers}
    lines = [(checkout.docs / "intro" / f"glossary{SUFFIX[language]}").read_text("utf-8").rstrip(), "",
             "::::{container} filtered", "",
             f"| {words['term']} | {words['chinese']} | {words['meaning']} | {words['explained']} |",
             "|---|---|---|---|"]  # fmt: skip
    for term in sorted(checkout.glossary, key=lambda term: str(term["en"]).lower()):
        one, two = (term["en"], term["zh"]) if language == "en" else (term["zh"], term["en"])
        meaning = term["means"] if language == "en" else term["means_zh"]
        stop = ", " if language == "en" else "、"
        links = stop.join(f"[{slugs[s]}](packages/{s}/index.md)" for s in term["in"] if s in slugs)
        lines.append(f"| **{one}** | {two} | {meaning.replace('|', chr(92) + '|')} | {links} |")
    return "\n".join([*lines, "", "::::", ""])


def notebook(paper: Paper, language: Language, root: Path, slugs: set[str]) -> str:
    """The walkthrough of this language with its stored outputs, and with the site's links in its text."""
    name = f"packages/{paper.slug}"
    content: dict[str, Any] = json.loads((paper.home / NOTEBOOK[language]).read_text("utf-8"))
    for cell in content["cells"]:
        if cell["cell_type"] == "markdown":
            text = "".join(cell["source"])
            text = writeups.linked(text, f"{name}/notebooks", f"{name}/walkthrough.md", root, slugs, language)
            cell["source"] = writeups.joined(text) if language == "zh" else text
    return json.dumps(content, ensure_ascii=False, indent=1)
