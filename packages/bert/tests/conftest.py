"""For all tests of this package."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from papertest.threads import one_thread

sys.path.insert(0, str(Path(__file__).parent))  # bert_cases, which several files share


@pytest.fixture(scope="module", autouse=True)
def quietly() -> Iterator[None]:
    """The models here are tiny: more threads make them no faster, and far slower where others use the machine."""
    with one_thread():
        yield
