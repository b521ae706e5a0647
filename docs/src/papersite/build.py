"""Building the site: the sources are staged in a build folder, and Sphinx makes one site of each language."""

from __future__ import annotations

import io
import json
import multiprocessing
import shutil
import sys
from dataclasses import dataclass
from importlib import import_module, resources
from pathlib import Path
from typing import Any

from papersite import claims, pages, source
from papersite.checkout import Checkout
from papersite.words import FOLDER, LANGUAGES, NAME, SPHINX, Language

MATHJAX = ("tex-svg.js", "ui/lazy.js")  # of the package django-static-mathjax, which carries MathJax 3 and nothing else

ALONE = ("papers", "path", "claims", "questions", "glossary", "errata", "search")  # pages without a side navigation
UNLISTED = ("papers", "claims", "questions", "glossary", "search")  # and those without a list of their headings


class BuildError(RuntimeError):
    """Sphinx stopped; the message is its own."""


@dataclass(frozen=True)
class Places:
    """The folders of one build; all of them can be deleted."""

    work: Path

    def sources(self, language: Language) -> Path:
        return self.work / "sources" / language

    @property
    def html(self) -> Path:
        return self.work / "html"

    def site(self, language: Language) -> Path:
        return self.html / FOLDER[language].rstrip("/")


def build(checkout: Checkout, work: Path, fresh: bool = False) -> list[str]:
    """Build both languages into `work/html`; what has not changed is kept. Returns Sphinx's warnings.

    Raises BuildError where Sphinx stops.
    """
    places = Places(work)
    if fresh:
        shutil.rmtree(work, ignore_errors=True)
    for name in ("sphinx.application", "myst_nb.sphinx_ext", "pydata_sphinx_theme"):
        import_module(name)  # once, for both processes
    data = claims.data(checkout, work / "commits.json")
    for language in LANGUAGES:
        stage(checkout, places, language)
    context = multiprocessing.get_context("fork" if sys.platform != "win32" else "spawn")
    with context.Pool(len(LANGUAGES)) as pool:
        done = pool.starmap(_sphinx, [(checkout.docs, places, language) for language in LANGUAGES])
    warnings = [line for text, _ in done for line in text.splitlines() if line.strip()]
    if any(code for _, code in done):
        raise BuildError("\n".join(warnings) or "Sphinx stopped without a word")
    for language in LANGUAGES:
        folder = places.site(language) / "data"
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "claims.js", f"window.CLAIMS = {json.dumps(data[language], ensure_ascii=False)};\n")
    source.write(checkout.root, places.html / "source", _sources(checkout, data["en"]))
    (places.html / ".nojekyll").touch()
    return warnings


def stage(checkout: Checkout, places: Places, language: Language) -> None:
    """Write the sources of one language; a file that is the same stays untouched, and one that is gone goes."""
    folder = places.sources(language)
    texts = pages.pages(checkout, language)
    for name, text in texts.items():
        _write(folder / name, text)
    copies = pages.copies(checkout)
    for name, path in copies.items():
        target = folder / name
        if not target.exists() or target.stat().st_mtime_ns != path.stat().st_mtime_ns:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
    for path in folder.rglob("*"):
        if path.is_file() and path.relative_to(folder).as_posix() not in texts.keys() | copies.keys():
            path.unlink()


def settings(docs: Path, work: Path, language: Language) -> dict[str, Any]:
    """Sphinx's settings."""
    return {
        "project": NAME,
        "html_title": NAME,
        "copyright": "the LLM Mastery Journey authors, MIT licence",
        "language": SPHINX[language],
        "site_language": language,
        "extensions": ["myst_nb", "sphinx.ext.mathjax", "papersite.extension"],
        "nb_execution_mode": "off",
        "nb_number_source_lines": False,
        "myst_enable_extensions": ["dollarmath", "attrs_inline", "colon_fence"],
        "myst_heading_anchors": 4,
        "myst_url_schemes": ["http", "https", "mailto", "source", "claim", "question"],
        "myst_dmath_double_inline": True,
        "mathjax_path": "mathjax/tex-svg.js",
        "mathjax3_config": {
            "loader": {"load": ["ui/lazy"]},
            "svg": {"fontCache": "global"},
            "options": {"enableMenu": False, "lazyMargin": "400px"},
        },
        "suppress_warnings": ["myst.header", "misc.highlighting_failure", "config.cache"],
        "html_context": {"default_mode": "auto"},
        "html_theme": "pydata_sphinx_theme",
        "templates_path": [str(docs / "templates")],
        "html_static_path": [str(docs / "static"), *_mathjax(work)],
        "html_css_files": ["site.css"],
        "html_js_files": [("site.js", {"defer": "defer"})],
        "html_copy_source": False,
        "html_show_sphinx": False,
        "html_show_sourcelink": False,
        "html_theme_options": {
            "navbar_start": ["navbar-logo"],
            "navbar_center": ["navbar-nav"],
            "navbar_end": ["language", "theme-switcher"],
            "navbar_persistent": ["search-button-field"],
            "header_links_before_dropdown": 8,
            "secondary_sidebar_items": {"**": ["page-toc"], **{name: [] for name in ("index", *UNLISTED)}},
            "show_toc_level": 2,
            "show_prev_next": False,
            "footer_start": ["copyright"],
            "footer_end": [],
            "pygments_light_style": "tango",
            "pygments_dark_style": "github-dark",
            "logo": {"text": NAME},
            "navigation_with_keys": False,
        },
        "html_sidebars": {name: [] for name in ("index", *ALONE)},
    }


def _mathjax(work: Path) -> list[str]:
    """A static folder with MathJax out of its registry package, so that no page needs a network."""
    folder = work / "static"
    files = resources.files("mathjax") / "static" / "mathjax" / "es5"
    for name in MATHJAX:
        target = folder / "mathjax" / name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((files / name).read_bytes())
    return [str(folder)]


def _sphinx(docs: Path, places: Places, language: Language) -> tuple[str, int]:
    """One language, in a process of its own: (warnings, exit code)."""
    from sphinx.application import Sphinx
    from sphinx.errors import SphinxError
    from sphinx.util.docutils import docutils_namespace

    warnings = io.StringIO()
    trees = places.work / "trees" / language
    try:
        with docutils_namespace():
            app = Sphinx(
                str(places.sources(language)), None, str(places.site(language)), str(trees), "html",
                confoverrides=settings(docs, places.work, language), status=None, warning=warnings,
            )  # fmt: skip
            app.build()
    except SphinxError as error:
        return f"{warnings.getvalue()}\n{error}", 1
    return warnings.getvalue(), app.statuscode


def _sources(checkout: Checkout, data: list[dict[str, Any]]) -> set[str]:
    """The files that some page links to."""
    found = {entry["code"]["path"] for entry in data if "code" in entry}
    for language in LANGUAGES:
        for text in pages.pages(checkout, language).values():
            found |= pages.linked_sources(text)
    return found


def _write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text("utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
