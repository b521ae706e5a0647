"""Sums over the papers' own tables: do the ratios that the text states follow from what the tables print?"""

from __future__ import annotations

from typing import Any

from papertest.claims import Measured, Run, claim

APPROXIMATE = ["reformer", "local", "linformer", "smyrf", "lsformer", "block_sparse", "longformer", "bigbird"]


@claim("printed-ratios")
def printed_ratios(run: Run) -> dict[str, Any]:
    """The quotients and differences behind the ratios of the Abstract, Sections 1 and 4, and Appendix E.4.

    "x % faster" is the slower time over the faster one, minus 1. The crossover is, in Table 11, the last length at
    which flash attention beats every approximate method and the first at which one of them beats it.
    """
    paper: dict[str, Any] = {name: entry.value for name, entry in run.reported.items()}
    bert, days, perplexity, longer = (paper[i] for i in ("table-1", "table-2-time", "table-4", "table-4-time"))
    fmha, hbm, time, memory = (paper[i] for i in ("table-7", "hbm-bytes", "table-11", "table-21"))
    huggingface, megatron, flash = range(3)  # the columns of Table 2
    lengths = run.reported["table-11"].columns or []
    first = next(
        i for i, ours in enumerate(time["flash"]) if any(time[m][i] < ours for m in APPROXIMATE if time[m][i:])
    )
    return {
        "bert_percent": 100 * (bert["nvidia"][0] / bert["flash"][0] - 1),
        "small_over_hf": days["small"][huggingface] / days["small"][flash],
        "medium_over_hf": days["medium"][huggingface] / days["medium"][flash],
        "small_over_megatron": days["small"][megatron] / days["small"][flash],
        "context_speed": longer[0] / longer[-1],
        "context_ppl": perplexity[0] - perplexity[-1],
        "document_points": sum(max(f1) - f1[0] for f1 in paper["table-5"].values()) / len(paper["table-5"]),
        "fmha_slower_128": 100 * (fmha["flash_both"][0] / fmha["fmha_both"][0] - 1),
        "fmha_faster_256": 100 * (fmha["fmha_both"][1] / fmha["flash_both"][1] - 1),
        "fmha_faster_512": 100 * (fmha["fmha_both"][2] / fmha["flash_both"][2] - 1),
        "hbm": hbm["standard"] / hbm["flash"],
        "memory": max(a / b for a, b in zip(memory["pytorch"], memory["flash"], strict=False)),
        "memory_linformer": memory["linformer"][-1] / memory["flash"][-1],
        "attention_speed": max(a / b for a, b in list(zip(time["pytorch"], time["flash"], strict=False))[:5]),  # to 2K
        "crossover_after": lengths[first - 1],
        "crossover_by": lengths[first],
    }


@claim("block-sparse-fastest")
def block_sparse_fastest(run: Run) -> Measured:
    """Share of the cells of Tables 9 to 20 in which block-sparse flash attention beats an approximate method.

    A cell is a method at a length for which the table prints a time. The details list the cells that contradict.
    """
    shares: dict[str, list[bool]] = {}
    slower: list[str] = []
    for name, table in run.reported.items():
        if not name.startswith("table-"):
            continue
        rows: dict[str, list[float]] = table.value  # type: ignore[assignment]
        for method in APPROXIMATE:
            cells = zip(table.columns or [], rows["block_sparse_flash"], rows[method], strict=False)
            for length, ours, theirs in cells:
                shares.setdefault(name, []).append(ours < theirs)
                if ours >= theirs:
                    slower.append(
                        f"{table.where}, N = {length}: {method} {theirs:g} ms, block-sparse flash {ours:g} ms"
                    )
    every = [faster for cells in shares.values() for faster in cells]
    figure_3 = shares["table-11"]
    value = {"figure_3": sum(figure_3) / len(figure_3), "all_tables": sum(every) / len(every)}
    return Measured(value, {"cells": len(every), "contradicting": slower})


@claim("fa2-mfu")
def fa2_mfu(run: Run) -> dict[str, float]:
    """FlashAttention-2, Sections 1 and 4.2: GPT3-2.7B at 8K (last column of its Table 1) against the A100's peak."""
    speed: Any = run.reported["fa2-table-1"].value
    peak: Any = run.reported["fa2-a100"].value
    none, flash, flash_2 = (speed[row][-1] for row in ("none", "flash", "flash_2"))
    return {
        "mfu_percent": 100 * flash_2 / peak["matmul"],
        "over_none": flash_2 / none,
        "over_flash": flash_2 / flash,
        "other_flops": peak["matmul"] / peak["other"],
    }


@claim("fa2-peak-share")
def fa2_peak_share(run: Run) -> dict[str, float]:
    """FlashAttention-2, Section 4 and Figure 6: stated speeds over the A100's peak, in per cent.

    Forward the speed is the text's "up to 230", so what comes out is the largest share that it allows.
    """
    speed: Any = run.reported["fa2-peak-speed"].value
    peak: Any = run.reported["fa2-a100"].value
    return {way: 100 * speed[way] / peak["matmul"] for way in ("forward", "backward")}
