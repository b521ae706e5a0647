"""The pytest plugin: markers, fixtures, and one test per exact claim that recomputes it and holds its verdict.

A test that takes `exact_claim` runs once for each exact claim of the package that its file belongs to:

    def test_exact_claim(exact_claim):
        exact_claim.hold()
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from papertest import store
from papertest.measure import Measurer, Silent, has_cuda, seed_all
from papertest.package import Package
from papertest.records import Record


@dataclass(frozen=True)
class ExactClaim:
    """One exact claim of a package, to be recomputed."""

    package: Package
    claim: str

    def hold(self) -> None:
        """Recompute the claim from nothing and fail where its verdict is not the one committed in results/."""
        measurer = Measurer(self.package, Silent())
        measurer.forget(self.claim)
        result = measurer.measure(self.claim)
        committed = store.recorded(self.package, pytest.fail).get(self.claim)
        assert committed is not None, f"{self.claim} has no result: `reproduce --only {self.claim} --record` writes it"
        assert result.verdict == committed.verdict, (
            f"{self.claim}: committed as {committed.verdict!r}, now {result.verdict!r} ({result.why}); "
            f"committed value {committed.value}, now {result.value}"
        )


def _package_of(path: Path) -> Package:
    home = next((p for p in path.parents if p.parent.name == "packages"), None)
    if home is None:
        raise pytest.UsageError(f"{path} is in no packages/<slug>/: `record` and `exact_claim` need one")
    return Package.at(home / "src" / home.name.replace("-", "_"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "exact: recomputes an exact claim (seconds)")
    config.addinivalue_line("markers", "trend: measures a trend claim (minutes)")
    config.addinivalue_line("markers", "gpu: needs a CUDA device; skipped where there is none")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if any(item.get_closest_marker("gpu") for item in items) and not has_cuda():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and this machine has none"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "exact_claim" in metafunc.fixturenames:
        package = _package_of(metafunc.definition.path)
        exact = [ExactClaim(package, i) for i, c in package.record.claims.items() if c.tier == "exact"]
        parameters = [pytest.param(e, id=e.claim, marks=pytest.mark.exact) for e in exact]
        metafunc.parametrize("exact_claim", parameters)


@pytest.fixture
def seed() -> int:
    """Seeds Python, NumPy and torch with 0, which is also its value."""
    seed_all(0)
    return 0


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """The record of the package that the test's file belongs to."""
    return _package_of(request.path).record
