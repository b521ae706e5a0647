"""Switch's remedies against unstable training: weights that start smaller, and a router in float32 (Section 2.4).

The optimiser is Adafactor, which moves a matrix by a share of its own size: weights that start smaller also move less.
An Adam step has one size whatever the weights, and the remedy could not show with it.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from papertest import Run
from papertest.threads import one_thread

from moe.gates import Routing, SwitchGate, truncated_normal
from moe.layer import MoE
from moe.reproduce import data
from moe.reproduce.models import LENGTH, Arm, LanguageModel
from moe.reproduce.training import BATCH, QUICK, evaluate, objective, unigram

EXPERTS, ALPHA, STEPS = 32, 0.01, 300  # the experts of Tables 2 and 3
RATE = 0.3  # Adafactor takes the smaller of this and one over the root of the step, times the size of the weights
SCORED = 32 * BATCH * LENGTH  # held-out tokens
Precision = Literal["float32", "selective", "bfloat16"]


class HalfGate(SwitchGate):
    """Switch's gate without its selective precision: input, noise, logits and probabilities in bfloat16."""

    def forward(self, x: Float[Tensor, "tokens d_model"]) -> Routing:
        x = x.bfloat16()
        if self.training:
            x = x * torch.empty_like(x).uniform_(1 - self.jitter, 1 + self.jitter)
        with torch.autocast(x.device.type, enabled=False):
            logits = F.linear(x, self.W_r.bfloat16())
            probs = logits.softmax(-1)
        weights, experts = probs.max(-1, keepdim=True)
        return Routing(experts, weights, probs, logits)


def begun(model: LanguageModel, scale: float, precision: Precision) -> LanguageModel:
    """Every matrix but the embeddings drawn with σ = √(scale/n), and the gates of this precision."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            truncated_normal(module.weight.data, scale)
        if isinstance(module, MoE):
            for weights in module.parameters():
                truncated_normal(weights.data, scale)
            if precision == "bfloat16":
                module.gate.__class__ = HalfGate
    return model


@one_thread()
def started(run: Run, scale: float, precision: Precision, attempt: int) -> dict[str, Any]:
    """A Switch model after its first steps: held-out nats, the training loss, and the experts that nothing reaches.

    attempt: of several trainings of one seed, each with weights and batches of its own
    """
    torch.manual_seed(seed := 100 * run.seed + attempt)
    arm = Arm(EXPERTS, alpha=ALPHA)
    model = begun(LanguageModel(data.PIECES, arm), scale, precision).to(run.device)
    adafactor = torch.optim.Adafactor(model.parameters(), lr=RATE)
    steps, scored = (QUICK, 4096) if run.quick else (STEPS, SCORED)
    generator = torch.Generator().manual_seed(seed)
    train = data.pieces("train")
    held_out = data.windows(data.pieces("test"), LENGTH, scored)
    losses: list[float] = []
    with torch.autocast(run.device, torch.bfloat16, enabled=precision != "float32"):
        for _ in run.progress(range(steps), f"scale {scale}, {precision}, seed {run.seed}, attempt {attempt}"):
            ids = data.draw(train, LENGTH, BATCH, generator).to(model.device)
            logits, infos = model(ids[:, :-1])
            loss = objective(logits.float(), infos, ids[:, 1:], arm)
            adafactor.zero_grad()
            loss.backward()
            adafactor.step()
            losses.append(loss.item())
        nats, routed = evaluate(model, held_out)
    loads = [torch.bincount(experts.flatten(), minlength=EXPERTS) for _, experts in routed]
    return {
        "nats": nats, "unigram": unigram(train, held_out[:, 1:].flatten()), "losses": losses[:: max(1, steps // 50)],
        "unused": [int((load == 0).sum()) for load in loads],
    }  # fmt: skip
