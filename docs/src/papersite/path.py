"""The learning path: eight weeks, each with what to read, run and answer, and what is still missing."""

from __future__ import annotations

from typing import Any

from papersite import writeups
from papersite.checkout import Checkout
from papersite.words import NOTEBOOK, README, SUFFIX, TEXT, Language


def page(checkout: Checkout, language: Language) -> str:
    """The path of `docs/path.toml`, with the questions in the write-ups' own words."""
    intro = (checkout.docs / "intro" / f"path{SUFFIX[language]}").read_text("utf-8").rstrip()
    weeks = [week(checkout, n, entry, language) for n, entry in enumerate(checkout.path, 1)]
    return "\n\n".join([intro, *weeks]) + "\n"


def week(checkout: Checkout, number: int, entry: dict[str, Any], language: Language) -> str:
    """One week."""
    words = TEXT[language]
    slugs = {paper.slug: paper for paper in checkout.papers}
    colon = ": " if language == "en" else "："

    def said(table: dict[str, Any], key: str) -> str:
        return table[key if language == "en" else f"{key}_zh"]

    lines = [f"## {words['week'].format(n=number)}{colon}{said(entry, 'title')}", "",
             f"*{words['hours'].format(n=entry['hours'])}*", "", said(entry, "goal"), "",
             f"**{words['read']}**", ""]  # fmt: skip
    for item in entry["read"]:
        lines.append(f"- [{said(item, 'text')}]({item['link']})")
    planned = entry.get("missing", [])
    for item in planned:
        if item.get("package") in slugs:  # it stands by now
            lines.append(f"- [{said(item, 'what')}](packages/{item['package']}/{README[language]})")
    if entry.get("notebook"):
        links = [f"[{words['notebook']}{colon}{checkout.cards[s]['name' if language == 'en' else 'name_zh']}]"
                 f"(packages/{s}/{NOTEBOOK[language]})" for s in entry["notebook"] if s in slugs]  # fmt: skip
        lines += [f"- {link}" for link in links]
    if entry.get("run"):
        commands = "\n".join(entry["run"])
        lines += ["", f"**{words['run']}**", "", f"```sh\n{commands}\n```"]
    asked = [
        f"- [{question.text}](question:{slug}/{n})"
        for slug, numbers in entry.get("questions", {}).items()
        if slug in slugs
        for n, question in enumerate(writeups.questions(slugs[slug], language), 1)
        if numbers == "all" or n in numbers
    ]
    if asked:
        lines += ["", f"**{words['answer']}**", "", *asked]
    missing = [item for item in planned if item.get("package") not in slugs]
    if missing:
        lines += ["", f"**{words['missing']}**", ""]
        for item in missing:
            lines.append(f"- {said(item, 'what')}{' (' if language == 'en' else '（'}{words['brings']}"
                         f"{' ' if language == 'en' else ''}[{item['paper']}]({item['link']})"
                         f"{')' if language == 'en' else '）'}")  # fmt: skip
    text = "\n".join(lines)
    return writeups.linked(text, "", "path.md", checkout.root, set(slugs), language)
