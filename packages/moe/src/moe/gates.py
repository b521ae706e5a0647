"""The gates: which experts a token goes to, and with what weight.

All compute their logits in float32 at least, under autocast and with half-precision weights too: Switch's "selective
precision" (Section 2.4). What they draw at random, they draw in training alone, from torch's own generator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from moe.checks import flag, number, one_of, whole


@dataclass(frozen=True)
class Routing:
    """What a gate says about the tokens.

    experts: the k that each token goes to, all different, the first choice first
    weights: G(x) at these
    probs: the router's distribution over all experts, before any choice: its mean is the P of the balancing loss
    logits: what `probs` is made of, without noise
    load: Shazeer's smooth load, or None where the gate has none and the plain counts are meant
    """

    experts: Int[Tensor, "tokens k"]
    weights: Float[Tensor, "tokens k"]
    probs: Float[Tensor, "tokens experts"]
    logits: Float[Tensor, "tokens experts"]
    load: Float[Tensor, " experts"] | None = None


class Gate(nn.Module):
    """What all have in common.

    Raises ValueError for sizes that are no whole numbers, and for more choices than experts.
    """

    def __init__(self, d_model: int, n_experts: int, k: int) -> None:
        super().__init__()
        whole("d_model", d_model)
        whole("n_experts", n_experts)
        whole("k", k, most=n_experts, of="n_experts, ")
        self.d_model, self.n_experts, self.k = d_model, n_experts, k

    def check(self, x: Any) -> None:
        """Raises ValueError for an x that is not floating point of shape (tokens, d_model)."""
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise ValueError(f"x must be a floating-point tensor, got {getattr(x, 'dtype', type(x).__name__)}")
        if x.ndim != 2 or x.shape[1] != self.d_model:
            raise ValueError(f"x must be of shape (tokens, {self.d_model}), got {tuple(x.shape)}")

    def extra_repr(self) -> str:
        return f"d_model={self.d_model}, n_experts={self.n_experts}, k={self.k}"


class NoisyTopKGate(Gate):
    """Shazeer et al., Eq. 3 to 5: G(x) = Softmax(KeepTopK(H(x), k)) with
    H(x)_i = (x W_g)_i + N(0, 1) Softplus((x W_noise)_i).

    W_g and W_noise (experts, d_model) start at zero, so that the load is about equal at first (Appendix A). In eval
    there is no noise. k is at least 2: the softmax over one kept value is 1, and the router has no gradient from it.

    Raises ValueError as `Gate` does, for k = 1 among several experts, and for an x that gives no finite logits.
    """

    def __init__(self, d_model: int, n_experts: int, k: int = 2) -> None:
        super().__init__(d_model, n_experts, k)
        if k == 1 < n_experts:
            raise ValueError("k must be at least 2 here, got 1: the softmax over a single expert is 1, and the router "
                             "has no gradient; SwitchGate is the gate for k=1")  # fmt: skip
        self.W_g = nn.Parameter(torch.zeros(n_experts, d_model))
        self.W_noise = nn.Parameter(torch.zeros(n_experts, d_model))

    def forward(self, x: Float[Tensor, "tokens d_model"]) -> Routing:
        self.check(x)
        clean = router_logits(x, self.W_g)
        scale = F.softplus(router_logits(x, self.W_noise)) if self.training else None
        H = clean if scale is None else clean + torch.randn_like(clean) * scale
        top, experts = H.topk(self.k)
        load = None if scale is None else load_probability(clean, H, scale, self.k).sum(0)
        return Routing(experts, top.softmax(-1), clean.softmax(-1), clean, load)


def load_probability(
    clean: Float[Tensor, "tokens experts"], H: Float[Tensor, "tokens experts"], scale: Float[Tensor, "tokens experts"],
    k: int,
) -> Float[Tensor, "tokens experts"]:  # fmt: skip
    """Shazeer et al., Eq. 8 and 9: the probability that expert i is among the k best if its own noise were drawn again,

        P(x, i) = Φ(((x W_g)_i − kth_excluding(H(x), k, i)) / Softplus((x W_noise)_i))

    clean: x W_g
    H: with the noise
    scale: Softplus(x W_noise)
    k: experts per token; where all are kept, P is 1
    """
    if k == H.shape[-1]:
        return torch.ones_like(H)
    top = H.topk(k + 1).values
    kth, next_best = top[:, k - 1 : k], top[:, k:]
    kth_excluding = torch.where(kth <= H, next_best, kth)  # what is kept leaves the (k + 1)th as the kth of the others
    return torch.special.ndtr((clean - kth_excluding) / scale)


class SwitchGate(Gate):
    """Switch, Section 2.1: one expert, weighted by its probability p_i(x) = Softmax(x W_r)_i, which is not
    renormalised: that is where the router's gradient comes from.

    W_r (experts, d_model)
    jitter: ε; in training the router sees x times a uniform draw from 1 − ε to 1 + ε (Appendix C, Table 11)

    Raises ValueError as `Gate` does, for a jitter outside [0, 1), and for an x that gives no finite logits.
    """

    def __init__(
        self, d_model: int, n_experts: int, k: int = 1, *, jitter: float = 0.01, init_scale: float = 0.1
    ) -> None:
        if k != 1 or type(k) is not int:
            raise ValueError(f"k must be 1, Switch's one expert, got {k!r}; TopKGate is the gate for more")
        super().__init__(d_model, n_experts, k)
        if isinstance(jitter, bool) or not isinstance(jitter, int | float) or not 0 <= jitter < 1:
            raise ValueError(f"jitter must be from 0 to below 1, got {jitter!r}")
        self.jitter = jitter
        self.W_r = nn.Parameter(truncated_normal(torch.empty(n_experts, d_model), init_scale))

    def forward(self, x: Float[Tensor, "tokens d_model"]) -> Routing:
        self.check(x)
        if self.training and self.jitter:
            x = wide(x)
            x = x * torch.empty_like(x).uniform_(1 - self.jitter, 1 + self.jitter)
        logits = router_logits(x, self.W_r)
        probs = logits.softmax(-1)
        weights, experts = probs.max(-1, keepdim=True)
        return Routing(experts, weights, probs, logits)


class TopKGate(Gate):
    """The k best of a softmax (Mixtral, DeepSeek-V2) or of sigmoids (DeepSeek-V3, Eq. 12 to 16), without noise.

    scores: "softmax" or "sigmoid"
    renormalise: divide the k weights by their sum, as Mixtral and DeepSeek-V3 do and DeepSeek-V2 does not; None for
        wherever k > 1. With k = 1 the weight would always be 1, and the router without a gradient
    scale: the weights are multiplied by it (2.5 in DeepSeek-V3, 16 in V2)
    n_groups, top_groups: experts are in this many groups of equal size, and only those of the best `top_groups` can be
        chosen (V2, Section 2.2.2; V3, Section 2.1.2: a limit on the machines that a token is sent to). A group is as
        good as its best expert with softmax, as the sum of its two best with sigmoids
    W_r (experts, d_model); bias (experts), a buffer at zero that is added to choose, and not to weigh (V3, Eq. 16):
        what `update_bias` turns is a balance without an auxiliary loss

    Raises ValueError as `Gate` does, for other values of these, for k = 1 among several experts with renormalise=True,
    and for an x that gives no finite logits.
    """

    bias: Tensor

    def __init__(
        self, d_model: int, n_experts: int, k: int = 2, *, scores: Literal["softmax", "sigmoid"] = "softmax",
        renormalise: bool | None = None, scale: float = 1.0, n_groups: int = 1, top_groups: int = 1,
        init_scale: float = 0.1,
    ) -> None:  # fmt: skip
        super().__init__(d_model, n_experts, k)
        one_of("scores", scores, ("softmax", "sigmoid"))
        number("scale", scale)
        whole("n_groups", n_groups, most=n_experts, of="n_experts, ")
        whole("top_groups", top_groups, most=n_groups, of="n_groups, ")
        if renormalise is None:
            renormalise = k > 1
        flag("renormalise", renormalise)
        if renormalise and k == 1 < n_experts:
            raise ValueError("renormalise must be False for k=1, got True: the weight would always be 1, and the "
                             "router would have no gradient")  # fmt: skip
        if n_experts % n_groups:
            raise ValueError(f"n_groups must divide n_experts, {n_experts}, got {n_groups}")
        if k > top_groups * (n_experts // n_groups):
            raise ValueError(f"k must be at most the experts of {top_groups} of {n_groups} groups, "
                             f"{top_groups * (n_experts // n_groups)}, got {k}")  # fmt: skip
        self.scores, self.renormalise, self.scale = scores, renormalise, scale
        self.n_groups, self.top_groups = n_groups, top_groups
        self.W_r = nn.Parameter(truncated_normal(torch.empty(n_experts, d_model), init_scale))
        self.register_buffer("bias", torch.zeros(n_experts))

    def forward(self, x: Float[Tensor, "tokens d_model"]) -> Routing:
        self.check(x)
        logits = router_logits(x, self.W_r)
        scores = logits.softmax(-1) if self.scores == "softmax" else logits.sigmoid()
        experts = self.allowed(scores.detach() + self.bias.to(scores.dtype)).topk(self.k).indices
        weights = scores.gather(-1, experts)
        if self.renormalise:
            weights = weights / weights.sum(-1, keepdim=True)
        probs = scores if self.scores == "softmax" else scores / scores.sum(-1, keepdim=True)
        return Routing(experts, weights * self.scale, probs, logits)

    def allowed(self, choice: Float[Tensor, "tokens experts"]) -> Float[Tensor, "tokens experts"]:
        """Minus infinity outside of the best groups."""
        if self.top_groups == self.n_groups:
            return choice
        groups = choice.unflatten(-1, (self.n_groups, -1))
        of_a_group = 1 if self.scores == "softmax" else min(2, groups.shape[-1])
        best = groups.topk(of_a_group).values.sum(-1).topk(self.top_groups).indices
        outside = torch.ones_like(groups[..., 0], dtype=torch.bool).scatter(-1, best, False)
        return groups.masked_fill(outside[..., None], -math.inf).flatten(-2)


@torch.no_grad()
def update_bias(gate: TopKGate, counts: Int[Tensor, " experts"], gamma: float = 0.001) -> None:
    """DeepSeek-V3, Section 2.1.2: after a step the bias of an expert with more than the mean load falls by γ, and that
    of one with less rises by γ.

    counts: tokens of each expert in the whole batch, `MoEInfo.counts`; of several processes, their sum
    gamma: the speed, 0.001 for most of DeepSeek-V3's training

    Raises ValueError for another gate, for counts of another shape, and for a gamma that is not above 0.
    """
    if not isinstance(gate, TopKGate):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"gate must be a TopKGate, which has a bias, got {type(gate).__name__}")
    if not isinstance(counts, Tensor) or counts.shape != gate.bias.shape:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"counts must be of shape ({gate.n_experts},), got {getattr(counts, 'shape', counts)}")
    number("gamma", gamma)
    load = counts.to(gate.bias.device, torch.float64)
    gate.bias += gamma * (load.mean() - load).sign().to(gate.bias.dtype)


def router_logits(
    x: Float[Tensor, "tokens d_model"], W: Float[Tensor, "experts d_model"]
) -> Float[Tensor, "tokens experts"]:
    """x W in float32 at least. Raises ValueError where a logit is not finite: such a token has no expert."""
    with torch.autocast(x.device.type, enabled=False):
        logits = F.linear(*(y.to(torch.promote_types(wide(x).dtype, W.dtype)) for y in (x, W)))
    finite = logits.isfinite().all(-1)
    if not finite.all():
        first = int((~finite).nonzero()[0])
        raise ValueError(f"x must give finite router logits, got NaN or infinity for {int((~finite).sum())} of "
                         f"{len(x)} tokens, first token {first}")  # fmt: skip
    return logits


def wide(x: Tensor) -> Tensor:
    """In float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def truncated_normal(W: Tensor, init_scale: float) -> Tensor:
    """Switch, Section 2.4: normal with σ = √(s/n), n the inputs (the last dimension), drawn again beyond two σ.

    init_scale: s; 0.1 is Switch's, a tenth of the usual

    Raises ValueError for an init_scale that is not above 0.
    """
    number("init_scale", init_scale)
    sigma = math.sqrt(init_scale / W.shape[-1])
    with torch.no_grad():
        return nn.init.trunc_normal_(W, std=sigma, a=-2 * sigma, b=2 * sigma)
