"""The constants of a model: the base model, the big one, and every row of Table 3."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from transformer.arguments import check_flags, check_integers, check_shares, is_integer

# Table 3: what each row changes in the base model. Rows A keep h · d_k = 512; row B leaves d_v at 64.
TABLE_3: dict[str, list[dict[str, Any]]] = {
    "base": [{}],
    "A": [{"n_heads": 1}, {"n_heads": 4}, {"n_heads": 16}, {"n_heads": 32}],
    "B": [{"d_k": 16}, {"d_k": 32}],
    "C": [{"n_layers": 2}, {"n_layers": 4}, {"n_layers": 8}, {"d_model": 256}, {"d_model": 1024}, {"d_ff": 1024},
          {"d_ff": 4096}],
    "D": [{"dropout": 0.0}, {"dropout": 0.2}, {"label_smoothing": 0.0}, {"label_smoothing": 0.2}],
    "E": [{"positions": "learned"}],
    "big": [{"d_model": 1024, "d_ff": 4096, "n_heads": 16, "dropout": 0.3}],
}  # fmt: skip


@dataclass(frozen=True)
class TransformerConfig:
    """What a Transformer is made of; the defaults are the base model's (Table 3, first row).

    vocab_size: tokens of the vocabulary that source and target share (Section 5.1)
    n_layers: N, layers of the encoder and of the decoder
    d_model, d_ff: width of the residual stream and of the feed-forward layers
    n_heads: h
    d_k, d_v: size of a head's keys and values; None for d_model / n_heads
    dropout: P_drop
    label_smoothing: ε_ls, which `LabelSmoothing` is to be given; the model itself does not use it
    positions: "sinusoidal", or "learned" (Table 3, row E)
    max_len: rows of a learned table; sinusoids have no limit
    norm: "post", LayerNorm(x + Sublayer(x)), as in Section 3.1; or "pre", x + Sublayer(LayerNorm(x)), which trains
        deep stacks without warm-up (Xiong et al. 2020, arXiv 2002.04745)
    pad: the token of the padding
    fused: compute attention with torch's fused kernel, where the formula is not to be looked at

    Raises ValueError for a size below 1 or a value that is not accepted.
    """

    vocab_size: int = 37000
    n_layers: int = 6
    d_model: int = 512
    d_ff: int = 2048
    n_heads: int = 8
    d_k: int | None = None
    d_v: int | None = None
    dropout: float = 0.1
    label_smoothing: float = 0.1
    positions: Literal["sinusoidal", "learned"] = "sinusoidal"
    max_len: int = 512
    norm: Literal["post", "pre"] = "post"
    pad: int = 0
    fused: bool = False

    def __post_init__(self) -> None:
        names = ("vocab_size", "n_layers", "d_model", "d_ff", "n_heads", "d_k", "d_v", "max_len")
        sizes = {name: getattr(self, name) for name in names}
        check_integers(1, **{name: n for name, n in sizes.items() if n is not None or name not in ("d_k", "d_v")})
        check_shares(dropout=self.dropout, label_smoothing=self.label_smoothing)
        check_flags(fused=self.fused)
        for name, accepted in (("positions", ("sinusoidal", "learned")), ("norm", ("post", "pre"))):
            if getattr(self, name) not in accepted:
                raise ValueError(f"{name} must be {' or '.join(map(repr, accepted))}, got {getattr(self, name)!r}")
        if self.positions == "sinusoidal" and self.d_model % 2:
            raise ValueError(f"d_model must be even, a sine and a cosine for each frequency, got {self.d_model}")
        if not (is_integer(self.pad) and 0 <= self.pad < self.vocab_size):
            raise ValueError(f"pad must be a token of the vocabulary, 0 to {self.vocab_size - 1}, got {self.pad!r}")

    @classmethod
    def base(cls, **changes: Any) -> TransformerConfig:
        """The base model, with whatever is changed."""
        return cls(**changes)

    @classmethod
    def big(cls, **changes: Any) -> TransformerConfig:
        """The big model (Table 3, last row), with whatever is changed."""
        return replace(cls(**TABLE_3["big"][0]), **changes)

    @classmethod
    def table3(cls, row: str, *, vocab_size: int = 37000, **change: Any) -> TransformerConfig:
        """A row of Table 3 by its letter and what it changes: `table3("C", d_model=256)`; "base" and "big" alone.

        Raises ValueError where the table has no such row, with those that it has.
        """
        if row not in list(TABLE_3):
            raise ValueError(f"Table 3 has the rows {', '.join(TABLE_3)}, not {row!r}")
        change = change or (TABLE_3[row][0] if len(TABLE_3[row]) == 1 else {})
        if change not in TABLE_3[row]:
            accepted = "; ".join(", ".join(f"{k}={v!r}" for k, v in row.items()) for row in TABLE_3[row])
            raise ValueError(f"row {row} of Table 3 has {accepted or 'no change'}; got {change or 'none of them'}")
        return cls(vocab_size=vocab_size, **change)

    @property
    def head_sizes(self) -> tuple[int, int]:
        """(d_k, d_v), d_model / h where none is given (Section 3.2.2). ValueError where h does not divide d_model."""
        if (self.d_k is None or self.d_v is None) and self.d_model % self.n_heads:
            raise ValueError(
                f"n_heads must divide d_model {self.d_model} where d_k or d_v is not given, got {self.n_heads}"
            )
        return self.d_k or self.d_model // self.n_heads, self.d_v or self.d_model // self.n_heads
