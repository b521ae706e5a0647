"""Sums over the paper's own numbers: does what the text says follow from what its tables and footnotes print?"""

from __future__ import annotations

from typing import Any

from papertest import Measured, Run, claim


@claim("table-1-percentages")
def table_1_percentages(run: Run) -> dict[str, list[float]]:
    """Table 1: per cent that adapters add to the latency of Fine-Tune/LoRA, from the printed milliseconds."""
    table: Any = run.reported["table-1"].value
    return {
        f"{adapter}_percent": [
            100 * (slow / fast - 1) for slow, fast in zip(table[adapter], table["fine_tune"], strict=True)
        ]
        for adapter in ("adapter_l", "adapter_h")
    }


@claim("table-2-averages")
def table_2_averages(run: Run) -> Measured:
    """Table 2: largest difference between a printed average and the mean of the row's eight results."""
    rows: Any = run.reported["table-2"].value
    printed: Any = run.reported["table-2-average"].value
    means = {row: sum(results) / len(results) for row, results in rows.items()}
    differences = {row: abs(mean - printed[row]) for row, mean in means.items()}
    return Measured(max(differences.values()), {"means": means})


@claim("table-7-arithmetic")
def table_7_arithmetic(run: Run) -> Measured:
    """Table 7, Appendix H.4: amplification factors ‖ΔW‖_F / ‖UᵀWVᵀ‖_F at r = 4 and 64, from the printed norms.

    The details have the least and the largest factor that the printed digits allow.
    """
    table: Any = run.reported["table-7"].value
    value, ranges = {}, {}
    for r in (4, 64):
        norm, projected = table[f"norm_delta_w_{r}"], table[f"delta_w_{r}"]
        value[f"amplification_{r}"] = norm / projected
        ranges[r] = [(norm - 0.005) / (projected + 0.005), (norm + 0.005) / (projected - 0.005)]
    return Measured(value, {"allowed_by_the_digits": {str(r): limits for r, limits in ranges.items()}})


@claim("speedup-text")
def speedup_text(run: Run) -> Measured:
    """Section 4.2, footnote 5: per cent by which LoRA's throughput is above full fine-tuning's.

    The details have the per cent of the time that it saves: (1/32.5 − 1/43.1) · 32.5.
    """
    paper: Any = run.reported["speedup"].value
    saved = 100 * (1 - paper["full"] / paper["lora"])
    return Measured({"speedup": 100 * (paper["lora"] / paper["full"] - 1)}, {"time_saved": saved})


@claim("memory-text")
def memory_text(run: Run) -> dict[str, float]:
    """Abstract, Section 4.2: 1.2 TB over 350 GB, and the share of 1.2 TB that is saved."""
    paper: Any = run.reported["memory"].value
    ratio = 1000 * paper["full_tb"] / paper["lora_gb"]
    return {"times": ratio, "saved": 1 - 1 / ratio}
