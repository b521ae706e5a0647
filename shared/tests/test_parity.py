"""Parity: errors, weights carried to JAX, gradients in float64, and the first layer that differs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from papertest.parity import (
    assert_gradients_agree,
    assert_layers_agree,
    gradients,
    relative_error,
    rms_error,
    to_jax,
    to_numpy,
)


def test_relative_error_is_over_the_largest_of_theirs() -> None:
    assert relative_error([1.0, 2.0, 3.5], [1.0, 2.0, 4.0]) == 0.125


def test_relative_error_against_zeros_is_the_difference() -> None:
    assert relative_error([0.25, 0.0], [0.0, 0.0]) == 0.25


def test_relative_error_of_nothing_is_zero() -> None:
    assert relative_error(torch.empty(0), torch.empty(0)) == 0


def test_relative_error_needs_equal_shapes() -> None:
    with pytest.raises(ValueError, match=r"ours has shape \(3,\), theirs \(1, 3\): they must be equal"):
        relative_error(torch.zeros(3), torch.zeros(1, 3))


def test_rms_error() -> None:
    assert rms_error([3.0, 4.0], [0.0, 0.0]) == pytest.approx(12.5**0.5)


def test_errors_are_taken_in_float64() -> None:
    assert relative_error(torch.tensor([1 + 1e-12], dtype=torch.float64), [1.0]) == pytest.approx(
        1e-12, rel=1e-3, abs=0
    )
    assert rms_error(torch.tensor([1e30]), torch.zeros(1)) == pytest.approx(1e30)  # its square is beyond float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_torch_and_jax_give_the_same_numpy(dtype: torch.dtype) -> None:
    x = torch.tensor([[1.5, -2.0], [0.25, 8.0]], dtype=dtype)
    with jax.enable_x64(True):
        y = to_jax(x)
        assert y.dtype.name == str(dtype).removeprefix("torch.")
        assert to_numpy(y).dtype == to_numpy(x).dtype == np.float64
        assert relative_error(x, y) == 0


def test_integers_stay_integers() -> None:
    assert to_numpy(torch.tensor([1, 2])).dtype == to_numpy([1, 2]).dtype == np.int64


def test_weights_are_carried_across_with_their_structure() -> None:
    tree = {"w": torch.ones(2, 3), "layers": [torch.zeros(1), (torch.arange(2), "name", None)]}
    carried = to_jax(tree)
    assert isinstance(carried["w"], jax.Array)
    assert carried["w"].shape == (2, 3)
    assert isinstance(carried["layers"], list)
    assert carried["layers"][1][0].tolist() == [0, 1]
    assert carried["layers"][1][1:] == ("name", None)


def test_a_torch_function_and_its_jax_peer() -> None:
    torch.manual_seed(0)
    q, k = torch.randn(8, 4), torch.randn(8, 4)
    ours = torch.softmax(q @ k.T, dim=-1)
    assert relative_error(ours, jax.nn.softmax(to_jax(q) @ to_jax(k).T)) < 1e-6
    assert relative_error(ours, jax.nn.softmax(to_jax(q) @ to_jax(k).T / 2)) > 0.1
    assert relative_error(jnp.asarray(ours.numpy()), ours) == 0


def test_layers_that_agree() -> None:
    assert_layers_agree({"a": [1.0], "b": [2.0]}, {"a": [1.0], "b": [2.0 + 1e-9]}, 1e-8)


def test_the_first_layer_that_differs_is_named() -> None:
    ours = {"embedding": [1.0], "attention": [1.5], "head": [9.0]}
    theirs = {"embedding": [1.0], "attention": [1.0], "head": [1.0]}
    with pytest.raises(AssertionError) as caught:
        assert_layers_agree(ours, theirs, 1e-3)
    lines = str(caught.value).splitlines()
    assert lines[0] == "attention differs by 5.00e-01 (allowed 1e-03)"
    assert [line.endswith("<- first to differ") for line in lines[1:]] == [False, True, False]
    assert lines[3].split() == ["head:", "8.00e+00"]


def test_a_layer_that_is_not_a_number_differs() -> None:
    with pytest.raises(AssertionError, match="a differs by nan"):
        assert_layers_agree({"a": [float("nan")]}, {"a": [1.0]}, 1.0)


def test_layers_need_the_same_names_in_the_same_order() -> None:
    with pytest.raises(ValueError, match="the same names in the same order"):
        assert_layers_agree({"a": [1.0], "b": [1.0]}, {"b": [1.0], "a": [1.0]}, 1.0)


def test_gradients_are_of_the_weighted_sum() -> None:
    x, y = torch.tensor([2.0, 3.0]), torch.tensor([5.0, 7.0])
    output, (of_x, of_y) = gradients(torch.mul, [x, y], torch.tensor([1.0, 10.0]))
    assert output.tolist() == [10, 21]
    assert (of_x.tolist(), of_y.tolist()) == ([5, 70], [2, 30])
    assert not x.requires_grad


class Square(torch.autograd.Function):
    """x², with a gradient that is `factor` times x: right for 2."""

    @staticmethod
    def forward(ctx, x, factor):
        ctx.save_for_backward(x)
        ctx.factor = factor
        return x * x

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.factor * ctx.saved_tensors[0], None


def test_a_right_gradient_agrees_in_float64() -> None:
    seen: list[torch.dtype] = []

    def ours(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.dtype)
        return Square.apply(x, 2)

    assert_gradients_agree(ours, torch.square, [torch.randn(5)])
    assert seen == [torch.float64]


def test_a_wrong_gradient_is_found_though_the_output_is_right() -> None:
    with pytest.raises(AssertionError) as caught:
        assert_gradients_agree(lambda x: Square.apply(x, 2.000001), torch.square, [torch.randn(5)])
    assert str(caught.value).startswith("gradient of input 0 differs")


def test_the_input_whose_gradient_is_wrong_is_named() -> None:
    inputs = [torch.randn(4), torch.randn(4)]
    with pytest.raises(AssertionError, match="gradient of input 1 differs"):
        assert_gradients_agree(lambda x, y: x * (2 * y - y.detach()), torch.mul, inputs)


def test_a_gradient_that_is_all_rounding_counts_as_zero() -> None:
    inputs = [torch.randn(4), torch.randn(4)]
    assert_gradients_agree(lambda x, y: 0 * x + y, lambda x, y: 3e-17 * x + y, inputs)
    with pytest.raises(AssertionError, match="gradient of input 0 differs"):
        assert_gradients_agree(lambda x, y: 0 * x + y, lambda x, y: 1e-12 * x + y, inputs)


def test_a_gradient_of_nan_is_no_rounding() -> None:
    inputs = [torch.randn(4), torch.randn(4)]
    with pytest.raises(AssertionError, match="gradient of input 0 differs"):
        assert_gradients_agree(lambda x, y: torch.sqrt(x - x) + y, lambda x, y: 0 * x + y, inputs)


def test_a_wrong_output_comes_before_the_gradients() -> None:
    with pytest.raises(AssertionError, match="output differs"):
        assert_gradients_agree(lambda x: x**2 + 1, torch.square, [torch.randn(3)])
