"""The claims: recomputed verdicts are the committed ones, and every figure can be drawn from the committed results."""

from __future__ import annotations

from papertest.suite import TestClaims  # noqa: F401
