"""Criteria: every kind, on numbers, lists and tables, on one sample and on the interval over several seeds."""

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

NAN, INF = math.nan, math.inf


def holds(raw: dict[str, Any], reported: Any, *samples: Any) -> bool:
    return accept.judge(accept.parse(raw), reported, samples).verdict == "reproduced"


@pytest.mark.parametrize(
    ("raw", "reported", "good", "bad"),
    [
        ({"equals": True}, 42, [42, 42.0], [41, 42.0000001]),
        ({"equals": True}, 0, [0, -0.0], [1e-300]),
        ({"digits": 1}, 1.5, [1.5, 1.46, 1.54], [1.44, 1.56, -1.5]),
        ({"digits": 0}, 3, [2.6, 3.4], [2.4, 3.6]),
        ({"within": 0.25}, 1.5, [1.25, 1.5, 1.75], [1.24, 1.76]),
        ({"within": 0}, 1.5, [1.5], [1.5000001]),
        ({"within_percent": 10}, 50, [45, 55], [44.9, 55.1]),
        ({"within_percent": 10}, -50, [-45, -55], [-44.9, -55.1, 50]),
        ({"at_most": 1.1}, None, [1.1, -5], [1.11]),
        ({"at_least": 1.1}, None, [1.1, 5], [1.09]),
        ({"between": [1, 2]}, None, [1, 1.5, 2], [0.99, 2.01]),
        ({"increasing": True}, None, [[1, 2, 3], [-1, 0]], [[1, 2, 2], [1, 3, 2], [3, 2, 1], [1], 1, []]),
        ({"decreasing": True}, None, [[3, 2, 1], [0, -1]], [[2, 2, 1], [3, 1, 2], [1, 2, 3], [1], 1, []]),
    ],
)
def test_every_kind_of_criterion(raw: dict[str, Any], reported: Any, good: list[Any], bad: list[Any]):
    for value in good:
        assert holds(raw, reported, value), value
        assert holds(raw, reported, value, value, value), value
    for value in bad:
        assert not holds(raw, reported, value), value
        assert not holds(raw, reported, value, value, value), value


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


def test_lists_hold_as_a_whole_and_the_message_names_the_number():
    raw, paper = {"within": 0.1}, [1, 2, 3]
    assert holds(raw, paper, [1.05, 2.05, 2.95])
    judged = accept.judge(accept.parse(raw), paper, [[1.05, 2.5, 2.95]])
    assert (judged.verdict, judged.failures) == ("not reproduced", ["2.5 is not within 0.1 of the paper's 2"])


def test_tables_are_judged_by_leaf():
    raw = {"a": {"digits": 1}, "b": {"at_most": 3}, "c": {"decreasing": True}}
    paper = {"a": 1.5, "b": 2, "c": [9, 1]}
    assert holds(raw, paper, {"a": 1.52, "b": 1, "c": [2, 1]})
    judged = accept.judge(accept.parse(raw), paper, [{"a": 1.62, "b": 4, "c": [1, 2]}])
    assert judged.failures == ["a 1.62 is not the paper's to 1 decimal 1.5", "b 4 is not ≤ 3", "c -1 is not decreasing"]
    assert holds({"at_most": 3}, paper, {"x": 1, "y": [2, 3]})
    assert not holds({"at_most": 3}, paper, {"x": 1, "y": [2, 3.1]})


@pytest.mark.parametrize(
    ("raw", "reported", "samples", "said"),
    [
        ({"a": {"at_most": 1}, "b": {"at_most": 1}}, None, [{"a": 0}], r"\['b'\] has no counterpart"),
        ({"a": {"at_most": 1}}, None, [{"a": 0, "b": 0}], r"\['b'\] has no counterpart"),
        ({"a": {"at_most": 1}}, None, [0], "has no counterpart"),
        ({"equals": True}, {"a": 1}, [{"a": 1, "b": 1}], "b measured 1 numbers, the paper reports 0"),
        ({"equals": True}, [1, 2], [[1, 2, 3]], "measured 3 numbers, the paper reports 2"),
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


def test_a_trend_holds_over_the_whole_interval():
    assert holds({"at_least": 1.0}, None, 1.5, 1.6, 1.7)
    wide = (1.1, 1.6, 2.1)  # every seed is above, and the mean clear of it: the interval is 1.6 ± 1.24
    judged = accept.judge(accept.parse({"at_least": 1.0}), None, wide)
    assert (judged.value, judged.verdict) == (pytest.approx(1.6), "not reproduced")
    assert judged.failures == ["[0.3579, 2.842] is not ≥ 1"]
    assert holds({"at_least": 0.3579}, None, *wide) and holds({"at_most": 2.8422}, None, *wide)
    assert not holds({"at_most": 2.8}, None, *wide)
    assert holds({"between": [0.35, 2.85]}, None, *wide) and not holds({"between": [0.4, 2.85]}, None, *wide)
    assert holds({"within": 1.3}, 1.6, *wide) and not holds({"within": 1.2}, 1.6, *wide)
    assert not holds({"equals": True}, 1.6, *wide) and not holds({"digits": 0}, 2, *wide)


def test_an_order_holds_where_every_step_is_clear_of_zero():
    assert holds({"increasing": True}, None, [1, 2.0], [5, 6.1], [9, 9.9])  # the steps are alike, the levels are not
    assert not holds({"increasing": True}, None, [1, 2.0], [1, 1.1], [1, 3.0])
    assert not holds({"increasing": True}, None, [1, 2], [1, 2], [2, 1])


@given(st.integers(0, 10**6), st.integers(3, 8))
def test_the_interval_is_students(seed: int, seeds: int):
    draw = random.Random(seed)
    sample = [draw.gauss(3, 2) for _ in range(seeds)]
    judged = accept.judge(accept.parse({"at_most": 9}), None, sample)
    expected = stats.t.interval(0.95, seeds - 1, statistics.mean(sample), stats.sem(sample))
    assert judged.interval is not None
    assert judged.interval[""] == [pytest.approx(expected)]


def test_values_keep_their_shape():
    samples = [{"a": 1.0, "b": [1.0, 2.0]}, {"a": 2.0, "b": [3.0, 4.0]}, {"a": 3.0, "b": [5.0, 6.0]}]
    judged = accept.judge(accept.parse({"at_most": 99}), None, samples)
    assert judged.value == {"a": 2.0, "b": [3.0, 4.0]}
    assert judged.interval is not None and {n: len(v) for n, v in judged.interval.items()} == {"a": 1, "b": 2}
    assert accept.judge(accept.parse({"at_most": 99}), None, [5]).interval is None


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
        ({"within": NAN}, "`within` needs a number, not nan"),
        ({"between": [2, 1]}, "`between` needs "),
        ({"between": [1]}, "`between` needs "),
        ({"between": [NAN, 1]}, "`between` needs "),
    ],
)
def test_a_criterion_that_is_none_is_refused(raw: Any, said: str):
    with pytest.raises(ValueError, match=said):
        accept.parse(raw)
