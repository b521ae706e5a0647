"""Sums over the papers' own printed numbers, without any code of ours."""

from __future__ import annotations

import math
from typing import Any

from papertest.claims import Measured, Run, claim
from papertest.records import Reported


def cells(entry: Reported, row: str) -> dict[Any, float]:
    """A row of a table by column."""
    value: Any = entry.value
    columns: Any = entry.columns
    return dict(zip(columns, value[row], strict=True))


def rows(entry: Reported) -> dict[str, dict[Any, float]]:
    value: Any = entry.value
    return {row: cells(entry, row) for row in value}


def total(run: Run, row: dict[Any, float]) -> float:
    """The mean of both accuracies over all questions, in per cent."""
    questions: Any = run.reported["questions"].value
    asked = sum(questions.values())
    return sum(row[part] * questions[part] for part in questions) / asked


def worst(run: Run, table: str, besides: str = "-") -> tuple[float, dict[str, float]]:
    """The largest distance of a printed total, and all sums, without the rows whose names begin so."""
    found = {name: row for name, row in rows(run.reported[table]).items() if not name.startswith(besides)}
    sums = {name: total(run, row) for name, row in found.items()}
    return max(abs(sums[name] - row["total"]) for name, row in found.items()), sums


# ---------------------------------------------------------------- 2013a


@claim("table-4-totals")
def table_4_totals(run: Run) -> Measured:
    """The details have every sum."""
    found = {name.replace("-", "_"): worst(run, name, "rnnlm") for name in ("table-4", "table-5", "table-6")}
    return Measured({name: far for name, (far, _) in found.items()}, {name: sums for name, (_, sums) in found.items()})


@claim("table-4-rnnlm")
def table_4_rnnlm(run: Run) -> dict[str, float]:
    """The two rows that Table 4 has of the recurrent network."""
    return {f"d_{d}": total(run, cells(run.reported["table-4"], f"rnnlm_{d}")) for d in (80, 640)}


@claim("q-predicts-time")
def q_predicts_time(run: Run) -> Measured:
    """The details have the ratio in operations with a tree of 10 steps."""
    cost: Any = run.reported["cost"].value
    training: Any = run.reported["training"].value
    N, C, D = cost["N"], cost["C"], 300

    def ratio(steps: float) -> float:
        return C * (D + D * steps) / (N * D + D * steps)

    return Measured(ratio(math.log2(training["vocabulary"] * 1e6)), {"ten_steps": ratio(10)})


@claim("less-than-a-day")
def less_than_a_day(run: Run) -> dict[str, float]:
    """Table 5's rows with one epoch of 1.6 billion words."""
    words: Any = run.reported["abstract-time"].value
    billions = round(words["words"] * 1000)
    return {kind: cells(run.reported["table-5"], f"{kind}_1_300_{billions}")["days"] for kind in ("cbow", "skip_gram")}


@claim("table-2-rises")
def table_2_rises(run: Run) -> dict[str, list[float]]:
    """Row by row."""
    return {name: list(row.values()) for name, row in rows(run.reported["table-2"]).items()}


@claim("table-2-wider")
def table_2_wider(run: Run) -> dict[str, list[float]]:
    """The first column and the last."""
    table = rows(run.reported["table-2"])
    return {f"words_{words}": [row[words] for row in table.values()] for words in (24, 783)}


# ---------------------------------------------------------------- 2013b


@claim("table-1-totals")
def table_1_totals(run: Run) -> Measured:
    """The details have every sum."""
    found = {"all": worst(run, "table-1"), "subsampled": worst(run, "table-1-subsampled")}
    return Measured({name: far for name, (far, _) in found.items()}, {name: sums for name, (_, sums) in found.items()})


def both(run: Run, column: str) -> dict[str, tuple[float, float]]:
    """A column of Table 1 without subsampling and with it, of the rows that have both."""
    plain, sampled = rows(run.reported["table-1"]), rows(run.reported["table-1-subsampled"])
    return {name: (plain[name][column], row[column]) for name, row in sampled.items()}


@claim("subsampling-speed")
def subsampling_speed(run: Run) -> dict[str, float]:
    """Minutes over minutes."""
    return {name: plain / sampled for name, (plain, sampled) in both(run, "time").items()}


@claim("subsampling-accuracy")
def subsampling_accuracy(run: Run) -> Measured:
    """The details have the smallest difference of two shares of 60 % that is significant at 5 %."""
    questions: Any = run.reported["questions"].value
    significant = 100 * 1.96 * math.sqrt(2 * 0.6 * 0.4 / sum(questions.values()))
    value = {name: sampled - plain for name, (plain, sampled) in both(run, "total").items()}
    return Measured(value, {"significant": significant})


@claim("slightly-better-than-nce")
def slightly_better_than_nce(run: Run) -> float:
    """Of the totals without subsampling."""
    table = rows(run.reported["table-1"])
    neg, nce, hs = (table[name]["total"] for name in ("neg_5", "nce_5", "hs"))
    return (neg - nce) / (neg - hs)


@claim("time-grows-with-k")
def time_grows_with_k(run: Run) -> dict[str, float]:
    """The word itself and k others."""
    ratio = (15 + 1) / (5 + 1)
    return {"all": ratio, "subsampled": ratio}
