"""Real pretrained weights on real text: both attentions on every layer's own queries, keys and values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from papertest.claims import Measured, Run, claim
from papertest.models import minilm, smollm2
from papertest.parity import relative_error

from flash_attention import flash_attention, standard_attention
from flash_attention.reproduce.data import paragraphs

if TYPE_CHECKING:
    from transformers import PreTrainedModel

OURS = "both-compared"  # how transformers knows our attention; it takes a name with "flash" in it for a kernel to fetch


@claim("pretrained-minilm")
def pretrained_minilm(run: Run) -> Measured:
    """Thm. 1 on all-MiniLM-L6-v2: eight speeches of Hamlet of different lengths as one padded batch.

    The largest relative difference of flash from standard attention over the 6 layers, and of the last hidden states
    (at tokens that are not padding) from those of a run with transformers' own attention.
    """
    model, tokenizer = minilm()
    speeches = [text for text in paragraphs() if len(text) > 200]
    texts = [tokenizer.encode(text).ids[:256] for text in speeches[: 4 if run.quick else 8]]
    longest = max(map(len, texts))
    tokens = torch.tensor([ids + [0] * (longest - len(ids)) for ids in texts])
    mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in texts])
    layers, ours, peer = layer_by_layer(model, {"input_ids": tokens, "attention_mask": mask})
    real = mask.bool()
    return _differences(layers, relative_error(ours[real], peer[real]), {"lengths": [len(ids) for ids in texts]})


@claim("pretrained-smollm2")
def pretrained_smollm2(run: Run) -> Measured:
    """Thm. 1 on SmolLM2-135M: the first 256 tokens of Hamlet, causal, three query heads to a key head.

    The largest relative difference of flash from standard attention over the 30 layers, and of the last logits from
    those of a run with transformers' own attention. RuntimeError where the model does not know France's capital,
    which is what wrongly read weights look like.
    """
    model, tokenizer = smollm2()
    model.set_attn_implementation("eager")
    with torch.no_grad():
        known = model(torch.tensor([tokenizer.encode("The capital of France is").ids])).logits[0, -1].argmax()
    if tokenizer.decode([int(known)]) != " Paris":
        raise RuntimeError(
            f"SmolLM2 goes on with {tokenizer.decode([int(known)])!r}: its weights were not read rightly"
        )
    text = "\n\n".join(paragraphs())
    tokens = torch.tensor([tokenizer.encode(text).ids[: 128 if run.quick else 256]])
    layers, ours, peer = layer_by_layer(model, {"input_ids": tokens})
    return _differences(layers, relative_error(ours, peer), {"tokens": tokens.shape[1]})


def layer_by_layer(model: PreTrainedModel, inputs: dict[str, Tensor]) -> tuple[list[float], Tensor, Tensor]:
    """Run the model with flash attention in every layer, and once more with transformers' own plain attention.

    Returns each layer's relative difference of flash from standard attention on that layer's real q, k and v, and
    the two runs' outputs.
    """
    from transformers import AttentionInterface, AttentionMaskInterface

    layers: list[float] = []

    def attend(
        module: Any, q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None, *, scaling: float, **_: Any
    ) -> tuple[Tensor, None]:
        setting: dict[str, Any] = {"causal": module.is_causal, "mask": key_mask, "scale": scaling}
        ours = flash_attention(q, k, v, **setting)
        layers.append(relative_error(ours, standard_attention(q, k, v, **setting)))
        return ours.transpose(1, 2), None  # the model goes on with what flash attention gave

    def padding(*_: Any, attention_mask: Tensor | None = None, **__: Any) -> Tensor | None:
        return attention_mask  # (batch, seq_k), as flash_attention wants it, not the (N, N) mask of plain attention

    AttentionInterface.register(OURS, attend)
    AttentionMaskInterface.register(OURS, padding)
    outputs: list[Tensor] = []
    for implementation in (OURS, "eager"):
        model.set_attn_implementation(implementation)
        with torch.no_grad():
            outputs.append(model(**inputs, use_cache=False)[0])
    if len(layers) != model.config.num_hidden_layers:
        raise RuntimeError(f"{len(layers)} layers were compared, but the model has {model.config.num_hidden_layers}")
    return layers, outputs[0], outputs[1]


def _differences(layers: list[float], output: float, details: dict[str, Any]) -> Measured:
    return Measured({"worst_layer": max(layers), "output": output}, {"by_layer": layers, **details})
