"""Section 6.1: from a source to its translation, taking the likeliest token each time or searching with a beam."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from transformer.arguments import check_flags, check_integers, is_integer, is_number
from transformer.model import Transformer


@torch.no_grad()
def greedy_search(
    model: Transformer, src: Int[Tensor, "batch seq_src"], *, bos: int, eos: int, extra: int = 50, cache: bool = True
) -> list[list[int]]:
    """The likeliest token at each step: each row's tokens, without bos and eos. Call `model.eval()` first.

    bos, eos: the tokens that begin and end a sentence
    extra: a translation is at most so many tokens longer than its source (Section 6.1), and never longer than a learned
        table of positions
    cache: keep keys and values of earlier positions rather than compute them again at every step; the same tokens

    Raises ValueError as `Transformer` does, for bos, eos or extra outside of their range, and where the model gives
    NaN: then no token is likelier than another.
    """
    steps = _Steps(model, src, bos, eos, extra, cache)
    tokens = src.new_full((len(src), 1), bos)
    running = torch.ones(len(src), dtype=torch.bool, device=src.device)
    while bool(running.any()):
        following = steps.log_probabilities(tokens)
        if bool((lost := running & following[:, 0].isnan()).any()):  # one NaN among the logits makes all of them NaN
            raise _no_likeliest(int(lost.nonzero()[0]), tokens.shape[1])
        new = following.argmax(-1)
        tokens = torch.cat([tokens, new[:, None]], 1)
        running &= (new != eos) & (tokens.shape[1] <= steps.limits)
    return [_sentence(row[: limit + 1], eos) for row, limit in zip(tokens.tolist(), steps.limits.tolist(), strict=True)]


@torch.no_grad()
def beam_search(
    model: Transformer,
    src: Int[Tensor, "batch seq_src"],
    *,
    bos: int,
    eos: int,
    beam: int = 4,
    alpha: float = 0.6,
    extra: int = 50,
    cache: bool = True,
) -> list[list[int]]:
    """The hypothesis with the largest log P(y | x) / lp(y) that a beam of this width finds; see `greedy_search`.

    beam: hypotheses that are followed at a time
    alpha: of the length penalty lp(y) = ((5 + |y|) / 6)^alpha (Wu et al. 2016, arXiv 1609.08144, Eq. 14)

    A hypothesis ends where eos is among the `beam` best continuations, so a beam of 1 with alpha 0 is greedy. A row's
    search ends as soon as no hypothesis that is still open can overtake the best that has ended.
    Log-probabilities are summed up in float32, whatever the model's precision.
    Raises ValueError for a beam below 1 or above the vocabulary's half, or an alpha that is no number of at least 0.
    """
    vocab = model.config.vocab_size
    if not (is_integer(beam) and 1 <= beam <= vocab // 2):
        raise ValueError(f"beam must be at least 1 and at most half of the vocabulary, {vocab // 2}, got {beam!r}")
    if not (is_number(alpha) and alpha >= 0):
        raise ValueError(f"alpha must be at least 0, got {alpha!r}")
    steps = _Steps(model, src, bos, eos, extra, cache)
    rows = torch.arange(len(src), device=src.device)[:, None]
    steps.select(rows.expand(-1, beam).flatten())
    tokens = src.new_full((len(src) * beam, 1), bos)
    wide = torch.promote_types(model.tokens.weight.dtype, torch.float32)
    scores = torch.full((len(src), beam), -math.inf, device=src.device, dtype=wide)
    scores[:, 0] = 0.0  # all beams begin the same: one of them is enough
    best = [(-math.inf, [bos])] * len(src)
    limits, running = steps.limits.tolist(), set(range(len(src)))
    while running:
        length = tokens.shape[1]  # of the hypotheses after this step, bos not counted
        grown = scores[:, :, None] + steps.log_probabilities(tokens).unflatten(0, (len(src), beam))
        candidates, where = grown.flatten(1).topk(2 * beam)  # beam of them at least do not end
        parents, new = where // vocab, where % vocab
        ends = new == eos
        found = zip(*(x.tolist() for x in (candidates, parents, new)), strict=True)
        for i, row in enumerate(found):
            if i in running and math.isnan(row[0][0]):  # topk has NaN before all numbers
                raise _no_likeliest(i, length)
            for rank, (total, parent, token) in enumerate(zip(*row, strict=True)):
                score = total / _penalty(length, alpha)
                ended = (token == eos and rank < beam) or length == limits[i]
                if i in running and ended and score > best[i][0]:
                    best[i] = score, [*tokens[i * beam + parent].tolist(), token]
        scores, kept = candidates.masked_fill(ends, -math.inf).topk(beam)
        chosen = (rows * beam + parents.gather(1, kept)).flatten()
        steps.select(chosen)
        tokens = torch.cat([tokens[chosen], new.gather(1, kept).view(-1, 1)], 1)
        hopes = scores[:, 0].tolist()  # log P only falls from here, and no penalty is above that of the limit
        running = {i for i in running if length < limits[i] and hopes[i] / _penalty(limits[i], alpha) > best[i][0]}
    return [_sentence(row, eos) for _, row in best]


def _penalty(length: int, alpha: float) -> float:
    return ((5 + length) / 6) ** alpha


def _no_likeliest(row: int, length: int) -> ValueError:
    return ValueError(f"model must give numbers, and gives NaN for token {length} after row {row} of src")


def _sentence(tokens: list[int], eos: int) -> list[int]:
    """What stands between bos and eos."""
    after = tokens[1:]  # bos may be eos
    return after[: after.index(eos)] if eos in after else after


class _Steps:
    """The next token's log-probabilities for rows that grow, with the decoder's cache or without it."""

    def __init__(
        self, model: Transformer, src: Int[Tensor, "batch seq_src"], bos: int, eos: int, extra: int, cache: bool
    ) -> None:
        for name, token in (("bos", bos), ("eos", eos)):
            if not (is_integer(token) and 0 <= token < model.config.vocab_size) or token == model.config.pad:
                raise ValueError(f"{name} must be a token from 0 to {model.config.vocab_size - 1} other than "
                                 f"padding ({model.config.pad}), got {token!r}")  # fmt: skip
        check_integers(0, extra=extra)
        check_flags(cache=cache)
        self.model, self.never = model, [model.config.pad] if bos == eos else [model.config.pad, bos]
        self.state = model.start(src) if cache else None
        self.encoded = None if cache else model.encode(src)
        self.limits = (src != model.config.pad).sum(1) + extra
        if model.config.positions == "learned":
            self.limits = self.limits.clamp(max=model.config.max_len)

    def log_probabilities(self, tokens: Int[Tensor, "rows seq"]) -> Float[Tensor, "rows vocab"]:
        """Of the token after these; each call has one token more than the last."""
        if self.state is not None:
            logits = self.model.step(tokens[:, -1], self.state)
        else:
            assert self.encoded is not None
            logits = self.model.project(self.model.decode(tokens, *self.encoded)[:, -1])
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        logits[:, self.never] = -math.inf
        return logits.log_softmax(-1)

    def select(self, rows: Int[Tensor, " rows"]) -> None:
        """Go on with these rows, in this order."""
        if self.state is not None:
            self.state.select(rows)
        else:
            assert self.encoded is not None
            memory, mask = self.encoded
            self.encoded = memory[rows], None if mask is None else mask[rows]
