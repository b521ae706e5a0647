"""The write-up's figures: our numbers filled, the paper's hollow, what is accepted as a pale band."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from papertest.claims import figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RATIOS = (  # experiments on small models that give a ratio of perplexities: claim, label, part
    ("row-a-heads", "A: one head for four", ""),
    ("row-b-key-size", "B: a quarter of $d_k$", ""),
    ("row-c-width", "C: half of $d_{model}$", ""),
    ("row-c-depth", "C: half of the layers, 3,000 steps", ""),
    ("row-d-dropout", "D: no dropout", ""),
    ("row-e-learned", "E: learned positions", ""),
    ("row-e-learned-longer", "E: learned positions, 3,000 steps", ""),
    ("smoothing-perplexity", "label smoothing of 0.1 for none", ""),
    ("smoothing-perplexity-longer", "label smoothing, 3,000 steps", ""),
    ("checkpoint-averaging", "mean of five checkpoints for the last", ""),
    ("recurrent-baseline", "a recurrent model, equal time", "perplexity"),
)
DIFFERENCES = (
    ("beam-search", "beam of 4, minus greedy", ""),
    ("smoothing-bleu", "label smoothing, minus none", ""),
    ("recurrent-baseline", "Transformer, minus recurrent", "bleu"),
)
COUNTED = {  # the rows of Table 3 that print parameters
    "base": "base",
    "b_d_k_16": "B: $d_k$ = 16",
    "b_d_k_32": "B: $d_k$ = 32",
    "c_n_2": "C: 2 layers",
    "c_n_4": "C: 4 layers",
    "c_n_8": "C: 8 layers",
    "c_d_model_256": "C: $d_{model}$ = 256",
    "c_d_model_1024": "C: $d_{model}$ = 1024",
    "c_d_ff_1024": "C: $d_{ff}$ = 1024",
    "c_d_ff_4096": "C: $d_{ff}$ = 4096",
    "big": "big",
}


@figure(
    "table-3",
    "row-a-heads",
    "row-b-key-size",
    "row-c-width",
    "row-c-depth",
    "row-d-dropout",
    "row-e-learned",
    "row-e-learned-longer",
    "smoothing-perplexity",
    "smoothing-perplexity-longer",
    "checkpoint-averaging",
    "recurrent-baseline",
)
def table_3(results: dict[str, Any]) -> Figure:
    """Table 3 at small scale, and what else is a ratio of perplexities."""
    from papertest.figures import effects, panels

    drawing, (axis,) = panels(1, height=6.2, width=8.4)
    axis.set_xscale("log")
    effects(axis, [(label, results[claim], part) for claim, label, part in RATIOS])
    ticks = [0.7, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0]
    axis.set_xticks(ticks, [f"{x:g}" for x in ticks])
    axis.minorticks_off()
    axis.set(title="Perplexity with the change, over perplexity without", xlabel="ratio: above 1 it is worse")
    return drawing


@figure("bleu", "beam-search", "smoothing-bleu", "recurrent-baseline")
def bleu(results: dict[str, Any]) -> Figure:
    """The three differences of BLEU."""
    from papertest.figures import effects, panels

    drawing, (axis,) = panels(1, height=2.8, width=8.4)
    effects(axis, [(label, results[claim], part) for claim, label, part in DIFFERENCES], no_effect=0.0)
    axis.set(title="Differences of BLEU on 589 held-out pairs", xlabel="BLEU")
    return drawing


@figure("parameters", "params-37000", "params-one-vocabulary", "params-big")
def parameters(results: dict[str, Any]) -> Figure:
    """Table 3, last column: counted less printed."""
    from papertest.figures import COLOURS, panels

    drawing, (axis,) = panels(1, height=4.6, width=8.4)
    printed = results["params-37000"].paper
    text, fitted = results["params-37000"].value, results["params-one-vocabulary"].value | results["params-big"].value
    rows = range(len(COUNTED))
    axis.axvspan(-0.5, 0.5, color=COLOURS["other"], alpha=0.22, linewidth=0, label="rounds to the printed number")
    for counts, role, marker, label in (
        (text, "variant", "s", "37,000 tokens, as in the text"),
        (fitted, "ours", "o", "41,106 tokens, fitted to all rows but the last"),
    ):
        less = [counts[name] - printed[name] for name in COUNTED]
        axis.plot(less, rows, marker, color=COLOURS[role], label=label)
    axis.axvline(0, color=COLOURS["peer"], linewidth=1, linestyle="--", label="the paper (Table 3)")
    axis.set_yticks(rows, [f"{label}:  {printed[name]}" for name, label in COUNTED.items()])
    axis.invert_yaxis()
    axis.set(title="Parameters counted, less those that Table 3 prints", xlabel="millions of parameters")
    drawing.legend(loc="outside lower center", ncols=2)
    return drawing


@figure("complexity", "table-1-complexity", "table-1-path")
def complexity(results: dict[str, Any]) -> Figure:
    """Table 1, counted."""
    from papertest.figures import measured, panels

    drawing, axes = panels(3, height=3.9, width=3.6)
    counted, paths = results["table-1-complexity"], results["table-1-path"]
    kinds = {"self_attention": "ours", "recurrent": "standard", "convolutional": "peer", "restricted": "variant"}
    for axis, size in zip(axes, ("n", "d"), strict=False):
        for kind, role in kinds.items():
            name = f"{kind}_{size}"
            counts = [count / 1e6 for count in counted.details["multiply_adds"][name]]
            measured(axis, counted.details["sizes"][size], counts, role, growth(counted, kind, name, size))
        other = "d" if size == "n" else "n"
        axis.set(title=f"Multiply-adds, {other} = 256", xlabel=size, ylabel="millions")
    for kind in ("self_attention", "recurrent", "restricted"):
        name = f"{kind}_n"
        steps = paths.details["layers"][name]
        measured(axes[2], paths.details["sizes"]["n"], steps, kinds[kind], growth(paths, kind, name, "n"))
    axes[2].set(title="Longest path", xlabel="n", ylabel="layers or steps")
    for axis in axes:
        axis.set(xscale="log", yscale="log")
        axis.set_xticks([32, 64, 128, 256], ["32", "64", "128", "256"])
        axis.minorticks_off()
        axis.legend(loc="upper left", bbox_to_anchor=(-0.1, -0.2), fontsize=9)
    return drawing


def growth(result: Any, kind: str, name: str, size: str) -> str:
    """The legend of a line: its power of the size, and the paper's."""
    return f"{kind.replace('_', '-')}: ${size}^{{{result.value[name]:.2f}}}$ (paper: ${size}^{result.paper[name]}$)"


@figure("positions", "wavelengths", "wavelength-last", "positional-shift")
def positions(results: dict[str, Any]) -> Figure:
    """Section 3.5: the encoding, its wavelengths, and the error of its shift."""
    from papertest.figures import COLOURS, measured, panels, reported

    from transformer.positions import sinusoidal_encoding

    drawing, (table, waves, error) = panels(3, height=3.6, width=3.6)
    image = table.imshow(sinusoidal_encoding(100, 128).numpy(), aspect="auto", cmap="RdBu", vmin=-1, vmax=1)
    table.set(title="PE(pos, i), $d_{model}$ = 128", xlabel="dimension i", ylabel="position pos")
    table.grid(visible=False)
    drawing.colorbar(image, ax=table, shrink=0.8)
    found = results["wavelengths"].details["wavelengths"]
    measured(waves, range(len(found)), found, "ours", "here, $d_{model}$ = 512", marker="", linewidth=2.4)
    ends = [results["wavelengths"].paper["first"], results["wavelength-last"].paper["last"]]
    reported(waves, [0, len(found) - 1], ends, "peer", "the paper: first and last", linestyle="")
    waves.set(title="Wavelengths", xlabel="frequency i", ylabel="positions, over 2π", yscale="log")
    shift = results["positional-shift"]
    measured(error, shift.details["offsets"], shift.details["errors"], "ours", "largest error, float64")
    error.axhspan(1e-15, shift.bounds[""][0][1], color=COLOURS["other"], alpha=0.22, linewidth=0, label="accepted")
    error.set(title="PE(pos + k) against $M_k$ PE(pos)", xlabel="offset k", ylabel="largest difference", xscale="log",
              yscale="log")  # fmt: skip
    error.set_ylim(1e-15, 1e-9)
    for axis in (waves, error):
        axis.legend(loc="upper left")
    return drawing


@figure("scaling", "softmax-gradient")
def scaling(results: dict[str, Any]) -> Figure:
    """Section 3.2.1: why 1/√d_k."""
    from papertest.figures import measured, panels

    drawing, (axis,) = panels(1, height=3.4, width=6.4)
    details = results["softmax-gradient"].details
    measured(axis, details["d_k"], details["scaled"], "ours", "softmax of q·k / $\\sqrt{d_k}$")
    measured(axis, details["d_k"], details["unscaled"], "standard", "softmax of q·k")
    axis.set(title="Gradient of the softmax over 64 keys", xlabel="$d_k$", ylabel="trace of the Jacobian",
             xscale="log", yscale="log")  # fmt: skip
    axis.set_xticks(details["d_k"], [str(d) for d in details["d_k"]])
    axis.minorticks_off()
    axis.legend(loc="lower left")
    return drawing


@figure("schedule", "schedule")
def schedule(results: dict[str, Any]) -> Figure:
    """Equation 3, as the optimizer takes it."""
    from papertest.figures import measured, panels, reported

    drawing, (axis,) = panels(1, height=3.4, width=6.4)
    details = results["schedule"].details
    rates = [1e4 * rate for rate in details["rates"]]
    measured(axis, details["steps"], rates, "ours", "read from the optimizer", marker="", linewidth=2.4)
    points = [1000, 2000, 4000, 8000, 16000]
    formula = [1e4 * 512**-0.5 * min(step**-0.5, step * 4000**-1.5) for step in points]
    reported(axis, points, formula, "peer", "the paper: Equation 3", linestyle="")
    axis.set(title="Learning rate of the base model", xlabel="step", ylabel="rate, in $10^{-4}$")
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
    from papertest.figures import band, panels

    drawing, axes = panels(3, height=3.8, width=3.6)
    groups = (
        ("Attention and positions", {"one head": "row-a-heads", "a quarter of $d_k$": "row-b-key-size",
                                     "learned positions": "row-e-learned"}),
        ("Size", {"half of the layers": "row-c-depth", "half of $d_{model}$": "row-c-width"}),
        ("Regularisation, recurrence", {"no dropout": "row-d-dropout", "no smoothing": "smoothing-perplexity",
                                        "recurrent, equal time": "recurrent-baseline"}),
    )  # fmt: skip
    for axis, (title, experiments) in zip(axes, groups, strict=True):
        depth = title == "Size"  # trained for longer than the others
        band(axis, *learning(results["row-c-depth" if depth else "row-a-heads"], "base", depth), "ours", "base model")
        for (label, claim), role in zip(experiments.items(), ("peer", "variant", "other"), strict=False):
            which = "recurrent" if claim.startswith("rec") else "other"
            band(axis, *learning(results[claim], which, depth), role, label)
        axis.set(title=title, xlabel="steps" if depth else "share of the training, %", ylabel="perplexity",
                 yscale="log", ylim=(20, 400))  # fmt: skip
        axis.set_yticks([20, 30, 50, 100, 200, 300], ["20", "30", "50", "100", "200", "300"])
        axis.minorticks_off()
        axis.legend()
    return drawing


def learning(result: Any, which: str, in_steps: bool) -> tuple[list[float], list[list[float]]]:
    """How far the training was, in steps or in %, and the perplexities of each seed: a recurrent model's steps differ
    by seed.
    """
    runs = [sample["details"][which]["curve"] for sample in result.samples]
    steps = [point["step"] for point in runs[0]]
    places = steps if in_steps else [100 * step / steps[-1] for step in steps]
    return places, [[point["perplexity"] for point in run] for run in runs]


@figure("attention", "beam-search")
def attention(results: dict[str, Any]) -> Figure:
    """Where the decoder looks: one held-out sentence, and its translation."""
    from papertest.figures import panels

    drawing, (axis,) = panels(1, height=4.4, width=6.0)
    shown = results["beam-search"].samples[0]["details"]["German"]["shown"]["map"]
    image = axis.imshow(shown["weights"], cmap="Greys", vmin=0, vmax=1, aspect="auto")
    axis.set_xticks(range(len(shown["source"])), shown["source"], rotation=60, ha="right")
    axis.set_yticks(range(len(shown["target"])), shown["target"])
    axis.set(title="Attention of the last decoder layer", xlabel="source", ylabel="translation")
    axis.grid(visible=False)
    drawing.colorbar(image, ax=axis, shrink=0.8, label="weight, mean of four heads")
    return drawing


@figure("speed", "training-step", "cached-speed", "cached-memory")
def speed(results: dict[str, Any]) -> Figure:
    """Our own benchmarks: how many times as fast, and which share of the memory."""
    from papertest.figures import panels, speeds

    drawing, axes = panels(2, height=2.7, width=5.4)
    step, decoding, held = (results[claim] for claim in ("training-step", "cached-speed", "cached-memory"))
    speeds(axes[0], [("training step, beside\ntorch.nn.Transformer", step, "speed"),
                     ("decoding with the cache,\nbeside without", decoding, "")])  # fmt: skip
    speeds(axes[1], [("training step", step, "memory"), ("decoding with the cache", held, "")])
    axes[0].set(title="Times as fast, required at least", xlabel="ratio")
    axes[1].set(title="Peak memory, required at most", xlabel="ratio")
    return drawing
