"""Against others: trl's own DPO trainer, and transformers' own loss, on random and on real log-probabilities."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from papertest import Measured, Run, claim
from papertest.models import smollm2
from papertest.parity import relative_error
from papertest.threads import one_thread

import dpo
from dpo import packed
from dpo.losses import PairLosses
from dpo.models import logits_of
from dpo.preferences import Batch, Encoded, collate
from dpo.reproduce.smollm2 import encoded, tokens
from dpo.reproduce.trl_side import model_of_nothing, trl_batch, trl_trainer, with_reference

PAIRS, BETA, SMOOTHING = 32, 0.1, 0.1
REAL = 2  # pairs of SmolLM2, the shortest ones: all exact claims together should take seconds
NOISE = 0.05  # relative deviation of the policy's last weights from the reference's


def cdpo(*logps: Tensor) -> PairLosses:
    return dpo.dpo_loss(*logps, beta=BETA, label_smoothing=SMOOTHING)


# trl's name of each loss, with ours. Its "sigmoid" takes no label smoothing. "aot" does (Melnyk et al. 2024), and is
# cDPO's loss where it has a single pair to sort.
LOSSES: dict[str, tuple[str, Callable[..., PairLosses]]] = {
    "dpo": ("sigmoid", lambda *logps: dpo.dpo_loss(*logps, beta=BETA)),
    "cdpo": ("aot", cdpo),
    "ipo": ("ipo", lambda *logps: dpo.ipo_loss(*logps, tau=BETA)),
}


@claim("trl-parity")
@one_thread()
def trl_parity(run: Run) -> Measured:
    """Losses, rewards and gradients in float64, pair by pair, on random log-probabilities and on those of SmolLM2; and
    the loss and the weights' gradients of SmolLM2 in float32, through all of trl's code and all of ours.

    trl divides IPO's log ratios by the number of tokens of each answer, and so they are divided before they come to
    ours; the random answers are of one token.
    """
    trainer: Any = trl_trainer(model_of_nothing(), beta=BETA)
    draw = torch.Generator().manual_seed(run.seed)
    drawn = -50 - 20 * torch.randn(PAIRS, 4, generator=draw, dtype=torch.float64)
    logps, errors = smollm2_through_both()
    counts = [(len(pair.chosen), len(pair.rejected)) for pair in pairs()]
    cases = [(row, (1, 1)) for row in drawn] + list(zip(logps.double(), counts, strict=True))
    found = {name: [compared(trainer, *sides, *case) for case in cases] for name, sides in LOSSES.items()}
    worst = {name: {part: max(row[part] for row in rows) for part in rows[0]} for name, rows in found.items()}
    value = {part: max(row[part] for row in worst.values()) for part in worst["dpo"]}
    return Measured(value | errors, worst)


@claim("sequence-logps-parity")
@one_thread()
def sequence_logps_parity(run: Run) -> Measured:
    """Row by row, against transformers' own loss of the same logits times the tokens of the answer.

    `packed`: both answers of a pair in one row, whose logits come out of matrix products of another shape; `float64`:
    against log-softmax in float64, from which transformers' float32 is further away than ours.
    """
    rows, logits = batch(), reference_logits()
    labels = rows.ids.masked_fill(~rows.mask, -100)  # what its loss leaves out
    with torch.no_grad():
        means = [model().loss_function(x[None], y[None], x.shape[-1]) for x, y in zip(logits, labels, strict=True)]
        peer = -torch.stack(means) * rows.mask.sum(-1)
        sides = {"padded": reference(), "packed": packed.packed_logps(model(), rows)[0]}
        wide = logits.double().log_softmax(-1)[:, :-1].gather(-1, rows.ids[:, 1:, None]).squeeze(-1)
    errors = {name: float(((ours - peer) / peer).abs().max()) for name, ours in sides.items()}
    exact = (wide * rows.mask[:, 1:]).sum(-1)
    errors["float64"] = float(((reference() - exact) / exact).abs().max())
    details = {"transformers_float64": float(((peer - exact) / exact).abs().max()), "nats": exact.tolist()}
    return Measured(errors, details | {"tokens": [tokens(pair) for pair in pairs()]})


def compared(
    trainer: Any, theirs: str, ours: Callable[..., PairLosses], logps: Tensor, counts: tuple[int, int]
) -> dict[str, float]:
    """Relative errors of one pair's loss, rewards and gradient.

    logps: the policy's chosen and rejected, the reference's chosen and rejected
    counts: tokens of both answers
    """
    reference, sides = logps[2:], list[tuple[Tensor, ...]]()
    for loss_of in (lambda policy: our_loss(theirs, ours, policy, reference, counts),
                    lambda policy: trl_loss(trainer, theirs, policy, reference, counts)):  # fmt: skip
        policy = logps[:2].clone().requires_grad_()
        loss, rewards = loss_of(policy)
        sides.append((loss, rewards, *torch.autograd.grad(loss, policy)))
    errors = (relative_error(a, b) for a, b in zip(*sides, strict=True))
    return dict(zip(("losses", "rewards", "gradients"), errors, strict=True))


def our_loss(
    theirs: str, ours: Callable[..., PairLosses], policy: Tensor, reference: Tensor, counts: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Our loss, and the implicit rewards of both answers."""
    scale = 1 / torch.tensor(counts, dtype=policy.dtype) if theirs == "ipo" else torch.ones_like(reference)
    losses, *_ = ours(*(policy * scale).split(1), *(reference * scale).split(1))
    return losses.mean(), dpo.implicit_reward(policy.detach(), reference, BETA)


def trl_loss(
    trainer: Any, theirs: str, policy: Tensor, reference: Tensor, counts: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """trl's own, from a model that says each answer's log-probability at its first token and 0 at the others."""
    trainer.loss_types, trainer.label_smoothing = [theirs], SMOOTHING
    answers = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
    mask = F.pad(answers.long(), (1, 0))
    at_first = F.pad(policy[:, None], (0, max(counts) - 1))
    said = SimpleNamespace(log_probs=at_first, entropy=at_first, mean_logits=at_first, is_top1=answers)
    inputs = {
        "input_ids": mask, "attention_mask": torch.ones_like(mask), "completion_mask": mask,
        "ref_chosen_logps": reference[:1], "ref_rejected_logps": reference[1:],
    }  # fmt: skip
    loss = trainer.compute_loss(lambda **_: said, inputs)
    seen = trainer._metrics["train"]
    return loss, torch.tensor([seen[f"rewards/{side}"][-1] for side in ("chosen", "rejected")], dtype=policy.dtype)


@cache
def model() -> Any:
    """SmolLM2. Its last layer and last norm have gradients: the way back through all of it would take seconds more."""
    made: Any = smollm2()[0].requires_grad_(False)
    for part in (made.model.layers[-1], made.model.norm):
        part.requires_grad_(True)
    return made


@cache
def pairs() -> tuple[Encoded, ...]:
    return tuple(sorted(encoded("en"), key=tokens)[:REAL])


def batch() -> Batch:
    return collate(pairs(), pad_id=0)


@cache
def reference_logits() -> Tensor:
    with torch.no_grad():
        return logits_of(model(), batch().ids, batch().padding_mask)


def reference() -> Tensor:
    """log π_ref of both pairs' answers, the chosen first."""
    return dpo.sequence_logps(reference_logits(), batch().ids, batch().mask)


@contextmanager
def policy() -> Generator[dict[str, nn.Parameter]]:
    """What has gradients, with noise in it, so that policy and reference differ; afterwards it is as it was."""
    trained = {name: p for name, p in model().named_parameters() if p.requires_grad}
    before = {name: p.detach().clone() for name, p in trained.items()}
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in trained.values():
            p.mul_(1 + NOISE * torch.randn(p.shape, generator=draw))
    try:
        yield trained
    finally:
        with torch.no_grad():
            for name, p in trained.items():
                p.copy_(before[name])


def smollm2_through_both() -> tuple[Tensor, dict[str, float]]:
    """The log-probabilities of each pair as `compared` takes them, and how far the losses and gradients are apart."""
    ref = reference()
    trainer: Any = trl_trainer(model(), beta=BETA)
    try:
        inputs = with_reference(trainer, model(), trl_batch(trainer, pairs()))
        with policy() as trained:
            weights = list(trained.values())
            theirs = trainer.compute_loss(model(), inputs)
            slopes = [torch.autograd.grad(theirs, weights)]
            logps, _ = packed.packed_logps(model(), batch())
            ours = dpo.dpo_loss(*logps.chunk(2), *ref.chunk(2), beta=BETA)[0].mean()
            slopes.append(torch.autograd.grad(ours, weights))
    finally:
        del model().forward  # trl's own, which it put there
    errors = {
        "model_loss": relative_error(ours, theirs),
        "model_gradients": max(relative_error(a, b) for b, a in zip(*slopes, strict=True)),
    }
    return torch.stack([*logps.detach().chunk(2), *ref.chunk(2)], 1), errors
