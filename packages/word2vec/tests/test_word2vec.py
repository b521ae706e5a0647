"""Softmax against torch's, its errors, and its gradient in float64."""

from __future__ import annotations

import pytest
import torch

from word2vec import softmax


def test_agrees_with_torch(seed):
    x = torch.randn(7, 33, dtype=torch.float64)
    torch.testing.assert_close(softmax(x), torch.softmax(x, dim=1), rtol=1e-14, atol=0)


def test_gradient(seed):
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(softmax, x)


@pytest.mark.parametrize("x", [torch.ones(3), torch.ones(2, 2, dtype=torch.int64)])
def test_bad_input_is_named(x):
    with pytest.raises(ValueError, match="x: .* accepted: a floating-point matrix"):
        softmax(x)
