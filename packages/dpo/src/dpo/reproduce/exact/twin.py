"""The Flax twin, on the same numbers in float32."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from papertest.claims import Run, claim
from papertest.parity import relative_error

import dpo

Function = Callable[..., Any]


@claim("dpo-flax-twin")
def dpo_flax_twin(run: Run) -> dict[str, float]:
    """64 pairs; 8 sequences of 24 tokens from 50, answers in their midst; advantages and surrogate on the same mask.

    Gradients: of the losses in the policy's log-probabilities, of `sequence_logps` in the logits, and of the surrogate.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np

    from dpo import jax as twin

    draw = torch.Generator().manual_seed(run.seed)
    found: dict[str, float] = dict.fromkeys(("losses", "gradients", "logps", "ppo", "closed_form"), 0.0)

    def compare(part: str, ours: Function, theirs: Function, *given: Tensor, slope: int = 0) -> None:
        """Outputs and, in the first `slope` arguments, gradients of their first output's sum."""

        def outputs_of(function: Function, arguments: Any) -> tuple[Any, ...]:
            outputs = function(*arguments)
            return outputs if isinstance(outputs, tuple) else (outputs,)

        @jax.jit
        def twice(moved: Any, fixed: Any) -> Any:
            def first(*moved: Any) -> Any:
                outputs = outputs_of(theirs, (*moved, *fixed))
                return outputs[0].sum(), outputs

            if not moved:
                return outputs_of(theirs, fixed), ()
            gradients, outputs = jax.grad(first, tuple(range(slope)), has_aux=True)(*moved)
            return outputs, gradients

        leaves = [x.clone().requires_grad_(i < slope) for i, x in enumerate(given)]
        outputs = outputs_of(ours, leaves)
        gradients = torch.autograd.grad(outputs[0].sum(), leaves[:slope]) if slope else ()
        arrays = [jnp.asarray(x.numpy()) for x in given]
        their_outputs, their_gradients = twice(tuple(arrays[:slope]), tuple(arrays[slope:]))
        for where, a, b in ((part, their_outputs, outputs), ("gradients", their_gradients, gradients)):
            errors = [relative_error(torch.from_numpy(np.array(x)), y.detach()) for x, y in zip(a, b, strict=True)]
            found[where] = max(found[where], *errors, 0.0)

    pairs = list(5 * torch.randn(4, 64, generator=draw) - 40)
    for settings in ({"beta": 0.1}, {"beta": 0.5, "label_smoothing": 0.2}):
        compare("losses", partial(dpo.dpo_loss, **settings), partial(twin.dpo_loss, **settings), *pairs, slope=2)
    compare("losses", dpo.ipo_loss, twin.ipo_loss, *pairs, slope=2)

    labels = torch.randint(50, (8, 24), generator=draw)
    places = torch.arange(24)
    starts, lengths = torch.randint(1, 10, (2, 8, 1), generator=draw)
    mask = (places >= starts) & (places < starts + lengths)
    logits = 3 * torch.randn(8, 24, 50, generator=draw)
    ours: dict[str, Any] = {"labels": labels, "mask": mask}
    theirs: dict[str, Any] = {name: jnp.asarray(x.numpy()) for name, x in ours.items()}
    compare("logps", partial(dpo.sequence_logps, **ours), partial(twin.sequence_logps, **theirs), logits, slope=1)

    rewards, values, logps, old = torch.randn(4, 8, 24, generator=draw)
    marked = theirs["mask"]
    compare("ppo", partial(dpo.gae, mask=mask), partial(twin.gae, mask=marked), rewards.masked_fill(~mask, 0), values)
    surrogates = partial(dpo.clipped_surrogate, mask=mask), partial(twin.clipped_surrogate, mask=marked)
    compare("ppo", *surrogates, logps, old, values, slope=1)

    ref, reward = torch.randn(2, 16, 8, generator=draw)
    for name in ("exact_rlhf_policy", "log_partition"):
        both = partial(getattr(dpo, name), beta=0.5), partial(getattr(twin, name), beta=0.5)
        compare("closed_form", *both, ref.softmax(-1), reward)
    return found
