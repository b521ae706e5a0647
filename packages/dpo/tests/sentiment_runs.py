"""What several tests of controlled sentiment share."""

from __future__ import annotations

from papertest.claims import Run, Unreported
from papertest.measure import Silent


def run_of(seed, quick=True):
    """A run whose shared runs are computed."""
    return Run(seed, "cpu", quick, Unreported(), Silent().track, lambda run, function, args: function(run, *args))
