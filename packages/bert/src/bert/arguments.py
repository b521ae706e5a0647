"""What arguments of every kind are accepted, by torch and JAX alike: a message has the name and what was given."""

from __future__ import annotations

import math
import operator
import reprlib
from typing import Any

import numpy as np


def whole(x: Any) -> bool:
    """Whether it is an integer, of Python, NumPy, torch or JAX; True and 1.0 are none."""
    try:
        operator.index(x)
    except TypeError:
        return False
    return not isinstance(x, bool) and not str(getattr(x, "dtype", "")).endswith("bool")


def number(x: Any) -> bool:
    """Whether it is a finite real number, of Python or NumPy; True and "1" are none."""
    return isinstance(x, int | float | np.integer | np.floating) and not isinstance(x, bool) and math.isfinite(x)


def check_flag(name: str, x: object) -> None:
    if not isinstance(x, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, got {x!r}")


def check_whole(name: str, x: Any, least: int) -> int:
    """It as an int of Python."""
    if not whole(x):
        raise ValueError(f"{name} must be a whole number, got {x!r}")
    if x < least:
        raise ValueError(f"{name} must be at least {least}, got {x}")
    return operator.index(x)


def check_kind(name: str, x: Any, kind: type[Any] | tuple[type[Any], ...], what: str) -> None:
    if not isinstance(x, kind):
        raise ValueError(f"{name} must be {what}, got {reprlib.repr(x)}")
