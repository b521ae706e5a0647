"""Section 3: BERT, a Transformer's encoder over the sum of three embeddings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bert.arguments import check_kind
from bert.config import BertConfig


class Embeddings(nn.Module):
    """Figure 2: token, segment and position embeddings summed; then, in the authors' code, LayerNorm and dropout."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.positions = nn.Embedding(config.max_positions, config.hidden_size)
        self.types = nn.Embedding(config.n_types, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        input_ids: Int[Tensor, "batch seq"],
        token_type_ids: Int[Tensor, "batch seq"] | None,
        real: Bool[Tensor, "batch seq"] | None = None,
        places: Int[Tensor, "batch seq"] | None = None,
    ) -> Float[Tensor, "batch seq hidden"]:
        """No types: sentence A everywhere. real: where tokens are, None for everywhere; what the tables hold of the
        rest has no influence, be it NaN. places: of each token in its sentence; None for 0, 1, 2, ... in every row."""
        types = self.types.weight[0] if token_type_ids is None else self.types(token_type_ids)
        positions = self.positions.weight[: input_ids.shape[1]] if places is None else self.positions(places)
        x = self.tokens(input_ids) + types + positions
        return self.dropout(self.norm(x if real is None else x.masked_fill(~real[..., None], 0)))


class SelfAttention(nn.Module):
    """A heads of softmax(QKᵀ/√d)V with d = H / A, as in Vaswani et al. 2017, but with biases.

    Dropout of the softmax is in the authors' code; the paper speaks of dropout "on all layers" (Appendix A.2).
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        H = config.hidden_size
        self.n_heads, self.fused = config.n_heads, config.fused
        self.W_Q, self.W_K, self.W_V, self.W_O = (nn.Linear(H, H) for _ in range(4))
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Float[Tensor, "batch seq hidden"] | Float[Tensor, "tokens hidden"],
        mask: Bool[Tensor, "#batch 1 #seq seq"] | None,
        packed: Packed | None = None,
    ) -> Float[Tensor, "batch seq hidden"] | Float[Tensor, "tokens hidden"]:
        """mask: True where a position may look; None for everywhere. packed: where x has the tokens alone."""
        q, k, v = (W(x) for W in (self.W_Q, self.W_K, self.W_V))
        if packed is not None:
            q, k, v = (packed.spread(y) for y in (q, k, v))
        q, k, v = (y.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for y in (q, k, v))
        if self.fused:
            heads = F.scaled_dot_product_attention(q, k, v, mask, self.dropout.p if self.training else 0.0)
        else:
            if q.dtype == torch.float16:  # whose largest number is 65504: scaled first
                scores = q / math.sqrt(q.shape[-1]) @ k.mT
            else:
                scores = q @ k.mT / math.sqrt(q.shape[-1])  # (batch, heads, seq, seq)
            if mask is not None:
                scores = scores.masked_fill(~mask, -math.inf)
            heads = self.dropout(scores.softmax(-1)) @ v
        heads = heads.transpose(1, 2).flatten(2)
        return self.W_O(heads if packed is None else packed.pack(heads))


class FeedForward(nn.Module):
    """FFN(x) = GELU(xW_1 + b_1)W_2 + b_2, at each position alone; GELU(x) = xΦ(x), not an approximation of it."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.W_1 = nn.Linear(config.hidden_size, config.ff_size)
        self.W_2 = nn.Linear(config.ff_size, config.hidden_size)

    def forward(self, x: Float[Tensor, "*at hidden"]) -> Float[Tensor, "*at hidden"]:
        return self.W_2(F.gelu(self.W_1(x)))


class Packed:
    """The tokens of a padded batch one after another, without the padding: what acts on each position alone, which is
    most of the arithmetic, need not compute it."""

    def __init__(self, real: Bool[Tensor, "batch seq"]) -> None:
        self.shape, self.places = real.shape, real.flatten().nonzero()[:, 0]

    def pack(self, x: Float[Tensor, "batch seq hidden"]) -> Float[Tensor, "tokens hidden"]:
        return x.flatten(0, 1).index_select(0, self.places)

    def spread(self, x: Float[Tensor, "tokens hidden"]) -> Float[Tensor, "batch seq hidden"]:
        """Zeros where the padding was."""
        padded = x.new_zeros(self.shape.numel(), x.shape[-1])
        return padded.index_copy(0, self.places, x).unflatten(0, self.shape)


class EncoderLayer(nn.Module):
    """Two sub-layers, each LayerNorm(x + Dropout(Sublayer(x))): self-attention and feed-forward."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Float[Tensor, "batch seq hidden"] | Float[Tensor, "tokens hidden"],
        mask: Bool[Tensor, "#batch 1 #seq seq"] | None,
        packed: Packed | None = None,
    ) -> Float[Tensor, "batch seq hidden"] | Float[Tensor, "tokens hidden"]:
        """Arguments as SelfAttention's."""
        x = self.attention_norm(x + self.dropout(self.attention(x, mask, packed)))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))


class Bert(nn.Module):
    """Section 3. `Bert(config)(input_ids)` is (hidden, pooled): T_i of each position, and C of the first made ready for
    a sentence's label."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        check_kind("config", config, BertConfig, "a BertConfig")
        self.config = config
        self.embeddings = Embeddings(config)
        layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.n_layers))
        self.encoder = cast("Sequence[EncoderLayer]", layers)
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size)
        initialise(self, config.init_std)

    def forward(
        self,
        input_ids: Int[Tensor, "batch seq"],
        token_type_ids: Int[Tensor, "batch seq"] | None = None,
        attention_mask: Bool[Tensor, "batch seq"] | Int[Tensor, "batch seq"] | None = None,
    ) -> tuple[Float[Tensor, "batch seq hidden"], Float[Tensor, "batch hidden"]]:
        """input_ids: [CLS] A [SEP] or [CLS] A [SEP] B [SEP], and padding. token_type_ids: 0 in A, 1 in B; None for 0
        everywhere. attention_mask: 1 or True for tokens, 0 or False for padding; None where there is none.

        Returns the last layer's hidden states, and tanh(Wh + b) of the first token's. Those of padding mean nothing
        (zeros where config.fused). Wherever it stands, padding has no influence: positions count the tokens of a row.

        Raises ValueError for ids or types out of range, shapes that differ, sequences over max_positions, a mask of
        other values than 0 and 1, or a row of it without a token, or in a causal model without one at its beginning.
        Under torch.compile, torch.export and torch.vmap, which hide values, such a row of a mask gives NaN; torch
        itself refuses ids that are out of range.
        """
        x, mask, packed, first = self._embedded(input_ids, token_type_ids, attention_mask)
        for layer in self.encoder:
            x = layer(x, mask, packed)
        if packed is not None:
            x = packed.spread(x)
        return x, self.pooler(x[:, 0] if first is None else x.take_along_dim(first[:, None, None], 1)[:, 0]).tanh()

    def states(
        self,
        input_ids: Int[Tensor, "batch seq"],
        token_type_ids: Int[Tensor, "batch seq"] | None = None,
        attention_mask: Bool[Tensor, "batch seq"] | Int[Tensor, "batch seq"] | None = None,
    ) -> Iterator[Float[Tensor, "batch seq hidden"]]:
        """What the embeddings and then each layer give. Arguments and errors as forward's."""
        x, mask, packed, _ = self._embedded(input_ids, token_type_ids, attention_mask)
        yield x if packed is None else packed.spread(x)
        for layer in self.encoder:
            x = layer(x, mask, packed)
            yield x if packed is None else packed.spread(x)

    def _embedded(
        self, ids: Tensor, types: Tensor | None, tokens: Tensor | None
    ) -> tuple[Tensor, Bool[Tensor, "#batch 1 #seq seq"] | None, Packed | None, Int[Tensor, " batch"] | None]:
        """What the layers take: the embeddings, without the padding of a fused model, and where to look, None for
        everywhere; and each row's first token, None for place 0. ValueError for what is no input."""
        self._check(ids, types, tokens)
        length, causal = ids.shape[1], None
        if self.config.causal:
            causal = torch.ones(length, length, dtype=torch.bool, device=ids.device).tril()[None, None]
        if tokens is None:
            return self.embeddings(ids, types), causal, None, None
        real = tokens == 1
        other = ((tokens != 0) & ~real).any(1)
        empty = ~(real[:, 0] if self.config.causal else real.any(1))
        before = real[:, 1:] & ~real[:, :-1]  # padding that stands before a token
        known = read([real.all(), other.any(), empty.any(), before.any()])
        if known is not None:
            if known[1]:
                raise ValueError("attention_mask must hold 1 for tokens and 0 for padding, and got other values")
            if known[2]:
                what = "have a token in each row"
                if self.config.causal:
                    what = "begin with a token in each row of a causal model"
                raise ValueError(f"attention_mask must {what}; row {int(empty.nonzero()[0])} does not")
            if known[0]:
                return self.embeddings(ids, types), causal, None, None
        mask = real[:, None, None] if causal is None else real[:, None, None] & causal
        places = first = None
        if known is None or known[3]:
            places, first = (real.cumsum(1) - 1).clamp(min=0), real.long().argmax(1)
        x = self.embeddings(ids, types, real, places)
        if known is None:
            return x.masked_fill((other | empty)[:, None, None], math.nan), mask, None, first
        if not self.config.fused:
            return x, mask, None, first
        packed = Packed(real)
        return packed.pack(x), mask, packed, first

    def _check(self, ids: Tensor, types: Tensor | None, tokens: Tensor | None) -> None:
        c = self.config
        whole = (torch.int64, torch.int32)
        for name, x in (("input_ids", ids), ("token_type_ids", types), ("attention_mask", tokens)):
            if x is not None or name == "input_ids":
                check_kind(name, x, Tensor, "a tensor")
        if ids.ndim != 2 or 0 in ids.shape or ids.dtype not in whole:
            raise ValueError(f"input_ids must hold token ids, int64 or int32, in the shape (batch, seq), neither of "
                             f"them 0, got {ids.dtype} of shape {tuple(ids.shape)}")  # fmt: skip
        check_range("input_ids", ids, c.vocab_size)
        if ids.shape[1] > c.max_positions:
            raise ValueError(f"input_ids must be no longer than max_positions {c.max_positions}, got {ids.shape[1]} "
                             "tokens")  # fmt: skip
        for name, other in (("token_type_ids", types), ("attention_mask", tokens)):
            if other is not None and other.shape != ids.shape:
                raise ValueError(f"{name} must have the shape of input_ids, {tuple(ids.shape)}, got "
                                 f"{tuple(other.shape)}")  # fmt: skip
        if types is not None:
            if types.dtype not in whole:
                raise ValueError(f"token_type_ids must be int64 or int32, got {types.dtype}")
            check_range("token_type_ids", types, c.n_types)


def read(scalars: Sequence[Tensor]) -> list[int] | None:
    """Their values, or None where there are none yet: under torch.compile, torch.export and torch.vmap, and on meta."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
        return None
    try:
        return torch.stack([x.long() for x in scalars]).tolist()
    except RuntimeError:  # by which vmap and meta say so; there is no public way to ask
        return None


def check_range(name: str, values: Int[Tensor, "*shape"], stop: int) -> None:
    """ValueError where one of the values is not from 0 to stop − 1."""
    known = read(values.aminmax())
    if known is not None and (known[0] < 0 or known[1] >= stop):
        raise ValueError(f"{name} must be from 0 to {stop - 1}, got {known[0]} to {known[1]}")


def initialise(module: nn.Module, std: float) -> None:
    """The authors' code: matrices normal, cut off at two deviations, which leaves 0.88 of `std`; biases 0; norms 1."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            init_matrix(part.weight, std)
        if isinstance(part, nn.Linear):
            nn.init.zeros_(part.bias)


def init_matrix(weight: Tensor, std: float) -> None:
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
