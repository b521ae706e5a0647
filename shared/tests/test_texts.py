"""The Bible and Shakespeare: what is fetched is pinned, and what is held out is there and in one part alone."""

from __future__ import annotations

import re

import pytest

from papertest import texts


@pytest.mark.parametrize("carrier", [texts.BIBLE, texts.SHAKESPEARE], ids=lambda carrier: carrier.name)
def test_carriers_are_pinned(carrier) -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", carrier.sha256)
    assert re.fullmatch(r"[0-9]+(\.[0-9a-z]+)+", carrier.version)
    assert carrier.licence


def test_what_is_held_out_is_there_once() -> None:
    for source, found in enumerate((texts.bible(), texts.plays())):
        held_out = [name for names in texts.HELD_OUT.values() for name in names[source]]
        assert set(held_out) <= set(found) and len(held_out) == len(set(held_out))
