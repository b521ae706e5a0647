"""SQuAD: windows, spans and the published measures worked out by hand; and a tiny file from its text to its scores."""

from __future__ import annotations

import json
import re

import pytest
import torch
from bert_cases import checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bert.pretrained import load_pretrained
from bert.reproduce.data.text import Example
from bert.reproduce.paper import squad
from bert.reproduce.paper.published import tokenizer
from bert.reproduce.paper.squad import Question, SpanModel, Window, best_span, f1, plain, read_squad, scores, windows

WORDS = [f"w{i}" for i in range(20)] + ["q", "is", "here", "##s", "."]
CLS, SEP, FIRST = 2, 3, 5  # [CLS], [SEP], and w0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("squad"), WORDS, dropout=0.0)


@pytest.fixture(scope="module")
def tokens(folder):
    return tokenizer(folder)


# ------------------------------------------------------------------------------------- measures


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The Denver Broncos!", ["denver", "broncos"]),
        ("an  apple, a day", ["apple", "day"]),
        ("theatre anatomy", ["theatre", "anatomy"]),
        ("U.S.-led", ["usled"]),
        ("a", []),
    ],
)
def test_words_that_count(text, words):
    assert plain(text) == words


@pytest.mark.parametrize(
    ("found", "wanted", "expected"),
    [
        ("the Denver Broncos", "Denver Broncos.", 1.0),
        ("Denver", "Denver Broncos", 2 / 3),  # all of one word, half of two
        ("Broncos of Denver Denver", "Denver Broncos", 2 * 2 / (4 + 2)),  # a word counts as often as in both
        ("Carolina", "Denver", 0.0),
        ("", "Denver", 0.0),
    ],
)
def test_f1(found, wanted, expected):
    assert f1(found, wanted) == pytest.approx(expected)


def test_scores_are_against_the_answer_that_suits_best():
    def asked(*answers):
        return Question("", "", "", list(answers), 0)

    found = scores(["Denver", "the cat", "no"], [asked("Denver Broncos", "denver"), asked("cat sat"), asked("yes")])
    assert found == {"em": pytest.approx(100 / 3), "f1": pytest.approx(100 * (1 + 2 / 3 + 0) / 3)}


# ------------------------------------------------------------------------------------- windows


def question(paragraph, answer, asked="q q"):
    return Question("1", asked, paragraph, [answer], paragraph.index(answer))


def paragraph(n):
    return " ".join(f"w{i}" for i in range(n))


def best_of(window):
    """The words that are best seen in this window."""
    places = [place for place, here in zip(window.places, window.best, strict=True) if here]
    return [paragraph(13)[left:right] for left, right in places]


def test_windows_by_hand(tokens, monkeypatch):
    """Thirteen tokens in windows of seven, four apart; the answer is tokens 5 and 6, whole in two of them."""
    monkeypatch.setattr(squad, "STRIDE", 4)
    found = windows([question(paragraph(13), "w5 w6")], tokens, 12)
    head = [CLS, FIRST + 20, FIRST + 20, SEP]
    parts = [range(7), range(4, 11), range(8, 13)]
    for window, part in zip(found, parts, strict=True):
        assert window.example == Example([*head, *(FIRST + i for i in part), SEP], [0] * 4 + [1] * (len(part) + 1), 0)
        text = [paragraph(13)[left:right] for left, right in window.places]
        assert text == ["", "", "", "", *(f"w{i}" for i in part), ""]
        assert window.question == 0
    assert [(window.start, window.end) for window in found] == [(9, 10), (5, 6), (0, 0)]
    # 5 has one token beside it in two windows, and is of the first; 9 too, and is of the longer one
    best = [[int(text[1:]) for text in texts] for texts in map(best_of, found)]
    assert best == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9], [10, 11, 12]]
    assert not any(window.best[i] for window in found for i in (0, 1, 2, 3, -1))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 12), st.integers(0, 39))
def test_every_token_is_best_in_one_window_that_has_it(tokens, n, stride, room, answer):
    answer %= n
    words = [f"w{i % 20}" for i in range(n)]
    start = sum(len(word) + 1 for word in words[:answer])
    asked = Question("1", "q", " ".join(words), [words[answer]], start)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(squad, "STRIDE", min(stride, room))
        found = windows([asked], tokens, room + 4)
    best = [window.places[i] for window in found for i, here in enumerate(window.best) if here]
    assert sorted(best) == sorted({place for window in found for place in window.places} - {(0, 0)})
    assert len(best) == n
    for window in found:
        assert len(window.example.ids) <= room + 4
        inside = (start, start + len(words[answer])) in window.places
        assert (window.start > 0) == (window.end > 0) == inside
        if inside:
            assert window.places[window.start][0] == start and window.start == window.end


def test_long_questions_are_cut(tokens):
    (window,) = windows([question("w1 w2", "w2", asked="q " * 100)], tokens, 384)
    assert window.example.types.count(0) == squad.QUESTION + 2 and window.start == squad.QUESTION + 3


def test_an_answer_within_a_word_takes_the_tokens_that_it_touches(tokens):
    (window,) = windows([question("w1 heres w2", "s w2")], tokens, 20)  # here ##s
    assert (window.places[window.start], window.places[window.end]) == ((7, 8), (9, 11))


# ------------------------------------------------------------------------------------- spans


def spanned(starts, ends, best=None, types=(0, 0, 1, 1, 1, 1)):
    """[CLS] [SEP] and three tokens of the paragraph, "a", "b" and "c", with [SEP] after them."""
    places = [(0, 0), (0, 0), (0, 1), (2, 3), (4, 5), (0, 0)]
    window = Window(
        Example([2, 3, 5, 6, 7, 3], list(types), 0), 0, places, best or [False] * 2 + [True] * 3 + [False], 0, 0
    )
    return best_span(torch.tensor([starts, ends]).T.float(), window)


def test_the_best_span_has_the_largest_sum():
    assert spanned([0, 0, 1, 5, 2, 0], [0, 0, 4, 1, 3, 0]) == (8.0, (2, 5))
    assert spanned([0, 0, 1, 2, 5, 0], [0, 0, 9, 1, 3, 0]) == (10.0, (0, 1))  # the end is not before the start


def test_no_span_is_in_the_question_or_at_its_ends():
    assert spanned([9, 9, 1, 0, 0, 9], [9, 9, 1, 0, 0, 9]) == (2.0, (0, 1))


def test_a_span_begins_where_it_is_seen_best():
    assert spanned([0, 0, 9, 1, 0, 0], [0, 0, 0, 2, 0, 0], [False] * 3 + [True] * 2 + [False]) == (3.0, (2, 3))


def test_spans_are_not_too_long(monkeypatch):
    starts, ends = [0, 0, 5, 0, 3, 0], [0, 0, 0, 0, 5, 0]
    assert spanned(starts, ends) == (10.0, (0, 5))
    monkeypatch.setattr(squad, "ANSWER", 2)
    assert spanned(starts, ends) == (8.0, (4, 5))


def test_padding_is_no_place_for_an_answer():
    window = Window(
        Example([2, 3, 5, 3], [0, 0, 1, 1], 0), 0, [(0, 0), (0, 0), (0, 1), (0, 0)], [False, False, True, False], 0, 0
    )
    logits = torch.zeros(9, 2)
    logits[5:] = 7
    assert best_span(logits, window) == (0.0, (0, 1))


class Pointing(nn.Module):
    """Starts and ends where the largest id is, with the id as the score."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, ids, types, mask):
        largest = (ids == (ids * types).max(1, keepdim=True).values) & (types == 1)
        return torch.where(largest, ids, 0)[..., None].expand(-1, -1, 2).float() + self.weight


def test_the_answer_is_the_best_of_all_windows(tokens, monkeypatch):
    monkeypatch.setattr(squad, "STRIDE", 4)
    asked = [question("w1 w2 w19 w3 w4 w5 w6 w7 w18 w8 w9", "w1"), question("w3 w1 w2", "w3")]
    assert squad.answers(Pointing(), windows(asked, tokens, 12), asked) == ["w19", "w3"]
    asked = [asked[0]._replace(paragraph="w1 w2 w3 w4 w5 w6 w7 w18 w8 w19 w9", start=0)]
    assert squad.answers(Pointing(), windows(asked, tokens, 12), asked) == ["w19"]


def test_a_model_says_nothing_about_padding(folder):
    model = SpanModel(load_pretrained(folder)).eval()
    ids, mask = torch.tensor([[2, 5, 6, 3], [2, 5, 3, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    logits = model(ids, torch.zeros_like(ids), mask)
    assert logits.shape == (2, 4, 2)
    assert (logits[1, 3] == torch.finfo(torch.float32).min).all() and logits[mask == 1].abs().max() < 100
    torch.testing.assert_close(logits[1:, :3], model(ids[1:, :3], torch.zeros(1, 3).long(), mask[1:, :3]))


# ------------------------------------------------------------------------------------- the file


def entry(context, *answers, start=None, name="1"):
    given = [{"text": text, "answer_start": context.index(text) if start is None else start} for text in answers]
    return {"context": context, "qas": [{"id": name, "question": "q", "answers": given}]}


def write(path, *paragraphs):
    path.write_text(json.dumps({"version": "1.1", "data": [{"title": "", "paragraphs": list(paragraphs)}]}), "utf-8")
    return path


def test_a_file_is_read(tmp_path):
    file = write(tmp_path / "dev.json", entry("Où est w1?", "w1", "est w1"), entry("w2 w3", "w3", name="2"))
    assert read_squad(file) == [
        Question("1", "q", "Où est w1?", ["w1", "est w1"], 7), Question("2", "q", "w2 w3", ["w3"], 3),
    ]  # fmt: skip


def test_an_answer_that_stands_elsewhere_is_named(tmp_path):
    file = write(tmp_path / "dev.json", entry("w2 w3", "w3", name="a"), entry("w2 w3", "w3", start=2, name="b"))
    with pytest.raises(ValueError, match=f"^{re.escape(str(file))}: the answer of b does not stand at character 2$"):
        read_squad(file)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"data": [{"paragraphs": [{"qas": []', "JSONDecodeError"),
        ('{"rows": []}', "KeyError: 'data'"),
        ('[{"title": ""}]', "TypeError"),
        (json.dumps({"data": [{"paragraphs": [entry("w1")]}]}), "IndexError"),
    ],
    ids=["cut short", "rows", "a list", "no answer"],
)
def test_a_file_of_another_layout_is_named(text, what, tmp_path):
    file = tmp_path / "train.json"
    file.write_text(text, "utf-8")
    with pytest.raises(ValueError, match=f"^{re.escape(str(file))} is not in SQuAD 1.1's layout: {what}"):
        read_squad(file)


def test_a_tiny_file_is_learned(folder, tokens, tmp_path):
    """From the file to the scores: the answer is what stands after "is"."""
    made = [entry(f"w{i % 7} w{i % 3} is w{8 + i % 11} w{i % 5} w{i % 2}", f"w{8 + i % 11}") for i in range(60)]
    train, dev = (
        read_squad(write(tmp_path / "train.json", *made[:44])),
        read_squad(write(tmp_path / "dev.json", *made[44:])),
    )
    torch.manual_seed(0)
    model = SpanModel(load_pretrained(folder, fused=True))
    before = scores(squad.answers(model, windows(dev, tokens, 16), dev), dev)
    squad.train_spans(model, windows(train, tokens, 16), epochs=25, rate=5e-3, batch=8, seed=0)
    after = scores(squad.answers(model, windows(dev, tokens, 16), dev), dev)
    assert before["em"] < 50 and after["em"] > 90 and after["f1"] >= after["em"]
