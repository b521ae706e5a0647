"""The paper's own value of what a claim measures: arithmetic over the transcription, and everything that is none."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import pytest

from papertest.arithmetic import Computed, compute


@dataclass
class Entry:
    """What `compute` reads of an entry of [reported]."""

    value: Any
    columns: list[float | int | str] | None = None


REPORTED = {
    "one": Entry(2.5),
    "row": Entry([3, 2, 1], [10, 0.5, "last one"]),
    "plain": Entry([3.5, 2, 1]),
    "table-3": Entry({"h_1": 5.29, "H4": 4.92, "losses": [4, 3.5, 3]}, [10, 20, 30]),
    "minus": Entry(-4),
    "short": Entry({"a": [1]}, [10, 20]),
}


@pytest.mark.parametrize(
    ("text", "value", "shown"),
    [
        ("{one}", 2.5, "2.5"),
        (" {one} ", 2.5, "2.5"),
        ("{row}", [3, 2, 1], "3, 2, 1"),
        ("{table-3}", {"h_1": 5.29, "H4": 4.92, "losses": [4, 3.5, 3]}, "h_1 5.29, H4 4.92, losses 4, 3.5, 3"),
        ("{table-3.losses}", [4, 3.5, 3], "4, 3.5, 3"),
        ("{table-3.h_1} / {table-3.H4}", 5.29 / 4.92, "5.29 / 4.92"),
        ("{table-3.losses[20]}", 3.5, "3.5"),
        ("{row[10]} - {row[0.5]}", 1, "3 - 2"),
        ("{row[last one]}", 1, "1"),
        ("{plain[0]} + {plain[2]}", 4.5, "3.5 + 1"),
        ("{one} * 4 - 0.5", 9.5, "2.5 · 4 - 0.5"),
        ("(1 - {one}) ** 2", 2.25, "(1 - 2.5) ^ 2"),
        ("-{one}", -2.5, "-2.5"),
        ("mean({row}) - mean({plain})", 2 - 6.5 / 3, "mean(3, 2, 1) - mean(3.5, 2, 1)"),
        ("sum({row}, {one})", 8.5, "sum(3, 2, 1, 2.5)"),
        ("max({row}) / min({plain})", 3, "max(3, 2, 1) / min(3.5, 2, 1)"),
        ("mean({table-3.h_1}, {table-3.H4})", 5.105, "mean(5.29, 4.92)"),
        ("sqrt(abs({minus})) + log({one}) + exp({one})", 2 + math.log(2.5) + math.exp(2.5),
         "sqrt(abs(-4)) + log(2.5) + exp(2.5)"),
        ("{one} / {one}", 1, "2.5 / 2.5"),
    ],
)  # fmt: skip
def test_arithmetic_over_the_record(text: str, value: Any, shown: str):
    computed = compute(text, REPORTED)
    assert computed == Computed(pytest.approx(value) if isinstance(value, float) else value, shown)


def test_more_than_ten_entries_are_told_apart():
    text = " + ".join(["{one}"] * 10 + ["{minus}"] * 2)
    assert compute(text, REPORTED) == Computed(17, " + ".join(["2.5"] * 10 + ["-4"] * 2))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("5.29 / 4.92", "'5.29 / 4.92' names no entry of [reported], such as {table-3.h_1}"),
        ("", "'' names no entry of [reported], such as {table-3.h_1}"),
        ("{two}", "{two}: there is no [reported.two]"),
        ("{one.h}", "{one.h}: [reported.one] has no keys"),
        ("{table-3.h_2}", "{table-3.h_2}: [reported.table-3] has h_1, H4, losses"),
        ("{table-3[10]}", "{table-3[10]}: there is no list to take [10] from"),
        ("{one[0]}", "{one[0]}: there is no list to take [0] from"),
        ("{table-3.h_1[10]}", "{table-3.h_1[10]}: there is no list to take [10] from"),
        ("{row[20]}", "{row[20]}: the columns are 10, 0.5, last one"),
        ("{row[0]}", "{row[0]}: the columns are 10, 0.5, last one"),  # an index counts only where there are no labels
        ("{short.a[20]}", "{short.a[20]}: the columns are 10, 20"),  # the row has fewer numbers than there are columns
        ("{plain[3]}", "{plain[3]}: the columns are 0, 1, 2"),
        ("{plain[-1]}", "{plain[-1]}: the columns are 0, 1, 2"),
        ("{one} + {}", "'{one} + {}' has braces that are no {id}, {id.key}, {id[column]} or {id.key[column]}"),
        ("{one} + { one }",
         "'{one} + { one }' has braces that are no {id}, {id.key}, {id[column]} or {id.key[column]}"),
        ("{one} +", "'{one} +' is not arithmetic"),
        ("{one} {one}", "'{one} {one}' is not arithmetic"),
        ("{row} - {one}", "'{row} - {one}' cannot be computed: unsupported operand type(s) for -: 'list' and 'float'"),
        ("{one} - {row}", "'{one} - {row}' cannot be computed: unsupported operand type(s) for -: 'float' and 'list'"),
        ("{minus} ** 0.5", "'{minus} ** 0.5' gives (1.2246467991473532e-16+2j), which is no number"),
        ("{row} + {row}", "'{row} + {row}' gives [3, 2, 1, 3, 2, 1], which is no number"),
        ("1e999 * {one}", "'1e999 * {one}' gives inf, which is no number"),
    ],
)  # fmt: skip
def test_what_is_no_arithmetic_is_refused(text: str, said: str):
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        compute(text, REPORTED)


@pytest.mark.parametrize(
    "text", ["{one} / 0", "{one} ** 1e9", "sqrt({minus})", "1 + log({minus})", "log(0 * {one})", "exp({one} * 1e9)"]
)
def test_what_has_no_value_is_refused_by_its_text(text: str):
    with pytest.raises(ValueError, match=f"^{re.escape(repr(text))} cannot be computed: "):
        compute(text, REPORTED)


@pytest.mark.parametrize(
    "text",
    ["open({one})", "{one}.real", "[{one}]", "{one} if 1 else 2", "{one} > 1", "{one} // 2", "lambda: {one}",
     "mean({row}, key=1)", "'a' * {one}", "True + {one}", "x + {one}", "abs(*{row})", "{one} @ {one}", "not {one}"],
)  # fmt: skip
def test_nothing_but_arithmetic_is_computed(text: str):
    with pytest.raises(ValueError, match=r"^only \+ - \* / \*\*, numbers and mean, sum, .* are computed, not "):
        compute(text, REPORTED)
