"""For all tests of this package."""

from __future__ import annotations

from papertest.fixtures import on_one_thread as on_one_thread
