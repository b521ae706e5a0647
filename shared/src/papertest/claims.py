"""Claims and figures: the decorators that a package's `reproduce` modules mark their functions with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from papertest.accept import Number
from papertest.records import Reported

if TYPE_CHECKING:
    from matplotlib.figure import Figure

T = TypeVar("T")
Value = Number | Sequence[Number] | Mapping[str, Number | Sequence[Number]]  # what a claim may measure


@dataclass(frozen=True)
class Measured:
    """A measured value with the details behind it: curves for the figures, settings, what explains a difference."""

    value: Value
    details: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Timed:
    """What a claim of tier speed measured: one run of rounds, in each of which every side had its turn.

    rounds: the claim's value in each round, at least `papertest.bench.PAIRS` of them
    null: in each round, the time of one side over the time of the same side again
    """

    rounds: Sequence[Value]
    null: Sequence[Number]
    details: dict[str, Any] = field(default_factory=dict[str, Any])


class Unreported(dict[str, "Reported"]):
    """What `reported` is in a shared run, whose value serves claims that report other things."""

    def __missing__(self, key: str) -> Reported:
        raise KeyError(f"a shared run cannot read `reported` ({key}): hand it what it needs as an argument")


@dataclass(frozen=True)
class Run:
    """What a claim's function is given: one measurement with one seed on one device.

    reported: the record's entries that the claim reports, by id; in a shared run there are none
    progress: wraps an iterable, so that the terminal shows how far it is and the time left
    shared:   `shared(function, *args)` is `function(run, *args)`, computed once for all claims that ask for it with
              the same code, arguments, seed and device, and kept like a result (JSON values in and out)
    """

    seed: int
    device: str
    quick: bool
    reported: Mapping[str, Reported]
    track: Callable[[Iterable[Any], int | None, str], Iterator[Any]]
    share: Callable[[Run, Callable[..., Any], tuple[Any, ...]], Any]

    def progress(self, items: Iterable[T], what: str = "", total: int | None = None) -> Iterator[T]:
        return self.track(items, total, what)

    def shared(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.share(self, function, args)


ClaimFunction = Callable[[Run], Value | Measured | Timed]
FigureFunction = Callable[[dict[str, Any]], "Figure"]


def claim(name: str) -> Callable[[ClaimFunction], ClaimFunction]:
    """Mark a function as the measurement of `[claims.<name>]` of the package's record.

    papertest finds it by this decorator in the source (`fingerprint.Sources`): packages may have claims of one name.
    """
    del name
    return lambda function: function


def figure(name: str, *claims: str) -> Callable[[FigureFunction], FigureFunction]:
    """Mark a function that draws `figures/<name>.png` from the results of these claims, given by id."""
    del name, claims
    return lambda function: function
