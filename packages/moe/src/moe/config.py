"""The models whose parameters and operations the papers print: what each is made of."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from moe.checks import whole


def _sizes(config: Any, may_be_zero: tuple[str, ...]) -> None:
    for field in fields(config):
        value = getattr(config, field.name)
        if field.type == "int":
            whole(field.name, value, least=0 if field.name in may_be_zero else 1)
        elif not isinstance(value, bool):
            raise ValueError(f"{field.name} must be True or False, got {value!r}")


@dataclass(frozen=True)
class LSTMConfig:
    """Shazeer et al., Appendix C: LSTM, mixture, LSTM, between an embedding and a softmax of the same width.

    d_model: width of the embedding, of the mixture and of what each LSTM gives
    lstm: cells of an LSTM; where they are more than d_model, its output is projected
    lstm_layers: how many
    n_experts, d_ff, k: experts of one ReLU layer; 0 experts for the dense baselines. k per level with a hierarchy
    branch: groups of the first level of a hierarchical mixture; 0 for a flat one
    vocab_size: 793,471, the words of the 1-Billion-Word corpus

    Raises ValueError for a size that is no whole number or too small, and a branch that does not divide the experts.
    """

    d_model: int = 512
    lstm: int = 512
    lstm_layers: int = 2
    n_experts: int = 0
    d_ff: int = 1024
    k: int = 4
    branch: int = 0
    vocab_size: int = 793_471

    def __post_init__(self) -> None:
        _sizes(self, ("n_experts", "branch"))
        if self.branch and self.n_experts % self.branch:
            raise ValueError(f"branch must divide n_experts, {self.n_experts}, got {self.branch}")
        if self.n_experts and self.k > (self.n_experts // self.branch if self.branch else self.n_experts):
            raise ValueError(f"k must be at most the experts it chooses among, got {self.k}")


@dataclass(frozen=True)
class T5Config:
    """Switch, Table 9: T5's encoder and decoder of n_layers each, with a tied embedding and no biases.

    heads, d_kv: of the attention; its inner width is their product
    geglu: feed-forward layers with a gate, of three matrices in place of two
    n_experts: of each sparse feed-forward layer, with k = 1; 0 for T5 itself
    moe_every: each so-manieth feed-forward layer is sparse
    buckets: of the relative position bias, one table for the encoder and one for the decoder

    Raises ValueError for a size that is no whole number or too small.
    """

    d_model: int = 768
    d_ff: int = 2048
    d_kv: int = 64
    heads: int = 12
    n_layers: int = 12
    n_experts: int = 0
    moe_every: int = 2
    geglu: bool = True
    vocab_size: int = 32_128
    buckets: int = 32

    def __post_init__(self) -> None:
        _sizes(self, ("n_experts",))


@dataclass(frozen=True)
class DecoderConfig:
    """A decoder as Mixtral's and DeepSeek's: RMSNorm, SwiGLU, an embedding and an output of their own, no biases.

    kv_heads, head_dim: of grouped-query attention; kv_lora = 0 says that this is what it has
    kv_lora, q_lora, nope, rope, v_dim: of DeepSeek-V2's latent attention; q_lora = 0 for queries without compression
    d_ff, n_experts, k, shared: one expert's width, the experts chosen among, how many are, and those for every token
    dense_layers, d_ff_dense: the first layers, which are dense
    routing_bias: DeepSeek-V3's number for each expert that balances without a loss

    Raises ValueError for a size that is no whole number or too small, and for k above n_experts.
    """

    vocab_size: int
    n_layers: int
    d_model: int
    heads: int
    d_ff: int
    n_experts: int
    k: int
    kv_heads: int = 0
    head_dim: int = 128
    kv_lora: int = 0
    q_lora: int = 0
    nope: int = 128
    rope: int = 64
    v_dim: int = 128
    shared: int = 0
    dense_layers: int = 0
    d_ff_dense: int = 0
    routing_bias: bool = False

    def __post_init__(self) -> None:
        _sizes(self, ("kv_heads", "kv_lora", "q_lora", "shared", "dense_layers", "d_ff_dense"))
        whole("k", self.k, most=self.n_experts, of="n_experts, ")
        if bool(self.kv_heads) == bool(self.kv_lora):
            raise ValueError(f"kv_heads or kv_lora must be given, and not both, got {self.kv_heads} and {self.kv_lora}")
        if self.dense_layers > self.n_layers or bool(self.dense_layers) != bool(self.d_ff_dense):
            raise ValueError(f"dense_layers must be at most n_layers, {self.n_layers}, and go with d_ff_dense, "
                             f"got {self.dense_layers} and {self.d_ff_dense}")  # fmt: skip


SHAZEER: dict[str, LSTMConfig] = {
    "LSTM-2048-512": LSTMConfig(lstm=2048, lstm_layers=1),
    "4xLSTM-512": LSTMConfig(lstm_layers=4),
    "2xLSTM-8192-1024": LSTMConfig(d_model=1024, lstm=8192),
    "MoE-1-Wide": LSTMConfig(n_experts=1, d_ff=4096, k=1),
    "MoE-4": LSTMConfig(n_experts=4),
    "MoE-32": LSTMConfig(n_experts=32),
    "MoE-256": LSTMConfig(n_experts=256),
    "MoE-256-h": LSTMConfig(n_experts=256, k=2, branch=16),
    "MoE-1024-h": LSTMConfig(n_experts=1024, k=2, branch=16),
    "MoE-4096-h": LSTMConfig(n_experts=4096, k=2, branch=16),
    "MoE-34M": LSTMConfig(d_model=1024, lstm=1024, n_experts=1024, d_ff=2048, k=2, branch=16),
    "MoE-143M": LSTMConfig(d_model=1024, lstm=4096, n_experts=256, d_ff=8192, k=2, branch=16),
}
"""Table 7, by the names of its rows."""

SHAZEER_NEWS: dict[str, LSTMConfig] = {
    f"MoE-{n}-h": LSTMConfig(n_experts=n, k=2, branch=branch)
    for n, branch in ((256, 32), (1024, 32), (4096, 64), (16384, 128), (65536, 256), (131072, 256))
} | {"4xLSTM-512": LSTMConfig(lstm_layers=4), "MoE-32": LSTMConfig(n_experts=32)}
"""Table 8, by the names of its rows."""

_LARGE: dict[str, Any] = {"d_model": 1024, "d_ff": 2816, "heads": 16, "n_layers": 24}
_XXL: dict[str, Any] = {"d_model": 4096, "d_ff": 10240, "heads": 64, "n_layers": 24}
SWITCH: dict[str, T5Config] = {
    "T5-Base": T5Config(),
    "T5-Large": T5Config(**_LARGE),
    "T5-XXL": T5Config(**_XXL),
    "Switch-Base": T5Config(n_experts=128),
    "Switch-Large": T5Config(**_LARGE, n_experts=128),
    "Switch-XXL": T5Config(**_XXL, n_experts=64),
    "Switch-C": T5Config(d_model=2080, d_ff=6144, heads=32, n_layers=15, n_experts=2048, moe_every=1, geglu=False),
}
"""Table 9 as it is printed. Its 64 experts give Switch-XXL about half of the 395B beside them, and its d_ff of 2816
gives Switch-Large more than 26B; README.md's errata have both sums."""

MIXTRAL: dict[str, DecoderConfig] = {
    "Mixtral-8x7B": DecoderConfig(32_000, 32, 4096, 32, 14_336, 8, 2, kv_heads=8),
    "Mixtral-8x22B": DecoderConfig(32_768, 56, 6144, 48, 16_384, 8, 2, kv_heads=8),
}
"""Jiang et al. (2024), Table 1, and the checkpoint of the larger one."""

DEEPSEEK: dict[str, DecoderConfig] = {
    "DeepSeekMoE-16B": DecoderConfig(
        102_400, 28, 2048, 16, 1408, 64, 6, kv_heads=16, shared=2, dense_layers=1, d_ff_dense=10_944
    ),
    "DeepSeek-V2-Lite": DecoderConfig(
        102_400, 27, 2048, 16, 1408, 64, 6, kv_lora=512, shared=2, dense_layers=1, d_ff_dense=10_944
    ),
    "DeepSeek-V2": DecoderConfig(
        102_400, 60, 5120, 128, 1536, 160, 6, kv_lora=512, q_lora=1536, shared=2, dense_layers=1, d_ff_dense=12_288
    ),
    "DeepSeek-V3": DecoderConfig(
        129_280, 61, 7168, 128, 2048, 256, 8, kv_lora=512, q_lora=1536, shared=1, dense_layers=3, d_ff_dense=18_432,
        routing_bias=True,
    ),
}  # fmt: skip
"""The papers' sections on hyperparameters; what V2's and the small ones leave out is their checkpoints'."""
