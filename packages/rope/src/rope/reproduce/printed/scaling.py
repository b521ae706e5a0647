"""Position interpolation and YaRN: do the texts follow from the tables, and the tables from the published numbers?"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from papertest.claims import Measured, Run, claim

SIZES = {"b7": ("7b", "16k"), "b13": ("13b", "16k"), "b33": ("33b", "16k"), "b65": ("65b", "8k")}
TABLES = ("pi-table-1", "pi-table-2")


@claim("pi-factor-text")
def pi_factor_text(run: Run) -> float:
    """PI, Section 3: 32768 over 2048."""
    paper: Any = run.reported["pi-factor"].value
    return paper["longest"] / paper["original"]


@claim("pi-gains-text")
def pi_gains_text(run: Run) -> Measured:
    """PI, Tables 1 and 2: against the unextended model; the details have the gain against the model's own 2,048."""
    tables: list[Any] = [run.reported[name].value for name in TABLES]
    value: dict[str, list[float]] = {}
    own: dict[str, list[float]] = {}
    for size, (name, window) in SIZES.items():
        value[size] = [rows[f"none_{name}"][0] - rows[f"pi_{name}_{window}"][-1] for rows in tables]
        own[size] = [rows[f"pi_{name}_{window}"][0] - rows[f"pi_{name}_{window}"][-1] for rows in tables]
    return Measured(value, {"against_own_2048": own})


@claim("pi-ft-text")
def pi_ft_text(run: Run) -> Measured:
    """PI, Tables 1 and 2: direct fine-tuning at 8,192 minus that at 2,048; the details have the other reading."""
    against: dict[str, dict[str, float]] = {"none": {}, "own": {}}
    for table in TABLES:
        rows: Any = run.reported[table].value
        for size in ("7b", "13b", "33b"):
            tuned = rows[f"ft_{size}_8k"]
            against["none"][f"{table} {size}"] = tuned[-1] - rows[f"none_{size}"][0]
            against["own"][f"{table} {size}"] = tuned[-1] - tuned[0]
    changes = against["own"].values()
    return Measured({"regression": max(changes), "improvement": -min(changes)}, against)


@claim("pi-trend-text")
def pi_trend_text(run: Run) -> dict[str, int]:
    """PI, Tables 1 and 2: rises from one window to the next, 7B and 13B of 32,768."""
    value: dict[str, int] = {}
    for part, table in zip(("pg19", "proof_pile"), TABLES, strict=True):
        rows: Any = run.reported[table].value
        value[part] = sum(b > a for size in ("7b", "13b") for a, b in pairwise(rows[f"pi_{size}_32k"]))
    return value


@claim("pi-benchmarks-text")
def pi_benchmarks_text(run: Run) -> Measured:
    """PI, Table 5: largest loss at 8,192 in points; the details have it as per cent of the score."""
    rows: Any = run.reported["pi-table-5"].value
    value: dict[str, float] = {}
    share: dict[str, float] = {}
    for size, name in (("b7", "7b"), ("b33", "33b")):
        pairs = list(zip(rows[f"none_{name}"], rows[f"pi_{name}_8k"], strict=True))
        value[size] = max(before - after for before, after in pairs)
        share[size] = max(100 * (1 - after / before) for before, after in pairs)
    return Measured(value, {"per_cent_of_the_score": share})


@claim("pi-passkey-text")
def pi_passkey_text(run: Run) -> dict[str, float]:
    """PI, Table 4: least effective window over the window trained for."""
    rows: Any = run.reported["pi-table-4"].value
    return {f"to_{k}k": min(rows[f"pi_7b_{k}k"]) / (1024 * k) for k in (8, 16, 32)}


def rounded(unrounded: float, printed: float) -> bool:
    """Whether the printed number is within half of its second decimal of the other."""
    return abs(unrounded - printed) <= 0.005


@claim("yarn-table-1-rounding")
def yarn_table_1_rounding(run: Run) -> Measured:
    """YaRN, Table 1: cells that are the file's numbers rounded; the details have the cells that are cut."""
    printed: Any = run.reported["yarn-table-1"].value
    exact: Any = run.reported["yarn-table-1-unrounded"].value
    cells = {row: list(zip(exact[row], printed[row], strict=True)) for row in ("pi", "ntk", "yarn")}
    cut = {row: sum(int(100 * a) == round(100 * b) for a, b in pairs) for row, pairs in cells.items()}
    return Measured({row: sum(rounded(a, b) for a, b in pairs) for row, pairs in cells.items()}, {"cut": cut})


@claim("yarn-table-1-best")
def yarn_table_1_best(run: Run) -> dict[str, float]:
    """YaRN, Table 1's file: the lesser of PI's and NTK's perplexity minus YaRN's, where YaRN is set in bold."""
    entry = run.reported["yarn-table-1-unrounded"]
    rows: Any = entry.value
    windows: Any = entry.columns
    columns = zip(windows, rows["pi"], rows["ntk"], rows["yarn"], strict=True)
    return {f"w_{window}": min(pi, ntk) - yarn for window, pi, ntk, yarn in columns if window != 8192}


@claim("yarn-table-2-rounding")
def yarn_table_2_rounding(run: Run) -> Measured:
    """YaRN, Table 2: cells that are not the file's numbers rounded."""
    printed: Any = run.reported["yarn-table-2"].value
    exact: Any = run.reported["yarn-table-2-unrounded"].value
    cells = {row: zip(exact[row], printed[row], strict=True) for row in printed}
    pairs = {f"{row} {i}": pair for row, each in cells.items() for i, pair in enumerate(each)}
    wrong = {cell: [a, b] for cell, (a, b) in pairs.items() if not rounded(a, b)}
    return Measured(len(wrong), {"cells": len(pairs), "wrong": wrong})


@claim("yarn-declines-text")
def yarn_declines_text(run: Run) -> dict[str, float]:
    """YaRN, Section 4.3.1: the last perplexity minus the one at 114,688."""
    rows: Any = run.reported["yarn-declines"].value
    return {size: row[2] - row[1] for size, row in rows.items()}


@claim("yarn-sums")
def yarn_sums(run: Run) -> Measured:
    """YaRN, Tables 3 and Section 4: average drop, share of 2·10^12 tokens, steps."""
    rows: Any = run.reported["yarn-table-3"].value
    cost: Any = run.reported["yarn-cost"].value
    steps: Any = run.reported["pi-setting"].value
    drops = [a - b for size in ("7b", "13b")
             for a, b in zip(rows[f"yarn_{size}_16"], rows[f"yarn_{size}_32"], strict=True)]  # fmt: skip
    tokens = cost["steps"] * cost["batch"] * cost["chunk"] * 1000
    value = {
        "drop": sum(drops) / len(drops),
        "percent": 100 * tokens / 2e12,
        "steps": steps["pi"] / cost["steps"],
    }
    return Measured(value, {"tokens": tokens})


@claim("code-llama-scale")
def code_llama_scale(run: Run) -> float:
    """YaRN, Eq. 16, solved for s."""
    paper: Any = run.reported["code-llama"].value
    return (paper["base"] / 10000) ** ((128 - 2) / 128)
