"""What every argument is held to: the ValueErrors name it, what it was, and what is accepted."""

from __future__ import annotations

import math
from typing import Any


def whole(name: str, value: Any, least: int = 1) -> None:
    """Raises ValueError for what is not an int of at least `least`; True and 2.0 are none."""
    if type(value) is not int or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")


def number(name: str, value: Any, above: float = 0, most: float = math.inf) -> None:
    """Raises ValueError for what is not a finite number above `above` and at most `most`."""
    if type(value) not in (int, float) or not above < value <= most or value == math.inf:
        bound = f"above {above:g}" if most == math.inf else f"above {above:g} and at most {most:g}"
        raise ValueError(f"{name} must be a finite number {bound}, got {value!r}")


def flag(name: str, value: Any) -> None:
    """Raises ValueError for what is not True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {value!r}")


def one_of(name: str, value: Any, accepted: tuple[str, ...]) -> None:
    """Raises ValueError for what is none of these words."""
    if not isinstance(value, str) or value not in accepted:
        raise ValueError(f"{name} must be {' or '.join(map(repr, accepted))}, got {value!r}")
