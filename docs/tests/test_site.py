"""The built site: links, images, and in a real browser pages, filters, the switch, the search and the calculator."""

from __future__ import annotations

import html
import json
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from papersite.checkout import Checkout


class Page(HTMLParser):
    """The ids of a page, and where it leads."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.ids.add(value)
            elif name in ("href", "src") and value:
                self.targets.append(value)


@cache
def parsed(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text("utf-8"))
    return page


def every_page(site: Path) -> list[Path]:
    """The pages in a language, without those of source files and what the theme leaves among its static files."""
    return [
        path
        for path in sorted(site.rglob("*.html"))
        if path.relative_to(site).parts[0] != "source" and "_static" not in path.parts
    ]


def test_sphinx_warns_of_nothing(built: tuple[Path, list[str]]) -> None:
    assert built[1] == []


def test_every_page_stands_in_both_languages(site: Path) -> None:
    pages = {path.relative_to(site).as_posix() for path in every_page(site)}
    english = {name for name in pages if not name.startswith("zh/")}
    assert {f"zh/{name}" for name in english} == pages - english
    assert len(english) > 15


def test_every_internal_link_and_image_resolves(site: Path, checkout: Checkout) -> None:
    claims = {f"{paper.slug}/{claim}" for paper in checkout.papers for claim in paper.package.claims}
    broken: list[str] = []
    for path in [*every_page(site), *sorted((site / "source").rglob("*.html"))]:
        for target in parsed(path).targets:
            parts = urlsplit(target)
            if parts.scheme in ("http", "https", "mailto", "data") or target.startswith("//"):
                continue
            goal = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            fragment = unquote(parts.fragment)
            if not goal.is_file():
                broken.append(f"{path.relative_to(site)}: {target}")
            elif goal.name == "claims.html" and fragment and not fragment.startswith("?"):
                if fragment not in claims and fragment not in parsed(goal).ids:
                    broken.append(f"{path.relative_to(site)}: {target}")
            elif (
                goal.suffix == ".html"
                and fragment
                and not fragment.startswith("?")
                and fragment not in parsed(goal).ids
            ):
                broken.append(f"{path.relative_to(site)}: {target}")
    assert broken == []


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for path in every_page(site):
        text = path.read_text("utf-8")
        assert not re.search(r'<(?:script|img|iframe)[^>]+src="(?:https?:)?//', text), path
        assert not re.search(r'<link[^>]+rel="(?:stylesheet|preload)"[^>]+href="(?:https?:)?//', text), path


def test_links_of_claims_lead_to_the_line_of_their_code(site: Path) -> None:
    text = (site / "data" / "claims.js").read_text("utf-8")
    for entry in json.loads(text.removeprefix("window.CLAIMS = ").rstrip().removesuffix(";")):
        page = site / "source" / f"{entry['code']['path']}.html"
        assert f"L-{entry['code']['line']}" in parsed(page).ids


CLIPPED = """[...document.querySelectorAll('.bd-main *')].filter(e => {
  const box = e.getBoundingClientRect();
  if (box.width === 0 || box.right <= 361) return false;
  for (let up = e; up && !up.matches('.bd-main'); up = up.parentElement) {
    const style = getComputedStyle(up);
    if (style.overflowX === 'auto' || style.overflowX === 'scroll' || style.position === 'absolute') return false;
  }
  return true;
}).slice(0, 3).map(e => e.tagName + '.' + e.className)"""  # what a phone cuts off, and nobody can scroll to


@pytest.fixture
def tab(browser: Any) -> Any:
    """A narrow page that collects what the console complains of."""
    context = browser.new_context(viewport={"width": 360, "height": 800})
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.complaints = []
    page.on("console", lambda m: page.complaints.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("requestfailed", lambda request: page.complaints.append(request.url))
    yield page
    context.close()


def test_every_page_opens_from_a_file_without_complaint_and_fits_a_phone(site: Path, tab: Any) -> None:
    wrong: list[str] = []
    for path in every_page(site):
        tab.goto(path.as_uri())
        tab.wait_for_function("document.readyState === 'complete'")
        width = tab.evaluate("document.documentElement.scrollWidth")
        missing = tab.evaluate("[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)")
        clipped = tab.evaluate(CLIPPED)
        if width > 360 or missing or clipped or tab.complaints:
            wrong.append(f"{path.relative_to(site)}: {width} px, {missing}, {clipped}, {tab.complaints}")
            tab.complaints.clear()
    assert wrong == []


MATHS = re.compile(r'class="math[^>]*>(?:<span[^>]*>.*?</span>)?\s*(\\\(|\\\[)(.*?)(?:\\\)|\\\])\s*</', re.DOTALL)
WRONG = """all => all.filter(tex => MathJax.tex2mml(tex).includes('<merror'))"""


def test_formulas_are_set_and_all_of_them_are_understood(site: Path, tab: Any) -> None:
    tab.goto((site / "cheatsheets/moe.html").as_uri())
    tab.wait_for_function("document.querySelectorAll('mjx-container svg').length > 0")
    texts = (path.read_text("utf-8") for path in every_page(site))
    formulas = sorted({html.unescape(match[2]) for text in texts for match in MATHS.finditer(text)})
    assert len(formulas) > 500
    assert tab.evaluate(WRONG, ["x^", *formulas]) == ["x^"]  # the first is wrong on purpose
    assert tab.complaints == []


def test_claims_are_filtered_sorted_and_opened(site: Path, tab: Any, checkout: Checkout) -> None:
    tab.goto((site / "claims.html").as_uri())
    shown = "document.querySelectorAll('details.claim').length"
    total = sum(len(paper.package.claims) for paper in checkout.papers)
    assert tab.evaluate(shown) == total
    tab.select_option("select[name=paper]", "lora")
    tab.select_option("select[name=tier]", "trend")
    lora = next(paper for paper in checkout.papers if paper.slug == "lora")
    trend = [i for i, claim in lora.package.claims.items() if claim.tier == "trend" and claim.by is None]
    assert tab.evaluate(shown) == len(trend)
    tab.select_option("select[name=sort]", "title")
    titles = tab.evaluate("[...document.querySelectorAll('.claim .title')].map(t => t.firstChild.data)")
    assert titles == sorted(titles, key=str.lower)
    tab.fill("#claims-tool input[type=search]", "ranks")
    assert 0 < tab.evaluate(shown) < len(trend)
    tab.fill("#claims-tool input[type=search]", "")
    tab.click("details.claim[id='lora/ranks-level'] summary")
    tab.wait_for_selector("details.claim[open] dl.facts")
    result = lora.results["ranks-level"]
    assert tab.locator("details.claim[open] svg line.seed").count() == 2 * len(result.samples)
    body = tab.inner_text("details.claim[open]")
    assert "criterion fixed 2" in body or not (checkout.root / ".git").exists()
    assert "spread ≤ 3" in body and "trend.py:" in body
    assert tab.evaluate(CLIPPED) == []
    assert tab.complaints == []


def test_a_claim_is_three_clicks_from_the_start(site: Path, tab: Any) -> None:
    tab.goto((site / "index.html").as_uri())
    tab.locator(".card-paper a", has_text="Its claims").nth(1).click()
    tab.wait_for_function("document.querySelectorAll('details.claim').length > 0")
    slugs = tab.evaluate("[...new Set([...document.querySelectorAll('details.claim')].map(c => c.id.split('/')[0]))]")
    assert len(slugs) == 1
    tab.locator("details.claim summary").first.click()
    tab.wait_for_selector("details.claim[open] dl.facts")


def test_the_switch_stays_on_the_page(site: Path, tab: Any) -> None:
    tab.set_viewport_size({"width": 1200, "height": 800})
    for page in ("index.html", "packages/lora/index.html", "packages/bert/walkthrough.html", "cheatsheets/moe.html"):
        tab.goto((site / page).as_uri())
        tab.locator("a.language-switch:visible").first.click()
        assert tab.url == (site / "zh" / page).as_uri()
        assert tab.evaluate("document.documentElement.lang").startswith("zh")
        tab.locator("a.language-switch:visible").first.click()
        assert tab.url == (site / page).as_uri()
    tab.goto((site / "claims.html").as_uri() + "#?paper=lora")
    tab.locator("a.language-switch:visible").first.click()
    assert tab.url.endswith("zh/claims.html#?paper=lora")


@pytest.mark.parametrize(
    ("page", "query", "expected"),
    [
        ("search.html", "online softmax", "FlashAttention"),
        ("search.html", "ranks-level", "Ranks 1 to 64"),
        ("zh/search.html", "低秩", "LoRA"),
        ("zh/search.html", "旋转位置编码怎么推导", "RoPE"),
        ("zh/search.html", "80/10/10", "BERT"),
    ],
)
def test_search_finds(site: Path, tab: Any, page: str, query: str, expected: str) -> None:
    tab.goto((site / page).as_uri())
    tab.fill("#search-tool input", query)
    assert tab.locator(".hit").count() > 0
    assert expected in tab.inner_text("#search-tool")
    assert tab.complaints == []


def test_the_search_button_leads_to_the_search(site: Path, tab: Any) -> None:
    tab.set_viewport_size({"width": 1200, "height": 800})
    tab.goto((site / "zh/packages/moe/index.html").as_uri())
    tab.locator("button.search-button__button:visible").first.click()
    tab.locator("#pst-search-dialog input[type=search]").fill("容量因子")
    tab.locator("#pst-search-dialog input[type=search]").press("Enter")
    tab.wait_for_function("document.querySelectorAll('.hit').length > 0")
    assert "/zh/search.html?q=" in tab.url


def test_the_calculator_counts(site: Path, tab: Any) -> None:
    tab.goto((site / "cheatsheets/index.html").as_uri())
    tab.select_option("#calculator-tool select", "GPT-3")
    assert tab.inner_text("#out-blocks") == "173.9 G"  # 12 · 96 · 12288²
    assert tab.inner_text("#out-train") == "314.2 ZFLOP"  # 6 · (173.9 + 0.6) 10⁹ · 300 · 10⁹
    assert tab.inner_text("#out-mha") == "9.664 GB"  # 2 · 96 · 2048 · 12288 numbers of 2 bytes
    tab.fill("input[name=g]", "8")
    assert tab.inner_text("#out-gqa") == "805.3 MB"  # a twelfth of it
    assert tab.inner_text("#out-mqa") == "100.7 MB"


def test_questions_and_terms_are_filtered(site: Path, tab: Any) -> None:
    tab.goto((site / "zh/questions.html").as_uri() + "#lora-3")
    assert tab.locator("details.question[open]").get_attribute("id") == "lora-3"
    tab.fill(".filtered input", "鞍点")
    assert 0 < tab.locator("details.question:visible").count() < 10
    tab.goto((site / "glossary.html").as_uri())
    tab.fill(".filtered input", "softmax")
    assert 0 < tab.locator("tbody tr:visible").count() < 10
