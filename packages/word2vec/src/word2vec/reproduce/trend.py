"""Trend: effects of training at small scale, one value per seed."""

from __future__ import annotations

from papertest import Measured, Run, claim

from word2vec.reproduce.training import TRAINING, error_after

FEW = 100


@claim("digits-learned")
def digits_learned(run: Run) -> float:
    """The control: test error after training on 1,000 examples."""
    return run.shared(error_after, TRAINING)  # the same run as below, trained once


@claim("more-examples")
def more_examples(run: Run) -> Measured:
    """Table 1: test error with 100 examples minus that with 1,000."""
    few, many = (run.shared(error_after, examples) for examples in (FEW, TRAINING))
    return Measured(few - many, {"error": {"100": few, "1000": many}})
