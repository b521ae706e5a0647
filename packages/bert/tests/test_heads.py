"""The heads: parity with the transformers library, logits where they are asked for, losses, labels that are none."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from bert_cases import batch, config, positions, shake, small
from torch import Tensor

from papertest.parity import relative_error

from bert import Bert, BertForClassification, BertForPreTraining
from bert.pretrained import save_pretrained

transformers = pytest.importorskip("transformers", reason="the group peers is not installed")


def pretraining(**changes: Any) -> BertForPreTraining:
    torch.manual_seed(0)
    return shake(BertForPreTraining(config(**changes)))


def labels() -> Tensor:
    ids, _, mask = batch()
    torch.manual_seed(3)
    return torch.where((torch.rand(ids.shape) < 0.4) & (mask == 1), torch.randint(23, ids.shape), -100)


def test_logits_loss_and_gradients_are_those_of_transformers(tmp_path):
    model = pretraining(dropout=0.0)
    save_pretrained(model, tmp_path)
    theirs = transformers.BertForPreTraining.from_pretrained(tmp_path, pad_token_id=None).double()
    model.double()
    ids, types, mask = batch()
    is_next = torch.tensor([True, False, False])
    mlm, nsp = model(ids, types, mask)
    out = theirs(ids, mask, types, positions(mask), labels=labels(), next_sentence_label=(~is_next).long())
    real = mask == 1
    assert relative_error(mlm[real], out.prediction_logits[real]) < 1e-10
    assert relative_error(nsp, out.seq_relationship_logits) < 1e-10
    loss = model.loss(ids, labels(), is_next, types, mask)
    assert loss.item() == pytest.approx(out.loss.item(), rel=1e-12)
    loss.backward()
    out.loss.backward()
    tied, other = model.bert.embeddings.tokens.weight, theirs.bert.embeddings.word_embeddings.weight
    assert relative_error(tied.grad, other.grad) < 1e-10
    assert relative_error(model.mlm.bias.grad, theirs.cls.predictions.bias.grad) < 1e-10
    assert relative_error(model.nsp.weight.grad, theirs.cls.seq_relationship.weight.grad) < 1e-10
    theirs_dense = theirs.cls.predictions.transform.dense.weight
    assert relative_error(model.mlm.dense.weight.grad, theirs_dense.grad) < 1e-10


def test_classification_is_that_of_transformers(tmp_path):
    model = shake(BertForClassification(config(dropout=0.0), 5))
    save_pretrained(model, tmp_path)
    theirs = transformers.BertForSequenceClassification.from_pretrained(tmp_path).double()
    ids, types, mask = batch()
    wanted = torch.tensor([4, 0, 2])
    out = theirs(ids, mask, types, positions(mask), labels=wanted)
    assert relative_error(model.double()(ids, types, mask), out.logits) < 1e-10
    assert model.loss(ids, wanted, types, mask).item() == pytest.approx(out.loss.item(), rel=1e-12)


def test_logits_at_some_positions_are_those_of_all():
    model = pretraining()
    ids, types, mask = batch()
    everywhere, nsp = model(ids, types, mask)
    at = labels() != -100
    some, same = model(ids, types, mask, at=at)
    assert some.shape == (int(at.sum()), 23)
    assert relative_error(some, everywhere[at]) < 1e-6
    assert torch.equal(nsp, same)


def test_the_loss_is_the_sum_of_two_means():
    model = pretraining()
    ids, types, mask = batch()
    is_next = torch.tensor([True, False, True])
    mlm, nsp = model(ids, types, mask)
    first = F.cross_entropy(mlm.flatten(0, 1), labels().flatten())
    second = -nsp.log_softmax(1)[[0, 1, 2], [0, 1, 0]].mean()
    assert model.loss(ids, labels(), None, types, mask).item() == pytest.approx(first.item(), rel=1e-6)
    assert model.loss(ids, labels(), is_next, types, mask).item() == pytest.approx((first + second).item(), rel=1e-6)


def test_a_new_model_knows_nothing():
    torch.manual_seed(0)
    loss = (
        BertForPreTraining(config(hidden_size=48)).eval().loss(batch()[0], labels(), torch.tensor([True, False, True]))
    )
    assert loss.item() == pytest.approx(math.log(23) + math.log(2), abs=0.2)


def test_heads_go_on_with_a_given_bert():
    bert = small()
    assert BertForClassification(bert, 3).bert is bert
    assert BertForPreTraining(bert).bert is bert
    before = {name: x.clone() for name, x in bert.state_dict().items()}
    BertForClassification(bert, 3)
    assert all(torch.equal(x, before[name]) for name, x in bert.state_dict().items())


def test_fine_tuning_learns_a_rule():
    """Whether the first token after [CLS] is below 11: from 0.5 to above 0.95."""
    torch.manual_seed(0)
    model = BertForClassification(Bert(config(hidden_size=24, dropout=0.0, init_std=0.1)), 2)
    ids = torch.randint(23, (256, 6))
    wanted = (ids[:, 1] < 11).long()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(80):
        optimizer.zero_grad()
        model.loss(ids, wanted).backward()
        optimizer.step()
    assert float((model.eval()(ids).argmax(1) == wanted).float().mean()) > 0.95


IDS = torch.tensor([[5, 3, 0], [4, 0, 0]])
NONE = torch.full_like(IDS, -100)
YES = torch.tensor([True, False])
RANGE = "labels other than -100 must be from 0 to 22, got "
PRETRAINING: dict[str, tuple[tuple[Any, ...], str]] = {
    "label too large": ((IDS, torch.where(IDS == 5, 23, NONE)), RANGE + "23 to 23"),
    "label negative": ((IDS, torch.where(IDS == 5, -1, IDS)), RANGE + "-1 to 4"),
    "no label": ((IDS, NONE), "labels must have a token to be found, and hold -100 alone"),
    "labels of another batch": ((IDS, NONE[:1]), "labels must have the shape of input_ids, (2, 3), got (1, 3)"),
    "next of another batch": (
        (IDS, IDS, YES[:1]),
        "is_next must be bool of shape (2,), one for each row, got torch.bool of shape (1,)",
    ),
    "labels of float": ((IDS, IDS.float()), "labels must be int64 or int32, got torch.float32"),
    "labels of bool": ((IDS, IDS == 5), "labels must be int64 or int32, got torch.bool"),
    "list of labels": ((IDS, [1]), "labels must be a tensor, got [1]"),
    "list of next": ((IDS, IDS, [True, False]), "is_next must be a tensor, got [True, False]"),
    "asked at padding": (
        (IDS, IDS, None, None, (IDS > 0).long()),
        "at, or labels other than -100, must not ask at padding, and does in row 0",
    ),
    "next as numbers": (
        (IDS, IDS, YES.long()),
        "is_next must be bool of shape (2,), one for each row, got torch.int64 of shape (2,)",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("wrong", "message"), PRETRAINING.values(), ids=PRETRAINING.keys())
def test_labels_of_pretraining_that_are_none(wrong, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        pretraining().loss(*wrong)


def test_places_that_are_none():
    for at, got in ((YES, "torch.bool of shape (2,)"), (IDS, "torch.int64 of shape (2, 3)")):
        message = f"at must be bool in the shape of input_ids, (2, 3), got {got}"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            pretraining()(IDS, at=at)


def test_labels_of_classes_that_are_none():
    model = BertForClassification(config(), 3)
    for wrong, message in (
        (torch.tensor([0, 3]), "labels must be from 0 to 2, got 0 to 3"),
        (torch.tensor([-100, 1]), "labels must be from 0 to 2, got -100 to 1"),
        (torch.tensor([0.0, 1.0]), "labels must be int64 or int32, got torch.float32"),
        (torch.tensor([True, False]), "labels must be int64 or int32, got torch.bool"),
        ([0, 1], "labels must be a tensor, got [0, 1]"),
        (torch.tensor([1]), "labels must be one for each of 2 rows, got the shape (1,)"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            model.loss(IDS, wrong)
    with pytest.raises(ValueError, match=r"^n_labels must be at least 2, got 1$"):
        BertForClassification(config(), 1)
    for wrong in (2.0, True, "2", None):
        with pytest.raises(ValueError, match=f"^n_labels must be a whole number, got {wrong!r}$"):
            BertForClassification(config(), wrong)
    for kind in (BertForPreTraining, lambda bert: BertForClassification(bert, 2)):
        with pytest.raises(ValueError, match=r"^bert must be a BertConfig or a Bert, got 3$"):
            kind(3)
