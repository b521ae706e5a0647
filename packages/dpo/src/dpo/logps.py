"""The log-probability of an answer: log π(y | x) = Σ_t log π(y_t | x, y_<t)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dpo.checks import boolean, kind, same_shape

_CHUNK = 2**20  # logits that are held in float32 at a time


def sequence_logps(
    logits: Float[Tensor, "batch seq vocab"], labels: Int[Tensor, "batch seq"], mask: Bool[Tensor, "batch seq"]
) -> Float[Tensor, " batch"]:
    """The sum, not the mean, of the answer's log-probabilities, in nats.

    logits: of the policy on `labels` themselves; logits[:, t] predict labels[:, t + 1]
    labels: prompt, answer and padding, on whichever side. Outside of the mask they are not looked at
    mask: True at the answer's tokens in `labels`, from its first to its end token; False in prompt and padding

    Returns float32 (float64 for float64), whatever the logits are in: they are widened a few rows at a time, and only
    where the mask is. Prompt and padding act on nothing, be their logits infinite or NaN.

    Raises ValueError for other shapes or types, for a mask that is True in the first column, which nothing predicts,
    for a row without an answer, for labels outside of the vocabulary, and where a log-probability is NaN.
    """
    return token_logps(logits, labels, mask).sum(-1)


def token_logps(
    logits: Float[Tensor, "batch seq vocab"], labels: Int[Tensor, "batch seq"], mask: Bool[Tensor, "batch seq"]
) -> Float[Tensor, "batch seq"]:
    """Of each token where the mask is True: entry t is log π(labels_t | labels_<t). It is 0 elsewhere.

    Arguments and errors as those of `sequence_logps`.
    """
    _check(logits, labels, mask)
    rows, before = mask[:, 1:].nonzero(as_tuple=True)  # logits one column ahead of their label
    answer = labels[rows, before + 1].long()
    vocab = logits.shape[-1]
    if not 0 <= int(answer.min()) <= int(answer.max()) < vocab:
        raise ValueError(f"labels must be from 0 to {vocab - 1} where the mask is True, "
                         f"got {int(answer.min())} to {int(answer.max())}")  # fmt: skip
    logps, _ = _Picked.apply(logits, rows, before, answer)
    if logps.isnan().any():
        first = int(logps.isnan().nonzero()[0])
        raise ValueError(f"logits must give log-probabilities that are numbers, got NaN in row {int(rows[first])}, "
                         f"column {int(before[first])}")  # fmt: skip
    return logps.new_zeros(labels.shape).index_put((rows, before + 1), logps)


def _check(logits: Any, labels: Any, mask: Any) -> None:
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        raise ValueError(f"logits must be a floating-point tensor, got {kind(logits)}")
    if logits.ndim != 3:
        raise ValueError(f"logits must be of shape (batch, seq, vocab), got {tuple(logits.shape)}")
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(f"labels must be a tensor of whole numbers, got {kind(labels)}")
    same_shape("labels", labels, tuple(logits.shape[:2]), "logits without their last axis")
    boolean("mask", mask, tuple(labels.shape), "labels")
    if mask[:, 0].any():
        row = int(mask[:, 0].nonzero()[0])
        raise ValueError(f"mask must be False in the first column, which nothing predicts, got True in row {row}")
    if not mask.any(-1).all():
        row = int((~mask.any(-1)).nonzero()[0])
        raise ValueError(f"mask must be True at one token of each row at least, got an empty answer in row {row}")


class _Picked(torch.autograd.Function):
    """log softmax(logits[rows, columns])[labels] and the logsumexp, in float32 at least, without a float32 copy of
    more than `_CHUNK` logits, and with a gradient in the logits' own dtype as the only thing of their size.

    The logsumexp is an output for the sake of second derivatives, which need to know what it depends on.
    """

    generate_vmap_rule = True  # for jacfwd and hessian

    @staticmethod
    def forward(logits: Tensor, rows: Tensor, columns: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logps: list[Tensor] = []
        lse: list[Tensor] = []
        for part in _parts(len(rows), logits.shape[-1]):
            x = logits[rows[part], columns[part]].to(torch.promote_types(logits.dtype, torch.float32))
            lse.append(x.logsumexp(-1))
            logps.append(x.gather(-1, labels[part, None]).squeeze(-1) - lse[-1])
        return torch.cat(logps), torch.cat(lse)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        logits, rows, columns, labels = inputs
        ctx.save_for_backward(logits, rows, columns, labels, output[1])
        ctx.save_for_forward(logits, rows, columns, labels, output[1])

    @staticmethod
    def backward(ctx: Any, d_logps: Tensor, d_lse: Tensor) -> tuple[Tensor | None, ...]:
        logits, rows, columns, labels, lse = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative: nothing in place
            d = _derivative(logits[rows, columns], labels, lse, d_logps, d_lse)
            return torch.zeros_like(logits).index_put((rows, columns), d.to(logits.dtype)), None, None, None
        d_logits = torch.zeros_like(logits)
        for part in _parts(len(rows), logits.shape[-1]):
            x = logits[rows[part], columns[part]]
            d = _derivative(x, labels[part], lse[part], d_logps[part], d_lse[part])
            d_logits[rows[part], columns[part]] = d.to(logits.dtype)
        return d_logits, None, None, None

    @staticmethod
    def jvp(ctx: Any, d_logits: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
        logits, rows, columns, labels, lse = ctx.saved_tensors
        d = d_logits[rows, columns].to(lse.dtype)
        d_lse = (d * (logits[rows, columns].to(lse.dtype) - lse[:, None]).exp()).sum(-1)
        return d.gather(-1, labels[:, None]).squeeze(-1) - d_lse, d_lse


def _derivative(x: Tensor, labels: Tensor, lse: Tensor, d_logps: Tensor, d_lse: Tensor) -> Tensor:
    """Of one row of logits: d_logps (one-hot of the label − softmax) + d_lse softmax."""
    softmax = (x.to(lse.dtype) - lse[:, None]).exp()
    return (softmax * (d_lse - d_logps)[:, None]).scatter_add(-1, labels[:, None], d_logps[:, None])


def _parts(rows: int, vocab: int) -> list[slice]:
    step = max(1, _CHUNK // vocab)
    return [slice(start, start + step) for start in range(0, rows, step)]
