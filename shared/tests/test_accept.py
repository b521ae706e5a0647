"""Criteria: every kind, on numbers, lists and tables, on one sample and on the interval over several: where it holds,
where the data contradict it, and where it is undecided, and how many seeds would decide it."""

from __future__ import annotations

import math
import random
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from papertest import accept
from papertest.accept import Judgement, estimate

NAN, INF = math.nan, math.inf


def judge(raw: dict[str, Any], paper: Any, *samples: Any, scale: Any = "linear") -> Judgement:
    return accept.judge(accept.parse(raw), paper, samples, accept.parse_scale(scale))


def holds(raw: dict[str, Any], paper: Any, *samples: Any) -> bool:
    return judge(raw, paper, *samples).verdict == "reproduced"


@pytest.mark.parametrize(
    ("raw", "reported", "good", "bad"),
    [
        ({"equals": True}, 42, [42, 42.0], [41, 42.0000001]),
        ({"equals": True}, 0, [0, -0.0], [1e-300]),
        ({"digits": 1}, 1.5, [1.5, 1.45, 1.55], [1.4499, 1.5501, -1.5]),
        ({"digits": 0}, 3, [2.5, 3.4, 3.5], [2.4999, 3.5001]),  # half a unit of the last printed digit, both sides
        ({"digits": 1}, 66.6, [66.55, 66.6, 66.65], [66.5499, 66.6501]),  # and that in decimals, not in binary
        ({"digits": 2}, 0.3, [0.295, 0.305], [0.2949, 0.3051]),
        ({"within": 0.1}, 0.2, [0.1, 0.3], [0.0999, 0.3001]),
        ({"within": 0.25}, 1.5, [1.25, 1.5, 1.75], [1.24, 1.76]),
        ({"within": 0}, 1.5, [1.5], [1.5000001]),
        ({"within_percent": 10}, 50, [45, 55], [44.9, 55.1]),
        ({"within_percent": 10}, -50, [-45, -55], [-44.9, -55.1, 50]),
        ({"at_most": 1.1}, None, [1.1, -5], [1.11]),
        ({"at_least": 1.1}, None, [1.1, 5], [1.09]),
        ({"between": [1, 2]}, None, [1, 1.5, 2], [0.99, 2.01]),
        ({"increasing": True}, None, [[1, 2, 3], [-1, 0]], [[1, 2, 2], [1, 3, 2], [3, 2, 1]]),
        ({"decreasing": True}, None, [[3, 2, 1], [0, -1]], [[2, 2, 1], [3, 1, 2], [1, 2, 3]]),
    ],
)
def test_every_kind_of_criterion(raw: dict[str, Any], reported: Any, good: list[Any], bad: list[Any]):
    for value in good:
        assert holds(raw, reported, value), value
        assert holds(raw, reported, value, value, value), value
    for value in bad:
        assert judge(raw, reported, value).verdict == "not reproduced", value
        assert judge(raw, reported, value, value, value).verdict == "not reproduced", value


def test_every_kind_is_tested_above_and_named():
    marks = test_every_kind_of_criterion.pytestmark  # type: ignore[attr-defined]
    assert {kind for raw, *_ in marks[0].args[1] for kind in raw} == set(accept.KINDS)
    said = {"equals": True, "digits": 1, "within": 0.5, "within_percent": 5, "at_least": 2, "at_most": 3,
            "between": [1, 2], "increasing": True, "decreasing": True}  # fmt: skip
    assert [str(accept.parse({kind: bound})) for kind, bound in said.items()] == [
        "equal to the paper's", "the paper's to 1 decimal", "within 0.5 of the paper's", "within 5 % of the paper's",
        "≥ 2", "≤ 3", "between 1 and 2", "increasing", "decreasing"]  # fmt: skip


LOOSE = [{"equals": True}, {"increasing": True}, {"decreasing": True}, {"digits": 1}, {"within": 5},
         {"within_percent": 50}, {"at_most": 9}, {"at_least": -9}, {"between": [-9, 9]}]  # fmt: skip


@pytest.mark.parametrize("raw", LOOSE)
@pytest.mark.parametrize("hole", [NAN, INF, -INF, None])
def test_a_number_that_is_not_finite_never_reproduces(raw: dict[str, Any], hole: float | None):
    ends = [2, 1] if "decreasing" in raw else [1, 2]
    reported = ends if accept.COMPARES & set(raw) else None
    assert holds(raw, reported, ends)
    for broken in ([ends[0], hole], [hole, ends[1]]):
        assert not holds(raw, reported, broken)
        for samples in ([broken, ends, ends], [ends, broken, ends], [ends, ends, broken], [broken] * 3):
            assert not holds(raw, reported, *samples), samples


@pytest.mark.parametrize("kind", ["equals", "within", "digits", "within_percent"])
def test_nothing_agrees_with_a_paper_that_reports_nan(kind: str):
    assert not holds({kind: True if kind == "equals" else 1}, NAN, NAN)
    assert not holds({kind: True if kind == "equals" else 1}, NAN, 1.0)


def test_a_seed_that_is_not_a_number_is_no_evidence_but_an_only_one_is_a_fault():
    assert judge({"at_most": 9}, None, NAN).verdict == "not reproduced"
    for samples in ([1, NAN, 3], [1, None, 3], [None] * 3, [1, INF, 3]):
        judged = judge({"at_most": 9}, None, *samples)
        assert (judged.verdict, judged.seeds) == ("undecided", None), samples
        assert judged.why == {"": "is not a finite number"}
    judged = judge({"at_most": 9}, None, {"a": 1, "b": NAN}, {"a": 2, "b": 1}, {"a": 30, "b": 2})
    assert judged.states == {"a": "straddles", "b": "straddles"}
    assert judge({"a": {"at_most": 9}, "b": {"at_most": 9}}, None, {"a": 9.5, "b": NAN}).deciding == "a"


def test_lists_hold_as_a_whole_and_the_message_names_the_number():
    raw, paper = {"within": 0.1}, [1, 2, 3]
    assert holds(raw, paper, [1.05, 2.05, 2.95])
    judged = judge(raw, paper, [1.05, 2.5, 2.95])
    assert (judged.verdict, judged.why) == ("not reproduced", {"": "2.5 is not within 0.1 of the paper's 2"})


def test_tables_are_judged_by_part():
    raw = {"a": {"digits": 1}, "b": {"at_most": 3}, "c": {"decreasing": True}}
    paper = {"a": 1.5, "b": 2, "c": [9, 1]}
    assert holds(raw, paper, {"a": 1.52, "b": 1, "c": [2, 1]})
    judged = judge(raw, paper, {"a": 1.62, "b": 4, "c": [1, 2]})
    assert judged.states == dict.fromkeys("abc", "fails")
    assert judged.why == {
        "a": "a 1.62 is not the paper's to 1 decimal 1.5",
        "b": "b 4 is not ≤ 3",
        "c": "c from 1 to 2: fall of -1, not decreasing",
    }
    assert holds({"at_most": 3}, paper, {"x": 1, "y": [2, 3]})
    assert not holds({"at_most": 3}, paper, {"x": 1, "y": [2, 3.1]})


@pytest.mark.parametrize(
    ("parts", "deciding", "verdict"),
    [
        ({"a": 1, "b": 1, "c": 1}, "a", "reproduced"),
        ({"a": 1, "b": 0, "c": 1}, "b", "undecided"),
        ({"a": 1, "b": 0, "c": -1}, "c", "not reproduced"),
        ({"a": 0, "b": -1, "c": -1}, "b", "not reproduced"),
    ],
)
def test_the_deciding_part_fails_or_straddles_or_is_the_first(parts: dict[str, int], deciding: str, verdict: str):
    """1: clear above the bound, 0: across it, -1: clear below."""
    samples = [{name: side * 10 + noise for name, side in parts.items()} for noise in (-1, 0, 1.5)]
    judged = judge({name: {"at_least": 0} for name in parts}, None, *samples)
    assert (judged.deciding, judged.verdict) == (deciding, verdict)
    assert (judged.seeds is not None) == (verdict == "undecided")  # more seeds for what is not decided, and only there


@pytest.mark.parametrize(
    ("raw", "reported", "samples", "said"),
    [
        ({"a": {"at_most": 1}, "b": {"at_most": 1}}, None, [{"a": 0}], r"\['b'\] has no counterpart"),
        ({"a": {"at_most": 1}}, None, [{"a": 0, "b": 0}], r"\['b'\] has no counterpart"),
        ({"a": {"at_most": 1}}, None, [0], "has no counterpart"),
        ({"equals": True}, {"a": 1}, [{"a": 1, "b": 1}], "b measured 1 numbers, the paper reports 0"),
        ({"equals": True}, [1, 2], [[1, 2, 3]], "measured 3 numbers, the paper reports 2"),
        ({"within": 1}, {"a": 1}, [2], "measured 1 numbers, the paper reports 0"),
        ({"at_most": 1}, None, [], "nothing was measured, so there is nothing to judge"),
        ({"at_most": 1}, None, [{}], "nothing was measured, so there is nothing to judge"),
        ({"at_most": 1}, None, [[]], "holds no numbers, so there is nothing to judge"),
        ({"a": {"at_most": 1}, "b": {"at_most": 1}}, None, [{"a": 0, "b": []}], "b holds no numbers"),
        ({"increasing": True}, None, [[1]], "is one number, and `increasing` needs at least two"),
        ({"decreasing": True}, None, [1], "is one number, and `decreasing` needs at least two"),
        ({"a": {"decreasing": True}}, None, [{"a": [1]}] * 3, "a is one number, and `decreasing` needs at least two"),
        ({"increasing": True}, None, [[]], "holds no numbers"),
        ({"at_most": 1}, None, [[0, 0], [0], [0, 0]], "differ in shape from seed to seed"),
        ({"at_most": 1}, None, [{"a": 0}, {"b": 0}, {"a": 0}], "differ in shape from seed to seed"),
        ({"at_most": 1}, None, ["0"], "holds '0', which is not a number"),
        ({"at_most": 1}, None, [{"a": {"b": 0}}], "a holds {'b': 0}, which is not a number"),
        ({"at_most": 1}, None, [[[0, 0], [0, 0]]], r"holds \[0, 0\], which is not a number"),
    ],
)
def test_a_value_of_another_shape_is_an_error(raw: dict[str, Any], reported: Any, samples: list[Any], said: str):
    with pytest.raises(ValueError, match=said):
        accept.judge(accept.parse(raw), reported, samples)


WIDE = (1.1, 1.6, 2.1)  # every seed is above 1, and the interval is 1.6 ± 1.24


@pytest.mark.parametrize(
    ("raw", "paper", "state"),
    [
        ({"at_least": 0.3579}, None, "holds"), ({"at_most": 2.8422}, None, "holds"),
        ({"between": [0.35, 2.85]}, None, "holds"), ({"within": 1.3}, 1.6, "holds"),
        ({"at_least": 1.0}, None, "straddles"), ({"at_most": 2.8}, None, "straddles"),
        ({"at_least": 2.84}, None, "straddles"), ({"at_most": 0.36}, None, "straddles"),
        ({"between": [0.4, 2.85]}, None, "straddles"), ({"between": [1.5, 1.7]}, None, "straddles"),
        ({"between": [0.1, 0.4]}, None, "straddles"), ({"within": 1.2}, 1.6, "straddles"),
        ({"equals": True}, 1.6, "straddles"), ({"digits": 0}, 2, "straddles"),
        ({"at_least": 2.85}, None, "fails"), ({"at_most": 0.35}, None, "fails"),
        ({"between": [2.85, 9]}, None, "fails"), ({"between": [0.1, 0.35]}, None, "fails"),
        ({"within": 1.2}, 5, "fails"), ({"within_percent": 10}, 0.3, "fails"), ({"equals": True}, 3, "fails"),
    ],
)  # fmt: skip
def test_an_interval_lies_inside_the_region_across_its_border_or_outside(raw: dict[str, Any], paper: Any, state: str):
    judged = judge(raw, paper, *WIDE)
    assert judged.value == pytest.approx(1.6)
    assert judged.interval == {"": [(pytest.approx(0.3579, abs=1e-4), pytest.approx(2.8421, abs=1e-4))]}
    assert judged.states == {"": state}
    assert judged.verdict == {"holds": "reproduced", "straddles": "undecided", "fails": "not reproduced"}[state]
    assert bool(judged.why) == (state != "holds")


def test_what_does_not_hold_says_the_interval_and_the_criterion():
    assert judge({"at_least": 1}, None, *WIDE).why == {"": "[0.3579, 2.842] straddles ≥ 1"}
    assert judge({"at_least": 3}, None, *WIDE).why == {"": "[0.3579, 2.842] is not ≥ 3"}
    assert judge({"a": {"within": 1}}, {"a": 2}, *({"a": x} for x in WIDE)).why == {
        "a": "a [0.3579, 2.842] straddles within 1 of the paper's 2"}  # fmt: skip


def test_one_part_that_contradicts_is_enough_and_one_that_straddles_is_not():
    low, high = {"a": 0.0, "b": 0.0}, {"a": 0.1, "b": 5.0}
    raw = {"a": {"at_most": -1}, "b": {"at_most": 3}}
    assert judge(raw, None, low, high, low).verdict == "not reproduced"
    assert judge(raw | {"a": {"at_most": 1}}, None, low, high, low).verdict == "undecided"
    assert judge({"at_most": 3}, None, [0, 4.0], [0, 4.1], [0, 4.2]).verdict == "not reproduced"  # one of a list


def test_bounds_are_the_accepted_regions_and_an_ordering_has_none():
    raw = {"a": {"at_most": 3}, "b": {"digits": 1}, "c": {"increasing": True}}
    judged = judge(raw, {"b": [0.3, 66.6]}, {"a": 1, "b": [0.3, 66.6], "c": [1, 2]})
    assert judged.bounds == {"a": [(-INF, 3)], "b": [(0.25, 0.35), (66.55, 66.65)]}
    assert judge({"between": [1, 2]}, None, 1).bounds == {"": [(1, 2)]}


@pytest.mark.parametrize("kind", ["at_least", "at_most", "within", "between"])
@given(st.integers(0, 10**6), st.integers(3, 8), st.floats(0.05, 4), st.sampled_from(["linear", "log", [0.0, 50.0]]))
def test_with_the_seeds_that_it_names_the_interval_clears_the_bound(
    kind: str, seed: int, seeds: int, off: float, scale: Any
):
    """As many samples of the same mean and spread are drawn: with one fewer it is still undecided."""
    draw = random.Random(seed)
    sample = [draw.lognormvariate(1, 0.3) for _ in range(seeds)]
    raw: dict[str, Any] = {kind: off if kind == "within" else [off, off + 2] if kind == "between" else off}
    judged = judge(raw, 3.0, *sample, scale=scale)
    if judged.verdict != "undecided" or judged.seeds is None:
        assert judged.verdict == "undecided" or judged.seeds is None
        return
    there, back = TRANSFORMS[scale if isinstance(scale, str) else "range"]
    assert judged.seeds > seeds
    verdicts = [
        judge(raw, 3.0, *map(back, drawn(count, [there(x) for x in sample])), scale=scale).verdict
        for count in (judged.seeds - 1, judged.seeds, 2 * judged.seeds)
    ]
    assert verdicts[1] == verdicts[2] != "undecided"
    if judged.seeds - 1 > seeds:
        assert verdicts[0] == "undecided"


TRANSFORMS = {
    "linear": (float, float),
    "log": (math.log, math.exp),
    "range": (lambda x: math.log(x / (50 - x)), lambda y: 50 / (1 + math.exp(-y))),
}


def drawn(count: int, like: list[float]) -> list[float]:
    """So many numbers with the mean and the standard deviation of these."""
    numbers = [math.cos(2.4 * i) for i in range(count)]
    mean, spread = statistics.mean(numbers), statistics.stdev(numbers)
    return [statistics.mean(like) + statistics.stdev(like) * (x - mean) / spread for x in numbers]


def test_where_one_part_would_fail_its_seeds_are_enough():
    def needs(criteria: dict[str, Any]) -> int | None:
        return judge(criteria, None, *({"a": x, "b": x} for x in WIDE)).seeds

    near, far, against = {"at_least": 1.5}, {"at_least": 1.0}, {"at_least": 1.8}
    assert needs({"a": far, "b": far}) == 6
    assert (needs({"a": near, "b": near}), needs({"a": near, "b": far})) == (99, 99)  # both have to hold
    assert (needs({"a": against, "b": against}), needs({"a": near, "b": against})) == (27, 27)  # one that fails will do
    assert needs({"a": {"at_least": 1.6}, "b": far}) is None  # on the bound itself no number decides
    assert needs({"a": {"at_least": 1.6}, "b": against}) == 27


def test_an_order_holds_where_every_step_is_clear_of_zero():
    assert holds({"increasing": True}, None, [1, 2.0], [5, 6.1], [9, 9.9])  # the steps are alike, the levels are not
    judged = judge({"increasing": True}, None, [1, 2.0], [1, 1.1], [1, 3.0])
    assert (judged.verdict, judged.why[""].split(": ")[1]) == ("undecided", "rise of [-1.328, 3.394], not increasing")
    assert judged.seeds == 6
    assert judge({"increasing": True}, None, [1, 2], [1, 2], [2, 1]).verdict == "undecided"
    assert judge({"increasing": True}, None, [2, 1], [2, 1.1], [2, 1.2]).verdict == "not reproduced"
    assert judge({"decreasing": True}, None, [9, 2, 3], [9, 2, 3.1], [9, 2, 3]).verdict == "not reproduced"


def test_an_order_says_the_step_that_breaks_it_and_stores_the_levels():
    judged = judge({"decreasing": True}, None, [9, 1.0, 1.5], [9, 2.0, 2.7], [9, 3.0, 3.6])
    levels = [(9, 9), (-0.4841, 4.484), (-0.0172, 5.217)]
    assert judged.interval == {"": [pytest.approx(level, rel=1e-3) for level in levels]}
    assert judged.why == {"": "from [-0.4841, 4.484] to [-0.0172, 5.217]: fall of [-0.8484, -0.3516], not decreasing"}


@given(st.integers(0, 10**6), st.integers(3, 8))
def test_the_interval_is_students(seed: int, seeds: int):
    draw = random.Random(seed)
    sample = [draw.gauss(3, 2) for _ in range(seeds)]
    judged = accept.judge(accept.parse({"at_most": 9}), None, sample)
    expected = stats.t.interval(0.95, seeds - 1, statistics.mean(sample), stats.sem(sample))
    assert judged.interval is not None
    assert judged.interval[""] == [pytest.approx(expected)]


def test_one_further_sample_has_a_wider_interval():
    sample = [1.0, 2.0, 4.0]
    half = stats.t.ppf(0.995, 2) * statistics.stdev(sample) * math.sqrt(1 + 1 / 3)
    mean = statistics.mean(sample)
    assert estimate(sample, level=0.99, ahead=True) == (pytest.approx(mean), (pytest.approx(mean - half),
                                                                               pytest.approx(mean + half)))  # fmt: skip


def test_ratios_are_averaged_on_the_logarithm():
    judged = judge({"at_least": 0.3}, None, 1, 2, 4, scale="log")
    half = stats.t.ppf(0.975, 2) * math.log(2) / math.sqrt(3)
    assert judged.value == pytest.approx(2)
    assert judged.interval == {"": [(pytest.approx(2 * math.exp(-half)), pytest.approx(2 * math.exp(half)))]}
    assert judge({"at_least": 0.3}, None, 1, 2, 4).value == pytest.approx(7 / 3)
    assert judge({"at_least": 0.3}, None, 1, 2, 4).verdict == "undecided"
    assert judged.verdict == "reproduced"


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8), st.booleans())
def test_the_interval_of_a_bounded_quantity_never_leaves_its_range(sample: list[float], ahead: bool):
    for low, high in ((0.0, 1.0), (-3.0, 5.0)):
        moved = [low + (high - low) * x for x in sample]
        middle, (below, above) = estimate(moved, (low, high), level=0.99, ahead=ahead)
        assert low <= below <= above <= high
        assert low <= middle <= high
        assert below <= middle + 1e-9
        assert middle - 1e-9 <= above


def test_a_bounded_quantity_is_judged_on_the_logit():
    sample = [0.9, 0.95, 0.99]
    logits = [math.log(x / (1 - x)) for x in sample]
    ends = stats.t.interval(0.95, 2, statistics.mean(logits), stats.sem(logits))
    judged = judge({"at_least": 0.5}, None, *sample, scale=[0, 1])
    assert judged.interval == {"": [tuple(pytest.approx(1 / (1 + math.exp(-y))) for y in ends)]}
    assert judged.verdict == "reproduced"
    at_the_end = judge({"at_least": 0.5}, None, 0.9, 0.95, 1.0, scale=[0, 1])  # on an end: linear, and cut there
    assert at_the_end.interval == {"": [(pytest.approx(0.95 - 4.3027 * 0.05 / math.sqrt(3), abs=1e-4), 1)]}


@pytest.mark.parametrize("scale", ["log", [0, 1]])
def test_samples_far_apart_on_their_scale_have_an_interval(scale: Any):
    """The ends are past what a float holds."""
    low, high = estimate([1e-6, 0.5], accept.parse_scale(scale), level=0.99, ahead=True)[1]  # type: ignore[arg-type]
    assert (low, high) == (pytest.approx(0), 1 if scale != "log" else pytest.approx(INF))


@pytest.mark.parametrize(
    ("scale", "sample", "said"),
    [
        ("log", [1, 0], "a is on a logarithmic scale, and 0 is not above 0"),
        ("log", [-1], "a is on a logarithmic scale, and -1 is not above 0"),
        ([0, 1], [0.5, 1.01], "a is bounded by 0 and 1, and 1.01 is outside"),
        ([0, 1], [-0.5], "a is bounded by 0 and 1, and -0.5 is outside"),
        ([0, 1], [0.5, INF], "a is bounded by 0 and 1, and inf is outside"),
    ],
)
def test_a_sample_outside_of_its_scale_is_an_error(scale: Any, sample: list[float], said: str):
    with pytest.raises(ValueError, match=f"^{said}$"):
        judge({"at_most": 9}, None, *({"a": x} for x in sample), scale=scale)


def test_each_part_has_its_scale():
    samples = [{"ratio": x, "share": x / 10, "plain": x} for x in (1.0, 2.0, 4.0)]
    scale = {"": "log", "share": (0.0, 1.0), "plain": "linear"}
    judged = accept.judge(accept.parse({"at_most": 9}), None, samples, scale)  # type: ignore[arg-type]
    assert judged.value == {
        "ratio": pytest.approx(2), "plain": pytest.approx(7 / 3),
        "share": pytest.approx(estimate([0.1, 0.2, 0.4], (0, 1))[0])}  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "parsed"),
    [
        ("linear", "linear"), ("log", "log"), ([0, 1], (0.0, 1.0)), ({"a": "log", "b": [-1, 1]},
                                                                      {"a": "log", "b": (-1.0, 1.0)}),
    ],
)  # fmt: skip
def test_a_scale_is_parsed(raw: Any, parsed: Any):
    assert accept.parse_scale(raw) == parsed


@pytest.mark.parametrize(
    "raw", ["logit", 1, None, [1, 0], [1, 1], [0], [0, 1, 2], [0, NAN], [0, True], {"a": "logit"}, {"a": {"b": "log"}}]
)
def test_a_scale_that_is_none_is_refused(raw: Any):
    where = "a: " if isinstance(raw, dict) else ""
    with pytest.raises(ValueError, match=rf'^{where}must be "linear", "log" or the range \[low, high\]'):
        accept.parse_scale(raw)


def test_values_keep_their_shape():
    samples = [{"a": 1.0, "b": [1.0, 2.0]}, {"a": 2.0, "b": [3.0, 4.0]}, {"a": 3.0, "b": [5.0, 6.0]}]
    judged = accept.judge(accept.parse({"at_most": 99}), None, samples)
    assert judged.value == {"a": 2.0, "b": [3.0, 4.0]}
    assert judged.interval is not None and {n: len(v) for n, v in judged.interval.items()} == {"a": 1, "b": 2}
    assert accept.judge(accept.parse({"at_most": 99}), None, [5]).interval is None
    assert judge({"at_most": 99}, None, 5, 5, 5).interval == {"": [(5, 5)]}


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (3, "must be a criterion"),
        ({}, "must be a criterion"),
        ({"at_most": 1, "at_least": 0}, r"must hold exactly one of .* not \['at_least', 'at_most'\]"),
        ({"at_mots": 1}, "unknown criterion `at_mots`; accepted: digits"),
        ({"a": {"at_most": 1}, "b": {}}, "b: must hold exactly one of .* not nothing"),
        ({"a": {"at_most": 1}, "b": {"close": 1}}, "b: unknown criterion `close`"),
        ({"equals": False}, "`equals` needs true, not False"),
        ({"decreasing": 1}, "`decreasing` needs true, not 1"),
        ({"digits": 1.5}, "`digits` needs a count of decimals, not 1.5"),
        ({"digits": -1}, "`digits` needs a count of decimals, not -1"),
        ({"at_most": "1"}, "`at_most` needs a number, not '1'"),
        ({"at_least": True}, "`at_least` needs a number, not True"),
        ({"within": NAN}, "`within` needs a number that is not negative, not nan"),
        ({"within": -0.1}, "`within` needs a number that is not negative, not -0.1"),
        ({"within_percent": -1}, "`within_percent` needs a number that is not negative, not -1"),
        ({"within": [1]}, r"`within` needs a number that is not negative, not \[1\]"),
        ({"between": [2, 1]}, "`between` needs "),
        ({"between": [1]}, "`between` needs "),
        ({"between": [NAN, 1]}, "`between` needs "),
    ],
)
def test_a_criterion_that_is_none_is_refused(raw: Any, said: str):
    with pytest.raises(ValueError, match=said):
        accept.parse(raw)
