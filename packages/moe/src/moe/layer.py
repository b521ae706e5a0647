"""The layer: y = Σ G(x)_i E_i(x) (Shazeer et al., Eq. 1), as it is printed, and sorted by expert."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from moe.capacity import expert_capacity
from moe.checks import flag, number, one_of, whole
from moe.experts import Activation, Experts
from moe.gates import Gate, NoisyTopKGate, Routing, SwitchGate, TopKGate
from moe.losses import balance, router_z_loss, squared_cv


@dataclass(frozen=True)
class MoEInfo:
    """What one call of one layer did. The losses are without their weights; those of several layers are to be added.

    importance_loss, load_loss: CV² of the two below (Shazeer et al., Eq. 7 and 11)
    balance_loss: Switch's, 1 where routing is uniform
    z_loss: of the router's logits
    importance: the sum of the gate values of each expert
    load: Shazeer's smooth load in training with his gate, which has a gradient, and `counts` otherwise
    counts: how many tokens chose each expert, those that were dropped among them
    dropped: how many choices of a token found their expert full. With k = 1 these are tokens
    capacity: of each expert, or None without
    """

    importance_loss: Float[Tensor, ""]
    load_loss: Float[Tensor, ""]
    balance_loss: Float[Tensor, ""]
    z_loss: Float[Tensor, ""]
    importance: Float[Tensor, " experts"]
    load: Float[Tensor, " experts"]
    counts: Int[Tensor, " experts"]
    dropped: Int[Tensor, ""]
    capacity: int | None


class MoE(nn.Module):
    """A sparsely gated mixture of experts, in place of a feed-forward layer.

    d_model, d_ff: width of the tokens, and of one expert's hidden layer
    n_experts: E, the experts that are chosen among
    k: how many each token goes to; None for 1 with Switch's gate and 2 with others
    gate: "noisy_topk" (Shazeer et al.), "switch", "topk_softmax" (Mixtral), "topk_sigmoid" (DeepSeek-V3), or a gate
        that is made already, with settings of its own; then it has to have this n_experts, and this k unless k is None
    capacity_factor: c; an expert takes ⌈c k tokens / E⌉ of them (Switch, Eq. 3) and drops the rest, which pass by the
        layer with 0. First choices come first, and among these the tokens in their order. None: no limit. With a limit
        a token's output depends on the others of the call
    shared_experts: so many more experts of width d_ff see every token, with weight 1 (DeepSeekMoE, Eq. 9); they are
        kept as one feed-forward layer of width shared_experts · d_ff
    activation: "relu" or "swiglu"
    init_scale: s in σ = √(s/n) of all weights but Shazeer's gate (Switch, Section 2.4)
    fused: sort the tokens by expert and compute what is needed, instead of Eq. 1 as it is printed, every expert on
        every token. Both give the same

    Mixtral's block is gate="topk_softmax" with "swiglu"; DeepSeek-V2's is that with
    TopKGate(d_model, n_experts, k, renormalise=False) and shared experts; V3's has gate="topk_sigmoid" and, after each
    step, `update_bias(layer.gate, info.counts)`.

    Raises ValueError for a size that is no whole number above 0, for k above n_experts, for a capacity_factor that is
    not above 0, and for other values of these.
    """

    def __init__(
        self, d_model: int, d_ff: int, n_experts: int, k: int | None = None,
        gate: Literal["noisy_topk", "switch", "topk_softmax", "topk_sigmoid"] | Gate = "noisy_topk",
        capacity_factor: float | None = None, shared_experts: int = 0, activation: Activation = "relu", *,
        init_scale: float = 0.1, fused: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        for name, size in (("d_model", d_model), ("d_ff", d_ff), ("n_experts", n_experts)):
            whole(name, size)
        whole("shared_experts", shared_experts, least=0)
        one_of("activation", activation, ("relu", "swiglu"))
        if capacity_factor is not None:
            number("capacity_factor", capacity_factor)
        flag("fused", fused)
        self.gate = make_gate(gate, d_model, n_experts, k, init_scale)
        self.d_model, self.d_ff, self.n_experts, self.k = d_model, d_ff, n_experts, self.gate.k
        self.capacity_factor, self.shared_experts, self.fused = capacity_factor, shared_experts, fused
        self.activation: Activation = activation
        self.experts = Experts.new(d_model, d_ff, n_experts, activation, init_scale)
        self.shared = Experts.new(d_model, d_ff * shared_experts, 1, activation, init_scale) if shared_experts else None

    def forward(
        self, x: Float[Tensor, "*batch d_model"], padding_mask: Bool[Tensor, "*batch"] | None = None
    ) -> tuple[Float[Tensor, "*batch d_model"], MoEInfo]:
        """The mixture's output, 0 at padding, and what happened.

        padding_mask: True at the tokens that are real. Padding is sent nowhere and counted nowhere, whatever it holds

        Raises ValueError for another width or type, for an empty batch, for a mask of another shape or type, and for a
        real token that gives no finite logits.
        """
        self._check(x, padding_mask)
        rows = x.reshape(-1, self.d_model)
        real = None if padding_mask is None else padding_mask.flatten().nonzero().squeeze(1)
        if real is not None:
            rows = rows.index_select(0, real)
        routing: Routing = self.gate(rows)
        capacity = self.capacity(len(rows))
        slots = Slots.of(routing, self.n_experts, capacity)
        y = self._sorted(rows, routing, slots) if self.fused else self._printed(rows, routing, slots)
        if self.shared is not None:
            y = y + self.shared.one(0, rows)
        if real is not None:
            y = y.new_zeros(math.prod(x.shape[:-1]), self.d_model).index_copy(0, real, y)
        return y.reshape(x.shape), info(routing, slots, capacity)

    def capacity(self, tokens: int) -> int | None:
        """Of each expert for so many tokens; None without a limit."""
        if self.capacity_factor is None:
            return None
        return expert_capacity(self.capacity_factor, tokens, self.k, self.n_experts)

    def _printed(
        self, x: Float[Tensor, "tokens d_model"], routing: Routing, slots: Slots
    ) -> Float[Tensor, "tokens d_model"]:
        """Eq. 1: G(x) has a column for each expert, 0 where a token does not go or is dropped."""
        kept = torch.zeros_like(routing.weights, dtype=torch.bool).flatten().index_fill(0, slots.choice, True)
        G = torch.zeros_like(routing.probs).scatter(1, routing.experts, routing.weights * kept.view_as(routing.weights))
        y = torch.zeros_like(x, dtype=torch.promote_types(x.dtype, G.dtype))
        for i in range(self.n_experts):
            y = y + G[:, i : i + 1] * self.experts.one(i, x)
        return y.to(output_dtype(x))

    def _sorted(
        self, x: Float[Tensor, "tokens d_model"], routing: Routing, slots: Slots
    ) -> Float[Tensor, "tokens d_model"]:
        """The same from the kept choices alone, each expert's in one piece."""
        token = slots.choice // self.k
        out = self.experts(x.index_select(0, token), slots.kept.tolist())
        out = out * routing.weights.flatten()[slots.choice, None]
        return out.new_zeros(len(x), self.d_model).index_add(0, token, out).to(output_dtype(x))

    def _check(self, x: Any, padding_mask: Any) -> None:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise ValueError(f"x must be a floating-point tensor, got {getattr(x, 'dtype', type(x).__name__)}")
        if x.ndim < 1 or x.shape[-1] != self.d_model:
            raise ValueError(f"x must have the width d_model, {self.d_model}, got shape {tuple(x.shape)}")
        if not x.numel():
            raise ValueError(f"x must have at least one token, got shape {tuple(x.shape)}")
        dtype = self.experts.W_1.dtype
        if x.dtype != dtype and not torch.is_autocast_enabled(x.device.type):
            raise ValueError(f"x must be of the layer's dtype, {dtype}, got {x.dtype}")
        if padding_mask is None:
            return
        if not isinstance(padding_mask, Tensor) or padding_mask.dtype != torch.bool:
            got = getattr(padding_mask, "dtype", type(padding_mask).__name__)
            raise ValueError(f"padding_mask must be a tensor of bool, True at real tokens, got {got}")
        if padding_mask.shape != x.shape[:-1]:
            raise ValueError(f"padding_mask must be of shape {tuple(x.shape[:-1])}, got {tuple(padding_mask.shape)}")

    def extra_repr(self) -> str:
        return (f"d_model={self.d_model}, d_ff={self.d_ff}, n_experts={self.n_experts}, k={self.k}, "
                f"capacity_factor={self.capacity_factor}, shared_experts={self.shared_experts}, "
                f"activation={self.activation}, fused={self.fused}")  # fmt: skip


@dataclass(frozen=True)
class Slots:
    """Who is served where. A choice is a number t · k + j: the j-th expert of token t.

    choice: the choices that are kept, sorted by expert, then j, then t
    kept: how many of them each expert has
    counts: how many it would have without a capacity
    """

    choice: Int[Tensor, " rows"]
    kept: Int[Tensor, " experts"]
    counts: Int[Tensor, " experts"]

    @classmethod
    def of(cls, routing: Routing, n_experts: int, capacity: int | None) -> Slots:
        tokens, k = routing.experts.shape
        by_rank = routing.experts.T.flatten()  # all first choices, then all second ones
        order = by_rank.argsort(stable=True)
        counts = torch.bincount(by_rank, minlength=n_experts)
        kept = counts
        if capacity is not None:
            first = counts.cumsum(0) - counts
            place = torch.arange(len(order), device=order.device) - first.repeat_interleave(counts)
            order, kept = order[place < capacity], counts.clamp(max=capacity)
        return cls(order % tokens * k + order // tokens if tokens else order, kept, counts)


def info(routing: Routing, slots: Slots, capacity: int | None) -> MoEInfo:
    """The losses and counts of one call, of the gate's wishes: before anything is dropped."""
    importance = torch.zeros_like(routing.probs[:0].sum(0)).index_add(
        0, routing.experts.flatten(), routing.weights.flatten()
    )
    load = slots.counts.to(importance.dtype) if routing.load is None else routing.load
    return MoEInfo(
        squared_cv(importance), squared_cv(load), balance(routing.probs, slots.counts), router_z_loss(routing.logits),
        importance, load, slots.counts, slots.counts.sum() - slots.kept.sum(), capacity,
    )  # fmt: skip


def make_gate(gate: Any, d_model: int, n_experts: int, k: int | None, init_scale: float) -> Gate:
    """The gate of this name, or the one given. Raises ValueError for what does not fit."""
    if isinstance(gate, Gate):
        for name, value, own in (("d_model", d_model, gate.d_model), ("n_experts", n_experts, gate.n_experts),
                                 ("k", k, gate.k)):  # fmt: skip
            if value is not None and value != own:
                raise ValueError(f"{name} must be that of the gate, {own}, got {value!r}")
        return gate
    if not isinstance(gate, str):
        raise ValueError(f"gate must be a name or a gate, got {type(gate).__name__}")
    one_of("gate", gate, ("noisy_topk", "switch", "topk_softmax", "topk_sigmoid"))
    k = k if k is not None else 1 if gate == "switch" else min(2, n_experts)
    if gate == "noisy_topk":
        return NoisyTopKGate(d_model, n_experts, k)
    if gate == "switch":
        return SwitchGate(d_model, n_experts, k, init_scale=init_scale)
    scores = "softmax" if gate == "topk_softmax" else "sigmoid"
    return TopKGate(d_model, n_experts, k, scores=scores, init_scale=init_scale)


def output_dtype(x: Tensor) -> torch.dtype:
    """That of x, or autocast's, which a feed-forward layer in this place would have."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) and x.dtype != torch.float64 else x.dtype
