"""Sums over the papers' own printed numbers, without any code of ours."""

from __future__ import annotations

import math
from typing import Any

from papertest.claims import Measured, Run, claim
from papertest.records import Reported


def cells(entry: Reported, row: str | None = None) -> dict[Any, float]:
    """A row of a table, or its only one, by column."""
    value: Any = entry.value
    columns: Any = entry.columns
    return dict(zip(columns, value[row] if row else value, strict=True))


def judgments(run: Run) -> dict[str, float]:
    """Appendix D.3's judgments by matchup, from comparisons, people, and the volunteer who did not respond."""
    study, raters = run.reported["human-study"], run.reported["raters"]
    each: Any = raters.value
    comparisons, people = cells(study, "comparisons"), cells(study, "people")
    missing = {"DPO": each["late"] * each["each"]}
    return {column: comparisons[column] * people[column] - missing.get(column, 0) for column in comparisons}


@claim("dpo-judgments")
def dpo_judgments(run: Run) -> list[float]:
    """In the table's order."""
    return list(judgments(run).values())


@claim("dpo-raters")
def dpo_raters(run: Run) -> float:
    """The volunteer who was late is the one who did not respond for DPO against PPO."""
    raters: Any = run.reported["raters"].value
    return (raters["volunteers"] - raters["late"]) * raters["each"]


@claim("dpo-ties")
def dpo_ties(run: Run) -> Measured:
    """The details have the share of each matchup."""
    made, kept = cells(run.reported["human-study"], "judgments"), cells(run.reported["table-2-respondents"])
    lost = {column: made[column] - kept[column] for column in made}
    return Measured(
        100 * sum(lost.values()) / sum(made.values()), {column: 100 * lost[column] / made[column] for column in made}
    )


@claim("dpo-agreement")
def dpo_agreement(run: Run) -> dict[str, float]:
    """SFT's comparisons had one person each."""
    table, humans = run.reported["table-2"], cells(run.reported["table-2-humans"])
    return {
        f"{prompt}_{part}": cells(table, f"agree_{prompt}")[column] - humans[column]
        for prompt in ("s", "c") for part, column in (("dpo", "DPO"), ("ppo_1", "PPO-1"))
    }  # fmt: skip


@claim("dpo-concise-prompt")
def dpo_concise_prompt(run: Run) -> Measured:
    """The details have each prompt's distances from people in points."""
    table = run.reported["table-2"]
    humans = cells(table, "human")
    away = {
        prompt: {column: abs(rate - humans[column]) for column, rate in cells(table, f"gpt4_{prompt}").items()}
        for prompt in ("s", "c")
    }
    return Measured(sum(away["c"][column] < away["s"][column] for column in humans), {"points": away})


@claim("dpo-human-preference")
def dpo_human_preference(run: Run) -> Measured:
    """A binomial's standard error at an even split; the details have it for half as many judgments."""
    rate: Any = run.reported["human-win"].value
    n = cells(run.reported["table-2-respondents"])["DPO"]
    errors = (rate / 100 - 0.5) / (0.5 / math.sqrt(n))
    return Measured(errors, {"half_as_many": errors / math.sqrt(2)})


@claim("dpo-sweep-runs")
def dpo_sweep_runs(run: Run) -> int:
    """What is left for Preferred-FT."""
    runs: Any = run.reported["sweep-runs"].value
    sweep: Any = run.reported["sweep"].value
    return runs["runs"] - len(sweep["beta"]) - len(sweep["alpha"]) - runs["ppo_methods"] * len(sweep["target_kl"])


@claim("dpo-imdb-pairs")
def dpo_imdb_pairs(run: Run) -> Measured:
    """The details have the pairs over all prefixes."""
    imdb: Any = run.reported["imdb"].value
    pairs = math.comb(imdb["completions"], 2)
    return Measured(pairs, {"all_prefixes": imdb["prefixes"] * pairs})


@claim("instructgpt-use-cases")
def instructgpt_use_cases(run: Run) -> float:
    shares: Any = run.reported["use-cases"].value
    return math.fsum(shares.values())


@claim("instructgpt-shares")
def instructgpt_shares(run: Run) -> dict[str, float]:
    shares: Any = run.reported["use-cases"].value
    return {
        "questions": math.fsum(shares[case] for case in ("classification", "open_qa", "closed_qa")),
        "open_ended": shares["generation"] + shares["brainstorming"],
    }
