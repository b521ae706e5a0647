"""The claims: recomputed verdicts are the committed ones, and every figure can be drawn from the committed results."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from matplotlib.category import StrCategoryFormatter
from matplotlib.ticker import FuncFormatter
from test_mutations_exact import EXACT, NOT_REPRODUCED

from papertest import figures, measure, store
from papertest.data import Carrier
from papertest.fingerprint import Sources
from papertest.package import Package

from bert.reproduce import datasets, weights

HOME = Path(__file__).parents[1]
PACKAGE = Package.at(HOME / "src" / "bert")
SOURCES = Sources(PACKAGE)
CARRIERS = [each for module in (datasets, weights) for each in vars(module).values() if isinstance(each, Carrier)]
PAPER = [i for i, c in PACKAGE.record.claims.items() if c.tier == "paper"]


def test_exact_claim(exact_claim):
    exact_claim.hold()


def test_every_claim_of_the_record_is_measured_and_no_other():
    assert set(SOURCES.claims) == set(PACKAGE.record.claims)


def test_the_committed_verdicts_are_those_that_the_mistakes_turn():
    results = store.recorded(PACKAGE, pytest.fail)
    assert {claim for claim in EXACT if results[claim].verdict != "reproduced"} == NOT_REPRODUCED


def test_every_figure_draws_claims_of_the_record():
    for _, claims in SOURCES.figures.values():
        assert claims and set(claims) <= set(PACKAGE.record.claims)


def says_what_it_shows(axis):
    """An axis (x or y) has a label, or its ticks have names."""
    return axis.get_label_text() or isinstance(axis.get_major_formatter(), FuncFormatter | StrCategoryFormatter)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", sorted(SOURCES.figures))
def test_figure_draws_from_the_committed_results(name):
    results = store.recorded(PACKAGE, pytest.fail)
    with figures.house_style():
        once, again = (SOURCES.drawing(name)(results) for _ in range(2))
    for panel in once.axes:
        if panel.get_label() == "<colorbar>":  # it belongs to the image beside it
            continue
        assert panel.get_title(loc="left")
        assert says_what_it_shows(panel.xaxis)
        assert says_what_it_shows(panel.yaxis)
        _, labels = panel.get_legend_handles_labels()
        legend = panel.get_legend()
        assert labels == ([text.get_text() for text in legend.get_texts()] if legend else [])
    assert figures.png(once) == figures.png(again)


def test_every_figure_is_committed_and_no_other():
    assert set(SOURCES.figures) == {path.stem for path in (HOME / "figures").iterdir()}


def test_every_result_is_of_a_claim_of_the_record():
    assert {path.stem for path in (HOME / "results").iterdir()} == set(PACKAGE.record.claims)


@pytest.mark.parametrize("carrier", CARRIERS, ids=lambda carrier: carrier.name)
def test_carriers_are_pinned(carrier):
    assert re.fullmatch(r"[0-9a-f]{64}", carrier.sha256) and re.fullmatch(r"[0-9]+(\.[0-9a-z]+)+", carrier.version)
    assert carrier.licence


def test_carriers_are_named_once():
    names = [carrier.name for carrier in {id(carrier): carrier for carrier in CARRIERS}.values()]
    assert len(set(names)) == len(names) == 6


@pytest.mark.parametrize("claim", PAPER)
def test_without_a_gpu_the_cost_is_told(claim, monkeypatch):
    monkeypatch.setattr(measure, "has_cuda", lambda: False)
    entry = PACKAGE.record.claims[claim]
    result = measure.Measurer(PACKAGE, measure.Silent()).measure(claim)
    assert entry.needs == "cuda" and result.verdict == "not run" and entry.cost in result.why
