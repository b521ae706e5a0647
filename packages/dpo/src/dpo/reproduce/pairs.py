"""What all methods of one seed share: the reference, pairs of its own samples ranked by the true reward, and reward
models of these pairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from papertest import Run

from dpo.logps import sequence_logps
from dpo.reproduce import sentiment
from dpo.reproduce.models import D_MODEL, LanguageModel, sample
from dpo.reproduce.sentiment import LENGTH, answer_mask
from dpo.reward import RewardModel, reward_loss

BATCH, STEPS, RATE, BETAS, DECAY, CLIP, WARMUP = 128, 2000, 3e-3, (0.9, 0.98), 0.01, 1.0, 0.1  # of the reference
DRAWN = 2_048  # prompts at a time
PART = 512  # answers whose logits are held at a time
SAMPLES, RIVALS = 2048, 16  # answers to held-out prompts wherever a policy is measured; and of the reference to each
PAIRS_BATCH, JUDGE_RATE, JUDGE_STEPS, PROXY_STEPS = 64, 1e-3, 400, 96  # of the reward models


@dataclass(frozen=True)
class Pairs:
    """Rows of prompt and answer, and the true rewards; `chosen` has the higher one."""

    chosen: Int[Tensor, "pairs length"]
    rejected: Int[Tensor, "pairs length"]
    chosen_scores: Float[Tensor, " pairs"]
    rejected_scores: Float[Tensor, " pairs"]

    def __len__(self) -> int:
        return len(self.chosen)

    def first(self, count: int) -> Pairs:
        return Pairs(
            self.chosen[:count], self.rejected[:count], self.chosen_scores[:count], self.rejected_scores[:count]
        )


def optimiser(
    model: nn.Module, rate: float, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """AdamW; the rate rises for a tenth of the steps and then falls in a line to 0."""
    adam = torch.optim.AdamW(model.parameters(), lr=rate, betas=BETAS, weight_decay=DECAY)
    warm = max(1, round(WARMUP * steps))
    fall = max(1, steps - warm)
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda i: min((i + 1) / warm, (steps - i) / fall))
    return adam, schedule


def nats(model: LanguageModel, rows: Int[Tensor, "rows length_and_1"]) -> Float[Tensor, ""]:
    """Mean loss of each next piece; what fills a row after END counts nothing."""
    logits, targets = model(rows[:, :-1]), rows[:, 1:]
    counted = rows[:, :-1] != sentiment.END
    return F.cross_entropy(logits[counted], targets[counted])


def learnt(run: Run, steps: int) -> LanguageModel:
    """A model of the sentences."""
    torch.manual_seed(run.seed)
    model = LanguageModel()
    adam, schedule = optimiser(model, RATE, steps)
    rows, generator = sentiment.rows("train"), torch.Generator().manual_seed(run.seed)
    for _ in run.progress(range(steps), f"reference, seed {run.seed}"):
        loss = nats(model, rows[torch.randint(len(rows), (BATCH,), generator=generator)])
        advance(model, loss, adam, schedule)
    return model.eval().requires_grad_(False)


def ranked(
    model: LanguageModel, prompts: Int[Tensor, "prompts 3"], count: int, generator: torch.Generator
) -> tuple[Pairs, float]:
    """`count` pairs of two samples each that differ in score, and the share of pairs that did not."""
    found: list[tuple[Tensor, ...]] = []
    drawn = kept = 0
    while kept < count:
        chosen = prompts[torch.randint(len(prompts), (DRAWN,), generator=generator)]
        both = [sample(model, chosen, 1.0, generator) for _ in range(2)]
        scores = [sentiment.rewards(ids) for ids in both]
        first = (scores[0] > scores[1])[:, None]
        apart = scores[0] != scores[1]
        found.append((
            torch.where(first, *both)[apart], torch.where(first, *reversed(both))[apart],
            torch.maximum(*scores)[apart], torch.minimum(*scores)[apart],
        ))  # fmt: skip
        drawn, kept = drawn + DRAWN, kept + int(apart.sum())
    return Pairs(*(torch.cat(parts)[:count] for parts in zip(*found, strict=True))), 1 - kept / drawn


def padding_mask(ids: Int[Tensor, "batch length"]) -> Tensor:
    """True at prompt and answer."""
    return answer_mask(ids) | (torch.arange(LENGTH) < sentiment.PROMPT)


def judge(run: Run, reference: LanguageModel, pairs: Pairs, steps: int) -> RewardModel:
    """A reward model (Eq. 2) that starts from the reference, as Stiennon et al. start theirs from the supervised
    model."""
    torch.manual_seed(run.seed)
    model, generator = RewardModel(LanguageModel().backbone, D_MODEL), torch.Generator().manual_seed(run.seed)
    model.backbone.load_state_dict(reference.backbone.state_dict())
    adam, schedule = optimiser(model, JUDGE_RATE, steps)
    for rows in run.progress(batches(len(pairs), steps, generator), f"reward model, seed {run.seed}", steps):
        ids = torch.cat([pairs.chosen[rows], pairs.rejected[rows]])
        loss = reward_loss(*model(ids, padding_mask(ids)).chunk(2)).mean()
        advance(model, loss, adam, schedule)
    return model.eval().requires_grad_(False)


def batches(count: int, steps: int, generator: torch.Generator) -> Iterator[Int[Tensor, " batch"]]:
    """Places in a set of `count`, each once before any comes again, in as many batches of PAIRS_BATCH as steps."""
    order = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        while len(order) < PAIRS_BATCH:
            order = torch.cat([order, torch.randperm(count, generator=generator)])
        yield order[:PAIRS_BATCH]
        order = order[PAIRS_BATCH:]


def advance(
    model: nn.Module, loss: Tensor, optimizer: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LambdaLR
) -> None:
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    optimizer.step()
    schedule.step()


@torch.no_grad()
def pair_logps(model: LanguageModel, pairs: Pairs) -> Float[Tensor, "2 pairs"]:
    """log π of the chosen and of the rejected."""
    both = [
        torch.cat([sequence_logps(model(ids), ids, answer_mask(ids)) for ids in answers.split(PART)])
        for answers in (pairs.chosen, pairs.rejected)
    ]
    return torch.stack(both)


def held_out_prompts() -> Int[Tensor, "samples 3"]:
    """SAMPLES prompts, the held-out ones in turn."""
    found = sentiment.prompts("test")
    return found[torch.arange(SAMPLES) % len(found)]


def rivals(reference: LanguageModel, generator: torch.Generator) -> Float[Tensor, " samples"]:
    """The highest true reward of RIVALS answers of the reference to each of the held-out prompts: what a policy's
    answer has to beat, where the paper's has to beat one that a person wrote."""
    drawn = (sample(reference, held_out_prompts(), 1.0, generator) for _ in range(RIVALS))
    return torch.stack([sentiment.rewards(ids) for ids in drawn]).amax(0)
