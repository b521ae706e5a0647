"""BERT in Flax (nnx): the twin of `bert.model` and of the pre-training heads, module by module and weight by weight.

`from_torch` and `to_torch` carry the weights across; then hidden states, logits and gradients agree. Names are the
torch model's, but for those that Flax gives its own layers: `kernel` is `weight` transposed, `embedding` and `scale`
are `weight`. `config.fused` means nothing here: XLA fuses what it likes.

On GPUs and TPUs JAX multiplies float32 in less unless told `jax.default_matmul_precision("highest")`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from bert.arguments import check_kind
from bert.config import BertConfig

if TYPE_CHECKING:
    from bert import heads as torch_heads
    from bert import model as torch_model


def _normal(config: BertConfig) -> nnx.Initializer:
    """Normal, cut off at two deviations, as the torch model's; Flax's own makes up for the cut with a larger one."""

    def init(key: Any, shape: Any, dtype: Any = jnp.float32, **_: Any) -> Array:
        return config.init_std * jax.random.truncated_normal(key, -2, 2, shape, dtype)

    return cast(nnx.Initializer, init)


def _linear(n_in: int, n_out: int, config: BertConfig, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(n_in, n_out, kernel_init=_normal(config), rngs=rngs)


def _norm(config: BertConfig, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """With the variance as the mean square of x − mean(x)."""
    return nnx.LayerNorm(config.hidden_size, epsilon=config.layer_norm_eps, use_fast_variance=False, rngs=rngs)


def _rows(table: Float[Array, "rows size"], ids: Int[Array, "*shape"]) -> Float[Array, "*shape size"]:
    """The table's rows of these ids; NaN for ids past it, and for those below 0, which JAX counts from the end."""
    return jnp.where(ids[..., None] < 0, jnp.nan, jnp.take(table, ids, axis=0))


def _gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return jax.nn.gelu(x, approximate=False)


class Embeddings(nnx.Module):
    """Figure 2: token, segment and position embeddings summed; then, in the authors' code, LayerNorm and dropout."""

    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs) -> None:
        def table(rows: int) -> nnx.Embed:
            return nnx.Embed(rows, config.hidden_size, embedding_init=_normal(config), rngs=rngs)

        self.tokens, self.positions = table(config.vocab_size), table(config.max_positions)
        self.types, self.norm = table(config.n_types), _norm(config, rngs)
        self.dropout = nnx.Dropout(config.dropout, rngs=rngs)

    def __call__(
        self,
        input_ids: Int[Array, "batch seq"],
        token_type_ids: Int[Array, "batch seq"] | None,
        real: Bool[Array, "batch seq"] | None = None,
    ) -> Float[Array, "batch seq hidden"]:
        """No types: sentence A everywhere. real: where tokens are, whose positions are counted in each row; None for
        everywhere. What the tables hold of the rest has no influence."""
        # not self.tokens(input_ids), which has the dtype that the table was made in
        tokens, types = self.tokens.embedding[...], self.types.embedding[...]
        of_types = types[0] if token_type_ids is None else _rows(types, token_type_ids)
        positions = self.positions.embedding[: input_ids.shape[1]]
        if real is None:
            x = _rows(tokens, input_ids) + of_types + positions
        else:
            places = (jnp.cumsum(real, 1) - 1).clip(0)
            x = jnp.where(real[..., None], _rows(tokens, input_ids) + of_types + _rows(positions, places), 0)
        return self.dropout(self.norm(x))


class SelfAttention(nnx.Module):
    """A heads of softmax(QKᵀ/√d)V with d = H / A, as in Vaswani et al. 2017, but with biases."""

    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs) -> None:
        H = config.hidden_size
        self.n_heads = config.n_heads
        self.W_Q, self.W_K, self.W_V, self.W_O = (_linear(H, H, config, rngs) for _ in range(4))
        self.dropout = nnx.Dropout(config.dropout, rngs=rngs)

    def __call__(
        self, x: Float[Array, "batch seq hidden"], mask: Bool[Array, "#batch 1 #seq seq"]
    ) -> Float[Array, "batch seq hidden"]:
        """mask: True where a position may look."""
        q, k, v = (
            W(x).reshape(*x.shape[:2], self.n_heads, -1).swapaxes(1, 2)  # (batch, seq, H) to (batch, heads, seq, d)
            for W in (self.W_Q, self.W_K, self.W_V)
        )
        wide = jnp.promote_types(q.dtype, jnp.float32)  # of a half precision too: jax.nn.softmax sums in its own dtype
        scores = jnp.matmul(q, k.swapaxes(-2, -1), preferred_element_type=wide) / math.sqrt(q.shape[-1])
        weights = jax.nn.softmax(jnp.where(mask, scores, -jnp.inf), -1).astype(v.dtype)
        return self.W_O((self.dropout(weights) @ v).swapaxes(1, 2).reshape(x.shape))


class FeedForward(nnx.Module):
    """FFN(x) = GELU(xW_1 + b_1)W_2 + b_2, at each position alone; GELU(x) = xΦ(x), not an approximation of it."""

    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs) -> None:
        self.W_1 = _linear(config.hidden_size, config.ff_size, config, rngs)
        self.W_2 = _linear(config.ff_size, config.hidden_size, config, rngs)

    def __call__(self, x: Float[Array, "batch seq hidden"]) -> Float[Array, "batch seq hidden"]:
        return self.W_2(_gelu(self.W_1(x)))


class EncoderLayer(nnx.Module):
    """Two sub-layers, each LayerNorm(x + Dropout(Sublayer(x))): self-attention and feed-forward."""

    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs) -> None:
        self.attention, self.attention_norm = SelfAttention(config, rngs=rngs), _norm(config, rngs)
        self.feed_forward, self.feed_forward_norm = FeedForward(config, rngs=rngs), _norm(config, rngs)
        self.dropout = nnx.Dropout(config.dropout, rngs=rngs)

    def __call__(
        self, x: Float[Array, "batch seq hidden"], mask: Bool[Array, "#batch 1 #seq seq"]
    ) -> Float[Array, "batch seq hidden"]:
        x = self.attention_norm(x + self.dropout(self.attention(x, mask)))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))


class Bert(nnx.Module):
    """Section 3. `Bert(config, rngs=nnx.Rngs(0))(input_ids)` is (hidden, pooled).

    Weights start as the torch model's do. Dropout is on until `eval()`, and again after `train()`.
    """

    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs) -> None:
        check_kind("config", config, BertConfig, "a BertConfig")
        self.config = config
        self.embeddings = Embeddings(config, rngs=rngs)
        self.encoder = nnx.List([EncoderLayer(config, rngs=rngs) for _ in range(config.n_layers)])
        self.pooler = _linear(config.hidden_size, config.hidden_size, config, rngs)

    def __call__(
        self,
        input_ids: Int[Array, "batch seq"],
        token_type_ids: Int[Array, "batch seq"] | None = None,
        attention_mask: Bool[Array, "batch seq"] | Int[Array, "batch seq"] | None = None,
    ) -> tuple[Float[Array, "batch seq hidden"], Float[Array, "batch hidden"]]:
        """Arguments, results and ValueErrors as the torch model's; under `jit`, which hides values, only the errors of
        shape and dtype: ids outside the tables, and a row of a mask that would be refused, give NaN there.
        """
        self._check(input_ids, token_type_ids, attention_mask)
        length = input_ids.shape[1]
        mask = jnp.tri(length, dtype=bool)[None, None] if self.config.causal else jnp.ones((1, 1, 1, length), bool)
        real = None if attention_mask is None else jnp.asarray(attention_mask) == 1
        x = self.embeddings(input_ids, token_type_ids, real)
        first: Any = 0
        if attention_mask is not None and real is not None:
            mask, first = mask & real[:, None, None], real.argmax(1)
            good = (real | (attention_mask == 0)).all(1) & (real[:, 0] if self.config.causal else real.any(1))
            x = jnp.where(good[:, None, None], x, jnp.nan)
        for layer in self.encoder:
            x = layer(x, mask)
        return x, jnp.tanh(self.pooler(x[jnp.arange(len(x)), first]))

    def _check(self, ids: Array, types: Array | None, tokens: Array | None) -> None:
        c = self.config
        for name, x in (("input_ids", ids), ("token_type_ids", types), ("attention_mask", tokens)):
            if x is not None or name == "input_ids":
                check_kind(name, x, (jax.Array, np.ndarray), "an array")
        if ids.ndim != 2 or 0 in ids.shape or ids.dtype not in (jnp.int32, jnp.int64):
            raise ValueError(f"input_ids must hold token ids, int64 or int32, in the shape (batch, seq), neither of "
                             f"them 0, got {ids.dtype} of shape {ids.shape}")  # fmt: skip
        _check_range("input_ids", ids, c.vocab_size)
        if ids.shape[1] > c.max_positions:
            raise ValueError(f"input_ids must be no longer than max_positions {c.max_positions}, got {ids.shape[1]} "
                             "tokens")  # fmt: skip
        for name, other in (("token_type_ids", types), ("attention_mask", tokens)):
            if other is not None and other.shape != ids.shape:
                raise ValueError(f"{name} must have the shape of input_ids, {ids.shape}, got {other.shape}")
        if types is not None:
            if types.dtype not in (jnp.int32, jnp.int64):
                raise ValueError(f"token_type_ids must be int64 or int32, got {types.dtype}")
            _check_range("token_type_ids", types, c.n_types)
        if tokens is None or isinstance(tokens, Tracer):
            return
        values = np.asarray(tokens)  # jax.numpy would trace it where it stands in a jitted function
        if not ((values == 0) | (values == 1)).all():
            raise ValueError("attention_mask must hold 1 for tokens and 0 for padding, and got other values")
        empty = values[:, 0] == 0 if c.causal else (values == 0).all(1)
        if empty.any():
            what = "begin with a token in each row of a causal model" if c.causal else "have a token in each row"
            raise ValueError(f"attention_mask must {what}; row {empty.argmax()} does not")


class MlmHead(nnx.Module):
    """Section 3.1, Task #1: LayerNorm(GELU(hW + b))Eᵀ + c, with the matrix E of the token embeddings."""

    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs) -> None:
        self.dense, self.norm = _linear(config.hidden_size, config.hidden_size, config, rngs), _norm(config, rngs)
        self.bias = nnx.Param(jnp.zeros(config.vocab_size))

    def __call__(
        self, hidden: Float[Array, "*at hidden"], E: Float[Array, "vocab hidden"]
    ) -> Float[Array, "*at vocab"]:
        return self.norm(_gelu(self.dense(hidden))) @ E.T + self.bias


class BertForPreTraining(nnx.Module):
    """A Bert under the two objectives of Section 3.1: a masked language model and next sentence prediction."""

    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        self.bert, self.mlm = Bert(config, rngs=rngs), MlmHead(config, rngs=rngs)
        self.nsp = _linear(config.hidden_size, 2, config, rngs)

    def __call__(
        self,
        input_ids: Int[Array, "batch seq"],
        token_type_ids: Int[Array, "batch seq"] | None = None,
        attention_mask: Bool[Array, "batch seq"] | Int[Array, "batch seq"] | None = None,
        *,
        at: Int[Array, "batch n"] | None = None,
    ) -> tuple[Float[Array, "batch n vocab"], Float[Array, "batch 2"]]:
        """(mlm_logits, nsp_logits): column 0 of nsp_logits for IsNext, column 1 for NotNext.

        at: the positions in each row where the masked language model is to be asked, as many in each, so that `jit` has
        shapes; None for everywhere. Those outside the row raise a ValueError, and give NaN under `jit`.
        """
        hidden, pooled = self.bert(input_ids, token_type_ids, attention_mask)
        if at is not None:
            check_kind("at", at, (jax.Array, np.ndarray), "an array")
            if at.dtype not in (jnp.int32, jnp.int64):
                raise ValueError(f"at must be int64 or int32, got {at.dtype}")
            if at.ndim != 2 or len(at) != len(input_ids):
                raise ValueError(
                    f"at must have the shape ({len(input_ids)}, n), n positions in each row, got {at.shape}"
                )
            _check_range("at", at, input_ids.shape[1])
            hidden = jax.vmap(_rows)(hidden, at)
        return self.mlm(hidden, self.bert.embeddings.tokens.embedding[...]), self.nsp(pooled)


def _check_range(name: str, values: Int[Array, "*shape"], stop: int) -> None:
    if not isinstance(values, Tracer):
        low, high = np.asarray(values).min(), np.asarray(values).max()
        if low < 0 or high >= stop:
            raise ValueError(f"{name} must be from 0 to {stop - 1}, got {low} to {high}")


# --- Weights across ---


def from_torch(model: torch_model.Bert | torch_heads.BertForPreTraining) -> Any:
    """The Flax twin, a Bert or a BertForPreTraining: its config, a copy of its weights, and its mode, training or not.

    A compiled model, or one in DataParallel's kind of wrapper, is the model that it holds.

    Raises ValueError for another kind of model, for weights that the twin does not have, and for those of a dtype that
    JAX does not hold: float64 without `jax_enable_x64`.
    """
    from bert import heads
    from bert import model as models
    from bert.pretrained import plain

    whole, weights = plain(model)
    check_kind("model", whole, (models.Bert, heads.BertForPreTraining), "a Bert or a BertForPreTraining of torch")
    kind = Bert if isinstance(whole, models.Bert) else BertForPreTraining
    twin = kind(whole.config, rngs=nnx.Rngs(0))
    other = sorted(weights.keys() ^ _parameters(twin).keys())
    if other:
        raise ValueError(f"model must have the weights of its config, and {', '.join(other)} are missing or too many")
    for name, (parameter, transposed) in _parameters(twin).items():
        weight = weights[name].cpu()
        wide = weight.numpy() if weight.dtype.itemsize >= 4 else weight.float().numpy()  # NumPy has no bfloat16
        array = jnp.array(wide.T if transposed else wide)
        if array.dtype != wide.dtype:
            raise ValueError(f"{name} is {wide.dtype}, which JAX holds with jax_enable_x64 alone")
        parameter.set_value(array.astype(str(weight.dtype).removeprefix("torch.")))
    (twin.train if whole.training else twin.eval)()
    return twin


def to_torch(twin: Bert | BertForPreTraining) -> Any:
    """The torch model with a copy of the twin's weights, on the CPU: the inverse of `from_torch`.

    Raises ValueError for another kind of model.
    """
    import torch

    from bert import heads, model

    check_kind("twin", twin, (Bert, BertForPreTraining), "a Bert or a BertForPreTraining of Flax")

    weights: dict[str, torch.Tensor] = {}
    for name, (parameter, transposed) in _parameters(twin).items():
        array: Array = parameter.get_value()
        wide = np.array(array.T if transposed else array, jnp.promote_types(array.dtype, jnp.float32))
        weights[name] = torch.from_numpy(wide).to(getattr(torch, array.dtype.name))
    bert = twin if isinstance(twin, Bert) else twin.bert
    other = (model.Bert if isinstance(twin, Bert) else heads.BertForPreTraining)(twin.config)
    other.load_state_dict(weights, assign=True)
    return other.train(not bert.embeddings.dropout.deterministic)


def _parameters(twin: nnx.Module) -> dict[str, tuple[nnx.Param[Any], bool]]:
    """The twin's parameters by the names of the torch model's, and whether those are transposed."""
    return {
        ".".join([*map(str, path[:-1]), "bias" if path[-1] == "bias" else "weight"]): (node, path[-1] == "kernel")
        for path, node in nnx.iter_graph(twin)
        if isinstance(node, nnx.Param)
    }
