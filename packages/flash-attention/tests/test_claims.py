"""The claims: recomputed verdicts are the committed ones, and every figure can be drawn from the committed results."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from papertest import drawing, figures, store
from papertest.claims import FIGURES
from papertest.fingerprint import Sources
from papertest.measure import has_cuda
from papertest.package import Package

from flash_attention.reproduce import carriers, gpu

HOME = Path(__file__).parents[1]
PACKAGE = Package.at(HOME / "src" / "flash_attention")
SOURCES = Sources(PACKAGE)


def test_exact_claim(exact_claim):
    exact_claim.hold()


def test_every_claim_of_the_record_is_measured_and_no_other():
    assert set(SOURCES.claims) == set(PACKAGE.record.claims)


@pytest.mark.parametrize("name", sorted(SOURCES.figures))
def test_figure_draws_from_the_committed_results(name, tmp_path):
    results = store.recorded(PACKAGE, pytest.fail)
    importlib.import_module(SOURCES.figures[name][0][0])
    with figures.house_style():
        once, again = (FIGURES[name][0](results) for _ in range(2))
    for axis in once.axes:
        assert axis.get_title(loc="left") and axis.get_legend() is not None
        assert all(text.get_text() for text in axis.get_legend().get_texts())
    assert figures.png(once) == figures.png(again)


def test_all_figures_are_committed(tmp_path):
    results = store.recorded(PACKAGE, pytest.fail)
    drawing.draw(SOURCES, results, tmp_path / "figures")
    drawn = {path.name for path in (tmp_path / "figures").glob("*.png")}
    assert drawn == {path.name for path in (HOME / "figures").glob("*.png")}


@pytest.mark.parametrize("carrier", [carriers.SHAKESPEARE, carriers.MINILM, carriers.SMOLLM2], ids=lambda c: c.name)
def test_carriers_are_pinned(carrier):
    assert re.fullmatch(r"[0-9a-f]{64}", carrier.sha256) and re.fullmatch(r"[0-9.]+", carrier.version)


def test_flash_attention_2_counts_flops_as_we_do():
    """Section 4.1: 4 N² d a head forward, 2.5 times that backward, 3.5 for both, half of it if causal."""
    shape = gpu.paper_shape(4096, 64)
    assert shape == (4, 32, 4096, 64)
    forward = 4 * 4096**2 * 64 * 32 * 4 / 1e12
    assert gpu.tflops(shape, False, "forward", 1.0) == pytest.approx(forward)
    assert gpu.tflops(shape, True, "backward", 0.5) == pytest.approx(2.5 * forward)
    assert gpu.tflops(shape, False, "both", 1.0) == pytest.approx(3.5 * forward)


@pytest.mark.gpu
def test_memory_on_the_gpu_is_linear():
    sizes = [1024, 2048, 4096]
    peaks = [gpu.peak_on("cuda", gpu.flash_attention, (2, 4, n, 64)) for n in sizes]
    assert has_cuda() and gpu.exponent(sizes, peaks) == pytest.approx(1, abs=0.1)
