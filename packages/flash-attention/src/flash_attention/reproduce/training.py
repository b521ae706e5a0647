"""A small GPT on Shakespeare's characters, trained twice from the same seed: with flash and with standard attention."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from papertest.claims import Run

from flash_attention import flash_attention, standard_attention
from flash_attention.reproduce.data import plays

CONTEXT, WIDTH, HEADS, LAYERS, BATCH, STEPS = 256, 128, 4, 4, 8, 120
ATTENTIONS = {"flash": flash_attention, "standard": standard_attention}


class Block(nn.Module):
    """Pre-norm transformer block; its attention is the one thing that differs between the two runs."""

    def __init__(self, attention: str) -> None:
        super().__init__()
        self.attention = ATTENTIONS[attention]
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: Float[Tensor, "batch seq width"]) -> Float[Tensor, "batch seq width"]:
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        o = self.attention(q, k, v, causal=True)
        x = x + self.out(o.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    """Decoder-only language model with learned positions, as GPT-2 is."""

    def __init__(self, vocabulary: int, attention: str) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*(Block(attention) for _ in range(LAYERS)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, vocabulary)

    def loss(self, tokens: Int[Tensor, "batch seq_plus_1"]) -> Float[Tensor, ""]:
        x = self.tokens(tokens[:, :-1]) + self.positions.weight
        logits = self.head(self.norm(self.blocks(x)))
        return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def train(run: Run, attention: str) -> dict[str, Any]:
    """Train with one attention: the loss (nats a character) of every step, and the validation perplexity at the end.

    Weights and batches come from the seed alone, so they are the same for both attentions. The last twentieth of the
    text is the validation part.
    """
    text = plays()
    letters = sorted(set(text))
    index = {letter: i for i, letter in enumerate(letters)}
    data = torch.tensor([index[letter] for letter in text])
    split = len(data) * 19 // 20
    model = GPT(len(letters), attention)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.95), weight_decay=0.1)
    draw = torch.Generator().manual_seed(run.seed)
    losses: list[float] = []
    for _ in run.progress(range(10 if run.quick else STEPS), f"training with {attention} attention"):
        loss = model.loss(_batch(data[:split], BATCH, draw))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item())
    with torch.no_grad():
        validation = model.loss(_batch(data[split:], 4 * BATCH, torch.Generator().manual_seed(0))).item()
    return {"losses": losses, "perplexity": math.exp(validation), "characters": STEPS * BATCH * CONTEXT}


def _batch(data: Int[Tensor, " characters"], size: int, draw: torch.Generator) -> Int[Tensor, "batch seq_plus_1"]:
    starts = torch.randint(len(data) - CONTEXT, (size,), generator=draw)
    return torch.stack([data[start : start + CONTEXT + 1] for start in starts.tolist()])
