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
from papertest.claims import Run, Timed, claim
from papertest.counting import peak_memory
from papertest.threads import one_thread

from bert.heads import BertForClassification
from bert.pretrained import load_pretrained
from bert.reproduce.data.sets import labelled
from bert.reproduce.data.text import Example, tensors
from bert.reproduce.models import minilm
from bert.reproduce.training.finetuning import DROPOUT, copy_of
from bert.reproduce.training.minilm import SENTENCE, examples

SENTENCES, BATCH = 64, 32  # two batches: all rounds together stay under a minute of one core
FULL, FULL_PAIRS = 24, 3  # tokens of every sentence of a batch without padding, and how often it is timed
Batch = tuple[Int[Tensor, "batch seq"], Int[Tensor, "batch seq"], Int[Tensor, "batch seq"], Int[Tensor, " batch"]]
Encoder = Callable[[Batch], Float[Tensor, "batch seq hidden"]]


def sentences(count: int) -> list[Example]:
    """The first movie sentences of the training part, whose order is that of their hashes."""
    return examples(labelled("movie_sentences").train[:count], SENTENCE)


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
def forward_speed(run: Run) -> Timed:
    """64 movie sentences in batches of 32, ours sorted by their length, theirs as they come; on one thread. Ours also
    computes nothing for padding.

    `transformers, sorted`, in the details: theirs sorted too.
    """
    found = sentences(SENTENCES)
    mine, peer = ours(), theirs()
    sides = {
        "ours": lambda: states(mine, found, ordered=True),
        "transformers": lambda: states(peer, found, ordered=False),
        "transformers, sorted": lambda: states(peer, found, ordered=True),
    }
    times = bench.rounds(run, sides, null="ours")
    memory = {name: peak_memory(side, run.device) for name, side in sides.items()}
    return compared(times, memory, {"tokens": [len(example.ids) for example in found]})


def compared(times: bench.Times, memory: dict[str, int], details: dict[str, Any]) -> Timed:
    """Ours beside the library's: times as fast in every round, and the share of its memory, which no round changes."""
    share = memory["ours"] / memory["transformers"]
    return Timed(
        [{"speed": speed, "memory": share} for speed in times.ratio("transformers", "ours")],
        null=times.null,
        details={"seconds": times.seconds, "bytes": memory, **details},
    )


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
def finetune_step_speed(run: Run) -> Timed:
    """A step on one padded batch of 32 movie sentences, with dropout 0.1, on one thread.

    `full`, in the details: the same where every sentence has 24 tokens, so that there is no padding to be left out.
    """
    found = sentences(BATCH)
    (batch,) = in_batches(found)
    (full,) = in_batches([Example((FULL * each.ids)[:FULL], [0] * FULL, each.label) for each in found])
    models = (BertForClassification(copy_of(load_pretrained(minilm(), fused=True)), 2), Peer())
    sides = {name: step(model, batch) for name, model in zip(("ours", "transformers"), models, strict=True)}
    times = bench.rounds(run, sides, null="ours")
    memory = {name: peak_memory(side, run.device) for name, side in sides.items()}
    alike = bench.paired(*(step(model, full) for model in models), pairs=FULL_PAIRS, device=run.device)
    details = {"shape": list(batch[0].shape), "tokens": int(batch[2].sum()), "full": alike.as_dict()}
    return compared(times, memory, details)
