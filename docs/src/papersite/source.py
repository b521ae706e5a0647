"""One page per source file that the site links to, with line numbers: in no language, and without Sphinx."""

from __future__ import annotations

import html
import posixpath
from pathlib import Path
from typing import Any

import pygments
import pygments.lexers
from pygments.formatters import HtmlFormatter
from pygments.util import ClassNotFound

Formatter: Any = HtmlFormatter  # pygments leaves it partly untyped
lexers: Any = pygments.lexers

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{path}</title><link rel="icon" href="data:,"><link rel="stylesheet" href="{up}source.css"></head>
<body><header><a href="{up}../index.html">LLM Mastery Journey</a> · <a href="{up}../zh/index.html">中文</a> ·
<code>{path}</code></header>{body}</body></html>
"""
STYLE = """
body { margin: 0; font: 14px/1.45 system-ui, sans-serif; background: #fff; color: #24292f }
header { padding: .6rem 1rem; border-bottom: 1px solid #8884; overflow-wrap: anywhere }
header a { color: #0a6c8f } .source { overflow-x: auto } .source pre { margin: 0; padding: .6rem 1rem }
ul { line-height: 1.8 } 
.linenos a, .linenos { color: #8888; text-decoration: none; padding-right: 1em; user-select: none }
:target, a:target ~ span { background: #fd06 }
@media (prefers-color-scheme: dark) { body { background: #14181e; color: #ced6dd } header a { color: #6cc5e0 } }
"""


def write(root: Path, out: Path, paths: set[str]) -> None:
    """The pages of these files and folders of the repository, as `out/<path>.html`; what is up to date stays."""
    out.mkdir(parents=True, exist_ok=True)
    light, dark = Formatter(style="tango"), Formatter(style="github-dark")
    style = (f"{STYLE}{light.get_style_defs('.source')}\n"
             f"@media (prefers-color-scheme: dark) {{ {dark.get_style_defs('.source')} }}\n")  # fmt: skip
    (out / "source.css").write_text(style, "utf-8")
    todo = set(paths)
    while todo:
        path = todo.pop()
        source, target = root / path, out / f"{path}.html"
        up = "../" * path.count("/")
        if source.is_dir():
            inside = sorted(p.name for p in source.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists())
            todo |= {posixpath.join(path, name) for name in inside}
            items = "".join(f'<li><a href="{source.name}/{name}.html">{name}</a></li>' for name in inside)
            body = f"<ul>{items}</ul>"
        elif target.exists() and target.stat().st_mtime >= source.stat().st_mtime:
            continue
        else:
            body = _body(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(PAGE.format(path=html.escape(path), up=up, body=body), "utf-8")


def _body(source: Path) -> str:
    try:
        lexer = lexers.get_lexer_for_filename(source.name)
    except ClassNotFound:
        lexer = lexers.TextLexer()
    formatter = Formatter(cssclass="source", linenos="inline", lineanchors="L", anchorlinenos=True)
    return pygments.highlight(source.read_text("utf-8"), lexer, formatter)
