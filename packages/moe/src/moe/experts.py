"""The experts: feed-forward networks of one shape, without biases, their weights stacked."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from moe.gates import truncated_normal

Activation = Literal["relu", "swiglu"]


def feed_forward(
    x: Float[Tensor, "tokens d_model"], W_1: Float[Tensor, "hidden d_model"], W_2: Float[Tensor, "d_model d_ff"],
    activation: Activation,
) -> Float[Tensor, "tokens d_model"]:  # fmt: skip
    """One expert. "relu": W_2 max(0, W_1 x), hidden = d_ff. "swiglu": W_1 has the gate's d_ff rows and then the other
    d_ff, and E(x) = W_2 (SiLU(gate x) ⊙ (other x)), as in Mixtral and DeepSeek."""
    hidden = F.linear(x, W_1)
    if activation == "relu":
        return F.linear(F.relu(hidden), W_2)
    gate, other = hidden.chunk(2, -1)
    return F.linear(F.silu(gate) * other, W_2)


class Experts(nn.Module):
    """E_1 to E_n.

    W_1 (experts, d_ff, d_model), or (experts, 2 d_ff, d_model) for "swiglu"; W_2 (experts, d_model, d_ff)
    """

    def __init__(
        self, W_1: Float[Tensor, "experts hidden d_model"], W_2: Float[Tensor, "experts d_model d_ff"],
        activation: Activation,
    ) -> None:  # fmt: skip
        super().__init__()
        self.W_1, self.W_2 = nn.Parameter(W_1), nn.Parameter(W_2)
        self.activation: Activation = activation

    @classmethod
    def new(cls, d_model: int, d_ff: int, n_experts: int, activation: Activation, init_scale: float) -> Experts:
        """With weights as in `truncated_normal`."""
        hidden = 2 * d_ff if activation == "swiglu" else d_ff
        W_1, W_2 = torch.empty(n_experts, hidden, d_model), torch.empty(n_experts, d_model, d_ff)
        return cls(truncated_normal(W_1, init_scale), truncated_normal(W_2, init_scale), activation)

    def one(self, i: int, x: Float[Tensor, "tokens d_model"]) -> Float[Tensor, "tokens d_model"]:
        """E_i(x) of every token."""
        return feed_forward(x, self.W_1[i], self.W_2[i], self.activation)

    def forward(self, rows: Float[Tensor, "rows d_model"], counts: list[int]) -> Float[Tensor, "rows d_model"]:
        """The first counts[0] rows through the first expert, the next counts[1] through the second, and so on."""
        each = zip(rows.split(counts), self.W_1.unbind(), self.W_2.unbind(), strict=True)
        return torch.cat([feed_forward(x, W_1, W_2, self.activation) for x, W_1, W_2 in each])
