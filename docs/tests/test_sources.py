"""What the site is made from: links, questions, the path's commands, the two languages side by side."""

from __future__ import annotations

import json
import os
import re
import shlex
import threading
import tomllib
import urllib.request
from functools import partial
from http.server import ThreadingHTTPServer
from itertools import zip_longest
from pathlib import Path

import pytest

from papertest.records import TIERS

from papersite import claims, pages, questions, writeups
from papersite.checkout import Checkout
from papersite.serve import RELOAD, Handler, stamp
from papersite.words import LANGUAGES, NOTEBOOK, SECTIONS, TEXT

ROOT = Path(__file__).resolve().parents[2]
SLUGS = {"bert", "lora"}


def test_links_of_a_write_up_lead_into_the_site_or_to_a_source_page() -> None:
    text = """[a](README.zh-CN.md) [b](../bert/README.md#pitfalls) [c](../../papers/lora.toml)
[d](notebooks/walkthrough.ipynb) [d](../bert/notebooks/walkthrough.zh-CN.ipynb)
![e](figures/ranks.png) [f](https://arxiv.org/abs/2106.09685) [g](#the-maths) [h](src/lora/layers.py)
```python
x = "[i](src/lora/layers.py)"
```
"""
    got = writeups.linked(text, "packages/lora", "packages/lora/index.md", ROOT, SLUGS, "en")
    assert re.findall(r"\]\((.*?)\)", got) == [
        "index.md", "../bert/index.md#pitfalls", "source:papers/lora.toml", "walkthrough.ipynb",
        "../bert/walkthrough.ipynb", "figures/ranks.png",
        "https://arxiv.org/abs/2106.09685", "#the-maths", "source:packages/lora/src/lora/layers.py",
        "src/lora/layers.py",
    ]  # fmt: skip


def test_an_english_heading_is_no_anchor_of_a_chinese_page() -> None:
    got = writeups.linked(
        "[b](../bert/README.md#pitfalls)", "packages/lora", "packages/lora/index.md", ROOT, SLUGS, "zh"
    )
    assert got == "[b](../bert/index.md)"


def test_chinese_lines_are_joined_and_code_is_not() -> None:
    text = "第一行，\n第二行。\n\n- 一项\n- 两项， $x$\n\n```\n甲\n乙\n```\n"
    assert writeups.joined(text) == "第一行，第二行。\n\n- 一项\n- 两项，$x$\n\n```\n甲\n乙\n```\n"


def test_every_write_up_has_as_many_questions_in_both_languages(checkout: Checkout) -> None:
    for paper in checkout.papers:
        counts = {language: len(writeups.questions(paper, language)) for language in LANGUAGES}
        assert counts["en"] == counts["zh"] >= 10, paper.slug
        for language in LANGUAGES:
            assert all(question.answer for question in writeups.questions(paper, language)), paper.slug


def test_a_notebook_page_is_in_its_language_with_the_same_code(checkout: Checkout) -> None:
    for paper in checkout.papers:
        one, two = (json.loads(pages.notebook(paper, language, ROOT, SLUGS))["cells"] for language in LANGUAGES)
        assert [cell["cell_type"] for cell in one] == [cell["cell_type"] for cell in two]
        for english, chinese in zip(one, two, strict=True):
            if english["cell_type"] == "code":
                assert english == chinese
            else:
                assert re.search("[一-鿿]", chinese["source"]) and not re.search("[一-鿿]", english["source"])


def test_a_package_without_a_chinese_notebook_is_left_out_of_the_site(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(NOTEBOOK, "zh", "notebooks/nowhere.zh-CN.ipynb")
    assert checkout.papers[0].lacking() == "notebooks/nowhere.zh-CN.ipynb is missing"


def test_a_missing_heading_is_named(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SECTIONS, "idea", {"en": "Nowhere", "zh": "无此节"})
    with pytest.raises(writeups.MissingSection, match="no heading `## Nowhere`"):
        writeups.section(checkout.papers[0], "idea", "en")
    assert Checkout(ROOT).papers == []  # and such a package is left out of the site


def test_a_question_in_a_summary_has_its_formula_and_code_and_no_markup() -> None:
    assert questions.inline("Why $a < b$ and `x<y>`?") == (
        'Why <span class="math notranslate nohighlight">\\(a &lt; b\\)</span> and <code>x&lt;y&gt;</code>?'
    )


def test_the_code_of_every_claim_is_found(checkout: Checkout) -> None:
    for paper in checkout.papers:
        code = claims.code_of(paper, ROOT)
        assert set(paper.package.claims) <= set(code), paper.slug
        for claim in paper.package.claims:
            line = (ROOT / code[claim].path).read_text("utf-8").splitlines()[code[claim].line - 1]
            assert "claim(" in line


def test_a_claim_has_its_numbers_seed_by_seed(checkout: Checkout, tmp_path: Path) -> None:
    data = claims.data(checkout, tmp_path / "commits.json")
    assert [entry["id"] for entry in data["en"]] == [entry["id"] for entry in data["zh"]]
    for paper in checkout.papers:
        for claim, result in paper.results.items():
            entry = next(e for e in data["en"] if e["id"] == f"{paper.slug}/{claim}")
            assert entry["verdict"] == result.verdict
            if result.tier == "trend" and entry["parts"]:
                assert {len(part["seeds"]) for part in entry["parts"]} == {len(result.samples)}
    chinese = [entry for entry in data["zh"] if not re.search("[一-鿿]", entry["title"] + entry["what"])]
    assert chinese == []
    if any("fixed" in entry for entry in data["en"]):  # a whole history
        measured = [entry for entry in data["en"] if entry.get("measured") and entry["parts"]]
        assert all(entry["fixed"][1] <= entry["measured"][1] for entry in measured)


def test_every_link_of_the_path_exists(checkout: Checkout) -> None:
    assert len(checkout.path) == 8
    for week in checkout.path:
        for item in [*week["read"], *week.get("missing", [])]:
            link = item["link"]
            assert re.fullmatch(r"https://arxiv\.org/abs/\d{4}\.\d{4,5}", link) or (ROOT / link).is_file(), link
        for slug in week.get("notebook", []):
            for language in LANGUAGES:
                assert (ROOT / "packages" / slug / NOTEBOOK[language]).is_file()


def test_every_command_of_the_path_exists(checkout: Checkout) -> None:
    packages = {paper.slug: paper.package for paper in checkout.papers}
    for week in checkout.path:
        for command in week.get("run", []):
            words = shlex.split(command)
            assert words[:3] == ["uv", "run", "--package"] and words[4] == "reproduce", command
            package, options = packages[words[3]], words[5:]
            project = tomllib.loads((ROOT / "packages" / words[3] / "pyproject.toml").read_text("utf-8"))
            assert "reproduce" in project["project"]["scripts"]
            for option, value in zip_longest(options, options[1:]):
                if option in ("--show", "--only"):
                    assert value in package.claims, command
                elif option == "--tier":
                    assert value in TIERS, command
                elif option == "--minutes":
                    assert float(value) > 0, command
                else:
                    assert option == "--list" or not option.startswith("-"), command


def test_every_question_of_the_path_exists(checkout: Checkout) -> None:
    papers = {paper.slug: paper for paper in checkout.papers}
    for week in checkout.path:
        for slug, numbers in week.get("questions", {}).items():
            if numbers == "all":  # also of a package that does not stand yet, and then under `missing`
                assert slug in papers or any(item.get("package") == slug for item in week["missing"])
            else:
                assert set(numbers) <= set(range(1, len(writeups.questions(papers[slug], "en")) + 1)), slug


def test_hand_written_pages_stand_in_both_languages_with_the_same_shape(checkout: Checkout) -> None:
    for folder in ("pages", "intro"):
        files = {path.relative_to(checkout.docs).as_posix() for path in (checkout.docs / folder).rglob("*.md")}
        english = {name for name in files if not name.endswith(".zh-CN.md")}
        assert files == english | {name.removesuffix(".md") + ".zh-CN.md" for name in english}
        for name in english:
            one = (checkout.docs / name).read_text("utf-8")
            two = (checkout.docs / (name.removesuffix(".md") + ".zh-CN.md")).read_text("utf-8")
            for mark in (r"^#+ ", r"^\|", r"\]\(([^)]*)\)", r"<div id"):
                assert len(re.findall(mark, one, re.M)) == len(re.findall(mark, two, re.M)), (name, mark)


def test_every_paper_has_a_card_and_a_cheat_sheet(checkout: Checkout) -> None:
    for paper in checkout.papers:
        assert set(checkout.cards[paper.slug]) == {"name", "name_zh", "idea", "idea_zh"}
        assert (checkout.docs / "pages" / "cheatsheets" / f"{paper.slug}.md").is_file(), paper.slug


def test_terms_are_told_once_and_in_both_languages(checkout: Checkout) -> None:
    terms = [term["en"] for term in checkout.glossary]
    assert len(terms) == len(set(terms)) >= 50
    for term in checkout.glossary:
        assert re.search("[一-鿿]", term["means_zh"]) and not re.search("[一-鿿]", term["means"]), term["en"]
        assert term["in"] and all((ROOT / "packages" / slug).is_dir() for slug in term["in"]), term["en"]


def test_errata_are_the_sums_that_do_not_add_up(checkout: Checkout) -> None:
    text = pages.errata(checkout, "en")
    wrong = [f"claim:{paper.slug}/{i}" for paper in checkout.papers for i, result in paper.results.items()
             if result.tier == "printed" and result.verdict == "not reproduced"]  # fmt: skip
    assert re.findall(r"\((claim:[^)]+)\)", text) == wrong


def test_a_served_page_reloads_itself_when_the_site_is_built_again(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<html><body>one</body></html>", "utf-8")
    version = [3]
    handler = type("Versioned", (Handler,), {"version": version})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        page = urllib.request.urlopen(f"{address}/").read()
        assert page.count(RELOAD) == 1 and page.endswith(b"</body></html>")
        assert urllib.request.urlopen(f"{address}/_version").read() == b"3"
    finally:
        server.shutdown()


def test_a_changed_source_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "packages" / "lora" / "README.md"
    page.parent.mkdir(parents=True)
    page.write_text("one", "utf-8")
    before = stamp(tmp_path)
    os.utime(page, (1, 1))
    assert before.keys() == stamp(tmp_path).keys() == {page} and before != stamp(tmp_path)


def test_both_languages_say_the_same_things() -> None:
    assert TEXT["en"].keys() == TEXT["zh"].keys()
