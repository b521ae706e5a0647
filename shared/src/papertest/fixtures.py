"""Fixtures that act on every test of the module, or of the conftest's folder, that imports them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest


@pytest.fixture(scope="module", autouse=True)
def on_one_thread() -> Iterator[None]:
    """The models of tests are tiny: more threads make them no faster, and far slower where others use the machine."""
    from papertest.threads import one_thread

    with one_thread():
        yield


@pytest.fixture(scope="module", autouse=True)
def compiled_fast() -> Iterator[None]:
    """Most of the time would go into making code fast that runs once: XLA leaves that out."""
    import jax

    values = cast("dict[str, Any]", jax.config.values)
    before = values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
