"""The write-up's figures: our numbers filled, the paper's hollow and dashed."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from papertest.claims import figure

from bert.reproduce.pretraining import LTR

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEAR = 40  # places to either side that are drawn
ROLES = {"no NSP": "ours", LTR: "peer"}


@figure("learning-curves", "mlm-slower-first", "mlm-converges-slower")
def learning_curves(results: dict[str, Any]) -> Figure:
    """Masked against left-to-right: the loss of each on held-out text, accuracy by checkpoint, and Figure 5."""
    from papertest.figures import measured, panels, reported

    drawing, (loss, ours, paper) = panels(3, width=3.5)
    result = results["mlm-slower-first"]
    for name, role in ROLES.items():
        runs = [sample["details"][name] for sample in result.samples]
        steps = [point["step"] for point in runs[0]["curve"]]
        band(loss, steps, [[point["loss"] for point in run["curve"]] for run in runs], role, name)
        shares = [*runs[0]["checkpoints"], "1.0"]
        found = [[accuracy_of(run["checkpoints"].get(share, run["accuracy"])) for share in shares] for run in runs]
        band(ours, [steps[-1] * float(share) for share in shares], found, role, name)
    points = result.reported
    columns = [30, 50, 100, 200, 400, 600, 800, 1000]
    for key, role, label in (("masked", "ours", "masked"), ("left_to_right", "peer", "left to right")):
        reported(paper, columns, points[key], role, label)
    measured(paper, [], [], "standard", "(the paper's MNLI Dev)", marker="", linewidth=0)
    loss.set(title="Loss on held-out text", xlabel="step of pre-training", ylabel="nats a token asked for")
    ours.set(title="After fine-tuning, here", xlabel="step of pre-training", ylabel="accuracy, %")
    paper.set(title="Figure 5", xlabel="10³ steps of pre-training", ylabel="accuracy, %")
    for axis in (loss, ours, paper):
        axis.legend(loc="lower right" if axis is not loss else "upper right")
    return drawing


def accuracy_of(found: dict[str, list[float]]) -> float:
    """The mean of both tasks."""
    return statistics.mean(statistics.mean(each) for each in found.values())


def band(axis: Axes, x: list[float], rows: list[list[float]], role: str, label: str) -> None:
    """The mean over the seeds, and a band from the least to the largest."""
    from papertest.figures import COLOURS, measured

    columns = list(zip(*rows, strict=True))
    axis.fill_between(x, [min(c) for c in columns], [max(c) for c in columns], color=COLOURS[role], alpha=0.2,
                      linewidth=0)  # fmt: skip
    measured(axis, x, [statistics.mean(c) for c in columns], role, label)


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
    axis.legend()


@figure("masking", "masking-robust", "masking-random", "masking-features")
def masking(results: dict[str, Any]) -> Figure:
    """Table 8's order: 80/10/10 minus each other strategy."""
    from papertest.figures import panels

    drawing, (axis,) = panels(1, height=2.8, width=7.0)
    paper = results["masking-robust"].reported
    base, masks, random = paper["m80_s10_r10"], paper["m100_s0_r0"], paper["m0_s0_r100"]
    values = {claim: [sample["value"] for sample in results[claim].samples] for claim in results}
    differences(axis, [
        ("fine-tuned: minus [MASK] alone\n(paper: MNLI)", values["masking-robust"], base[0] - masks[0]),
        ("fine-tuned: minus random alone\n(paper: MNLI)", values["masking-random"], base[0] - random[0]),
        ("frozen: minus [MASK] alone\n(paper: NER)", values["masking-features"], base[2] - masks[2]),
    ])  # fmt: skip
    axis.set(title="80/10/10 minus another masking strategy", xlabel="percentage points")
    return drawing


@figure("tasks", "mlm-against-ltr", "nsp-against-none", "finetuned-against-frozen")
def tasks(results: dict[str, Any]) -> Figure:
    """Table 5's and Table 7's differences."""
    from papertest.figures import panels

    drawing, (axis,) = panels(1, height=3.0, width=7.0)
    five, seven = results["mlm-against-ltr"].reported, results["finetuned-against-frozen"].reported
    both = [statistics.mean(five[row][:4]) for row in ("no_nsp", "ltr_no_nsp")]
    nsp = statistics.mean(a - b for a, b in zip(five["base"][:3], five["no_nsp"][:3], strict=True))
    frozen = [sample["value"] for sample in results["finetuned-against-frozen"].samples]
    differences(axis, [
        ("masked minus left to right\n(paper: four tasks)", values(results, "mlm-against-ltr"), both[0] - both[1]),
        ("with NSP minus without, pairs\n(paper: three tasks)", values(results, "nsp-against-none"), nsp),
        ("fine-tuned minus frozen, last layer\n(paper: NER)", [each["last"] for each in frozen],
         seven["fine_tuned"] - seven["last"]),
        ("fine-tuned minus frozen, all layers\n(paper: NER)", [each["concatenated"] for each in frozen],
         seven["fine_tuned"] - seven["concatenated_last_four"]),
    ])  # fmt: skip
    axis.set(title="What changes accuracy", xlabel="percentage points")
    return drawing


def values(results: dict[str, Any], claim: str) -> list[float]:
    return [sample["value"] for sample in results[claim].samples]


def entry(result: Any, name: str) -> dict[str, Any]:
    """One of the record's entries that a result reports, where it reports several."""
    prefix = f"{name}: "
    return {key.removeprefix(prefix): value for key, value in result.reported.items() if key.startswith(prefix)}


@figure("size", "size-layers", "size-width", "size-finetuned")
def size(results: dict[str, Any]) -> Figure:
    """Table 6: perplexity and accuracy with half of the layers, and with half of the width."""
    from papertest.figures import bars, panels

    drawing, (ratio, gain) = panels(2)
    paper, tuned = entry(results["size-layers"], "table-6-ppl"), results["size-finetuned"]
    bars(
        ratio,
        ["half of\nthe layers", "half of the width\n(paper: 3/4)"],
        [results[claim].value for claim in ("size-layers", "size-width")],
        [paper["l6"] / paper["l12"], paper["l12"] / paper["l12_h1024"]],
        ["ours", "variant"],
    )
    means = {row: statistics.mean(found) for row, found in entry(tuned, "table-6-accuracy").items()}
    bars(
        gain,
        ["twice the\nlayers", "twice the width\n(paper: 4/3)"],
        [tuned.value["layers"], tuned.value["width"]],
        [means["l12"] - means["l6"], means["l12_h1024"] - means["l12"]],
        ["ours", "variant"],
    )
    ratio.set(title="Masked-LM perplexity over the larger's", xlabel="smaller model", ylabel="ratio")
    ratio.axhline(1, color="black", linewidth=0.8)
    ratio.set_ylim(0, 1.6)
    gain.set_ylim(0, 2.6)
    gain.set(title="Gain after fine-tuning", xlabel="larger model", ylabel="percentage points")
    for axis in (ratio, gain):
        axis.legend(loc="upper right")
    return drawing


@figure("few-labels", "pretrained-against-scratch", "large-sets-less-sensitive")
def few_labels(results: dict[str, Any]) -> Figure:
    """Accuracy from 200 labels, pre-trained or not; and accuracy by learning rate, with few labels and with many."""
    from papertest.figures import COLOURS, panels

    drawing, (few, rates) = panels(2)
    samples = [sample["details"] for sample in results["pretrained-against-scratch"].samples]
    for x, (model, pretrained) in enumerate((("small", "base"), ("minilm", "minilm"))):
        for shift, name, role in ((-0.2, "from scratch", "standard"), (0.2, pretrained, "ours")):
            found = [s[model][name] for s in samples]
            means = [statistics.mean(each) if isinstance(each, list) else each for each in found]
            label = ("pre-trained" if role == "ours" else name) if x == 0 else None
            few.bar(x + shift, statistics.mean(means), 0.36, color=COLOURS[role], label=label)
            few.plot([x + shift] * len(means), means, "_", color="black", markersize=9)
    few.set_xticks([0, 1], ["our small model", "MiniLM"])
    few.set(title="200 labelled sentences", ylabel="accuracy, %", ylim=(40, 100))
    found = [sample["details"] for sample in results["large-sets-less-sensitive"].samples]
    for labels, role in zip(found[0]["grid"], ("ours", "variant"), strict=True):
        band(rates, found[0]["rates"], [run["grid"][labels] for run in found], role, f"{labels} labels")
    rates.set(title="By learning rate", xlabel="learning rate", ylabel="accuracy, %")
    few.legend(loc="upper left")
    rates.legend(loc="center left")
    return drawing


@figure("tuning", "large-sets-less-sensitive")
def tuning(results: dict[str, Any]) -> Figure:
    """Movie sentences with our small model: accuracy by share of warm-up, and by batch size."""
    from papertest.figures import panels

    drawing, axes = panels(2)
    found = [sample["details"] for sample in results["large-sets-less-sensitive"].samples]
    for axis, key, values in ((axes[0], "warm-up", "warm-ups"), (axes[1], "batch", "batches")):
        band(axis, found[0][values], [run["tuning"][key] for run in found], "ours", "mean and range of the seeds")
        axis.set(ylabel="accuracy, %")
        axis.legend()
    axes[0].set(title="By warm-up", xlabel="share of the steps", xticks=found[0]["warm-ups"])
    axes[1].set(title="By batch size, two epochs each", xlabel="sentences a step", xscale="log")
    axes[1].set_xticks(found[0]["batches"], [str(size) for size in found[0]["batches"]])
    axes[1].minorticks_off()
    return drawing


@figure("positions", "minilm-parity")
def positions(results: dict[str, Any]) -> Figure:
    """The similarity of real position embeddings, which are learned: neighbours are alike, as nobody told them."""
    del results
    import torch.nn.functional as F

    from papertest.figures import measured, panels

    from bert.pretrained import load_pretrained
    from bert.reproduce.weights import minilm

    weights = F.normalize(load_pretrained(minilm()).embeddings.positions.weight.detach(), dim=1)
    similarity = weights @ weights.T
    drawing, (image, lines) = panels(2)
    shown = image.imshow(similarity.numpy(), cmap="RdBu", vmin=-1, vmax=1)
    image.set(title="Cosine of two position embeddings", xlabel="position", ylabel="position")
    image.grid(visible=False)
    drawing.colorbar(shown, ax=image, shrink=0.8)
    around = range(-NEAR, NEAR + 1)
    for place, role in ((64, "ours"), (256, "peer"), (448, "variant")):
        row = similarity[place, place - NEAR : place + NEAR + 1]
        measured(lines, around, row.tolist(), role, f"with position {place}", marker="")
    lines.set(title="Three of its rows, near the diagonal", xlabel="places apart", ylabel="cosine")
    lines.legend()
    return drawing


@figure("speed", "forward-speed", "finetune-step-speed")
def speed(results: dict[str, Any]) -> Figure:
    """Times and memory beside the transformers library's, in one run."""
    from papertest.figures import COLOURS, panels

    drawing, axes = panels(2)
    for axis, claim, title in (
        (axes[0], "forward-speed", "Forward pass, 128 sentences"),
        (axes[1], "finetune-step-speed", "A fine-tuning step, batch of 32"),
    ):
        samples = [sample["details"] for sample in results[claim].samples]
        seconds = [statistics.mean(sample[who] for sample in samples) for who in ("ours", "peer")]
        memory = [statistics.mean(sample["bytes"][i] for sample in samples) / 2**20 for i in range(2)]
        names, colours = ["ours", "transformers"], [COLOURS["ours"], COLOURS["standard"]]
        if claim == "forward-speed":
            seconds.append(statistics.mean(sample["sorted"]["peer"] for sample in samples))
            memory.append(statistics.mean(sample["bytes"][2] for sample in samples) / 2**20)
            names, colours = [*names, "transformers,\nsorted too"], [*colours, COLOURS["standard"]]
        bars = axis.bar(names, seconds, 0.5, color=colours)
        axis.bar_label(bars, [f"{s:.2f} s\n{m:.0f} MiB" for s, m in zip(seconds, memory, strict=True)], fontsize=8)
        axis.set(title=title, ylabel="seconds", ylim=(0, 1.3 * max(seconds)))
        axis.grid(visible=False, axis="x")
    return drawing
