"""The write-up's figures: our numbers filled, the paper's hollow and dashed."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any

from papertest.claims import figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The experiments on small models, and the two rows of Table 3 that each one is about: what is changed, and from what.
ROWS = {
    "row-a-heads": ("A: one head, not four", "a_h_1", "a_h_4"),
    "row-b-key-size": ("B: a quarter of d_k", "b_d_k_16", "base"),
    "row-c-width": ("C: half of d_model", "c_d_model_256", "base"),
    "row-c-depth": ("C: half of the layers (paper: a third)", "c_n_2", "base"),
    "row-d-dropout": ("D: no dropout", "d_p_drop_0", "base"),
    "row-e-learned": ("E: learned positions", "e_learned", "base"),
    "smoothing-perplexity": ("label smoothing, not none", "base", "d_eps_ls_0"),
}


@figure(
    "table-3",
    "row-a-heads",
    "row-b-key-size",
    "row-c-width",
    "row-c-depth",
    "row-d-dropout",
    "row-e-learned",
    "smoothing-perplexity",
)
def table_3(results: dict[str, Any]) -> Figure:
    """Table 3 at small scale: what each change does to perplexity."""
    from papertest.figures import COLOURS, panels

    drawing, (axis,) = panels(1, height=3.4, width=7.0)
    paper = results["row-b-key-size"].reported
    for y, (claim, (_, changed, base)) in enumerate(ROWS.items()):
        result = results[claim]
        ((low, high),) = result.interval[""]
        first = y == 0
        axis.plot([low, high], [y, y], color=COLOURS["ours"], linewidth=2.2, alpha=0.45)
        axis.plot([sample["value"] for sample in result.samples], [y] * len(result.samples), "|", markersize=9,
                  color=COLOURS["ours"], label="here, one seed each" if first else None)  # fmt: skip
        axis.plot(result.value, y, "o", color=COLOURS["ours"], label="here, mean and 95 % interval" if first else None)
        axis.plot(paper[changed] / paper[base], y, "D", color=COLOURS["peer"], markerfacecolor="white",
                  label="the paper (Table 3)" if first else None)  # fmt: skip
    axis.axvline(1, color="black", linewidth=0.8)
    axis.set_yticks(range(len(ROWS)), [label for label, _, _ in ROWS.values()])
    axis.invert_yaxis()
    axis.set(title="Perplexity over that of the model without the change", xlabel="ratio: above 1 the change hurts")
    axis.legend(loc="lower right")
    return drawing


@figure("parameters", "params-37000", "params-one-vocabulary", "params-big")
def parameters(results: dict[str, Any]) -> Figure:
    """Table 3, last column: computed less printed."""
    from papertest.figures import COLOURS, panels

    drawing, (axis,) = panels(1, height=3.8, width=7.0)
    printed = results["params-37000"].reported
    text, fitted = results["params-37000"].value, results["params-one-vocabulary"].value | results["params-big"].value
    names = list(printed)
    for counts, role, marker, label in (
        (text, "variant", "s", "vocabulary of 37,000, as the text has it"),
        (fitted, "ours", "o", "vocabulary of 41,106, fitted to all rows but the last"),
    ):
        axis.plot([counts[n] - printed[n] for n in names], range(len(names)), marker, color=COLOURS[role], label=label)
    axis.plot([0] * len(names), range(len(names)), "D", color=COLOURS["peer"], markerfacecolor="white",
              label="the paper (Table 3)")  # fmt: skip
    axis.axvspan(-0.5, 0.5, color=COLOURS["standard"], alpha=0.2, linewidth=0, label="rounds to the printed number")
    axis.set_yticks(range(len(names)), [f"{n.replace('_', ' ')}: {printed[n]}" for n in names])
    axis.invert_yaxis()
    axis.set(title="Parameters computed, less those printed", xlabel="millions")
    axis.set_xlim(-5, 9)
    axis.legend(loc="center right")
    return drawing


@figure("complexity", "table-1-complexity", "table-1-path")
def complexity(results: dict[str, Any]) -> Figure:
    """Table 1, counted."""
    from papertest.figures import measured, panels

    drawing, axes = panels(3, width=3.4)
    counted, paths = results["table-1-complexity"], results["table-1-path"]
    kinds = {"self_attention": "ours", "recurrent": "standard", "convolutional": "peer", "restricted": "variant"}
    paper = counted.reported
    for axis, size in zip(axes, ("n", "d"), strict=False):
        for kind, role in kinds.items():
            name = f"{kind}_{size}"
            label = f"{kind.replace('_', '-')}: {size}^{counted.value[name]:.2f} (paper {size}^{paper[name]})"
            counts = [count / 1e6 for count in counted.details["multiply_adds"][name]]
            measured(axis, counted.details["sizes"][size], counts, role, label)
        other = "d" if size == "n" else "n"
        axis.set(title=f"Multiply-adds, {other} = 256", xlabel=size, ylabel="millions", yscale="log")
        axis.set_ylim(top=axis.get_ylim()[1] * 60)  # room for the legend
    steps = paths.details["layers"]
    for name, role in (("self_attention_n", "ours"), ("recurrent_n", "standard"), ("restricted_n", "variant")):
        label = f"{name[:-2].replace('_', '-')}: n^{paths.value[name]:.2f} (paper n^{paths.reported[name]})"
        measured(axes[2], paths.details["sizes"]["n"], steps[name], role, label)
    axes[2].set(title="Longest path, layers or steps", xlabel="n", ylabel="count", yscale="log")
    axes[2].set_ylim(0.7, 4e4)
    for axis in axes:
        axis.set_xscale("log", base=2)
        axis.set_xticks([32, 64, 128, 256], ["32", "64", "128", "256"])
        axis.minorticks_off()
        axis.legend(loc="upper left", fontsize=7)
    return drawing


@figure("positions", "wavelengths", "positional-shift")
def positions(results: dict[str, Any]) -> Figure:
    """Section 3.5: the encoding, its wavelengths, and the error of its shift."""
    from papertest.figures import measured, panels, reported

    from transformer.positions import sinusoidal_encoding

    drawing, (table, waves, error) = panels(3, width=3.4)
    image = table.imshow(sinusoidal_encoding(100, 128).numpy(), aspect="auto", cmap="RdBu", vmin=-1, vmax=1)
    table.set(title="PE(pos, i), d_model = 128", xlabel="dimension i", ylabel="position pos")
    table.grid(visible=False)
    drawing.colorbar(image, ax=table, shrink=0.8)
    found = results["wavelengths"].details["wavelengths"]
    measured(waves, range(len(found)), found, "ours", "here, d_model = 512", marker="", linewidth=2.4)
    stated = results["wavelengths"].reported
    reported(waves, [0, len(found) - 1], [stated["first"], stated["last"]], "peer", "the paper: first and last",
             linestyle="")  # fmt: skip
    waves.set(title="Wavelengths, in units of 2π", xlabel="frequency i", ylabel="positions / 2π", yscale="log")
    waves.legend(loc="upper left")
    shift = results["positional-shift"]
    measured(error, shift.details["offsets"], shift.details["errors"], "ours", "largest error, float64")
    error.axhline(1e-11, color="black", linestyle="--", linewidth=1, label="accepted: at most")
    error.set(
        title="PE(pos + k) − M_k PE(pos)", xlabel="offset k", ylabel="largest difference", xscale="log", yscale="log"
    )
    error.set_ylim(1e-14, 1e-9)
    error.legend(loc="upper left")
    return drawing


@figure("scaling", "softmax-gradient")
def scaling(results: dict[str, Any]) -> Figure:
    """Section 3.2.1: why 1/√d_k."""
    from papertest.figures import COLOURS, measured, panels

    drawing, (axis,) = panels(1, width=5.2)
    details = results["softmax-gradient"].details
    measured(axis, details["d_k"], details["scaled"], "ours", "softmax(q·k / √d_k)")
    measured(axis, details["d_k"], details["unscaled"], "standard", "softmax(q·k)")
    axis.axhline(details["scaled"][0], color=COLOURS["peer"], linestyle="--", linewidth=1,
                 label="the paper: does not depend on d_k with the factor")  # fmt: skip
    axis.set(title="Gradient of the softmax over 64 keys", xlabel="d_k", ylabel="trace of its Jacobian, 1 − Σp²",
             xscale="log", yscale="log")  # fmt: skip
    axis.set_xticks(details["d_k"], [str(d) for d in details["d_k"]])
    axis.minorticks_off()
    axis.set_ylim(1e-4, 30)
    axis.legend(loc="upper right")
    return drawing


@figure("schedule", "schedule")
def schedule(results: dict[str, Any]) -> Figure:
    """Equation 3, as the optimizer takes it."""
    from papertest.figures import measured, panels, reported

    drawing, (axis,) = panels(1, width=5.2)
    details = results["schedule"].details
    rates = [1e4 * rate for rate in details["rates"]]
    measured(axis, details["steps"], rates, "ours", "read from the optimizer", marker="", linewidth=2.4)
    points = [1000, 2000, 4000, 8000, 16000]
    formula = [1e4 * 512**-0.5 * min(step**-0.5, step * 4000**-1.5) for step in points]
    reported(axis, points, formula, "peer", "the paper: Equation 3", linestyle="")
    axis.set(title="Learning rate of the base model", xlabel="step", ylabel="10⁻⁴")
    axis.set_ylim(0, 9)
    axis.legend()
    return drawing


@figure(
    "curves",
    "row-a-heads",
    "row-b-key-size",
    "row-c-width",
    "row-c-depth",
    "row-d-dropout",
    "row-e-learned",
    "smoothing-perplexity",
    "recurrent-baseline",
)
def curves(results: dict[str, Any]) -> Figure:
    """Perplexity of the development pairs while training: mean and range over the seeds."""
    from papertest.figures import panels

    drawing, axes = panels(3, width=3.4)
    base = runs(results["row-a-heads"], "base")
    groups = (
        ("attention and positions", {"one head": "row-a-heads", "d_k of 4": "row-b-key-size",
                                     "learned positions": "row-e-learned"}),
        ("size", {"d_model of 32": "row-c-width", "one layer": "row-c-depth"}),
        ("regularisation; a recurrent model", {"no dropout": "row-d-dropout", "no smoothing": "smoothing-perplexity",
                                               "recurrent, equal time": "recurrent-baseline"}),
    )  # fmt: skip
    for axis, (title, experiments) in zip(axes, groups, strict=True):
        band(axis, base, "ours", "base")
        for (label, claim), role in zip(experiments.items(), ("peer", "variant", "other"), strict=False):
            band(axis, runs(results[claim], "recurrent" if claim.startswith("rec") else "other"), role, label)
        axis.set(title=title, xlabel="step", ylabel="perplexity", yscale="log")
        axis.legend()
    return drawing


def runs(result: Any, key: str) -> list[Any]:
    """The learning curve of each seed."""
    return [sample["details"][key]["curve"] for sample in result.samples]


def band(axis: Axes, curves: list[Any], role: str, label: str) -> None:
    """The geometric mean over the seeds, and a band from the smallest to the largest."""
    from papertest.figures import COLOURS, measured

    steps = [point["step"] for point in curves[0]]
    columns = list(zip(*([point["perplexity"] for point in curve] for curve in curves), strict=False))
    axis.fill_between(
        steps, [min(c) for c in columns], [max(c) for c in columns], color=COLOURS[role], alpha=0.2, linewidth=0
    )
    measured(axis, steps, [math.exp(statistics.mean(map(math.log, c))) for c in columns], role, label)


@figure("attention", "beam-search")
def attention(results: dict[str, Any]) -> Figure:
    """Where the decoder looks: one held-out sentence, and its translation."""
    from papertest.figures import panels

    drawing, (axis,) = panels(1, height=4.2, width=5.4)
    shown = results["beam-search"].samples[0]["details"]["German"]["shown"]["map"]
    image = axis.imshow(shown["weights"], cmap="Greys", vmin=0, vmax=1)
    axis.set_xticks(range(len(shown["source"])), shown["source"], rotation=60, ha="right")
    axis.set_yticks(range(len(shown["target"])), shown["target"])
    axis.set(title="Attention of the last layer", xlabel="source", ylabel="translation")
    axis.grid(visible=False)
    drawing.colorbar(image, ax=axis, shrink=0.8)
    return drawing


@figure("speed", "training-step", "cached-speed", "cached-memory")
def speed(results: dict[str, Any]) -> Figure:
    """Times and memory beside the peer's, in one run."""
    from papertest.figures import COLOURS, panels

    drawing, axes = panels(2)
    for axis, time, memory, title, names in (
        (axes[0], "training-step", "training-step", "A training step, base model", ["ours", "torch.nn.\nTransformer"]),
        (
            axes[1],
            "cached-speed",
            "cached-memory",
            "Greedy decoding of 64 tokens",
            ["with\nthe cache", "without\nthe cache"],
        ),
    ):
        seconds = [
            statistics.mean(sample["details"][who] for sample in results[time].samples) for who in ("ours", "peer")
        ]
        held = [statistics.mean(sample["details"]["bytes"][i] for sample in results[memory].samples) for i in range(2)]
        bars = axis.bar(names, seconds, 0.5, color=[COLOURS["ours"], COLOURS["standard"]])
        labels = [f"{s:.2f} s\n{b / 2**20:.0f} MiB" for s, b in zip(seconds, held, strict=True)]
        axis.bar_label(bars, labels, fontsize=8)
        axis.set(title=title, ylabel="seconds")
        axis.set_ylim(top=1.3 * max(seconds))
        axis.grid(visible=False, axis="x")
    return drawing
