"""What the site itself says, in English and in Chinese."""

from __future__ import annotations

from typing import Literal

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")
README = {"en": "README.md", "zh": "README.zh-CN.md"}
NOTEBOOK = {"en": "notebooks/walkthrough.ipynb", "zh": "notebooks/walkthrough.zh-CN.ipynb"}
SUFFIX = {"en": ".md", "zh": ".zh-CN.md"}  # of a hand-written page
SPHINX = {"en": "en", "zh": "zh_CN"}
HTML = {"en": "en", "zh": "zh-CN"}
FOLDER = {"en": "", "zh": "zh/"}  # in the built site
OTHER: dict[Language, Language] = {"en": "zh", "zh": "en"}
SECTIONS = {  # headings that every write-up has
    "idea": {"en": "The idea in a paragraph", "zh": "一段话讲清思想"},
    "result": {"en": "The main result", "zh": "主要结果"},
    "questions": {"en": "Interview questions", "zh": "面试题"},
}
NAME = "LLM Mastery Journey"
TEXT: dict[Language, dict[str, str]] = {
    "en": {
        "switch": "中文",
        "switch_title": "这一页的中文版",
        "papers": "Papers",
        "errata": "Errata",
        "questions": "Questions",
        "writeup": "Write-up",
        "notebook": "Notebook",
        "sheet": "Cheat sheet",
        "claims_of": "Its claims",
        "holds": "What holds at laptop scale",
        "scale": "{measured} measured claims: reproduced {reproduced}, not reproduced {failed}, undecided {undecided}.",
        "unmeasured": "Not run: {n}.",
        "week": "Week {n}",
        "hours": "about {n} hours",
        "read": "Read",
        "run": "Run",
        "answer": "Afterwards you can answer",
        "missing": "Still missing",
        "brings": "will come with",
        "papers_of": "{n} papers in one package",
        "no_errata": "All sums that we checked in this paper add up.",
        "source": "Source",
        "home": "The site",
        "errata_rest": "All checked sums of this paper, with their parts, are in",
        "errata_where": "the appendix of its write-up",
        "adds": "{n} of {of} checked sums do not add up.",
        "term": "Term",
        "chinese": "Chinese",
        "meaning": "What it means",
        "explained": "Explained in",
    },
    "zh": {
        "switch": "English",
        "switch_title": "This page in English",
        "papers": "论文",
        "errata": "勘误",
        "questions": "面试题",
        "writeup": "正文",
        "notebook": "笔记本",
        "sheet": "速查表",
        "claims_of": "全部论断",
        "holds": "笔记本电脑规模下成立的结论",
        "scale": "已测的 {measured} 条论断中，复现 {reproduced} 条，未复现 {failed} 条，未定 {undecided} 条。",
        "unmeasured": "另有 {n} 条未运行。",
        "week": "第 {n} 周",
        "hours": "约 {n} 小时",
        "read": "读",
        "run": "跑",
        "answer": "学完应能回答",
        "missing": "尚缺",
        "brings": "将随这篇论文补上：",
        "papers_of": "一个包，{n} 篇论文",
        "no_errata": "本文核算过的数字全部吻合。",
        "source": "源码",
        "home": "回到网站",
        "errata_rest": "本文全部核算及其分项见",
        "errata_where": "正文的附录",
        "adds": "核算过 {of} 处，{n} 处不吻合。",
        "term": "术语",
        "chinese": "英文",
        "meaning": "含义",
        "explained": "详见",
    },
}
