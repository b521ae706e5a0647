"""The small Chinese model: its vocabulary, what it reads and what it is tested on, and that a claim gets its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from itertools import islice
from types import SimpleNamespace

import pytest
import torch
from bert_cases import run_of, small

from bert.masking import IGNORE
from bert.reproduce.data import chinese as data
from bert.reproduce.data.text import CLS, MASK, PAD, SEP, UNK, Example, Task
from bert.reproduce.trend import chinese as trend
from bert.wordpiece import SPECIAL

LINES = [f"今天{'天气' * (i % 3)}很好{i}，我用 BERT{i % 7} 与 GPT{i % 5} 读书。" for i in range(60)]
REVIEWS = [(f"第{i}条评价：{'好' if i % 2 else '差'}", i % 2) for i in range(90)]


@pytest.fixture
def made_up(monkeypatch):
    """Sixty lines of a newspaper, and reviews of which ten of the training part are spared."""
    found = SimpleNamespace(train=REVIEWS[:50], dev=REVIEWS[50:70], test=REVIEWS[70:])
    monkeypatch.setattr(data, "news", lambda: [["新闻", f"{i}", "。"] for i in range(60)])
    monkeypatch.setattr(data, "labelled", {"chinese_reviews": found}.__getitem__)
    monkeypatch.setattr(data, "SPARE", 10)
    data.chinese.cache_clear()
    yield data.chinese()
    data.chinese.cache_clear()


def test_the_vocabulary_is_the_same_in_another_process():
    code = "import json, sys; from bert.reproduce.data.chinese import vocabulary; lines = json.load(sys.stdin); "
    code += "print(json.dumps([vocabulary(lines).get_vocab() for _ in range(2)]))"
    other = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(LINES), env=os.environ | {"PYTHONHASHSEED": "7"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    ours = data.vocabulary(LINES).get_vocab()
    assert json.loads(other.stdout) == [ours, ours]


def test_a_chinese_character_is_a_word_and_never_a_later_piece():
    tokenizer = data.vocabulary(LINES)
    vocab = tokenizer.get_vocab()
    assert [vocab[token] for token in SPECIAL] == [PAD, UNK, CLS, SEP, MASK]
    assert {"今", "##e", "##1"} <= set(vocab) and not [v for v in vocab if v[:2] == "##" and v[2:] > "\u4e00"]
    assert tokenizer.encode("天气 Bert3", add_special_tokens=False).tokens[:2] == ["天", "气"]
    assert tokenizer.encode("[CLS]", add_special_tokens=False).ids[0] != CLS


def test_the_vocabulary_has_the_most_frequent_characters(monkeypatch):
    monkeypatch.setattr(data, "CHARACTERS", 2)
    vocab = data.vocabulary(["好好好好", "学学学", "习习", "天"]).get_vocab()
    assert set(vocab) == {*SPECIAL, "好", "学"}


def test_what_is_held_out_is_not_learned_from(made_up):
    """The newspaper's lines 0, 20 and 40, the last ten reviews of the training part, and all of dev and test."""
    decode = made_up.tokenizer.decode_batch
    read = [text.replace(" ", "").replace("##", "") for text in decode(made_up.train)]
    assert read == [f"新闻{i}。" for i in range(60) if i % 20] + [text for text, _ in REVIEWS[:40]]
    held_out = [text.replace(" ", "").replace("##", "") for text in decode(made_up.held_out)]
    assert held_out[:3] == ["新闻0。", "新闻20。", "新闻40。"] and len(held_out) == 13
    task, (given, asked_for) = made_up.reviews, made_up.segmented
    assert [len(part) for part in (task.train, task.dev, task.test)] == [40, 20, 30]
    assert [each.label for each in task.test] == [label for _, label in REVIEWS[70:] + REVIEWS[40:50]]
    assert (len(given), len(asked_for)) == (57, 3)
    read = {"".join(made_up.tokenizer.decode(line[0].ids[1:-1]).replace("##", "").split()) for line in asked_for}
    assert read == {"新闻0。", "新闻20。", "新闻40。"}


def test_unknown_is_a_share_of_the_held_out_tokens(made_up):
    lines = [[7, UNK], [8, 9, UNK, 9]]
    assert data.ChineseText(made_up.tokenizer, [], lines, made_up.reviews, ([], [])).unknown == pytest.approx(100 / 3)


def test_a_pass_has_every_token_once_in_windows_that_fit():
    lines = [list(range(100, 100 + n)) for n in (1, 61, 62, 63, 200, 5)]
    passes = list(islice(data.windows(lines, 3), 2))
    for found in passes:
        tokens = Counter(i for each in found for i in each.ids[1:-1])
        assert tokens == Counter(i for line in lines for i in line)
        assert all(each.ids[0] == CLS and each.ids[-1] == SEP and 3 <= len(each.ids) <= data.LENGTH for each in found)
        assert all(each.types == [0] * len(each.ids) for each in found)
    assert passes[0] != passes[1] and next(data.windows(lines, 3)) == passes[0]
    assert sorted(each.ids for each in passes[0]) != sorted(each.ids for each in passes[1])  # other cuts


def test_a_review_is_cut_and_keeps_its_ends(made_up, monkeypatch):
    monkeypatch.setattr(data, "INSIDE", 4)
    data.chinese.cache_clear()
    for each in data.chinese().reviews.dev:
        assert len(each.ids) == len(each.types) == 6 and (each.ids[0], each.ids[-1]) == (CLS, SEP)


def test_what_is_asked_for_is_no_padding_and_the_same_for_all(made_up):
    (inputs, labels, mask), again = trend.asked(50)[0], trend.asked(50)[0]
    assert inputs.equal(again[0]) and labels.equal(again[1])
    found = labels != IGNORE
    assert found.any() and mask[found].all() and not torch.isin(labels[found], torch.tensor([PAD, CLS, SEP])).any()
    assert (inputs[~found & (mask == 1)] != MASK).all()


def test_a_model_of_frequencies_has_their_nats(made_up, monkeypatch):
    """A model whose logits are the log-frequencies, whatever it reads, is as good as `by_character` says."""
    ids = torch.tensor([i for line in made_up.train for i in line])
    logits = (torch.bincount(ids, minlength=data.PIECES) + 1.0).log()

    class Frequencies(torch.nn.Module):
        def loss(self, inputs, labels, attention_mask):
            wanted = labels[labels != IGNORE]
            return torch.nn.functional.cross_entropy(logits.expand(len(wanted), -1), wanted)

    assert trend.held_out_nats(Frequencies(), 50) == pytest.approx(trend.by_character(50), rel=1e-5)


def test_words_begin_where_the_editors_cut(monkeypatch):
    lines = [["江泽民", "发表", "１９９８年", "BERT讲话"], ["好"]]
    tokenizer = data.vocabulary(["".join(line) for line in lines])
    (whole,), (short,) = data.segmented(tokenizer, lines)
    tokens = [tokenizer.id_to_token(i) for i in whole.ids]
    begin = [token for token, start in zip(tokens[1:-1], whole.starts, strict=True) if start]
    assert tokens[0] == "[CLS]" and tokens[-1] == "[SEP]" and begin[:2] == ["江", "发"] and len(begin) == 4
    assert short == data.Line([CLS, tokenizer.token_to_id("好"), SEP], [1])
    monkeypatch.setattr(data, "INSIDE", 4)
    pieces = data.segmented(tokenizer, lines)[0]
    assert [len(piece.starts) for piece in pieces[:-1]] == [4] * (len(pieces) - 1)
    assert [x for piece in pieces for x in piece.starts] == whole.starts
    assert [i for piece in pieces for i in piece.ids[1:-1]] == whole.ids[1:-1]


def test_spans_are_the_words():
    assert trend.spans([1, 0, 1, 1]) == {(0, 2), (2, 3), (3, 4)}
    assert trend.spans([0, 0]) == {(0, 2)} and trend.spans([1]) == {(0, 1)}


class Cuts(torch.nn.Module):
    """Finds a word at every token that is even."""

    def forward(self, ids, mask):
        return torch.nn.functional.one_hot(1 - ids % 2, 2).float()


def test_f1_counts_words_of_which_both_ends_are_right():
    """By hand. Line 1: found (0,2) (2,4), wanted (0,2) (2,3) (3,4), 1 right. Line 2: found (0,1) (1,2), both right."""
    lines = [data.Line([CLS, 10, 11, 12, 13, SEP], [1, 0, 1, 1]), data.Line([CLS, 10, 12, SEP], [1, 1])]
    assert trend.f1_of_words(Cuts(), lines) == pytest.approx(100 * 2 * 3 / (2 + 3 + 2 + 2))


def test_what_begins_a_word_is_asked_of_tokens_alone():
    ids, starts, mask = trend.as_tensors([data.Line([CLS, 10, 11, SEP], [1, 0]), data.Line([CLS, 12, SEP], [1])])
    assert starts.tolist() == [[IGNORE, 1, 0, IGNORE], [IGNORE, 1, IGNORE, IGNORE]]
    assert mask.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]] and ids[1, 3] == PAD


def test_a_whole_quick_training_gives_what_is_kept(made_up, monkeypatch):
    """Real code from the pre-training to the accuracies; JSON can hold it; the seed alone decides."""
    monkeypatch.setattr(trend, "BATCH", 8)
    found = trend.train(run_of())
    assert set(found) == {"curve", "pre-trained", "from scratch"}
    for name in ("pre-trained", "from scratch"):
        assert len(found[name]["reviews"]) == 1 and {*found[name]["words"]} == {"100", "1000"}
        assert all(0 <= x <= 100 for x in (*found[name]["reviews"], *found[name]["words"]["100"]))
    assert [point["step"] for point in found["curve"]] == [2, 4, 8, 12, 16, 20]
    assert json.loads(json.dumps(found)) == found == trend.train(run_of())
    assert trend.train(run_of(1)) != found


def test_restarts_learn_from_other_reviews_and_the_same_lines(monkeypatch):
    seen, lines = [], []
    part = [Example([CLS, 9, SEP], [0] * 3, i) for i in range(4000)]
    given = [[data.Line([CLS, i, SEP], [1])] for i in range(2000)]
    text = SimpleNamespace(reviews=Task(part, part, part[:9], 2), segmented=(given, given[:5]))
    monkeypatch.setattr(trend, "chinese", lambda: text)
    monkeypatch.setattr(trend, "fine_tune", lambda model, examples, **given: seen.append((examples, given)))
    monkeypatch.setattr(trend, "tested", lambda model, examples: 50.0)
    monkeypatch.setattr(trend, "as_tensors", lambda group: lines.append(group) or as_tensors(group))
    assert trend.on_reviews(run_of(4, quick=False), small()) == [50.0] * 3
    assert [(each[0].label, len(each)) for each, _ in seen] == [(0, 1000), (1000, 1000), (2000, 1000)]
    assert [given["seed"] for _, given in seen] == [400, 401, 402]
    bert = small(vocab_size=3000)
    assert len(trend.on_words(run_of(quick=False), bert, 100)) == 2
    learned = [line.ids[1] for group in lines for line in group]
    assert Counter(learned) == Counter({i: 2 * 20 + (2 if i < 5 else 0) for i in range(100)})  # and 5 tested, twice


as_tensors = trend.as_tensors
