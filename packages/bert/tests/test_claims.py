"""The claims and figures of this package: papertest's own tests of them, and what is this package's alone."""

from __future__ import annotations

import pytest
from test_mutations_exact import EXACT, NOT_REPRODUCED

from papertest import store
from papertest.package import Package
from papertest.suite import TestClaims  # noqa: F401

from bert.reproduce.data import corpora, sets


def test_the_committed_verdicts_are_those_that_the_mistakes_turn():
    package = Package.find("bert")
    results = store.recorded(package, pytest.fail)
    assert {claim for claim in EXACT if results[claim].verdict != "reproduced"} == NOT_REPRODUCED


def test_every_text_names_its_licence():
    assert all(part.licence for part in (sets.MOVIES, sets.CHINESE, sets.NEWSGROUPS_AND_REUTERS))
    assert all(part.licence for part in (corpora.BIBLES, corpora.DJANGO))
