"""What the backends' autograd functions share: a rule for `torch.vmap`, and which derivatives they refuse."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor

SECOND = "flash attention has no second derivative: use standard_attention, which has"
FORWARD = "flash attention has no forward-mode derivative (jvp): use standard_attention, which has"


class Function(torch.autograd.Function):
    """An autograd function whose vmap is a loop: each member is what it is alone, down to the entries dropped."""

    @classmethod
    def vmap(cls, info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Any, Any]:
        def member(i: int) -> Any:
            return cls.apply(*(x if at is None else x.select(at, i) for x, at in zip(inputs, in_dims, strict=True)))

        results = zip(*(member(i) for i in range(info.batch_size)), strict=True)
        stacked = tuple(None if result[0] is None else torch.stack(result) for result in results)
        return stacked, tuple(None if x is None else 0 for x in stacked)


class Gradients(Function):
    """(dq, dk, dv) of `compute(*inputs)`, a function of its own so that a derivative of them is refused.

    `once_differentiable` would make that derivative zero without a word under torch.func."""

    @staticmethod
    def forward(compute: Any, *inputs: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        return compute(*inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is kept."""

    @staticmethod
    def backward(ctx: Any, *_: Any) -> NoReturn:
        raise RuntimeError(SECOND)


def no_forward_mode(ctx: Any, *_: Any) -> NoReturn:
    raise RuntimeError(FORWARD)
