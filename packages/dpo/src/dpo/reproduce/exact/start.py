"""Before the first step the policy is the reference."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from papertest.claims import Measured, Run, claim

import dpo


class Dropped(nn.Module):
    """A recurrent language model with dropout on its embeddings and states."""

    def __init__(self, vocabulary: int, d_model: int = 32) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, d_model)
        self.states = nn.GRU(d_model, d_model, batch_first=True)
        self.head = nn.Linear(d_model, vocabulary)
        self.dropout = nn.Dropout(0.5)

    def forward(self, ids: Tensor, padding_mask: Tensor) -> Tensor:
        states, _ = self.states(self.dropout(self.embedding(ids)) * padding_mask[..., None])
        return self.head(self.dropout(states))


@claim("loss-at-start")
def loss_at_start(run: Run) -> Measured:
    """16 pairs of random answers of 1 to 12 tokens; the model is in training mode, and is there again afterwards.

    The details have how much two passes with dropout differ in an answer's log-probability, in the mean.
    """
    torch.manual_seed(run.seed)
    model = Dropped(100).train()
    pairs, seq = 16, 20
    lengths = torch.randint(1, 13, (2 * pairs, 1))
    places = torch.arange(seq)
    padding_mask, mask = places < 5 + lengths, (places >= 5) & (places < 5 + lengths)
    batch = dpo.Batch(torch.randint(100, (2 * pairs, seq)), padding_mask, mask)
    with torch.no_grad():
        passes = [dpo.sequence_logps(model(batch.ids, padding_mask), batch.ids, mask) for _ in range(2)]
    trainer = dpo.DPOTrainer(model, torch.optim.SGD(model.parameters(), 0.1))
    first = trainer.step(batch)
    later = trainer.step(batch)
    value = {"loss": abs(first["loss"] - math.log(2)), "margin": abs(first["margin"])}
    with_dropout = (passes[0] - passes[1]).abs().mean().item()
    return Measured(value, {"with_dropout": with_dropout, "second_loss": later["loss"], "training": model.training})
