"""The real weights: that they are read right, and that reading them once leaves no half of a folder."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from papertest import models
from papertest.data import DataError


@pytest.mark.parametrize("carrier", [models.MINILM, models.SMOLLM2], ids=lambda carrier: carrier.name)
def test_carriers_are_pinned(carrier: models.Carrier) -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", carrier.sha256) and re.fullmatch(r"[0-9]+(\.[0-9]+)+", carrier.version)
    assert carrier.licence == "Apache-2.0"


def test_rotary_pairs_that_are_neighbours_become_halves() -> None:
    weight = torch.arange(12.0)[:, None]  # two heads of size 6, rows (0, 1), (2, 3), (4, 5) are the pairs
    assert models._halves(weight, 2)[:, 0].tolist() == [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]


def test_names() -> None:
    assert models._transformers_name("blk.3.attn_q.weight") == "model.layers.3.self_attn.q_proj.weight"
    assert models._transformers_name("token_embd.weight") == "model.embed_tokens.weight"
    assert models._transformers_name("blk.0.ffn_norm.weight") == "model.layers.0.post_attention_layernorm.weight"


def test_smollm2_knows_the_capital_of_france() -> None:
    model, tokenizer = models.smollm2()
    assert not model.training and model.dtype == torch.float32
    prompt = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    ids = torch.tensor([tokenizer.encode(prompt).ids])
    found = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=7, do_sample=False, pad_token_id=2)
    assert tokenizer.decode(found[0, ids.shape[1] :].tolist()) == "The capital of France is Paris."


def test_minilm_finds_like_sentences_alike() -> None:
    model, tokenizer = models.minilm()
    assert not model.training
    texts = ("A dull, endless film.", "The movie is boring and far too long.", "Mix the flour with two eggs.")
    with torch.no_grad():
        a, b, c = (model(torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0].mean(0) for text in texts)
    assert torch.cosine_similarity(a, b, 0) > torch.cosine_similarity(a, c, 0) + 0.3
    assert len(tokenizer.encode("word " * 600).ids) == 602  # neither cut nor filled up


def test_the_folder_of_minilm_has_what_loaders_read() -> None:
    names = {path.name for path in models.minilm_folder().iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "vocab.txt"} <= names


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """SmolLM2's carrier, and `_dequantise`, stood in for: it leaves a folder, and is noted."""
    found: list[Path] = []

    def whole(gguf: Path, into: Path) -> None:
        assert gguf == tmp_path / "gguf"
        into.mkdir()
        found.append(into)

    monkeypatch.setattr(models, "SMOLLM2", SimpleNamespace(folder=tmp_path, path=lambda inside: tmp_path / "gguf"))
    monkeypatch.setattr(models, "_dequantise", whole)
    return found


def test_dequantising_that_is_interrupted_leaves_nothing_and_is_done_again(
    made: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def half(gguf: Path, into: Path) -> None:
        into.mkdir()
        (into / "model.safetensors").write_text("half")
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        interrupted.setattr(models, "_dequantise", half)
        with pytest.raises(KeyboardInterrupt):
            models._dequantised()
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == []
    assert models._dequantised() == models._dequantised() == tmp_path / "dequantised"
    assert len(made) == 1


def refuse(*_: object, **__: object) -> None:
    raise OSError(30, "Read-only file system")


def test_dequantised_weights_are_only_read(made: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = models._dequantised()
    monkeypatch.setattr(models, "FileLock", refuse)
    monkeypatch.setattr(models.tempfile, "TemporaryDirectory", refuse)
    assert models._dequantised() == folder


@pytest.mark.parametrize("place", [lambda: (models, "FileLock"), lambda: (models.tempfile, "TemporaryDirectory")])
def test_weights_that_cannot_be_kept_say_so(
    place: Callable[[], tuple[object, str]], made: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(*place(), refuse)
    with pytest.raises(DataError) as caught:
        models._dequantised()
    assert str(caught.value) == f"cannot keep SmolLM2's weights in {tmp_path}: Read-only file system"
