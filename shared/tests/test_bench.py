"""Paired benchmarks under a clock of our own: order, number of pairs, medians, quartiles."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from papertest import bench
from papertest.bench import Ratio, paired


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
