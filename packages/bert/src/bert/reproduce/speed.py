"""Speed: MiniLM's forward pass and its fine-tuning step beside the transformers library's, with the same weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
import transformers
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import BertForSequenceClassification, BertModel

from papertest import bench
from papertest.claims import Measured, Run, claim
from papertest.counting import peak_memory

from bert.heads import BertForClassification
from bert.pretrained import load_pretrained
from bert.reproduce import datasets
from bert.reproduce.finetuning import DROPOUT, copy_of
from bert.reproduce.pretrained_trend import SENTENCE, examples
from bert.reproduce.text import Example, tensors
from bert.reproduce.threads import one_thread
from bert.reproduce.weights import minilm

SENTENCES, BATCH = 128, 32
Batch = tuple[Int[Tensor, "batch seq"], Int[Tensor, "batch seq"], Int[Tensor, "batch seq"], Int[Tensor, " batch"]]
Encoder = Callable[[Batch], Float[Tensor, "batch seq hidden"]]


def sentences(run: Run, count: int) -> list[Example]:
    """Movie sentences from the training part, others for each seed."""
    start = run.seed * SENTENCES
    return examples(datasets.labelled("movie_sentences").train[start : start + count], SENTENCE)


def in_batches(found: list[Example]) -> list[Batch]:
    """As they come, padded to the longest of each batch."""
    return [tensors(found[i : i + BATCH]) for i in range(0, len(found), BATCH)]


def ours() -> Encoder:
    model = load_pretrained(minilm(), fused=True)
    return lambda batch: model(*batch[:3])[0]


def theirs() -> Encoder:
    transformers.logging.disable_progress_bar()
    model = cast("Any", BertModel.from_pretrained(minilm(), attn_implementation="sdpa")).eval()
    return lambda batch: model(input_ids=batch[0], token_type_ids=batch[1], attention_mask=batch[2]).last_hidden_state


@torch.inference_mode()
def states(encoder: Encoder, found: list[Example], *, ordered: bool) -> list[Tensor]:
    """The first token's last state of each sentence, in the order of the sentences; `ordered`: sorted by length."""
    order = sorted(range(len(found)), key=lambda i: len(found[i].ids)) if ordered else list(range(len(found)))
    result: list[Tensor] = [torch.empty(0)] * len(found)
    place = iter(order)
    for batch in in_batches([found[i] for i in order]):
        for row in encoder(batch)[:, 0]:
            result[next(place)] = row
    return result


@claim("forward-speed")
@one_thread()
def forward_speed(run: Run) -> Measured:
    """128 movie sentences in batches of 32, ours sorted by their length, theirs as they come; on one thread. Ours also
    computes nothing for padding.

    `sorted`, in the details: the same with theirs sorted too.
    """
    found = sentences(run, 32 if run.quick else SENTENCES)
    mine, peer = ours(), theirs()
    sides = [
        lambda: states(mine, found, ordered=True),
        lambda: states(peer, found, ordered=False),
        lambda: states(peer, found, ordered=True),
    ]
    pairs = 3 if run.quick else 5
    ratio = bench.paired(sides[0], sides[1], pairs=pairs, device=run.device)
    alike = bench.paired(sides[0], sides[2], pairs=3, warmup=0, device=run.device)
    memory = [peak_memory(side, run.device) for side in sides]
    details: dict[str, Any] = {**ratio.as_dict(), "sorted": alike.as_dict(), "bytes": memory}
    details["tokens"] = [len(example.ids) for example in found]
    return Measured({"speed": ratio.median, "memory": memory[0] / memory[1]}, details)


class Peer(nn.Module):
    """The library's model with our calls; its classifier is new, as ours is."""

    def __init__(self) -> None:
        super().__init__()
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        settings: dict[str, Any] = {"hidden_dropout_prob": DROPOUT, "attention_probs_dropout_prob": DROPOUT}
        self.model = cast("Any", BertForSequenceClassification.from_pretrained)(
            minilm(), num_labels=2, attn_implementation="sdpa", **settings
        )

    def loss(self, ids: Tensor, labels: Tensor, types: Tensor, mask: Tensor) -> Float[Tensor, ""]:
        return self.model(input_ids=ids, token_type_ids=types, attention_mask=mask, labels=labels).loss


def step(model: BertForClassification | Peer, batch: Batch) -> Callable[[], None]:
    """Forward, backward and Adam's update, with everything around the model alike."""
    ids, types, mask, labels = batch
    optimizer = torch.optim.AdamW(model.parameters(), 2e-5, weight_decay=0.01)
    model.train()

    def run() -> None:
        loss = model.loss(ids, labels, types, mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return run


@claim("finetune-step-speed")
@one_thread()
def finetune_step_speed(run: Run) -> Measured:
    """A step on one padded batch of 32 movie sentences, with dropout 0.1, on one thread.

    `full`, in the details: the same where every sentence has 24 tokens, so that there is no padding to be left out.
    """
    found = sentences(run, 8 if run.quick else BATCH)
    (batch,) = in_batches(found)
    (full,) = in_batches([Example((24 * each.ids)[:24], [0] * 24, each.label) for each in found])
    models = (BertForClassification(copy_of(load_pretrained(minilm(), fused=True)), 2), Peer())
    mine, peer = (step(model, batch) for model in models)
    ratio = bench.paired(mine, peer, pairs=3 if run.quick else 7, device=run.device)
    memory = [peak_memory(side, run.device) for side in (mine, peer)]
    alike = bench.paired(*(step(model, full) for model in models), pairs=3, device=run.device)
    details: dict[str, Any] = {**ratio.as_dict(), "bytes": memory, "shape": list(batch[0].shape)}
    details |= {"tokens": int(batch[2].sum()), "full": alike.as_dict()}
    return Measured({"speed": ratio.median, "memory": memory[0] / memory[1]}, details)
