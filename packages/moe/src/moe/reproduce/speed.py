"""The sorted layer beside the loop over all experts, the transformers library's Mixtral block, and a dense layer.

Each call is a forward and a backward pass on one thread, in rounds of which each times every side once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from papertest import Run, Timed, bench, claim
from papertest.counting import peak_memory
from papertest.threads import one_thread

from moe.experts import Activation, Experts
from moe.layer import MoE

D_MODEL, D_FF, EXPERTS, K = 512, 512, 16, 2
COUNTS = (4, 16, 64)  # of experts, for the time against their number


def tokens(run: Run) -> Tensor:
    """One sequence of 4,096."""
    return torch.randn(1, 128 if run.quick else 4096, D_MODEL, device=run.device)


def mixture(run: Run, n_experts: int, activation: Activation, *, fused: bool = True) -> MoE:
    """Mixtral's gate and setting."""
    layer = MoE(D_MODEL, D_FF, n_experts, K, "topk_softmax", activation=activation, fused=fused)
    return layer.to(run.device)


def both_ways(layer: Callable[[Tensor], Any], x: Tensor) -> Callable[[], None]:
    """A call of the forward pass and of the backward pass to the weights and the input."""
    x, upstream = x.clone().requires_grad_(), torch.randn_like(x)

    def call() -> None:
        x.grad = None
        if isinstance(layer, nn.Module):
            layer.zero_grad()
        y = layer(x)
        (y[0] if isinstance(y, tuple) else y).backward(upstream)

    return call


def timed(run: Run, sides: Mapping[str, Callable[[], None]], above: str, below: str, **details: Any) -> Timed:
    """Time of one side over that of the other, and the bytes that each holds at its peak."""
    memory = {name: peak_memory(side, run.device) for name, side in sides.items()}
    times = bench.rounds(run, sides, null="fast")
    return Timed(times.ratio(above, below), times.null, {"seconds": times.seconds, "bytes": memory, **details})


@claim("fast-path")
@one_thread()
def fast_path(run: Run) -> Timed:
    """Eq. 1 as it is printed over the sorted layer, with ReLU experts."""
    x, fast, loop = tokens(run), mixture(run, EXPERTS, "relu"), mixture(run, EXPERTS, "relu", fused=False)
    loop.load_state_dict(fast.state_dict())
    return timed(run, {"fast": both_ways(fast, x), "loop": both_ways(loop, x)}, "loop", "fast")


@claim("fast-against-mixtral")
@one_thread()
def fast_against_mixtral(run: Run) -> Timed:
    """The library's block, its experts in plain torch ("eager"), over ours with the same weights."""
    from transformers import MixtralConfig
    from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

    sizes: Any = {"hidden_size": D_MODEL, "intermediate_size": D_FF, "num_local_experts": EXPERTS,
                  "num_experts_per_tok": K, "experts_implementation": "eager"}  # fmt: skip
    x, ours = tokens(run), mixture(run, EXPERTS, "swiglu")
    theirs: Any = MixtralSparseMoeBlock(MixtralConfig(**sizes)).to(run.device)
    with torch.no_grad():
        theirs.gate.weight.copy_(ours.gate.get_parameter("W_r"))
        theirs.experts.gate_up_proj.copy_(ours.experts.W_1)
        theirs.experts.down_proj.copy_(ours.experts.W_2)
    return timed(run, {"fast": both_ways(ours, x), "mixtral": both_ways(theirs, x)}, "mixtral", "fast")


@claim("fast-against-dense")
@one_thread()
def fast_against_dense(run: Run) -> Timed:
    """The sorted layer over one expert of twice the width that every token goes to: the same operations but the gate's.

    `by_experts`, in the details: seconds with 4, 16 and 64 experts, medians of three.
    """
    x, fast = tokens(run), mixture(run, EXPERTS, "relu")
    dense = Experts.new(D_MODEL, K * D_FF, 1, "relu", 0.1).to(run.device)
    calls = [both_ways(mixture(run, n, "relu"), x) for n in COUNTS]
    by_experts = dict(zip(map(str, COUNTS), bench.turns(calls, 3, run.device), strict=True))
    sides = {"fast": both_ways(fast, x), "dense": both_ways(lambda x: dense.one(0, x), x)}
    return timed(run, sides, "fast", "dense", by_experts=by_experts)
