"""The claims: what all packages' tests of them hold, and what only these have."""

from __future__ import annotations

import pytest
import torch

from papertest.accept import judge
from papertest.claims import Run
from papertest.measure import Silent
from papertest.mutation import Mutations
from papertest.suite import TestClaims  # noqa: F401

from flash_attention import flash_attention
from flash_attention.reproduce import attentions, paper
from flash_attention.reproduce.exact import identity

BENCH = Mutations(__file__)


def test_draw_is_from_the_seed_alone():
    first, again, other = (attentions.draw(seed, (2, 3), "cpu", torch.float64) for seed in (0, 0, 1))
    assert all(a.equal(b) and a.dtype == torch.float64 for a, b in zip(first, again, strict=True))
    assert not first[0].equal(other[0]) and not first[0].equal(first[1])


def test_results_are_the_output_and_the_gradients():
    """With a single key, O = V, dV = dO, and neither Q nor K matters."""
    inputs = attentions.draw(0, (1, 1, 1, 4), "cpu")
    o, dq, dk, dv = identity.results(flash_attention, inputs, torch.float64, {})
    assert o.equal(inputs[2].double()) and dv.equal(inputs[3].double()) and not dq.any() and not dk.any()


def test_flash_attention_2_counts_flops_as_we_do():
    """Section 4.1: 4 N² d per head forward, 2.5 times that backward, 3.5 for both, half of it if causal."""
    shape = paper.paper_shape(4096, 64)
    assert shape == (4, 32, 4096, 64)
    forward = 4 * 4096**2 * 64 * 32 * 4 / 1e12
    assert paper.tflops(shape, False, "forward", 1.0) == pytest.approx(forward)
    assert paper.tflops(shape, True, "backward", 0.5) == pytest.approx(2.5 * forward)
    assert paper.tflops(shape, False, "both", 1.0) == pytest.approx(3.5 * forward)


def test_worst_is_of_forward_at_one_length():
    cases = [(512, "forward", 0.1), (4096, "backward", 0.2), (4096, "forward", 0.9), (4096, "forward", 0.8)]
    rows = [{"n": n, "pass": what, "of_fastest": share} for n, what, share in cases]
    assert paper.worst(rows, 4096) == 0.8


@pytest.mark.gpu
def test_memory_on_the_gpu():
    run = Run(0, "cuda", False, {}, Silent().track, lambda run, function, args: function(run, *args))
    measured = paper.gpu_memory(run)
    assert judge(BENCH.record.claims["gpu-memory"].accept, None, [measured.value]).verdict == "reproduced"
