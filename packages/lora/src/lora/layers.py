"""Section 4.1: a layer whose weight W_0 is frozen, with trained pairs (A, B) beside it, h = W_0 x + s B A x.

Each layer here takes the place of the layer that it is made from. It holds the same Parameters under the same names
(`weight`, `bias`), so a state dict, an optimizer or a tied weight sees no difference, and W_0 is not copied. The pairs
are `lora_A[adapter]` and `lora_B[adapter]`: several tasks on one base, of which one, or none, is `active`.

Some models take the weight of a layer and never call it, or do both: a table of positions, an embedding that is the
output too. In the forward pass and the other methods of modules `layer.weight` is therefore W_0 + s B A, with gradients
for A and B, and merged or not such a model computes the same. In the code of a script it is the Parameter W_0, which
is `layer.own_weight` everywhere: what is to be written to.

A starts Gaussian and B at zero, so B A = 0 at the beginning (Section 4.1). The paper gives the Gaussian no deviation.
Here it is 1/√(3k) for an input of k numbers, that of the uniform distribution in the authors' code (and in peft), so
that learning rates carry over. For an embedding it is 1, which is what the authors' code gives the factor that is not
zero there: their A starts at zero and B Gaussian, here it is as in the paper everywhere.

A and B are float32 where W_0 is float16 or bfloat16, for in these a small step is rounded away; they are multiplied in
the dtype of W_0.
"""

from __future__ import annotations

import copy
import math
import sys
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from lora.function import lora_linear


@dataclass(frozen=True)
class Pair:
    """What one adapter is in one layer, beside its A and B. dropout: on the input of A, in training."""

    r: int
    alpha: float
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Raises ValueError for what is out of range."""
        if type(self.r) is not int or self.r < 1:  # True is an int too
            raise ValueError(f"r must be a whole number of at least 1, got {self.r!r}")
        if not _is_number(self.alpha) or not 0 < self.alpha < math.inf:
            raise ValueError(f"alpha must be a positive number, got {self.alpha!r}")
        if not _is_number(self.dropout) or not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be from 0 to below 1, got {self.dropout!r}")

    @property
    def s(self) -> float:
        return self.alpha / self.r


COMPILED = "is compiled by itself: put the adapter in, and compile it after that"


def _is_number(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool)


def _in_a_method() -> bool:
    """Whether a method of a module is running, and none of nn.Module's own but forward."""
    if torch.compiler.is_compiling():
        return True
    frame = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        code = frame.f_code
        if code.co_argcount and (code.co_name == "forward" or not hasattr(nn.Module, code.co_name)):
            first = frame.f_locals.get(code.co_varnames[0])
            if isinstance(first, nn.Module) and hasattr(type(first), code.co_name):
                return True
        frame = frame.f_back
    return False


class _Weight:
    """`layer.weight`: W_0 + s B A in the methods of modules, W_0 elsewhere; it gives way to the layer's `__dict__`."""

    def __get__(self, layer: LoRALayer, _: Any) -> Tensor:
        W_0 = cast(Tensor, nn.Module.__getattr__(layer, "weight"))
        if layer.active is None or layer.merged or not _in_a_method():
            return W_0
        return layer.weight_with(layer.active)


class LoRALayer(nn.Module):
    """What all kinds share. Eq. 3's W_0 is (d, k); where the base keeps it as (k, d), `transposed` is true.

    base: the layer whose place this one takes; it must not be used beside it
    r, alpha, dropout: see `Pair`; s = alpha / r
    adapter: the name of the first pair, which is then active

    Raises ValueError for a base that it is not made for, and as `Pair` does.
    """

    weight = _Weight()  # pyright: ignore[reportAssignmentType, reportIncompatibleVariableOverride]
    bias: Tensor | None
    kept: Tensor | None  # W_0, while merged
    transposed = False
    kind = ""
    """The class of the base, in words."""

    def __init__(
        self, base: nn.Module, r: int = 8, alpha: float = 16, dropout: float = 0.0, *, adapter: str = "default"
    ) -> None:
        pair = Pair(r, alpha, dropout)
        self._take_place_of(base)
        self.add_adapter(adapter, pair)
        self.activate(adapter)

    def _take_place_of(self, base: nn.Module) -> None:
        """Become a layer with all that the base has, its hooks and its mode too, and with no adapter."""
        if (reason := self.refuses(base)) is not None:
            raise ValueError(f"base must be {self.kind}, and this one {reason}")
        nn.Module.__init__(self)
        self.__dict__.update(vars(base))
        for registry in ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"):
            self.__dict__[registry] = copy.copy(vars(base)[registry])  # what is registered below is not for the base
        self.register_buffer("kept", None, persistent=False)  # a buffer, so that `to` moves it
        self.lora_A, self.lora_B = nn.ParameterDict(), nn.ParameterDict()
        self.pairs: dict[str, Pair] = {}
        self.active: str | None = None

    @classmethod
    def refuses(cls, base: nn.Module) -> str | None:
        """Why this kind of layer cannot take the place of `base`; None where it can."""
        raise TypeError(f"{cls.__name__} has no kind")

    @property
    def own_weight(self) -> Tensor:
        """The Parameter that the base had: W_0, and W while merged."""
        return cast(Tensor, vars(self).get("weight", self._parameters.get("weight")))

    @property
    def d(self) -> int:
        return self.own_weight.shape[1 if self.transposed else 0]

    @property
    def k(self) -> int:
        return self.own_weight.shape[0 if self.transposed else 1]

    def shapes(self, r: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Of the Parameters A and B."""
        return (r, self.k), (self.d, r)

    def add_adapter(self, adapter: str, pair: Pair) -> None:
        """A new pair, Gaussian and zero, not active. Raises ValueError for a name that is taken or cannot be one."""
        check_name(adapter)
        if adapter in self.pairs:
            raise ValueError(f"adapter {adapter!r} is taken")
        W_0 = self.own_weight
        like: Any = {"device": W_0.device, "dtype": torch.promote_types(W_0.dtype, torch.float32)}
        shape_A, shape_B = self.shapes(pair.r)
        self.lora_A[adapter] = nn.Parameter(torch.empty(shape_A, **like).normal_(std=self.deviation()))
        self.lora_B[adapter] = nn.Parameter(torch.zeros(shape_B, **like))
        self.pairs[adapter] = pair

    def deviation(self) -> float:
        """Of the Gaussian that A starts from."""
        return 1 / math.sqrt(3 * self.k)

    def activate(self, adapter: str | None) -> None:
        """Use this pair, and let it alone train; with None, or a name that this layer lacks, use W_0 alone."""
        self.active = adapter if adapter in self.pairs else None
        for name in self.pairs:
            self.lora_A[name].requires_grad_(name == self.active)
            self.lora_B[name].requires_grad_(name == self.active)

    def factors(self, adapter: str) -> tuple[Float[Tensor, "r k"], Float[Tensor, "d r"]]:
        """A and B of Eq. 3, in their own dtype."""
        return self.lora_A[adapter], self.lora_B[adapter]

    def whole_pair(self, adapter: str) -> Pair:
        """The `Pair` that goes with `factors`."""
        return self.pairs[adapter]

    @torch.no_grad()
    def delta_W(self, adapter: str) -> Float[Tensor, "d k"]:
        """s B A, computed in float32 at least, under autocast too."""
        return self._delta_W(adapter)

    def _delta_W(self, adapter: str) -> Float[Tensor, "d k"]:
        A, B = self.factors(adapter)
        wide = torch.promote_types(A.dtype, torch.float32)
        with torch.autocast("cpu" if A.is_meta else A.device.type, enabled=False):
            return self.pairs[adapter].s * (B.to(wide) @ A.to(wide))

    def weight_with(self, adapter: str) -> Tensor:
        """W_0 + s B A in the place, shape and dtype of W_0, rounded once."""
        W_0, delta_W = self.own_weight, self._delta_W(adapter)
        return (W_0.to(delta_W.dtype) + (delta_W.T if self.transposed else delta_W)).to(W_0.dtype)

    @property
    def merged(self) -> bool:
        return self.kept is not None

    @torch.no_grad()
    def to_merge(self) -> Tensor:
        """Section 4.1: W = W_0 + s B A. Raises ValueError where it is infinite or NaN and W_0 is not."""
        if self.merged or self.active is None:
            raise ValueError("is merged already" if self.merged else "has no active adapter to merge")
        with torch.inference_mode(False):  # other layers may train later
            W = self.weight_with(self.active)
        if not W.is_meta and not (W.isfinite() | ~self.own_weight.isfinite()).all():
            raise ValueError(f"has W_0 + s B A that is not finite in {W.dtype}")
        return W

    def merge(self, W: Tensor | None = None) -> None:
        """Use W, that of `to_merge` if not given, in the place of W_0, which is put aside and not copied."""
        self.own_weight.data, self.kept = self.to_merge() if W is None else W, self.own_weight.data

    def unmerge(self) -> None:
        """W_0 itself comes back: not W − s B A, which would be a rounding away from it."""
        if self.kept is None:
            raise ValueError("is not merged")
        self.own_weight.data, self.kept = self.kept, None

    def in_use(self) -> str | None:
        """The active adapter where its pair has to be added to what the weight gives, or None.

        Raises ValueError in training with a merged one: no gradient would reach A and B.
        """
        if self.active is None or not self.merged:
            return self.active
        if self.training and torch.is_grad_enabled() and self.lora_A[self.active].requires_grad:
            raise ValueError(f"adapter {self.active!r} is merged and cannot be trained: call unmerge_lora(model), or "
                             "model.eval() to use it")  # fmt: skip
        return None

    def dropout_in_use(self, adapter: str) -> float:
        return self.pairs[adapter].dropout if self.training else 0.0

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.kept is not None:  # W beside A and B would have them twice in the model that loads it
            destination[f"{prefix}weight"] = self.kept

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        if self.merged and any(key.startswith(prefix) for key in state_dict):
            errors: list[str] = args[-1]
            errors.append(f"{prefix.rstrip('.')} is merged: what is loaded now would be lost in unmerge_lora(model)")
            return
        super()._load_from_state_dict(state_dict, prefix, *args)  # pyright: ignore[reportCallIssue]

    def extra_repr(self) -> str:
        pairs = ", ".join(f"{name}: r={pair.r}, alpha={pair.alpha:g}" for name, pair in self.pairs.items())
        return f"{super().extra_repr()}, adapters=({pairs}), active={self.active}, merged={self.merged}"


def check_name(adapter: Any) -> None:
    """Raises ValueError for what torch or a file cannot take as the name of an adapter."""
    if not isinstance(adapter, str) or not adapter or "." in adapter or hasattr(nn.ParameterDict(), adapter):
        raise ValueError(f"adapter must be a name without a point, and none of torch's own, got {adapter!r}")


def _is_plain(base: nn.Module) -> str | None:
    """Why the weight of `base` is not one that Eq. 3 can be written with; None where it is."""
    if "forward" in vars(base):
        return "has a forward of its own put over that of its class"
    if getattr(base, "_compiled_call_impl", None) is not None:
        return COMPILED
    weight = dict(base.named_parameters(recurse=False)).get("weight")  # not base.weight, which may be computed
    if weight is None or nn.parameter.is_lazy(weight):
        return "has no weight of its own, or none yet"
    if not weight.is_floating_point():
        return f"has weights of {weight.dtype}"
    return None


def is_conv1d(base: nn.Module) -> bool:
    """Whether this is transformers' Conv1D, h = x W + b with W of shape (k, d), which need not be installed."""
    return type(base).__name__ == "Conv1D" and hasattr(base, "nf") and cast(Tensor, base.weight).ndim == 2


class Dense(LoRALayer):
    """What has Eq. 3 as its forward pass."""

    def forward(self, x: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch d"]:
        W_0, adapter = self.own_weight.T if self.transposed else self.own_weight, self.in_use()
        if adapter is None:
            return F.linear(x, W_0, self.bias)
        A, B = (factor.to(W_0.dtype) for factor in self.factors(adapter))
        return lora_linear(x, W_0, self.bias, A, B, self.pairs[adapter].s, self.dropout_in_use(adapter))


class LoRALinear(Dense, nn.Linear):
    """In place of an nn.Linear."""

    kind = "an nn.Linear"

    @classmethod
    def refuses(cls, base: nn.Module) -> str | None:
        if isinstance(base, nn.modules.linear.NonDynamicallyQuantizableLinear):
            return "is in an nn.MultiheadAttention, which takes the weight and never calls the layer"
        if type(base).forward is not nn.Linear.forward:
            return f"is a {type(base).__name__}"
        return _is_plain(base)


class LoRAConv1D(Dense):
    """In place of transformers' Conv1D, as in GPT-2."""

    kind = "a Conv1D"
    transposed = True
    nf: int

    @classmethod
    def refuses(cls, base: nn.Module) -> str | None:
        return _is_plain(base) if is_conv1d(base) else f"is a {type(base).__name__}"


class LoRAEmbedding(LoRALayer, nn.Embedding):
    """In place of an nn.Embedding. x is a token's one-hot vector, W_0 the table transposed: h = W_0 x + s B A x is

        weight[id] + s B A[:, id]

    The token at padding_idx, which has no gradient, has no A either: it stays what it is in the base.
    """

    kind = "an nn.Embedding"
    transposed = True

    @classmethod
    def refuses(cls, base: nn.Module) -> str | None:
        if not isinstance(base, nn.Embedding) or type(base).forward is not nn.Embedding.forward:
            return f"is a {type(base).__name__}"
        if base.max_norm is not None:
            return f"has max_norm={base.max_norm}, with which a forward pass writes to W_0"
        return _is_plain(base)

    def add_adapter(self, adapter: str, pair: Pair) -> None:
        super().add_adapter(adapter, pair)
        if self.padding_idx is not None:
            with torch.no_grad():
                self.lora_A[adapter][:, self.padding_idx] = 0

    def deviation(self) -> float:
        return 1.0

    def forward(self, ids: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch d"]:
        h = F.embedding(ids, self.own_weight, self.padding_idx, scale_grad_by_freq=self.scale_grad_by_freq)
        adapter = self.in_use()
        if adapter is None:
            return h
        A, B = (factor.to(h.dtype) for factor in self.factors(adapter))
        Ax = F.embedding(ids, A.T, self.padding_idx, scale_grad_by_freq=self.scale_grad_by_freq)
        dropout = self.dropout_in_use(adapter)
        return h + self.pairs[adapter].s * F.linear(F.dropout(Ax, dropout, dropout > 0), B)
