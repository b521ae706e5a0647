"""The small language model of controlled sentiment, with a cache of keys and values for sampling."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dpo.reproduce.sentiment import END, LENGTH, PIECES, PROMPT

D_MODEL, HEADS, LAYERS = 64, 2, 2
Cache = list[tuple[Tensor, Tensor]]


class Block(nn.Module):
    """Pre-norm: causal attention, then a feed-forward layer of four times the width."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(D_MODEL), nn.LayerNorm(D_MODEL)
        self.qkv, self.out = nn.Linear(D_MODEL, 3 * D_MODEL), nn.Linear(D_MODEL, D_MODEL)
        self.up, self.down = nn.Linear(D_MODEL, 4 * D_MODEL), nn.Linear(4 * D_MODEL, D_MODEL)

    def forward(
        self, x: Float[Tensor, "batch seq d"], past: tuple[Tensor, Tensor] | None
    ) -> tuple[Float[Tensor, "batch seq d"], tuple[Tensor, Tensor]]:
        """`past`: keys and values of the places before; then x is one place."""
        q, k, v = self.qkv(self.before(x)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=past is None)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.between(x)))), (k, v)


class Backbone(nn.Module):
    """The state of each place, normed; a place sees those before it alone, so what fills a row after END is unseen."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(PIECES, D_MODEL), nn.Embedding(LENGTH, D_MODEL)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(D_MODEL)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=D_MODEL**-0.5 / (2 if isinstance(module, nn.Linear) else 1))
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(
        self, ids: Int[Tensor, "batch seq"], padding: Bool[Tensor, "batch seq"] | None = None
    ) -> Float[Tensor, "batch seq d"]:
        del padding
        return self.states(ids, None)[0]

    def states(self, ids: Int[Tensor, "batch seq"], cache: Cache | None) -> tuple[Float[Tensor, "batch seq d"], Cache]:
        """The states of these places, which follow those in the cache, and the cache with them."""
        start = cache[0][0].shape[2] if cache else 0
        x = (self.tokens(ids) + self.places.weight[start : start + ids.shape[1]]) * math.sqrt(D_MODEL)
        kept: Cache = []
        for i, block in enumerate(self.blocks):
            x, held = block(x, cache[i] if cache else None)
            kept.append(held)
        return self.norm(x), kept


class LanguageModel(nn.Module):
    """Logits of the next piece, tied to the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()

    def forward(
        self, ids: Int[Tensor, "batch seq"], padding: Bool[Tensor, "batch seq"] | None = None
    ) -> Float[Tensor, "batch seq vocab"]:
        return self.backbone(ids, padding) @ self.backbone.tokens.weight.T


@torch.no_grad()
def sample(
    model: LanguageModel, prompts: Int[Tensor, "batch 3"], temperature: float, generator: torch.Generator
) -> Int[Tensor, "batch length"]:
    """Each prompt with up to ANSWER pieces after it; END ends an answer, and fills its row. Temperature 0 is greedy."""
    ids = torch.full((len(prompts), LENGTH), END)
    ids[:, :PROMPT] = prompts
    running = torch.ones(len(prompts), dtype=torch.bool)
    states, cache = model.backbone.states(prompts, None)
    for place in range(PROMPT, LENGTH):
        logits = states[:, -1] @ model.backbone.tokens.weight.T
        if temperature == 0:
            chosen = logits.argmax(-1)
        else:  # the first piece whose cumulative probability is above a uniform number
            below = (logits / temperature).softmax(-1).cumsum(-1)
            drawn = torch.rand(len(ids), 1, generator=generator) * below[:, -1:]
            chosen = torch.searchsorted(below, drawn, right=True).squeeze(1).clamp(max=PIECES - 1)
        ids[:, place] = torch.where(running, chosen, END)
        running = running & (chosen != END)
        if place + 1 == LENGTH or not running.any():
            break
        states, cache = model.backbone.states(ids[:, place : place + 1], cache)
    return ids
