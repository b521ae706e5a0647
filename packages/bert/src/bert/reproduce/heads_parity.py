"""The transformers library's heads of pre-training against ours, with random weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from papertest.claims import Measured, Run, claim
from papertest.parity import relative_error

from bert.config import BertConfig
from bert.heads import BertForPreTraining
from bert.masking import IGNORE
from bert.pretrained import their_name
from bert.reproduce.parity import named
from bert.reproduce.threads import one_thread

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

    Largest difference over largest value; of the gradients that of the worst module, weight and bias together. Random
    weights, two layers, padding; every fourth position is asked for, in each row other labels of the next sentence.
    """
    model, inputs = small(), batch()
    peer = peer_of(model)
    labels = torch.randint(SMALL.vocab_size, (3, 12)).masked_fill(torch.arange(12) % 4 != 2, IGNORE)
    labels[inputs["attention_mask"] == 0] = IGNORE
    is_next = torch.tensor([True, False, True])
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
        "masked": relative_error(logits[0], theirs.prediction_logits),
        "next_sentence": relative_error(logits[1], theirs.seq_relationship_logits),
        "loss": relative_error(loss, theirs.loss),
        "gradients": max(errors.values()),
    }
    return Measured(value, {"loss": loss.item(), "by_module": errors})
