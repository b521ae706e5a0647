"""The write-up's figures: our numbers filled, the paper's hollow and dashed."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from papertest.claims import figure

from lora.reproduce.methods import BIAS, FULL, HEAD, LAST, lora_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LORA = lora_name("q,v", 8)


@figure("parameters", "params-roberta", "params-deberta", "params-gpt2", "params-gpt3", "params-bitfit", "params-ranks")
def parameters(results: dict[str, Any]) -> Figure:
    """Tables 2 to 4 and 15: trainable parameters counted on models without weights, over those printed."""
    from papertest.figures import COLOURS, panels

    drawing, (axis,) = panels(1, height=5.2, width=7.2)
    rows: list[tuple[str, float, float]] = []
    for claim, model in (("params-roberta", "RoBERTa"), ("params-deberta", "DeBERTa"), ("params-gpt2", "GPT-2"),
                         ("params-gpt3", "GPT-3"), ("params-bitfit", "GPT-3")):  # fmt: skip
        result = results[claim]
        rows += [
            (f"{model} {key.replace('_', ' ')}", value, result.reported[key]) for key, value in result.value.items()
        ]
    tried = {"v": (2,), "q_v": (1, 2, 4, 8, 64), "q_k_v_o": (1, 2, 4, 64)}  # Table 15
    counted = results["params-ranks"]
    for part, r_tried in tried.items():
        for r, ours, paper in zip(r_tried, counted.value[part], counted.reported[part], strict=True):
            rows.append((f"GPT-3 LoRA {part.replace('_', ',')} r = {r}", ours, paper))
    places = range(len(rows))
    axis.plot([ours / paper for _, ours, paper in rows], places, "o", color=COLOURS["ours"], label="counted here")
    axis.plot([1] * len(rows), places, "D", color=COLOURS["peer"], markerfacecolor="white", label="the paper")
    axis.set_yticks(places, [f"{name}: {paper:g} M" for name, _, paper in rows], fontsize=7)
    axis.invert_yaxis()
    axis.set(title="Trainable parameters, counted over printed", xlabel="ratio")
    axis.legend(loc="lower left")
    return drawing


def differences(axis: Axes, rows: list[tuple[str, list[float], float | None]]) -> None:
    """One line a comparison: each seed's difference, their mean, and the paper's where it has one."""
    from papertest.figures import COLOURS

    for y, (_, samples, paper) in enumerate(rows):
        first = y == 0
        axis.plot(samples, [y] * len(samples), "|", markersize=9, color=COLOURS["ours"],
                  label="here, one seed each" if first else None)  # fmt: skip
        axis.plot(statistics.mean(samples), y, "o", color=COLOURS["ours"], label="here, mean" if first else None)
        if paper is not None:
            axis.plot(paper, y, "D", color=COLOURS["peer"], markerfacecolor="white",
                      label="the paper" if first else None)  # fmt: skip
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_yticks(range(len(rows)), [label for label, _, _ in rows])
    axis.invert_yaxis()
    axis.margins(y=0.12)
    axis.legend(loc="best")


@figure("methods", "close-to-full", "ahead-of-bias", "ahead-of-last-layer", "q-and-v-together")
def methods(results: dict[str, Any]) -> Figure:
    """Accuracy by what is trained, and LoRA minus each other method beside the paper's differences."""
    from papertest.figures import COLOURS, panels

    drawing, (bars, gains) = panels(2, height=3.4, width=4.6)
    found: dict[str, dict[str, list[float]]] = {"english": {}, "chinese": {}}
    for claim in ("close-to-full", "ahead-of-bias", "ahead-of-last-layer"):
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
                bars.plot([x + shift] * len(accuracies), accuracies, "_", color="black", markersize=9)
    bars.set_xticks(range(len(names)), list(names.values()))
    bars.set(title="Accuracy by what is trained", ylabel="accuracy, %", ylim=(50, 90))
    bars.legend()
    paper = {row: statistics.mean(each) for row, each in glue(results["close-to-full"].reported).items()}
    five = results["q-and-v-together"].reported
    together = [
        statistics.mean(five[f"table-5: {task}"][5] - five[f"table-5: {task}"][place] for task in ("wikisql", "mnli"))
        for place in (0, 2)
    ]
    bleu = results["ahead-of-last-layer"].reported
    differences(gains, [
        ("minus full, English\n(paper: GLUE)", values(results, "close-to-full", "english"),
         paper["base_lora"] - paper["base_ft"]),
        ("minus full, Chinese", values(results, "close-to-full", "chinese"), None),
        ("minus biases, English\n(paper: GLUE)", values(results, "ahead-of-bias", "english"),
         paper["base_lora"] - paper["base_bitfit"]),
        ("minus biases, Chinese", values(results, "ahead-of-bias", "chinese"), None),
        ("minus last layer, English\n(paper: top 2 of 24, BLEU)", values(results, "ahead-of-last-layer", "english"),
         bleu["medium_lora"][0] - bleu["medium_ft_top2"][0]),
        ("minus last layer, Chinese", values(results, "ahead-of-last-layer", "chinese"), None),
        ("q,v r 4 minus q r 8\n(paper: two tasks)", values(results, "q-and-v-together", "over_q"), together[0]),
        ("q,v r 4 minus v r 8\n(paper: two tasks)", values(results, "q-and-v-together", "over_v"), together[1]),
    ])  # fmt: skip
    gains.tick_params(axis="y", labelsize=7)
    gains.set(title="LoRA minus another method", xlabel="percentage points")
    return drawing


def glue(reported: dict[str, Any]) -> dict[str, list[float]]:
    """The rows of Table 2, out of a claim that reports its parameters too."""
    start = "table-2: "
    return {key.removeprefix(start): row for key, row in reported.items() if key.startswith(start)}


def values(results: dict[str, Any], claim: str, key: str) -> list[float]:
    """One for each seed."""
    return [sample["value"][key] for sample in results[claim].samples]


@figure("ranks", "ranks-level")
def ranks(results: dict[str, Any]) -> Figure:
    """Table 6: accuracy by rank."""
    from papertest.figures import COLOURS, measured, panels, reported

    drawing, (ours, paper) = panels(2)
    result = results["ranks-level"]
    found = [sample["details"]["accuracy"] for sample in result.samples]
    shown = result.samples[0]["details"]["ranks"]
    columns = list(zip(*found, strict=True))
    ours.fill_between(shown, [min(c) for c in columns], [max(c) for c in columns], color=COLOURS["ours"], alpha=0.2,
                      linewidth=0)  # fmt: skip
    measured(ours, shown, [statistics.mean(c) for c in columns], "ours", "here: q,v, mean and range of the seeds")
    centre = statistics.mean(x for c in columns for x in c)
    ours.set(title="MiniLM, movie sentences", ylim=(centre - 8, centre + 8))
    for key, role, label in (("wikisql_q", "standard", "WikiSQL, q"), ("wikisql_q_v", "peer", "WikiSQL, q,v"),
                             ("wikisql_q_k_v_o", "other", "WikiSQL, q,k,v,o")):  # fmt: skip
        reported(paper, [1, 2, 4, 8, 64], result.reported[key], role, label)
    paper.set(title="Table 6, GPT-3", ylim=(64, 80))
    for axis in (ours, paper):
        axis.set(xlabel="r", ylabel="accuracy, %", xscale="log")
        axis.set_xticks([1, 2, 4, 8, 64], ["1", "2", "4", "8", "64"])
        axis.minorticks_off()
        axis.legend(loc="lower right")
    return drawing


@figure("subspaces", "subspace-similarity", "two-seeds-similarity")
def subspaces(results: dict[str, Any]) -> Figure:
    """Figures 3 and 4: φ (Eq. 4) of A in one layer."""
    from matplotlib import pyplot as plt

    from papertest.figures import house_style

    details = results["subspace-similarity"].samples[0]["details"]
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


@figure("amplification", "amplification")
def amplification(results: dict[str, Any]) -> Figure:
    """Table 7: what W has in the directions of ΔW, of its own, and of a random matrix, over ‖W‖."""
    from papertest.figures import COLOURS, panels

    drawing, axes = panels(2)
    result = results["amplification"]
    names = {"delta": "of ΔW", "w": "of W itself", "random": "random"}
    for axis, r in zip(axes, ("4", "64"), strict=True):
        layers = [layer for sample in result.samples for layer in sample["details"]["layers"][r]]
        ours = [statistics.mean(layer[key] / layer["norm_w"] for layer in layers) for key in names]
        table = result.reported
        paper = [table[f"{key}_{r}"] / table["norm_w"] for key in ("delta_w", "w", "random")]
        for shift, heights, filled in ((-0.2, ours, True), (0.2, paper, False)):
            look: dict[str, Any] = {"color": COLOURS["ours"]} if filled else {"facecolor": "white", "hatch": "///"}
            bars = axis.bar([x + shift for x in range(3)], heights, 0.36, edgecolor=COLOURS["ours"],
                            label="measured here" if filled else "the paper", **look)  # fmt: skip
            axis.bar_label(bars, [f"{height:.2g}" for height in heights], fontsize=8, padding=2)
        axis.set_xticks(range(3), list(names.values()))
        axis.grid(visible=False, axis="x")
        axis.set(title=f"W_q in r = {r} directions", ylabel="‖UᵀWVᵀ‖ / ‖W‖", yscale="log", ylim=(1e-4, 5))
        axis.legend(loc="upper right")
    return drawing


@figure("latency", "adapter-latency", "gpu-latency", "table-1-percentages")
def latency(results: dict[str, Any]) -> Figure:
    """Table 1: per cent that adapter layers and merged LoRA add, here on a GPU, and at batch 1 on a CPU."""
    from papertest.figures import COLOURS, measured, panels, reported

    drawing, axes = panels(3, width=3.6)
    columns = ["32 × 512", "16 × 256", "1 × 128"]
    paper, gpu, cpu = (results[name] for name in ("table-1-percentages", "gpu-latency", "adapter-latency"))
    for axis, kind, role, label in (
        (axes[0], "adapter_l", "variant", "Adapter-L"),
        (axes[1], "adapter_h", "peer", "Adapter-H"),
        (axes[2], "merged", "ours", "LoRA, merged"),
    ):
        printed = paper.reported[f"{kind}_percent"] if kind != "merged" else [0.0, 0.0, 0.0]
        reported(axis, columns, printed, role, "the paper, a GPU")
        by_column = zip(*(sample["value"][kind] for sample in gpu.samples), strict=True)
        measured(axis, columns, list(map(statistics.mean, by_column)), role, f"here, {short(gpu.machine)}")
        added = [100 * (sample["value"][kind] - 1) for sample in cpu.samples]
        axis.plot(columns[-1:] * len(added), added, "_", color=COLOURS["standard"], markersize=14)
        axis.plot(columns[-1:], [statistics.mean(added)], "o", color=COLOURS["standard"], label="here, two CPU cores")
        axis.set(title=f"{label} adds", xlabel="batch × length", ylabel="% of the time", ylim=(-5, 46))
        axis.legend(loc="upper left")
    return drawing


def short(machine: str) -> str:
    """`NVIDIA H100 80GB HBM3` as `NVIDIA H100`."""
    return " ".join(machine.split()[:2])


@figure("speed", "training-step", "training-memory", "peft-step")
def speed(results: dict[str, Any]) -> Figure:
    """A training step of SmolLM2: LoRA beside full fine-tuning, and beside peft."""
    from papertest.figures import COLOURS, panels

    drawing, (full, peers) = panels(2)
    steps, memory = results["training-step"].samples, results["training-memory"].samples
    seconds = [statistics.mean(sample["details"][who] for sample in steps) for who in ("ours", "peer")]
    bytes_ = [statistics.mean(sample["details"][who]["peak"] for sample in memory) for who in ("lora", "full")]
    shown = full.bar(["LoRA\nq,v, r = 8", "full"], seconds, 0.5, color=[COLOURS["ours"], COLOURS["standard"]])
    full.bar_label(shown, [f"{s:.2f} s\n{b / 2**20:.0f} MiB" for s, b in zip(seconds, bytes_, strict=True)], fontsize=8)
    full.set(title="LoRA and full fine-tuning", ylabel="seconds a step", ylim=(0, 1.3 * max(seconds)))
    details = [sample["details"] for sample in results["peft-step"].samples]
    for x, key in enumerate(("all", "query_value")):
        for shift, who, role in ((-0.2, "ours", "ours"), (0.2, "peer", "standard")):
            mean = statistics.mean(each[key][who] for each in details)
            bars = peers.bar(x + shift, mean, 0.36, color=COLOURS[role],
                             label=("ours" if who == "ours" else "peft") if x == 0 else None)  # fmt: skip
            peers.bar_label(bars, [f"{mean:.2f}"], fontsize=8)
    peers.set_xticks([0, 1], ["all seven projections", "q and v"])
    peers.set(title="LoRA, ours and peft's", ylabel="seconds a step")
    peers.set_ylim(top=1.25 * peers.get_ylim()[1])
    peers.legend(loc="upper right")
    for axis in (full, peers):
        axis.grid(visible=False, axis="x")
    return drawing
