"""CAIL2019-SCM: the claim's own code on a tiny file of the published format, on the CPU."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import RoFormerConfig, RoFormerForMultipleChoice
from transformers.models.roformer import modeling_roformer

from papertest.claims import Run
from papertest.package import Package

from rope.reproduce import paper

RECORD = Package.at(Path(__file__).parents[1] / "src" / "rope").papers["rope"]
WORDS = ["借款", "利息", "合同", "海运", "商标", "侵权"]


def row(i: int) -> dict[str, str]:
    """B or C is word for word like A."""
    a, b = WORDS[i % 3], WORDS[3 + i % 3]
    return {"A": f"{a} {i}", "B": b if i % 2 else a, "C": a if i % 2 else b, "label": "BC"[i % 2]}


def write(file: Path, *rows: dict[str, object]) -> Path:
    file.write_text("\n".join(json.dumps(each, ensure_ascii=False) for each in rows) + "\n", "utf-8")
    return file


def encode(first, second, length):
    """Two texts as characters: [CLS] A [SEP] B [SEP], cut and padded."""
    pairs = [[1, *(3 + ord(c) % 90 for c in a), 2, *(3 + ord(c) % 90 for c in b), 2][:length]
             for a, b in zip(first, second, strict=True)]  # fmt: skip
    width = max(map(len, pairs))
    ids = torch.tensor([each + [0] * (width - len(each)) for each in pairs])
    return {"input_ids": ids, "attention_mask": (ids > 0).long()}


def tiny():
    config = RoFormerConfig(
        vocab_size=93, embedding_size=32, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=1024, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return RoFormerForMultipleChoice(config), encode


def run_of(*, quick=False, seed=0):
    entry = {"table-5-triplets": RECORD.reported["table-5-triplets"]}
    return Run(seed, "cpu", quick, entry, lambda items, total, what: iter(items), lambda run, f, args: f(run, *args))


@pytest.fixture
def here(tmp_path, monkeypatch):
    write(tmp_path / "train.json", *map(row, range(60)))
    write(tmp_path / "test.json", *map(row, range(50, 100)))
    monkeypatch.setenv("CAIL", str(tmp_path))
    monkeypatch.setattr(paper, "published", tiny)
    return tmp_path


def test_the_published_format(here):
    found = paper.triplets()
    assert len(found) == 100  # ten stand in both files
    assert found[:2] == [paper.Triplet("合同 50", "合同", "侵权", 0), paper.Triplet("借款 51", "海运", "借款", 1)]


def test_every_triplet_is_in_one_part_and_the_same_each_time(here):
    data = paper.triplets()
    parts = paper.split(data, (6, 2, 2))
    assert [*map(len, parts)] == [60, 20, 20]
    assert sorted(each for part in parts for each in part) == sorted(data)
    assert parts == paper.split(data, (6, 2, 2))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "line 2 of train.json is no JSON"),
        ("[]", "line 2 of train.json should be an object with the texts A, B and C"),
        ('{"A": "x", "B": "", "C": "z", "label": "B"}', "line 2 of train.json should be an object with the texts"),
        ('{"A": "x", "B": 3, "C": "z", "label": "B"}', "line 2 of train.json should be an object with the texts"),
        ('{"A": "x", "B": "y", "C": "z"}', 'line 2 of train.json should have the label "B" or "C", not None'),
        ('{"A": "x", "B": "y", "C": "z", "label": "A"}', 'should have the label "B" or "C", not \'A\''),
    ],
)
def test_another_layout_is_named(tmp_path, line, complaint):
    file = tmp_path / "train.json"
    file.write_text(json.dumps(row(0)) + "\n" + line + "\n", "utf-8")
    with pytest.raises(ValueError, match=re.escape(complaint)):
        paper.read_cail(file)


def test_an_empty_file_is_named(tmp_path):
    (tmp_path / "train.json").write_text("\n", "utf-8")
    with pytest.raises(ValueError, match="train.json has no triplets"):
        paper.read_cail(tmp_path / "train.json")


def test_what_is_missing_is_said(tmp_path, monkeypatch):
    monkeypatch.delenv("CAIL", raising=False)
    with pytest.raises(RuntimeError, match="set CAIL to the folder"):
        paper.triplets()
    monkeypatch.setenv("CAIL", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"has no \.json files"):
        paper.triplets()
    monkeypatch.setitem(sys.modules, "rjieba", None)
    with pytest.raises(RuntimeError, match="rjieba"):
        paper.published()


def test_our_rotary_is_the_library_s_in_the_library_s_model(monkeypatch):
    torch.manual_seed(0)
    model = tiny()[0].eval()
    for name, weight in model.named_parameters():
        if "query" in name or "key" in name:
            weight.data *= 50  # so that attention is far from even, and positions matter
    ids = torch.randint(3, 93, (2, 2, 300))
    with torch.no_grad():
        theirs = model(input_ids=ids).logits
        monkeypatch.setattr(
            modeling_roformer.RoFormerSelfAttention, "apply_rotary_position_embeddings", staticmethod(paper.rotary)
        )
        ours = model(input_ids=ids).logits
        monkeypatch.setattr(paper, "apply_rope", lambda x: x)
        without = model(input_ids=ids).logits
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert (without - theirs).abs().max() > 1e-4


def test_from_files_to_scores(here, monkeypatch):
    monkeypatch.setattr(paper, "RATE", 3e-3)
    monkeypatch.setattr(paper, "EPOCHS", 6)
    own = modeling_roformer.RoFormerSelfAttention.apply_rotary_position_embeddings
    found = paper.cail(run_of())
    assert set(found.value) == set(RECORD.claims["cail"].accept)
    assert found.details["triplets"] == [60, 20, 20]
    accuracy = found.details["accuracy"]
    assert found.value == {
        "gain": accuracy["1024"]["test"] - accuracy["512"]["test"],
        "at_512": accuracy["512"]["test"],
    }
    assert accuracy["512"] == accuracy["1024"]  # the same order, weights and, with texts so short, inputs
    assert modeling_roformer.RoFormerSelfAttention.apply_rotary_position_embeddings is own
    assert paper.cail(run_of(quick=True)).details["triplets"] == [32, 20, 20]


def test_accuracy_counts_the_likelier_case():
    class Fixed(torch.nn.Module):
        def forward(self, input_ids, **_):
            return SimpleNamespace(logits=torch.tensor([[1.0, 0.0]]).expand(len(input_ids), 2))

    data = [paper.Triplet("a", "b", "c", label) for label in (0, 0, 0, 1)]
    assert paper.accuracy(Fixed(), data, encode, 512, "cpu") == 75
