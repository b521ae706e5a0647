"""The two answers of a pair in one row, behind one copy of their prompt.

A prompt's states do not depend on what follows it. So they are computed once, both answers see them, and neither sees
the other: the log-probabilities and their gradients are those of two rows. Logits are made only where they predict a
token of an answer. What is saved is half of the prompts, padding between long and short answers, and the vocabulary's
logits over prompts and padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dpo.logps import token_logps
from dpo.preferences import Batch


@dataclass(frozen=True)
class Packed:
    """Rows of prompt, chosen answer, rejected answer, padding.

    ids: the tokens; 0 as padding
    positions: of each token in its own text: both answers begin where the prompt ends
    visible: the keys (last axis) that each query sees
    line: row and column of what `sequence_logps` needs of each answer, one answer after the other: the prompt's last
        token, which predicts the first one, and the answer's own
    mask: True at the answers' tokens of the line
    answer: to which row of the batch each place of the line belongs
    """

    ids: Int[Tensor, "batch packed"]
    positions: Int[Tensor, "batch packed"]
    visible: Bool[Tensor, "batch 1 packed packed"]
    line: Int[Tensor, "2 line"]
    mask: Bool[Tensor, " line"]
    answer: Int[Tensor, " line"]


def pack(batch: Batch) -> Packed:
    """Each pair of the batch as one row, on the batch's device.

    Raises ValueError for a pair whose prompts differ or are empty, and for a mask that is not True from the answer's
    first token to the row's last.
    """
    pairs = len(batch.ids) // 2
    prompts, answers = zip(*(_parted(batch, row) for row in range(2 * pairs)), strict=True)
    length = max(len(prompts[i]) + len(answers[i]) + len(answers[pairs + i]) for i in range(pairs))
    ids, positions = batch.ids.new_zeros(pairs, length), batch.ids.new_zeros(pairs, length)
    visible = torch.ones(length, length, dtype=torch.bool, device=ids.device).tril().repeat(pairs, 1, 1, 1)
    lines: list[Tensor] = []
    for i, prompt in enumerate(prompts[:pairs]):
        if not prompt.equal(prompts[pairs + i]):
            raise ValueError(f"batch must have the same prompt in both rows of a pair, got two in pair {i}")
        chosen, rejected = answers[i], answers[pairs + i]
        border, middle = len(prompt), len(prompt) + len(chosen)
        end = middle + len(rejected)
        ids[i, :end] = torch.cat([prompt, chosen, rejected])
        positions[i, :middle] = torch.arange(middle)
        positions[i, middle:end] = torch.arange(border, border + len(rejected))
        visible[i, 0, middle:end, border:middle] = False
        lines += [torch.tensor([border - 1, *range(border, middle)]), torch.tensor([border - 1, *range(middle, end)])]
    lines = lines[::2] + lines[1::2]  # in the batch's order
    lengths = torch.tensor([len(places) for places in lines])
    answer = torch.arange(2 * pairs).repeat_interleave(lengths)
    mask = torch.ones(len(answer), dtype=torch.bool)
    mask[lengths.cumsum(0) - lengths] = False
    line = torch.stack([answer % pairs, torch.cat(lines)])
    return Packed(ids, positions, visible, *(x.to(ids.device) for x in (line, mask, answer)))


def _parted(batch: Batch, row: int) -> tuple[Tensor, Tensor]:
    """Prompt and answer of a row."""
    real = batch.padding_mask[row]
    ids, mask = batch.ids[row, real], batch.mask[row, real]
    border = int((~mask).sum())
    if not border or border == len(ids) or not mask[border:].all() or batch.mask[row, ~real].any():
        raise ValueError(
            f"batch must have a prompt and behind it an answer up to the row's end, got others in row {row}"
        )
    return ids[:border], ids[border:]


def packed_logps(model: nn.Module, batch: Batch) -> tuple[Float[Tensor, " two_batch"], int]:
    """`answer_logps` of the batch, the chosen answers first, by way of `pack`; and the size of the vocabulary.

    model: a causal language model of transformers with full attention, whose implementation ("sdpa", "eager") takes a
        mask of four axes, and whose logits are its output embeddings' alone. A model that only sees the last so many
        tokens would see too many of them here

    Raises ValueError as `pack` and `sequence_logps` do, and for a model without `base_model` and output embeddings.
    """
    if not hasattr(model, "base_model") or not hasattr(model, "get_output_embeddings"):
        raise ValueError(f"model must be a causal language model of transformers, got {type(model).__name__}")
    transformer: Any = model
    packed = pack(batch)
    states = transformer.base_model(
        input_ids=packed.ids, attention_mask=packed.visible, position_ids=packed.positions, use_cache=False
    ).last_hidden_state
    rows, columns = packed.line
    logits = _logits(transformer.get_output_embeddings(), states[rows, columns])
    nats = token_logps(logits[None], packed.ids[rows, columns][None], packed.mask[None])[0]
    return nats.new_zeros(len(batch.ids)).index_add(0, packed.answer, nats), logits.shape[-1]


def _logits(head: Any, states: Float[Tensor, "line d_model"]) -> Float[Tensor, "line vocab"]:
    autocast = torch.is_autocast_enabled(states.device.type)
    plain = type(head) is nn.Linear and "bias" not in dict(head.named_parameters()) and not autocast
    return _Product.apply(states, head.weight) if plain else head(states)


class _Product(torch.autograd.Function):
    """states @ weightᵀ. The weight's gradient is laid out as the weight is, and so the gradient of tied embeddings is
    added to it in place: torch's own is a transposed view, and the sum a third tensor of the vocabulary's size."""

    @staticmethod
    def forward(states: Tensor, weight: Tensor) -> Tensor:
        return states @ weight.T

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, d_logits: Tensor) -> tuple[Tensor | None, Tensor | None]:
        states, weight = ctx.saved_tensors
        of_states, of_weight = ctx.needs_input_grad
        return d_logits @ weight if of_states else None, d_logits.T @ states if of_weight else None
