"""The data: sizes, nothing leaks between parts, texts are in the language they should be, bad input is named."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert.reproduce.data import corpora, sets
from bert.reproduce.data.sets import normalise

labelled = cache(sets.labelled)
corpus = cache(corpora.sentence_pairs_corpus)
verse_pairs = cache(corpora.verse_pairs)

# Few words, so that near-duplicates and texts with two labels abound.
text = st.lists(st.sampled_from(["a", "b", "C", "c,", "D", "E!", "f", "!"]), min_size=1, max_size=4).map(" ".join)
examples = st.lists(st.tuples(text, st.integers(0, 1)), max_size=200)


def assert_apart(*parts):
    seen: set[str] = set()
    for part in parts:
        texts = {normalise(text) for text in part}
        assert not texts & seen
        seen |= texts


@given(examples)
def test_parts_share_no_text_and_do_not_depend_on_order(made):
    first = sets.split(made, ["no", "yes"], "CC0-1.0")
    parts = (first.train, first.dev, first.test)
    assert_apart(*([text for text, _ in part] for part in parts))
    both = {normalise(text) for text, label in made if label} & {normalise(text) for text, label in made if not label}
    kept = [normalise(text) for part in parts for text, _ in part]
    assert sorted(kept) == sorted({normalise(text) for text, _ in made} - both - {""})
    again = sets.split([(text.upper(), label) for text, label in reversed(made)], ["no", "yes"], "CC0-1.0")
    for part, same in zip(parts, (again.train, again.dev, again.test), strict=True):
        assert [(normalise(text), label) for text, label in part] == [(normalise(text), label) for text, label in same]


def test_a_tenth_of_every_label():
    made = [(f"text {i}", int(i < 50)) for i in range(250)]
    parts = sets.split(made, ["no", "yes"], "CC0-1.0")
    counts = [Counter(label for _, label in part) for part in (parts.test, parts.dev, parts.train)]
    assert counts == [{0: 20, 1: 5}, {0: 20, 1: 5}, {0: 160, 1: 40}]


@pytest.mark.parametrize(
    ("name", "sizes", "labels", "share"),
    [
        ("newsgroups", (10_145, 1_116, 7_528), 20, 0.054),
        ("reuters52", (5_818, 621, 2_568), 52, 0.44),
        ("movie_sentences", (8_483, 1_060, 1_060), 2, 0.51),
        ("chinese_reviews", (13_841, 1_730, 1_730), 2, 0.53),
    ],
)
def test_the_real_sets(name, sizes, labels, share):
    data = labelled(name)
    parts = (data.train, data.dev, data.test)
    assert tuple(len(part) for part in parts) == sizes
    assert len(data.labels) == labels == len(set(data.labels))
    assert data.licence
    assert_apart(*([text for text, _ in part] for part in parts))
    assert {label for _, label in data.train} == set(range(labels))
    for part in parts:
        assert {label for _, label in part} <= set(range(labels))
        assert Counter(label for _, label in part).most_common(1)[0][1] / len(part) == pytest.approx(share, abs=0.02)
    assert all(text == text.strip() and normalise(text) for part in parts for text, _ in part)
    first = Counter(label for _, label in data.train[: len(data.train) // 10])  # a fair sample
    for label, count in Counter(label for _, label in data.train).most_common(2):
        assert first[label] == pytest.approx(count / 10, rel=0.4)


@pytest.mark.parametrize("name", ["newsgroups", "reuters52"])
def test_published_sets_are_lower_case_letters(name):
    data = labelled(name)
    assert all(re.fullmatch("[a-z ]+", text) for part in (data.train, data.dev, data.test) for text, _ in part)


def test_the_published_sizes():
    folder = sets.NEWSGROUPS_AND_REUTERS.path("orangecontrib/text/datasets")
    sizes = {path.stem: len(sets.read_tab(path)) for path in folder.glob("[2r]*.tab")}
    assert (sizes["20newsgroups-train"], sizes["20newsgroups-test"]) == (11_293, 7_528)
    assert (sizes["reuters-r52-train"], sizes["reuters-r52-test"]) == (6_532, 2_568)


def test_movie_sentences_are_english_and_reviews_chinese():
    movies = labelled("movie_sentences")
    assert sum("the" in text.casefold().split() for text, _ in movies.test) > 0.4 * len(movies.test)
    by_label = [" ".join(text for text, label in movies.train if label == which) for which in (0, 1)]
    assert by_label[0].count(" dull") > 3 * by_label[1].count(" dull")
    reviews = labelled("chinese_reviews")
    letters = "".join(text for text, _ in reviews.test)
    assert len(re.findall("[\u4e00-\u9fff]", letters)) > 0.7 * len(letters)
    assert all(re.search("[\u4e00-\u9fff]", text) for text, _ in reviews.train)


def test_the_real_verse_pairs():
    pairs = verse_pairs()
    assert [len(part) for part in (pairs.train, pairs.dev, pairs.test)] == [46_734, 2_202, 3_544]
    for part in (pairs.train, pairs.dev, pairs.test):
        assert sum(label for _, _, label in part) * 2 == len(part)
        assert all(normalise(a) != normalise(b) for a, b, _ in part)
        first = {label: sorted(a for a, _, same in part if same == label) for label in (0, 1)}
        assert first[0] == first[1]  # one side does not tell the label
    assert_apart(*({side for pair in part for side in pair[:2]} for part in (pairs.train, pairs.dev, pairs.test)))
    shared = [len(_words(a) & _words(b)) / len(_words(a) | _words(b)) for a, b, _ in pairs.test]
    right = sum((share > 0.3) == bool(label) for share, (_, _, label) in zip(shared, pairs.test, strict=True))
    assert right / len(shared) == pytest.approx(0.990, abs=0.0005)


def _words(text):
    return set(re.findall("[a-z]+", text.casefold()))


@pytest.mark.parametrize(
    ("name", "documents", "count", "words"),
    [
        ("django", (536, 61), (29_601, 3_001), 510_439),
        ("bible", (1_072, 47), (27_664, 1_347), 741_109),
        ("newsgroups", (8_958, 995), (104_835, 12_444), 2_702_429),
    ],
)
def test_the_real_corpora(name, documents, count, words):
    parts = corpus(name)
    both = (parts.train, parts.held_out)
    assert tuple(len(part) for part in both) == documents
    assert tuple(sum(map(len, part)) for part in both) == count
    assert sum(len(sentence.split()) for part in both for document in part for sentence in document) == words
    assert all(len(document) > 1 and all(document) for part in both for document in part)
    assert_apart(*([sentence for document in part for sentence in document] for part in both))
    assert parts.licence


def test_corpora_keep_tests_out():
    tested = {normalise(side) for pair in verse_pairs().test for side in pair[:2]}
    bible = corpus("bible")
    assert not tested & {normalise(v) for part in (bible.train, bible.held_out) for chapter in part for v in chapter}
    posts = labelled("newsgroups")
    trained = {normalise(text) for text, _ in posts.train}
    assert {normalise(" ".join(post)) for post in corpus("newsgroups").held_out} <= trained


def test_django_is_clean_english():
    parts = corpus("django")
    found = [sentence for document in parts.train for sentence in document]
    assert not [sentence for sentence in found if re.search(r"::|``|>>>|:\w+:`|\{%|==", sentence)]
    assert sum(sentence[0].isupper() for sentence in found) > 0.9 * len(found)
    assert sum("the" in sentence.casefold().split() for sentence in found) > 0.5 * len(found)


RST = """
=====
Title
=====

.. _label:

The *first* paragraph has a ``literal`` and :ref:`a link <target>`. It goes
on, e.g. With :class:`~package.module.Name`, and a `page`_ or `two
<address>`__::

    code = "This is not prose at all."

    It goes on being code.

* One item of a list is here.
* Another item goes
  on for two lines.

.. note::

    A note that is also prose.

.. code-block:: python

    # This is a comment in code.

.. A comment is not for readers.
   It goes on here.

``term``
    What the term means to us.

======  ======
A table of things | here.
======  ======
Back to normal text it goes.
"""


def test_prose():
    assert list(corpora.prose(RST)) == [
        "The first paragraph has a literal and a link. It goes on, e.g. With Name, and a page or two:",
        "One item of a list is here.",
        "Another item goes on for two lines.",
        "A note that is also prose.",
        "What the term means to us.",
    ]


@pytest.mark.parametrize(
    ("paragraph", "expected"),
    [
        ("One here. Two there! Is it?", ["One here.", "Two there!", "Is it?"]),
        ("See e.g. Django 5.2. It works.", ["See e.g. Django 5.2.", "It works."]),
        ('He said "no." Then left.', ['He said "no."', "Then left."]),
        ("By J. Smith and Dr. No at example.com. 3 more.", ["By J. Smith and Dr. No at example.com.", "3 more."]),
        ("no end", ["no end"]),
    ],
)
def test_sentences(paragraph, expected):
    assert corpora.sentences(paragraph) == expected


def test_a_held_out_sentence_is_in_no_training_document():
    made = [[f"This is {i}.", "Everyone says this.", f"And {i} it ends."] for i in range(20)]
    parts = corpora.hold_out([*made, made[0], ["Alone."]], "CC0-1.0")
    assert (len(parts.train), len(parts.held_out)) == (18, 2)
    assert all(len(document) == 3 for document in parts.held_out)
    assert all(len(document) == 2 and "Everyone says this." not in document for document in parts.train)


def bible(path, verses):
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE books (id INTEGER, sort_order INTEGER, canonical_name TEXT)")
        db.execute("CREATE TABLE verses (book_id INTEGER, chapter_number INTEGER, verse_number INTEGER, text TEXT)")
        db.executemany("INSERT INTO books VALUES (?, ?, ?)", [(1, 2, "Job"), (2, 1, "Genesis")])
        db.executemany("INSERT INTO verses VALUES (?, ?, ?, ?)", verses)
    return corpora.read_bible(path)


def test_verses_are_paired(tmp_path):
    old = bible(
        tmp_path / "old", [(1, 1, 1, "thou art"), (1, 1, 2, "he  sayeth"), (2, 1, 1, "same"), (2, 1, 2, "ye be")]
    )
    new = bible(
        tmp_path / "new", [(1, 1, 1, "you are"), (1, 1, 2, "he says"), (2, 1, 1, "Same."), (2, 1, 2, "you are")]
    )
    assert list(old) == [("Genesis", 1, 1), ("Genesis", 1, 2), ("Job", 1, 1), ("Job", 1, 2)]
    parts = corpora.pair_up(old, new)
    assert sorted(parts["test"]) == [
        ("he sayeth", "he says", 1),
        ("he sayeth", "you are", 0),
        ("thou art", "he says", 0),
        ("thou art", "you are", 1),
    ]
    assert parts["train"] == parts["dev"] == []  # "you are" is in the test, "same" in both versions


def test_bad_rows_are_named(tmp_path):
    (tmp_path / "a.tab").write_text("Category\tText\nd\tstring\nclass\t\n\nearn\ta text\nacq\n", "utf-8")
    with pytest.raises(ValueError, match=r"row 6 of a\.tab is 'acq': it should be a label, a tab and a text"):
        sets.read_tab(tmp_path / "a.tab")
    (tmp_path / "a.tab").write_text("Category\tText\nd\tstring\nclass\t\n \t\nearn\ta text\n", "utf-8")
    assert sets.read_tab(tmp_path / "a.tab") == [("earn", "a text")]
    assert sets.scored("1\t0.0\tso so\n2\t0.1\tgood\n3\t-2\tbad\n") == [("so so", 0), ("good", 1), ("bad", 0)]
    for bad in ("2\tgood", "2\tx\tgood", "2\t1\tgood\tmore"):
        with pytest.raises(ValueError, match="line 2 is '2.*it should be an id, a score and a text"):
            sets.scored(f"1\t1\tfine\n{bad}\n")


def test_unknown_names():
    accepted = "'newsgroups', 'reuters52', 'movie_sentences', 'chinese_reviews'"
    with pytest.raises(ValueError, match=f"'imdb' is unknown: it should be one of {accepted}"):
        sets.labelled("imdb")
    with pytest.raises(ValueError, match="'wiki' is unknown: it should be one of 'django', 'bible', 'newsgroups'"):
        corpora.sentence_pairs_corpus("wiki")


def test_tfidf_baseline_learns_from_words():
    pytest.importorskip("sklearn")
    made = [(f"{word} word{i % 7} word{i % 5}", label) for i in range(40) for label, word in enumerate(("bad", "good"))]
    assert sets.tfidf_baseline(made[:60], made[60:], ["good word1", "bad word2"]) == [1, 0]
