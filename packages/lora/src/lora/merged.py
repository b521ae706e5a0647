"""Adapters for some of the parts of a layer that computes several at once: W_q and W_v in GPT-2's c_attn."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lora.layers import Dense, LoRAConv1D, LoRALinear, Pair, is_conv1d


class LoRAMergedLinear(Dense):
    """In place of a layer that computes several equal parts at once, of which only some are adapted.

    GPT-2's c_attn, an nn.Linear or a Conv1D, is q, k and v in one; `enabled=(True, False, True)` adapts W_q and W_v,
    as the paper does. Each adapted part i has A_i and B_i of its own, so that

        delta_W rows of part i = s B_i A_i,  and 0 in the parts that are not enabled.

    lora_A stacks the n A_i as (n r, k), lora_B the n B_i as (n d_part, r).
    """

    kind = "an nn.Linear or a Conv1D"

    def __init__(
        self,
        base: nn.Module,
        enabled: tuple[bool, ...],
        r: int = 8,
        alpha: float = 16,
        dropout: float = 0.0,
        *,
        adapter: str = "default",
    ) -> None:
        """enabled: one for each part. Raises ValueError where none is True, or the base has no such parts."""
        pair = Pair(r, alpha, dropout)
        self._take_place_of(base)
        self.transposed = is_conv1d(base)
        self.enabled = tuple(enabled)
        if not any(self.enabled) or not all(type(part) is bool for part in self.enabled):
            raise ValueError(f"enabled must be True or False for each part, and True for one at least, got {enabled!r}")
        if self.d % len(self.enabled):
            raise ValueError(f"enabled must have as many parts as divide the {self.d} outputs of base, got {enabled!r}")
        self.add_adapter(adapter, pair)
        self.activate(adapter)

    @classmethod
    def refuses(cls, base: nn.Module) -> str | None:
        return LoRAConv1D.refuses(base) if is_conv1d(base) else LoRALinear.refuses(base)

    def shapes(self, r: int) -> tuple[tuple[int, int], tuple[int, int]]:
        n = sum(self.enabled)
        return (n * r, self.k), (n * self.d // len(self.enabled), r)

    def factors(self, adapter: str) -> tuple[Float[Tensor, "nr k"], Float[Tensor, "d nr"]]:
        """One pair of rank n r for the whole matrix: the A_i stacked, the B_i in blocks, and zeros around them."""
        A, B = self.lora_A[adapter], self.lora_B[adapter]
        blocks = iter(torch.block_diag(*B.chunk(sum(self.enabled))).chunk(sum(self.enabled)))
        zero = B.new_zeros(self.d // len(self.enabled), len(A))
        return A, torch.cat([next(blocks) if part else zero for part in self.enabled])

    def whole_pair(self, adapter: str) -> Pair:
        n, pair = sum(self.enabled), self.pairs[adapter]
        return Pair(n * pair.r, n * pair.alpha, pair.dropout)

    def pair_of_part(self, whole: Pair) -> Pair:
        """The inverse of `whole_pair`."""
        n = sum(self.enabled)
        return Pair(whole.r // n, whole.alpha / n, whole.dropout)

    def parts(self, B: Float[Tensor, "d nr"]) -> Float[Tensor, "nd_part r"] | None:
        """The inverse of `factors`: lora_B of a B that is in blocks; None for one that is not."""
        n = sum(self.enabled)
        if B.shape[1] % n:
            return None
        rows = torch.cat([rows for rows, part in zip(B.chunk(len(self.enabled)), self.enabled, strict=True) if part])
        r, d = B.shape[1] // n, len(rows) // n
        lora_B = torch.cat([rows[i * d : (i + 1) * d, i * r : (i + 1) * r] for i in range(n)])
        return lora_B if lora_B.count_nonzero() == B.count_nonzero() else None
