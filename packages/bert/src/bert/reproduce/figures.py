"""The write-up's figures: our numbers filled, the paper's hollow; the schematic of BERT's input is drawn here too."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any

from papertest.claims import figure

from bert.reproduce.data.text import LENGTH, PAIRS, SENTENCES
from bert.reproduce.training.pretraining import BATCH, LTR, STEPS
from bert.reproduce.trend.small import TRAINED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Results = dict[str, Any]  # papertest.store.Result by claim
NEAR = 40  # places to either side that are drawn
RUNS = {"no NSP": ("masked", "ours"), LTR: ("left to right", "peer")}
MILLIONS = BATCH * LENGTH / 1e6  # of tokens that a model reads in a step; the paper reads 256 × 512
TASKS = {PAIRS: "variant", SENTENCES: "other"}


@figure("input")
def model_input(results: Results) -> Figure:
    """Figure 2 in our hand: every token's input is the sum of three rows, and the sum is normalised."""
    del results
    from papertest.figures import panels

    tokens = ["[CLS]", "the", "cat", "sat", "down", "[SEP]", "it", "was", "dream", "##ing", "[SEP]"]
    sentence = ["A"] * 6 + ["B"] * 5
    drawing, (axis,) = panels(1, height=4.3, width=10.5)
    axis.set(xlim=(-2.7, len(tokens)), ylim=(-0.75, 6.35))
    axis.axis("off")
    rows = (
        (5.4, "tokens read", "#ffffff", tokens),
        (4.1, "token embeddings  $E$", "#f4c9cf", [f"$E$[{token.strip('[]')}]" for token in tokens]),
        (3.1, "sentence embeddings  $S$", "#c9d4e4", [f"$S$[{side}]" for side in sentence]),
        (2.1, "position embeddings  $P$", "#d9ecdf", [f"$P$[{place}]" for place in range(len(tokens))]),
        (0.8, "first states  $h_i$", "#fbe6c0", [f"$h_{{{place}}}$" for place in range(len(tokens))]),
    )
    for y, name, colour, cells in rows:
        axis.text(-0.15, y, name, ha="right", va="center", fontsize=9)
        for x, cell in enumerate(cells):
            box(axis, x, y, cell, colour)
    for x in range(len(tokens)):
        for y in (3.6, 2.6):
            axis.text(x + 0.5, y, "+", ha="center", va="center", fontsize=11)
        arrow(axis, x, 5.05, 4.45)
        arrow(axis, x, 1.75, 1.15)
        arrow(axis, x, 0.45, -0.05)
    axis.text(-0.15, 1.45, "LayerNorm (and dropout)", ha="right", va="center", fontsize=9, style="italic")
    frame = {"facecolor": "#eeeeee", "edgecolor": "#7f7f7f", "boxstyle": "round,pad=0.35"}
    above = "the encoder's first layer: every state looks both ways"
    axis.text(len(tokens) / 2, -0.4, above, ha="center", va="center", fontsize=9, bbox=frame)
    for low, high, name in ((0, 6, "sentence A"), (6, 11, "sentence B")):
        axis.plot([low + 0.1, high - 0.1], [5.95, 5.95], color="#7f7f7f", linewidth=1.0)
        axis.text((low + high) / 2, 6.15, name, ha="center", va="center", fontsize=9)
    axis.set_title("BERT's input: a sum of three learned rows for each token")
    return drawing


def box(axis: Axes, x: float, y: float, text: str, colour: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    axis.add_patch(FancyBboxPatch((x + 0.08, y - 0.29), 0.84, 0.58, boxstyle="round,pad=0,rounding_size=0.08",
                                  facecolor=colour, edgecolor="#7f7f7f", linewidth=0.8))  # fmt: skip
    axis.text(x + 0.5, y, text, ha="center", va="center", fontsize=8)


def arrow(axis: Axes, x: float, start: float, end: float) -> None:
    axis.annotate("", (x + 0.5, end), (x + 0.5, start), arrowprops={"arrowstyle": "->", "color": "#7f7f7f"})


@figure("tasks", "pretrained-against-scratch", "finetuned-against-frozen", "mlm-against-ltr", "nsp-against-none")
def tasks(results: Results) -> Figure:
    """What changes accuracy after fine-tuning: Tables 5 and 7, and pre-training against none."""
    from papertest.figures import effects, panels

    drawing, (axis,) = panels(1, height=4.3, width=8.4)
    scratch, frozen = results["pretrained-against-scratch"], results["finetuned-against-frozen"]
    effects(axis, [
        ("pre-trained minus from scratch,\nMiniLM's real weights", scratch, "minilm"),
        ("pre-trained minus from scratch,\nour small model", scratch, "small"),
        ("fine-tuned minus frozen,\nlast layer (paper: NER)", frozen, "last"),
        ("fine-tuned minus frozen,\nlast layers (paper: NER)", frozen, "concatenated"),
        ("masked minus left to right\n(paper: four tasks)", results["mlm-against-ltr"], ""),
        ("with NSP minus without,\npairs (paper: three tasks)", results["nsp-against-none"], ""),
    ])  # fmt: skip
    axis.set(title="What changes accuracy after fine-tuning", xlabel="percentage points")
    return drawing


@figure("masking", "strategies-learn", "masking-robust", "masking-random", "masking-features")
def masking(results: Results) -> Figure:
    """Table 8: the loss of each strategy on the way, each seed a line, and 80/10/10 minus the others."""
    from papertest.figures import COLOURS, effects, panels

    drawing, (way, gain) = panels(2, height=3.6, width=5.6)
    robust, random = results["masking-robust"], results["masking-random"]
    strategies = (
        ("base", "80/10/10", robust, "ours"),
        ("mask alone", "[MASK] alone", robust, "variant"),
        ("random alone", "random alone", random, "other"),
    )
    for name, label, found, role in strategies:
        for at, sample in enumerate(found.samples):
            curve = sample["details"][name]["curve"]
            tokens = [MILLIONS * point["step"] for point in curve]
            way.plot(tokens, [point["loss"] for point in curve], color=COLOURS[role], label="" if at else label)
    way.axhline(results["strategies-learn"].samples[0]["details"]["frequencies"], color="black", linestyle=":")
    effects(gain, [
        ("pairs, minus [MASK] alone\n(paper: MNLI)", robust, "pairs"),
        ("capitals, minus [MASK] alone\n(paper: NER)", robust, "capitals"),
        ("pairs, minus random alone\n(paper: MNLI)", random, "pairs"),
        ("capitals, minus random alone\n(paper: NER)", random, "capitals"),
        ("capitals, frozen, minus [MASK] alone\n(paper: NER)", results["masking-features"], ""),
    ])  # fmt: skip
    way.set(title="Masked loss on held-out verses", xlabel="million tokens read", ylabel="nats per token asked for")
    way.legend(loc="lower left")
    gain.set(title="80/10/10 minus another strategy", xlabel="percentage points")
    return drawing


@figure("size", "size-layers", "size-width", "size-finetuned")
def size(results: Results) -> Figure:
    """Table 6: perplexity of the smaller models over the base model's, at the end and on the way, and accuracy that the
    base model gains.
    """
    from papertest.figures import band, effects, panels

    drawing, (ratio, way, gain) = panels(3, height=3.1, width=4.2)
    tuned = results["size-finetuned"]
    effects(ratio, [
        ("half the layers", results["size-layers"], ""),
        ("half the width", results["size-width"], ""),
    ])  # fmt: skip
    for name, role in (("half the layers", "variant"), ("half the width", "other")):
        found = [sample["details"] for sample in results[f"size-{name.split()[-1]}"].samples]
        rows = [[math.exp(small["loss"] - base["loss"]) for small, base in zip(run[name], run["base"], strict=True)]
                for run in found]  # fmt: skip
        band(way, [MILLIONS * point["step"] for point in found[0]["base"]], rows, role, name)
    way.axhline(1, color="black", linewidth=0.8)
    way.legend(loc="best")
    effects(gain, [
        ("minus half\nthe layers", tuned, "layers"),
        ("minus half\nthe width", tuned, "width"),
    ])  # fmt: skip
    ratio.set(title="Perplexity over base's", xlabel="ratio")
    way.set(title="The same on the way", xlabel="million tokens read", ylabel="ratio")
    gain.set(title="Base after fine-tuning", xlabel="percentage points")
    return drawing


@figure("learning-curves", "bert-learns", "mlm-against-ltr", "mlm-slower-first")
def learning_curves(results: Results) -> Figure:
    """Masked against left-to-right: the loss of each on held-out text, the gap after fine-tuning, and Figure 5's."""
    from papertest.figures import band, panels, reported

    drawing, (loss, ours, paper) = panels(3, width=3.6, height=3.3)
    found = [sample["details"] for sample in results["mlm-against-ltr"].samples]
    for name, (label, role) in RUNS.items():
        curves = [run[name]["curve"] for run in found]
        tokens = [MILLIONS * point["step"] for point in curves[0]]
        band(loss, tokens, [[point["loss"] for point in curve] for curve in curves], role, label)
    nats = results["bert-learns"].samples[0]["details"]["frequencies"]
    loss.axhline(nats, color="black", linewidth=0.8, linestyle=":")
    loss.text(MILLIONS * STEPS, nats - 0.03, "frequencies of the pieces", ha="right", va="top", fontsize=8)
    gaps = [gap(run) for run in found]
    shares = list(gaps[0])
    for task, role in TASKS.items():
        rows = [[each[share][task] for share in shares] for each in gaps]
        band(ours, [MILLIONS * STEPS * share for share in shares], rows, role, f"{task}, ours")
    columns, figure_5 = [30, 50, 100, 200, 400, 600, 800, 1000], results["mlm-slower-first"].reported
    differences = [a - b for a, b in zip(figure_5["masked"], figure_5["left_to_right"], strict=True)]
    reported(paper, [0.256 * 0.512 * column for column in columns], differences, "ours", "MNLI, the paper")
    loss.set(title="Loss on held-out text, here", xlabel="million tokens read", ylabel="nats per token asked for")
    ours.set(title="Masked minus left to right", xlabel="million tokens read", ylabel="percentage points")
    paper.set(title="The paper's Figure 5", xlabel="billion tokens read", ylabel="percentage points")
    loss.legend(loc="lower left")
    for axis in (ours, paper):
        axis.axhline(0, color="black", linewidth=0.8)
        axis.legend(loc="best")
    return drawing


def gap(run: dict[str, Any]) -> dict[float, dict[str, float]]:
    """Percentage points by which the masked model is ahead: by share of the steps, of each task."""
    masked, causal = ({**run[name]["checkpoints"], "1.0": run[name]["accuracy"]} for name in RUNS)
    return {
        float(share): {
            task: statistics.median(masked[share][task]) - statistics.median(causal[share][task]) for task in TASKS
        }
        for share in masked
    }


@figure("labels", "pairs-learnt")
def labels(results: Results) -> Figure:
    """Pairs of verses: accuracy by the number of labels, pre-trained and from random weights."""
    from papertest.figures import band, panels

    drawing, (axis,) = panels(1, width=5.2, height=3.4)
    samples = [sample["details"] for sample in results["pairs-learnt"].samples]
    for name, label, role in (("base", "pre-trained", "ours"), ("from scratch", "from random weights", "standard")):
        rows = [[*map(statistics.mean, run[name]["labels"].values()), statistics.median(run[name]["accuracy"][PAIRS])]
                for run in samples]  # fmt: skip
        counts = [*map(int, samples[0][name]["labels"]), TRAINED[PAIRS]]
        band(axis, counts, rows, role, label)
    axis.axhline(50, color="black", linewidth=0.8, linestyle=":")
    axis.set(title="Pairs of verses, by labels", xlabel="labelled pairs", ylabel="accuracy, %", xscale="log")
    axis.set_xticks(counts, [f"{count:,}" for count in counts])
    axis.minorticks_off()
    axis.legend(loc="upper left")
    return drawing


@figure("chinese", "chinese-learns", "chinese-words", "chinese-reviews")
def chinese(results: Results) -> Figure:
    """The small Chinese model: its loss on held-out text, and what its pre-training adds on two tasks."""
    from papertest.figures import band, effects, panels

    drawing, (loss, gain) = panels(2, width=4.8, height=3.3)
    found = [sample["details"] for sample in results["chinese-learns"].samples]
    steps = [point["step"] for point in found[0]["curve"]]
    band(loss, steps, [[point["loss"] for point in each["curve"]] for each in found], "ours", "masked, held-out text")
    loss.axhline(found[0]["frequencies"], color="black", linestyle=":", linewidth=1, label="frequencies")
    loss.set(title="Pre-training", xlabel="steps of 64 windows", ylabel="nats a token")
    loss.legend()
    effects(gain, [
        ("words, 100 lines given", results["chinese-words"], "lines_100"),
        ("words, 1,000 lines given", results["chinese-words"], "lines_1000"),
        ("reviews, 1,000 given", results["chinese-reviews"], ""),
    ])  # fmt: skip
    gain.set(title="Pre-trained minus random weights", xlabel="points of F1, or of accuracy")
    return drawing


@figure("tuning", "large-sets-less-sensitive")
def tuning(results: Results) -> Figure:
    """Movie sentences with our small model: accuracy by learning rate, by share of warm-up, and by batch size."""
    from papertest.figures import band, panels

    drawing, (rates, warmup, batch) = panels(3, width=3.6, height=3.3)
    found = [sample["details"] for sample in results["large-sets-less-sensitive"].samples]
    for labels, role in zip(found[0]["grid"], ("variant", "ours"), strict=True):
        band(rates, found[0]["rates"], [run["grid"][labels] for run in found], role, f"{int(labels):,} labels")
    for axis, key, values in ((warmup, "warm-up", "warm-ups"), (batch, "batch", "batches")):
        band(axis, found[0][values], [run["tuning"][key] for run in found], "ours", f"{TRAINED[SENTENCES]:,} labels")
    rates.set(title="By learning rate", xlabel="learning rate", ylabel="accuracy, %", xticks=found[0]["rates"])
    rates.set_xticks(found[0]["rates"], [f"{rate:.4f}" for rate in found[0]["rates"]])
    warmup.set(title="By warm-up", xlabel="share of the steps", ylabel="accuracy, %", xticks=found[0]["warm-ups"])
    batch.set(title="By batch size", xlabel="sentences per step", ylabel="accuracy, %", xscale="log")
    batch.set_xticks(found[0]["batches"], [str(size) for size in found[0]["batches"]])
    batch.minorticks_off()
    for axis in (rates, warmup, batch):
        axis.legend(loc="best")
    return drawing


@figure("positions", "minilm-parity")
def positions(results: Results) -> Figure:
    """The similarity of real position embeddings, which are learned: neighbours are alike, as nobody told them."""
    del results
    import torch.nn.functional as F

    from papertest.figures import measured, panels

    from bert.pretrained import load_pretrained
    from bert.reproduce.models import minilm

    weights = F.normalize(load_pretrained(minilm()).embeddings.positions.weight.detach(), dim=1)
    similarity = weights @ weights.T
    drawing, (image, lines) = panels(2, width=4.4)
    shown = image.imshow(similarity.numpy(), cmap="RdBu", vmin=-1, vmax=1)
    image.set(title="Cosine of two position embeddings", xlabel="position", ylabel="position")
    image.grid(visible=False)
    drawing.colorbar(shown, ax=image, shrink=0.8)
    around = range(-NEAR, NEAR + 1)
    for place, role in ((64, "ours"), (256, "peer"), (448, "variant")):
        row = similarity[place, place - NEAR : place + NEAR + 1]
        measured(lines, around, row.tolist(), role, f"position {place}", marker="")
    lines.set(title="Three of its rows, near the diagonal", xlabel="places apart", ylabel="cosine")
    lines.legend(loc="upper right")
    return drawing


@figure("speed", "forward-speed", "finetune-step-speed")
def speed(results: Results) -> Figure:
    """Beside the transformers library: ratios with their intervals, and the seconds of every round."""
    from papertest.figures import COLOURS, panels, speeds

    drawing, (ratios, seconds) = panels(2, width=5.2, height=3.6)
    forward, step = results["forward-speed"], results["finetune-step-speed"]
    speeds(ratios, [
        ("forward pass,\ntimes as fast", forward, "speed"),
        ("forward pass,\nshare of memory", forward, "memory"),
        ("fine-tuning step,\ntimes as fast", step, "speed"),
        ("fine-tuning step,\nshare of memory", step, "memory"),
    ])  # fmt: skip
    ratios.set(title="Beside the transformers library", xlabel="ratio")
    names: list[str] = []
    for title, result in (("forward", forward), ("step", step)):
        for side, taken in result.samples[0]["details"]["seconds"].items():
            colour = COLOURS["ours" if side == "ours" else "standard"]
            y = len(names)
            seconds.plot(taken, [y] * len(taken), "|", markersize=9, color=colour)
            seconds.plot(statistics.median(taken), y, "o", color=colour)
            names.append(f"{title}: {side}")
    seconds.set_yticks(range(len(names)), names)
    seconds.invert_yaxis()
    seconds.set(title="Every round, and their median", xlabel="seconds", xlim=(0, None))
    seconds.grid(visible=False, axis="y")
    return drawing
