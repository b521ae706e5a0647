"""papertest: what a paper says, what we measure, whether they agree.

A package registers its claims with :func:`claim` and its figures with :func:`figure`; the `reproduce` command
(:mod:`papertest.reproduce`) measures them, judges them by the criteria in `papers/<slug>.toml` and keeps the results.
"""

from papertest.claims import Measured, Run, Timed, claim, figure

__all__ = ["Measured", "Run", "Timed", "claim", "figure"]
