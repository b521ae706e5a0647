"""Table 1, last column: how many layers or steps it takes until every position has reached every later one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from papertest.claims import Measured, Run, claim
from papertest.threads import one_thread

from transformer.attention import causal_mask
from transformer.reproduce.exact.table_1 import (
    LENGTHS,
    WINDOWS,
    Layer,
    convolutional,
    power,
    restricted,
    self_attention,
)

DILATED = [(2, 4), (2, 16), (2, 64), (2, 256), (4, 16), (4, 64), (4, 256), (16, 256)]  # k, n: log_k(n) is whole


def connections(layer: Layer, n: int) -> Bool[Tensor, "n n"]:
    """True at (i, j) where output i of this layer reads input j: where its gradient is not 0."""
    x = torch.randn(n).expand(n, n)[..., None].clone().requires_grad_()  # row i is asked for output i
    (gradient,) = torch.autograd.grad(layer(x)[..., 0].diagonal().sum(), x)
    return gradient[..., 0] != 0


def recurrent_step(x: Tensor) -> Tensor:
    """One step of torch's recurrent cell at every position at once: from the state before it, and its input."""
    state = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1)
    return nn.RNNCell(1, 1, bias=False)(x.flatten(0, 1), state.flatten(0, 1)).view_as(x)


def path_length(layers: Iterable[Layer], n: int) -> int:
    """How many of these layers, one on the other, until every output depends on its own and every earlier input."""
    reached, count, known = torch.eye(n), 0, dict[Layer, Tensor]()
    stack = iter(layers)
    while not bool((reached.bool() >= causal_mask(n)).all()):
        layer = next(stack)
        if layer not in known:
            known[layer] = connections(layer, n).float()
        reached, count = (known[layer] @ reached).sign(), count + 1
    return count


@claim("table-1-path")
@one_thread()
def path(run: Run) -> Measured:
    """Table 1 and Section 4: exponents of n, k, r and log_k(n) in the largest number of layers between two positions.

    n = 32 … 256 with k = r = 8; k, r = 8 … 64 with n = 256. The dilated stack has dilations 1, k, k², …
    """
    repeat = itertools.repeat
    counts = {
        "self_attention_n": [path_length(repeat(self_attention), n) for n in LENGTHS],
        "recurrent_n": [path_length(repeat(recurrent_step), n) for n in LENGTHS],
        "convolutional_log": [path_length(dilated(k), n) for k, n in DILATED],
        "restricted_n": [path_length(repeat(restricted(8)), n) for n in LENGTHS],
        "restricted_r": [path_length(repeat(restricted(r)), 256) for r in WINDOWS],
        "contiguous_n": [path_length(repeat(convolutional(1, 8)), n) for n in LENGTHS],
        "contiguous_k": [path_length(repeat(convolutional(1, k)), 256) for k in WINDOWS],
    }
    logarithms = [round(math.log(n, k)) for k, n in DILATED]
    sizes = {"n": LENGTHS, "r": WINDOWS, "k": WINDOWS, "log": logarithms}
    value = {name: power(sizes[name.rpartition("_")[2]], count) for name, count in counts.items()}
    return Measured(value, {"sizes": sizes, "layers": counts})


def dilated(k: int) -> Iterable[Layer]:
    return (convolutional(1, k, dilation=k**i) for i in itertools.count())
