"""Benchmarks under a clock of our own: order, number of rounds and pairs, ratios, medians, quartiles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import torch

from papertest import bench
from papertest.bench import PAIRS, Ratio, Times, paired, rounds, turns
from papertest.claims import Run
from papertest.measure import Silent
from papertest.threads import one_thread


class Clock:
    """A clock that only the timed functions move; `calls` is the order in which they ran."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.calls = ""
        monkeypatch.setattr(bench.time, "perf_counter", lambda: self.now)

    def taking(self, name: str, *durations: float) -> Callable[[], None]:
        """A function that takes these durations in turn, the last one for ever."""
        left = list(durations)

        def function() -> None:
            self.calls += name
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return function


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_each_pair_runs_in_the_other_order(clock: Clock) -> None:
    paired(clock.taking("a", 1), clock.taking("b", 1), pairs=4, warmup=0)
    assert clock.calls == "abbaabba"


def test_warmup_comes_first_and_is_not_timed(clock: Clock) -> None:
    ratio = paired(clock.taking("a", 100, 100, 2), clock.taking("b", 500, 500, 6), pairs=3, warmup=2)
    assert clock.calls == "abab" + "abbaab"
    assert ratio == Ratio(median=3, low=3, high=3, ours=2, peer=6, pairs=3)


def test_the_default_is_seven_pairs_after_one_warmup(clock: Clock) -> None:
    assert paired(clock.taking("a", 1), clock.taking("b", 1)).pairs == 7
    assert len(clock.calls) == 16


def test_median_and_quartiles_are_of_the_ratios(clock: Clock) -> None:
    ratio = paired(clock.taking("a", 1, 2, 1, 4, 1), clock.taking("b", 1, 4, 3, 16, 5), pairs=5, warmup=0)
    # The ratios are 1 2 3 4 5; ours took 1 2 1 4 1 and the peer 1 4 3 16 5.
    assert ratio == Ratio(median=3, low=2, high=4, ours=1, peer=4, pairs=5)


def test_the_ratio_says_how_many_times_as_fast_we_are(clock: Clock) -> None:
    assert paired(clock.taking("a", 8), clock.taking("b", 2), warmup=0).median == 0.25


def test_a_disturbed_pair_does_not_move_the_median(clock: Clock) -> None:
    ratio = paired(clock.taking("a", 1, 1, 50, 1, 1), clock.taking("b", 2), pairs=5, warmup=0)
    assert (ratio.median, ratio.high) == (2, 2)


def test_one_pair_has_no_spread(clock: Clock) -> None:
    assert paired(clock.taking("a", 2), clock.taking("b", 3), pairs=1) == Ratio(1.5, 1.5, 1.5, 2, 3, 1)


def test_no_pairs_is_an_error_before_anything_runs(clock: Clock) -> None:
    with pytest.raises(ValueError, match="pairs must be at least 1, not 0"):
        paired(clock.taking("a", 1), clock.taking("b", 1), pairs=0)
    assert clock.calls == ""


def test_the_queue_of_the_device_is_emptied_before_and_after(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[tuple[str, str]] = []
    monkeypatch.setattr(bench, "_wait", lambda device: waited.append((device, clock.calls)))
    paired(clock.taking("a", 1), clock.taking("b", 1), pairs=1, warmup=0, device="cuda")
    assert waited == [("cuda", ""), ("cuda", "a"), ("cuda", "a"), ("cuda", "ab")]


def test_as_a_dictionary(clock: Clock) -> None:
    ratio = paired(clock.taking("a", 1), clock.taking("b", 2), pairs=2)
    assert ratio.as_dict() == {"median": 2, "low": 2, "high": 2, "ours": 1, "peer": 2, "pairs": 2}


def run_of(*, quick: bool = False, device: str = "cpu", track: Any = None) -> Run:
    return Run(0, device, quick, {}, track or Silent().track, lambda run, function, args: function(run, *args))


def orders(calls: str, sides: int) -> list[str]:
    """The calls of each round, behind one warm-up of each side; the null side is `a`, twice a round."""
    after = calls[sides:]
    return [after[i : i + sides + 1] for i in range(0, len(after), sides + 1)]


def test_every_round_has_each_side_once_and_the_null_twice(clock: Clock) -> None:
    times = rounds(run_of(), {"ours": clock.taking("a", 2), "peer": clock.taking("b", 3)}, null="ours")
    assert clock.calls[:2] == "ab"  # the warm-up
    assert {frozenset(Counter(order).items()) for order in orders(clock.calls, 2)} == {frozenset({("a", 2), ("b", 1)})}
    assert len(orders(clock.calls, 2)) == PAIRS == 15
    assert times == Times({"ours": [2.0] * 15, "peer": [3.0] * 15}, [1.0] * 15)
    assert times.ratio("peer", "ours") == [1.5] * 15


def test_every_side_stands_at_every_place_equally_often(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The null side and its repetition too, and each of both behind the other."""
    order: list[float] = []
    functions = {name: clock.taking(name, 1) for name in "abc"}
    monkeypatch.setattr(bench, "seconds", lambda function, device: order.append(function) or float(len(order)))
    times = rounds(run_of(), functions, null="b", pairs=8)
    again = [b / ratio for b, ratio in zip(times.seconds["b"], times.null, strict=True)]
    places = {"b again": [round(second - 1) % 4 for second in again]}
    places |= {name: [round(second - 1) % 4 for second in times.seconds[name]] for name in "abc"}
    assert {name: Counter(each) for name, each in places.items()} == {
        name: Counter({0: 2, 1: 2, 2: 2, 3: 2}) for name in ("a", "b", "c", "b again")
    }
    for name in "ab":  # who follows whom is even too: carried over from one to the next, nothing has a side
        behind = Counter(x > y for x, y in zip(places["b again"], places[name], strict=True))
        assert behind == Counter({True: 4, False: 4})


def test_the_null_shows_a_machine_that_slows_down(clock: Clock) -> None:
    """Each call takes 1 % longer than the one before it: over all orders the ratios cancel."""
    growing = [1.01**i for i in range(200)]

    def slower() -> None:
        clock.now += growing.pop(0)

    times = rounds(run_of(), {"ours": slower, "peer": slower}, null="ours", pairs=12)
    assert min(times.null) < 0.99 and max(times.null) > 1.01
    for ratios in (times.null, times.ratio("peer", "ours")):
        product = 1.0
        for ratio in ratios:
            product *= ratio
        assert product ** (1 / 12) == pytest.approx(1.0, abs=1e-9)


def test_the_null_is_the_first_over_the_second(clock: Clock) -> None:
    """Warm-up, then a b a' with 6, 1 and 3 seconds."""
    times = rounds(run_of(), {"a": clock.taking("a", 0, 6, 3), "b": clock.taking("b", 0, 1)}, null="a", pairs=1)
    assert times == Times({"a": [6.0], "b": [1.0]}, [2.0])


def test_quick_has_three_rounds_and_never_more_than_asked_for(clock: Clock) -> None:
    sides = {"a": clock.taking("a", 1), "b": clock.taking("b", 1)}
    assert len(rounds(run_of(quick=True), sides, null="b").null) == 3
    assert len(rounds(run_of(quick=True), sides, null="b", pairs=2).null) == 2
    assert len(rounds(run_of(), sides, null="b", pairs=20, warmup=0).null) == 20


def test_warmup_of_rounds_is_not_timed(clock: Clock) -> None:
    sides = {"a": clock.taking("a", 9, 9, 1), "b": clock.taking("b", 9, 9, 2)}
    times = rounds(run_of(), sides, null="a", warmup=2)
    assert clock.calls.startswith("aabb")
    assert times.ratio("b", "a") == [2.0] * 15


def test_rounds_tell_the_terminal_how_far_they_are(clock: Clock) -> None:
    told: list[tuple[int | None, str]] = []

    def track(items: Iterable[Any], total: int | None, what: str) -> Iterator[Any]:
        told.append((total, what))
        return iter(items)

    rounds(run_of(track=track), {"a": clock.taking("a", 1), "b": clock.taking("b", 1)}, null="a", pairs=4)
    assert told == [(4, "rounds")]


def test_rounds_wait_for_the_device_of_the_run(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[str] = []
    monkeypatch.setattr(bench, "_wait", waited.append)
    rounds(run_of(device="cuda"), {"a": clock.taking("a", 1), "b": clock.taking("b", 1)}, null="a", pairs=1, warmup=0)
    assert waited == ["cuda"] * 6


@pytest.mark.parametrize(
    ("sides", "options", "line"),
    [
        ("ab", {"null": "c"}, r"^null must be one of the sides \(a, b\), not 'c'$"),
        ("a", {"null": "a"}, r"^sides must hold at least 2 functions to compare, not 1$"),
        ("ab", {"null": "a", "pairs": 0}, r"^pairs must be at least 1, not 0$"),
    ],
)
def test_bad_rounds_are_an_error_before_anything_runs(
    clock: Clock, sides: str, options: dict[str, Any], line: str
) -> None:
    with pytest.raises(ValueError, match=line):
        rounds(run_of(), {name: clock.taking(name, 1) for name in sides}, **options)
    assert clock.calls == ""


def test_a_ratio_of_a_side_that_is_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="^'their' is no side that was timed; there are: ours, theirs$"):
        Times({"ours": [1.0], "theirs": [2.0]}, [1.0]).ratio("their", "ours")


def test_runners_take_turns(clock: Clock) -> None:
    """Each is called once to warm up, and once a round, in the other order every second round."""
    seconds = turns([clock.taking("a", 9, 1, 2, 4), clock.taking("b", 9, 7, 5, 6)], 3, "cpu")
    assert clock.calls == "ab" + "ab" + "ba" + "ab"
    assert seconds == [2, 6]  # medians


def test_one_thread_is_given_back_whatever_happens() -> None:
    seen: list[int] = []

    @one_thread()
    def fail() -> None:
        seen.append(torch.get_num_threads())
        raise KeyError

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyError):
            fail()
        assert (seen, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)
