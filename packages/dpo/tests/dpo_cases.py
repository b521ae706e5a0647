"""Models, batches and problems that several test files share."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import settings
from torch import Tensor, nn

from dpo import Encoded

few = settings(max_examples=30, deadline=None)
VOCAB = 11
PAIRS = [Encoded((1, 2, 3), (4, 5, 0), (6, 0)), Encoded((7,), (4, 0), (6, 8, 9, 0)), Encoded((2, 2), (9, 0), (1, 0))]


class Tiny(nn.Module):
    """A causal model that knows positions from the padding mask, with dropout; forward passes are counted."""

    def __init__(self, vocab: int = VOCAB, width: int = 16, dropout: float = 0.3) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocab, width), nn.Embedding(32, width)
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(width, vocab)
        self.passes = 0

    def states(self, ids: Tensor, padding_mask: Tensor) -> Tensor:
        self.passes += 1
        x = self.dropout(self.tokens(ids) + self.places((padding_mask.cumsum(-1) - 1).clamp(min=0)))
        seq = ids.shape[1]
        seen = torch.ones(seq, seq, dtype=torch.bool).tril() & padding_mask[:, None]
        seen = seen | torch.eye(seq, dtype=torch.bool)
        scores = (self.q(x) @ self.k(x).mT).masked_fill(~seen, float("-inf"))
        return x + self.dropout(scores.softmax(-1)) @ self.v(x)

    def forward(self, ids: Tensor, padding_mask: Tensor) -> Tensor:
        return self.head(self.states(ids, padding_mask))


class Values(Tiny):
    """One number for each token."""

    def __init__(self) -> None:
        super().__init__(vocab=VOCAB)
        self.head = nn.Linear(16, 1)

    def forward(self, ids: Tensor, padding_mask: Tensor) -> Tensor:
        return super().forward(ids, padding_mask).squeeze(-1)


def tiny(seed: int = 0, **options: Any) -> Tiny:
    torch.manual_seed(seed)
    return Tiny(**options)


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def four(batch: int = 5, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Log-probabilities as a policy and a reference give them."""
    return [-20 + 4 * randn(batch, seed=seed, dtype=dtype) for seed in range(4)]


def rows(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, labels and mask: a prompt on the left, padding on both sides, an answer of one token."""
    logits = 3 * randn(3, 6, VOCAB, dtype=dtype)
    labels = torch.randint(VOCAB, (3, 6), generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[0, 0, 1, 1, 1, 1], [0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 1, 0]]).bool()
    return logits, labels, mask


def answers() -> tuple[dict[str, Tensor], Tensor]:
    """Of the shape (batch, seq), with junk outside of the mask, and the mask."""
    mask = rows()[2]
    names = ("logps", "old_logps", "ref_logps", "values", "old_values", "advantages", "returns")
    return {name: randn(3, 6, seed=seed).masked_fill(~mask, float("nan")) for seed, name in enumerate(names)}, mask
