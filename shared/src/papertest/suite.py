"""What the tests of all packages' claims share: `from papertest.suite import TestClaims` in tests/test_claims.py."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.category import StrCategoryFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from papertest import drawing, figures, measure, store
from papertest.data import Carrier
from papertest.fingerprint import Sources
from papertest.measure import Measurer, Silent
from papertest.package import Package
from papertest.plugin import ExactClaim, carriers_of


class TestClaims:
    """Claims, results, figures and carriers of the package that imports this class into a test file."""

    def test_exact_claim(self, exact_claim: ExactClaim) -> None:
        exact_claim.hold()

    def test_every_claim_of_the_record_is_measured_and_no_other(self, package: Package) -> None:
        assert set(Sources(package).claims) == set(package.claims)

    def test_every_result_is_committed_and_no_other(self, package: Package) -> None:
        assert package.results is not None
        assert {p.name for p in package.results.iterdir()} == {f"{claim}.json" for claim in package.claims}

    def test_every_figure_is_committed_and_no_other(self, package: Package) -> None:
        """But those whose claims are still to be measured, which may wait."""
        assert package.figures is not None
        committed = {p.name for p in package.figures.iterdir()} if package.figures.exists() else set[str]()
        sources, results = Sources(package), store.recorded(package, pytest.fail)
        due, drawn = (
            {f"{name}.png" for name in names} for names in (drawing.drawable(sources, results), sources.figures)
        )
        assert due <= committed <= drawn

    def test_a_figure_shows_claims_of_the_record(self, figure_name: str, package: Package) -> None:
        _, claims = Sources(package).figures[figure_name]
        assert set(claims) <= set(package.claims)

    @pytest.mark.filterwarnings("error")
    def test_a_figure_draws_from_the_committed_results(self, figure_name: str, package: Package) -> None:
        """From those of its own claims, twice the same, and it says what it shows."""
        sources = Sources(package)
        _, claims = sources.figures[figure_name]
        results = store.recorded(package, pytest.fail)
        assert package.figures is not None
        if not (package.figures / f"{figure_name}.png").exists():
            return  # it waits for its claims; the test above asks for all others
        with figures.house_style():
            once, again = (sources.drawing(figure_name)({i: results[i] for i in claims}) for _ in range(2))
        first, second = (figures.png(each) for each in (once, again))
        for panel in once.axes:
            if claims:
                says_what_it_shows(panel)
            has_its_legend(once, panel)
        assert first == second

    def test_carriers_are_pinned(self, carrier: Carrier) -> None:
        assert re.fullmatch(r"[0-9a-f]{64}", carrier.sha256)
        assert re.fullmatch(r"[0-9]+(\.[0-9a-z]+)+", carrier.version)
        assert carrier.licence

    def test_carriers_are_named_once(self, package: Package) -> None:
        named = Counter(carrier.name for carrier in carriers_of(package))
        assert not [name for name, count in named.items() if count > 1]

    def test_without_a_gpu_the_cost_is_told(
        self, paper_claim: str, package: Package, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(measure, "has_cuda", lambda: False)
        entry = package.claims[paper_claim]
        result = Measurer(package, Silent(), state=tmp_path).measure(paper_claim, {})
        assert entry.cost is not None and entry.cost in result.why
        assert result.verdict == "not run"


def says_what_it_shows(panel: Axes) -> None:
    """A panel has a title; its axes have labels, or names at their ticks. A colour bar belongs to the panel beside."""
    if panel.get_label() == "<colorbar>":
        return
    assert panel.get_title(loc="left"), "a panel has no title"
    for axis in (panel.xaxis, panel.yaxis):
        assert _is_named(axis), f"{panel.get_title(loc='left')}: its {axis.axis_name} axis says not what it shows"


def _is_named(axis: Axis) -> bool:
    return bool(axis.get_label_text()) or isinstance(axis.get_major_formatter(), FuncFormatter | StrCategoryFormatter)


def has_its_legend(figure: Figure, panel: Axes) -> None:
    """Everything with a label stands in the legend of its panel, or in that of the figure."""
    legend = panel.get_legend()
    shown = {text.get_text() for each in (legend, *figure.legends) if each for text in each.get_texts()}
    _, labels = panel.get_legend_handles_labels()
    assert set(labels) <= shown, f"{panel.get_title(loc='left')}: not in the legend: {set(labels) - shown}"
