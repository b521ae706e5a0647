"""Data: handwritten digits. What is downloaded instead comes through papertest.data, by name, version and sha256."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from sklearn.datasets import load_digits
from torch import Tensor


def digits() -> tuple[Float[Tensor, "images 64"], Int[Tensor, " images"]]:
    """1,797 digits of 8 × 8 pixels from 0 to 1, and which they are (Alpaydin and Kaynak, 1998; CC BY 4.0).

    scikit-learn carries them, so that nothing is fetched.
    """
    bunch: Any = load_digits()
    return torch.tensor(bunch.data / 16, dtype=torch.float32), torch.tensor(bunch.target)
