"""The paper's own data, read from tiny files of the published forms, and the claims on them from end to end."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from llama_cases import llama

pytest.importorskip("papertest", reason="the extra reproduce is not installed")
from papertest.mutation import Mutations

from dpo import Preference
from dpo.reproduce import paper, published

bench = Mutations(__file__)
INFO = {"id": "t3_1", "subreddit": "tifu", "title": "A title", "post": "I did it."}
PROMPT = "SUBREDDIT: r/tifu\n\nTITLE: A title\n\nPOST: I did it.\n\nTL;DR:"
COMPARISON: dict[str, Any] = {
    "info": INFO, "split": "train", "summaries": [{"text": " Did it.", "policy": "sup1"}, {"text": " No."}],
    "choice": 1, "worker": "w", "batch": "batch3", "extra": {"confidence": 7},
}  # fmt: skip
ARTICLE = COMPARISON | {"info": {"id": "1", "site": "cnn", "title": "T", "article": "A"}}
DIALOGUE = {
    "chosen": "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Why?\n\nAssistant: Because.",
    "rejected": "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Why?\n\nAssistant: No.",
}
ONE_TURN = {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello.", "rejected": "\n\nHuman: Hi\n\nAssistant: What?"}


def written(file: Any, *items: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    text = "".join((item if isinstance(item, str) else json.dumps(item)) + "\n" for item in items).encode()
    file.write_bytes(gzip.compress(text) if file.suffix == ".gz" else text)


def test_comparisons_of_tldr(tmp_path):
    equal = COMPARISON | {"summaries": [{"text": " A."}, {"text": " A."}]}
    bad = [COMPARISON | {"choice": 2}, {"split": "train"}, "{", COMPARISON | {"choice": True}]
    written(tmp_path / "comparisons/batch3.json", COMPARISON, ARTICLE, COMPARISON | {"choice": 0}, equal, *bad)
    written(tmp_path / "comparisons/batch4.json", COMPARISON | {"split": "valid1"})
    read = published.tldr_comparisons(tmp_path)
    assert read.pairs == [Preference(PROMPT, " No.", " Did it."), Preference(PROMPT, " Did it.", " No.")]
    assert read.equal == 1
    assert list(read.bad) == [f"batch3.json:{n}" for n in (5, 6, 7, 8)]
    assert "choice must be 0 or 1, of two summaries, not 2" in read.bad["batch3.json:5"]
    assert "info" in read.bad["batch3.json:6"]
    assert published.tldr_comparisons(tmp_path, "valid1").pairs == [Preference(PROMPT, " No.", " Did it.")]


def test_posts_and_articles(tmp_path):
    written(tmp_path / "test.jsonl", INFO | {"summary": " I did. "})
    assert published.tldr_posts(tmp_path) == [published.Post(PROMPT, "I did.")]
    written(tmp_path / "test.jsonl", {"article": "Long.", "highlights": "Short.", "id": "1"})
    assert published.cnn_dm_articles(tmp_path) == [published.Post("Long.\n\nTL;DR:", "Short.")]
    with pytest.raises(ValueError, match=r"test\.jsonl:1 must be an object with the fields of a post"):
        published.tldr_posts(tmp_path)


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz"])
def test_dialogues_of_hh(tmp_path, ending):
    other = DIALOGUE | {"rejected": "\n\nHuman: Ho\n\nAssistant: No."}
    unasked = {"chosen": "Hello.", "rejected": "No."}
    written(
        tmp_path / f"helpful-base/train.{ending}", DIALOGUE, other, unasked, ONE_TURN | {"rejected": ONE_TURN["chosen"]}
    )
    written(tmp_path / f"harmless-base/train.{ending}", ONE_TURN)
    read = published.hh_pairs(tmp_path)
    prompt = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Why?\n\nAssistant:"
    short = Preference("\n\nHuman: Hi\n\nAssistant:", " Hello.", " What?")
    assert read.pairs == [short, Preference(prompt, " Because.", " No.")]
    assert (read.equal, list(read.bad)) == (1, [f"train.{ending}:2", f"train.{ending}:3"])
    assert "the same turns" in read.bad[f"train.{ending}:2"]
    assert published.one_turn(read.pairs) == [short]


def test_nothing_to_read_is_said(tmp_path):
    with pytest.raises(ValueError, match="at least one file, not none"):
        published.hh_pairs(tmp_path)
    written(tmp_path / "comparisons/a.json", "no JSON")
    with pytest.raises(ValueError, match=r"at least one pair, not none; a\.json:1"):
        published.tldr_comparisons(tmp_path)


# ------------------------------------------------------------------------------------- the claims


@pytest.fixture
def at_hand(tmp_path, monkeypatch):
    """All that $DPO_PAPER should hold, tiny: a model of characters, two lines of each set."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytes_alone: Any = Tokenizer(BPE({"<end>": 0} | {c: i for i, c in enumerate(letters, 1)}, []))
    bytes_alone.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_alone.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytes_alone, eos_token="<end>")
    for name in ("tldr/sft", "hh/model", "judge"):
        llama(vocab=257).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    written(tmp_path / "tldr/comparisons/a.json", COMPARISON, COMPARISON | {"choice": 0})
    written(tmp_path / "tldr/test.jsonl", INFO | {"summary": "I did."}, INFO | {"summary": "It."})
    written(tmp_path / "cnn-dm/test.jsonl", {"article": "Long.", "highlights": "Short."})
    for part in ("train", "test"):
        written(tmp_path / f"hh/helpful-base/{part}.jsonl.gz", ONE_TURN, DIALOGUE)
    monkeypatch.setenv("DPO_PAPER", str(tmp_path))
    monkeypatch.setattr(paper, "RATE", 1e-3)
    monkeypatch.setattr(paper, "WARMUP", 1)


@pytest.mark.parametrize("claim", bench.tier("paper"))
def test_a_claim_runs_from_files_to_win_rates(claim, at_hand):
    measured: Any = bench.measure(claim, quick=True)
    value = measured.value
    shares = [100 * x for x in value.values()] if isinstance(value, dict) else [value]
    assert all(0 <= share <= 100 for share in shares)


def test_the_policy_is_trained(at_hand, monkeypatch):
    """The margin of the pairs grows, and with Preferred-FT log π of the chosen answers."""
    from papertest.claims import Run
    from papertest.measure import Silent

    run = Run(0, "cpu", False, {}, Silent().track, lambda *_: None)
    pairs = published.hh_pairs(paper.folder("hh")).pairs
    for beta in (None, 0.5):
        model, tokenizer = paper.loaded(paper.folder("hh", "model"), "cpu")
        encoded = paper.tokenised(tokenizer, pairs, 1024)
        before = paper.logps(model, encoded, "cpu").detach()
        paper.trained(run, model, encoded, beta)
        moved = paper.logps(model, encoded, "cpu").detach() - before
        chosen, rejected = moved.chunk(2)
        assert (chosen - rejected).sum() > 0.01 if beta else chosen.sum() > 0.01


def test_a_judge_that_always_says_a_gives_half(at_hand, monkeypatch):
    """Both orders are asked, so that a place that is favoured gains nothing."""
    run: Any = type("Run", (), {"device": "cpu"})
    judge = paper.loaded(paper.folder("judge"), "cpu")
    letters = [judge[1].encode(letter, add_special_tokens=False)[-1] for letter in "AB"]

    class Says:
        def __call__(self, ids):
            import torch

            logits = torch.zeros(1, ids.shape[1], 257)
            logits[..., letters[0]] = 1
            return type("Output", (), {"logits": logits})

    posts = [published.Post("P", "reference")]
    assert paper.win_rate(run, (Says(), judge[1]), posts, ["answer"], paper.SUMMARY) == 50


def test_without_the_data_it_is_said(monkeypatch):
    monkeypatch.delenv("DPO_PAPER", raising=False)
    with pytest.raises(RuntimeError, match="tldr.sft is not here: set DPO_PAPER"):
        bench.measure("tldr-win-rate")
