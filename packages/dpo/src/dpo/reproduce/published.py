"""The paper's own data sets, read in the form in which they are published: TL;DR with comparisons, and Anthropic's HH.

None of them is fetched here; `reproduce/paper.py` says which folder each is looked for in.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo.preferences import Preference

HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"


@dataclass(frozen=True)
class Post:
    """A prompt, and the text that people wrote for it: the reference that win rates are against."""

    prompt: str
    reference: str


@dataclass(frozen=True)
class Read:
    """The pairs that were kept, how many were equal, and for each bad line, by file and number, why it was left out."""

    pairs: list[Preference]
    equal: int
    bad: dict[str, str]


def lines(files: Sequence[Path]) -> Iterator[tuple[str, Any]]:
    """Every line of JSON, with its file and number; a line that is no JSON comes as the ValueError that says so."""
    for file in files:
        content = file.read_bytes()
        text = (gzip.decompress(content) if file.suffix == ".gz" else content).decode("utf-8")
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                try:
                    item = json.loads(line)
                except ValueError as error:
                    item = error
                yield f"{file.name}:{number}", item


def read(files: Sequence[Path], pair: Any) -> Read:
    """pair: makes (prompt, chosen, rejected) of a line, None for a line of another split, ValueError for a bad one.

    ValueError where there are no files, or nothing in them is kept.
    """
    if not files:
        raise ValueError("files must hold at least one file, not none")
    kept: list[Preference] = []
    equal, bad = 0, dict[str, str]()
    for where, item in lines(files):
        try:
            if isinstance(item, ValueError):
                raise item
            found = pair(item)
            if found is None:
                continue
            if found[1] == found[2]:
                equal += 1
            else:
                kept.append(Preference(*found))
        except (KeyError, IndexError, TypeError) as error:
            bad[where] = f"a field is missing or of another kind: {error!r}"
        except ValueError as error:
            bad[where] = str(error)
    if not kept:
        first = f"; {next(iter(bad))}: {next(iter(bad.values()))}" if bad else ""
        raise ValueError(f"{files[0].parent} must have at least one pair, not none{first}")
    return Read(kept, equal, bad)


def tldr_prompt(info: Any) -> str:
    """A post as Stiennon et al. (2020) put it before their models."""
    return f"SUBREDDIT: r/{info['subreddit']}\n\nTITLE: {info['title']}\n\nPOST: {info['post']}\n\nTL;DR:"


def tldr_comparisons(folder: Path, split: str = "train") -> Read:
    """The comparisons of TL;DR: `comparisons/*.json`, lines of {info, summaries: [{text}, {text}], choice, split}.

    split: "train", "valid1" or "valid2". Comparisons of CNN/DailyMail articles, which have no subreddit, are left out.
    """

    def pair(item: Any) -> tuple[str, str, str] | None:
        if item["split"] != split or not item["info"].get("subreddit"):
            return None
        choice = item["choice"]
        if type(choice) is not int or choice not in (0, 1) or len(item["summaries"]) != 2:
            raise ValueError(f"choice must be 0 or 1, of two summaries, not {choice!r} of {len(item['summaries'])}")
        texts = [summary["text"] for summary in item["summaries"]]
        return tldr_prompt(item["info"]), texts[choice], texts[1 - choice]

    return read(sorted((folder / "comparisons").glob("*.json*")), pair)


def tldr_posts(folder: Path) -> list[Post]:
    """Posts of the test split with their authors' own summaries: `test.jsonl`, of {subreddit, title, post, summary}.

    ValueError where a line lacks one of these.
    """
    return [post(where, item, tldr_prompt, "summary") for where, item in lines([folder / "test.jsonl"])]


def cnn_dm_articles(folder: Path) -> list[Post]:
    """Articles of CNN/DailyMail with their highlights: `test.jsonl`, lines of {article, highlights}."""

    def prompt(item: Any) -> str:
        return f"{item['article']}\n\nTL;DR:"

    return [post(where, item, prompt, "highlights") for where, item in lines([folder / "test.jsonl"])]


def post(where: str, item: Any, prompt: Any, reference: str) -> Post:
    try:
        return Post(prompt(item), item[reference].strip())
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{where} must be an object with the fields of a post, not {item!r:.80}: {error!r}") from None


def hh_pairs(folder: Path, part: str = "train") -> Read:
    """Anthropic's helpful and harmless dialogues: `*/{part}.jsonl` or `.jsonl.gz`, lines of {chosen, rejected}, both
    whole transcripts of turns "\\n\\nHuman: …" and "\\n\\nAssistant: …".

    The prompt is what comes before the last "\\n\\nAssistant:", with it; a line where it differs between both is bad.
    """
    return read(sorted(folder.glob(f"*/{part}.jsonl*")), hh_pair)


def hh_pair(item: Any) -> tuple[str, str, str]:
    sides = [item[side].rpartition(ASSISTANT) for side in ("chosen", "rejected")]
    for side, (before, border, _) in zip(("chosen", "rejected"), sides, strict=True):
        if not border or not before.startswith(HUMAN):
            raise ValueError(f"{side} must begin with {HUMAN!r} and have an answer behind {ASSISTANT!r}")
    if sides[0][0] != sides[1][0]:
        raise ValueError("chosen and rejected must have the same turns before the last answer")
    return sides[0][0] + ASSISTANT, sides[0][2], sides[1][2]


def one_turn(pairs: Sequence[Preference]) -> list[Preference]:
    """Dialogues of a single question, as Section 6.2 has for Figure 3."""
    return [pair for pair in pairs if pair.prompt.count(HUMAN) == 1]
