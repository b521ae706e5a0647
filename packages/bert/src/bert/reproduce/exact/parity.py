"""The transformers library's BERT against ours: with real weights, and both heads of pre-training with random ones."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor, nn

from papertest.claims import Measured, Run, claim
from papertest.parity import relative_error
from papertest.threads import one_thread

from bert.config import BertConfig
from bert.heads import BertForPreTraining
from bert.masking import IGNORE
from bert.pretrained import load_pretrained, their_name
from bert.reproduce.data.corpora import verses
from bert.reproduce.models import minilm
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


SMALL = BertConfig(vocab_size=50, n_layers=2, hidden_size=24, n_heads=3, max_positions=16)


def small(config: BertConfig = SMALL) -> BertForPreTraining:
    """A model with random weights, biases too, and its dropout off."""
    model = BertForPreTraining(config).eval()
    for parameter in model.parameters():  # as built, biases are 0 and norms 1, and weights small: that hides much
        nn.init.normal_(parameter, float(parameter.detach().mean().round()), 0.2)
    return model


def batch(config: BertConfig = SMALL) -> dict[str, Tensor]:
    """Three rows of 12 random tokens, two sentences each; the last two rows end in padding."""
    ids = torch.randint(config.vocab_size, (3, 12))
    places = torch.arange(12).expand(3, 12)
    lengths = torch.tensor([[12], [9], [5]])
    return named(ids, ((places >= 4) & (places < lengths)).long(), (places < lengths).long())


def peer_of(model: BertForPreTraining) -> nn.Module:
    """The library's model with our weights."""
    from transformers import BertConfig as TheirConfig
    from transformers import BertForPreTraining as TheirModel

    c = model.config
    config = TheirConfig(
        vocab_size=c.vocab_size, num_hidden_layers=c.n_layers, hidden_size=c.hidden_size, num_attention_heads=c.n_heads,
        intermediate_size=c.ff_size, max_position_embeddings=c.max_positions, type_vocab_size=c.n_types,
        layer_norm_eps=c.layer_norm_eps,
    )  # fmt: skip
    weights: dict[str, Any] = {their_name(name, "bert."): tensor for name, tensor in model.state_dict().items()}
    tied = {"weight": "bert.embeddings.word_embeddings.weight", "bias": "cls.predictions.bias"}
    weights |= {f"cls.predictions.decoder.{name}": weights[other] for name, other in tied.items()}
    peer = TheirModel(config)
    peer.set_attn_implementation("eager")
    peer.load_state_dict(weights)
    return peer.eval()


def by_module(gradients: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weight and bias of a module in one vector: the softmax does not see the keys' bias, whose gradient is 0 but for
    rounding, and nothing to compare with by itself."""
    joined: dict[str, list[Tensor]] = {}
    for name, gradient in gradients.items():
        joined.setdefault(name.rpartition(".")[0], []).append(gradient.flatten())
    return {name: torch.cat(parts) for name, parts in joined.items()}


@claim("heads-parity")
@one_thread()
def heads_parity(run: Run) -> Measured:
    """Section 3.1 and Appendix A.2 in float32: both heads, the loss and its gradients against the library's.

    Largest difference over largest value, where there are tokens: the states of padding mean nothing in either. Of the
    gradients that of the worst module, weight and bias together. Random weights, two layers, padding; every fourth
    position is asked for, in each row other labels of the next sentence.
    """
    model, inputs = small(), batch()
    peer = peer_of(model)
    labels = torch.randint(SMALL.vocab_size, (3, 12)).masked_fill(torch.arange(12) % 4 != 2, IGNORE)
    labels[inputs["attention_mask"] == 0] = IGNORE
    is_next = torch.tensor([True, False, True])
    real = inputs["attention_mask"] == 1
    logits = model(**inputs)
    loss = model.loss(inputs["input_ids"], labels, is_next, inputs["token_type_ids"], inputs["attention_mask"])
    theirs = peer(**inputs, labels=labels, next_sentence_label=(~is_next).long())
    for value in (loss, theirs.loss):
        value.backward()
    grads = [{their_name(n, "bert."): p.grad for n, p in model.named_parameters() if p.grad is not None},
             {n: p.grad for n, p in peer.named_parameters() if p.grad is not None}]  # fmt: skip
    ours, others = map(by_module, grads)
    errors = {name: relative_error(ours[name], others[name]) for name in ours | others}
    value = {
        "masked": relative_error(logits[0][real], theirs.prediction_logits[real]),
        "next_sentence": relative_error(logits[1], theirs.seq_relationship_logits),
        "loss": relative_error(loss, theirs.loss),
        "gradients": max(errors.values()),
    }
    return Measured(value, {"loss": loss.item(), "by_module": errors})
