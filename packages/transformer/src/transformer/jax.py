"""The Transformer in Flax (nnx): the twin of `transformer.model`, module by module and weight by weight.

`from_torch` and `to_torch` carry the weights across; then logits and gradients agree. Names are the torch model's, but
for those that Flax gives its own layers: `kernel` is `weight` transposed, `embedding` and `scale` are `weight`.
There is no cached decoding here, and `config.fused` means nothing: XLA fuses what it likes.

On GPUs and TPUs JAX multiplies float32 in less unless told `jax.default_matmul_precision("highest")`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from transformer.arguments import check_shares, has_dtype, is_integer, kind
from transformer.config import TransformerConfig

if TYPE_CHECKING:
    from transformer import model as torch_model

_XAVIER = nnx.initializers.xavier_uniform()
_IDS = np.dtype("int64"), np.dtype("int32")
_FLOATS = tuple(map(np.dtype, (np.float32, np.float64, np.float16, jnp.bfloat16)))


def sinusoidal_encoding(length: int, d_model: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Section 3.5: PE(pos, 2i) = sin(pos / 10000^(2i/d_model)), PE(pos, 2i + 1) = cos(the same), (length, d_model).

    Raises ValueError for an odd d_model and for a length that is no integer of at least 0.
    """
    if not is_integer(d_model) or d_model < 2 or d_model % 2:
        raise ValueError(f"d_model must be even and at least 2, got {d_model!r}")
    if not is_integer(length) or length < 0:
        raise ValueError(f"length must be at least 0, got {length!r}")
    angles = np.arange(length)[:, None] * 10000.0 ** (-np.arange(0, d_model, 2) / d_model)
    return np.stack([np.sin(angles), np.cos(angles)], -1).reshape(length, d_model)


def attention(
    q: Float[Array, "batch heads seq_q d_k"], k: Float[Array, "batch heads seq_k d_k"],
    v: Float[Array, "batch heads seq_k d_v"], mask: Bool[Array, "#batch #heads #seq_q seq_k"],
) -> tuple[Float[Array, "batch heads seq_q d_v"], Float[Array, "batch heads seq_q seq_k"]]:  # fmt: skip
    """Eq. 1, softmax(QKᵀ/√d_k)V, and the softmax beside it, which is in float32 where q has half precision.

    mask: True where a query may look. One that may look nowhere has zeros for its softmax and output. What a query may
    not look at has no influence on it, NaN and infinity included. Raises ValueError for a mask that is not of bools.
    """
    if not has_dtype(mask, np.dtype(bool)):
        raise ValueError(f"mask must be an array of bools, True where a query may look, got {kind(mask)}")
    poison = ~(jnp.isfinite(k).all(-1) & jnp.isfinite(v).all(-1))  # zero times NaN must not reach who does not see it
    k, v = (jnp.where(poison[..., None], 0, x) for x in (k, v))
    wide = jnp.promote_types(q.dtype, jnp.float32)
    scores = q.astype(wide) @ k.astype(wide).swapaxes(-2, -1) / math.sqrt(q.shape[-1])
    seeing = mask.any(-1, keepdims=True)
    scores = jnp.where(mask, scores, jnp.where(seeing, -jnp.inf, 0))  # a softmax of −∞ alone would be NaN
    weights = jnp.where(seeing, jax.nn.softmax(scores, -1), 0)
    poisoned = (poison[..., None, :] & mask).any(-1, keepdims=True)
    return jnp.where(poisoned, jnp.nan, weights.astype(v.dtype) @ v), weights


class MultiHeadAttention(nnx.Module):
    """Section 3.2.2: Concat(head_1, …, head_h)W^O with head_i = Attention(QW_i^Q, KW_i^K, VW_i^V); no biases."""

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs) -> None:
        def matrix(n_in: int, n_out: int) -> nnx.Linear:
            return nnx.Linear(n_in, n_out, use_bias=False, kernel_init=_XAVIER, rngs=rngs)

        (d_k, d_v), h, d_model = config.head_sizes, config.n_heads, config.d_model
        self.n_heads = h
        self.W_Q, self.W_K, self.W_V = matrix(d_model, h * d_k), matrix(d_model, h * d_k), matrix(d_model, h * d_v)
        self.W_O = matrix(h * d_v, d_model)

    def __call__(
        self, x: Float[Array, "batch seq_q d_model"], memory: Float[Array, "batch seq_k d_model"],
        mask: Bool[Array, "#batch #heads #seq_q seq_k"],
    ) -> Float[Array, "batch seq_q d_model"]:  # fmt: skip
        """Each position of x looks at those of `memory` where the mask is True; see `attention`.

        Raises ValueError for inputs whose shapes do not go together.
        """
        d_model = self.W_Q.in_features
        for name, y in (("x", x), ("memory", memory)):
            if not has_dtype(y, *_FLOATS) or y.ndim != 3 or y.shape[2] != d_model or 0 in y.shape:
                raise ValueError(f"{name} must have the shape (batch, seq, {d_model}), got {kind(y)}")
        if len(x) != len(memory):
            raise ValueError(f"x and memory must have the same batch size, got {len(x)} and {len(memory)}")
        wanted = len(x), self.n_heads, x.shape[1], memory.shape[1]
        if not has_dtype(mask, np.dtype(bool)) or mask.ndim != 4 or mask.shape[3] != wanted[3] \
                or any(n not in (1, m) for n, m in zip(mask.shape, wanted, strict=True)):  # fmt: skip
            raise ValueError(f"mask must hold bools in the shape {wanted}, any but the last of which may be 1, got "
                             f"{kind(mask)}")  # fmt: skip
        hidden = ~mask.any((1, 2))[..., None]
        memory = jnp.where(hidden, 0, memory)  # zero times NaN would be NaN in the gradients of W_K and W_V
        q, k, v = (
            y.reshape(*y.shape[:2], self.n_heads, -1).swapaxes(1, 2)  # (batch, seq, h d) to (batch, h, seq, d)
            for y in (self.W_Q(x), self.W_K(memory), self.W_V(memory))
        )
        heads, _ = attention(q, k, v, mask)
        return self.W_O(heads.swapaxes(1, 2).reshape(*x.shape[:2], -1))


class FeedForward(nnx.Module):
    """Eq. 2: FFN(x) = max(0, xW_1 + b_1)W_2 + b_2, at each position alone."""

    def __init__(self, d_model: int, d_ff: int, *, rngs: nnx.Rngs) -> None:
        self.W_1 = nnx.Linear(d_model, d_ff, kernel_init=_XAVIER, rngs=rngs)
        self.W_2 = nnx.Linear(d_ff, d_model, kernel_init=_XAVIER, rngs=rngs)

    def __call__(self, x: Float[Array, "*batch d_model"]) -> Float[Array, "*batch d_model"]:
        return self.W_2(jax.nn.relu(self.W_1(x)))


def _norm(config: TransformerConfig, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """With torch's epsilon, and the variance as the mean square of x − mean(x)."""
    return nnx.LayerNorm(config.d_model, epsilon=1e-5, use_fast_variance=False, rngs=rngs)


class Residual(nnx.Module):
    """Around every sub-layer: LayerNorm(x + Dropout(Sublayer(x))), Sections 3.1 and 5.4; pre-norm moves the norm in."""

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs) -> None:
        self.norm = _norm(config, rngs)
        self.dropout = nnx.Dropout(config.dropout, rngs=rngs)
        self.pre = config.norm == "pre"

    def __call__(
        self, x: Float[Array, "batch seq d_model"], sublayer: Callable[[Array], Array]
    ) -> Float[Array, "batch seq d_model"]:
        if self.pre:
            return x + self.dropout(sublayer(self.norm(x)))
        return self.norm(x + self.dropout(sublayer(x)))


class EncoderLayer(nnx.Module):
    """Two sub-layers: self-attention and feed-forward."""

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs) -> None:
        self.self_attention = MultiHeadAttention(config, rngs=rngs)
        self.feed_forward = FeedForward(config.d_model, config.d_ff, rngs=rngs)
        self.residuals = nnx.List([Residual(config, rngs=rngs) for _ in range(2)])

    def __call__(self, x: Float[Array, "batch seq d_model"], mask: Bool[Array, "batch 1 1 seq"]
                 ) -> Float[Array, "batch seq d_model"]:  # fmt: skip
        attention, feed_forward = self.residuals
        x = attention(x, lambda x: self.self_attention(x, x, mask))
        return feed_forward(x, self.feed_forward)


class DecoderLayer(nnx.Module):
    """Three sub-layers: causal self-attention, attention to the encoder's output, feed-forward."""

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs) -> None:
        self.self_attention = MultiHeadAttention(config, rngs=rngs)
        self.encoder_attention = MultiHeadAttention(config, rngs=rngs)
        self.feed_forward = FeedForward(config.d_model, config.d_ff, rngs=rngs)
        self.residuals = nnx.List([Residual(config, rngs=rngs) for _ in range(3)])

    def __call__(
        self, y: Float[Array, "batch seq_tgt d_model"], memory: Float[Array, "batch seq_src d_model"],
        mask: Bool[Array, "batch 1 1 seq_src"],
    ) -> Float[Array, "batch seq_tgt d_model"]:  # fmt: skip
        own, encoder, feed_forward = self.residuals
        causal = jnp.tri(y.shape[1], dtype=bool)[None, None]
        y = own(y, lambda y: self.self_attention(y, y, causal))
        y = encoder(y, lambda y: self.encoder_attention(y, memory, mask))
        return feed_forward(y, self.feed_forward)


class Positions(nnx.Module):
    """Section 3.5: the encoding that is added to the embeddings, sinusoids or a learned table."""

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs) -> None:
        self.d_model = config.d_model
        self.learned = _embedding(config.max_len, config, rngs) if config.positions == "learned" else None

    def __call__(self, length: int) -> Float[Any, "length d_model"]:
        if self.learned is None:
            return sinusoidal_encoding(length, self.d_model)
        if length > self.learned.num_embeddings:
            raise ValueError(f"a sequence of {length} tokens is longer than max_len {self.learned.num_embeddings}, "
                             "the rows of the learned positions")  # fmt: skip
        return self.learned.embedding[:length]


def _embedding(rows: int, config: TransformerConfig, rngs: nnx.Rngs) -> nnx.Embed:
    return nnx.Embed(rows, config.d_model, embedding_init=nnx.initializers.normal(config.d_model**-0.5), rngs=rngs)


class Transformer(nnx.Module):
    """Figure 1. `Transformer(config, rngs=nnx.Rngs(0))(src, tgt)` is the logits of the token after each one of tgt.

    Weights start as the torch model's do. Dropout is on until `eval()`, and again after `train()`.
    """

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        self.tokens = _embedding(config.vocab_size, config, rngs)
        self.source, self.target = Positions(config, rngs=rngs), Positions(config, rngs=rngs)
        self.dropout = nnx.Dropout(config.dropout, rngs=rngs)
        self.encoder = nnx.List([EncoderLayer(config, rngs=rngs) for _ in range(config.n_layers)])
        self.decoder = nnx.List([DecoderLayer(config, rngs=rngs) for _ in range(config.n_layers)])
        self.encoder_norm = _norm(config, rngs) if config.norm == "pre" else nnx.identity
        self.decoder_norm = _norm(config, rngs) if config.norm == "pre" else nnx.identity

    def __call__(
        self, src: Int[Array, "batch seq_src"], tgt: Int[Array, "batch seq_tgt"]
    ) -> Float[Array, "batch seq_tgt vocab"]:
        """src: the source's tokens, padded with config.pad anywhere: positions count what is not padding. tgt: the
        target's, from the token that begins a sentence on, padded at the end. Returns logits: [:, i] is of the token
        after tgt[:, i], and sees tgt[:, :i + 1].

        Raises the torch model's ValueErrors; under `jit`, which hides the tokens, only those of shape and dtype: a
        token outside the vocabulary, a row of padding alone and a target with padding before a token give NaN there.
        """
        return self.project(self.decode(tgt, *self.encode(src)))

    def encode(
        self, src: Int[Array, "batch seq_src"]
    ) -> tuple[Float[Array, "batch seq_src d_model"], Bool[Array, "batch 1 1 seq_src"]]:
        """The encoder's output, and the mask of the tokens that are not padding."""
        self._check("src", src)
        real = src != self.config.pad
        at = jnp.maximum(real.cumsum(1) - 1, 0)
        x = jnp.where(real.any(1)[:, None, None], self._embed(src, self.source, at), jnp.nan)
        mask = real[:, None, None]
        for layer in self.encoder:
            x = layer(x, mask)
        return self.encoder_norm(x), mask

    def decode(
        self, tgt: Int[Array, "batch seq_tgt"], memory: Float[Array, "batch seq_src d_model"],
        mask: Bool[Array, "batch 1 1 seq_src"],
    ) -> Float[Array, "batch seq_tgt d_model"]:  # fmt: skip
        """The decoder's output; padding needs no mask, since it comes after what is real and the future is not seen."""
        self._check("tgt", tgt)
        real = (tgt if isinstance(tgt, Tracer) else np.asarray(tgt)) != self.config.pad
        right = real[:, 0] & (real[:, :-1] >= real[:, 1:]).all(1)
        if not isinstance(right, Tracer) and not right.all():
            raise ValueError(f"tgt must have its padding ({self.config.pad}) at the end of each row")
        if len(tgt) != len(memory):
            raise ValueError(f"src and tgt must have the same batch size, got {len(memory)} and {len(tgt)}")
        y = self._embed(tgt, self.target)
        for layer in self.decoder:
            y = layer(y, memory, mask)
        return self.decoder_norm(jnp.where((right & mask.any((1, 2, 3)))[:, None, None], y, jnp.nan))

    def project(self, y: Float[Array, "*batch d_model"]) -> Float[Array, "*batch vocab"]:
        """Logits, by the matrix of the embeddings (Section 3.4)."""
        return y @ self.tokens.embedding.T

    def _embed(
        self, tokens: Int[Array, "batch seq"], positions: Positions, at: Int[Array, "batch seq"] | None = None
    ) -> Float[Array, "batch seq d_model"]:
        """Embeddings times √d_model, plus the encoding of the positions (Sections 3.4, 3.5, 5.4), or of those `at`."""
        # not self.tokens(tokens), which has the dtype that the table was made in
        rows = jnp.take(self.tokens.embedding[...], tokens, axis=0)  # NaN past the vocabulary
        rows = jnp.where(tokens[..., None] < 0, jnp.nan, rows)  # JAX counts those below 0 from the end
        x = rows * math.sqrt(self.config.d_model)
        encoding = jnp.asarray(positions(tokens.shape[1]), x.dtype)
        return self.dropout(x + (encoding if at is None else encoding[at]))

    def _check(self, name: str, tokens: Int[Array, "batch seq"]) -> None:
        if not has_dtype(tokens, *_IDS) or tokens.ndim != 2 or 0 in tokens.shape:
            raise ValueError(f"{name} must hold token ids in the shape (batch, seq), neither of them 0, got "
                             f"{kind(tokens)}")  # fmt: skip
        if isinstance(tokens, Tracer):
            return
        values = np.asarray(tokens)  # jax.numpy would trace it where it stands in a jitted function
        low, high = values.min(), values.max()
        if low < 0 or high >= self.config.vocab_size:
            raise ValueError(f"{name} must hold tokens from 0 to {self.config.vocab_size - 1}, got {low} to {high}")
        empty = (values == self.config.pad).all(1)
        if empty.any():
            raise ValueError(f"{name} must have a token other than padding ({self.config.pad}) in each row; row "
                             f"{empty.argmax()} has none")  # fmt: skip


def label_smoothing(
    logits: Float[Array, "*batch vocab"], targets: Int[Array, "*batch"], smoothing: float = 0.1, pad: int | None = 0
) -> Float[Array, ""]:
    """Section 5.4: cross-entropy against 1 − ε for the right token plus ε spread evenly over the vocabulary.

    The mean over all targets that are not padding, in nats, and in float32 for logits of half precision. Raises
    ValueError where there are none and for those outside the vocabulary (NaN under `jit`), for targets of another shape
    or dtype, for a smoothing outside [0, 1) and a pad that is no integer.
    """
    check_shares(smoothing=smoothing)
    if pad is not None and not is_integer(pad):
        raise ValueError(f"pad must be an integer, or None where all targets count, got {pad!r}")
    if not has_dtype(logits, *_FLOATS):
        raise ValueError(f"logits must hold numbers of floating point, got {kind(logits)}")
    if not has_dtype(targets, *_IDS):
        raise ValueError(f"targets must hold int64 or int32, got {kind(targets)}")
    if targets.shape != logits.shape[:-1]:
        raise ValueError(f"targets must have the shape of logits without its last axis, {logits.shape[:-1]}, got "
                         f"{targets.shape}")  # fmt: skip
    real = jnp.ones(targets.shape, bool) if pad is None else targets != pad
    if not isinstance(targets, Tracer):
        values = np.asarray(targets)
        values = values if pad is None else values[values != pad]
        if not values.size:
            raise ValueError("targets must have a token" + ("" if pad is None else f" other than padding ({pad})"))
        low, high, last = values.min(), values.max(), logits.shape[-1] - 1
        if low < 0 or high > last:
            raise ValueError(f"targets must hold tokens from 0 to {last}, got {low} to {high}")
    logits = jnp.where(real[..., None], logits, 0)  # the gradient of NaN would be NaN where it does not count
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    expected = jnp.take_along_axis(logits, jnp.asarray(targets)[..., None], -1)[..., 0]
    expected = jnp.where(targets < 0, jnp.nan, expected)  # JAX counts those below 0 from the end
    if smoothing:  # zero times a logit of −∞ is nothing
        expected = (1 - smoothing) * expected + smoothing * logits.mean(-1)
    return (jax.nn.logsumexp(logits, -1) - expected).mean(where=real)


def from_torch(model: torch_model.Transformer) -> Transformer:
    """The Flax twin of a torch model: its config, a copy of its weights, and its mode, training or not.

    A compiled model and one in DataParallel are the model inside. Raises ValueError for weights of a dtype that JAX
    does not hold: float64 without `jax_enable_x64`.
    """
    # of torch.compile and DataParallel
    while (inner := getattr(model, "_orig_mod", getattr(model, "module", None))) is not None:
        model = inner
    twin, weights = Transformer(model.config, rngs=nnx.Rngs(0)), model.state_dict()
    for name, (parameter, transposed) in _parameters(twin).items():
        weight = weights[name].cpu()
        wide = weight.numpy() if weight.dtype.itemsize >= 4 else weight.float().numpy()  # NumPy has no bfloat16
        array = jnp.array(wide.T if transposed else wide)
        if array.dtype != wide.dtype:
            raise ValueError(f"{name} is {wide.dtype}, which JAX holds with jax_enable_x64 alone")
        parameter.set_value(array.astype(str(weight.dtype).removeprefix("torch.")))
    (twin.train if model.training else twin.eval)()
    return twin


def to_torch(twin: Transformer) -> torch_model.Transformer:
    """The torch model with a copy of the twin's weights, on the CPU: the inverse of `from_torch`."""
    import torch

    from transformer import model as torch_model

    weights: dict[str, torch.Tensor] = {}
    for name, (parameter, transposed) in _parameters(twin).items():
        array: Array = parameter.get_value()
        wide = np.array(array.T if transposed else array, jnp.promote_types(array.dtype, jnp.float32))
        weights[name] = torch.from_numpy(wide).to(getattr(torch, array.dtype.name))
    model = torch_model.Transformer(twin.config).to(weights["tokens.weight"].dtype)
    model.load_state_dict(weights, assign=True)  # each with the dtype that it has
    return model.train(not twin.dropout.deterministic)


def _parameters(twin: Transformer) -> dict[str, tuple[nnx.Param[Any], bool]]:
    """The twin's parameters by the names of the torch model's, and whether those are transposed."""
    return {
        ".".join([*map(str, path[:-1]), "bias" if path[-1] == "bias" else "weight"]): (node, path[-1] == "kernel")
        for path, node in nnx.iter_graph(twin)
        if isinstance(node, nnx.Param)
    }
