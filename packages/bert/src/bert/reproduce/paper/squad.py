"""SQuAD 1.1 as in Section 4.2: a start and an end vector, windows of a long paragraph, and the published measures."""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from tokenizers import Tokenizer
from torch import Tensor, nn

from bert.model import Bert, initialise
from bert.reproduce.data.text import Example, ends_of, tensors
from bert.reproduce.training.finetuning import adam

STRIDE, QUESTION, ANSWER = 128, 64, 30  # tokens: the authors' code
BEST = 20  # likeliest starts, and ends, that are looked at: theirs too


class Question(NamedTuple):
    """answers: the texts that count as right; start: the first one's place in the paragraph, in characters."""

    id: str
    question: str
    paragraph: str
    answers: list[str]
    start: int


class Window(NamedTuple):
    """[CLS] question [SEP] part of the paragraph [SEP]; which question of the list it is of.

    places: of each token, from and to which character of the paragraph it reaches; (0, 0) where it is not of it
    best: of each token, whether no other window shows more of what stands around it
    start, end: the answer's first and last token; 0, [CLS], where this window does not hold it
    """

    example: Example
    question: int
    places: list[tuple[int, int]]
    best: list[bool]
    start: int
    end: int


class SpanModel(nn.Module):
    """Section 4.2: S·T_i and E·T_i, of each position the logit that the answer starts, or ends, there."""

    def __init__(self, bert: Bert) -> None:
        super().__init__()
        self.bert = bert
        self.ends = nn.Linear(bert.config.hidden_size, 2)
        initialise(self.ends, bert.config.init_std)

    def forward(
        self, ids: Int[Tensor, "batch seq"], types: Int[Tensor, "batch seq"], mask: Int[Tensor, "batch seq"]
    ) -> Float[Tensor, "batch seq 2"]:
        hidden, _ = self.bert(ids, types, mask)
        logits = self.ends(hidden)
        return logits.masked_fill(mask[..., None] == 0, torch.finfo(logits.dtype).min)


def read_squad(file: Path) -> list[Question]:
    """The questions of train-v1.1.json or dev-v1.1.json.

    Raises ValueError for a file of another layout, and for an answer that does not stand where the file says.
    """
    found: list[Question] = []
    try:
        for article in json.loads(file.read_text("utf-8"))["data"]:
            for paragraph in article["paragraphs"]:
                for asked in paragraph["qas"]:
                    texts, start = [each["text"] for each in asked["answers"]], asked["answers"][0]["answer_start"]
                    found.append(Question(asked["id"], asked["question"], paragraph["context"], texts, start))
    except (KeyError, IndexError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file} is not in SQuAD 1.1's layout: {type(error).__name__}: {error}") from None
    for each in found:
        if not each.paragraph.startswith(each.answers[0], each.start):
            raise ValueError(f"{file}: the answer of {each.id} does not stand at character {each.start}")
    return found


def windows(questions: Sequence[Question], tokens: Tokenizer, length: int) -> list[Window]:
    """Every paragraph in windows of at most `length` tokens with the question, STRIDE tokens apart."""
    cls, sep = ends_of(tokens)
    asked = tokens.encode_batch([each.question for each in questions], add_special_tokens=False)
    read = tokens.encode_batch([each.paragraph for each in questions], add_special_tokens=False)
    found: list[Window] = []
    for index, (question, a, b) in enumerate(zip(questions, asked, read, strict=True)):
        head = [cls, *a.ids[:QUESTION], sep]
        room = length - len(head) - 1
        stop = question.start + len(question.answers[0])
        inside = [i for i, (left, right) in enumerate(b.offsets) if right > question.start and left < stop]
        begins = list(range(0, max(len(b.ids) - room, 0) + STRIDE, STRIDE))
        spans = [(begin, min(begin + room, len(b.ids))) for begin in begins if begin < len(b.ids)]
        for begin, end in spans:
            ids = [*head, *b.ids[begin:end], sep]
            types = [0] * len(head) + [1] * (end - begin + 1)
            places = [(0, 0)] * len(head) + b.offsets[begin:end] + [(0, 0)]
            best = [False] * len(head) + [_widest(i, spans) == (begin, end) for i in range(begin, end)] + [False]
            holds = bool(inside) and begin <= inside[0] and inside[-1] < end
            first, last = (i - begin + len(head) if holds else 0 for i in (inside[0], inside[-1])) if inside else (0, 0)
            found.append(Window(Example(ids, types, 0), index, places, best, first, last))
    return found


def _widest(i: int, spans: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The window in which the token has the most tokens around it, on the side where it has fewer."""
    around = [(min(i - begin, end - 1 - i) + 0.01 * (end - begin), (begin, end)) for begin, end in spans
              if begin <= i < end]  # fmt: skip
    return max(around, key=lambda found: found[0])[1]


def train_spans(model: SpanModel, data: Sequence[Window], *, epochs: int, rate: float, batch: int, seed: int) -> None:
    """Section 4.2: the log-likelihoods of the right start and of the right end."""
    draw, device = Random(seed), next(model.parameters()).device
    feed: list[list[Window]] = []
    for _ in range(epochs):
        order = draw.sample(list(data), len(data))
        feed += [order[i : i + batch] for i in range(0, len(order), batch)]
    step = adam(model, [{"params": model.parameters()}], rate, len(feed))
    model.train()
    for group in feed:
        ids, types, mask, _ = (x.to(device) for x in tensors([window.example for window in group]))
        wanted = torch.tensor([[window.start, window.end] for window in group], device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits = model(ids, types, mask)
        step(F.cross_entropy(logits.float(), wanted))
    model.eval()


@torch.no_grad()
def answers(model: SpanModel, data: Sequence[Window], questions: Sequence[Question]) -> list[str]:
    """Of each question the span of the paragraph whose start and end have the largest sum, in any of its windows."""
    model.eval()
    device = next(model.parameters()).device
    found = [(float("-inf"), "")] * len(questions)
    for i in range(0, len(data), 64):
        group = data[i : i + 64]
        ids, types, mask, _ = (x.to(device) for x in tensors([window.example for window in group]))
        for window, logits in zip(group, model(ids, types, mask).float().cpu(), strict=True):
            score, (left, right) = best_span(logits, window)
            if score > found[window.question][0]:
                found[window.question] = score, questions[window.question].paragraph[left:right]
    return [text for _, text in found]


def best_span(logits: Float[Tensor, "seq 2"], window: Window) -> tuple[float, tuple[int, int]]:
    """Its score, and its place in the paragraph in characters; at most ANSWER tokens, begun where it is seen best."""
    length = len(window.example.ids)
    inside: Bool[Tensor, " seq"] = torch.tensor(window.example.types) == 1
    inside[-1] = False  # [SEP]
    start = logits[:length, 0].masked_fill(~inside | ~torch.tensor(window.best), -torch.inf)
    end = logits[:length, 1].masked_fill(~inside, -torch.inf)
    best = (float("-inf"), (0, 0))
    for i in start.topk(min(BEST, length)).indices.tolist():
        for j in end.topk(min(BEST, length)).indices.tolist():
            score = float(start[i] + end[j])
            if i <= j < i + ANSWER and score > best[0]:
                best = score, (window.places[i][0], window.places[j][1])
    return best


def plain(text: str) -> list[str]:
    """The published evaluation's words: lower case, without punctuation and articles."""
    kept = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", kept).split()


def f1(found: str, wanted: str) -> float:
    """Of the words of both, each as often as it occurs."""
    a, b = plain(found), plain(wanted)
    same = sum((Counter(a) & Counter(b)).values())
    return 2 * same / (len(a) + len(b)) if same else 0.0


def scores(found: Sequence[str], questions: Sequence[Question]) -> dict[str, float]:
    """Exact match and F1 in %, each against the answer that suits best."""
    pairs = list(zip(found, questions, strict=True))
    exact = [max(plain(text) == plain(answer) for answer in each.answers) for text, each in pairs]
    overlap = [max(f1(text, answer) for answer in each.answers) for text, each in pairs]
    return {"em": 100 * sum(exact) / len(pairs), "f1": 100 * sum(overlap) / len(pairs)}
