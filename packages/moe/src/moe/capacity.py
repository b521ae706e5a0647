"""Switch, Eq. 3: how many tokens an expert takes."""

from __future__ import annotations

import math


def expert_capacity(capacity_factor: float, tokens: int, k: int, n_experts: int) -> int:
    """⌈c k tokens / E⌉: the paper's quotient for k = 1, which it does not round. It is at least 1, and at most the
    tokens, for each goes to an expert only once; what a product of decimals like 1.1
    has too much in its last digits is not rounded up.
    """
    return min(tokens, max(1, math.ceil(round(capacity_factor * k * tokens / n_experts, 9))))
