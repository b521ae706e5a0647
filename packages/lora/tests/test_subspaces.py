"""Eq. 4 and Table 7's norms, where the answer is known."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lora.reproduce.trend import directions, projections, similarity

NOISE = torch.Generator().manual_seed(0)


def test_directions_are_orthonormal_and_in_the_order_of_their_singular_values():
    a = torch.diag(torch.tensor([1.0, 3.0, 2.0]))
    assert torch.equal(directions(a).abs(), torch.eye(3, dtype=torch.float64)[[1, 2, 0]])


def test_a_subspace_is_like_itself_and_unlike_an_orthogonal_one():
    rows = torch.linalg.qr(torch.randn(12, 12, generator=NOISE))[0]
    one, other = (3 - torch.arange(3.0))[:, None] * rows[:3], (4 - torch.arange(4.0))[:, None] * rows[3:7]
    assert similarity(one, one).diagonal() == pytest.approx(1)
    assert similarity(one, other).abs().max() < 1e-9
    assert similarity(one, rows[:3].flip(0) * torch.tensor([[3.0], [2.0], [1.0]]))[2, 2] == pytest.approx(1)


def test_a_subspace_inside_a_larger_one_has_similarity_1():
    large = torch.randn(6, 20, generator=NOISE)
    small = large[:2] + large[2:4]
    assert similarity(small, large)[:, 5] == pytest.approx(1)


@given(st.integers(1, 5), st.integers(1, 7), st.integers(0, 99))
def test_equation_4_written_out(i, j, seed):
    a, b = (torch.randn(n, 10, generator=torch.Generator().manual_seed(seed + n)) for n in (5, 7))
    u, v = directions(a)[:i], directions(b)[:j]
    phi = similarity(a, b)[i - 1, j - 1]
    assert phi == pytest.approx(float(torch.linalg.norm(u @ v.T) ** 2 / min(i, j)))
    assert -1e-9 <= phi <= 1 + 1e-9


def test_projections_of_a_diagonal_matrix():
    w = torch.diag(torch.tensor([10.0, 8.0, 3.0, 1.0, 0.5]))
    delta = torch.zeros(5, 5)
    delta[3, 3], delta[2, 2] = 6.0, 5.0
    found = projections(w, delta, 2, NOISE)
    assert found["delta"] == pytest.approx(10**0.5)  # W has 1 and 3 where ΔW has 6 and 5
    assert found["w"] == pytest.approx(164**0.5)
    assert found["norm_delta"] == pytest.approx(61**0.5)
    assert found["norm_w"] == pytest.approx(174.25**0.5)
    assert found["factor"] == pytest.approx((61 / 10) ** 0.5)
    assert found["random"] < found["w"]


def test_random_directions_do_not_depend_on_the_weights():
    w, delta = torch.randn(2, 9, 9, generator=NOISE)
    first, second = (projections(w, d, 3, torch.Generator().manual_seed(7))["random"] for d in (delta, w))
    assert first == second
