"""Greedy and beam search: against all hypotheses where they are few, and against a beam search in plain Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from transformer import Transformer, TransformerConfig, beam_search, greedy_search

PAD, BOS, EOS = 0, 1, 2
ends = {"bos": BOS, "eos": EOS}
Hypotheses = list[tuple[float, list[int]]]  # (log P, the tokens with eos if it has come)
seeds = pytest.mark.parametrize("seed", range(6))


def small(seed: int = 0, vocab: int = 12, eos: float = 0.0, **changes: Any) -> Transformer:
    """A model with strong opinions; `eos` is added to the logit of the end."""
    torch.manual_seed(seed)
    sizes = {"n_layers": 1, "d_model": 8, "d_ff": 8, "n_heads": 2}
    model = Transformer(TransformerConfig(vocab_size=vocab, **(sizes | changes))).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
        model.tokens.weight *= 1.5
        # The decoder's output begins with a 1, which only eos looks at.
        last = model.decoder_norm if model.config.norm == "pre" else model.decoder[-1].residuals[-1].norm
        last.weight[0], last.bias[0] = 0.0, 1.0
        model.tokens.weight[:, 0] = 0.0
        model.tokens.weight[EOS, 0] = eos
    return model.eval()


def sources(seed: int = 0, vocab: int = 12) -> Tensor:
    """Three rows of 4, 2 and 3 tokens."""
    torch.manual_seed(seed)
    src = torch.randint(3, vocab, (3, 4))
    src[1, 2:] = src[2, 3:] = PAD
    return src


def log_probabilities(model: Transformer, row: Tensor, tokens: list[int], bos: int = BOS) -> Tensor:
    """Of the token after these, without padding and bos, by the model's forward alone."""
    with torch.no_grad():
        logits = model(row[None], torch.tensor([[bos, *tokens]]))[0, -1]
    allowed = [t for t in range(len(logits)) if t != PAD and (t != bos or bos == EOS)]
    out = torch.full_like(logits, -torch.inf)
    out[allowed] = logits[allowed].log_softmax(-1)
    return out


def log_probability(model: Transformer, row: Tensor, tokens: list[int], bos: int = BOS) -> float:
    return sum(float(log_probabilities(model, row, tokens[:i], bos)[t]) for i, t in enumerate(tokens))


def penalised(total: float, length: int, alpha: float) -> float:
    """Wu et al. 2016, Equation 14, without coverage."""
    return total / ((5 + length) ** alpha / (5 + 1) ** alpha)


def with_eos(row: Tensor, tokens: list[int], extra: int) -> list[int]:
    """What was decoded, with the eos that stood behind it unless the limit came first."""
    return tokens if len(tokens) == int((row != PAD).sum()) + extra else [*tokens, EOS]


def every(model: Transformer, row: Tensor, limit: int) -> Iterator[tuple[float, list[int]]]:
    """All hypotheses that end in eos, or with the limit."""
    open_: Hypotheses = [(0.0, [])]
    for length in range(1, limit + 1):
        grown: Hypotheses = []
        for total, tokens in open_:
            for token, more in enumerate(log_probabilities(model, row, tokens).tolist()):
                if more == -torch.inf:
                    continue
                done = token == EOS or length == limit
                (ended := (total + more, [*tokens, token]))
                if done:
                    yield ended
                else:
                    grown.append(ended)
        open_ = grown


def plain_beam(following: Callable[[tuple[int, ...]], list[float]], beam: int, alpha: float, limit: int) -> list[int]:
    """The search in plain Python, to the limit without an early end: the tokens of the best score."""
    open_: Hypotheses = [(0.0, [])]
    ended: Hypotheses = []
    for length in range(1, limit + 1):
        grown = [
            (total + more, [*tokens, token])
            for total, tokens in open_
            for token, more in enumerate(following(tuple(tokens)))
        ]
        grown.sort(key=lambda hypothesis: -hypothesis[0])
        first = grown[: 2 * beam]
        ended += [
            (penalised(p, length, alpha), t)
            for rank, (p, t) in enumerate(first)
            if (t[-1] == EOS and rank < beam) or length == limit
        ]
        open_ = [(p, t) for p, t in first if t[-1] != EOS][:beam]
    return max(ended)[1]


@seeds
@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
def test_a_wide_beam_finds_the_best_of_all_hypotheses(seed, alpha):
    """With 6 tokens, 3 of which go on, a beam of 3 holds all that is open until the second token, the limit."""
    model = small(seed, vocab=6, eos=0.3)
    row = torch.tensor([3 + seed % 3])
    hypotheses = list(every(model, row, 2))
    assert len(hypotheses) == 1 + 3 * 4
    assert sum(torch.tensor(p).exp().item() for p, _ in hypotheses) == pytest.approx(1)
    best = max(penalised(p, len(t), alpha) for p, t in hypotheses)
    (found,) = beam_search(model, row[None], **ends, beam=3, alpha=alpha, extra=1)
    found = with_eos(row, found, 1)
    assert penalised(log_probability(model, row, found), len(found), alpha) == pytest.approx(best, abs=1e-12)


@seeds
@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
def test_with_one_token_to_go_on_with_every_length_is_weighed(seed, alpha):
    model, row = small(seed, vocab=4, eos=-0.5), torch.tensor([3, 3])
    hypotheses = list(every(model, row, 9))
    assert len(hypotheses) == 10
    best = max(penalised(p, len(t), alpha) for p, t in hypotheses)
    (found,) = beam_search(model, row[None], **ends, beam=2, alpha=alpha, extra=7)
    found = with_eos(row, found, 7)
    assert penalised(log_probability(model, row, found), len(found), alpha) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("seed", [0, 2, 3, 5, 8])
@pytest.mark.parametrize("eos", [-1.0, 0.5, 1.5])
def test_beam_search_is_the_plain_one(seed, eos):
    """Its early end included, which the plain one does not have."""
    model, src, extra = small(seed, eos=eos), sources(seed), 4
    options = [{"beam": beam, "alpha": alpha} for beam in (1, 2, 4, 6) for alpha in (0.0, 0.6, 1.0, 3.0)]
    found = [beam_search(model, src, **ends, extra=extra, **option) for option in options]
    for i, row in enumerate(src):
        following = cache(lambda tokens, row=row: log_probabilities(model, row, [*tokens]).tolist())
        for ours, option in zip(found, options, strict=True):
            tokens = plain_beam(following, **option, limit=int((row != PAD).sum()) + extra)
            assert ours[i] == (tokens[:-1] if tokens[-1] == EOS else tokens), option


@seeds
@pytest.mark.parametrize("eos", [0.0, 1.0])
def test_greedy_search_takes_the_likeliest_token_each_time(seed, eos):
    model, src = small(seed, eos=eos), sources(seed)
    for row, found in zip(src, greedy_search(model, src, **ends, extra=5), strict=True):
        tokens: list[int] = []
        while len(tokens) < int((row != PAD).sum()) + 5 and EOS not in tokens:
            tokens.append(int(log_probabilities(model, row, tokens).argmax()))
        assert found == (tokens[:-1] if tokens[-1] == EOS else tokens)


@seeds
@pytest.mark.parametrize("changes", [{}, {"norm": "pre", "positions": "learned"}, {"fused": True}], ids=str)
def test_the_cache_changes_no_token(seed, changes):
    model, src = small(seed, eos=0.3, **changes), sources(seed)
    with_cache, without = (greedy_search(model, src, **ends, extra=12, cache=cached) for cached in (True, False))
    assert with_cache == without
    with_cache, without = (beam_search(model, src, **ends, extra=12, cache=cached) for cached in (True, False))
    assert with_cache == without


@pytest.mark.parametrize("seed", range(5))
def test_a_beam_of_one_without_penalty_is_greedy(seed):
    model, src = small(seed, eos=0.4), sources(seed)
    assert beam_search(model, src, **ends, beam=1, alpha=0, extra=4) == greedy_search(model, src, **ends, extra=4)


def test_a_larger_alpha_never_gives_a_shorter_translation_and_some_a_longer():
    """A length is chosen by log|log P| − α log((5 + |y|)/6), of the same hypotheses for every α."""
    longer = 0
    for seed in range(6):
        model, src = small(seed, eos=0.6), sources(seed)
        lengths: list[list[int]] = []
        for alpha in (0.0, 0.3, 0.6, 1.0, 2.0, 8.0):
            found = beam_search(model, src, **ends, alpha=alpha, extra=9)
            lengths.append([len(with_eos(row, x, 9)) for row, x in zip(src, found, strict=True)])
        assert all(a <= b for pair in pairwise(lengths) for a, b in zip(*pair, strict=True))
        longer += sum(lengths[-1]) - sum(lengths[0])
    assert longer > 10


searches = pytest.mark.parametrize(
    "search",
    [greedy_search, beam_search, lambda *x, **y: beam_search(*x, **y, beam=1, alpha=0)],
    ids=["greedy", "beam", "1"],
)


@searches
@pytest.mark.parametrize("cached", [True, False], ids=["cache", "no cache"])
def test_rows_do_not_depend_on_the_batch_they_are_in_nor_on_padding(search, cached):
    different = 0
    for seed in range(5):
        model, src = small(seed, eos=0.4), sources(seed)
        together = search(model, src, **ends, extra=6, cache=cached)
        alone = [search(model, row[row != PAD][None], **ends, extra=6, cache=cached)[0] for row in src]
        longer = search(model, torch.nn.functional.pad(src, (0, 3)), **ends, extra=6, cache=cached)
        assert together == alone == longer
        assert search(model, src.flip(0), **ends, extra=6, cache=cached) == together[::-1]
        different += len({len(x) for x in together}) > 1
    assert different  # some batches had rows that end at different times


@searches
@pytest.mark.parametrize("extra", [0, 1, 5])
def test_a_model_that_never_ends_is_stopped_at_its_sources_length_and_extra(search, extra):
    found = search(small(eos=-30.0), sources(), **ends, extra=extra)
    assert [len(x) for x in found] == [4 + extra, 2 + extra, 3 + extra]


@searches
def test_a_model_that_ends_at_once_gives_nothing(search):
    assert search(small(eos=30.0), sources(), **ends) == [[], [], []]


@searches
def test_padding_bos_and_eos_are_never_in_a_translation(search):
    """Where padding and bos have the largest logits of all."""
    for seed in range(4):
        model = small(seed, eos=-5.0)
        with torch.no_grad():
            model.tokens.weight[:2, 0] = 20.0
            assert set(model(sources(seed), torch.tensor([[BOS]] * 3)).argmax(-1).flatten().tolist()) <= {PAD, BOS}
        found = search(model, sources(seed), **ends, extra=8)
        assert sum(len(x) for x in found) > 0
        assert not {PAD, BOS, EOS} & {token for x in found for token in x}


@searches
def test_bos_may_be_eos(search):
    """Then it is not forbidden, or nothing would end."""
    both = {"bos": EOS, "eos": EOS, "extra": 3}
    assert search(small(eos=30.0), sources(), **both) == [[], [], []]
    assert [len(x) for x in search(small(eos=-30.0), sources(), **both)] == [7, 5, 6]
    lengths = 0
    for seed in range(4):
        model, src = small(seed, eos=-1.0), sources(seed)
        found = search(model, src, **both)
        lengths += sum(len(x) for x in found)
        for row, tokens in zip(src, found, strict=True):
            for i, token in enumerate(with_eos(row, tokens, 3) if search is greedy_search else []):
                assert token == int(log_probabilities(model, row, tokens[:i], bos=EOS).argmax())
    assert lengths > 0


@searches
def test_another_token_may_be_the_padding(search):
    model = small(eos=0.3, pad=11)
    src = sources().masked_fill(sources() == 11, 4)
    src[src == PAD] = 11
    alone = [search(model, row[row != 11][None], **ends, extra=6)[0] for row in src]
    assert search(model, src, **ends, extra=6) == alone
    assert 11 not in {token for x in alone for token in x}


@searches
def test_a_search_leaves_the_model_and_the_source_as_they_were(search):
    model, src = small(eos=0.2), sources()
    before, state = src.clone(), {name: x.clone() for name, x in model.state_dict().items()}
    search(model, src, **ends)
    assert torch.equal(src, before)
    assert all(torch.equal(x, state[name]) for name, x in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert torch.is_grad_enabled()
