"""Training the small models, and what is measured of each. A shared run gives numbers alone, never weights."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from papertest import Run
from papertest.threads import one_thread

from moe.layer import MoE, MoEInfo
from moe.losses import squared_cv
from moe.reproduce import data
from moe.reproduce.models import ARMS, LENGTH, Arm, LanguageModel

BATCH = 64  # sequences, in training and where capacity is measured: an expert's capacity depends on it
RATE, BETAS, DECAY, CLIP, WARMUP = 3e-3, (0.9, 0.98), 0.01, 1.0, 0.1
SCORED, SHOWN = 64 * BATCH * LENGTH, 8 * BATCH * LENGTH  # held-out tokens at the end; and on the way, the same ones
POINTS = 40  # of the curve
ENDS = 20  # steps over which the dropped share is taken, the first and the last ones
UNUSED = 0.01  # of the mean load: an expert with less counts as unused
PERMUTED = 20  # times that kinds are permuted over the pieces
QUICK = 20  # steps in `reproduce --quick`


def optimiser(model: nn.Module, steps: int) -> tuple[torch.optim.Optimizer, Any]:
    """AdamW; the rate rises for a tenth of the steps and then falls in a line to 0."""
    adam = torch.optim.AdamW(model.parameters(), lr=RATE, betas=BETAS, weight_decay=DECAY)
    warm = max(1, round(WARMUP * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda i: min((i + 1) / warm, (steps - i) / (steps - warm)))
    return adam, schedule


def objective(logits: Tensor, infos: list[MoEInfo], targets: Int[Tensor, "batch seq"], arm: Arm) -> Float[Tensor, ""]:
    """Nats of the next tokens, and each layer's own balancing losses."""
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    for info in infos:
        loss = loss + arm.alpha * info.balance_loss + arm.weight * (info.importance_loss + info.load_loss)
    return loss


@one_thread()
def trained(run: Run, name: str) -> dict[str, Any]:
    """One of ARMS: held-out nats on the way and at the end, the share of dropped choices, and each layer's routing."""
    arm = ARMS[name]
    model = LanguageModel(data.PIECES, arm).to(run.device)
    steps, scored, shown = (QUICK, 4096, 4096) if run.quick else (arm.steps, SCORED, SHOWN)
    adam, schedule = optimiser(model, steps)
    generator = torch.Generator().manual_seed(run.seed)
    train, test = data.pieces("train"), data.pieces("test")
    held_out = data.windows(test, LENGTH, scored)
    curve: list[dict[str, float]] = []
    dropped: list[Tensor] = []
    for done in run.progress(range(1, steps + 1), f"{name}, seed {run.seed}"):
        ids = data.draw(train, LENGTH, BATCH, generator).to(model.device)
        logits, infos = model(ids[:, :-1])
        loss = objective(logits, infos, ids[:, 1:], arm)
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        adam.step()
        schedule.step()
        if infos:
            dropped.append(torch.stack([info.dropped / info.counts.sum() for info in infos]).mean())
        if done % max(1, steps // POINTS) == 0:
            curve.append({"step": done, "nats": evaluate(model, held_out[: shown // LENGTH])[0]})
    nats, routed = evaluate(model, held_out)
    layers = [routing(importance, experts, held_out[:, :-1]) for importance, experts in routed]
    ends = {"first": dropped[:ENDS], "last": dropped[-ENDS:]}
    return {
        "curve": curve, "nats": nats, "unigram": unigram(train, held_out[:, 1:].flatten()), "layers": layers,
        "dropped": {end: torch.stack(shares).mean().item() for end, shares in ends.items() if shares},
    }  # fmt: skip


def unigram(tokens: Int[Tensor, " tokens"], held_out: Int[Tensor, " others"]) -> float:
    """Nats of the held-out tokens by their frequencies in the training text."""
    shares = (torch.bincount(tokens, minlength=data.PIECES) + 1).double()
    return -(shares / shares.sum()).log()[held_out].mean().item()


@torch.no_grad()
def evaluate(
    model: LanguageModel, windows: Int[Tensor, "windows seq_and_1"]
) -> tuple[float, list[tuple[Tensor, Tensor]]]:
    """Held-out nats per token, in batches as in training; and of each sparse layer the importance of its experts, and
    which k each token chose. The model trains on."""
    sparse = [layer for layer in model.ff if isinstance(layer, MoE)]
    chosen: list[list[Tensor]] = [[] for _ in sparse]
    hooks = [layer.gate.register_forward_hook(_noting(into)) for layer, into in zip(sparse, chosen, strict=True)]
    model.eval()
    total, importance = 0.0, [torch.zeros(layer.n_experts) for layer in sparse]
    for ids in windows.split(BATCH):
        ids = ids.to(model.device)
        logits, infos = model(ids[:, :-1])
        total += F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="sum").item()
        importance = [before + info.importance.cpu() for before, info in zip(importance, infos, strict=True)]
    model.train()
    for hook in hooks:
        hook.remove()
    return total / windows[:, 1:].numel(), list(zip(importance, map(torch.cat, chosen), strict=True))


def _noting(into: list[Tensor]) -> Any:
    """A hook on a gate that keeps which experts it chose."""
    return lambda gate, given, found: into.append(found.experts.cpu())


def routing(
    importance: Float[Tensor, " experts"], experts: Int[Tensor, "tokens k"], inputs: Int[Tensor, "windows seq"]
) -> dict[str, Any]:
    """How evenly one layer routes the held-out tokens, and what its first choices follow.

    kinds: the share of the kinds' entropy that the first expert tells, with kinds as they are, permuted over the
        tokens, and permuted over the pieces, where each piece keeps one kind that is another's
    repeats: how often the next token has the same first expert, and how often it would in a random order
    """
    n_experts = len(importance)
    load = torch.bincount(experts.flatten(), minlength=n_experts).double()
    first = experts[:, 0]
    draw = torch.Generator().manual_seed(0)
    kinds, pieces = data.kinds(), inputs.flatten()
    over_pieces = [share_told(first, kinds[torch.randperm(len(kinds), generator=draw)][pieces])
                   for _ in range(PERMUTED)]  # fmt: skip
    shares = torch.bincount(first, minlength=n_experts).double() / len(first)
    rows = first.view_as(inputs)
    return {
        "cv_importance": squared_cv(importance.double()).sqrt().item(), "cv_load": squared_cv(load).sqrt().item(),
        "max_over_mean": (load.max() / load.mean()).item(), "unused": int((load < UNUSED * load.mean()).sum()),
        "kinds": {
            "told": share_told(first, kinds[pieces]),
            "tokens": share_told(first, kinds[pieces[torch.randperm(len(pieces), generator=draw)]]),
            "pieces": sum(over_pieces) / PERMUTED,
        },
        "repeats": {"next": (rows[:, 1:] == rows[:, :-1]).double().mean().item(),
                    "random": shares.square().sum().item()},
    }  # fmt: skip


def share_told(experts: Int[Tensor, " tokens"], kinds: Int[Tensor, " tokens"]) -> float:
    """Mutual information of both over the entropy of the kinds: 1 where the expert tells the kind."""
    n = int(kinds.max()) + 1
    joint = torch.bincount(experts * n + kinds, minlength=(int(experts.max()) + 1) * n).double().view(-1, n)
    joint = joint / joint.sum()
    entropy = torch.special.entr
    of_kinds = entropy(joint.sum(0)).sum()
    return ((of_kinds + entropy(joint.sum(1)).sum() - entropy(joint).sum()) / of_kinds).item()
