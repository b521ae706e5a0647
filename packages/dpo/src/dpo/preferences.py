"""Pairs of answers: read, tokenised, and put into batches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from dpo.checks import kind, whole

Message = dict[str, str]
"""{"role": "system", "user" or "assistant", "content": …}, as chat templates take it."""


@dataclass(frozen=True)
class Preference:
    """A prompt x with the answer that was preferred, y_w, and the one that was not, y_l.

    Raises ValueError for what is not text, for an empty answer, and for two answers that are the same.
    """

    prompt: str
    chosen: str
    rejected: str

    def __post_init__(self) -> None:
        for name in ("prompt", "chosen", "rejected"):
            value = getattr(self, name)
            if not isinstance(value, str):
                raise ValueError(f"{name} must be text, got {kind(value)}")
            if not value and name != "prompt":
                raise ValueError(f"{name} must have at least one character, got an empty completion")
        if self.chosen == self.rejected:
            raise ValueError("rejected must differ from chosen, got the same text")


@dataclass(frozen=True)
class Report:
    """What became of a file: how many pairs were kept; the lines whose answers are equal; and for each bad line why.
    Of a JSON array the numbers are those of its items. Both count from 1."""

    kept: int
    equal: tuple[int, ...]
    bad: dict[int, str]


def last_message(messages: list[Message]) -> str:
    """A conversation of a single message as its text. Raises ValueError for others, which need a chat template."""
    if len(messages) != 1:
        raise ValueError(f"conversations must be one message, or render must be given, got {len(messages)} messages")
    return messages[0]["content"]


def read_preferences(
    path: str | Path, render: Callable[[list[Message]], str] = last_message
) -> tuple[list[Preference], Report]:
    """The pairs of a file of JSON lines, or of one JSON array, in UTF-8.

    Each has `prompt`, `chosen` and `rejected` as text, or is as llamafactory has it: `conversations` of {from, value},
    and {value} for `chosen` and `rejected`.
    render: a conversation's text up to where the answer begins, such as
        lambda messages: tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    A bad line is left out and reported by its number; so is a pair of equal answers. Blank lines are no lines at all.

    Raises ValueError for an array that is no JSON, and for a file in which nothing is kept.
    """
    kept: list[Preference] = []
    equal: list[int] = []
    bad: dict[int, str] = {}
    for number, read in _items(Path(path)):
        try:
            prompt, chosen, rejected = _fields(read(), render)
            if isinstance(chosen, str) and chosen and chosen == rejected:
                equal.append(number)
            else:
                kept.append(Preference(prompt, chosen, rejected))
        except ValueError as error:  # of which JSONDecodeError and UnicodeDecodeError are two
            bad[number] = str(error)
    if not kept:
        first = f"; the first bad one is {min(bad)}: {bad[min(bad)]}" if bad else ""
        raise ValueError(f"path must have at least one pair, got {path} with {len(equal)} equal pairs and {len(bad)} "
                         f"bad lines{first}")  # fmt: skip
    return kept, Report(len(kept), tuple(equal), bad)


def _items(path: Path) -> Iterator[tuple[int, Callable[[], Any]]]:
    """Number and reader of each. Lines end at \\n alone: JSON may have other separators inside its strings."""
    content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    if content.lstrip().startswith(b"["):
        try:
            array = json.loads(content)
        except ValueError as error:
            raise ValueError(f"path must be JSON lines or a JSON array, got {path}: {error}") from None
        for number, item in enumerate(array, 1):
            yield number, lambda item=item: item
    else:
        for number, line in enumerate(content.split(b"\n"), 1):
            if line.strip():
                yield number, lambda line=line: json.loads(line.decode())


def _fields(item: Any, render: Callable[[list[Message]], str]) -> tuple[Any, Any, Any]:
    if not isinstance(item, dict):
        raise ValueError(f"a pair must be an object, got {kind(item)}")
    prompt_field = "conversations" if "conversations" in item else "prompt"
    missing = [name for name in (prompt_field, "chosen", "rejected") if name not in item]
    if missing:
        raise ValueError(f"a pair must have prompt (or conversations), chosen and rejected, got no {missing[0]}")
    prompt, chosen, rejected = item[prompt_field], item["chosen"], item["rejected"]
    if prompt_field == "prompt":
        return prompt, chosen, rejected
    roles = {"human": "user", "gpt": "assistant", "system": "system"}
    turns: list[Any] = (isinstance(prompt, list) and prompt) or [None]
    if not all(isinstance(t, dict) and t.get("from") in roles and isinstance(t.get("value"), str) for t in turns):
        raise ValueError("conversations must be a list of {from: human, gpt or system, value: text}")
    for name in ("chosen", "rejected"):
        if not isinstance(item[name], dict) or "value" not in item[name]:
            raise ValueError(f"{name} must be {{value: text}} beside conversations, got {kind(item[name])}")
    messages = [{"role": roles[turn["from"]], "content": turn["value"]} for turn in turns]
    return render(messages), chosen["value"], rejected["value"]


@dataclass(frozen=True)
class Encoded:
    """A pair in tokens. Each answer ends with the end token.

    straddled: a tokeniser given prompt and answer in one would have joined the end of the one to the start of the other
        in a single token, and the answer was tokenised by itself instead
    truncated: tokens that were cut from the prompt's start
    """

    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]
    straddled: bool = False
    truncated: int = 0


def encode(
    tokenizer: Any, preference: Preference, max_length: int | None = None, *, end_id: int | None = None
) -> Encoded:
    """Prompt and answers in tokens, the same prompt before both.

    tokenizer: of transformers or of tokenizers. What it puts in front by itself (a start token) stands there once, also
        where the text has it already; what it puts at the end does not
    max_length: of prompt and answer together. A prompt that is too long loses its start; an answer is never cut
    end_id: the token that ends an answer; None for the tokenizer's `eos_token_id`

    No token is in prompt and answer both. Where the tokens of prompt + answer do not begin with those of the prompt,
    the answer is tokenised by itself, as a policy would write it that has been given the prompt.

    Raises ValueError where no end token is known, for an answer without a token, for a prompt without one, which leaves
    the answer's first token unpredicted, and for an answer that leaves no place for the prompt in max_length.
    """
    if end_id is None:
        end_id = getattr(tokenizer, "eos_token_id", None)
    if type(end_id) is not int or end_id < 0:
        raise ValueError(f"end_id must be the token that ends an answer, got {end_id!r}, and the tokenizer has none")
    front = _front(tokenizer)
    prompt = _ids(tokenizer, preference.prompt)
    answers: list[tuple[int, ...]] = []
    straddled = False
    for name in ("chosen", "rejected"):
        text: str = getattr(preference, name)
        both = _ids(tokenizer, preference.prompt + text)
        if both[: len(prompt)] == prompt:
            answer = both[len(prompt) :]
        else:
            answer, straddled = _ids(tokenizer, text), True
        if not answer:
            raise ValueError(f"{name} must have at least one token, got none for {text!r}")
        answers.append(answer if answer[-1] == end_id else (*answer, end_id))
    if prompt[: len(front)] == front:
        prompt = prompt[len(front) :]
    truncated = 0
    if max_length is not None:
        whole("max_length", max_length)
        longest = max(map(len, answers))
        space = max_length - longest - len(front)
        if space < 0 or space + len(front) == 0:
            raise ValueError(f"max_length must have place for the answer and a token of the prompt, got {max_length} "
                             f"for an answer of {longest} tokens")  # fmt: skip
        truncated = max(0, len(prompt) - space)
        prompt = prompt[truncated:]
    if not front and not prompt:
        raise ValueError("prompt must have at least one token, or the tokenizer a start token, got neither")
    return Encoded(front + prompt, *answers, straddled=straddled, truncated=truncated)


def _ids(tokenizer: Any, text: str, special: bool = False) -> tuple[int, ...]:
    encoded = tokenizer.encode(text, add_special_tokens=special)
    return tuple(getattr(encoded, "ids", encoded))


def _front(tokenizer: Any) -> tuple[int, ...]:
    """The special tokens that the tokenizer puts in front by itself."""
    plain, special = _ids(tokenizer, "a"), _ids(tokenizer, "a", special=True)
    for start in range(len(special) - len(plain) + 1):
        if special[start : start + len(plain)] == plain:
            return special[:start]
    raise ValueError("tokenizer must give the same tokens with special tokens as without them")


@dataclass(frozen=True)
class Batch:
    """Pairs as tensors: the chosen answers in the first half of the rows, the rejected in the second.

    ids: prompt, answer and padding
    padding_mask: True at real tokens
    mask: True at the answer's tokens, its end token too
    """

    ids: Int[Tensor, "two_batch seq"]
    padding_mask: Bool[Tensor, "two_batch seq"]
    mask: Bool[Tensor, "two_batch seq"]

    def to(self, device: torch.device | str) -> Batch:
        return Batch(self.ids.to(device), self.padding_mask.to(device), self.mask.to(device))

    def keys(self) -> list[bytes]:
        """What tells each row from all others: its real tokens, and which of them are the answer."""
        rows = zip(self.ids.cpu(), self.padding_mask.cpu(), self.mask.cpu(), strict=True)
        content = (torch.stack([ids[real].long(), mask[real].long()]) for ids, real, mask in rows)
        return [hashlib.blake2b(row.numpy().tobytes(), digest_size=16).digest() for row in content]


def collate(encoded: Sequence[Encoded], pad_id: int, side: Literal["right", "left"] = "right") -> Batch:
    """A batch, padded to its longest row.

    pad_id: stands where padding_mask is False, so that any token will do, the end token too
    side: where the padding is

    Raises ValueError for no pairs at all, for a pad_id that is no whole number of at least 0, and for another side.
    """
    whole("pad_id", pad_id, 0)
    if side not in ("right", "left"):
        raise ValueError(f"side must be 'right' or 'left', got {side!r}")
    if not encoded:
        raise ValueError("encoded must have at least one pair, got none")
    rows = [(e.prompt, e.chosen) for e in encoded] + [(e.prompt, e.rejected) for e in encoded]
    seq = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids = torch.full((len(rows), seq), pad_id)
    padding_mask, mask = torch.zeros(len(rows), seq, dtype=torch.bool), torch.zeros(len(rows), seq, dtype=torch.bool)
    for row, (prompt, answer) in enumerate(rows):
        length = len(prompt) + len(answer)
        start = 0 if side == "right" else seq - length
        ids[row, start : start + length] = torch.tensor((*prompt, *answer))
        padding_mask[row, start : start + length] = True
        mask[row, start + len(prompt) : start + length] = True
    return Batch(ids, padding_mask, mask)
