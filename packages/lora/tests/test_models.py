"""The real weights: that they are read right, and that reading them once leaves no half of a folder."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from lora.reproduce import models


def test_rotary_pairs_that_are_neighbours_become_halves():
    weight = torch.arange(12.0)[:, None]  # two heads of size 6, rows (0, 1), (2, 3), (4, 5) are the pairs
    assert models._halves(weight, 2)[:, 0].tolist() == [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]


def test_names():
    assert models._transformers_name("blk.3.attn_q.weight") == "model.layers.3.self_attn.q_proj.weight"
    assert models._transformers_name("token_embd.weight") == "model.embed_tokens.weight"


def test_smollm2_knows_the_capital_of_france():
    model, tokenizer = models.smollm2()
    prompt = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    ids = torch.tensor([tokenizer.encode(prompt).ids])
    found = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=7, do_sample=False, pad_token_id=2)
    assert tokenizer.decode(found[0, ids.shape[1] :].tolist()) == "The capital of France is Paris."


def test_minilm_finds_like_sentences_alike():
    model, tokenizer = models.minilm()
    texts = ("A dull, endless film.", "The movie is boring and far too long.", "Mix the flour with two eggs.")
    with torch.no_grad():
        a, b, c = (model(torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0].mean(0) for text in texts)
    assert torch.cosine_similarity(a, b, 0) > torch.cosine_similarity(a, c, 0) + 0.3


def test_dequantising_that_is_interrupted_leaves_nothing_and_is_done_again(monkeypatch, tmp_path):
    monkeypatch.setattr(models, "SMOLLM2", SimpleNamespace(folder=tmp_path, path=lambda inside: tmp_path / "gguf"))

    def half(gguf, into):
        into.mkdir()
        (into / "model.safetensors").write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(models, "_dequantise", half)
    with pytest.raises(KeyboardInterrupt):
        models._dequantised()
    assert [path.name for path in tmp_path.iterdir()] == ["dequantised.lock"]
    made = []
    monkeypatch.setattr(models, "_dequantise", lambda gguf, into: made.append(into.mkdir()))
    assert models._dequantised() == models._dequantised() == tmp_path / "dequantised"
    assert len(made) == 1
