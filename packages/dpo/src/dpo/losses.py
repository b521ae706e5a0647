"""DPO's loss (Rafailov et al. 2023, Eq. 7) and its relatives, all on log-probabilities of whole answers.

A log-probability is a sum over the answer's tokens, in nats, as `sequence_logps` gives it: a mean over tokens would be
another method. The losses are one number for each pair; their mean is the caller's. The reference is a constant:
no gradient goes to it. All is computed in float32 at least, under autocast too.

All of them raise ValueError for log-probabilities that are no floating-point tensors of one shape (batch,), or that
have a NaN or an infinity in them (the row is named), and for a β that is not above 0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from dpo.checks import between, boolean, finite, floating, number, same_shape

PairLosses = tuple[Float[Tensor, " batch"], Float[Tensor, " batch"], Float[Tensor, " batch"]]
"""The losses, and the implicit rewards of the chosen and of the rejected answers, which are detached."""


def dpo_loss(
    policy_chosen_logps: Float[Tensor, " batch"], policy_rejected_logps: Float[Tensor, " batch"],
    ref_chosen_logps: Float[Tensor, " batch"], ref_rejected_logps: Float[Tensor, " batch"],
    beta: float = 0.1, label_smoothing: float = 0.0,
) -> PairLosses:  # fmt: skip
    """Eq. 7: −log σ(r̂(x, y_w) − r̂(x, y_l)), with r̂ = β log π_θ(y | x) / π_ref(y | x).

    beta: how strongly the policy is held to the reference; 0.1 is the paper's default (Appendix B)
    label_smoothing: ε, the share of labels that are thought to be flipped: (1 − ε) times the loss plus ε times that of
        the flipped pair. This is conservative DPO, cDPO (Mitchell 2023, "A note on DPO with noisy preferences", Eq. 3)

    Raises ValueError as said above, and for a label_smoothing outside [0, 0.5).
    """
    between("label_smoothing", label_smoothing, 0, 0.5, below=True)
    chosen, rejected = _rewards(policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps, beta)
    margin = chosen - rejected
    losses = -F.logsigmoid(margin)
    if label_smoothing:
        losses = (1 - label_smoothing) * losses - label_smoothing * F.logsigmoid(-margin)
    return losses, chosen.detach(), rejected.detach()


def implicit_reward(
    policy_logps: Float[Tensor, " batch"], ref_logps: Float[Tensor, " batch"], beta: float = 0.1
) -> Float[Tensor, " batch"]:
    """r̂(x, y) = β log π_θ(y | x) / π_ref(y | x) (Section 4), the reward that the policy is the optimum of, up to a
    number that depends on the prompt alone."""
    number("beta", beta)
    policy_logps, ref_logps = _same(policy_logps=policy_logps, ref_logps=ref_logps)
    return beta * (policy_logps - ref_logps.detach())


def dpo_gradient_weight(
    policy_chosen_logps: Float[Tensor, " batch"], policy_rejected_logps: Float[Tensor, " batch"],
    ref_chosen_logps: Float[Tensor, " batch"], ref_rejected_logps: Float[Tensor, " batch"], beta: float = 0.1,
) -> Float[Tensor, " batch"]:  # fmt: skip
    """β σ(r̂(x, y_l) − r̂(x, y_w)) (Section 4, 'What does the DPO update do?'): the gradient of `dpo_loss` is minus this
    times ∇ log π_θ(y_w | x) − ∇ log π_θ(y_l | x). It is near β where the implicit reward has the pair the wrong way
    round, and near 0 where it has it right by far."""
    chosen, rejected = _rewards(policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps, beta)
    return beta * (rejected - chosen).sigmoid()


def unweighted_loss(
    policy_chosen_logps: Float[Tensor, " batch"], policy_rejected_logps: Float[Tensor, " batch"],
    ref_chosen_logps: Float[Tensor, " batch"], ref_rejected_logps: Float[Tensor, " batch"], beta: float = 0.1,
) -> PairLosses:  # fmt: skip
    """DPO without its weight (Section 4, and Appendix Table 3): −(r̂(x, y_w) − r̂(x, y_l)), whose gradient is
    −β (∇ log π_θ(y_w | x) − ∇ log π_θ(y_l | x)) for each pair, however well it is ordered already.

    It has no lower bound. Up to β and a constant it is `unlikelihood_loss` with α = 1: the same steps under Adam.
    """
    chosen, rejected = _rewards(policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps, beta)
    return rejected - chosen, chosen.detach(), rejected.detach()


def unlikelihood_loss(
    chosen_logps: Float[Tensor, " batch"], rejected_logps: Float[Tensor, " batch"], alpha: float = 1.0
) -> Float[Tensor, " batch"]:
    """The paper's baseline (Section 6): −log π_θ(y_w | x) + α log π_θ(y_l | x), the probability of whole answers.
    α = 0 is Preferred-FT. There is no reference, and for α above 0 no lower bound.

    Raises ValueError as said above, and for an alpha outside [0, 1].
    """
    between("alpha", alpha, 0, 1)
    chosen, rejected = _same(chosen_logps=chosen_logps, rejected_logps=rejected_logps)
    return alpha * rejected - chosen if alpha else -chosen


def ipo_loss(
    policy_chosen_logps: Float[Tensor, " batch"], policy_rejected_logps: Float[Tensor, " batch"],
    ref_chosen_logps: Float[Tensor, " batch"], ref_rejected_logps: Float[Tensor, " batch"], tau: float = 0.1,
) -> PairLosses:  # fmt: skip
    """Azar et al. (2023), Eq. 17: (h − 1 / (2 τ))², with h the difference of the two log ratios. The rewards are τ
    times the log ratios.

    The log ratios are sums over tokens, as in that paper. Some libraries divide each by its answer's number of tokens
    first, which makes τ mean something else.
    """
    number("tau", tau)
    chosen, rejected = _rewards(policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps, 1.0)
    losses = (chosen - rejected - 1 / (2 * tau)).square()
    return losses, tau * chosen.detach(), tau * rejected.detach()


def kto_loss(
    policy_logps: Float[Tensor, " batch"], ref_logps: Float[Tensor, " batch"], desirable: Bool[Tensor, " batch"],
    kl: Float[Tensor, ""] | float, beta: float = 0.1, desirable_weight: float = 1.0, undesirable_weight: float = 1.0,
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:  # fmt: skip
    """Ethayarajh et al. (2024), Eq. 8, on answers that are each good or bad by themselves: with r = log π_θ / π_ref,

        λ_D (1 − σ(β (r − z₀)))   for a desirable answer
        λ_U (1 − σ(β (z₀ − r)))   for an undesirable one

    desirable: which of the two each answer is
    kl: z₀ before it is clamped: the mean of log π_θ / π_ref over prompts with the answers of other prompts, in nats.
        Negative estimates count as 0, and no gradient goes through it, as that paper has it (Section 4.1)
    desirable_weight, undesirable_weight: λ_D and λ_U

    Returns the losses and the detached rewards β r. Raises ValueError as said above, for a kl that is not one finite
    number, and for weights that are not above 0.
    """
    for name, value in ("desirable_weight", desirable_weight), ("undesirable_weight", undesirable_weight):
        number(name, value)
    rewards = implicit_reward(policy_logps, ref_logps, beta)
    desirable = boolean("desirable", desirable, tuple(rewards.shape), "policy_logps")
    z_0 = torch.as_tensor(kl, dtype=rewards.dtype, device=rewards.device).detach()
    if z_0.ndim or not z_0.isfinite():
        raise ValueError(f"kl must be one finite number, got {kl!r}")
    gap = rewards - beta * z_0.clamp(min=0)
    losses = torch.where(desirable, desirable_weight * (-gap).sigmoid(), undesirable_weight * gap.sigmoid())
    return losses, rewards.detach()


def _same(**logps: Tensor) -> list[Tensor]:
    """The log-probabilities in one dtype, checked."""
    wide = {name: floating(name, value, ("batch",)) for name, value in logps.items()}
    first, *_ = wide
    for name, value in wide.items():
        same_shape(name, value, tuple(wide[first].shape), first)
        finite(name, value)
    return list(wide.values())


def _rewards(
    policy_chosen: Tensor, policy_rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, beta: float
) -> tuple[Tensor, Tensor]:
    """r̂ of the chosen and of the rejected."""
    number("beta", beta)
    policy_chosen, policy_rejected, ref_chosen, ref_rejected = _same(
        policy_chosen_logps=policy_chosen, policy_rejected_logps=policy_rejected, ref_chosen_logps=ref_chosen,
        ref_rejected_logps=ref_rejected,
    )  # fmt: skip
    return beta * (policy_chosen - ref_chosen.detach()), beta * (policy_rejected - ref_rejected.detach())
