"""What the key-value cache holds: bytes of decoding with it and without it."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from papertest.claims import Measured, Run, claim
from papertest.counting import peak_memory
from papertest.threads import one_thread

from transformer.config import TransformerConfig
from transformer.decoding import greedy_search
from transformer.reproduce.data.tokens import BOS
from transformer.reproduce.models import never_ending

VOCABULARY = 8000
EOS = VOCABULARY - 1


@claim("cached-memory")
@one_thread()
def cached_memory(run: Run) -> Measured:
    """Peak memory of greedy decoding with the cache over the peak without: 16 sentences of 64 tokens, base model.

    Without the cache nothing is kept from one token to the next, so its peak is that of the last step.
    """
    config = TransformerConfig.base(vocab_size=VOCABULARY, n_layers=1 if run.quick else 6, fused=True)
    model, src = never_ending(config, sentences=16, length=16 if run.quick else 64, seed=run.seed)
    cached = peak_memory(partial(greedy_search, model, src, bos=BOS, eos=EOS, extra=0), run.device)

    @torch.no_grad()
    def last_step() -> Tensor:
        return model.project(model.decode(src, *model.encode(src))[:, -1])

    uncached = peak_memory(last_step, run.device)
    return Measured(cached / uncached, {"bytes": [cached, uncached]})
