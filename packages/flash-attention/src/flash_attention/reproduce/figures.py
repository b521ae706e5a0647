"""The write-up's figures: our numbers filled, the paper's hollow and dashed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from papertest.claims import figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAPER_LENGTHS = [128 * 2**i for i in range(10)]  # the columns of Tables 9 to 21


@figure("hbm-traffic", "hbm-bytes", "gflops")
def hbm_traffic(results: dict[str, Any]) -> Figure:
    """Figure 2 left."""
    from papertest.figures import bars, panels

    drawing, axes = panels(2)
    for axis, claim, title, unit in (
        (axes[0], "hbm-bytes", "HBM reads and writes", "GB"),
        (axes[1], "gflops", "FLOPs of the matrix products", "GFLOP"),
    ):
        ours, paper = results[claim].value, results[claim].reported
        names = ["standard", "flash"]
        bars(axis, names, [ours[n] for n in names], [paper[n] for n in names], ["standard", "ours"])
        axis.set(title=title, ylabel=unit)
        axis.set_ylim(top=1.3 * max(ours.values()))  # room for the legend
        axis.legend(loc="upper left", ncols=2)
    return drawing


@figure("block-size", "hbm-by-block-size", "runtime-by-block-size")
def block_size(results: dict[str, Any]) -> Figure:
    """Figure 2 middle."""
    from papertest.figures import measured, panels

    drawing, (traffic, runtime) = panels(2)
    counted = results["hbm-by-block-size"]
    measured(traffic, counted.details["columns"], counted.value, "ours", "counted here")
    traffic.set(title="HBM reads and writes, forward", xlabel="columns of a block, $B_c$", ylabel="GB")
    timed = results["runtime-by-block-size"]
    blocks = timed.details["blocks"]
    spread(
        runtime,
        blocks,
        [[1e3 * s for s in sample["details"]["seconds"]] for sample in timed.samples],
        "ours",
        "measured here",
    )
    runtime.set(title=f"Time, forward, N = {blocks[-1]}, CPU", xlabel="rows and columns of a block", ylabel="ms")
    for axis, ticks in ((traffic, counted.details["columns"]), (runtime, blocks)):
        axis.axvline(
            counted.reported, color="black", linestyle="--", linewidth=1, label="the paper (A100): no gain beyond"
        )
        axis.set_ylim(bottom=0)
        doubling(axis, ticks)
        axis.legend()
    return drawing


@figure("memory", "memory-exponent", "table-21")
def memory(results: dict[str, Any]) -> Figure:
    """Figure 3 right and Table 21."""
    from papertest.figures import measured, panels, reported

    drawing, (size, ratio) = panels(2, height=3.6, width=4.4)
    details, paper = results["memory-exponent"].details, results["table-21"].reported
    lengths = details["lengths"]
    for ours, theirs, role in (("standard", "pytorch", "standard"), ("flash", "flash", "ours")):
        measured(size, lengths, [b / 2**20 for b in details[ours]], role, f"{ours}, here (1 head, float32)")
        reported(size, PAPER_LENGTHS[: len(paper[theirs])], paper[theirs], role, f"{ours}, Table 21 (128 heads, FP16)")
    size.set(title="Peak memory, forward and backward", xlabel="N", ylabel="MiB", yscale="log")
    size.set_ylim(top=3e6)  # room for the legend
    saved = [a / b for a, b in zip(details["standard"], details["flash"], strict=True)]
    measured(ratio, lengths, saved, "ours", "here")
    saved = [a / b for a, b in zip(paper["pytorch"], paper["flash"], strict=False)]
    reported(ratio, PAPER_LENGTHS[: len(saved)], saved, "ours", "Table 21")
    ratio.set(title="Times less than standard attention", xlabel="N", yscale="log")
    ratio.set_yticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"])
    doubling(size, PAPER_LENGTHS)
    doubling(ratio, [n for n in PAPER_LENGTHS if n <= lengths[-1]])
    size.legend(ncols=1, loc="upper left")
    ratio.legend()
    return drawing


@figure("speed", "speed-forward", "speed-backward")
def speed(results: dict[str, Any]) -> Figure:
    """Tables 18 and 20, on a CPU."""
    from papertest.figures import panels, reported

    drawing, (time, faster) = panels(2, height=3.6, width=4.4)
    forward, both = results["speed-forward"], results["speed-backward"]
    lengths = forward.details["lengths"]
    for peer, column, role, label in (
        ("standard", "peer", "standard", "standard attention"),
        ("sdpa", "peer", "peer", "torch's fused attention"),
        ("standard", "ours", "ours", "flash attention"),
    ):
        rows = [[1e3 * ratio[column] for ratio in sample["details"][peer]] for sample in forward.samples]
        spread(time, lengths, rows, role, label)
    time.set(title="Time, forward, CPU", xlabel="N", ylabel="ms", yscale="log")
    for result, table, role, label in (
        (forward, "table-18: ", "ours", "forward"),
        (both, "", "variant", "forward and backward"),
    ):
        rows = [[ratio["median"] for ratio in sample["details"]["standard"]] for sample in result.samples]
        spread(faster, result.details["lengths"], rows, role, f"{label}, here")
        paper = [
            a / b for a, b in zip(result.reported[f"{table}pytorch"], result.reported[f"{table}flash"], strict=False)
        ]
        number = "Table 18" if table else "Table 20"
        reported(faster, PAPER_LENGTHS[: len(paper)], paper, role, f"{label}, {number} (A100)")
    faster.set(title="Times as fast as standard attention", xlabel="N")
    faster.set_ylim(0, 5)  # room for the legend
    doubling(time, lengths)
    doubling(faster, PAPER_LENGTHS[:7])
    time.legend()
    faster.legend()
    return drawing


@figure("block-sparse", "block-sparse-io", "block-sparse-runtime")
def block_sparse(results: dict[str, Any]) -> Figure:
    """Figure 2 right."""
    from papertest.figures import measured, panels, reported

    drawing, (traffic, runtime) = panels(2)
    counted = results["block-sparse-io"].details
    moved = [100 * units / counted["units_of_Nd"][-1] for units in counted["units_of_Nd"]]
    measured(traffic, [100 * s for s in counted["densities"]], moved, "ours", "counted here")
    traffic.set(title="HBM reads and writes, N = 4096")
    samples = [sample["details"] for sample in results["block-sparse-runtime"].samples]
    rows = [[100 * s / sample["seconds"][-1] for s in sample["seconds"]] for sample in samples]
    spread(runtime, [100 * s for s in samples[0]["densities"]], rows, "ours", "measured here, CPU")
    runtime.set(title="Time, forward, N = 4096")
    for axis in (traffic, runtime):
        reported(axis, [0, 25, 50, 75, 100], [0, 25, 50, 75, 100], "standard", "the paper: proportional")
        axis.set(xlabel="blocks kept, %", ylabel="% of dense")
        axis.legend()
    return drawing


@figure("training", "training-curve")
def training(results: dict[str, Any]) -> Figure:
    """Figure 4, at small scale."""
    from papertest.figures import COLOURS, measured, panels

    drawing, (curve, difference) = panels(2)
    samples = [sample["details"] for sample in results["training-curve"].samples]
    for name, role, style in (("standard", "standard", {"linewidth": 4}), ("flash", "ours", {"linewidth": 1.2})):
        losses = samples[0][name]["losses"]
        measured(curve, range(1, len(losses) + 1), losses, role, f"{name} attention", marker="", **style)
    curve.set(title="Training loss, seed 0", xlabel="step", ylabel="nats a character")
    curve.legend()
    for seed, (sample, role) in enumerate(zip(samples, ("ours", "variant", "other"), strict=False)):
        pairs = zip(sample["flash"]["losses"], sample["standard"]["losses"], strict=True)
        apart = [max(abs(a - b), 1e-8) for a, b in pairs]
        measured(difference, range(1, len(apart) + 1), apart, role, f"seed {seed}", marker="", linewidth=1)
    difference.axhline(1e-3, color=COLOURS["peer"], linestyle="--", linewidth=1, label="accepted: at most")
    difference.set(title="Flash less standard, absolute", xlabel="step", ylabel="nats a character", yscale="log")
    difference.set_ylim(5e-9, 1e-1)
    difference.legend(ncols=2)
    return drawing


@figure("pretrained", "pretrained-minilm", "pretrained-smollm2")
def pretrained(results: dict[str, Any]) -> Figure:
    """Theorem 1 on real weights and real text."""
    from papertest.figures import COLOURS, measured, panels

    drawing, (axis,) = panels(1, width=5.2)
    for claim, role, label in (
        ("pretrained-minilm", "variant", "all-MiniLM-L6-v2, padded batch"),
        ("pretrained-smollm2", "ours", "SmolLM2-135M, causal, grouped queries"),
    ):
        by_layer = results[claim].details["by_layer"]
        measured(axis, range(1, len(by_layer) + 1), by_layer, role, label)
    axis.axhline(1e-5, color=COLOURS["peer"], linestyle="--", linewidth=1, label="accepted: at most")
    axis.set(
        title="Flash against standard attention, float32", xlabel="layer", ylabel="relative difference", yscale="log"
    )
    axis.set_ylim(1e-8, 1e-3)
    axis.legend()
    return drawing


def spread(axis: Axes, x: list[Any], rows: list[list[float]], role: str, label: str) -> None:
    """The mean over the seeds, and a band from the smallest to the largest."""
    from papertest.figures import COLOURS, measured

    columns = list(zip(*rows, strict=True))
    axis.fill_between(
        x, [min(c) for c in columns], [max(c) for c in columns], color=COLOURS[role], alpha=0.2, linewidth=0
    )
    measured(axis, x, [sum(c) / len(c) for c in columns], role, label)


def doubling(axis: Axes, values: list[int]) -> None:
    """A logarithmic x axis with a tick at each of these values."""
    axis.set_xscale("log", base=2)
    labels = [str(n) if n < 1024 else f"{n // 1024}K" for n in values]
    axis.set_xticks(values, labels)
    axis.minorticks_off()
