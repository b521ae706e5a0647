"""The transformers library's BERT against ours, with real weights."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor, nn

from papertest.claims import Measured, Run, claim
from papertest.parity import relative_error

from bert.pretrained import load_pretrained
from bert.reproduce.threads import one_thread
from bert.reproduce.weights import minilm, verses
from bert.wordpiece import WordPiece

PAIRS, SHORT, BATCH = 100, 80, 50  # SHORT: characters of the verses that are embedded


@claim("minilm-parity")
@one_thread()
@torch.no_grad()
def minilm_parity(run: Run) -> Measured:
    """Section 3 with all-MiniLM-L6-v2 in float32, largest difference over largest value of the worst.

    hidden: embeddings and every layer at the positions that are not padding, of two batches of pairs of verses,
    [CLS] A [SEP] B [SEP], with our attention written out and fused. sentences: each verse alone, 100 pairs of short
    ones; its states' mean scaled to length 1, as that model's authors have it.
    """
    peer = published()
    written, fused = (load_pretrained(minilm(), fused=fused) for fused in (False, True))
    wordpiece, (first, second) = WordPiece(minilm() / "vocab.txt"), verses(PAIRS, SHORT)
    mixed = verses(8)
    by_layer: dict[str, list[float]] = {"written out": [], "fused": []}
    padding = 0
    for start in (0, 4):
        inputs = wordpiece(mixed[0][start : start + 4], mixed[1][start : start + 4])
        real = inputs[2] == 1
        padding += int((~real).sum())
        theirs = peer(**named(*inputs), output_hidden_states=True).hidden_states
        for name, model in (("written out", written), ("fused", fused)):
            pairs = zip(model.states(*inputs), theirs, strict=True)
            errors = [relative_error(a[real], b[real]) for a, b in pairs]
            by_layer[name] = [max(pair) for pair in zip(errors, by_layer[name] or errors, strict=True)]
    texts = sorted([*first, *second], key=len)
    means: list[tuple[Tensor, Tensor]] = []
    for start in range(0, len(texts), BATCH):
        inputs = wordpiece(texts[start : start + BATCH])
        both = fused(*inputs)[0], peer(**named(*inputs)).last_hidden_state
        ours, theirs = (sentence(states, inputs[2]) for states in both)
        means.append((ours, theirs))
    ours, theirs = (torch.cat(part) for part in zip(*means, strict=True))
    value = {"hidden": max(map(max, by_layer.values())), "sentences": relative_error(ours, theirs)}
    return Measured(value, {"by_layer": by_layer, "padding": padding, "sentences": len(texts)})


def published() -> Any:
    """The library's MiniLM, read without anything of ours."""
    from safetensors.torch import load_file
    from transformers import BertConfig as TheirConfig
    from transformers import BertModel

    config = json.loads((minilm() / "config.json").read_text("utf-8"))
    peer = BertModel(TheirConfig(**config))
    peer.set_attn_implementation("eager")
    weights = load_file(minilm() / "model.safetensors")
    weights.pop("embeddings.position_ids")  # a constant 0..511, no longer stored by transformers
    peer.load_state_dict(weights)
    return peer.eval()


def named(ids: Tensor, types: Tensor, mask: Tensor) -> dict[str, Tensor]:
    return {"input_ids": ids, "token_type_ids": types, "attention_mask": mask}


def sentence(states: Tensor, mask: Tensor) -> Tensor:
    """The mean over the tokens of each row, scaled to length 1."""
    return nn.functional.normalize((states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True), dim=-1)
