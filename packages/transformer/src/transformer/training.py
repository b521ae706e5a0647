"""Section 5: the learning rate's schedule, label smoothing, and Section 6.1's averaging of checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


def noam_schedule(step: int, d_model: int, warmup_steps: int = 4000) -> float:
    """Eq. 3: lrate = d_model^−0.5 · min(step^−0.5, step · warmup_steps^−1.5), at steps counted from 1.

    Raises ValueError where one of the three is below 1.
    """
    for name, value in (("step", step), ("d_model", d_model), ("warmup_steps", warmup_steps)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    return d_model**-0.5 * min(step**-0.5, step * warmup_steps**-1.5)


def adam(
    model: nn.Module, d_model: int, warmup_steps: int = 4000, scale: float = 1.0
) -> tuple[torch.optim.Adam, torch.optim.lr_scheduler.LambdaLR]:
    """Section 5.3: Adam with β1 = 0.9, β2 = 0.98, ε = 10⁻⁹, and its learning rate, `scale` times Eq. 3 (the paper: 1).

    Call the schedule's `step()` after each of the optimizer's; the optimizer's first step has Eq. 3's rate of step 1.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=scale, betas=(0.9, 0.98), eps=1e-9, fused=True)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: noam_schedule(done + 1, d_model, warmup_steps))
    return optimizer, rate


class LabelSmoothing(nn.Module):
    """Section 5.4: cross-entropy against 1 − ε for the right token plus ε spread evenly over the vocabulary.

    Szegedy et al. 2015 (arXiv 1512.00567), Section 7, whom the paper follows: q' = (1 − ε) δ + ε/K.

    smoothing: ε_ls, in [0, 1)
    pad: targets that do not count; None where all do

    Raises ValueError for a smoothing outside its range.
    """

    def __init__(self, smoothing: float = 0.1, pad: int | None = 0) -> None:
        super().__init__()
        if not 0 <= smoothing < 1:
            raise ValueError(f"smoothing must be in [0, 1), got {smoothing}")
        self.smoothing, self.pad = smoothing, pad

    def forward(self, logits: Float[Tensor, "*batch vocab"], targets: Int[Tensor, "*batch"]) -> Float[Tensor, ""]:
        """The mean over all targets that are not padding, in nats. ValueError where there are none."""
        if targets.shape != logits.shape[:-1]:
            raise ValueError("targets must have the shape of logits without its last axis, "
                             f"{tuple(logits.shape[:-1])}, got {tuple(targets.shape)}")  # fmt: skip
        logits, targets = logits.reshape(-1, logits.shape[-1]), targets.flatten()
        if self.pad is not None:
            real = targets != self.pad
            if not bool(real.any()):
                raise ValueError(f"targets must have a token other than padding ({self.pad})")
            logits, targets = logits[real], targets[real]
        # −Σ q' log p, with log p = logits − logsumexp(logits)
        right = logits.gather(1, targets[:, None]).squeeze(1)
        expected = (1 - self.smoothing) * right + self.smoothing * logits.mean(1)
        return (logits.logsumexp(1) - expected).mean()


def average_checkpoints(checkpoints: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Section 6.1: the mean of every tensor over the checkpoints, as a state dict.

    Raises ValueError where there are none, or where their names or shapes differ.
    """
    if not checkpoints:
        raise ValueError("checkpoints must be at least one state dict, got none")
    first = checkpoints[0]
    for i, other in enumerate(checkpoints):
        if other.keys() != first.keys():
            differs = sorted(other.keys() ^ first.keys())
            raise ValueError(f"checkpoint {i} does not have the tensors of checkpoint 0: {', '.join(differs)}")
        for name, tensor in other.items():
            if tensor.shape != first[name].shape:
                raise ValueError(f"{name} has shape {tuple(tensor.shape)} in checkpoint {i}, "
                                 f"{tuple(first[name].shape)} in checkpoint 0")  # fmt: skip
    return {name: torch.stack([c[name].double() for c in checkpoints]).mean(0).to(first[name]) for name in first}
