"""Section 5: the learning rate's schedule, label smoothing, and Section 6.1's averaging of checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from transformer.arguments import check_integers, check_shares, has_dtype, is_integer, is_number, kind
from transformer.attention import FLOATS


def noam_schedule(step: int, d_model: int, warmup_steps: int = 4000) -> float:
    """Eq. 3: lrate = d_model^−0.5 · min(step^−0.5, step · warmup_steps^−1.5), at steps counted from 1.

    Raises ValueError where one of the three is no integer of at least 1.
    """
    check_integers(1, step=step, d_model=d_model, warmup_steps=warmup_steps)
    return d_model**-0.5 * min(step**-0.5, step * warmup_steps**-1.5)


def adam(
    model: nn.Module, d_model: int, warmup_steps: int = 4000, scale: float = 1.0
) -> tuple[torch.optim.Adam, torch.optim.lr_scheduler.LambdaLR]:
    """Section 5.3: Adam with β1 = 0.9, β2 = 0.98, ε = 10⁻⁹, and its learning rate, `scale` times Eq. 3 (the paper: 1).

    Call the schedule's `step()` after each of the optimizer's; the optimizer's first step has Eq. 3's rate of step 1.
    Raises ValueError for a scale that is no number above 0, and as `noam_schedule` does.
    """
    if not (is_number(scale) and scale > 0):
        raise ValueError(f"scale must be a number above 0, got {scale!r}")
    optimizer = torch.optim.Adam(model.parameters(), lr=scale, betas=(0.9, 0.98), eps=1e-9, fused=True)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: noam_schedule(done + 1, d_model, warmup_steps))
    return optimizer, rate


class LabelSmoothing(nn.Module):
    """Section 5.4: cross-entropy against 1 − ε for the right token plus ε spread evenly over the vocabulary.

    Szegedy et al. 2015 (arXiv 1512.00567), Section 7, whom the paper follows: q' = (1 − ε) δ + ε/K.

    smoothing: ε_ls, in [0, 1)
    pad: targets that do not count; None where all do

    Raises ValueError for a smoothing outside its range and a pad that is no integer.
    """

    def __init__(self, smoothing: float = 0.1, pad: int | None = 0) -> None:
        super().__init__()
        check_shares(smoothing=smoothing)
        if pad is not None and not is_integer(pad):
            raise ValueError(f"pad must be an integer, or None where all targets count, got {pad!r}")
        self.smoothing, self.pad = smoothing, pad

    def forward(self, logits: Float[Tensor, "*batch vocab"], targets: Int[Tensor, "*batch"]) -> Float[Tensor, ""]:
        """The mean over all targets that are not padding, in nats, and in float32 for logits of half precision.

        Raises ValueError where there are none, and for targets of another shape or dtype. Those outside the vocabulary
        are a ValueError too, but torch's own error where pad is None: then no value is read, and vmap can be had.
        """
        if not has_dtype(logits, *FLOATS):
            raise ValueError(f"logits must hold numbers of floating point, got {kind(logits)}")
        if not has_dtype(targets, torch.int64, torch.int32):
            raise ValueError(f"targets must hold int64 or int32, got {kind(targets)}")
        if targets.shape != logits.shape[:-1]:
            raise ValueError("targets must have the shape of logits without its last axis, "
                             f"{tuple(logits.shape[:-1])}, got {tuple(targets.shape)}")  # fmt: skip
        logits, targets = logits.reshape(-1, logits.shape[-1]), targets.flatten().long()
        if self.pad is not None:
            real = targets != self.pad
            if not bool(real.any()):
                raise ValueError(f"targets must have a token other than padding ({self.pad})")
            logits, targets = logits[real], targets[real]
            low, high = (int(x) for x in targets.aminmax())
            if low < 0 or high >= logits.shape[1]:
                raise ValueError(f"targets must hold tokens from 0 to {logits.shape[1] - 1}, got {low} to {high}")
        elif not len(targets):
            raise ValueError("targets must have a token")
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        # −Σ q' log p, with log p = logits − logsumexp(logits)
        expected = logits.gather(1, targets[:, None]).squeeze(1)
        if self.smoothing:  # zero times a logit of −∞ is nothing
            expected = (1 - self.smoothing) * expected + self.smoothing * logits.mean(1)
        return (logits.logsumexp(1) - expected).mean()


def average_checkpoints(checkpoints: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Section 6.1: the mean of every tensor over the checkpoints, as a state dict.

    Raises ValueError where there are none, where one is no state dict, or where their names or shapes differ.
    """
    if isinstance(checkpoints, Mapping) or not all(hasattr(c, "items") for c in checkpoints):
        raise ValueError("checkpoints must be a list of state dicts")
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
