"""Other people's rotary and scalings: the transformers library, our Flax twin, and a real model with ours inside."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from papertest.claims import Measured, Run, claim
from papertest.models import smollm2
from papertest.parity import relative_error

from rope.rotary import apply_rope
from rope.scaling import scale_frequencies
from rope.tables import rope_frequencies

TEXT = (
    "The position of a word in its sentence says much of what it means there. A model that reads all words at once "
    "has to be told where each of them stands, and there are many ways to tell it: to add a vector, to punish what is "
    "far away, or to turn queries and keys by an angle that grows with the position."
)
QUESTION, ANSWER = "The capital of France is", " Paris"
SCALINGS: dict[str, dict[str, Any]] = {
    "linear": {"factor": 4.0},
    "dynamic": {"factor": 2.0},
    "yarn": {"factor": 16.0, "original_max_position_embeddings": 4096, "beta_fast": 32.0, "beta_slow": 1.0},
    "llama3": {
        "factor": 8.0,
        "original_max_position_embeddings": 8192,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
    },
}


@claim("rope-parity")
def rope_parity(run: Run) -> dict[str, float]:
    """Llama's rotary on (2, 4, 2048, 64), in order and with positions shuffled per row; GPT-NeoX's with a quarter."""
    from transformers import GPTNeoXConfig, LlamaConfig
    from transformers.models.gpt_neox import modeling_gpt_neox as neox
    from transformers.models.llama import modeling_llama as llama

    draw = torch.Generator().manual_seed(run.seed)
    seq = 256 if run.quick else 2048
    q, k = (torch.randn(2, 4, seq, 64, generator=draw) for _ in range(2))
    upstream = torch.randn(2, 4, seq, 64, generator=draw)
    in_order = torch.arange(seq).expand(2, -1)
    shuffled = torch.stack([torch.randperm(seq, generator=draw) for _ in range(2)])
    rotary = llama.LlamaRotaryEmbedding(LlamaConfig(hidden_size=256, num_attention_heads=4))
    theirs_q = q.clone().requires_grad_()
    ours_q = q.clone().requires_grad_()

    def theirs(q: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        return llama.apply_rotary_pos_emb(q, k, *rotary(q, positions))

    def ours(x: Tensor, positions: Tensor | None = None) -> Tensor:
        return apply_rope(x, positions, interleaved=False, frequencies=rotary.inv_freq)

    them, us = theirs(theirs_q, in_order)[0], ours(ours_q)
    them.backward(upstream)
    us.backward(upstream)
    assert theirs_q.grad is not None and ours_q.grad is not None
    config = GPTNeoXConfig(hidden_size=256, num_attention_heads=4, rope_parameters={
        "rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25})  # fmt: skip
    part = neox.GPTNeoXRotaryEmbedding(config)
    partial_theirs = neox.apply_rotary_pos_emb(q, k, *part(q, in_order))[1]
    partial_ours = apply_rope(k, interleaved=False, rotary_dim=16, frequencies=part.inv_freq)
    return {
        "output": relative_error(us.detach(), them.detach()),
        "gradients": relative_error(ours_q.grad, theirs_q.grad),
        "shuffled": max(relative_error(ours(x, shuffled), y) for x, y in zip((q, k), theirs(q, shuffled), strict=True)),
        "partial": relative_error(partial_ours, partial_theirs),
    }


@claim("scaling-parity")
def scaling_parity(run: Run) -> dict[str, float]:
    """The library's inverse frequencies for a head of 128; dynamic at 10,000 positions of a model of 4096."""
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    found: dict[str, float] = {}
    for name, parameters in SCALINGS.items():
        base = 500000.0 if name == "llama3" else 10000.0
        config = LlamaConfig(
            hidden_size=512, num_attention_heads=4, head_dim=128,
            max_position_embeddings=131072 if name == "llama3" else 4096,
            rope_parameters={"rope_type": name, "rope_theta": base, **parameters},
        )  # fmt: skip
        theirs, factor = ROPE_INIT_FUNCTIONS[name](config, torch.device("cpu"), seq_len=10_000)
        more = {"original_max_position_embeddings": 4096, "seq_len": 10_000} if name == "dynamic" else {}
        ours = scale_frequencies(rope_frequencies(128, base), name, **parameters, **more)
        found[name] = ((ours.frequencies - theirs.double()) / theirs.double()).abs().max().item()
        found["factor"] = max(found.get("factor", 0.0), abs(ours.attention_factor - factor))
    return found


@claim("rope-flax-twin")
def rope_flax_twin(run: Run) -> dict[str, float]:
    """(2, 3, 256, 64) in float32, both layouts: outputs, and gradients of Σ upstream · output."""
    import jax
    import numpy as np

    from rope.jax import apply_rope as twin_rope

    draw = np.random.default_rng(run.seed)
    x, upstream = (draw.standard_normal((2, 3, 256, 64), dtype=np.float32) for _ in range(2))
    found = {"output": 0.0, "gradients": 0.0}
    for interleaved in (True, False):
        ours = torch.from_numpy(x).requires_grad_()
        output = apply_rope(ours, interleaved=interleaved)
        output.backward(torch.from_numpy(upstream))

        def turned(x: Any, interleaved: bool = interleaved) -> Any:
            return twin_rope(x, interleaved=interleaved)

        theirs, pull = jax.vjp(turned, jax.numpy.asarray(x))
        assert ours.grad is not None
        for part, a, b in (("output", theirs, output.detach()), ("gradients", pull(upstream)[0], ours.grad)):
            found[part] = max(found[part], relative_error(torch.from_numpy(np.array(a)), b))
    return found


@claim("smollm2-logits")
def smollm2_logits(run: Run) -> Measured:
    """The library's own rotary, ours with halves, and ours with neighbours, in all 30 layers, on 64 tokens of TEXT."""
    from transformers.models.llama import modeling_llama as llama

    model, tokenizer = smollm2()
    text, question = (torch.tensor([tokenizer.encode(words).ids[:64]]) for words in (TEXT, QUESTION))
    parameters: Any = model.config.rope_parameters
    base: float = parameters["rope_theta"]

    def logits(tokens: Tensor, interleaved: bool | None) -> Tensor:
        def rotated(q: Tensor, k: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
            q, k = (apply_rope(x, base=base, interleaved=bool(interleaved)) for x in (q, k))
            return q, k

        with torch.no_grad():
            if interleaved is None:
                return model(tokens).logits
            with patch.object(llama, "apply_rotary_pos_emb", rotated):
                return model(tokens).logits

    library, halves, neighbours = (logits(text, layout) for layout in (None, False, True))
    said = tokenizer.decode([int(logits(question, False)[0, -1].argmax())])
    value = {
        "logits": relative_error(halves, library),
        "wrong_layout": relative_error(neighbours, library),
        "paris": int(said == ANSWER),
    }
    return Measured(value, {"tokens": text.shape[1], "base": base, "next": said})
