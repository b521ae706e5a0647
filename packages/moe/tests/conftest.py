"""For all tests of this package."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # moe_cases, which several files share


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The layers here are tiny: more threads make them no faster, and far slower where others use the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
