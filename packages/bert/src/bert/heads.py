"""Sections 3.1 and 3.2: the heads of the two pre-training objectives, and the one for classification."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bert.config import BertConfig
from bert.masking import IGNORE
from bert.model import Bert, check_range, initialise


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
    """

    def __init__(self, bert: BertConfig | Bert) -> None:
        super().__init__()
        self.bert = bert if isinstance(bert, Bert) else Bert(bert)
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
        """
        hidden, pooled = self.bert(input_ids, token_type_ids, attention_mask)
        if at is not None:
            if at.shape != input_ids.shape or at.dtype != torch.bool:
                raise ValueError(f"at must be bool in the shape of input_ids, {tuple(input_ids.shape)}, got {at.dtype} "
                                 f"of shape {tuple(at.shape)}")  # fmt: skip
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
        """Appendix A.2: the mean loss of the masked positions plus the mean loss of the next sentences, in nats.

        labels: the tokens to be found, and −100 where none is asked for, as `mask_tokens` gives them.
        is_next: True where B follows A; None leaves next sentence prediction out (Section 5.1).

        Raises ValueError for labels out of range, none at all, and shapes that differ.
        """
        if labels.shape != input_ids.shape:
            raise ValueError(f"labels must have the shape of input_ids, {tuple(input_ids.shape)}, got "
                             f"{tuple(labels.shape)}")  # fmt: skip
        if is_next is not None and (is_next.shape != labels.shape[:1] or is_next.dtype != torch.bool):
            raise ValueError(f"is_next must be bool of shape ({len(labels)},), one for each row, got "
                             f"{is_next.dtype} of shape {tuple(is_next.shape)}")  # fmt: skip
        at = labels != IGNORE
        wanted = labels[at]
        if not len(wanted):
            raise ValueError(f"labels must have a token to be found, and hold {IGNORE} alone")
        check_range(f"labels other than {IGNORE}", wanted, self.config.vocab_size)
        mlm_logits, nsp_logits = self(input_ids, token_type_ids, attention_mask, at=at)
        loss = F.cross_entropy(mlm_logits, wanted.long())
        return loss if is_next is None else loss + F.cross_entropy(nsp_logits, (~is_next).long())


class BertForClassification(nn.Module):
    """Section 4.1: one new layer of K labels over the pooled [CLS], softmax(CWᵀ); a bias and dropout before it are in
    the authors' code.

    bert: the config of a new one, or a Bert to fine-tune
    n_labels: K

    Raises ValueError for fewer than 2 labels.
    """

    def __init__(self, bert: BertConfig | Bert, n_labels: int) -> None:
        super().__init__()
        if n_labels < 2:
            raise ValueError(f"n_labels must be at least 2, got {n_labels}")
        self.bert = bert if isinstance(bert, Bert) else Bert(bert)
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
        """The mean of −log softmax(CWᵀ) at the right labels, in nats. ValueError for labels that are none."""
        if labels.shape != input_ids.shape[:1]:
            raise ValueError(f"labels must be one for each of {len(input_ids)} rows, got the shape "
                             f"{tuple(labels.shape)}")  # fmt: skip
        check_range("labels", labels, self.n_labels)
        return F.cross_entropy(self(input_ids, token_type_ids, attention_mask), labels.long())
