"""The claims: what holds for those of every package."""

from __future__ import annotations

from papertest.suite import TestClaims  # noqa: F401
