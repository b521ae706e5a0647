"""Parameters, those that a token uses, and its multiplications: by formula, nothing of these models is built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moe.config import DecoderConfig, LSTMConfig, T5Config

if TYPE_CHECKING:
    from moe.layer import MoE


@dataclass(frozen=True)
class MoECount:
    """total: all parameters
    active: those that take part in one token's output, tables for input and output in whole
    multiply_adds: multiplications with weights, and their additions, for one token; without attention's scores, tables
        and norms. Of an encoder and decoder: for one token that passes through both
    experts: parameters of the experts that are chosen among
    tables: parameters of the input's embedding and the output's, one if they are tied
    """

    total: int
    active: int
    multiply_adds: int
    experts: int
    tables: int


def count_moe(model: LSTMConfig | T5Config | DecoderConfig | MoE) -> MoECount:
    """Of a model in `moe.config`, or of a layer.

    Raises ValueError for anything else.
    """
    if isinstance(model, LSTMConfig):
        return _lstm(model)
    if isinstance(model, T5Config):
        return _t5(model)
    if isinstance(model, DecoderConfig):
        return _decoder(model)
    return _layer(model)


def _lstm(c: LSTMConfig) -> MoECount:
    d, n = c.d_model, c.n_experts
    lstm = 4 * 2 * d * c.lstm + (c.lstm * d if c.lstm != d else 0)  # four gates that see input and last output
    expert = 2 * d * c.d_ff
    if not n:
        gate = looked_at = used = 0
    elif c.branch:
        gate = 2 * d * n + 2 * d * c.branch  # W_g and W_noise
        looked_at = 2 * d * (c.branch + c.k * n // c.branch)  # the first level, and k gates of the second
        used = c.k**2 * expert
    else:
        gate = looked_at = 2 * d * n if n > 1 else 0
        used = c.k * expert
    tables, layers = 2 * c.vocab_size * d, c.lstm_layers * lstm
    work = layers + looked_at + used
    return MoECount(layers + gate + n * expert + tables, work + tables, work, n * expert, tables)


def _t5(c: T5Config) -> MoECount:
    d = c.d_model
    attention = 4 * d * c.heads * c.d_kv
    ffn = (3 if c.geglu else 2) * d * c.d_ff
    sparse = 2 * (c.n_layers // c.moe_every) if c.n_experts else 0  # in the encoder and the decoder
    dense = 2 * c.n_layers - sparse
    small = 5 * c.n_layers * d + 2 * d + 2 * c.buckets * c.heads  # norms and position biases
    router, tables = sparse * d * c.n_experts, c.vocab_size * d
    rest = 3 * c.n_layers * attention + dense * ffn + router
    experts = sparse * c.n_experts * ffn
    work = rest + sparse * ffn
    return MoECount(rest + experts + small + tables, work + small + tables, work, experts, tables)


def t5_flops(c: T5Config, inputs: int = 512, outputs: int = 114) -> int:
    """Switch, Table 9's FLOPs/seq, in the accounting that comes nearest: two for each multiplication of a forward pass.

    The paper names neither lengths nor what is counted; these were inferred from its numbers, which they meet within
    4 %. The lengths are those of T5's pre-training. Attention's scores and sums are counted, the softmax over the
    vocabulary and the routers not, and each weight of the decoder once for each output: the keys and values of the
    cross-attention too, although they are computed from the inputs.
    """
    d, inner = c.d_model, c.heads * c.d_kv
    attention, ffn = 4 * d * inner, (3 if c.geglu else 2) * d * c.d_ff
    scores = 2 * inner * (inputs**2 + outputs**2 + inputs * outputs)
    return 2 * c.n_layers * (inputs * (attention + ffn) + outputs * (2 * attention + ffn) + scores)


def _decoder(c: DecoderConfig) -> MoECount:
    d = c.d_model
    if c.kv_heads:
        attention, norms = 2 * d * (c.heads + c.kv_heads) * c.head_dim, 2 * d
    else:
        query = c.heads * (c.nope + c.rope)
        q = d * c.q_lora + c.q_lora * query if c.q_lora else d * query
        kv = d * (c.kv_lora + c.rope) + c.kv_lora * c.heads * (c.nope + c.v_dim)
        attention, norms = q + kv + c.heads * c.v_dim * d, 2 * d + c.q_lora + c.kv_lora
    sparse, expert = c.n_layers - c.dense_layers, 3 * d * c.d_ff
    every_token = (
        c.n_layers * attention + c.dense_layers * 3 * d * c.d_ff_dense + sparse * (d * c.n_experts + c.shared * expert)
    )
    small = c.n_layers * norms + d + (sparse * c.n_experts if c.routing_bias else 0)
    tables, experts = 2 * c.vocab_size * d, sparse * c.n_experts * expert
    work = every_token + sparse * c.k * expert
    return MoECount(every_token + experts + small + tables, work + small + tables, work, experts, tables)


def _layer(layer: Any) -> MoECount:
    from moe.layer import MoE  # torch is not needed for the tables

    if not isinstance(layer, MoE):
        raise ValueError(f"model must be an LSTMConfig, a T5Config, a DecoderConfig or a MoE, got {layer!r}")
    total = sum(p.numel() for p in layer.parameters())
    experts = sum(p.numel() for p in layer.experts.parameters())
    active = total - experts + layer.k * experts // layer.n_experts
    return MoECount(total, active, active, experts, 0)
