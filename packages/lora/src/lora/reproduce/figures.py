"""The write-up's figures: our numbers filled, the paper's hollow and dashed, what is accepted as a pale band."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from papertest.claims import figure

from lora.reproduce.training.classifiers import BIAS, FULL, HEAD, LAST, lora_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LORA = lora_name("q,v", 8)
ROWS = {  # of the counted tables, in order: what stands beside the row
    "params-roberta": {
        "base_lora": "RoBERTa base, LoRA, r = 8",
        "large_lora": "RoBERTa large, LoRA, r = 8",
        "large_adpt_p": "RoBERTa large, Adapter-P, r = 64",
        "large_adpt_p_small": "RoBERTa large, Adapter-P, r = 16",
        "large_adpt_h": "RoBERTa large, Adapter-H, r = 64",
        "large_adpt_h_small": "RoBERTa large, Adapter-H, r = 8",
    },
    "params-deberta": {"xxl_lora": "DeBERTa XXL, LoRA, r = 8"},
    "params-gpt2": {"medium_lora": "GPT-2 medium, LoRA, r = 4", "large_lora": "GPT-2 large, LoRA, r = 4"},
    "params-gpt3": {
        "preembed": "GPT-3, prefix in the embeddings, 264 tokens",
        "adapter_h_small": "GPT-3, Adapter-H, r = 1",
        "adapter_h": "GPT-3, Adapter-H, r = 8",
        "lora_small": "GPT-3, LoRA on q and v, r = 1",
        "lora": "GPT-3, LoRA on q and v, r = 8",
    },
    "params-bitfit": {"bitfit": "GPT-3, biases alone"},
}
TABLE_15 = {"v": ("v", (2,)), "q_v": ("q and v", (1, 2, 4, 8, 64)), "q_k_v_o": ("q, k, v and o", (1, 2, 4, 64))}


@figure("beside")
def beside(results: dict[str, Any]) -> Figure:
    """A schematic: A and B beside W_0, in training and merged."""
    from papertest.figures import COLOURS, panels

    drawing, (training, served) = panels(2, height=3.8, width=4.6)
    for axis, title in ((training, "In training"), (served, "Merged, to be served")):
        axis.set(title=title, xlim=(0, 11), ylim=(0, 9))
        axis.set_axis_off()
        box(axis, (3.2, 0.2), (3.6, 0.8), "input x, k numbers", "white")
        box(axis, (3.2, 7.9), (3.6, 0.8), "output h, d numbers", "white")
    box(training, (0.4, 2.6), (3.4, 3.4), "W₀\nd × k\nfrozen", COLOURS["standard"])
    wedge(training, 6.0, 2.0, 1.75, COLOURS["ours"], up=False)
    wedge(training, 6.0, 4.25, 1.75, COLOURS["ours"], up=True)
    training.text(7.5, 2.75, "A\nr × k", ha="center", va="center", color="white", weight="bold")
    training.text(7.5, 5.25, "B\nd × r", ha="center", va="center", color="white", weight="bold")
    training.text(9.2, 2.9, "starts\nGaussian", ha="left", va="center", fontsize=8.5)
    training.text(9.2, 5.2, "starts\nat zero", ha="left", va="center", fontsize=8.5)
    training.text(8.35, 4.0, "r numbers", ha="left", va="center", fontsize=8.5)
    training.text(7.7, 6.62, "times α/r", ha="left", va="center", fontsize=8.5)
    plus = (5.0, 7.1)
    training.add_patch(circle(plus, 0.34))
    training.text(*plus, "+", ha="center", va="center", fontsize=13)
    arrow(training, (4.6, 1.0), (2.1, 2.6))
    arrow(training, (5.4, 1.0), (7.5, 2.0))
    arrow(training, (7.5, 3.75), (7.5, 4.25))
    arrow(training, (2.1, 6.0), (4.68, 7.0))
    arrow(training, (7.5, 6.0), (5.32, 7.0))
    arrow(training, (5.0, 7.44), (5.0, 7.9))
    box(served, (3.3, 2.6), (3.4, 3.4), "W = W₀ + (α/r) B A\nd × k", COLOURS["peer"])
    arrow(served, (5.0, 1.0), (5.0, 2.6))
    arrow(served, (5.0, 6.0), (5.0, 7.9))
    served.text(7.0, 4.3, "one product,\nas before LoRA", ha="left", va="center", fontsize=8.5)
    return drawing


def box(axis: Axes, corner: tuple[float, float], size: tuple[float, float], text: str, colour: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    axis.add_patch(FancyBboxPatch(corner, *size, boxstyle="round,pad=0,rounding_size=0.15", facecolor=colour,
                                  edgecolor="black", linewidth=0.9))  # fmt: skip
    axis.text(corner[0] + size[0] / 2, corner[1] + size[1] / 2, text, ha="center", va="center", fontsize=9.5,
              color="black" if colour == "white" else "white")  # fmt: skip


def wedge(axis: Axes, left: float, bottom: float, height: float, colour: str, *, up: bool) -> None:
    """A trapezium: A narrows from k numbers to r, B (`up`) widens from r to d."""
    from matplotlib.patches import Polygon

    wide, narrow = (left, left + 3.0), (left + 0.95, left + 2.05)
    below, above = (narrow, wide) if up else (wide, narrow)
    corners = [(below[0], bottom), (below[1], bottom), (above[1], bottom + height), (above[0], bottom + height)]
    axis.add_patch(Polygon(corners, closed=True, facecolor=colour, edgecolor="black", linewidth=0.9))


def circle(centre: tuple[float, float], radius: float) -> Any:
    from matplotlib.patches import Circle

    return Circle(centre, radius, facecolor="white", edgecolor="black", linewidth=0.9)


def arrow(axis: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axis.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": "black", "linewidth": 1.0,
                                              "shrinkA": 0, "shrinkB": 0})  # fmt: skip


@figure("parameters", "params-roberta", "params-deberta", "params-gpt2", "params-gpt3", "params-bitfit", "params-ranks")
def parameters(results: dict[str, Any]) -> Figure:
    """Tables 2 to 4 and 15: trainable parameters counted on models without weights, over those printed."""
    from papertest.figures import COLOURS, panels

    drawing, (axis,) = panels(1, height=6.2, width=8.2)
    rows: list[tuple[str, float, float]] = []
    for claim, names in ROWS.items():
        result = results[claim]
        rows += [(name, result.value[key], result.paper[key]) for key, name in names.items()]
    counted = results["params-ranks"]
    for part, (name, ranks) in TABLE_15.items():
        for r, ours, paper in zip(ranks, counted.value[part], counted.paper[part], strict=True):
            rows.append((f"GPT-3, LoRA on {name}, r = {r} (Table 15)", ours, paper))
    places = range(len(rows))
    axis.plot([1] * len(rows), places, "D", color=COLOURS["peer"], markerfacecolor="white", label="the paper")
    axis.plot([ours / paper for _, ours, paper in rows], places, "o", color=COLOURS["ours"], label="counted here")
    axis.set_yticks(places, [f"{name}: {paper:g} M" for name, _, paper in rows], fontsize=8)
    axis.invert_yaxis()
    axis.set(title="Trainable parameters, counted over printed", xlabel="ratio")
    axis.legend(loc="lower left")
    return drawing


@figure("methods", "close-to-full", "ahead-of-bias", "ahead-of-last-layer", "q-and-v-together")
def methods(results: dict[str, Any]) -> Figure:
    """Accuracy by what is trained, and the differences that are judged beside the paper's."""
    from papertest.figures import COLOURS, effects, panels

    drawing, (bars, gains) = panels(2, height=4.8, width=5.0)
    found: dict[str, dict[str, list[float]]] = {"english": {}, "chinese": {}}
    for claim in ("ahead-of-last-layer", "ahead-of-bias", "close-to-full"):  # the last has the most seeds
        for language, by in found.items():
            samples = [sample["details"][language] for sample in results[claim].samples]
            by |= {name: [sample[name] for sample in samples] for name in samples[0]}
    names = {FULL: "full", LORA: "LoRA\nr = 8", BIAS: "biases", LAST: "last\nlayer", HEAD: "classifier\nalone"}
    for shift, (language, role) in zip((-0.2, 0.2), (("english", "ours"), ("chinese", "peer")), strict=True):
        for x, name in enumerate(names):
            if name in found[language]:
                accuracies = found[language][name]
                bars.bar(x + shift, statistics.mean(accuracies), 0.36, color=COLOURS[role],
                         label=language.capitalize() if x == 0 else None)  # fmt: skip
                bars.plot([x + shift] * len(accuracies), accuracies, "_", color="black", markersize=9,
                          label="one seed each" if x == 0 and language == "chinese" else None)  # fmt: skip
    bars.set_xticks(range(len(names)), list(names.values()))
    bars.set(title="Accuracy by what is trained", ylabel="accuracy, %", ylim=(50, 90))
    bars.grid(visible=False, axis="x")
    bars.legend(loc="upper right", ncols=3)
    effects(gains, [
        ("LoRA − full, English", results["close-to-full"], "english"),
        ("LoRA − full, Chinese", results["close-to-full"], "chinese"),
        ("LoRA − biases, English", results["ahead-of-bias"], "english"),
        ("LoRA − biases, Chinese", results["ahead-of-bias"], "chinese"),
        ("LoRA − last layer, English", results["ahead-of-last-layer"], "english"),
        ("LoRA − last layer, Chinese", results["ahead-of-last-layer"], "chinese"),
        ("q,v (r = 4) − q (r = 8)", results["q-and-v-together"], "over_q"),
        ("q,v (r = 4) − v (r = 8)", results["q-and-v-together"], "over_v"),
    ])  # fmt: skip
    gains.set(title="Differences in accuracy", xlabel="percentage points")
    return drawing


@figure("ranks", "ranks-level")
def ranks(results: dict[str, Any]) -> Figure:
    """Table 6: accuracy by rank, and how far apart the ranks are."""
    from papertest.figures import band, effects, panels, reported

    drawing, (ours, paper, apart) = panels(3, height=3.5, width=3.7)
    result = results["ranks-level"]
    found = [sample["details"]["accuracy"] for sample in result.samples]
    band(ours, result.samples[0]["details"]["ranks"], found, "ours", "q,v: mean and range of the seeds")
    centre = statistics.mean(x for row in found for x in row)
    ours.set(title="MiniLM, film reviews", ylim=(centre - 8, centre + 8))
    for key, role, label in (("wikisql_q", "standard", "WikiSQL, q"), ("wikisql_q_v", "peer", "WikiSQL, q,v"),
                             ("wikisql_q_k_v_o", "other", "WikiSQL, q,k,v,o")):  # fmt: skip
        reported(paper, [1, 2, 4, 8, 64], result.reported[key], role, label)
    paper.set(title="The paper: Table 6, GPT-3", ylim=(64, 80))
    for axis in (ours, paper):
        axis.set(xlabel="rank r", ylabel="accuracy, %", xscale="log")
        axis.set_xticks([1, 2, 4, 8, 64], ["1", "2", "4", "8", "64"])
        axis.minorticks_off()
        axis.legend(loc="lower right")
    effects(apart, [("largest −\nsmallest", result, "spread"), ("r = 1 −\nr = 64", result, "r1_minus_r64")])
    apart.set(title="Nearly level", xlabel="percentage points")
    apart.legend(loc="upper center", bbox_to_anchor=(0.4, -0.2), ncols=2)
    return drawing


@figure("subspaces", "subspace-similarity", "two-seeds-similarity")
def subspaces(results: dict[str, Any]) -> Figure:
    """Figures 3 and 4: φ (Eq. 4) of A in one layer."""
    from matplotlib import pyplot as plt

    from papertest.figures import house_style

    details = results["subspace-similarity"].details
    with house_style():
        drawing, axes = plt.subplots(2, 3, figsize=(10.2, 4.6), squeeze=False)
    titles = {"q": "query", "v": "value", "random": "random"}
    for row, (pair, label) in zip(axes, (("ranks", "r = 8 and 64"), ("seeds", "r = 64, two seeds")), strict=True):
        for axis, (part, name) in zip(row, titles.items(), strict=True):
            grid = details["maps"][f"{pair} {part}"]
            edges = (0.5, len(grid[0]) + 0.5, len(grid) + 0.5, 0.5)
            axis.imshow(grid, aspect="auto", cmap="magma", vmin=0, vmax=1, extent=edges)
            axis.set(title=f"{name}: {label}", xlabel="j", ylabel="i")
            axis.grid(visible=False)
    drawing.colorbar(axes[0, 0].images[0], ax=list(axes[:, -1]), shrink=0.9, label="φ(i, j)")
    return drawing


@figure("directions", "subspace-similarity", "two-seeds-similarity")
def directions(results: dict[str, Any]) -> Figure:
    """Figures 3 and 4 in numbers: φ at i = j = 1 of two ranks, and φ at i = j = 8 of two seeds over chance."""
    from papertest.figures import effects, panels

    drawing, (two_ranks, two_seeds) = panels(2, height=3.0, width=4.9)
    ranks, seeds = results["subspace-similarity"], results["two-seeds-similarity"]
    effects(two_ranks, [("query", ranks, "q"), ("value", ranks, "v"), ("random matrices", ranks, "random")])
    two_ranks.set(title="First direction of r = 8 and r = 64", xlabel="φ at i = j = 1")
    two_seeds.set_xscale("log")
    effects(two_seeds, [("query", seeds, "q"), ("value", seeds, "v")])
    two_seeds.set(title="Eight directions of two seeds", xlabel="φ at i = j = 8, over that of random matrices")
    two_seeds.set_xticks([1, 2, 5, 10], ["1", "2", "5", "10"])
    two_seeds.minorticks_off()
    return drawing


@figure("amplification", "amplification")
def amplification(results: dict[str, Any]) -> Figure:
    """Table 7: what W has in the directions of ΔW, of its own, and of a random matrix, over ‖W‖; and the ratios."""
    from papertest.figures import COLOURS, effects, panels

    drawing, axes = panels(3, height=3.6, width=3.7)
    result = results["amplification"]
    names = {"delta": "of ΔW", "w": "of W itself", "random": "random"}
    table = result.reported
    for axis, r in zip(axes, ("4", "64"), strict=False):
        seeds = [
            [statistics.mean(layer[key] / layer["norm_w"] for layer in sample["details"]["layers"][r]) for key in names]
            for sample in result.samples
        ]
        ours = [statistics.mean(column) for column in zip(*seeds, strict=True)]
        paper = [table[f"{key}_{r}"] / table["norm_w"] for key in ("delta_w", "w", "random")]
        for shift, heights, filled in ((-0.2, ours, True), (0.2, paper, False)):
            look: dict[str, Any] = {"color": COLOURS["ours"]} if filled else {"facecolor": "white", "hatch": "///"}
            bars = axis.bar([x + shift for x in range(3)], heights, 0.36, edgecolor=COLOURS["ours"],
                            label="measured here" if filled else "the paper", **look)  # fmt: skip
            axis.bar_label(bars, [f"{height:.2g}" for height in heights], fontsize=8, padding=2)
        axis.set_xticks(range(3), list(names.values()))
        axis.grid(visible=False, axis="x")
        axis.set(title=f"W_q in r = {r} directions", ylabel="‖UᵀWVᵀ‖ / ‖W‖", yscale="log", ylim=(1e-4, 60))
        axis.legend(loc="upper right")
    axes[2].set_xscale("log")
    effects(axes[2], [
        ("amplification\nfactor", result, "factor"),
        ("W's own over\nΔW's directions", result, "own_over_delta"),
        ("ΔW's over\nrandom ones", result, "delta_over_random"),
    ])  # fmt: skip
    axes[2].set(title="The ratios at r = 4", xlabel="ratio")
    axes[2].set_xticks([1, 3, 10, 30, 100], ["1", "3", "10", "30", "100"])
    axes[2].minorticks_off()
    axes[2].legend(loc="upper center", bbox_to_anchor=(0.3, -0.2), ncols=2)
    return drawing


@figure("latency", "gpu-latency")
def latency(results: dict[str, Any]) -> Figure:
    """Table 1 on a GPU: per cent that adapter layers and merged LoRA add, by batch and length."""
    from papertest.figures import COLOURS, panels, reported

    drawing, axes = panels(3, width=3.6)
    columns = ["32 × 512", "16 × 256", "1 × 128"]
    result = results["gpu-latency"]
    for axis, kind, role, label in (
        (axes[0], "adapter_l", "variant", "Adapter-L"),
        (axes[1], "adapter_h", "peer", "Adapter-H"),
        (axes[2], "merged", "ours", "Merged LoRA"),
    ):
        ours, intervals = result.value[kind], result.interval[kind]
        below, above = ([abs(x - interval[end]) for x, interval in zip(ours, intervals, strict=True)] for end in (0, 1))
        axis.errorbar(columns, ours, (below, above), marker="o", capsize=4, color=COLOURS[role],
                      label=f"here, {short(result.machines[0])}")  # fmt: skip
        if kind in result.paper:
            reported(axis, columns, result.paper[kind], role, "the paper, a Quadro RTX8000")
            low = result.bounds[f"{kind}_online"][0][0]
            axis.plot([1.7, 2.3], [low, low], color=COLOURS["other"], linewidth=2.5, label="required at least")
        else:
            low, high = result.bounds[kind][0]
            axis.axhspan(low, high, color=COLOURS["other"], alpha=0.22, linewidth=0, label="accepted")
        axis.axhline(0, color="black", linewidth=0.8)
        axis.set(title=f"{label} adds", xlabel="batch × length", ylabel="% of the time", ylim=(-8, 72))
        axis.legend(loc="upper left")
    return drawing


def short(machine: str) -> str:
    """`NVIDIA H100 80GB HBM3` as `NVIDIA H100`."""
    return " ".join(machine.split()[:2])


@figure("speed", "adapter-latency", "training-step", "training-memory", "peft-step", "peft-switch")
def speed(results: dict[str, Any]) -> Figure:
    """On one CPU core: what adapters add, what LoRA saves in a step, and how our step and switch compare with peft."""
    from papertest.figures import effects, panels, speeds

    drawing, (added, step, switch) = panels(3, height=3.4, width=4.1)
    latency = results["adapter-latency"]
    effects(added, [("Adapter-L", latency, "adapter_l"), ("Adapter-H", latency, "adapter_h"),
                    ("LoRA,\nmerged", latency, "merged")], no_effect=1.0)  # fmt: skip
    added.set(title="A forward pass at batch 1", xlabel="time over the base model's")
    memory = results["training-memory"]
    speeds(step, [
        ("LoRA over full:\nspeed", results["training-step"], ""),
        ("LoRA over full:\npeak memory", memory, "peak"),
        ("ours over peft's:\nspeed", results["peft-step"], "speed"),
        ("ours over peft's:\npeak memory", results["peft-step"], "memory"),
    ])  # fmt: skip
    step.set(title="A training step of SmolLM2", xlabel="ratio")
    speeds(switch, [("switching over\nloading: speed", results["peft-switch"], "")])
    switch.set(title="Another adapter", xlabel="ratio")
    for axis in (added, step, switch):
        axis.legend(loc="upper center", bbox_to_anchor=(0.35, -0.2), ncols=2)
    return drawing
