"""The Sphinx extension of the site: links into the explorer and to source files, the language switch, the search."""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

from papersite.words import FOLDER, HTML, OTHER, TEXT

UNSEARCHED = {"search", "claims", "questions", "errata"}  # what stands elsewhere too; claims are searched one by one
SHOWN = 20_000  # characters of a section that are searched


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_config_value("site_language", "en", "env", {str})
    app.connect("builder-inited", _own_search)
    app.connect("doctree-resolved", _resolve)
    app.connect("html-page-context", _context)
    app.connect("build-finished", _search_index)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _own_search(app: Sphinx) -> None:
    """Sphinx's search splits Chinese by a dictionary and reads pages over HTTP: ours has an index of its own."""
    app.builder.search = False  # type: ignore[attr-defined]


def _resolve(app: Sphinx, tree: nodes.document, docname: str) -> None:
    """`source:packages/x.py` and `claim:lora/zero-init` become addresses relative to the page."""
    up = posixpath.relpath(".", posixpath.dirname(docname) or ".")
    for node in tree.findall(nodes.reference):
        kind, _, rest = node.get("refuri", "").partition(":")
        if kind == "claim":
            node["refuri"] = f"{up}/claims.html#{rest}"
        elif kind == "question":
            node["refuri"] = f"{up}/questions.html#{rest.replace('/', '-')}"
        elif kind == "source":
            path, _, fragment = rest.partition("#")
            out = posixpath.normpath(f"{up}/{'../' if FOLDER[app.config.site_language] else ''}source/{path}.html")
            node["refuri"] = out + (f"#{fragment}" if fragment else "")
            node["classes"].append("source-link")


def _context(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: nodes.document | None) -> None:
    language = app.config.site_language
    up = posixpath.relpath(".", posixpath.dirname(page) or ".")
    root = posixpath.normpath(f"{up}/{'..' if FOLDER[language] else '.'}")
    other = OTHER[language]
    context["switch_href"] = posixpath.normpath(f"{root}/{FOLDER[other]}{page}.html")
    context["switch_text"] = TEXT[language]["switch"]
    context["switch_title"] = TEXT[language]["switch_title"]
    context["switch_language"] = HTML[other]


def _search_index(app: Sphinx, error: Exception | None) -> None:
    """`data/search.js`: every section of every page as [address, page's title, section's title, text]."""
    if error is not None:
        return
    kept = Path(app.doctreedir) / "sections.json"  # a page that has not changed is not read again
    old: dict[str, Any] = json.loads(kept.read_text("utf-8")) if kept.exists() else {}
    found: dict[str, Any] = {}
    for docname in sorted(app.env.found_docs - UNSEARCHED):
        stamp = app.env.all_docs.get(docname, 0)
        entry = old.get(docname)
        if not entry or entry[0] != stamp:
            entry = [stamp, _sections(app.env.get_doctree(docname), docname)]
        found[docname] = entry
    kept.write_text(json.dumps(found), "utf-8")
    rows = [row for _, sections in found.values() for row in sections]
    target = Path(app.outdir) / "data" / "search.js"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(f"window.SECTIONS = {json.dumps(rows, ensure_ascii=False)};\n", "utf-8")


def _sections(tree: nodes.document, docname: str) -> list[list[str]]:
    titles = [section[0].astext() for section in tree.findall(nodes.section)]
    rows: list[list[str]] = []
    for section in tree.findall(nodes.section):
        text = " ".join(_text(child) for child in section.children[1:] if not isinstance(child, nodes.section))
        if text.strip():
            address = f"{docname}.html#{section['ids'][0]}"
            rows.append([address, titles[0], section[0].astext(), re.sub(r"\s+", " ", text)[:SHOWN]])
    return rows


def _text(node: nodes.Node) -> str:
    """What a reader sees of a node: no raw HTML, and cells apart from each other."""
    return " ".join(each.astext() for each in node.findall(nodes.Text) if not isinstance(each.parent, nodes.raw))
