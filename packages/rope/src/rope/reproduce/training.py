"""Training the small models, and what is measured of each. A shared run gives numbers alone, never weights."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor, nn

from papertest import Run
from papertest.threads import one_thread

from rope.reproduce import data
from rope.reproduce.models import LanguageModel, Positions
from rope.scaling import ScaledFrequencies, scale_frequencies
from rope.tables import rope_frequencies

STEPS, TOKENS = 1500, 1024  # of a causal model, and of each of its batches: 1.5 million tokens
RATE, BETAS, DECAY, CLIP, WARMUP = 3e-3, (0.9, 0.98), 0.01, 1.0, 0.1
TIMES, LONGEST = (1, 2, 4, 8, 16), 2048  # of the training length, and in all: where perplexity is taken
SCORED = 65_536  # held-out tokens
STRIDE = 16  # of sliding windows: each is scored on its last 16 tokens
SLID = 256  # windows, which score the same tokens at every length
QUICK = 20  # steps in `reproduce --quick`


def optimiser(model: nn.Module, steps: int, rate: float = RATE) -> tuple[torch.optim.Optimizer, Any]:
    """AdamW; the rate rises for a tenth of the steps and then falls in a line to 0."""
    adam = torch.optim.AdamW(model.parameters(), lr=rate, betas=BETAS, weight_decay=DECAY)
    warm = max(1, round(WARMUP * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda i: min((i + 1) / warm, (steps - i) / (steps - warm)))
    return adam, schedule


def learn(
    run: Run, model: LanguageModel, tokens: Tensor, *, length: int, batch: int, steps: int, rate: float, what: str
) -> None:
    """So many steps on random windows, which the seed draws: the same for all models of one length and batch."""
    adam, schedule = optimiser(model, steps, rate)
    generator = torch.Generator().manual_seed(run.seed)
    for _ in run.progress(range(steps), what):
        step(model, adam, schedule, data.draw(tokens, length, batch, generator))


def step(model: LanguageModel, adam: torch.optim.Optimizer, schedule: Any, ids: Int[Tensor, "batch seq_and_1"]) -> None:
    """One step on the next token of each place."""
    ids = ids.to(model.device)
    update(model, adam, schedule, F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()))


def update(model: nn.Module, adam: torch.optim.Optimizer, schedule: Any, loss: Tensor) -> None:
    adam.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    adam.step()
    schedule.step()


@torch.no_grad()
def losses(model: LanguageModel, ids: Int[Tensor, "windows seq_and_1"], at_once: int = 4096) -> Tensor:
    """Nats of each predicted token, (windows, seq)."""
    found: list[Tensor] = []
    for part in ids.split(max(1, at_once // ids.shape[1])):
        part = part.to(model.device)
        logits = model(part[:, :-1])
        found.append(F.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten(), reduction="none").view(len(part), -1))
    return torch.cat(found).cpu()


def perplexities(
    model: LanguageModel, tokens: Tensor, length: int, lengths: Iterable[int], most: int
) -> dict[str, Any]:
    """Perplexity at each length over the same text, of all tokens and of the last `length` of each window."""
    found = {n: losses(model, data.windows(tokens, n, most)) for n in lengths}
    return {
        "lengths": list(found),
        "all": [math.exp(nats.mean()) for nats in found.values()],
        "last": [math.exp(nats[:, -length:].mean()) for nats in found.values()],
    }


def sliding(model: LanguageModel, tokens: Tensor, lengths: list[int], count: int) -> list[float]:
    """Perplexity of the same tokens with so much context each: the last STRIDE of windows of each length."""
    first = max(lengths)
    ends = first + torch.linspace(0, len(tokens) - first - 1, count).long()
    scores: list[float] = []
    for n in lengths:
        ids = tokens[ends[:, None] + torch.arange(-n, 1)]
        scores.append(math.exp(losses(model, ids)[:, -STRIDE:].mean()))
    return scores


def unigram(tokens: Tensor, held_out: Tensor, vocab: int) -> float:
    """Nats of the held-out tokens by their frequencies in the training text."""
    shares = (torch.bincount(tokens, minlength=vocab) + 1).double()
    return -(shares / shares.sum()).log()[held_out].mean().item()


@one_thread()
def causal(run: Run, positions: Positions, length: int, n_heads: int, slide: bool = False) -> dict[str, Any]:
    """A causal model on byte pairs at one length: perplexities at it and at multiples of it."""
    model, steps, most = LanguageModel(data.PIECES, positions, n_heads, length=length).to(run.device), STEPS, SCORED
    if run.quick:
        steps, most = QUICK, 4096
    learn(run, model, data.pieces("train"), length=length, batch=TOKENS // length, steps=steps, rate=RATE,
          what=f"{positions}, length {length}, {n_heads} heads, seed {run.seed}")  # fmt: skip
    model.eval()
    test = data.pieces("test")
    found = perplexities(model, test, length, [t * length for t in TIMES if t * length <= LONGEST], most)
    found["unigram"] = unigram(data.pieces("train"), test, data.PIECES)
    if slide:
        found["sliding"] = sliding(model, test, [t * length for t in TIMES[:4]], 16 if run.quick else SLID)
    return found


# ---------------------------------------------------------------------------- longer contexts of a rotary model

CONTEXT, HEADS, LONGER = 256, 4, (2, 4)  # the trained length, where the fastest pair turns 40 times; the factors
TUNED, TUNED_RATE = 150, 3e-4  # steps of fine-tuning, a tenth of the training's; the rate of its start
METHODS = ("plain", "linear", "ntk", "yarn", "yarn, ramp to 4")
TUNE = ("plain", "linear", "yarn")


def scaled(method: str, factor: int) -> ScaledFrequencies:
    """Rotary's frequencies for a context so many times as long."""
    theta = rope_frequencies(128 // HEADS)
    if method == "plain":
        return ScaledFrequencies(theta)
    name, _, ramp = method.partition(", ramp to ")
    more: dict[str, Any] = {"original_max_position_embeddings": CONTEXT, "ramp": "paper"} if name == "yarn" else {}
    return scale_frequencies(theta, name, factor=factor, **more, **({"beta_fast": float(ramp)} if ramp else {}))


@one_thread()
def extended(run: Run) -> dict[str, Any]:
    """A rotary model trained at CONTEXT, read at 2 and 4 times that by each method, and fine-tuned at 4 times."""
    model = LanguageModel(data.PIECES, "rotary", HEADS, length=CONTEXT).to(run.device)
    train, test = data.pieces("train"), data.pieces("test")
    steps, tuned, most = (QUICK, QUICK // 4, 4096) if run.quick else (STEPS, TUNED, SCORED)
    learn(run, model, train, length=CONTEXT, batch=TOKENS // CONTEXT, steps=steps, rate=RATE,
          what=f"rotary, length {CONTEXT}, seed {run.seed}")  # fmt: skip
    found: dict[str, Any] = {"trained": perplexities(model, test, CONTEXT, [CONTEXT], most), "read": {}, "tuned": {}}
    found["unigram"] = unigram(train, test, data.PIECES)
    for method in METHODS:
        rows: list[dict[str, Any]] = []
        for factor in LONGER:
            model.scaled = scaled(method, factor)
            rows.append(perplexities(model, test, CONTEXT, [factor * CONTEXT], most))
        found["read"][method] = {key: [row[key][0] for row in rows] for key in ("lengths", "all", "last")}
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    for method in TUNE:
        model.load_state_dict(weights)
        model.scaled = scaled(method, LONGER[-1])
        found["tuned"][method] = tune(run, model, method, tuned, most)
    return found


def tune(run: Run, model: LanguageModel, method: str, steps: int, most: int) -> dict[str, Any]:
    """Perplexity at 4 times the length after each tenth of the steps, of all tokens and of the last."""
    length = LONGER[-1] * CONTEXT
    adam, schedule = optimiser(model, steps, TUNED_RATE)
    generator = torch.Generator().manual_seed(run.seed)
    train, test = data.pieces("train"), data.pieces("test")
    curve: list[dict[str, Any]] = []
    for done in run.progress(range(1, steps + 1), f"fine-tuning, {method}, seed {run.seed}"):
        step(model, adam, schedule, data.draw(train, length, TOKENS // length, generator))
        if done % max(1, steps // 10) == 0:
            score = perplexities(model, test, CONTEXT, [length], most // 2)
            curve.append({"step": done, "all": score["all"][0], "last": score["last"][0]})
    return {"steps": steps, "curve": curve, "all": curve[-1]["all"], "last": curve[-1]["last"]}


# ---------------------------------------------------------------------------- characters: linear attention, masked LM

LINEAR_LENGTH, LINEAR_STEPS, LINEAR_BATCH, POINTS = 128, 800, 16, 20


@one_thread()
def linear(run: Run, positions: Positions) -> dict[str, Any]:
    """A causal model of characters with linear attention: held-out nats on its way."""
    steps = QUICK if run.quick else LINEAR_STEPS
    model = LanguageModel(len(data.CHARACTERS), positions, HEADS, length=LINEAR_LENGTH, linear=True)
    model.to(run.device)
    adam, schedule = optimiser(model, steps)
    generator = torch.Generator().manual_seed(run.seed)
    train, test = data.characters("train"), data.characters("test")
    held_out = data.windows(test, LINEAR_LENGTH, 4096 if run.quick else SCORED // 2)
    curve: list[dict[str, float]] = []
    for done in run.progress(range(1, steps + 1), f"linear attention, {positions}, seed {run.seed}"):
        step(model, adam, schedule, data.draw(train, LINEAR_LENGTH, LINEAR_BATCH, generator))
        if done % (steps // POINTS) == 0:
            curve.append({"step": done, "nats": losses(model, held_out).mean().item()})
    return {"curve": curve, "unigram": unigram(train, test, len(data.CHARACTERS))}


MLM_LENGTH, MLM_BATCH, MLM_STEPS, HIDDEN = 64, 32, 2000, 0.15


def hide(ids: Int[Tensor, "batch seq"], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """BERT's masking: of the chosen 15 %, 8 in 10 become MASK, 1 another character, 1 stays; and which are chosen."""
    chosen = torch.rand(ids.shape, generator=generator) < HIDDEN
    fate = torch.rand(ids.shape, generator=generator)
    other = torch.randint(data.MASK, ids.shape, generator=generator)
    shown = torch.where(fate < 0.8, data.MASK, torch.where(fate < 0.9, other, ids))
    return torch.where(chosen, shown, ids), chosen


@one_thread()
def masked(run: Run, positions: Positions, std: float, rate: float, steps: int = MLM_STEPS) -> dict[str, Any]:
    """A masked model of characters: held-out nats of the hidden characters on its way."""
    steps = QUICK if run.quick else steps
    model = LanguageModel(data.MASK + 1, positions, HEADS, length=MLM_LENGTH, causal=False, std=std)
    model.to(run.device)
    adam, schedule = optimiser(model, steps, rate)
    generator = torch.Generator().manual_seed(run.seed)
    train, test = data.characters("train"), data.characters("test")
    clear = data.windows(test, MLM_LENGTH, 4096 if run.quick else SCORED)[:, :-1]
    hidden, chosen = hide(clear, torch.Generator().manual_seed(0))
    curve: list[dict[str, float]] = []
    for done in run.progress(range(1, steps + 1), f"masked, {positions}, seed {run.seed}"):
        ids = data.draw(train, MLM_LENGTH, MLM_BATCH, generator)[:, :-1]
        shown, asked = (x.to(run.device) for x in hide(ids, generator))
        ids = ids.to(run.device)
        loss = F.cross_entropy(model(shown)[asked], ids[asked])
        update(model, adam, schedule, loss)
        if done % (steps // POINTS) == 0:
            curve.append({"step": done, "nats": held_out_nats(model, hidden, clear, chosen)})
    return {"curve": curve, "unigram": unigram(train, test, len(data.CHARACTERS))}


@torch.no_grad()
def held_out_nats(model: LanguageModel, hidden: Tensor, clear: Tensor, chosen: Tensor) -> float:
    total = 0.0
    for part in zip(*(x.split(64) for x in (hidden, clear, chosen)), strict=True):
        shown, ids, asked = (x.to(model.device) for x in part)
        total += F.cross_entropy(model(shown)[asked], ids[asked], reduction="sum").item()
    return total / int(chosen.sum())
