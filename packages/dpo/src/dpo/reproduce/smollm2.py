"""SmolLM2-135M-Instruct, and a few hundred pairs of people's prompts with two assistants' answers, English and Chinese.

The pairs are the demonstration sets of LLaMA-Factory: conversations in which one of two answers was preferred. Nothing
says by whom. In English the rejected answers are longer, in Chinese the chosen ones, so that length alone tells some of
the preference.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

from tokenizers import Tokenizer

from papertest.data import Sdist
from papertest.models import smollm2

from dpo.preferences import Encoded, Message, Preference, encode, read_preferences

DEMONSTRATIONS = Sdist(  # 5.2 MB; the wheel lacks the data
    "llamafactory",
    "0.9.5",
    "1702c0bfb864e80577a59521d2edcacd2aab05ec6aee06188fcba335a589681f",
    "Apache-2.0 (the package); the pairs' own terms are not stated",
)
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
TURN, END = "<|im_start|>", "<|im_end|>"
Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")


def render(messages: Sequence[Message]) -> str:
    """The model's own chat template up to where the answer begins, with its own system message where there is none."""
    if messages[0]["role"] != "system":
        messages = [{"role": "system", "content": SYSTEM}, *messages]
    return "".join(f"{TURN}{m['role']}\n{m['content']}{END}\n" for m in messages) + f"{TURN}assistant\n"


@cache
def preferences(language: Language) -> tuple[Preference, ...]:
    """The pairs of one language, in the file's order; RuntimeError where one of them can't be read."""
    pairs, report = read_preferences(DEMONSTRATIONS.path(f"llamafactory-0.9.5/data/dpo_{language}_demo.json"), render)
    if report.bad or report.equal:
        raise RuntimeError(f"the {language} pairs have bad lines {report.bad} and equal answers {report.equal}")
    return tuple(pairs)


def first_turn(preference: Preference) -> str:
    """What the user said first. Several pairs have the same: they have to be on one side of a split."""
    return preference.prompt.split(f"{TURN}user\n", 1)[1].split(END, 1)[0]


@cache
def tokenizer() -> Tokenizer:
    return smollm2()[1]


@cache
def encoded(language: Language) -> tuple[Encoded, ...]:
    """The pairs in tokens, whole; each answer ends with the template's end of a turn."""
    end = tokenizer().token_to_id(END)
    return tuple(encode(tokenizer(), pair, end_id=end) for pair in preferences(language))


def tokens(pair: Encoded) -> int:
    """Of the prompt, once, and of both answers."""
    return len(pair.prompt) + len(pair.chosen) + len(pair.rejected)


def split(language: Language, longest: int, held_out: float, seed: int) -> tuple[list[Encoded], list[Encoded]]:
    """Pairs of at most `longest` tokens, all others left out and none cut, for training and held out.

    First turns are drawn by the seed until their pairs are a share of `held_out`.
    """
    kept = [
        (first_turn(preference), pair)
        for preference, pair in zip(preferences(language), encoded(language), strict=True)
        if tokens(pair) <= longest
    ]
    counts = Counter(turn for turn, _ in kept)
    turns = sorted(counts)
    random.Random(seed).shuffle(turns)
    test: set[str] = set()
    while sum(counts[turn] for turn in test) < held_out * len(kept):
        test.add(turns.pop())
    return [pair for turn, pair in kept if turn not in test], [pair for turn, pair in kept if turn in test]


def lengths(pairs: Sequence[Encoded]) -> dict[str, Any]:
    """Mean tokens of each part, and the share of pairs whose chosen answer is shorter; equal lengths count half."""
    means = {part: sum(len(getattr(p, part)) for p in pairs) / len(pairs) for part in ("prompt", "chosen", "rejected")}
    shorter = sum((len(p.chosen) < len(p.rejected)) + (len(p.chosen) == len(p.rejected)) / 2 for p in pairs)
    return {"pairs": len(pairs), **means, "chosen_shorter": shorter / len(pairs)}
