"""Acceptance criteria: the part of a record that says, in advance, what would count as reproducing a claim.

A measured value is a number, a list of numbers, or a table of those; each number or list of a table is a *part*.
A criterion is one entry such as `{ at_most = 1.1 }`; `accept` is one criterion for every part, or a table of them by
the part's name. Every criterion but an ordering is a region that the number has to lie in, so that an interval lies
inside it (it holds), outside of it (it fails), or across its border (it is undecided).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, cast

Number = float | int
Leaf = Number | list[Number]
Value = Leaf | dict[str, Leaf]
Interval = tuple[float, float]
State = Literal["holds", "fails", "straddles"]
Scale = Literal["linear", "log"] | Interval  # how an interval is formed: an Interval is the range of a bounded quantity

COMPARES = {"equals", "digits", "within", "within_percent"}  # with the paper's value
BOUNDS = {"at_least", "at_most", "between"}  # with a number in the criterion
ORDERS = {"increasing", "decreasing"}  # of a list
KINDS = (*sorted(COMPARES), *sorted(BOUNDS), *sorted(ORDERS))
MOST_SEEDS = 1000  # past which nobody would measure


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
                return f"≥ {self.bound:.12g}"
            case "at_most":
                return f"≤ {self.bound:.12g}"
            case "between":
                return f"between {self.bound[0]:.12g} and {self.bound[1]:.12g}"
            case order:
                return order

    def region(self, paper: float | None = None) -> Interval:
        """The accepted numbers, both ends included. Sums are decimal: half of the last printed digit is a half."""
        match self.kind:
            case "at_least":
                return self.bound, math.inf
            case "at_most":
                return -math.inf, self.bound
            case "between":
                return self.bound
            case _:
                assert paper is not None and self.kind in COMPARES
        middle = Decimal(repr(paper))
        match self.kind:
            case "equals":
                slack = Decimal(0)
            case "digits":
                slack = Decimal(5).scaleb(-self.bound - 1)
            case "within":
                slack = Decimal(repr(self.bound))
            case _:
                slack = Decimal(repr(self.bound)) / 100 * abs(middle)
        return float(middle - slack), float(middle + slack)


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
    ends = cast("list[Any]", bound) if isinstance(bound, list) else []
    if kind == "equals" or kind in ORDERS:
        good, needs = bound is True, "true"
    elif kind == "digits":
        good, needs = isinstance(bound, int) and not isinstance(bound, bool) and bound >= 0, "a count of decimals"
    elif kind == "between":
        good, needs = len(ends) == 2 and all(map(_number, ends)) and ends[0] <= ends[1], "[low, high]"
    elif kind in COMPARES:
        good, needs = _number(bound) and not ends and float(cast("float", bound)) >= 0, "a number that is not negative"
    else:
        good, needs = _number(bound), "a number"
    if not good:
        raise ValueError(f"{where}`{kind}` needs {needs}, not {bound!r}")
    return Criterion(kind, tuple(ends) if kind == "between" else bound)


def parse_scale(raw: Any) -> Scale | dict[str, Scale]:
    """What `scale` in a record stands for: "linear", "log", [low, high], or a table of these; ValueError otherwise."""
    if isinstance(raw, dict):
        return {str(name): _scale(entry, f"{name}: ") for name, entry in cast("dict[Any, Any]", raw).items()}
    return _scale(raw, "")


def _scale(raw: Any, where: str) -> Scale:
    if raw in ("linear", "log"):
        return raw
    ends = cast("list[Any]", raw) if isinstance(raw, list) else []
    if len(ends) == 2 and all(map(_number, ends)) and ends[0] < ends[1]:
        return float(ends[0]), float(ends[1])
    raise ValueError(f'{where}must be "linear", "log" or the range [low, high] of a bounded quantity, not {raw!r}')


def _number(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x)


@dataclass(frozen=True)
class Judgement:
    """Samples judged; every table is by part, with "" for a value that is no table.

    value: the estimate, in the value's own shape (the mean; of ratios the geometric mean)
    interval: its 95 % interval, None for one sample
    bounds: the accepted regions, empty for an ordering
    states: whether each part holds, fails, or is undecided
    why: one sentence for each part that does not hold
    seeds: how many samples would decide it at the spread seen; None where it is decided or no number would do
    """

    value: Value
    interval: dict[str, list[Interval]] | None
    bounds: dict[str, list[Interval]]
    states: dict[str, State]
    why: dict[str, str]
    seeds: int | None

    @property
    def verdict(self) -> Literal["reproduced", "not reproduced", "undecided"]:
        if "fails" in self.states.values():
            return "not reproduced"
        return "undecided" if "straddles" in self.states.values() else "reproduced"

    @property
    def deciding(self) -> str:
        """The part that a reader should see: the first that fails, else the first that straddles, else the first."""
        order: tuple[State, ...] = ("fails", "straddles", "holds")
        return next(name for state in order for name, found in self.states.items() if found == state)


def judge(
    accept: Accept, paper: Value | None, samples: Sequence[Value], scale: Scale | Mapping[str, Scale] = "linear"
) -> Judgement:
    """Judge the samples: one per seed, or one per round of a speed claim.

    paper: the paper's value of the measured quantity; only criteria that compare need it
    Raises ValueError where a value's shape is not the criterion's or the paper's, where there is nothing to judge, and
    where a value is outside of its scale.
    """
    tables = [leaves(sample) for sample in samples]
    if not tables or not tables[0]:
        raise ValueError("nothing was measured, so there is nothing to judge")
    if any({k: len(v) for k, v in t.items()} != {k: len(v) for k, v in tables[0].items()} for t in tables):
        raise ValueError("the samples differ in shape from seed to seed")
    targets = leaves(paper) if paper is not None else {}
    criteria = accept if isinstance(accept, dict) else dict.fromkeys(tables[0], accept)
    if unjudged := set(criteria) ^ set(tables[0]):
        raise ValueError(f"measured {sorted(tables[0])}, but the record's criteria are for {sorted(criteria)}: "
                         f"{sorted(unjudged)} has no counterpart")  # fmt: skip
    parts = {
        name: _part(name, criterion, [t[name] for t in tables], targets.get(name, []), _scale_of(scale, name))
        for name, criterion in criteria.items()
    }
    states: dict[str, State] = {name: part.state for name, part in parts.items()}
    undecided = [] if "fails" in states.values() else [part for part in parts.values() if part.state == "straddles"]
    needed = [part.seeds for part in undecided]
    against = [part.seeds for part in undecided if part.outside and part.seeds]
    return Judgement(
        value=_reshape(samples[0], {name: part.estimate for name, part in parts.items()}),
        interval={name: part.intervals for name, part in parts.items()} if len(samples) > 1 else None,
        bounds={name: part.bounds for name, part in parts.items() if part.bounds},
        states=states,
        why={name: part.why for name, part in parts.items() if part.why},
        seeds=min(against) if against else None if None in needed else max([n for n in needed if n], default=None),
    )


@dataclass(frozen=True)
class _Part:
    estimate: list[float]
    intervals: list[Interval]
    bounds: list[Interval]
    state: State
    why: str
    seeds: int | None
    outside: bool  # the estimate itself is outside of the region: more seeds would tell that it fails


def _part(name: str, criterion: Criterion, rows: list[list[float]], targets: list[float], scale: Scale) -> _Part:
    label = f"{name} " if name else ""
    columns = list(zip(*rows, strict=True))
    if not columns:
        raise ValueError(f"{label}holds no numbers, so there is nothing to judge")
    estimates, intervals = zip(*(estimate(column, scale, label) for column in columns), strict=True)
    bounds: list[Interval] = []
    sign = -1 if criterion.kind == "decreasing" else 1
    if criterion.kind in ORDERS:
        if len(columns) < 2:
            raise ValueError(f"{label}is one number, and `{criterion}` needs at least two")
        judged = [[sign * (b - a) for a, b in zip(*pair, strict=True)] for pair in itertools.pairwise(columns)]
        regions: list[Interval] = [(math.nextafter(0, 1), math.inf)] * len(judged)
        scale = "linear"
        tested = [estimate(column, scale, label)[1] for column in judged]
    else:
        if criterion.kind in COMPARES and len(targets) != len(columns):
            raise ValueError(f"{label}measured {len(columns)} numbers, the paper reports {len(targets)}")
        judged, tested = columns, list(intervals)
        wanted = targets if criterion.kind in COMPARES else [None] * len(columns)
        bounds = regions = [criterion.region(target) for target in wanted]
    states = [_state(interval, region, len(rows)) for interval, region in zip(tested, regions, strict=True)]
    state: State = "fails" if "fails" in states else "straddles" if "straddles" in states else "holds"
    if state == "holds":
        return _Part(list(estimates), list(intervals), bounds, state, "", None, False)
    worst = states.index(state)
    shown = _show(tested[worst])
    if math.isnan(tested[worst][0]):
        why = f"{label}is not a finite number"
    elif criterion.kind in ORDERS:
        why = (f"{label}from {_show(intervals[worst])} to {_show(intervals[worst + 1])}: "
               f"{'rise' if sign > 0 else 'fall'} of {shown}, not {criterion}")  # fmt: skip
    else:
        against = f" {targets[worst]:g}" if criterion.kind in COMPARES else ""
        why = f"{label}{shown} {'straddles' if state == 'straddles' else 'is not'} {criterion}{against}"
    undecided = [i for i, s in enumerate(states) if s == "straddles"]
    needs = [_needed(judged[i], regions[i], scale) for i in undecided]
    outside = any(_outside(judged[i], regions[i], scale) for i in undecided)
    seeds = None if state == "fails" or None in needs else max((n for n in needs if n), default=None)
    return _Part(list(estimates), list(intervals), bounds, state, why, seeds, outside)


def _state(interval: Interval, region: Interval, samples: int) -> State:
    low, high = interval
    if math.isnan(low) or math.isnan(high):  # of one sample: the implementation's fault; of several: no evidence
        return "fails" if samples == 1 else "straddles"
    if math.isfinite(low) and math.isfinite(high) and region[0] <= low and high <= region[1]:
        return "holds"
    return "straddles" if high >= region[0] and low <= region[1] and low < high else "fails"


def leaves(value: Value | None) -> dict[str, list[float]]:
    """Every part as a list of numbers, by name; the name is "" where the value is not a table. Or ValueError."""
    table: dict[str, Any] = value if isinstance(value, dict) else {"": value}
    found: dict[str, list[float]] = {}
    for name, leaf in table.items():
        numbers = cast("list[Any]", leaf) if isinstance(leaf, list) else [leaf]
        if wrong := [x for x in numbers if not isinstance(x, int | float | None)]:
            raise ValueError(f"{name} holds {wrong[0]!r}, which is not a number".lstrip())
        found[name] = [math.nan if x is None else x for x in numbers]
    return found


def estimate(column: Sequence[float], scale: Scale = "linear", label: str = "", level: float = 0.95,
             ahead: bool = False) -> tuple[float, Interval]:  # fmt: skip
    """The mean on its scale, and Student's interval of it: on a log scale the geometric mean, in a range on the logit.

    ahead: the interval for one further sample (prediction) in place of that for the mean. One sample is its own
    interval.
    """
    if any(math.isnan(x) for x in column):  # min and max would pass over it
        return math.nan, (math.nan, math.nan)
    there, back = _transform(column, scale, label)
    if len(column) == 1 or min(column) == max(column):
        return column[0], (column[0], column[0])
    from scipy.special import stdtrit  # here: it is slow to import, and exact claims do not need it

    n = len(column)
    mean, spread = _moments([there(x) for x in column])
    half = float(stdtrit(n - 1, 0.5 + level / 2)) * spread * math.sqrt(1 / n + ahead)
    low, high = back(mean - half), back(mean + half)
    if not isinstance(scale, str):
        low, high = max(low, scale[0]), min(high, scale[1])
    return back(mean), (low, high)


def _transform(
    column: Sequence[float], scale: Scale, label: str
) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """The scale's transform and its inverse. A bounded quantity that touches an end stays linear, and is cut there."""
    if scale == "linear":
        return float, float
    if scale == "log":
        if min(column) <= 0:
            raise ValueError(f"{label}is on a logarithmic scale, and {min(column):g} is not above 0")
        return math.log, _exp
    assert not isinstance(scale, str)
    low, high = scale
    if outside := [x for x in column if not low <= x <= high]:
        raise ValueError(f"{label}is bounded by {low:g} and {high:g}, and {outside[0]:g} is outside")
    if low in column or high in column:
        return float, float

    def logit(x: float) -> float:
        return -math.inf if x <= low else math.inf if x >= high else math.log((x - low) / (high - x))

    return logit, lambda y: low + (high - low) / (1 + _exp(-y))


def _exp(x: float) -> float:
    """e to the x; what is past the largest float is infinite."""
    return math.exp(x) if x < 709 else math.inf


def _moments(column: Sequence[float]) -> tuple[float, float]:
    mean = sum(column) / len(column)
    return mean, math.sqrt(sum((x - mean) ** 2 for x in column) / (len(column) - 1))


def _outside(column: Sequence[float], region: Interval, scale: Scale) -> bool:
    middle = estimate(column, scale)[0]
    return not region[0] <= middle <= region[1]


def _needed(column: Sequence[float], region: Interval, scale: Scale) -> int | None:
    """How many samples would bring the interval to one side, with this mean and spread; None past MOST_SEEDS."""
    from scipy.special import stdtrit

    if any(math.isnan(x) for x in column):
        return None
    there, _ = _transform(column, scale, "")
    mean, spread = _moments([there(x) for x in column])
    ends = [there(end) for end in region if math.isfinite(end) and (scale != "log" or end > 0)]
    distance = min((abs(mean - end) for end in ends), default=0.0)
    for n in range(len(column) + 1, MOST_SEEDS + 1):
        if float(stdtrit(n - 1, 0.975)) * spread / math.sqrt(n) < distance:
            return n
    return None


def _scale_of(scale: Scale | Mapping[str, Scale], name: str) -> Scale:
    """A table of scales may name its default under ""."""
    return scale.get(name, scale.get("", "linear")) if isinstance(scale, Mapping) else scale


def _reshape(like: Value, flat: dict[str, list[float]]) -> Value:
    def leaf(name: str, old: Leaf) -> Leaf:
        return list(flat[name]) if isinstance(old, list) else flat[name][0]

    if isinstance(like, dict):
        return {name: leaf(name, old) for name, old in like.items()}
    return leaf("", like)


def _show(interval: Interval) -> str:
    low, high = interval
    return f"{low:.4g}" if low == high else f"[{low:.4g}, {high:.4g}]"
