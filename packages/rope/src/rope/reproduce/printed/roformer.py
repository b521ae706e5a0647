"""RoFormer: does what the text says follow from Tables 2 and 5 and Figure 3?"""

from __future__ import annotations

from typing import Any

from papertest.claims import Measured, Run, claim


@claim("roformer-over-wobert")
def roformer_over_wobert(run: Run) -> Measured:
    """Table 5, test: RoFormer-1024 minus WoBERT-512; the details have it minus RoFormer-512."""
    table: Any = run.reported["table-5"].value
    test = {name: row[1] for name, row in table.items()}
    long = test["roformer_1024"]
    return Measured(long - test["wobert_512"], {"over_roformer_512": long - test["roformer_512"]})


@claim("roformer-at-512")
def roformer_at_512(run: Run) -> dict[str, float]:
    """Table 5: RoFormer-512 minus BERT-512."""
    table: Any = run.reported["table-5"].value
    ours, theirs = table["roformer_512"], table["bert_512"]
    return {part: a - b for part, a, b in zip(("validation", "test"), ours, theirs, strict=True)}


@claim("roformer-glue-wins")
def roformer_glue_wins(run: Run) -> Measured:
    """Table 2 with MNLI counted once (matched); the details have the means of six, and of five without QQP."""
    entry = run.reported["table-2"]
    rows: Any = entry.value
    tasks = [str(column) for column in entry.columns or ()]
    six = [task for task in tasks if task != "MNLI-mm"]
    scores = {name: dict(zip(tasks, row, strict=True)) for name, row in rows.items()}
    wins = [task for task in six if scores["roformer"][task] > scores["bert"][task]]
    means = {
        name: {
            "six": sum(row[task] for task in six) / 6,
            "without_qqp": sum(row[task] for task in six if task != "QQP") / 5,
        }
        for name, row in scores.items()
    }
    return Measured(len(wins), {"wins": wins, "means": means})


@claim("figure-3-steps")
def figure_3_steps(run: Run) -> float:
    """Figure 3, left: where its axis ends, in thousands of steps."""
    return float((run.reported["figure-3-left"].columns or [0])[-1])
