"""Sums over the paper's own Tables 5 to 8 and Figure 5: does what the text says follow from what they show?"""

from __future__ import annotations

from typing import Any

from papertest.claims import Measured, Run, claim

from bert.reproduce.printed import columns, numbers

OURS = "m80_s10_r10"  # Table 8's first row, the strategy of the paper


def by_column(run: Run, entry: str) -> dict[str, dict[str, float]]:
    """A table of rows as row -> column -> number."""
    return {row: dict(zip(columns(run, entry), cells, strict=True)) for row, cells in numbers(run, entry).items()}


def drops(table: dict[str, dict[str, float]], better: str, worse: str, tasks: tuple[str, ...]) -> dict[str, float]:
    return {task: table[better][task] - table[worse][task] for task in tasks}


@claim("table-5-text")
def table_5_text(run: Run) -> Measured:
    """Section 5.1 against Table 5, the least differences in percentage points: with NSP minus without on MNLI, QNLI and
    SQuAD; MLM minus left-to-right on all five; on SQuAD the BiLSTM minus none, and the MLM model minus the BiLSTM.
    """
    table = by_column(run, "table-5")
    nsp = drops(table, "base", "no_nsp", ("MNLI-m", "QNLI", "SQuAD F1"))
    mlm = drops(table, "no_nsp", "ltr_no_nsp", tuple(table["base"]))
    f1 = {row: cells["SQuAD F1"] for row, cells in table.items()}
    value = {
        "nsp": min(nsp.values()),
        "mlm": min(mlm.values()),
        "bilstm_squad": f1["bilstm"] - f1["ltr_no_nsp"],
        "bilstm_behind": f1["no_nsp"] - f1["bilstm"],
    }
    return Measured(value, {"nsp": nsp, "mlm": mlm})


@claim("table-5-bilstm")
def table_5_bilstm(run: Run) -> Measured:
    """Section 5.1 against Table 5: percentage points that a BiLSTM on top costs, the least of the four GLUE tasks."""
    table = by_column(run, "table-5")
    lost = drops(table, "ltr_no_nsp", "bilstm", ("MNLI-m", "QNLI", "MRPC", "SST-2"))
    return Measured(min(lost.values()), lost)


@claim("table-6-order")
def table_6_order(run: Run) -> Measured:
    """Section 5.2 against Table 6: perplexity and accuracies (%) of the six models, by L, then H, then A: its order."""
    sizes, ppl, accuracy = (numbers(run, f"table-6-{entry}") for entry in ("config", "ppl", "accuracy"))
    order = sorted(sizes, key=sizes.__getitem__)
    rows = zip(*(accuracy[model] for model in order), strict=True)
    value = {"perplexity": [ppl[model] for model in order]}
    value |= {task: list(row) for task, row in zip(("mnli", "mrpc", "sst_2"), rows, strict=True)}
    return Measured(value, {"order": order})


@claim("table-6-datasets")
def table_6_datasets(run: Run) -> Measured:
    """Section 5.2 against Table 6: data sets whose accuracy it shows."""
    shown = columns(run, "table-6-accuracy")
    return Measured(len(shown), {"shown": shown})


@claim("table-8-text")
def table_8_text(run: Run) -> Measured:
    """Appendix C.2 against Table 8, in percentage points.

    spread: largest minus smallest of fine-tuned MNLI; features: next to smallest minus [MASK] alone, NER with frozen
    features; random: 80/10/10 minus random tokens alone, the least of the three columns.
    """
    rows = numbers(run, "table-8")
    mnli, _, frozen = zip(*rows.values(), strict=True)
    random = [ours - theirs for ours, theirs in zip(rows[OURS], rows["m0_s0_r100"], strict=True)]
    others = [cells[2] for row, cells in rows.items() if row != "m100_s0_r0"]
    value = {
        "spread": max(mnli) - min(mnli),
        "features": min(others) - rows["m100_s0_r0"][2],
        "random": min(random),
    }
    return Measured(value, {"random": random, "frozen": list(frozen)})


@claim("base-across-tables")
def base_across_tables(run: Run) -> Measured:
    """Largest difference in percentage points between the places that print BASE's Dev result on a task."""
    five, six = by_column(run, "table-5")["base"], by_column(run, "table-6-accuracy")["l12"]
    eight, curve = numbers(run, "table-8")[OURS], numbers(run, "figure-5")["masked"]
    squad: Any = run.reported["table-2-dev-f1"].value
    places = {
        "mnli": {"table_5": five["MNLI-m"], "table_6": six["MNLI-m"], "table_8": eight[0], "figure_5": curve[-1]},
        "mrpc": {"table_5": five["MRPC"], "table_6": six["MRPC"]},
        "sst_2": {"table_5": five["SST-2"], "table_6": six["SST-2"]},
        "squad": {"table_5": five["SQuAD F1"], "table_2": squad["base"]},
    }
    return Measured({task: max(found.values()) - min(found.values()) for task, found in places.items()}, places)


@claim("figure-5-shape")
def figure_5_shape(run: Run) -> dict[str, float]:
    """Appendix C.1 against Figure 5, percentage points on MNLI: masked minus left-to-right at the first point and at
    100K steps; what masked gains from 600K and from 400K steps to the end.
    """
    points = by_column(run, "figure-5")
    masked, ahead = points["masked"], drops(points, "masked", "left_to_right", tuple(points["masked"]))
    last = masked["1000"]
    return {
        "first": next(iter(ahead.values())),
        "at_100k": ahead["100"],
        "since_600k": last - masked["600"],
        "since_400k": last - masked["400"],
    }


@claim("figure-5-end")
def figure_5_end(run: Run) -> dict[str, float]:
    """Figure 5 against Table 5: percentage points between the last points and MNLI-m, either way."""
    table, curves = by_column(run, "table-5"), numbers(run, "figure-5")
    ends = {"masked": "base", "left_to_right": "ltr_no_nsp"}
    return {curve: abs(curves[curve][-1] - table[row]["MNLI-m"]) for curve, row in ends.items()}
