"""Section 3: WordPiece (Wu et al. 2016) after BERT's basic tokenisation, by which text becomes token ids.

It splits as the tokenizers library does, character by character, but for what Unicode has added since its version 8
(2015), whose properties that library does not know, and 256 rare Chinese characters (U+2B820 to U+2B91F) that it has
lost by a slip of a digit. In Greek capitals every Σ becomes σ, there too; in the authors' code the last one is ς.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from bert.arguments import check_flag, whole

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_ANY_SPECIAL = re.compile(f"({'|'.join(map(re.escape, SPECIAL))})")
_LONGEST_WORD = 100  # characters; longer ones are [UNK]
_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))

# Chinese characters, as the authors' code has them: not Hangul, not Kana
_CHINESE = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip


# --- Basic tokenisation: text to words ---


class _Clean(dict[int, str]):
    """What each character becomes at first: nothing (control), a space, itself between spaces (Chinese), or itself."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        category = unicodedata.category(char)
        if char in "\t\n\r" or category.startswith("Z"):
            result = " "
        elif char in "\0\ufffd" or category in ("Cc", "Cf", "Co", "Cs"):
            result = ""
        elif any(first <= code <= last for first, last in _CHINESE):
            result = f" {char} "
        else:
            result = char
        self[code] = result
        return result


class _Split(dict[int, str]):
    """What each becomes then: punctuation stands between spaces; where `lower`, accents go and capitals are lowered."""

    def __init__(self, lower: bool) -> None:
        super().__init__()
        self.lower = lower

    def __missing__(self, code: int) -> str:
        char = chr(code)
        category = unicodedata.category(char)
        if category.startswith("P") or (code < 128 and char in "$+<=>^`|~"):
            result = f" {char} "
        elif self.lower:
            result = "" if category == "Mn" else char.lower()
        else:
            result = char
        self[code] = result
        return result


_CLEAN, _SPLIT = _Clean(), {lower: _Split(lower) for lower in (False, True)}


def words(text: str, *, lower: bool = True) -> list[str]:
    """BERT's basic tokenisation: words, punctuation marks and Chinese characters, each one apart.

    lower: lower-case, and without accents: the uncased models
    """
    _check_text(text)
    check_flag("lower", lower)
    text = text.translate(_CLEAN)
    if lower:
        text = unicodedata.normalize("NFD", text)  # a letter and its accents, one after the other
    return text.translate(_SPLIT[lower]).split()


# --- WordPiece: words to tokens ---


class WordPiece:
    """Text to token ids, `WordPiece("vocab.txt").encode("text")`; a batch for a Bert, `bert(*wordpiece(["text"]))`.

    vocab: ids by token, or a file with a token on each line, whose id is the line's number from 0. As in the tokenizers
    library, white space at a line's end is no part of the token, an empty line has a number too, and of lines that are
    the same the last one counts
    lower: whether the vocabulary is uncased

    Raises ValueError for a vocabulary without [PAD], [UNK], [CLS], [SEP] or [MASK], or with an id twice or that is no
    whole number, and for a file that is not UTF-8 or has a byte order mark.
    """

    def __init__(self, vocab: Mapping[str, int] | str | Path, lower: bool = True) -> None:
        check_flag("lower", lower)
        self.vocab = _ids_by_token(vocab) if isinstance(vocab, Mapping) else _read(vocab)
        missing = [token for token in SPECIAL if token not in self.vocab]
        if missing:
            raise ValueError(f"vocab must have {', '.join(SPECIAL)}, and does not have {', '.join(missing)}")
        if len(set(self.vocab.values())) < len(self.vocab):
            raise ValueError("vocab must have an id for each token, and has one for two of them")
        self.lower = lower
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (self.vocab[token] for token in SPECIAL)
        self._longest = max(map(len, self.vocab))
        self._known: dict[str, list[str]] = {}

    def tokens(self, text: str) -> list[str]:
        """The word pieces of a text; those within a word begin with ##. [MASK] and its kind are left as they are."""
        _check_text(text)
        if "[" not in text:
            return self._tokens(text)
        parts = _ANY_SPECIAL.split(text)  # at odd places the special tokens
        return [token for i, part in enumerate(parts) for token in ([part] if i % 2 else self._tokens(part))]

    def encode(self, text: str) -> list[int]:
        """The ids of `tokens`, without [CLS] and [SEP]."""
        return [self.vocab[token] for token in self.tokens(text)]

    def pack(self, a: Sequence[int], b: Sequence[int] | None = None) -> tuple[list[int], list[int]]:
        """Figure 2: [CLS] a [SEP], or [CLS] a [SEP] b [SEP]; and the segment of each token, 0 or 1."""
        first = [self.cls_id, *token_ids("a", a), self.sep_id]
        second = [] if b is None else [*token_ids("b", b), self.sep_id]
        return first + second, [0] * len(first) + [1] * len(second)

    def __call__(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, max_tokens: int | None = None
    ) -> tuple[Int[Tensor, "batch seq"], Int[Tensor, "batch seq"], Int[Tensor, "batch seq"]]:
        """What a Bert takes: input_ids, token_type_ids and attention_mask, padded to the longest row.

        pairs: sentences B, one for each of the texts. max_tokens: cut longer rows to so many, at the end of the longer
        of the two sentences.

        Raises ValueError for no texts, pairs of another number, what is no list of strings, and max_tokens that leaves
        no room or is no whole number.
        """
        texts, pairs = _strings("texts", texts), None if pairs is None else _strings("pairs", pairs)
        if pairs is not None and len(pairs) != len(texts):
            raise ValueError(f"pairs must be one for each of {len(texts)} texts, got {len(pairs)}")
        specials = 2 if pairs is None else 3
        if max_tokens is not None and not whole(max_tokens):
            raise ValueError(f"max_tokens must be a whole number, got {max_tokens!r}")
        if max_tokens is not None and max_tokens < specials:
            raise ValueError(f"max_tokens must be at least {specials}, those of [CLS] and [SEP], got {max_tokens}")
        rows: list[tuple[list[int], list[int]]] = []
        for i, text in enumerate(texts):
            a, b = self.encode(text), None if pairs is None else self.encode(pairs[i])
            if max_tokens is not None:
                a, b = _cut(a, b, max_tokens - specials)
            rows.append(self.pack(a, b))
        longest = max(len(ids) for ids, _ in rows)
        padded = [[*ids, *[self.pad_id] * (longest - len(ids))] for ids, _ in rows]
        types = [[*types, *[0] * (longest - len(types))] for _, types in rows]
        mask = [[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in rows]
        return torch.tensor(padded), torch.tensor(types), torch.tensor(mask)

    def _tokens(self, text: str) -> list[str]:
        known = self._known
        found: list[str] = []
        for word in words(text, lower=self.lower):
            if word not in known:
                if len(known) > 200_000:  # enough for a book; a corpus would fill the memory
                    known.clear()
                known[word] = self._pieces(word)
            found += known[word]
        return found

    def _pieces(self, word: str) -> list[str]:
        """The longest token that the word begins with, then the longest ## that goes on, until its end."""
        if len(word) > _LONGEST_WORD:
            return ["[UNK]"]
        pieces: list[str] = []
        start = 0
        while start < len(word):
            for stop in range(min(len(word), start + self._longest), start, -1):
                piece = word[start:stop] if start == 0 else "##" + word[start:stop]
                if piece in self.vocab:
                    break
            else:
                return ["[UNK]"]
            pieces.append(piece)
            start = stop
        return pieces


def _read(file: str | Path) -> dict[str, int]:
    try:
        path = Path(file)
    except TypeError:
        raise ValueError(f"vocab must be ids by token or a file, got {file!r}") from None
    content = path.read_bytes()  # as text, a carriage return within a line would end it
    if content.startswith(codecs.BOM_UTF8):
        raise ValueError(f"{path} must not begin with a byte order mark, which would belong to the token of line 1")
    try:
        lines = content.decode().removesuffix("\n").split("\n")  # not splitlines: U+2028 ends none
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path} must be UTF-8, and line {line} is not") from None
    return {token.rstrip(_SPACE): i for i, token in enumerate(lines)}  # of the same ones the last


def _cut(a: list[int], b: list[int] | None, room: int) -> tuple[list[int], list[int] | None]:
    """Without the last tokens of the longer one, until there is room."""
    if b is None:
        return a[:room], None
    shorter = min(len(a), len(b), room // 2)
    if len(a) > len(b):
        return a[: room - shorter], b[:shorter]
    return a[:shorter], b[: room - shorter]


# --- What arguments may be ---


def _check_text(text: object) -> None:
    if not isinstance(text, str):
        raise ValueError(f"text must be a string, got {text!r}")


def _ids_by_token(vocab: Mapping[Any, Any]) -> dict[str, int]:
    for token, i in vocab.items():
        if not isinstance(token, str) or not whole(i) or i < 0:
            raise ValueError(
                f"vocab must give each token, a string, its id, a whole number from 0 on, got {i!r} for {token!r}"
            )
    return {token: int(i) for token, i in vocab.items()}


def token_ids(name: str, ids: Any) -> list[int]:
    found: list[Any] = list(ids) if isinstance(ids, Iterable) and not isinstance(ids, str | bytes) else [None]
    if not set(map(type, found)) <= {int} and not all(map(whole, found)):
        raise ValueError(f"{name} must be a list of token ids, got {ids!r}")
    return [int(i) for i in found]


def _strings(name: str, texts: Any) -> list[str]:
    """The characters of a string are none, nor is what has no order."""
    good = isinstance(texts, Iterable) and not isinstance(texts, str | bytes | Mapping | Set)
    found: list[Any] = list(texts) if good else []
    if not found:
        raise ValueError(f"{name} must be a list of strings, and not empty, got {texts!r}")
    for i, text in enumerate(found):
        if not isinstance(text, str):
            raise ValueError(f"{name} must be a list of strings, and not empty, got {text!r} in place {i}")
    return found
