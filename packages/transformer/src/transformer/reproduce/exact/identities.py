"""Identities of the implementation: nothing is seen of the future, and a cache changes nothing."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from papertest.claims import Measured, Run, claim
from papertest.parity import relative_error
from papertest.threads import one_thread

from transformer.config import TransformerConfig
from transformer.decoding import beam_search, greedy_search
from transformer.model import Transformer

VOCABULARY = 50
BOS, EOS = 1, 2

# Small, and between them: both norms, both positions, d_k that is not d_model/h, and d_v that is not d_k.
SMALL: dict[str, dict[str, Any]] = {
    "post": {"n_layers": 2, "d_model": 32, "d_ff": 64, "n_heads": 4},
    "keys": {"n_layers": 2, "d_model": 24, "d_ff": 48, "n_heads": 3, "d_k": 4, "d_v": 16},
    "pre, learned": {"n_layers": 2, "d_model": 16, "d_ff": 32, "n_heads": 2, "norm": "pre", "positions": "learned"},
}


def small(name: str, **change: Any) -> Transformer:
    """A model with random weights, biases too, and its dropout off."""
    model = Transformer(TransformerConfig(vocab_size=VOCABULARY, max_len=64, **SMALL[name] | change)).eval()
    for parameter in model.parameters():
        if parameter.ndim == 1:  # as built, biases are 0 and gains 1: what hides nothing is random
            nn.init.normal_(parameter, float(parameter.detach().mean()), 0.2)
    return model


def tokens(batch: int, length: int) -> Tensor:
    """Random tokens; the first row is full, the others end in padding."""
    drawn = torch.randint(EOS + 1, VOCABULARY, (batch, length))
    for i in range(1, batch):
        drawn[i, length - 2 * i :] = 0
    return drawn


@claim("causal")
@one_thread()
def causal(run: Run) -> Measured:
    """Section 3.1, in float32: what position i's logits have of the target's positions after i.

    gradient: the largest |∂(logits of i)/∂(embedding of j)|, j > i, with random weights on the logits; change: the
    largest one of logits up to i when every later token is drawn anew. Both attentions, written out and fused.
    """
    cases: list[dict[str, Any]] = []
    for name, fused in itertools.product(SMALL, (False, True)):
        model, src, tgt = small(name, fused=fused), tokens(3, 9), tokens(3, 12)
        gradient = max(later_gradient(model, src, tgt, i) for i in range(11))
        change = max(later_change(model, src, tgt, i) for i in range(11))
        cases.append({"model": name, "fused": fused, "gradient": gradient, "change": change})
    return Measured({key: max(case[key] for case in cases) for key in ("gradient", "change")}, {"cases": cases})


def later_gradient(model: Transformer, src: Tensor, tgt: Tensor, i: int) -> float:
    found: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        found.append(output)

    memory, mask = model.encode(src)
    hook = model.tokens.register_forward_hook(keep)
    logits = model.project(model.decode(tgt, memory, mask))
    hook.remove()
    (gradient,) = torch.autograd.grad((logits[:, i] * torch.randn_like(logits[:, i])).sum(), found)
    assert gradient[:, i].any()  # its own embedding: the hook has found the right tensor
    return float(gradient[:, i + 1 :].abs().max())


@torch.no_grad()
def later_change(model: Transformer, src: Tensor, tgt: Tensor, i: int) -> float:
    known, later = tgt[:, : i + 1].clamp(min=BOS), tgt[:, i + 1 :]  # no padding before the tokens drawn anew
    logits = [
        model(src, torch.cat([known, rest], 1))[:, : i + 1]
        for rest in (later, torch.randint(EOS + 1, VOCABULARY, later.shape))
    ]
    return float((logits[0] - logits[1]).abs().max())


@claim("cached-decoding")
@one_thread()
def cached_decoding(run: Run) -> Measured:
    """Section 3.1: decoding from cached keys and values against decoding the whole target again at each step.

    greedy, beam: share of equal tokens, in float64; logits, logits_float32: largest difference over largest value
    where the target's tokens are read one by one and all at once. Three models, sources of several lengths.
    """
    cases: list[dict[str, Any]] = []
    for name in SMALL:
        model, src, tgt = small(name), tokens(4, 12), tokens(4, 10)
        fit(model, src, tgt)
        case: dict[str, Any] = {"model": name, "logits_float32": stepwise(model, src, tgt)}
        model.double()
        case["logits"] = stepwise(model, src, tgt)
        for way, search in (("greedy", greedy_search), ("beam", beam_search)):
            ours, again = (search(model, src, bos=BOS, eos=EOS, extra=4, cache=cache) for cache in (True, False))
            case |= {way: equal(ours, again), f"{way}_tokens": ours}
        cases.append(case)
    value = {key: min(case[key] for case in cases) for key in ("greedy", "beam")}
    value |= {key: max(case[key] for case in cases) for key in ("logits", "logits_float32")}
    return Measured(value, {"cases": cases})


def fit(model: Transformer, src: Tensor, tgt: Tensor, steps: int = 20) -> None:
    """Learn these pairs by half: random weights say the same token for ever, and in a model that is sure of the next
    token no beam overtakes another."""
    begin, end = torch.full((len(tgt), 1), BOS), torch.full((len(tgt), 1), 0)
    given, wanted = torch.cat([begin, tgt], 1), torch.cat([tgt, end], 1)
    wanted[torch.arange(len(tgt)), (tgt != 0).sum(1)] = EOS
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(src, given).flatten(0, 1), wanted.flatten(), ignore_index=0).backward()
        optimizer.step()


def equal(ours: list[list[int]], theirs: list[list[int]]) -> float:
    """The share of the tokens that are the same at the same place, the end of a sentence among them."""
    pairs = [([*a, EOS], [*b, EOS]) for a, b in zip(ours, theirs, strict=True)]
    same = sum(x == y for a, b in pairs for x, y in zip(a, b, strict=False))
    return same / sum(max(len(a), len(b)) for a, b in pairs)


@torch.no_grad()
def stepwise(model: Transformer, src: Tensor, tgt: Tensor) -> float:
    state = model.start(src)
    steps = torch.stack([model.step(column, state) for column in tgt.T], 1)
    return relative_error(steps, model(src, tgt))
