"""Write-ups as pages: links of the repository become links of the site, and parts of a write-up are found again."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from papersite.checkout import Paper
from papersite.words import NOTEBOOK, README, SECTIONS, Language

FENCE = re.compile(r"^(```.*?^```[ \t]*$)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(\]\()([^)\s]+)(\))")
SWITCH = re.compile(r"^\[(?:中文|English)\]\([^)]*\) · ", re.MULTILINE)
PAGES = dict.fromkeys(README.values(), "index.md") | dict.fromkeys(NOTEBOOK.values(), "walkthrough.ipynb")


class MissingSection(ValueError):
    """A write-up without a heading that the site needs; the message names both."""


@dataclass(frozen=True)
class Question:
    """An interview question and its answer, in Markdown."""

    text: str
    answer: str


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """`text` with everything that stands outside of fenced code changed."""
    parts = FENCE.split(text)
    return "".join(part if i % 2 else change(part) for i, part in enumerate(parts))


def linked(text: str, base: str, page: str, root: Path, slugs: set[str], language: Language) -> str:
    """`text` of a file in the repository's folder `base`, as it has to read on the page `page` of the site.

    Links to write-ups, notebooks and figures stay within the site, others to files of the repository become
    `source:<path>`, which the extension turns into the address of that file's own page.
    """

    def address(match: re.Match[str]) -> str:
        target, _, fragment = match[2].partition("#")
        if not target or re.match(r"[a-z]+:", target):
            return match[0]
        path = posixpath.normpath(posixpath.join(base, target))
        english = path.endswith("README.md")  # whose headings are not those of the page in Chinese
        anchor = f"#{fragment}" if fragment and not (english and language == "zh") else ""
        return f"{match[1]}{_address(path, page, root, slugs)}{anchor}{match[3]}"

    return outside_code(text, lambda part: LINK.sub(address, part))


def _address(path: str, page: str, root: Path, slugs: set[str]) -> str:
    parts = path.split("/")
    inside = None
    if path in ("README.md", "README.zh-CN.md"):
        inside = "index.md"
    elif parts[0] == "packages" and len(parts) > 2 and parts[1] in slugs:
        rest = "/".join(parts[2:])
        if rest in PAGES:
            inside = f"packages/{parts[1]}/{PAGES[rest]}"
        elif parts[2] == "figures":
            inside = f"packages/{parts[1]}/{rest}"
    if inside is not None:
        return posixpath.relpath(inside, posixpath.dirname(page) or ".")
    return f"source:{path}" if (root / path).exists() else path


def joined(text: str) -> str:
    """Chinese without the spaces that a broken line, and a formula on GitHub, leave between characters."""
    han = "[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef“”‘’]"
    text = outside_code(text, lambda part: re.sub(rf"(?<={han})\n[ ]*(?={han})", "", part))
    return outside_code(text, lambda part: re.sub(r"(?<=[，。；：、（]) (?=\$)", "", part))


def page(paper: Paper, language: Language, root: Path, slugs: set[str]) -> str:
    """The write-up as a page of the site. The titles of claims in its tables lead to the explorer."""
    name = f"packages/{paper.slug}"
    text = SWITCH.sub("", paper.writeup(language), count=1)
    text = linked(text, name, f"{name}/index.md", root, slugs, language)
    titles: dict[str, str] = {}
    for i, claim in paper.package.claims.items():
        titles[claim.title if language == "en" else claim.title_zh] = i

    def claim_link(match: re.Match[str]) -> str:
        claim = titles.get(match[2].replace("\\|", "|"))
        return f"{match[1]}[{match[2]}](claim:{paper.slug}/{claim}){match[3]}" if claim else match[0]

    text = outside_code(text, lambda part: re.sub(r"^(\| )([^|]+?)( \|)", claim_link, part, flags=re.MULTILINE))
    return f"{text.rstrip()}\n\n```{{toctree}}\n:hidden:\n\nwalkthrough\n```\n"


def title(paper: Paper, language: Language) -> str:
    """The write-up's own title: `LoRA, reproduced` without what all of them say."""
    first = paper.writeup(language).splitlines()[0].removeprefix("# ")
    return re.sub(r"(, reproduced|：?\s*复现|的复现|复现)$", "", first).strip()


def section(paper: Paper, name: str, language: Language) -> str:
    """What stands under a heading that every write-up has; MissingSection where this one has not."""
    heading = SECTIONS[name][language]
    text = paper.writeup(language)
    match = re.search(rf"^## {re.escape(heading)}[ \t]*\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if match is None:
        raise MissingSection(f"{paper.slug}: the write-up has no heading `## {heading}`")
    return match[1].strip()


def main_figure(paper: Paper, language: Language) -> tuple[str, str] | None:
    """File and description of the first figure under the main result; None where there is none."""
    match = re.search(r"!\[([^\]]*)\]\((figures/[^)]+)\)", section(paper, "result", language))
    return (match[2], match[1]) if match else None


def questions(paper: Paper, language: Language) -> list[Question]:
    """The interview questions: each begins a paragraph in bold, and its answer goes on to the next."""
    found: list[Question] = []
    for block in re.split(r"\n\s*\n", section(paper, "questions", language)):
        match = re.match(r"(?:\d+\. )?\*\*(.+?)\*\*[ \t]*\n?(.*)", block.strip(), re.DOTALL)
        if match:
            found.append(Question(match[1].replace("\n", " "), match[2].strip()))
        elif found:
            last = found[-1]
            found[-1] = Question(last.text, f"{last.answer}\n\n{block.rstrip()}".strip())
    return found
