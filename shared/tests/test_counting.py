"""Counting: parameters, FLOPs, a peak of memory that equals the hand sum, and the exponent of a growth."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from papertest.counting import exponent, flops, parameters, peak_memory

KIB = 256  # float32 elements in 1 KiB


def kib(n: int) -> torch.Tensor:
    return torch.empty(n * KIB)


def test_parameters_of_a_linear_layer() -> None:
    assert parameters(torch.nn.Linear(5, 3)) == 5 * 3 + 3


def test_a_shared_parameter_counts_once() -> None:
    layers = torch.nn.Sequential(torch.nn.Linear(4, 4, bias=False), torch.nn.Linear(4, 4, bias=False))
    layers[1].weight = layers[0].weight
    assert parameters(layers) == 16


def test_trainable_leaves_out_the_frozen() -> None:
    layer = torch.nn.Linear(5, 3)
    layer.bias.requires_grad_(False)
    assert (parameters(layer), parameters(layer, trainable=True)) == (18, 15)


def test_flops_of_a_product_are_two_per_multiply_add() -> None:
    a, b = torch.randn(3, 5), torch.randn(5, 7)
    assert flops(lambda: a @ b) == 2 * 3 * 5 * 7


def test_flops_of_a_linear_layer_and_its_backward() -> None:
    x, w = torch.randn(2, 8, requires_grad=True), torch.randn(8, 4, requires_grad=True)
    assert flops(lambda: (x @ w).sum().backward()) == 3 * 2 * 2 * 8 * 4


def test_flops_of_elementwise_work_are_not_counted() -> None:
    assert flops(lambda: torch.ones(9) + 1) == 0


def test_peak_is_the_largest_sum_held_at_a_time() -> None:
    def call() -> None:
        x, y = kib(4), kib(8)
        del x
        z = kib(2)
        del y, z

    assert peak_memory(call) == 12 * 1024


def test_peak_after_a_free_counts_only_what_is_held() -> None:
    def call() -> None:
        x = kib(4)
        y = kib(8)
        del x
        z = kib(16)
        del y, z

    assert peak_memory(call) == 24 * 1024


def test_the_result_counts_as_held() -> None:
    assert peak_memory(lambda: (kib(3), kib(5))) == 8 * 1024


def test_a_call_that_allocates_nothing() -> None:
    assert peak_memory(lambda: None) == 0


def test_what_was_allocated_before_does_not_count() -> None:
    before = kib(64)
    assert peak_memory(lambda: torch.neg(before)) == 64 * 1024
    assert peak_memory(lambda: before.neg_()) == 0


def test_freeing_what_was_allocated_before_makes_no_room() -> None:
    before = [kib(64)]

    def call() -> None:
        before.clear()
        kib(16)

    assert peak_memory(call) == 16 * 1024


def test_forward_and_backward_of_a_small_graph() -> None:
    def call() -> None:
        y = x.exp()  # kept for its own backward
        z = y.exp()  # the same
        z.backward(torch.ones_like(z))  # the caller's gradient, then that of y, then that of x

    x = torch.ones(4 * KIB, requires_grad=True)
    assert peak_memory(call) == (5 * 4) * 1024  # y, z and three gradients of 4 KiB, all alive at the end


def test_backward_gives_back_what_it_has_used_up() -> None:
    def call() -> None:
        x.exp().exp().backward(torch.ones(4 * KIB))
        torch.empty(12 * KIB)

    x = torch.ones(4 * KIB, requires_grad=True)
    # After backward only the gradient of x is left: 4 + 12 KiB are less than the 20 of the graph before.
    assert peak_memory(call) == (5 * 4) * 1024
    x.grad = None

    def larger() -> None:
        x.exp().exp().backward(torch.ones(4 * KIB))
        torch.empty(40 * KIB)

    assert peak_memory(larger) == (4 + 40) * 1024


@pytest.mark.parametrize("run", range(3))
def test_attention_is_equal_from_run_to_run(run: int) -> None:
    del run
    q = torch.randn(64, 32)

    def call() -> torch.Tensor:
        return torch.softmax(q @ q.T, dim=-1) @ q

    # The scores and their softmax of 16 KiB each; the output of 8 KiB comes after the scores went.
    assert [peak_memory(call) for _ in range(3)] == [32 * 1024] * 3


@given(st.floats(-3, 3), st.floats(0.01, 100), st.lists(st.integers(1, 4096), min_size=2, max_size=6, unique=True))
def test_the_exponent_of_a_power_is_its_power(power: float, factor: float, sizes: list[int]) -> None:
    assert exponent(sizes, [factor * n**power for n in sizes]) == pytest.approx(power, abs=1e-6)


def test_the_exponent_is_of_the_least_squares_line() -> None:
    """log2 of the values is 0, 2, 1 over 0, 1, 2: a slope of 1/2."""
    assert exponent([1, 2, 4], [1, 4, 2]) == pytest.approx(0.5)
