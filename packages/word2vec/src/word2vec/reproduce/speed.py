"""Speed: ratios of times in one run, in rounds in which every side has its turn."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from papertest import Run, Timed, bench, claim
from papertest.threads import one_thread

from word2vec.softmax import softmax

ROWS, COLUMNS = 10_000, 64
CALLS = 20  # at once, per round: one takes a millisecond, in which a clock sees what else the machine does


def at_once(x: Float[Tensor, "rows columns"]) -> None:
    for _ in range(CALLS):
        softmax(x)


def by_row(x: Float[Tensor, "rows columns"]) -> None:
    for row in x.split(1):
        softmax(row)


@claim("rows-at-once")
@one_thread()
def rows_at_once(run: Run) -> Timed:
    """Table 2: time row by row over time at once. `null`: at once over at once again, what the machine adds."""
    x = torch.randn(ROWS // 10 if run.quick else ROWS, COLUMNS)
    times = bench.rounds(run, {"at_once": lambda: at_once(x), "by_row": lambda: by_row(x)}, null="at_once")
    return Timed([CALLS * r for r in times.ratio("by_row", "at_once")], times.null, {"seconds": times.seconds})
