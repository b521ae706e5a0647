"""Acceptance criteria: the part of a record that says, in advance, what would count as reproducing a claim.

A measured value is a number, a list of numbers, or a table of those; each number or list of a table is a *leaf*.
A criterion is one entry such as `{ at_most = 1.1 }`; `accept` is one criterion for every leaf, or a table of them by
leaf name. A trend claim is measured once per seed, and its criterion must hold over the whole 95 % interval.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

Number = float | int
Leaf = Number | list[Number]
Value = Leaf | dict[str, Leaf]
Interval = tuple[float, float]

COMPARES = {"equals", "digits", "within", "within_percent"}  # with the paper's value
BOUNDS = {"at_least", "at_most", "between"}  # with a number in the criterion
ORDERS = {"increasing", "decreasing"}  # of a list
KINDS = (*sorted(COMPARES), *sorted(BOUNDS), *sorted(ORDERS))


@dataclass(frozen=True)
class Criterion:
    """One criterion: its kind (one of `KINDS`) and its bound."""

    kind: str
    bound: Any

    def __str__(self) -> str:
        match self.kind:
            case "equals":
                return "equal to the paper's"
            case "digits":
                return f"the paper's to {self.bound} decimal{'s' * (self.bound != 1)}"
            case "within":
                return f"within {self.bound:g} of the paper's"
            case "within_percent":
                return f"within {self.bound:g} % of the paper's"
            case "at_least":
                return f"≥ {self.bound:g}"
            case "at_most":
                return f"≤ {self.bound:g}"
            case "between":
                return f"between {self.bound[0]:g} and {self.bound[1]:g}"
            case order:
                return order

    def holds(self, interval: Interval, reported: float | None = None) -> bool:
        """Whether it holds for every point of the interval (for an exact value: low = high)."""
        low, high = interval
        if not (math.isfinite(low) and math.isfinite(high)):
            return False
        if self.kind in COMPARES:
            assert reported is not None
            match self.kind:
                case "equals":
                    return low == high == reported
                case "digits":
                    return round(low, self.bound) == round(high, self.bound) == round(reported, self.bound)
                case "within":
                    slack = float(self.bound)
                case _:
                    slack = self.bound / 100 * abs(reported)
            return reported - slack <= low and high <= reported + slack
        match self.kind:
            case "at_least":
                return low >= self.bound
            case "at_most":
                return high <= self.bound
            case _:
                return self.bound[0] <= low and high <= self.bound[1]


Accept = Criterion | dict[str, Criterion]


def parse(raw: Any) -> Accept:
    """The criterion, or the table of criteria, that `accept` in a record stands for; ValueError if it is neither."""
    if not isinstance(raw, dict) or not raw:
        raise ValueError(f"must be a criterion such as {{ at_most = 1.1 }} or a table of criteria, not {raw!r}")
    entries = cast("dict[str, Any]", raw)
    if all(isinstance(entry, dict) for entry in entries.values()):
        return {name: _criterion(entry, f"{name}: ") for name, entry in entries.items()}
    return _criterion(entries, "")


def _criterion(raw: dict[str, Any], where: str) -> Criterion:
    if len(raw) != 1:
        raise ValueError(f"{where}must hold exactly one of {', '.join(KINDS)}, not {sorted(raw) or 'nothing'}")
    ((kind, bound),) = raw.items()
    if kind not in KINDS:
        raise ValueError(f"{where}unknown criterion `{kind}`; accepted: {', '.join(KINDS)}")
    number = isinstance(bound, int | float) and not isinstance(bound, bool) and math.isfinite(bound)
    ends = cast("list[Any]", bound) if isinstance(bound, list) else []
    pair = len(ends) == 2 and all(isinstance(x, int | float) for x in ends)
    if kind == "equals" or kind in ORDERS:
        good, needs = bound is True, "true"
    elif kind == "digits":
        good, needs = isinstance(bound, int) and not isinstance(bound, bool) and bound >= 0, "a count of decimals"
    elif kind == "between":
        good, needs = pair and ends[0] <= ends[1], "[low, high]"
    else:
        good, needs = number, "a number"
    if not good:
        raise ValueError(f"{where}`{kind}` needs {needs}, not {bound!r}")
    return Criterion(kind, tuple(ends) if kind == "between" else bound)


@dataclass(frozen=True)
class Judgement:
    """Samples judged: mean and 95 % interval (None for one sample) in the value's own shape, and what failed."""

    value: Value
    interval: dict[str, list[Interval]] | None
    failures: list[str]

    @property
    def verdict(self) -> str:
        return "not reproduced" if self.failures else "reproduced"


def judge(accept: Accept, reported: Value | None, samples: Sequence[Value]) -> Judgement:
    """Judge the samples, one per seed. ValueError where a value's shape is not the criterion's or the paper's."""
    tables = [leaves(sample) for sample in samples]
    if any({k: len(v) for k, v in t.items()} != {k: len(v) for k, v in tables[0].items()} for t in tables):
        raise ValueError("the samples differ in shape from seed to seed")
    paper = leaves(reported) if reported is not None else {}
    criteria = accept if isinstance(accept, dict) else dict.fromkeys(tables[0], accept)
    if unjudged := set(criteria) ^ set(tables[0]):
        raise ValueError(f"measured {sorted(tables[0])}, but the record's criteria are for {sorted(criteria)}: "
                         f"{sorted(unjudged)} has no counterpart")  # fmt: skip
    failures: list[str] = []
    for name, criterion in criteria.items():
        rows = [table[name] for table in tables]
        label = f"{name} " if name else ""
        if criterion.kind in ORDERS:
            sign = 1 if criterion.kind == "increasing" else -1
            steps = [[sign * (b - a) for a, b in itertools.pairwise(row)] for row in rows]
            intervals, targets = [_interval(column) for column in zip(*steps, strict=True)], []
            held = [math.isfinite(low) and low > 0 for low, _ in intervals]
        else:
            intervals = [_interval(column) for column in zip(*rows, strict=True)]
            targets = paper.get(name, []) if criterion.kind in COMPARES else []
            if criterion.kind in COMPARES and len(targets) != len(intervals):
                raise ValueError(f"{label}measured {len(intervals)} numbers, the paper reports {len(targets)}")
            held = [criterion.holds(i, t) for i, t in zip(intervals, targets or [None] * len(intervals), strict=True)]
        if not held or not all(held):
            worst = held.index(False) if held else 0
            failures.append(f"{label}{_show(intervals, worst)} is not {criterion}" + _against(targets, worst))
    mean = {name: [_mean([t[name][i] for t in tables]) for i in range(len(tables[0][name]))] for name in tables[0]}
    interval = None
    if len(samples) > 1:
        interval = {n: [_interval([t[n][i] for t in tables]) for i in range(len(tables[0][n]))] for n in tables[0]}
    return Judgement(_reshape(samples[0], mean), interval, failures)


def leaves(value: Value | None) -> dict[str, list[float]]:
    """Every leaf as a list of numbers, by name; the name is "" where the value is not a table. Or ValueError."""
    table: dict[str, Any] = value if isinstance(value, dict) else {"": value}
    found: dict[str, list[float]] = {}
    for name, leaf in table.items():
        numbers = cast("list[Any]", leaf) if isinstance(leaf, list) else [leaf]
        if wrong := [x for x in numbers if not isinstance(x, int | float | None)]:
            raise ValueError(f"{name} holds {wrong[0]!r}, which is not a number".lstrip())
        found[name] = [math.nan if x is None else x for x in numbers]
    return found


def _interval(column: Sequence[float]) -> Interval:
    """Student's 95 % interval of the mean; of one sample, the sample itself."""
    if any(math.isnan(x) for x in column):  # min and max would pass over it
        return math.nan, math.nan
    if len(column) == 1 or min(column) == max(column):
        return column[0], column[0]
    from scipy.special import stdtrit  # here: it is slow to import, and exact claims do not need it

    n, mean = len(column), _mean(column)
    spread = math.sqrt(sum((x - mean) ** 2 for x in column) / (n - 1))
    half = float(stdtrit(n - 1, 0.975)) * spread / math.sqrt(n)
    return mean - half, mean + half


def _mean(column: Sequence[float]) -> float:
    return column[0] if len(column) == 1 else sum(column) / len(column)


def _reshape(like: Value, flat: dict[str, list[float]]) -> Value:
    def leaf(name: str, old: Leaf) -> Leaf:
        return list(flat[name]) if isinstance(old, list) else flat[name][0]

    if isinstance(like, dict):
        return {name: leaf(name, old) for name, old in like.items()}
    return leaf("", like)


def _show(intervals: list[Interval], i: int) -> str:
    if not intervals:
        return "(nothing)"
    low, high = intervals[i]
    return f"{low:.4g}" if low == high else f"[{low:.4g}, {high:.4g}]"


def _against(targets: Sequence[float], i: int) -> str:
    return f" {targets[i]:g}" if targets else ""
