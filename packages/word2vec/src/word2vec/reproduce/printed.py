"""Printed: the paper's own numbers among themselves. These functions read the record, and none of our code."""

from __future__ import annotations

import math
from typing import Any

from papertest import Run, claim


@claim("printed-probabilities")
def printed_probabilities(run: Run) -> float:
    """Section 2: the sum of the three probabilities."""
    probabilities: Any = run.reported["worked-example"].value
    return math.fsum(probabilities)
