"""The write-up's figures: our numbers filled, the paper's hollow and dashed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from papertest.claims import figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAPER_LENGTHS = [128 * 2**i for i in range(10)]  # the columns of Tables 9 to 21


@figure("tiles")
def tiles(results: dict[str, Any]) -> Figure:
    """A schematic: one block of scores on chip, and what moves between HBM and SRAM meanwhile."""
    from papertest.figures import COLOURS, panels

    drawing, (axis,) = panels(1, height=4.6, width=9.2)
    axis.set(xlim=(0, 20), ylim=(0, 10))
    axis.set_axis_off()
    axis.set_title("One step of the inner loop: key block j meets query block i")
    for (left, right), label in (
        ((0.1, 6.9), "HBM: large and slow"),
        ((8.6, 19.9), "SRAM: small and fast, holds M numbers"),
    ):
        area(axis, left, right, label)
    for x, name, mark, role in (
        (0.6, "Q", 1, "ours"),
        (2.2, "K", 2, "peer"),
        (3.8, "V", 2, "peer"),
        (5.4, "O", 1, "ours"),
    ):
        for block in range(4):
            fill = COLOURS[role] if block == mark else "white"
            box(axis, (x, 6.4 - 1.4 * block), (1.0, 1.3), "", fill)
        axis.text(x + 0.5, 8.0, name, ha="center", va="center", weight="bold")
    axis.text(1.8, 5.65, "i", ha="center", va="center", style="italic")
    axis.text(6.6, 5.65, "i", ha="center", va="center", style="italic")
    axis.text(3.5, 4.25, "j", ha="center", va="center", style="italic")
    axis.text(3.5, 1.15, "N rows of d numbers each; the N × N scores\nand probabilities are never here", ha="center",
              va="center", fontsize=9)  # fmt: skip
    box(axis, (9.1, 6.4), (1.5, 1.3), "$Q_i$", COLOURS["ours"])
    box(axis, (9.1, 3.9), (1.5, 1.3), "$K_j$", COLOURS["peer"])
    box(axis, (9.1, 1.4), (1.5, 1.3), "$V_j$", COLOURS["peer"])
    box(axis, (12.1, 4.9), (2.7, 2.0), "$S_{ij}=\\tau Q_iK_j^T$\n$B_r × B_c$", COLOURS["variant"])
    box(axis, (12.1, 1.4), (2.7, 2.0), "$\\tilde{P}_{ij}=e^{S_{ij}-m_i}$", COLOURS["variant"])
    box(axis, (16.3, 4.9), (3.2, 2.0), "$m_i$, $\\ell_i$: one number\neach per row", COLOURS["standard"])
    box(axis, (16.3, 1.4), (3.2, 2.0), "$\\tilde{O}_i$ rescaled,\nplus $\\tilde{P}_{ij}V_j$", COLOURS["ours"])
    for start, end in (
        ((10.6, 7.05), (12.1, 6.3)), ((10.6, 4.55), (12.1, 5.5)), ((13.45, 4.9), (13.45, 3.4)),
        ((14.8, 5.9), (16.3, 5.9)), ((16.3, 4.9), (14.8, 3.2)), ((14.8, 2.4), (16.3, 2.4)), ((17.9, 4.9), (17.9, 3.4)),
    ):  # fmt: skip
        arrow(axis, start, end)
    axis.plot([9.85, 9.85, 17.9], [1.4, 0.75, 0.75], color="black", linewidth=1.0)
    arrow(axis, (17.9, 0.75), (17.9, 1.4))
    axis.annotate("", (9.1, 4.55), (6.6, 4.55), arrowprops={"arrowstyle": "-|>", "linewidth": 2.4, "color": "black"})
    axis.annotate("", (6.6, 7.4), (9.1, 7.4), arrowprops={"arrowstyle": "<|-|>", "linewidth": 2.4, "color": "black"})
    axis.text(7.85, 4.95, "every $j$", ha="center", va="bottom", fontsize=9)
    axis.text(7.85, 7.75, "once per $i$", ha="center", va="bottom", fontsize=9)
    return drawing


def area(axis: Axes, left: float, right: float, label: str) -> None:
    """One kind of memory, with its name at the top."""
    from matplotlib.patches import FancyBboxPatch

    axis.add_patch(FancyBboxPatch((left, 0.2), right - left, 9.4, boxstyle="round,pad=0,rounding_size=0.2",
                                  facecolor="#f4f4f4", edgecolor="#999999", linewidth=0.9))  # fmt: skip
    axis.text((left + right) / 2, 9.0, label, ha="center", va="center", weight="bold")


def box(axis: Axes, corner: tuple[float, float], size: tuple[float, float], text: str, colour: str) -> None:
    from matplotlib.patches import Rectangle

    from papertest.figures import COLOURS

    axis.add_patch(Rectangle(corner, *size, facecolor=colour, edgecolor="black", linewidth=0.9))
    axis.text(corner[0] + size[0] / 2, corner[1] + size[1] / 2, text, ha="center", va="center", fontsize=10,
              color="black" if colour == COLOURS["variant"] else "white")  # fmt: skip


def arrow(axis: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    style = {"arrowstyle": "-|>", "color": "black", "linewidth": 1.0, "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", end, start, arrowprops=style)


@figure("hbm-traffic", "hbm-bytes", "gflops")
def hbm_traffic(results: dict[str, Any]) -> Figure:
    """Figure 2 left."""
    from papertest.figures import bars, panels

    drawing, axes = panels(2)
    for axis, claim, title, unit in (
        (axes[0], "hbm-bytes", "HBM reads and writes", "GB"),
        (axes[1], "gflops", "FLOPs of the matrix products", "GFLOP"),
    ):
        ours, paper = results[claim].value, results[claim].paper
        names = ["standard", "flash"]
        bars(axis, names, [ours[n] for n in names], [paper[n] for n in names], ["standard", "ours"])
        axis.set(title=title, ylabel=unit)
        axis.set_ylim(top=1.3 * max(ours.values()))  # room for the legend
        axis.legend(loc="upper left", ncols=2)
    return drawing


@figure("block-size", "hbm-by-block-size", "runtime-by-block-size")
def block_size(results: dict[str, Any]) -> Figure:
    """Figure 2 middle."""
    from papertest.figures import band, measured, panels

    drawing, (traffic, runtime) = panels(2, height=3.4, width=4.4)
    counted, timed = results["hbm-by-block-size"], results["runtime-by-block-size"]
    columns = counted.details["columns"]
    measured(traffic, columns, counted.value, "ours", "counted here")
    traffic.set(title="HBM reads and writes, forward", xlabel="columns of a block, $B_c$", ylabel="GB")
    blocks = [int(block) for block in timed.details["seconds"]]
    band(runtime, blocks, rounds_of(timed, 1e3), "ours", "measured here, least to largest round")
    runtime.set(title=f"Time, forward, N = {blocks[-1]}, CPU", xlabel="rows and columns of a block", ylabel="ms")
    beyond = counted.reported
    for axis, ticks in ((traffic, columns), (runtime, blocks)):
        axis.axvline(
            beyond, color="black", linestyle="--", linewidth=1, label=f"the paper, A100: no gain past {beyond}"
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
    details, paper = results["memory-exponent"].details, results["table-21"].paper
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


@figure(
    "speed",
    "forward-against-standard",
    "speed-backward",
    "runtime-by-block-size",
    "block-sparse-runtime",
    "speed-forward",
)
def speed(results: dict[str, Any]) -> Figure:
    """Tables 18 and 20 on a CPU: the speed-up over N, and every ratio that a criterion is about."""
    from papertest.figures import band_by_place, panels, reported, speeds

    drawing, (growth, ratios) = panels(2, height=4.8, width=5.2)
    for claim, table, role, label in (
        ("speed-forward", "table-18: ", "ours", "forward"),
        ("speed-backward", "", "variant", "forward and backward"),
    ):
        result = results[claim]
        by_length = result.details["by_length"]
        columns = [each["standard"] for each in by_length]
        lengths = result.details["lengths"]  # those that a criterion is about have more rounds than the others
        band_by_place(growth, lengths, columns, role, f"{label}, here")
        standard, flash = result.reported[f"{table}pytorch"], result.reported[f"{table}flash"]
        paper = [a / b for a, b in zip(standard, flash, strict=False)]
        number = "Table 18" if table else "Table 20"
        reported(growth, PAPER_LENGTHS[: len(paper)], paper, role, f"{label}, {number} (A100)")
    growth.set(title="Times standard attention's speed", xlabel="N", ylabel="ratio")
    growth.set_ylim(bottom=0)
    doubling(growth, PAPER_LENGTHS[:7])
    growth.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14))
    rows = [
        ("forward, over standard", "forward-against-standard", ""),
        ("both passes, over standard", "speed-backward", ""),
        ("block of 64 over the best", "runtime-by-block-size", "fall"),
        ("one block of 4096 over the best", "runtime-by-block-size", "past_cache"),
        ("a quarter of the blocks over all", "block-sparse-runtime", "quarter"),
        ("our aim: forward, over standard", "speed-forward", "at_4096"),
        ("our aim: of torch's own speed", "speed-forward", "of_sdpa"),
        ("our aim: growth, 512 to 4096", "speed-forward", "growth"),
    ]
    speeds(ratios, [(label, results[claim], part) for label, claim, part in rows])
    ratios.set(title="Ratios at N = 4096, CPU", xlabel="ratio")
    return drawing


@figure("block-sparse", "block-sparse-io", "block-sparse-runtime")
def block_sparse(results: dict[str, Any]) -> Figure:
    """Figure 2 right."""
    from papertest.figures import COLOURS, band, measured, panels, reported

    drawing, (traffic, runtime) = panels(2, height=3.4, width=4.4)
    counted, timed = results["block-sparse-io"].details, results["block-sparse-runtime"]
    moved = [100 * units / counted["units_of_Nd"][-1] for units in counted["units_of_Nd"]]
    measured(traffic, [100 * s for s in counted["densities"]], moved, "ours", "counted here")
    traffic.set(title="HBM reads and writes, N = 4096")
    rows = [[100 * s / row[-1] for s in row] for row in rounds_of(timed, 1)]
    densities = [100 * s for s in timed.details["densities"]]
    band(runtime, densities, rows, "ours", "measured here, CPU, least to largest round")
    runtime.plot(
        25, 100 * timed.bounds["quarter"][0][1], "v", color=COLOURS["peer"], label="accepted: at most, at 25 %"
    )
    runtime.set(title="Time, forward, N = 4096")
    for axis in (traffic, runtime):
        reported(axis, [0, 25, 50, 75, 100], [0, 25, 50, 75, 100], "standard", "the paper: proportional")
        axis.set(xlabel="blocks kept, %", ylabel="% of dense")
        axis.legend(loc="upper left")
        axis.set_ylim(top=135)  # room for the legend
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
    curve.set(title="Training loss, seed 0", xlabel="step", ylabel="nats per character")
    curve.legend()
    for seed, (sample, role) in enumerate(zip(samples, ("ours", "variant", "other"), strict=False)):
        pairs = zip(sample["flash"]["losses"], sample["standard"]["losses"], strict=True)
        apart = [max(abs(a - b), 1e-8) for a, b in pairs]
        measured(difference, range(1, len(apart) + 1), apart, role, f"seed {seed}", marker="", linewidth=1)
    difference.axhline(1e-3, color=COLOURS["peer"], linestyle="--", linewidth=1, label="accepted: at most")
    difference.set(title="Difference of the two losses", xlabel="step", ylabel="nats per character", yscale="log")
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


def rounds_of(result: Any, factor: float) -> list[list[float]]:
    """A row per round: the seconds of each side, times `factor`."""
    return [[factor * s for s in row] for row in zip(*result.details["seconds"].values(), strict=True)]


def doubling(axis: Axes, values: list[int]) -> None:
    """A logarithmic x axis with a tick at each of these values."""
    axis.set_xscale("log", base=2)
    labels = [str(n) if n < 1024 else f"{n // 1024}K" for n in values]
    axis.set_xticks(values, labels)
    axis.minorticks_off()
