"""The interview questions of all papers on one page, taken from the write-ups."""

from __future__ import annotations

import html
import re

from papersite import writeups
from papersite.checkout import Checkout
from papersite.words import README, SUFFIX, Language


def page(checkout: Checkout, language: Language) -> str:
    """Every question folded over its answer, by paper; `site.js` filters them."""
    slugs = {paper.slug for paper in checkout.papers}
    lines = [(checkout.docs / "intro" / f"questions{SUFFIX[language]}").read_text("utf-8").rstrip(), "",
             "::::{container} filtered", ""]  # fmt: skip
    for paper in checkout.papers:
        about = checkout.cards.get(paper.slug, {})
        name = about.get("name" if language == "en" else "name_zh") or writeups.title(paper, language)
        lines += [f'<h2 class="questions-of" id="{paper.slug}">{html.escape(name)}</h2>', ""]
        for number, question in enumerate(writeups.questions(paper, language), 1):
            answer = question.answer.replace("](#", f"]({README[language]}#")  # a link within the write-up
            answer = writeups.linked(answer, f"packages/{paper.slug}", "questions.md", checkout.root, slugs, language)
            lines += [f'<details class="question" id="{paper.slug}-{number}">',
                      f"<summary>{inline(question.text)}</summary>", "", answer, "", "</details>", ""]  # fmt: skip
    return "\n".join([*lines, "::::", ""])


def inline(text: str) -> str:
    """A line of Markdown as HTML for a summary: formulas, code and links' words."""
    text = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text)
    parts = re.split(r"(\$[^$]+\$|`[^`]+`)", text)
    found: list[str] = []
    for part in parts:
        if part.startswith("$"):
            found.append(f'<span class="math notranslate nohighlight">\\({html.escape(part[1:-1])}\\)</span>')
        elif part.startswith("`"):
            found.append(f"<code>{html.escape(part[1:-1])}</code>")
        else:
            found.append(html.escape(part))
    return "".join(found)
