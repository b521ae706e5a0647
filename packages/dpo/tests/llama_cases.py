"""A tiny model of SmolLM2's kind with random weights, and pairs for it."""

from __future__ import annotations

import random
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from dpo import Encoded

VOCAB = 50


def llama(seed: int = 0, layers: int = 2, width: int = 16, vocab: int = VOCAB) -> Any:
    torch.manual_seed(seed)
    sizes: Any = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(
        **sizes, intermediate_size=2 * width, vocab_size=vocab, bos_token_id=1, eos_token_id=1, tie_word_embeddings=True
    )
    model: Any = LlamaForCausalLM(config)
    for p in model.parameters():
        p.data.normal_(std=0.3)
    return model


def some_pairs(count: int, seed: int = 0, longest: int = 9, vocab: int = VOCAB) -> list[Encoded]:
    draw = random.Random(seed)

    def part() -> tuple[int, ...]:
        return tuple(draw.randrange(vocab) for _ in range(draw.randint(1, longest)))

    return [Encoded(part(), part(), part()) for _ in range(count)]
