"""What every function here asks of plain numbers: a message has the argument, what is accepted and what it was."""

from __future__ import annotations

import math
from typing import TypeGuard

import numpy as np


def is_integer(x: object) -> TypeGuard[int]:
    """An int of Python or NumPy: 3.0 and True are none, although they compare equal to one."""
    return isinstance(x, (int, np.integer)) and not isinstance(x, bool)


def is_number(x: object) -> TypeGuard[float]:
    """A finite number of Python or NumPy: neither True nor "1"."""
    return isinstance(x, (int, float, np.integer, np.floating)) and not isinstance(x, bool) and math.isfinite(x)


def check_integers(least: int, **values: object) -> None:
    """Raise ValueError for what is no integer, or one below `least`."""
    for name, x in values.items():
        if not is_integer(x):
            raise ValueError(f"{name} must be an integer, got {x!r}")
        if x < least:
            raise ValueError(f"{name} must be at least {least}, got {x}")


def check_shares(**values: object) -> None:
    """Raise ValueError for what is no number in [0, 1)."""
    for name, x in values.items():
        if not (is_number(x) and 0 <= x < 1):
            raise ValueError(f"{name} must be in [0, 1), got {x!r}")


def check_flags(**values: object) -> None:
    for name, x in values.items():
        if not isinstance(x, (bool, np.bool_)):
            raise ValueError(f"{name} must be True or False, got {x!r}")


def has_dtype(x: object, *dtypes: object) -> bool:
    """Whether x is a tensor or an array of one of these dtypes, torch's or NumPy's."""
    own = getattr(x, "dtype", None)
    return any(isinstance(own, type(dtype)) and own == dtype for dtype in dtypes)


def kind(x: object) -> str:
    """What a message says that it got."""
    dtype = getattr(x, "dtype", None)
    return repr(x) if dtype is None else f"{dtype} of shape {tuple(getattr(x, 'shape', ()))}"
