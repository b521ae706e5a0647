"""The reward model: a number for prompt and answer together (Eq. 1 and 2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dpo.checks import boolean, finite, floating, same_shape, whole
from dpo.models import call


class RewardModel(nn.Module):
    """A linear head on the state of the last real token.

    backbone: maps (ids, padding_mask) to states (batch, seq, d_model), or is a transformers model without a head, of
        which `last_hidden_state` is taken
    d_model: the width of these states
    head: weights from N(0, 1 / (d_model + 1)) (Stiennon et al. 2020, Appendix B.1), no bias: a constant changes no
        preference. It is in float32, and so is the reward

    Raises ValueError for a d_model that is no whole number of at least 1.
    """

    def __init__(self, backbone: nn.Module, d_model: int) -> None:
        super().__init__()
        whole("d_model", d_model)
        self.backbone, self.d_model = backbone, d_model
        self.head = nn.Linear(d_model, 1, bias=False)
        nn.init.normal_(self.head.weight, std=(d_model + 1) ** -0.5)

    def forward(
        self, ids: Int[Tensor, "batch seq"], padding_mask: Bool[Tensor, "batch seq"]
    ) -> Float[Tensor, " batch"]:
        """The rewards. padding_mask: True at real tokens; padding may be on either side.

        Raises ValueError for a mask of another type or shape, for a row that is padding alone, and for states of
        another shape.
        """
        boolean("padding_mask", padding_mask, tuple(ids.shape), "ids")
        if not padding_mask.any(-1).all():
            row = int((~padding_mask.any(-1)).nonzero()[0])
            raise ValueError(f"padding_mask must be True at one token of each row at least, got none in row {row}")
        states = call(self.backbone, ids, padding_mask, "last_hidden_state")
        if tuple(states.shape) != (*ids.shape, self.d_model):
            raise ValueError(f"backbone must give states of shape {(*ids.shape, self.d_model)}, "
                             f"got {tuple(states.shape)}")  # fmt: skip
        places = torch.arange(ids.shape[1], device=ids.device)
        last = places.masked_fill(~padding_mask, -1).amax(-1)
        state = states[torch.arange(len(ids), device=ids.device), last].to(self.head.weight.dtype)
        with torch.autocast(state.device.type, enabled=False):
            return self.head(state).squeeze(-1)


def reward_loss(chosen: Float[Tensor, " batch"], rejected: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """Eq. 2, Bradley-Terry: −log σ(r(x, y_w) − r(x, y_l)) of each pair, in nats.

    Raises ValueError for what is not two floating-point tensors of one shape (batch,), and for NaN or infinity.
    """
    wide = floating("chosen", chosen, ("batch",)), floating("rejected", rejected, ("batch",))
    same_shape("rejected", wide[1], tuple(wide[0].shape), "chosen")
    for name, value in zip(("chosen", "rejected"), wide, strict=True):
        finite(name, value)
    return -F.logsigmoid(wide[0] - wide[1])


def ranking_loss(rewards: Float[Tensor, "batch K"]) -> Float[Tensor, " batch"]:
    """Ouyang et al. (2022), Eq. 1: K answers to one prompt in an order of preference, the best first: the mean of
    `reward_loss` over the K (K − 1) / 2 pairs. So each answer goes through the model once, and not K − 1 times.

    Raises ValueError for what is not a floating-point tensor with a K of at least 2, and for NaN or infinity.
    """
    wide = floating("rewards", rewards, ("batch", "K"))
    K = wide.shape[1]
    if K < 2:
        raise ValueError(f"rewards must have a K of at least 2, got shape {tuple(wide.shape)}")
    finite("rewards", wide)
    better, worse = torch.triu_indices(K, K, 1, device=wide.device)
    return -F.logsigmoid(wide[:, better] - wide[:, worse]).mean(-1)
