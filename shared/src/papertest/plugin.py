"""The pytest plugin: markers, and fixtures that know the package that a test's file belongs to.

A test that takes one of these runs once for each that the package has, and not at all where it has none:

    exact_claim   a claim of tier exact or printed; `exact_claim.hold()` recomputes it and holds its verdict
    paper_claim   the id of a claim of tier paper
    figure_name   the name of a figure
    carrier       a `papertest.data.Carrier` of its reproduce modules

`papertest.suite.TestClaims` is made of them.
"""

from __future__ import annotations

import ast
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from papertest import store
from papertest.data import Carrier, Sdist
from papertest.fingerprint import Sources
from papertest.measure import Measurer, Silent, has_cuda, seed_all
from papertest.package import Package
from papertest.records import Record

pytest.register_assert_rewrite("papertest.suite")

KINDS = {"Carrier": Carrier, "Sdist": Sdist}


@dataclass(frozen=True)
class ExactClaim:
    """One claim of a package that is recomputed: of tier exact or printed."""

    package: Package
    claim: str

    def hold(self) -> None:
        """Recompute the claim from nothing and fail where its verdict is not the one committed in results/.

        What the reader has measured is neither used nor changed. A claim that was never measured has to run, no more.
        """
        with tempfile.TemporaryDirectory() as state:
            result = Measurer(self.package, Silent(), state=Path(state)).measure(self.claim, {})
        committed = store.recorded(self.package, pytest.fail).get(self.claim)
        assert committed is not None, f"{self.claim} has no result: `reproduce --only {self.claim} --record` writes it"
        assert not committed.samples or result.verdict == committed.verdict, (
            f"{self.claim}: committed as {committed.verdict!r}, now {result.verdict!r} ({result.why}); "
            f"committed value {committed.value}, now {result.value}"
        )


def package_of(path: Path) -> Package:
    """The package whose `packages/<slug>/` holds this file."""
    home = next((p for p in path.parents if p.parent.name == "packages"), None)
    if home is None:
        raise pytest.UsageError(f"{path} is in no packages/<slug>/: its fixtures of papertest need one")
    return Package.at(home / "src" / home.name.replace("-", "_"))


def carriers_of(package: Package) -> list[Carrier]:
    """Every carrier that the package's reproduce modules name, read from their source: nothing is imported."""
    found: list[Carrier] = []
    for path in package.claim_files:
        calls = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
        for node in sorted(calls, key=lambda call: call.lineno):
            if isinstance(node.func, ast.Name) and node.func.id in KINDS:
                try:
                    words = [ast.literal_eval(word) for word in node.args]
                    named = {str(word.arg): ast.literal_eval(word.value) for word in node.keywords}
                except ValueError:
                    place = f"{path.relative_to(package.code.parent)}:{node.lineno}"
                    raise pytest.UsageError(f"{place}: name, version, sha256 and licence of a carrier stand in the "
                                            "source as they are") from None  # fmt: skip
                found.append(KINDS[node.func.id](*words, **named))
    return found


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "exact: recomputes an exact or printed claim (seconds)")
    config.addinivalue_line("markers", "trend: measures a trend claim (minutes)")
    config.addinivalue_line("markers", "gpu: needs a CUDA device; skipped where there is none")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = [item for item in items if not _for_none(item)]
    if any(item.get_closest_marker("gpu") for item in items) and not has_cuda():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and this machine has none"))


def _exact_claims(package: Package) -> Iterator[tuple[str, Any]]:
    return ((i, ExactClaim(package, i)) for i, c in package.claims.items() if c.tier in ("exact", "printed"))


def _paper_claims(package: Package) -> Iterator[tuple[str, Any]]:
    return ((i, i) for i, c in package.claims.items() if c.tier == "paper")


def _figure_names(package: Package) -> Iterator[tuple[str, Any]]:
    return ((name, name) for name in sorted(Sources(package).figures))


def _carriers(package: Package) -> Iterator[tuple[str, Any]]:
    return ((carrier.name, carrier) for carrier in carriers_of(package))


EACH: dict[str, Callable[[Package], Iterator[tuple[str, Any]]]] = {  # fixture -> its values, each with a name
    "exact_claim": _exact_claims,
    "paper_claim": _paper_claims,
    "figure_name": _figure_names,
    "carrier": _carriers,
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    own = {name for mark in metafunc.definition.iter_markers("parametrize") for name in _names(mark)}
    for fixture in EACH.keys() & set(metafunc.fixturenames) - own:
        marks = [pytest.mark.exact] if fixture == "exact_claim" else []
        values = EACH[fixture](package_of(metafunc.definition.path))
        parameters = [pytest.param(value, id=name, marks=marks) for name, value in values]
        metafunc.parametrize(fixture, parameters or [None])


def _names(mark: pytest.Mark) -> list[str]:
    """What a test's own `parametrize` gives."""
    names: Any = mark.args[0] if mark.args else mark.kwargs["argnames"]
    return [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)


def _for_none(item: pytest.Item) -> bool:
    """Whether it is the test of a fixture of which the package has none."""
    callspec = getattr(item, "callspec", None)
    parameters: dict[str, Any] = callspec.params if callspec else {}
    return any(parameters.get(fixture, fixture) is None for fixture in EACH)


@pytest.fixture
def seed() -> int:
    """Seeds Python, NumPy and torch with 0, which is also its value."""
    seed_all(0)
    return 0


@pytest.fixture
def package(request: pytest.FixtureRequest) -> Package:
    """The package that the test's file belongs to."""
    return package_of(request.path)


@pytest.fixture
def record(package: Package) -> Record:
    """The record of the package that the test's file belongs to, which has one."""
    return package.record
