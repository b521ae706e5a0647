"""The write-up's figures: our numbers filled, the papers' hollow."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from papertest.claims import figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ENCODINGS = {  # name here: name in the paper's table, label, role
    "sinusoidal": ("sinusoidal", "sinusoidal", "standard"),
    "rotary": ("rotary", "rotary", "ours"),
    "t5": ("t5_bias", "T5 bias", "variant"),
    "alibi": ("alibi", "ALiBi", "peer"),
}
TABLE_2 = [512, 513, 522, 532, 542, 552, 562, 572, 582, 592, 602, 612, 712, 812, 912, *range(1012, 1513, 100),
           *range(2512, 15513, 1000)]  # fmt: skip
TABLES_13_15 = [3072, 2048, 1536, 1024, 512]
METHODS: dict[str, tuple[str, str, Literal["-", ":"]]] = {  # of a longer context: label, role, line
    "plain": ("as it is", "standard", "-"),
    "linear": ("linear (PI)", "peer", "-"),
    "ntk": ("NTK-aware", "variant", "-"),
    "yarn": ("YaRN", "ours", "-"),
    "yarn, ramp to 4": ("YaRN, ramp to 4", "ours", ":"),
}
SCALINGS: dict[str, tuple[str, str, Literal["-", ":"]]] = {  # of the real SmolLM2
    **METHODS,
    "default": METHODS["plain"],
    "dynamic": ("dynamic NTK", "variant", ":"),
    "llama3": ("by-parts (Llama 3)", "ours", ":"),
}
ORDERS = (  # claim, its label, its parts
    ("order-at-8", "8 times 64", ("sinusoidal_rotary", "rotary_t5", "t5_alibi")),
    ("order-at-16", "16 times 64", ("sinusoidal_rotary", "rotary_alibi")),
    ("order-longer-training", "8 times 128", ("sinusoidal_rotary", "rotary_t5", "t5_alibi")),
    ("order-more-heads", "8 times 64, 8 heads", ("sinusoidal_rotary", "rotary_t5", "t5_alibi")),
)
SHORT = {"sinusoidal": "sinusoidal", "rotary": "rotary", "t5": "T5 bias", "alibi": "ALiBi"}


@figure("extrapolation", "alibi-extrapolates")
def extrapolation(results: dict[str, Any]) -> Figure:
    """Figure 1 of ALiBi: perplexity beyond the training length, here and in Table 2."""
    from papertest.figures import band, panels, reported

    drawing, (ours, paper) = panels(2, height=3.9, width=5.4)
    result = results["alibi-extrapolates"]
    for name, (row, label, role) in ENCODINGS.items():
        runs = [sample["details"][name] for sample in result.samples]
        times = [length / runs[0]["lengths"][0] for length in runs[0]["lengths"]]
        band(ours, times, [run["all"] for run in runs], role, label)
        perplexity = result.reported[row]
        reported(
            paper, [length / 512 for length in TABLE_2[: len(perplexity)]], perplexity, role, label, markersize=3.5
        )
    ours.set(title="Here: trained on 64 tokens", ylabel="perplexity")
    paper.set(title="The paper (Table 2): trained on 512 tokens", ylabel="perplexity")
    for axis in (ours, paper):
        _logarithmic(axis, [1, 2, 4, 8, 16])
        axis.legend(loc="upper left")
    _ticks(ours, (30, 40, 50, 60, 80, 100, 150, 200))
    _ticks(paper, (20, 30, 50, 100, 200, 400))
    return drawing


def _logarithmic(axis: Axes, times: list[int]) -> None:
    """Perplexity against the length in training lengths, both on logarithmic scales."""
    axis.set(xscale="log", yscale="log", xlabel="length, in training lengths")
    axis.set_xticks(times, [str(t) for t in times])
    axis.minorticks_off()


def _ticks(axis: Axes, values: tuple[float, ...]) -> None:
    """Those of a logarithmic ordinate that lie on it."""
    low, high = axis.get_ylim()
    shown = [x for x in values if low <= x <= high]
    axis.set_yticks(shown, [f"{x:g}" for x in shown])
    axis.minorticks_off()


@figure("orders", "order-at-8", "order-at-16", "order-longer-training", "order-more-heads", "alibi-at-length",
        "short-against-long")  # fmt: skip
def orders(results: dict[str, Any]) -> Figure:
    """The ratios of perplexities between encodings, each with its interval, criterion and the paper's value."""
    from papertest.figures import effects, panels

    rows = [(f"{' / '.join(SHORT[name] for name in part.split('_'))}, {label}", results[claim], part)
            for claim, label, parts in ORDERS for part in parts]  # fmt: skip
    rows += [(f"ALiBi / {name}, at 64", results["alibi-at-length"], name) for name in ("rotary", "sinusoidal")]
    rows.append(("ALiBi of 64 / sinusoidal of 512, at 512", results["short-against-long"], ""))
    drawing, (axis,) = panels(1, height=6.2, width=8.4)
    axis.set_xscale("log")
    effects(axis, rows)
    _shares(axis, (0.5, 0.7, 1, 1.5, 2, 3, 5, 8))
    axis.set(title="Perplexity of one encoding over another's", xlabel="ratio: above 1 the first is worse")
    return drawing


def _shares(axis: Axes, values: tuple[float, ...]) -> None:
    low, high = axis.get_xlim()
    shown = [x for x in values if low <= x <= high]
    axis.set_xticks(shown, [f"{x:g}" for x in shown])
    axis.minorticks_off()


@figure("sliding", "early-tokens")
def sliding(results: dict[str, Any]) -> Figure:
    """ALiBi's Appendix B.2: the same tokens with more context each, and Tables 13 to 15."""
    from papertest.figures import band, panels, reported

    drawing, (ours, paper) = panels(2, height=3.9, width=5.4)
    result = results["early-tokens"]
    for name, (_, label, role) in ENCODINGS.items():
        rows = [sample["details"][name] for sample in result.samples]
        band(ours, [2**i for i in range(len(rows[0]))], rows, role, label)
    for table, name in (("table-13", "sinusoidal"), ("table-15", "alibi")):
        _, label, role = ENCODINGS[name]
        reported(paper, [x / 512 for x in TABLES_13_15], result.reported[f"{table}: l_512"], role, label)
    _logarithmic(ours, [1, 2, 4, 8])
    _logarithmic(paper, [1, 2, 3, 4, 6])
    ours.set(title="Here: the same tokens, more context", ylabel="perplexity")
    paper.set(title="The paper (Tables 13, 15): trained on 512", ylabel="perplexity")
    for axis in (ours, paper):
        axis.set(xlabel="context of each token, in training lengths")
        axis.legend(loc="upper left")
    _ticks(ours, (30, 40, 50, 60, 80, 100, 150, 200))
    _ticks(paper, (20, 30, 50, 100, 200, 400))
    return drawing


@figure("linear", "linear-gain")
def linear(results: dict[str, Any]) -> Figure:
    """RoFormer's Figure 3, right: linear attention of characters, and what rotary gains on its way."""
    from papertest.figures import COLOURS, band, panels

    drawing, (loss, gain) = panels(2, height=3.6, width=5.0)
    result = results["linear-gain"]
    curves = {name: _curves(result, name) for name in ("none", "sinusoidal", "rotary")}
    for (name, (steps, rows)), role in zip(curves.items(), ("standard", "other", "ours"), strict=True):
        band(loss, steps, rows, role, "no positions" if name == "none" else name)
    steps, rotary = curves["rotary"]
    pairs = zip(curves["none"][1], rotary, strict=True)
    band(gain, steps, [[a - b for a, b in zip(*pair, strict=True)] for pair in pairs], "ours", "measured here")
    bound = result.bounds["at_end"][0][0]
    gain.axhline(bound, color=COLOURS["other"], linewidth=1.2, label=f"required at the end: {bound:g}")
    gain.axvline(steps[-1] / 10, color="black", linewidth=0.8, linestyle=":", label="a tenth of the steps")
    gain.plot(steps[-1], result.paper["at_end"], "D", color=COLOURS["peer"], markerfacecolor="white",
              label="the paper, at its end")  # fmt: skip
    loss.set(title="Held-out loss", xlabel="step", ylabel="nats per character")
    gain.set(title="Without positions, minus rotary", xlabel="step", ylabel="nats per character")
    for axis in (loss, gain):
        axis.legend()
    return drawing


def _curves(result: Any, name: str) -> tuple[list[float], list[list[float]]]:
    """Steps, and the losses of each seed."""
    runs = [sample["details"][name] for sample in result.samples]
    return [point["step"] for point in runs[0]], [[point["nats"] for point in run] for run in runs]


@figure("masked", "masked-gain")
def masked(results: dict[str, Any]) -> Figure:
    """RoFormer's Figure 3, left: a masked language model of characters, and the paper's readings."""
    from papertest.figures import band, panels, reported

    drawing, (ours, paper) = panels(2, height=3.6, width=5.0)
    result = results["masked-gain"]
    for name, row, label, role in (("learned", "bert", "learned positions", "standard"),
                                   ("rotary", "roformer", "rotary", "ours")):  # fmt: skip
        band(ours, *_curves(result, name), role, label)
        reported(paper, [50, 250], result.reported[row], role, "BERT" if row == "bert" else "RoFormer")
    ours.set(title="Here, characters", xlabel="step", ylabel="nats per hidden character")
    paper.set(title="The paper (Figure 3 left), two readings", xlabel="10³ steps", ylabel="loss")
    paper.set_ylim(1.8, 2.9)
    for axis in (ours, paper):
        axis.legend()
    return drawing


@figure("scaling", "pi-untrained", "pi-tuned")
def scaling(results: dict[str, Any]) -> Figure:
    """Longer contexts of one model, by two measures, and fine-tuning at four times the length."""
    from papertest.figures import COLOURS, band, panels

    drawing, (last, every, tuned) = panels(3, height=4.2, width=3.9)
    untrained, result = results["pi-untrained"], results["pi-tuned"]
    starts = [sample["details"]["trained"] for sample in untrained.samples]
    for name, (label, role, line) in METHODS.items():
        runs = [sample["details"]["read"][name] for sample in untrained.samples]
        for axis, measure in ((last, "last"), (every, "all")):
            rows = [[start[measure][0], *run[measure]] for start, run in zip(starts, runs, strict=True)]
            band(axis, [1, 2, 4], rows, role, label)
            axis.lines[-1].set_linestyle(line)
        if name in result.details:
            tunings = [sample["details"][name] for sample in result.samples]
            steps = [point["step"] for point in tunings[0]]
            band(tuned, steps, [[point["last"] for point in run] for run in tunings], role, label)
    before = sum(start["last"][0] for start in starts) / len(starts)
    tuned.axhline(before, color=COLOURS["other"], linewidth=1.2, linestyle="--", label="before, at its own length")
    for axis, title in ((last, "Untrained, the last 256 tokens"), (every, "Untrained, all tokens")):
        _logarithmic(axis, [1, 2, 4])
        axis.set(title=title, ylabel="perplexity")
        _ticks(axis, (20, 25, 30, 35, 40, 50, 60, 80, 100, 150, 200))
    tuned.set(title="Fine-tuned, the last 256 tokens", xlabel="step of fine-tuning", ylabel="perplexity")
    handles, labels = last.get_legend_handles_labels()
    drawing.legend(handles + tuned.lines[-1:], [*labels, "before, at its own length"], loc="outside lower center",
                   ncols=6)  # fmt: skip
    return drawing


@figure("smollm2", "smollm2-scaled", "smollm2-at-4")
def smollm2(results: dict[str, Any]) -> Figure:
    """The real SmolLM2 beyond its context: perplexity along the text over that within, at twice and four times it."""
    from papertest.figures import band, panels

    drawing, axes = panels(3, height=4.0, width=4.0)
    places = (
        ("Twice the context", "smollm2-scaled", 2, (), (1, 1.5, 2, 3, 5, 10, 20)),
        ("The same, those that keep it", "smollm2-scaled", 2, ("default", "linear"), (0.95, 1, 1.05, 1.1, 1.15, 1.2)),
        ("Four times the context", "smollm2-at-4", 4, (), (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)),
    )
    for axis, (title, claim, factor, left_out, ticks) in zip(axes, places, strict=True):
        runs = [sample["details"]["curves"] for sample in results[claim].samples]
        points = len(runs[0]["within"])
        ends = [8.192 * (factor - 1 + (i + 1) / points) for i in range(points)]
        for name in runs[0]:
            if name not in ("within", *left_out):
                label, role, line = SCALINGS[name]
                rows = [[math.exp(a - b) for a, b in zip(run[name], run["within"], strict=True)] for run in runs]
                band(axis, ends, rows, role, label)
                axis.lines[-1].set_linestyle(line)
        axis.set(title=title, xlabel="tokens read, in thousands", yscale="log", ylabel="perplexity over that within")
        _ticks(axis, ticks)
    drawing.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return drawing


@figure("decay", "rope-figure-2", "rope-decay-far")
def decay(results: dict[str, Any]) -> Figure:
    """RoFormer's Figure 2 for d = 128, and what comes after its last distance."""
    from papertest.figures import COLOURS, measured, panels

    drawing, (near, far) = panels(2, height=3.7, width=5.0)
    seen, blocks = results["rope-figure-2"], results["rope-decay-far"]
    measured(near, seen.details["distances"], seen.details["curve"], "ours", "here, d = 128", marker="", linewidth=1.4)
    read = seen.reported
    near.plot(8, read["at_8"], "D", color=COLOURS["peer"], markerfacecolor="white", label="the paper's Figure 2, read")
    for key in ("far_least", "far_greatest"):
        near.plot([200, 256], [read[key]] * 2, "--", color=COLOURS["peer"], linewidth=1)
    near.set(title="Figure 2", xlabel="relative distance", ylabel="mean of $|S_i|$", ylim=(0, 22))
    measured(far, blocks.details["ends"], blocks.value["blocks"], "ours", "mean over 256 distances")
    far.axvspan(8, 256, color=COLOURS["other"], alpha=0.22, linewidth=0, label="what Figure 2 shows")
    far.set(title="Beyond it", xlabel="relative distance, end of the block", ylabel="mean of $|S_i|$", ylim=(0, 12))
    for axis in (near, far):
        axis.legend(loc="upper right")
    return drawing


@figure("ramp", "ntk-base", "yarn-ramp", "llama3-by-parts")
def ramp(results: dict[str, Any]) -> Figure:
    """By what each pair's frequency is divided: Llama 2's 64 pairs, s = 16, and Llama 3.1's, s = 8."""
    from papertest.figures import measured, panels

    from rope.scaling import scale_frequencies
    from rope.tables import rope_frequencies

    drawing, (two, three) = panels(2, height=3.9, width=5.2)
    theta, length = rope_frequencies(128), {"original_max_position_embeddings": 4096}
    for method, role, line, label, more in (
        ("linear", "peer", "-", "linear (PI)", {}),
        ("ntk", "variant", "-", "NTK-aware", {}),
        ("yarn", "ours", "-", "YaRN, Eq. 18", {"ramp": "paper"} | length),
        ("yarn", "ours", ":", "YaRN, the authors' code", {"ramp": "code"} | length),
    ):
        divisor = theta / scale_frequencies(theta, method, factor=16, **more).frequencies
        measured(two, range(1, 65), divisor.tolist(), role, label, marker="", linestyle=line, linewidth=2.2)
    theta = rope_frequencies(128, 500000.0)
    llama = scale_frequencies(theta, "llama3", factor=8, original_max_position_embeddings=8192)
    measured(three, range(1, 65), (theta / llama.frequencies).tolist(), "ours", "", linewidth=1.2)
    counts = results["llama3-by-parts"].value
    three.text(2, 6.2, f"{counts['kept']} kept\n{counts['blended']} blended\n{counts['divided']} divided by 8")
    two.set(title="b = 10,000, L = 4096, s = 16", ylabel="frequency before, over after", yscale="log")
    three.set(title="Llama 3.1: b = 500,000, s = 8", ylabel="frequency before, over after", yscale="log")
    for axis, ticks in ((two, (1, 2, 4, 8, 16)), (three, (1, 2, 4, 8))):
        axis.set_yticks(ticks, [str(x) for x in ticks])
        axis.minorticks_off()
        axis.set(xlabel="pair $i$, from the fastest to the slowest")
    two.legend(loc="upper left", bbox_to_anchor=(0, 0.93))
    return drawing


@figure("speed", "rotary-speed", "rotary-speed-bfloat16", "encoding-overhead", "short-training-speed")
def speed(results: dict[str, Any]) -> Figure:
    """Our rotary beside the transformers library's, and what each encoding costs in a training step."""
    from papertest.figures import panels, speeds

    drawing, (fast, memory, cost) = panels(3, height=3.6, width=4.6)
    rotations = [(f"{layout.replace('_', '-')},\n{dtype}", results[claim], layout)
                 for claim, dtype in (("rotary-speed", "float32"), ("rotary-speed-bfloat16", "bfloat16"))
                 for layout in ("interleaved", "half_split")]  # fmt: skip
    short = ("step: ALiBi of 64,\nsinusoidal of 512", results["short-training-speed"], "")
    speeds(fast, [*rotations, short])
    speeds(memory, [(label, result, f"{part}_memory") for label, result, part in rotations])
    overhead = results["encoding-overhead"]
    speeds(cost, [(ENCODINGS[name][1], overhead, name) for name in ("rotary", "t5", "alibi")])
    fast.set(title="Times as fast", xlabel="ratio")
    memory.set(title="Peak memory over transformers'", xlabel="ratio")
    cost.set(title="A training step over sinusoidal's", xlabel="ratio")
    return drawing
