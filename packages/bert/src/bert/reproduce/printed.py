"""Sums over the paper's own tables, figure and constants: does what the text says follow from what they show?"""

from __future__ import annotations

from statistics import mean
from typing import Any

from papertest.claims import Measured, Run, claim

OURS = ("base", "large")
LITTLE = 10  # 10^3 training examples, below which the record calls a task of GLUE one with little data
SINGLE = ("bidaf_elmo",)  # Table 2: the systems of others that are no ensembles
STRATEGY = "m80_s10_r10"  # Table 8's first row, the strategy of the paper


def columns(run: Run, entry: str) -> list[str]:
    return [str(column) for column in run.reported[entry].columns or []]


def numbers(run: Run, entry: str) -> Any:
    return run.reported[entry].value


def by_column(run: Run, entry: str) -> dict[str, dict[str, float]]:
    """A table of rows as row -> column -> number."""
    return {row: dict(zip(columns(run, entry), cells, strict=True)) for row, cells in numbers(run, entry).items()}


def drops(table: dict[str, dict[str, float]], better: str, worse: str, tasks: tuple[str, ...]) -> dict[str, float]:
    return {task: table[better][task] - table[worse][task] for task in tasks}


@claim("table-1-averages")
def table_1_averages(run: Run) -> Measured:
    """Table 1: the mean of the nine printed numbers of a row, in %, of the rows on which stated gains rest."""
    return row_means(run, ("openai_gpt", *OURS))


@claim("table-1-averages-earlier")
def table_1_averages_earlier(run: Run) -> Measured:
    """Table 1: the mean of the nine printed numbers of a row, in %, of the two systems before GPT."""
    return row_means(run, ("pre_openai_sota", "bilstm_elmo_attn"))


def row_means(run: Run, systems: tuple[str, ...]) -> Measured:
    """Both MNLI columns count; in the details they count as one task."""
    table: Any = run.reported["table-1"].value
    eight = {system: mean([mean(table[system][:2]), *table[system][2:]]) for system in systems}
    printed: Any = run.reported["table-1-average"].value
    value = {system: mean(table[system]) for system in systems}
    return Measured(value, {"eight_tasks": eight, "printed": {system: printed[system] for system in systems}})


@claim("printed-comparisons")
def printed_comparisons(run: Run) -> Measured:
    """Abstract, Sections 4.1 to 4.4 and 5.3: percentage points that the text draws from its own tables.

    The prior best of a table is the largest of others' numbers in it; the details name whose that is.
    """
    paper: dict[str, Any] = {name: entry.value for name, entry in run.reported.items()}
    average, board = paper["table-1-average"], paper["leaderboard"]
    mnli = {system: row[0] for system, row in paper["table-1"].items()}
    squad, swag = paper["table-2-test-f1"], paper["table-4"]
    squad_2 = {system: f1 for system, (_, f1) in paper["table-3"].items()}
    frozen = {way: f1 for way, f1 in paper["table-7"].items() if way != "fine_tuned"}
    best = {
        "average": best_of_others(average),
        "mnli": best_of_others(mnli),
        "squad": best_of_others(squad),
        "squad_2": best_of_others(squad_2),
        "features": max(frozen, key=frozen.__getitem__),
    }
    value = {
        "base_average": average["base"] - average[best["average"]],
        "large_average": average["large"] - average[best["average"]],
        "mnli": mnli["large"] - mnli[best["mnli"]],
        "leaderboard": board["large"] - board["openai_gpt"],
        "squad_ensemble": squad["large_ensemble_triviaqa"] - squad[best["squad"]],
        "single_over_ensemble": squad["large_triviaqa"] - squad[best["squad"]],
        "squad_2": squad_2["large"] - squad_2[best["squad_2"]],
        "swag_elmo": swag["large"] - swag["esim_elmo"],
        "swag_gpt": swag["large"] - swag["openai_gpt"],
        "ner_features": paper["table-7"]["fine_tuned"] - frozen[best["features"]],
    }
    return Measured(value, {"best": best})


def best_of_others(table: dict[str, float]) -> str:
    """The system with the largest number that is neither the paper's nor a person."""
    return max((system for system in table if not system.startswith((*OURS, "human"))), key=table.__getitem__)


@claim("all-tasks")
def all_tasks(run: Run) -> Measured:
    """Section 4.1: least of the nine margins of BASE over the best of others, and of LARGE over BASE; and LARGE's mean
    gain on the four tasks with under 10,000 examples minus that on the others. In percentage points.
    """
    table: Any = run.reported["table-1"].value
    thousands = dict(zip(columns(run, "table-1-examples"), numbers(run, "table-1-examples"), strict=True))
    tasks = columns(run, "table-1")
    others = [max(cell) for cell in zip(*(row for system, row in table.items() if system not in OURS), strict=True)]
    margins = [ours - best for ours, best in zip(table["base"], others, strict=True)]
    gains = [large - base for base, large in zip(*(table[size] for size in OURS), strict=True)]
    little = [thousands[task.split("-m")[0]] < LITTLE for task in tasks]
    means = [mean(gain for gain, is_little in zip(gains, little, strict=True) if is_little == b) for b in (True, False)]
    value = {"base_over_others": min(margins), "large_over_base": min(gains), "little_data": means[0] - means[1]}
    named = {"margins": margins, "gains": gains, "little_data": little}
    return Measured(value, {key: dict(zip(tasks, row, strict=True)) for key, row in named.items()})


@claim("squad-single")
def squad_single(run: Run) -> Measured:
    """Section 4.2 against Table 2: F1 on the SQuAD 1.1 test of the best single BERT minus the best single system of
    others. The details have its distance to every system.
    """
    f1: Any = run.reported["table-2-test-f1"].value
    others = {system: f1["large_triviaqa"] - score for system, score in f1.items() if not system.startswith("large")}
    return Measured(min(others[system] for system in SINGLE), {"over": others})


@claim("squad-triviaqa")
def squad_triviaqa(run: Run) -> Measured:
    """Section 4.2 against Table 2: F1 on the SQuAD 1.1 Dev set that is lost without TriviaQA, the least and the most of
    single system and ensemble. The details have exact match too.
    """
    lost: dict[str, list[float]] = {}
    for score in ("f1", "em"):
        table: Any = run.reported[f"table-2-dev-{score}"].value
        lost[score] = [table[f"{system}_triviaqa"] - table[system] for system in ("large", "large_ensemble")]
    return Measured({"least": min(lost["f1"]), "most": max(lost["f1"])}, lost)


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
    random = [ours - theirs for ours, theirs in zip(rows[STRATEGY], rows["m0_s0_r100"], strict=True)]
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
    eight, curve = numbers(run, "table-8")[STRATEGY], numbers(run, "figure-5")["masked"]
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


@claim("epochs")
def epochs(run: Run) -> dict[str, float]:
    """Appendix A.2: 10^6 words of both corpora, 256 · 512 over the printed tokens of a batch, and passes of those."""
    corpus, stated, training = numbers(run, "corpus"), numbers(run, "epochs"), numbers(run, "pre-training")
    words = corpus["books"] + corpus["wikipedia"]
    return {
        "words": words,
        "batch": training["batch"] * training["length"] / stated["batch_tokens"],
        "passes": stated["batch_tokens"] * training["steps"] / (words * 1e6),
    }


@claim("epochs-by-length")
def epochs_by_length(run: Run) -> Measured:
    """Appendix A.2: passes over the corpus where 90 % of the steps read sequences of 128 tokens, the rest of 512."""
    corpus, training = numbers(run, "corpus"), numbers(run, "pre-training")
    length = training["short_share"] * training["short_length"] + (1 - training["short_share"]) * training["length"]
    tokens = training["batch"] * length
    return Measured(tokens * training["steps"] / (corpus["both"] * 1e6), {"tokens_per_batch": tokens})
