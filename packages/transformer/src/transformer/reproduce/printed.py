"""Sums over the paper's own tables: does what the text says follow from what they print?"""

from __future__ import annotations

from typing import Any

from papertest.claims import Measured, Run, claim

GPUS = 8  # Section 5.2: "one machine with 8 NVIDIA P100 GPUs"


@claim("training-flops")
def training_flops(run: Run) -> dict[str, float]:
    """Table 2 and footnote 5: FLOPs = training time · GPUs · sustained speed of a P100."""
    hours: Any = run.reported["training-time"].value
    tflops: Any = run.reported["sustained"].value
    return {model: hours[model] * 3600 * GPUS * tflops["P100"] * 1e12 for model in ("base", "big")}


@claim("printed-comparisons")
def printed_comparisons(run: Run) -> Measured:
    """The Abstract, Sections 5.2, 6.1 and 6.2: BLEU differences from Tables 2 and 3, and the ratio of training costs.

    cost_share is the big model's cost over that of the single model with the best BLEU before it, English to French.
    The details name the models compared with.
    """
    paper: dict[str, Any] = {name: entry.value for name, entry in run.reported.items()}
    german, french, rows = (paper[i] for i in ("table-2-bleu-en-de", "table-2-bleu-en-fr", "table-3-bleu"))
    cost = paper["table-2-flops-en-fr"]
    best = max(others(german), key=german.__getitem__)
    single = max((m for m in others(french) if not m.endswith("ensemble")), key=french.__getitem__)
    heads = ["base", *(row for row in rows if row.startswith("a_h_"))]
    most = max(heads, key=rows.__getitem__)
    value = {
        "over_best": german["big"] - german[best],
        "base_over_best": german["base"] - german[best],
        "cost_share": cost["big"] / cost[single],
        "single_head": rows[most] - rows["a_h_1"],
    }
    return Measured(value, {"best_en_de": best, "best_single_en_fr": single, "best_heads": most})


def others(table: dict[str, float]) -> list[str]:
    """The models of Table 2 that are not the paper's."""
    return [model for model in table if model not in ("base", "big")]


@claim("en-fr-text")
def en_fr_text(run: Run) -> float:
    """Table 2 minus Section 6.1: BLEU of the big model on newstest2014, English to French."""
    table: Any = run.reported["table-2-bleu-en-fr"].value
    text: Any = run.reported["en-fr-text"].value
    return table["big"] - text


@claim("parsing-text")
def parsing_text(run: Run) -> Measured:
    """Section 6.3 against Table 4: models that are not below the best Transformer, those of Dyer et al. aside; and F1
    by which the Transformer is above the BerkeleyParser (Petrov et al. 2006), both trained on WSJ only.
    """
    f1: Any = run.reported["table-4"].value
    best = max(score for row, score in f1.items() if row.endswith("transformer"))
    not_below = [row for row, score in f1.items() if score >= best and not row.endswith(("transformer", "dyer_2016"))]
    value = {"others_not_below": len(not_below), "over_berkeley": f1["wsj_transformer"] - f1["wsj_petrov_2006"]}
    return Measured(value, {"best_transformer": best, "not_below": not_below})
