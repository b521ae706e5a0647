"""One build for all tests of the site, and the browser where the machine has one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from papersite.build import Places, build
from papersite.checkout import Checkout

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def checkout() -> Checkout:
    return Checkout(ROOT)


@pytest.fixture(scope="session")
def built(checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """(the site's folder, Sphinx's warnings), from nothing."""
    places = Places(tmp_path_factory.mktemp("site"))
    return places.html, build(checkout, places.work)


@pytest.fixture(scope="session")
def site(built: tuple[Path, list[str]]) -> Path:
    return built[0]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if chromium is None:
        pytest.skip("this machine has no Chromium: `apt-get install chromium`, or name one in CHROMIUM")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])  # CI is root, in a container
        yield opened
        opened.close()
