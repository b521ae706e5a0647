"""What every argument is held to: the ValueErrors name it, what it was, and what is accepted."""

from __future__ import annotations

import math
from typing import Any


def whole(name: str, value: Any, least: int = 1, most: int | None = None, of: str = "") -> None:
    """Raises ValueError for what is not an int from `least` to `most`; True and 2.0 are none. of: what `most` is."""
    if type(value) is not int or value < least or (most is not None and value > most):
        bound = f"of at least {least}" if most is None else f"from {least} to {of}{most}"
        raise ValueError(f"{name} must be a whole number {bound}, got {value!r}")


def number(name: str, value: Any, above: float = 0) -> None:
    """Raises ValueError for what is not a finite number above `above`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not above < value < math.inf:
        raise ValueError(f"{name} must be a finite number above {above:g}, got {value!r}")


def flag(name: str, value: Any) -> None:
    """Raises ValueError for what is not True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {value!r}")


def one_of(name: str, value: Any, accepted: tuple[str, ...]) -> None:
    """Raises ValueError for what is none of these words."""
    if value not in accepted:
        raise ValueError(f"{name} must be {' or '.join(map(repr, accepted))}, got {value!r}")
