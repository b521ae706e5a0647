"""The real SmolLM2-135M on books and plays of 2 and 4 times its context of 8,192, by each scaling, without training."""

from __future__ import annotations

import math
from typing import Any, cast
from unittest.mock import patch

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from tokenizers import Tokenizer
from torch import Tensor, nn

from papertest import Measured, Run, claim
from papertest.models import smollm2
from papertest.texts import bible, plays
from papertest.threads import one_thread

from rope.rotary import apply_rope
from rope.scaling import ScaledFrequencies, scale_frequencies
from rope.tables import rope_frequencies

CONTEXT, SCORED = 8192, 8192  # the model's window, and the tokens that are scored, the same ones in every run of a seed
QUICK = 128  # in place of both in `reproduce --quick`
LONGEST = 4  # of windows: how much of a text is taken
# One for each seed, apart from the texts that serve for choosing, `papertest.texts.HELD_OUT["dev"]`
TEXTS = ("Genesis", "hamlet", "Isaiah", "othello", "Ezekiel", "king-lear")
METHODS = {  # by how many times the context is read; attention costs four times as much at 4
    2: ("default", "linear", "ntk", "dynamic", "yarn", "llama3"),
    4: ("linear", "ntk", "yarn"),
}
CHUNK, POINTS = 512, 16  # tokens whose logits are there at a time; means along the scored tokens


def text(tokenizer: Tokenizer, name: str, length: int) -> Int[Tensor, " length"]:
    """The first tokens of a book or a play, with its capitals."""
    ids = tokenizer.encode((bible() | plays())[name]).ids
    if len(ids) < length:
        raise ValueError(f"name must be a text of at least {length} tokens, got {name} with {len(ids)}")
    return torch.tensor(ids[:length])


def scaled(theta: Tensor, method: str, context: int, window: int) -> ScaledFrequencies:
    """The model's frequencies for a window; dynamic has the factor of the others, as in configurations."""
    factor = max(1, window // context)
    more: dict[str, Any] = {} if method == "default" else {"factor": float(factor)}
    if method in ("dynamic", "yarn", "llama3"):
        more["original_max_position_embeddings"] = context
    return scale_frequencies(theta, method, **more, **({"seq_len": window} if method == "dynamic" else {}))


@torch.no_grad()
def nats(model: Any, ids: Int[Tensor, " window_and_1"], scored: int, use: ScaledFrequencies) -> Float[Tensor, " last"]:
    """Nats of the last tokens, each read after all before it, with our rotary in the transformers library's model."""
    from transformers.models.llama import modeling_llama as llama

    def rotated(q: Tensor, k: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        q, k = (apply_rope(x, interleaved=False, **use._asdict()) for x in (q, k))
        return q, k

    with patch.object(llama, "apply_rotary_pos_emb", rotated):
        last = model.model(ids[None, :-1], use_cache=False).last_hidden_state[0, -scored:]
    parts = zip(last.split(CHUNK), ids[-scored:].split(CHUNK), strict=True)
    return torch.cat([F.cross_entropy(model.lm_head(states), asked, reduction="none") for states, asked in parts])


@one_thread()
def read(run: Run, method: str, window: int) -> dict[str, Any]:
    """Nats of the last SCORED tokens of the seed's text, read in windows of this length, their later half scored.

    A window of more than twice SCORED is scored on its last SCORED. `entropy` is that of the tokens' own frequencies.
    """
    context, scored = CONTEXT, SCORED
    if run.quick:
        context, scored, window = QUICK, QUICK, window * QUICK // CONTEXT
    model, tokenizer = smollm2()
    cast(nn.Module, model).to(run.device)
    config: Any = model.config
    theta = rope_frequencies(config.head_dim, config.rope_parameters["rope_theta"])
    use = scaled(theta, method, context, window)
    ids = text(tokenizer, TEXTS[run.seed % len(TEXTS)], LONGEST * context + 1).to(run.device)
    half = min(scored, window // 2)
    ends = range(len(ids) - scored + half, len(ids) + 1, half)
    windows = run.progress(ends, f"SmolLM2, {method}, windows of {window}, seed {run.seed}")
    found = torch.cat([nats(model, ids[end - window - 1 : end], half, use) for end in windows]).double()
    counts = torch.bincount(ids[-scored:]).double()
    shares = counts[counts > 0] / scored
    return {
        "nats": found.mean().item(),
        "curve": [part.mean().item() for part in found.chunk(POINTS)],
        "entropy": -(shares * shares.log()).sum().item(),
    }


def within(run: Run) -> float:
    """Nats of the scored tokens where the model reads them within its context."""
    return run.shared(read, "default", CONTEXT)["nats"]


def curves(run: Run, factor: int) -> dict[str, list[float]]:
    """Nats along the scored tokens by method, and within the context, where the same tokens are read in two windows."""
    beyond = {method: run.shared(read, method, factor * CONTEXT)["curve"] for method in METHODS[factor]}
    return beyond | {"within": run.shared(read, "default", CONTEXT)["curve"]}


def longer(run: Run, factor: int) -> dict[str, float]:
    """The same at so many times the context, by method."""
    return {method: run.shared(read, method, factor * CONTEXT)["nats"] for method in METHODS[factor]}


def over(found: dict[str, float], worse: str, better: str) -> float:
    """Perplexity of one method over another's."""
    return math.exp(found[worse] - found[better])


@claim("smollm2-reads")
def smollm2_reads(run: Run) -> Measured:
    """The control: nats below the tokens' own entropy, and nats that 8,192 tokens save against 2,048."""
    whole, part = (run.shared(read, "default", window) for window in (CONTEXT, CONTEXT // 4))
    value = {"below": whole["entropy"] - whole["nats"], "gain": part["nats"] - whole["nats"]}
    return Measured(value, {"text": TEXTS[run.seed % len(TEXTS)], "whole": whole, "part": part})


@claim("smollm2-plain-fails")
def smollm2_plain_fails(run: Run) -> float:
    """PI, Table 1, without extension: perplexity at twice the context over that within."""
    return math.exp(run.shared(read, "default", 2 * CONTEXT)["nats"] - within(run))


@claim("smollm2-scaled")
def smollm2_scaled(run: Run) -> Measured:
    """PI, Tables 1 and 3, step 0: perplexity without extension over that with each, at twice the context."""
    found = longer(run, 2)
    value = {method: over(found, "default", method) for method in METHODS[2][1:]}
    return Measured(value, {"nats": found, "within": within(run), "curves": curves(run, 2)})


@claim("smollm2-ntk")
def smollm2_ntk(run: Run) -> dict[str, float]:
    """YaRN, Sections 3.1 and 3.2, at twice the context: interpolation over NTK-aware, both over by-parts (Llama 3)."""
    found = longer(run, 2)
    pairs = (("linear", "ntk"), ("linear", "llama3"), ("ntk", "llama3"))
    return {f"{worse}_{better}": over(found, worse, better) for worse, better in pairs}


@claim("smollm2-ntk-higher")
def smollm2_ntk_higher(run: Run) -> float:
    """YaRN, Section 3.1, at twice the context: NTK-aware with s = 2 over dynamic with its s = 3."""
    return over(longer(run, 2), "ntk", "dynamic")


@claim("smollm2-yarn")
def smollm2_yarn(run: Run) -> dict[str, float]:
    """YaRN, Section 3.4 and Figure 5, at twice the context: each earlier method over YaRN."""
    found = longer(run, 2)
    return {method: over(found, method, "yarn") for method in ("linear", "ntk", "dynamic")}


@claim("smollm2-yarn-keeps")
def smollm2_yarn_keeps(run: Run) -> float:
    """YaRN, Section 1, at twice the context: YaRN's perplexity over that within."""
    return math.exp(longer(run, 2)["yarn"] - within(run))


@claim("smollm2-at-4")
def smollm2_at_4(run: Run) -> Measured:
    """exllama's thread, at 4 times the context: interpolation over NTK-aware, and over YaRN."""
    found = longer(run, 4)
    value = {method: over(found, "linear", method) for method in ("ntk", "yarn")}
    return Measured(value, {"nats": found, "within": within(run), "curves": curves(run, 4)})


@claim("smollm2-keeps-at-4")
def smollm2_keeps_at_4(run: Run) -> dict[str, float]:
    """exllama's thread, at 4 times the context: perplexity of NTK-aware, and of YaRN, over that within."""
    found = longer(run, 4)
    return {method: math.exp(found[method] - within(run)) for method in ("ntk", "yarn")}
