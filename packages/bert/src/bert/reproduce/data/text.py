"""What the small models read: real text to pre-train on, its vocabulary, and the two labelled tasks, as token ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import NamedTuple

import torch
from jaxtyping import Int
from tokenizers import Tokenizer
from tokenizers.models import WordPiece as Model
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.trainers import WordPieceTrainer
from torch import Tensor

from bert.masking import NspPair, make_nsp_pairs
from bert.reproduce.data.corpora import Document, sentence_pairs_corpus, verse_pairs
from bert.reproduce.data.sets import labelled
from bert.wordpiece import SPECIAL

PAD, UNK, CLS, SEP, MASK = range(5)  # the ids of SPECIAL
VOCABULARY = 4000  # word pieces; a larger table would be most of the model, and of the time of its softmax
LENGTH = 32  # tokens of a pre-training pair, and the longest input of a task
# The Bible, because the pairs of the second task are verses; news posts, because the sentences of the first are modern
# English. As many words of either (716,000 and 718,000): two million tokens. With three times as many posts the masked
# model leaves the plateau later (`pretraining`).
CORPORA = ("bible", "newsgroups")
WORDS = 718_000
SENTENCES, PAIRS = "sentences", "pairs"
SIDE = 14  # tokens of each verse that are kept, its beginning: whole ones take twice the time, and are no harder
MOST = 5000  # pairs of verses to fine-tune on
HELD_OUT = 4000  # sentences: 1,060 are the test part, and 2,940 the last of the training part; of pairs there are 3,544


class Example(NamedTuple):
    """[CLS] A [SEP], or with B [SEP] after it; the sentence that each token is of; the label."""

    ids: list[int]
    types: list[int]
    label: int


@dataclass(frozen=True)
class Task:
    """`train` is in an order whose first n are a fair sample."""

    train: list[Example]
    dev: list[Example]
    test: list[Example]
    n_labels: int


@dataclass(frozen=True)
class Text:
    """Documents as lists of sentences, lists of ids: of every corpus those to learn from, and those held out."""

    tokenizer: Tokenizer
    train: list[list[list[list[int]]]]
    held_out: list[list[list[list[int]]]]


@cache
def text() -> Text:
    """Both corpora, and the vocabulary made from their training parts alone."""
    corpora = [sentence_pairs_corpus(name) for name in CORPORA]
    train = [_of_words(corpus.train, WORDS) for corpus in corpora]
    held_out = [_of_words(corpus.held_out, WORDS // 20) for corpus in corpora]
    tokenizer = vocabulary([sentence for part in train for document in part for sentence in document])
    return Text(tokenizer, [_encode(tokenizer, x) for x in train], [_encode(tokenizer, x) for x in held_out])


def vocabulary(texts: Sequence[str], size: int = VOCABULARY) -> Tokenizer:
    """WordPiece after BERT's basic tokenisation, uncased; SPECIAL are the first ids.

    The library gives its in-word characters ids as it meets them, in an order that changes from one process to the
    next, and the rest of the vocabulary with it. They are named beforehand, and so the same text gives the same ids.
    """

    def empty(vocab: dict[str, int]) -> Tokenizer:
        tokenizer = Tokenizer(Model(vocab, unk_token=SPECIAL[UNK]))
        tokenizer.normalizer = BertNormalizer(lowercase=True)  # pyright: ignore[reportAttributeAccessIssue]
        tokenizer.pre_tokenizer = BertPreTokenizer()  # pyright: ignore[reportAttributeAccessIssue]
        return tokenizer

    tokenizer = empty({})
    normalise = BertNormalizer(lowercase=True).normalize_str
    characters = sorted({c for text in texts for c in set(normalise(text)) if not c.isspace()})
    first = [*SPECIAL, *(f"##{c}" for c in characters)]
    tokenizer.train_from_iterator(texts, WordPieceTrainer(vocab_size=size, special_tokens=first, show_progress=False))
    return empty(tokenizer.get_vocab())  # where they are no special tokens


def _of_words(documents: Sequence[Document], words: int) -> list[Document]:
    """The first documents, until they have so many words."""
    found: list[Document] = []
    for document in documents:
        if words <= 0:
            break
        words -= sum(len(sentence.split()) for sentence in document)
        found.append(document)
    return found


def _encode(tokenizer: Tokenizer, documents: Sequence[Document]) -> list[list[list[int]]]:
    return [
        [found.ids for found in tokenizer.encode_batch(document, add_special_tokens=False) if found.ids]
        for document in documents
    ]


def passes(seed: int, *, held_out: bool = False) -> Iterator[list[NspPair]]:
    """Passes over the text without end, each in pairs of its own of at most LENGTH tokens, mixed.

    A random B comes from any document of any corpus.
    """
    documents = [document for part in (text().held_out if held_out else text().train) for document in part]
    generator, order = torch.Generator().manual_seed(seed), Random(seed)
    while True:
        found = make_nsp_pairs(documents, generator=generator, max_tokens=LENGTH)
        order.shuffle(found)
        yield found


def pack(a: Sequence[int], b: Sequence[int] | None, label: int) -> Example:
    """Figure 2, cut to LENGTH tokens at the end of a single sentence; a pair has to fit."""
    if b is None:
        ids = [CLS, *a[: LENGTH - 2], SEP]
        return Example(ids, [0] * len(ids), label)
    return Example([CLS, *a, SEP, *b, SEP], [0] * (len(a) + 2) + [1] * (len(b) + 1), label)


@cache
def task(name: str) -> Task:
    """Movie sentences (positive or negative), or pairs of verses (the same in two translations, or neighbours).

    Of a verse the first SIDE tokens are kept.
    """
    if name == SENTENCES:
        data = labelled("movie_sentences")
        spare = HELD_OUT - len(data.test)
        parts = (data.train[:-spare], data.dev, data.test + data.train[-spare:])
        return Task(*([pack(ids, None, label) for ids, label in _encoded(part)] for part in parts), n_labels=2)
    verses = verse_pairs()
    found: list[list[Example]] = []
    for part in (verses.train[:MOST], verses.dev, verses.test[:HELD_OUT]):
        first, second = (
            _encoded(side) for side in ([(a, label) for a, _, label in part], [(b, label) for _, b, label in part])
        )
        found.append([pack(a[:SIDE], b[:SIDE], label) for (a, label), (b, _) in zip(first, second, strict=True)])
    return Task(*found, n_labels=2)


def _encoded(texts: Sequence[tuple[str, int]]) -> list[tuple[list[int], int]]:
    found = text().tokenizer.encode_batch([each for each, _ in texts], add_special_tokens=False)
    return [(one.ids, label) for one, (_, label) in zip(found, texts, strict=True)]


def ends_of(tokens: Tokenizer) -> tuple[int, int]:
    """The ids of [CLS] and [SEP]; ValueError where the vocabulary lacks one."""
    cls, sep = tokens.token_to_id("[CLS]"), tokens.token_to_id("[SEP]")
    if cls is None or sep is None:
        raise ValueError("the vocabulary must have [CLS] and [SEP]")
    return cls, sep


def tensors(
    examples: Sequence[Example], pad: int = PAD
) -> tuple[Int[Tensor, "batch seq"], Int[Tensor, "batch seq"], Int[Tensor, "batch seq"], Int[Tensor, " batch"]]:
    """ids, types, mask, labels; padded to the longest."""
    longest = max(len(example.ids) for example in examples)
    ids = torch.full((len(examples), longest), pad)
    types, mask = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        types[row, : len(example.types)] = torch.tensor(example.types)
        mask[row, : len(example.ids)] = 1
    return ids, types, mask, torch.tensor([example.label for example in examples])


def batches(examples: Sequence[Example], size: int, epochs: int, seed: int) -> Iterator[list[Example]]:
    """So many passes, each in an order of its own from the seed, with examples of like length together."""
    draw = Random(seed)
    for _ in range(epochs):
        order = sorted(examples, key=lambda example: len(example.ids) + 8 * draw.random())
        groups = [order[i : i + size] for i in range(0, len(order), size)]
        draw.shuffle(groups)
        yield from groups
