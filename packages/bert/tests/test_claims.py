"""The claims and figures of this package: papertest's own tests of them, and what is this package's alone."""

from __future__ import annotations

from papertest.suite import TestClaims  # noqa: F401

from bert.reproduce.data import corpora, sets


def test_every_text_names_its_licence():
    assert all(part.licence for part in (sets.MOVIES, sets.CHINESE, sets.NEWSGROUPS_AND_REUTERS))
    assert all(part.licence for part in (corpora.BIBLES, corpora.DJANGO))
