"""The constants of a model: BERT_BASE and BERT_LARGE (Section 3), and what Tables 5 and 6 change in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bert.arguments import check_flag, check_whole, number


@dataclass(frozen=True)
class BertConfig:
    """What a BERT is made of; the defaults are BERT_BASE's (Section 3), with the published English vocabulary.

    vocab_size: word pieces, [PAD], [UNK], [CLS], [SEP] and [MASK] among them
    n_layers: L
    hidden_size: H
    n_heads: A, each of size H / A
    d_ff: width of the feed-forward layers; None for 4H (footnote 3)
    max_positions: rows of the position embeddings, the longest sequence
    n_types: rows of the segment embeddings: sentence A and sentence B
    dropout: of every sub-layer's output, of the embeddings' sum (Appendix A.2: "on all layers") and, as in the
        authors' code, of the attention's weights
    layer_norm_eps, init_std: the authors' code; weights start normal with this deviation, cut off at two of them
    causal: each position sees those before it and itself alone, the left-to-right model of Section 5.1
    fused: the fast way, where the formula is not to be looked at: attention with torch's fused kernel, and everything
        else on the tokens alone, without the padding. That kernel has first derivatives in reverse mode; for others
        torch raises a RuntimeError, and the formula has them all

    Raises ValueError for a size below 1, heads that do not divide H, or a value that is not accepted: sizes are whole
    numbers, and True is no number.
    """

    vocab_size: int = 30522
    n_layers: int = 12
    hidden_size: int = 768
    n_heads: int = 12
    d_ff: int | None = None
    max_positions: int = 512
    n_types: int = 2
    dropout: float = 0.1
    layer_norm_eps: float = 1e-12
    init_std: float = 0.02
    causal: bool = False
    fused: bool = False

    def __post_init__(self) -> None:
        for name in ("vocab_size", "n_layers", "hidden_size", "n_heads", "d_ff", "max_positions", "n_types"):
            if name != "d_ff" or self.d_ff is not None:
                object.__setattr__(self, name, check_whole(name, getattr(self, name), 1))
        if self.hidden_size % self.n_heads:
            raise ValueError(f"n_heads must divide hidden_size {self.hidden_size}, got {self.n_heads}")
        if not (number(self.dropout) and 0 <= self.dropout < 1):
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout!r}")
        for name in ("layer_norm_eps", "init_std"):
            x = getattr(self, name)
            if not (number(x) and x > 0):
                raise ValueError(f"{name} must be above 0, got {x!r}")
        for name in ("dropout", "layer_norm_eps", "init_std"):
            object.__setattr__(self, name, float(getattr(self, name)))  # NumPy's are no JSON
        for name in ("causal", "fused"):
            check_flag(name, getattr(self, name))
            object.__setattr__(self, name, bool(getattr(self, name)))

    @classmethod
    def base(cls, **changes: Any) -> BertConfig:
        """BERT_BASE: L = 12, H = 768, A = 12, with whatever is changed."""
        return cls(**changes)

    @classmethod
    def large(cls, **changes: Any) -> BertConfig:
        """BERT_LARGE: L = 24, H = 1024, A = 16, with whatever is changed."""
        sizes: dict[str, Any] = {"n_layers": 24, "hidden_size": 1024, "n_heads": 16}
        return cls(**(sizes | changes))

    @property
    def ff_size(self) -> int:
        """d_ff, 4H where none is given."""
        return self.d_ff or 4 * self.hidden_size
