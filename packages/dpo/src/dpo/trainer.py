"""Training a policy on pairs (Section 4, 'DPO outline')."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dpo.checks import number
from dpo.losses import PairLosses, dpo_loss
from dpo.models import answer_logps, evaluating
from dpo.preferences import Batch


class DPOTrainer:
    """One optimizer's steps on batches of pairs.

    policy: maps (ids, padding_mask) to logits, or is a causal language model of transformers. Its log-probabilities are
        taken in eval mode, without dropout, so that policy and reference differ in their weights alone and the loss of
        an untrained policy is log 2; its modes are afterwards what they were
    optimizer: over the policy's parameters
    reference: a model of its own, or None for the policy as it is before the first step. Then `reference()` has to see
        every batch before that; with a model it may come as training goes
    beta: what `loss` is given as its fifth argument
    loss: a function of (policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta) that gives the losses and the
        rewards of both: `dpo_loss`, `ipo_loss`, `unweighted_loss`, or one of yours
    logps: how log-probabilities are computed: a function of (model, batch) that gives them and the vocabulary's size
    max_norm: gradients are scaled down to this norm; None for not at all

    Raises ValueError for a beta or a max_norm that is not above 0, and for a reference that shares parameters with the
    policy and so would move with it.
    """

    def __init__(
        self, policy: nn.Module, optimizer: torch.optim.Optimizer, beta: float = 0.1, *,
        reference: nn.Module | None = None, loss: Callable[..., PairLosses] = dpo_loss,
        logps: Callable[[nn.Module, Batch], tuple[Tensor, int]] = answer_logps, max_norm: float | None = None,
    ) -> None:  # fmt: skip
        number("beta", beta)
        if max_norm is not None:
            number("max_norm", max_norm)
        if reference is not None and {*map(id, reference.parameters())} & {*map(id, policy.parameters())}:
            raise ValueError("reference must have parameters of its own, got a model that shares some with the policy")
        self.policy, self.optimizer, self.beta = policy, optimizer, beta
        self.loss, self.logps, self.max_norm = loss, logps, max_norm
        self.model, self.moved = reference, False
        self.kept: dict[bytes, Tensor] = {}
        self.vocab: int | None = None

    def reference(self, batch: Batch) -> Float[Tensor, " two_batch"]:
        """log π_ref of the batch's answers, the chosen first. A forward pass is made only where one of them is new.

        They are kept by what the row is, its tokens and which of them are the answer: order, padding and the other rows
        of the batch do not matter.

        Raises ValueError for rows that are asked for first when the policy, which is the reference, has moved.
        """
        keys = batch.keys()
        if not all(key in self.kept for key in keys):
            if self.model is None and self.moved:
                new = sum(key not in self.kept for key in keys)
                raise ValueError("batch must have been given to reference() before the first step, or the trainer a "
                                 f"reference model: got {new} new rows when the policy had moved")  # fmt: skip
            model = self.policy if self.model is None else self.model
            # Some layers compute otherwise where no gradient is asked for, and then the first loss is not log 2.
            with evaluating(model), torch.set_grad_enabled(self.model is None):
                logps, self.vocab = self.logps(model, batch)
            for key, logp in zip(keys, logps.detach().cpu(), strict=True):
                self.kept.setdefault(key, logp)
        return torch.stack([self.kept[key] for key in keys]).to(batch.ids.device)

    def step(self, batch: Batch) -> dict[str, float]:
        """One step of the optimizer on the mean loss.

        Returns loss, accuracy (of the implicit reward; a tie counts as wrong), margin, chosen_reward, rejected_reward,
        chosen_logp and rejected_logp: means over the batch, before the step.

        Raises ValueError, before anything has moved, as `reference` does, for a reference of another vocabulary, and
        where a log-probability or a gradient is not finite.
        """
        self.optimizer.zero_grad()  # now, so that no old gradient stands beside the activations
        losses, chosen_reward, rejected_reward, logps = self._losses(batch)
        loss = losses.mean()
        loss.backward()
        parameters = list(self.policy.parameters())
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if not norm.isfinite():
            self.optimizer.zero_grad()
            raise ValueError(f"batch must give finite gradients, got a norm of {norm.item()}")
        if self.max_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, self.max_norm, norm)
        self.optimizer.step()
        self.moved = True
        return _numbers(loss, chosen_reward, rejected_reward, logps)

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> dict[str, float]:
        """What `step` returns, without the step."""
        losses, chosen_reward, rejected_reward, logps = self._losses(batch)
        return _numbers(losses.mean(), chosen_reward, rejected_reward, logps)

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        reference = self.reference(batch)
        with evaluating(self.policy):
            logps, vocab = self.logps(self.policy, batch)
        if self.vocab is not None and vocab != self.vocab:
            raise ValueError(f"reference must have the policy's vocabulary, {vocab}, got {self.vocab}")
        return *self.loss(*logps.chunk(2), *reference.chunk(2), self.beta), logps


def _numbers(loss: Tensor, chosen_reward: Tensor, rejected_reward: Tensor, logps: Tensor) -> dict[str, float]:
    chosen, rejected = logps.detach().chunk(2)
    return {
        "loss": loss.item(),
        "accuracy": (chosen_reward > rejected_reward).float().mean().item(),
        "margin": (chosen_reward - rejected_reward).mean().item(),
        "chosen_reward": chosen_reward.mean().item(),
        "rejected_reward": rejected_reward.mean().item(),
        "chosen_logp": chosen.mean().item(),
        "rejected_logp": rejected.mean().item(),
    }
