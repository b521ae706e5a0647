"""PPO (Schulman et al. 2017) on answers, as Stiennon et al. (2020) and Ouyang et al. (2022) use it: what DPO replaces.

Tensors of shape (batch, seq) are aligned with the tokens: place t is about writing token t, having seen those before.
The mask is True at the answer's tokens; what stands elsewhere acts on nothing, be it NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dpo.checks import between, boolean, finite, floating, number, same_shape, whole
from dpo.logps import token_logps
from dpo.models import call, evaluating, logits_of

Tokens = Float[Tensor, "batch seq"]
Mask = Bool[Tensor, "batch seq"]


@torch.no_grad()
def kl_rewards(scores: Float[Tensor, " batch"], logps: Tokens, ref_logps: Tokens, mask: Mask, beta: float) -> Tokens:
    """The reward of each token, −β (log π − log π_ref), and at the answer's last token the score besides (Ouyang et
    al., Eq. 2 without its pre-training term; Section 3 of DPO calls it r(x, y) of the usual RLHF). Their sum over an
    answer is its score − β log π(y | x) / π_ref(y | x).

    beta: at least 0

    Raises ValueError for shapes or types that do not fit, numbers that are not finite, and an empty answer.
    """
    between("beta", beta, 0, float("inf"))
    logps, ref_logps = _tokens(mask, logps=logps, ref_logps=ref_logps)
    scores = floating("scores", scores, ("batch",))
    same_shape("scores", scores, (len(logps),), "the batch")
    finite("scores", scores)
    last = torch.arange(mask.shape[1], device=mask.device).masked_fill(~mask, -1).amax(-1, keepdim=True)
    return (-beta * (logps - ref_logps)).scatter_add(-1, last, scores[:, None].to(logps.dtype))


@torch.no_grad()
def gae(rewards: Tokens, values: Tokens, mask: Mask, gamma: float = 1.0, lam: float = 0.95) -> tuple[Tokens, Tokens]:
    """Advantages and returns (Schulman et al. 2016, Eq. 16): Â_t = Σ_l (γ λ)^l δ_{t+l}, δ_t = r_t + γ V_{t+1} − V_t.

    The value behind the answer's last token is 0: the answer is over. The return, which the value function is trained
    on, is Â_t + V_t. Both are 0 outside of the mask, and constants.

    gamma, lam: from 0 to 1; 1 and 0.95 are Stiennon et al.'s

    Raises ValueError for shapes or types that do not fit, numbers that are not finite, an empty answer, and a reward
    outside of the mask, which would be lost.
    """
    between("gamma", gamma, 0, 1)
    between("lam", lam, 0, 1)
    kept, values = _tokens(mask, rewards=rewards, values=values)
    lost = rewards.masked_fill(mask, 0) != 0
    if lost.any():
        row, column = (int(i) for i in lost.nonzero()[0])
        raise ValueError(f"rewards must be 0 outside of the mask, got {rewards[row, column].item()} in row {row}, "
                         f"column {column}")  # fmt: skip
    advantages = torch.zeros_like(kept)
    after = value_after = torch.zeros_like(kept[:, 0])
    for t in reversed(range(kept.shape[1])):
        delta = kept[:, t] + gamma * value_after - values[:, t]
        after = torch.where(mask[:, t], delta + gamma * lam * after, after)
        value_after = torch.where(mask[:, t], values[:, t], value_after)
        advantages[:, t] = torch.where(mask[:, t], after, 0)
    return advantages, advantages + values


def clipped_surrogate(
    logps: Tokens, old_logps: Tokens, advantages: Tokens, mask: Mask, clip: float = 0.2
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """−L^CLIP (Schulman et al. 2017, Eq. 7), to be minimised: minus the mean over the answers' tokens of
    min(ρ Â, clip(ρ, 1 − ε, 1 + ε) Â), with ρ = π / π_old.

    old_logps, advantages: constants, of the policy that wrote the answers
    clip: ε

    Returns that and the share of tokens whose ρ is outside of 1 ± ε. Raises ValueError for a clip that is not above 0,
    for shapes or types that do not fit, numbers that are not finite, and an empty answer.
    """
    number("clip", clip)
    logps, old_logps, advantages = _tokens(mask, logps=logps, old_logps=old_logps, advantages=advantages)
    ratio = (logps - old_logps.detach()).exp()
    A = advantages.detach()
    objective = torch.minimum(ratio * A, ratio.clamp(1 - clip, 1 + clip) * A)
    return -_mean(objective, mask), _mean(((ratio.detach() - 1).abs() > clip).to(A.dtype), mask)


def value_loss(values: Tokens, old_values: Tokens, returns: Tokens, mask: Mask, clip: float = 0.2) -> Float[Tensor, ""]:
    """Half the mean over the answers' tokens of max((V − R)², (V_clip − R)²), where V_clip is V kept within ε of what
    it was when the answers were written: the value's counterpart of L^CLIP, from the PPO authors' code.

    Raises ValueError as `clipped_surrogate` does.
    """
    number("clip", clip)
    values, old, R = _tokens(mask, values=values, old_values=old_values.detach(), returns=returns.detach())
    clipped = old + (values - old).clamp(-clip, clip)
    return _mean(torch.maximum((values - R).square(), (clipped - R).square()), mask) / 2


def _tokens(mask: Any, **tensors: Any) -> list[Tensor]:
    """The tensors in float32 at least, 0 outside of the mask, checked."""
    wide = {name: floating(name, value, ("batch", "seq")) for name, value in tensors.items()}
    first, *_ = wide
    boolean("mask", mask, tuple(wide[first].shape), first)
    if not mask.any(-1).all():
        row = int((~mask.any(-1)).nonzero()[0])
        raise ValueError(f"mask must be True at one token of each row at least, got an empty answer in row {row}")
    for name, value in wide.items():
        same_shape(name, value, tuple(mask.shape), "mask")
        wide[name] = value.masked_fill(~mask, 0)
        finite(name, wide[name])
    return list(wide.values())


def _mean(x: Tensor, mask: Tensor) -> Tensor:
    """Over the mask; x is 0 or meaningless elsewhere."""
    return x.masked_fill(~mask, 0).sum() / mask.sum()


@dataclass(frozen=True)
class PPOConfig:
    """Numbers of `PPOTrainer`; Stiennon et al.'s (Appendix B.1), and clips of Schulman et al.

    beta: of the KL penalty
    gamma, lam: of the advantages
    clip, value_clip: ε of policy and value
    value_weight: of the value's loss beside the policy's
    epochs, minibatch: passes over the answers of one step, and answers in each of the optimizer's steps
    max_norm: gradients are scaled down to this norm

    Raises ValueError for numbers outside of what each can be.
    """

    beta: float = 0.05
    gamma: float = 1.0
    lam: float = 0.95
    clip: float = 0.2
    value_clip: float = 0.2
    value_weight: float = 0.1
    epochs: int = 4
    minibatch: int = 64
    max_norm: float = 1.0

    def __post_init__(self) -> None:
        between("beta", self.beta, 0, float("inf"))
        for name in ("gamma", "lam"):
            between(name, getattr(self, name), 0, 1)
        for name in ("clip", "value_clip", "value_weight", "max_norm"):
            number(name, getattr(self, name))
        whole("epochs", self.epochs)
        whole("minibatch", self.minibatch)


class PPOTrainer:
    """Sample, score, and improve.

    policy, reference: map (ids, padding_mask) to logits, or are causal language models of transformers; the reference
        is a model of its own
    value: maps (ids, padding_mask) to (batch, seq), the value after each token
    reward: a function of (ids, padding_mask, answer_mask) that gives (batch,) scores; for a `RewardModel`,
        lambda ids, padding_mask, answer_mask: model(ids, padding_mask)
    sample: a function of (policy, prompts) that gives (ids, padding_mask, answer_mask), with answers drawn from the
        policy's own distribution: temperature 1 and nothing left out, or the ratios are wrong. An answer ends with its
        end token, or where it was cut off
    optimizer: over the parameters of policy and value

    All passes are made in eval mode: with dropout no ratio would start at 1.

    Raises ValueError for a reference that shares parameters with the policy.
    """

    def __init__(
        self, policy: nn.Module, value: nn.Module, reference: nn.Module, reward: Callable[..., Tensor],
        sample: Callable[..., tuple[Tensor, Tensor, Tensor]], optimizer: torch.optim.Optimizer,
        config: PPOConfig = PPOConfig(),
    ) -> None:  # fmt: skip
        if {*map(id, reference.parameters())} & {*map(id, policy.parameters())}:
            raise ValueError("reference must have parameters of its own, got a model that shares some with the policy")
        self.policy, self.value, self.reference = policy, value, reference
        self.reward, self.sample, self.optimizer, self.config = reward, sample, optimizer, config

    def step(self, prompts: Any) -> dict[str, float]:
        """One round: answers to the prompts, then `epochs` passes over them in minibatches of a random order.

        Returns score and kl (log π / π_ref of whole answers, in nats), both means over the answers before the round;
        length, in tokens; and over the round's steps the means of policy_loss, value_loss and clip_fraction.
        """
        c = self.config
        with evaluating(self.policy, self.value, self.reference):
            with torch.no_grad():
                ids, padding_mask, mask = self.sample(self.policy, prompts)
                scores = self.reward(ids, padding_mask, mask)
                old = self._logps(self.policy, ids, padding_mask, mask)
                ref = self._logps(self.reference, ids, padding_mask, mask)
                old_values = self._values(ids, padding_mask, mask)
                rewards = kl_rewards(scores, old, ref, mask, c.beta)
                advantages, returns = gae(rewards, old_values, mask, c.gamma, c.lam)
                advantages = _whiten(advantages, mask)
            sums = torch.zeros(3)
            steps = 0
            for _ in range(c.epochs):
                for rows in torch.randperm(len(ids)).to(ids.device).split(c.minibatch):
                    x = ids[rows], padding_mask[rows], mask[rows]
                    policy_loss, clipped = clipped_surrogate(
                        self._logps(self.policy, *x), old[rows], advantages[rows], mask[rows], c.clip
                    )
                    v_loss = value_loss(self._values(*x), old_values[rows], returns[rows], mask[rows], c.value_clip)
                    self.optimizer.zero_grad()
                    (policy_loss + c.value_weight * v_loss).backward()
                    parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
                    nn.utils.clip_grad_norm_(parameters, c.max_norm, error_if_nonfinite=True)
                    self.optimizer.step()
                    sums += torch.stack([policy_loss, v_loss, clipped]).detach().float().cpu()
                    steps += 1
        names = ("policy_loss", "value_loss", "clip_fraction")
        return {
            "score": scores.mean().item(),
            "kl": (old - ref).sum(-1).mean().item(),
            "length": mask.sum(-1).float().mean().item(),
        } | dict(zip(names, (sums / steps).tolist(), strict=True))

    @staticmethod
    def _logps(model: nn.Module, ids: Tensor, padding_mask: Tensor, mask: Tensor) -> Tokens:
        return token_logps(logits_of(model, ids, padding_mask), ids, mask)

    def _values(self, ids: Tensor, padding_mask: Tensor, mask: Tensor) -> Tokens:
        """Shifted like the logits: what the value function says after token t − 1 is about writing token t."""
        values = call(self.value, ids, padding_mask, "logits")
        if tuple(values.shape) != tuple(ids.shape):
            raise ValueError(f"value must give one number for each token, of shape {tuple(ids.shape)}, "
                             f"got {tuple(values.shape)}")  # fmt: skip
        return torch.cat([torch.zeros_like(values[:, :1]), values[:, :-1]], 1).masked_fill(~mask, 0)


def _whiten(x: Tokens, mask: Mask) -> Tokens:
    """Mean 0 and variance 1 over the mask, 0 elsewhere; what does not vary becomes 0."""
    mean = _mean(x, mask)
    deviation = _mean((x - mean).square(), mask).sqrt()
    return ((x - mean) / (deviation + 1e-8)).masked_fill(~mask, 0)
