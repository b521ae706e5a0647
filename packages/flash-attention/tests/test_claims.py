"""The claims: recomputed verdicts are the committed ones, and every figure can be drawn from the committed results."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from papertest import figures, measure, store
from papertest.accept import judge
from papertest.claims import Run
from papertest.fingerprint import Sources
from papertest.package import Package

from flash_attention import flash_attention
from flash_attention.reproduce import carriers, exact, gpu, harness, memory

HOME = Path(__file__).parents[1]
PACKAGE = Package.at(HOME / "src" / "flash_attention")
SOURCES = Sources(PACKAGE)


def test_exact_claim(exact_claim):
    exact_claim.hold()


def test_every_claim_of_the_record_is_measured_and_no_other():
    assert set(SOURCES.claims) == set(PACKAGE.record.claims)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", sorted(SOURCES.figures))
def test_figure_draws_from_the_committed_results(name):
    results = store.recorded(PACKAGE, pytest.fail)
    with figures.house_style():
        once, again = (SOURCES.drawing(name)(results) for _ in range(2))
    for axis in once.axes:
        named = [text.get_text().isalpha() for text in axis.get_xticklabels()]  # bars: each has its name
        assert axis.get_title(loc="left") and (axis.get_xlabel() or all(named))
        assert all(text.get_text() for text in axis.get_legend().get_texts())
    assert figures.png(once) == figures.png(again)


def test_every_figure_is_committed_and_no_other():
    assert set(SOURCES.figures) == {path.stem for path in (HOME / "figures").iterdir()}


@pytest.mark.parametrize("carrier", [carriers.SHAKESPEARE, carriers.MINILM, carriers.SMOLLM2], ids=lambda c: c.name)
def test_carriers_are_pinned(carrier):
    assert re.fullmatch(r"[0-9a-f]{64}", carrier.sha256) and re.fullmatch(r"[0-9.]+", carrier.version)


def test_weights_are_renamed_and_turned():
    """Rotary pairs are neighbours in the file, rows (0, 1) and (2, 3) of a head, and halves here, (0, 2) and (1, 3)."""
    assert carriers._transformers_name("blk.3.attn_q.weight") == "model.layers.3.self_attn.q_proj.weight"
    turned = carriers._halves(torch.arange(8)[:, None], heads=2)
    assert turned.flatten().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_draw_is_from_the_seed_alone():
    first, again, other = (harness.draw(seed, (2, 3), "cpu", torch.float64) for seed in (0, 0, 1))
    assert all(a.equal(b) and a.dtype == torch.float64 for a, b in zip(first, again, strict=True))
    assert not first[0].equal(other[0]) and not first[0].equal(first[1])


def test_results_are_the_output_and_the_gradients():
    """With a single key, O = V, dV = dO, and neither Q nor K matters."""
    inputs = harness.draw(0, (1, 1, 1, 4), "cpu")
    o, dq, dk, dv = exact.results(flash_attention, inputs, torch.float64, {})
    assert o.equal(inputs[2].double()) and dv.equal(inputs[3].double()) and not dq.any() and not dk.any()


def test_the_exponent_of_a_power_is_its_power():
    assert memory.exponent([2, 4, 8], [12, 48, 192]) == pytest.approx(2)


def test_flash_attention_2_counts_flops_as_we_do():
    """Section 4.1: 4 N² d a head forward, 2.5 times that backward, 3.5 for both, half of it if causal."""
    shape = gpu.paper_shape(4096, 64)
    assert shape == (4, 32, 4096, 64)
    forward = 4 * 4096**2 * 64 * 32 * 4 / 1e12
    assert gpu.tflops(shape, False, "forward", 1.0) == pytest.approx(forward)
    assert gpu.tflops(shape, True, "backward", 0.5) == pytest.approx(2.5 * forward)
    assert gpu.tflops(shape, False, "both", 1.0) == pytest.approx(3.5 * forward)


def test_worst_is_of_forward_at_one_length():
    cases = [(512, "forward", 0.1), (4096, "backward", 0.2), (4096, "forward", 0.9), (4096, "forward", 0.8)]
    rows = [{"n": n, "pass": what, "of_fastest": share} for n, what, share in cases]
    assert gpu.worst(rows, 4096) == 0.8


@pytest.mark.parametrize("claim", [i for i, c in PACKAGE.record.claims.items() if c.tier == "paper"])
def test_without_a_gpu_the_cost_is_told(claim, monkeypatch):
    monkeypatch.setattr(measure, "has_cuda", lambda: False)
    entry = PACKAGE.record.claims[claim]
    result = measure.Measurer(PACKAGE, measure.Silent()).measure(claim)
    assert entry.needs == "cuda" and result.verdict == "not run" and entry.cost in result.why


@pytest.mark.gpu
def test_memory_on_the_gpu():
    measured = SOURCES.function("gpu-memory")(
        Run(0, "cuda", False, {}, measure.Silent().track, lambda run, f, args: f(run, *args))
    )
    assert judge(PACKAGE.record.claims["gpu-memory"].accept, None, [measured.value]).verdict == "reproduced"
