"""Sections 3.1 and 3.2: the heads of the two pre-training objectives, and the one for classification."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bert.arguments import check_kind, check_whole
from bert.config import BertConfig
from bert.masking import IGNORE
from bert.model import Bert, check_range, initialise, read


class MlmHead(nn.Module):
    """Section 3.1, Task #1: logits of the token that stood at a position, by the matrix of the token embeddings.

    The authors' code has a layer and a bias that the paper does not speak of: LayerNorm(GELU(hW + b))Eᵀ + c.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(
        self, hidden: Float[Tensor, "*at hidden"], E: Float[Tensor, "vocab hidden"]
    ) -> Float[Tensor, "*at vocab"]:
        return F.linear(self.norm(F.gelu(self.dense(hidden))), E, self.bias)


class BertForPreTraining(nn.Module):
    """A Bert under the two objectives of Section 3.1: a masked language model and next sentence prediction.

    bert: the config of a new one, or a Bert to go on with

    Raises ValueError for anything else.
    """

    def __init__(self, bert: BertConfig | Bert) -> None:
        super().__init__()
        self.bert = _bert(bert)
        self.config = self.bert.config
        self.mlm = MlmHead(self.config)
        self.nsp = nn.Linear(self.config.hidden_size, 2)
        for head in (self.mlm, self.nsp):
            initialise(head, self.config.init_std)

    def forward(
        self,
        input_ids: Int[Tensor, "batch seq"],
        token_type_ids: Int[Tensor, "batch seq"] | None = None,
        attention_mask: Bool[Tensor, "batch seq"] | Int[Tensor, "batch seq"] | None = None,
        *,
        at: Bool[Tensor, "batch seq"] | None = None,
    ) -> tuple[Float[Tensor, "*at vocab"], Float[Tensor, "batch 2"]]:
        """Arguments and errors as `Bert`'s. Returns (mlm_logits, nsp_logits).

        at: where the masked language model is to be asked, at 15% of the positions in training; its logits are then
        (positions, vocab), in the order of input_ids[at]. None for everywhere: (batch, seq, vocab).
        nsp_logits: column 0 for IsNext, column 1 for NotNext.

        ValueError also for an `at` that asks at padding, whose state means nothing.
        """
        hidden, pooled = self.bert(input_ids, token_type_ids, attention_mask)
        if at is not None:
            check_kind("at", at, Tensor, "a tensor")
            if at.shape != input_ids.shape or at.dtype != torch.bool:
                raise ValueError(f"at must be bool in the shape of input_ids, {tuple(input_ids.shape)}, got "
                                 f"{at.dtype} of shape {tuple(at.shape)}")  # fmt: skip
            if attention_mask is not None:
                wrong = (at & (attention_mask == 0)).any(1)
                if any(read([wrong.any()]) or ()):
                    raise ValueError(f"at, or labels other than {IGNORE}, must not ask at padding, and does in row "
                                     f"{int(wrong.nonzero()[0])}")  # fmt: skip
            hidden = hidden[at]
        return self.mlm(hidden, self.bert.embeddings.tokens.weight), self.nsp(pooled)

    def loss(
        self,
        input_ids: Int[Tensor, "batch seq"],
        labels: Int[Tensor, "batch seq"],
        is_next: Bool[Tensor, " batch"] | None = None,
        token_type_ids: Int[Tensor, "batch seq"] | None = None,
        attention_mask: Bool[Tensor, "batch seq"] | Int[Tensor, "batch seq"] | None = None,
    ) -> Float[Tensor, ""]:
        """Appendix A.2: the mean loss of the masked positions plus the mean loss of the next sentences, in nats, in
        float32 where the model has less.

        labels: the tokens to be found, and −100 where none is asked for, as `mask_tokens` gives them.
        is_next: True where B follows A; None leaves next sentence prediction out (Section 5.1).

        Raises ValueError for labels out of range, at padding, or none at all, and shapes or dtypes that differ. Under
        torch.compile and torch.vmap, which hide values, no labels at all, or one at padding, give NaN.
        """
        _check_labels(labels)
        if labels.shape != input_ids.shape:
            raise ValueError(f"labels must have the shape of input_ids, {tuple(input_ids.shape)}, got "
                             f"{tuple(labels.shape)}")  # fmt: skip
        if is_next is not None:
            check_kind("is_next", is_next, Tensor, "a tensor")
            if is_next.shape != labels.shape[:1] or is_next.dtype != torch.bool:
                raise ValueError(f"is_next must be bool of shape ({len(labels)},), one for each row, got "
                                 f"{is_next.dtype} of shape {tuple(is_next.shape)}")  # fmt: skip
        at = labels != IGNORE
        known = read([at.any()])
        if known is None:  # how many there are is not known either
            mlm_logits, nsp_logits = self(input_ids, token_type_ids, attention_mask)
            loss = F.cross_entropy(_wide(mlm_logits.flatten(0, 1)), labels.flatten().long(), ignore_index=IGNORE)
            if attention_mask is not None:
                loss = loss.masked_fill((at & (attention_mask == 0)).any(), math.nan)
        else:
            if not known[0]:
                raise ValueError(f"labels must have a token to be found, and hold {IGNORE} alone")
            wanted = labels[at]
            check_range(f"labels other than {IGNORE}", wanted, self.config.vocab_size)
            mlm_logits, nsp_logits = self(input_ids, token_type_ids, attention_mask, at=at)
            loss = F.cross_entropy(_wide(mlm_logits), wanted.long())
        return loss if is_next is None else loss + F.cross_entropy(_wide(nsp_logits), (~is_next).long())


class BertForClassification(nn.Module):
    """Section 4.1: one new layer of K labels over the pooled [CLS], softmax(CWᵀ); a bias and dropout before it are in
    the authors' code.

    bert: the config of a new one, or a Bert to fine-tune
    n_labels: K

    Raises ValueError for fewer than 2 labels, and arguments of another type.
    """

    def __init__(self, bert: BertConfig | Bert, n_labels: int) -> None:
        super().__init__()
        n_labels = check_whole("n_labels", n_labels, 2)
        self.bert = _bert(bert)
        self.config, self.n_labels = self.bert.config, n_labels
        self.dropout = nn.Dropout(self.config.dropout)
        self.classifier = nn.Linear(self.config.hidden_size, n_labels)
        initialise(self.classifier, self.config.init_std)

    def forward(
        self,
        input_ids: Int[Tensor, "batch seq"],
        token_type_ids: Int[Tensor, "batch seq"] | None = None,
        attention_mask: Bool[Tensor, "batch seq"] | Int[Tensor, "batch seq"] | None = None,
    ) -> Float[Tensor, "batch labels"]:
        """Logits. Arguments and errors as `Bert`'s."""
        _, pooled = self.bert(input_ids, token_type_ids, attention_mask)
        return self.classifier(self.dropout(pooled))

    def loss(
        self,
        input_ids: Int[Tensor, "batch seq"],
        labels: Int[Tensor, " batch"],
        token_type_ids: Int[Tensor, "batch seq"] | None = None,
        attention_mask: Bool[Tensor, "batch seq"] | Int[Tensor, "batch seq"] | None = None,
    ) -> Float[Tensor, ""]:
        """The mean of −log softmax(CWᵀ) at the right labels, in nats, in float32 where the model has less.

        ValueError for labels that are none.
        """
        _check_labels(labels)
        if labels.shape != input_ids.shape[:1]:
            raise ValueError(f"labels must be one for each of {len(input_ids)} rows, got the shape "
                             f"{tuple(labels.shape)}")  # fmt: skip
        check_range("labels", labels, self.n_labels)
        return F.cross_entropy(_wide(self(input_ids, token_type_ids, attention_mask)), labels.long())


def _bert(bert: BertConfig | Bert) -> Bert:
    check_kind("bert", bert, (BertConfig, Bert), "a BertConfig or a Bert")
    return bert if isinstance(bert, Bert) else Bert(bert)


def _wide(logits: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """In float32 where they have less: a mean of losses needs more than eight bits."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _check_labels(labels: Tensor) -> None:
    check_kind("labels", labels, Tensor, "a tensor")
    if labels.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"labels must be int64 or int32, got {labels.dtype}")
