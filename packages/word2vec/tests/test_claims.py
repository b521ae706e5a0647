"""The claims: recomputed verdicts are the recorded ones, and every figure can be drawn from the recorded results."""

from __future__ import annotations

from papertest.suite import TestClaims  # noqa: F401
