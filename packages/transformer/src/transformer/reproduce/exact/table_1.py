"""Table 1: what layers cost and how far apart their positions are, counted on layers that run.

All layers look back and not ahead, as the decoder's do, the recurrent one because it cannot do otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from papertest import counting
from papertest.claims import Measured, Run, claim
from papertest.threads import one_thread

from transformer.attention import attention, causal_mask

Layer = Callable[[Tensor], Tensor]  # (batch, n, d) to (batch, n, d)

LENGTHS = [32, 64, 128, 256]
WINDOWS = [8, 16, 32, 64]
NODES = ("MmBackward0", "AddmmBackward0", "BmmBackward0", "ConvolutionBackward0")  # the products, in autograd's graph


def self_attention(x: Tensor) -> Tensor:
    """The two products of Eq. 1; the projections, which Table 1 leaves out, are left out."""
    x = x[:, None]
    return attention(x, x, x, causal_mask(x.shape[2], x.device))[0][:, 0]


def restricted(r: int) -> Layer:
    """Self-attention in which each query is given r keys and values, the last of them at its own position."""

    def layer(x: Tensor) -> Tensor:
        near = F.pad(x, (0, 0, r - 1, 0)).unfold(1, r, 1).mT  # (batch, n, r, d)
        there = torch.arange(x.shape[1])[:, None] + torch.arange(r) >= r - 1  # not the padding before position 0
        return attention(x[:, :, None], near, near, there.to(x.device)[:, None])[0][:, :, 0]

    return layer


def recurrent(d: int) -> Layer:
    """torch's tanh RNN: h_t = tanh(W x_t + U h_(t−1)); d² weights in W and in U."""
    module = nn.RNN(d, d, bias=False, batch_first=True)
    return lambda x: module(x)[0]


def convolutional(d: int, k: int, dilation: int = 1) -> Layer:
    """torch's convolution; position t reads t, t − dilation, …, t − (k − 1) · dilation."""
    module = nn.Conv1d(d, d, k, dilation=dilation, bias=False)
    return lambda x: module(F.pad(x.mT, ((k - 1) * dilation, 0))).mT


def power(sizes: list[int], counts: list[int]) -> float:
    """The p of count = c · size^p, without the rounding of the fit."""
    return round(counting.exponent(sizes, counts), 9) + 0.0  # + 0.0: no -0.0


# ---------------------------------------------------------------- complexity


def multiply_adds(make: Callable[[], Layer], n: int, d: int) -> int:
    """Of one layer on one sequence: shapes are enough."""
    with torch.device("meta"):
        layer, x = make(), torch.empty(1, n, d)
        return counting.flops(lambda: layer(x)) // 2


@claim("table-1-complexity")
def complexity(run: Run) -> Measured:
    """Table 1: exponents of counted multiply-adds, one size at a time, the others at n = d = 256, k = r = 16.

    The recurrent layer is counted with its inputs' product, the attention without its projections.
    """
    makers: dict[str, Callable[[int, int], Layer]] = {
        "self_attention": lambda d, k: self_attention,
        "recurrent": lambda d, k: recurrent(d),
        "convolutional": convolutional,
        "restricted": lambda d, r: restricted(r),
    }
    sweeps: dict[str, list[int]] = {"n": LENGTHS, "d": LENGTHS, "k": WINDOWS, "r": WINDOWS}
    value: dict[str, float] = {}
    counts: dict[str, list[int]] = {}
    paper: Any = run.reported["table-1-complexity"].value
    for name in paper:
        kind, _, size = name.rpartition("_")
        for s in sweeps[size]:
            z = {"n": 256, "d": 256, "k": 16} | {"k" if size == "r" else size: s}
            layer = partial(makers[kind], z["d"], z["k"])
            counts.setdefault(name, []).append(multiply_adds(layer, z["n"], z["d"]))
        value[name] = power(sweeps[size], counts[name])
    return Measured(value, {"sizes": sweeps, "multiply_adds": counts})


@claim("crossover")
def crossover(run: Run) -> Measured:
    """Section 4: multiply-adds of self-attention, Eq. 1's two products, over those of a recurrent layer, at d = 64.

    The layer is torch's RNN, with 2nd². The details have the same over its recurrent product alone, nd², and with the
    attention's four projections, 4nd², for n/d = 1/8 … 8.
    """
    d = 64
    ratios = [1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8]
    rows: dict[str, list[float]] = {"as_in_table_1": [], "recurrent_product_alone": [], "with_projections": []}
    for ratio in ratios:
        n = round(ratio * d)
        ours, peer = multiply_adds(lambda: self_attention, n, d), multiply_adds(lambda: recurrent(d), n, d)
        projection = multiply_adds(lambda: nn.Linear(d, d, bias=False), n, d)
        rows["as_in_table_1"].append(ours / peer)
        rows["recurrent_product_alone"].append(ours / (peer - projection))
        rows["with_projections"].append((ours + 4 * projection) / peer)
    shares = dict(zip(ratios, rows["as_in_table_1"], strict=True))
    return Measured({"half": shares[1 / 2], "double": shares[2]}, {"n_over_d": ratios, **rows})


# ---------------------------------------------------------------- sequential operations


def longest_chain(layer: Layer, n: int, d: int = 4) -> int:
    """Matrix products and convolutions on the longest path through autograd's graph: each needs the one before it."""
    output = layer(torch.randn(1, n, d, requires_grad=True))
    depth: dict[Any, int] = {}
    todo: list[Any] = [output.grad_fn]
    while todo:
        node = todo[-1]
        before = [child for child, _ in node.next_functions if child is not None]
        if missing := [child for child in before if child not in depth]:
            todo.extend(missing)
            continue
        depth[todo.pop()] = max((depth[child] for child in before), default=0) + (node.name() in NODES)
    return depth[output.grad_fn]


@claim("table-1-sequential")
@one_thread()
def sequential(run: Run) -> Measured:
    """Table 1: exponents of n in the longest chain of dependent products, n = 32 … 256; k = r = 8."""
    layers = {
        "recurrent": recurrent(4),
        "self_attention": self_attention,
        "convolutional": convolutional(4, 8),
        "restricted": restricted(8),
    }
    chains = {name: [longest_chain(layer, n) for n in LENGTHS] for name, layer in layers.items()}
    return Measured({name: power(LENGTHS, chain) for name, chain in chains.items()}, {"n": LENGTHS, **chains})
