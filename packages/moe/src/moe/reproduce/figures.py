"""The write-up's figures: two schematics, the models' sizes, three checks of the maths, and what training shows."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from papertest.claims import figure

from moe.reproduce.speech import PARTS
from moe.reproduce.speed import EXPERTS
from moe.reproduce.stability import STEPS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROLES = ("ours", "peer", "variant", "other")


@figure("dispatch")
def dispatch(results: dict[str, Any]) -> Figure:
    """Eight tokens, four experts, k = 1: the gate, the sorting, the capacity, and the way back."""
    from papertest.figures import arrow, box, sheet

    drawing, axis = sheet(11.0, 5.0, 22.0, 10.0)
    chosen = (0, 2, 0, 1, 0, 3, 2, 0)
    for text, x in (("tokens", 1.2), ("gate", 5.2), ("sorted by expert", 10.0), ("experts", 14.6), ("outputs", 20.4)):
        axis.text(x, 9.6, text, ha="center", weight="bold")
    rows = [8.6 - t * 1.1 for t in range(8)]
    box(axis, 5.2, 0.5, 2.6, 8.7, "which expert,\nwith what\nweight $G(x)$", "white")
    slot = {expert: 0 for expert in range(4)}
    for t, (y, expert) in enumerate(zip(rows, chosen, strict=True)):
        role, place = ROLES[expert], slot[expert]
        slot[expert] += 1
        at = 8.05 - expert * 2.2 - 0.75 * place
        box(axis, 1.2, y - 0.3, 1.6, 0.6, f"$x_{t + 1}$", "white")
        arrow(axis, (2.0, y), (3.9, y))
        box(axis, 20.4, y - 0.3, 1.6, 0.6, f"$y_{t + 1}$", role if place < 2 else "white")
        if place < 2:
            arrow(axis, (6.5, y), (9.2, at + 0.3), role)
            box(axis, 10.0, at, 1.6, 0.6, f"$x_{t + 1}$", role)
            arrow(axis, (10.8, at + 0.3), (13.2, at + 0.3))
            arrow(axis, (16.0, at + 0.3), (19.6, y), role)
        else:
            axis.text(6.7, y, "full: dropped", va="center", fontsize=9, style="italic", color="#555555")
    for expert, role in enumerate(ROLES):
        top = 8.05 - expert * 2.2
        for place in range(slot[expert], 2):
            box(axis, 10.0, top - 0.75 * place, 1.6, 0.6, "", "white", dashed=True)
        box(axis, 14.6, top - 0.85, 2.8, 1.5, f"$E_{expert + 1}$", role)
    return drawing


@figure("parallel")
def parallel(results: dict[str, Any]) -> Figure:
    """Two processes with two experts each: what stays, and what travels."""
    from papertest.figures import arrow, box, sheet

    drawing, axis = sheet(11.0, 5.0, 22.0, 10.0)
    for p, base in enumerate((5.4, 0.3)):
        box(axis, 11.0, base, 21.6, 4.0, "", "#f4f4f4")
        axis.text(0.5, base + 4.15, f"process {p + 1}", fontsize=9, color="#555555")
        box(axis, 2.2, base + 1.4, 2.6, 1.2, "its tokens", "white")
        box(axis, 5.8, base + 1.4, 2.4, 1.2, "its copy of\nthe gate", "white")
        box(axis, 19.6, base + 1.4, 2.8, 1.2, "weighted sum,\nits outputs", "white")
        arrow(axis, (3.5, base + 2.0), (4.6, base + 2.0))
        for e in range(2):
            expert = 2 * p + e
            box(axis, 13.0, base + 2.3 - 1.7 * e, 2.6, 1.2, f"$E_{expert + 1}$", ROLES[expert])
    for p, base in enumerate((5.4, 0.3)):
        for expert, role in enumerate(ROLES):
            there = (5.4, 0.3)[expert // 2] + 2.9 - 1.7 * (expert % 2)
            stays = expert // 2 == p
            arrow(axis, (7.0, base + 2.0), (11.7, there), role, dashed=not stays)
            arrow(axis, (14.3, there), (18.2, base + 2.0), role, dashed=not stays)
    for x, text in ((9.2, "all-to-all 2: dispatch"), (16.4, "all-to-all 3: combine")):
        axis.text(x, 9.75, text, ha="center", fontsize=9, weight="bold")
    return drawing


@figure("models")
def models(results: dict[str, Any]) -> Figure:
    """All parameters against those that a token uses, by `count_moe`."""
    from papertest.figures import COLOURS, panels

    from moe.config import DEEPSEEK, MIXTRAL, SHAZEER, SWITCH
    from moe.count import count_moe

    drawing, (axis,) = panels(1, height=5.2, width=8.6)
    families = (("Shazeer et al.", "standard", SHAZEER), ("Switch", "variant", SWITCH),
                ("Mixtral", "peer", MIXTRAL), ("DeepSeek", "ours", DEEPSEEK))  # fmt: skip
    names = {"MoE-4096-h", "Switch-Base", "Switch-C", "Switch-XXL", "Mixtral-8x7B", "Mixtral-8x22B",
             "DeepSeekMoE-16B", "DeepSeek-V2", "DeepSeek-V3", "T5-XXL"}  # fmt: skip
    left = {"Switch-XXL"}
    for label, role, family in families:
        counted = {name: count_moe(model) for name, model in family.items()}
        points = [((each.active - each.tables) / 1e9, (each.total - each.tables) / 1e9) for each in counted.values()]
        axis.plot(*zip(*points, strict=True), "o", color=COLOURS[role], label=label)
        for name, (x, y) in zip(counted, points, strict=True):
            if name in names:
                at, side = ((-6, -4), "right") if name in left else ((6, -4), "left")
                axis.annotate(name, (x, y), at, textcoords="offset points", ha=side, fontsize=9)
    for times, text in ((1, "as much as is used"), (10, "10 times"), (100, "100 times"), (1000, "1,000 times")):
        axis.plot([3e-3, 150], [3e-3 * times, 150 * times], color="#b0b0b0", linewidth=0.8, linestyle="--", zorder=0)
        axis.text(0.06, 0.06 * times, text, fontsize=8, color="#555555", ha="center", va="center",
                  bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})  # fmt: skip
    axis.set(xscale="log", yscale="log", xlim=(5e-3, 150), ylim=(5e-3, 4000), title="What is stored, and what is used",
             xlabel="billions of parameters that a token uses, without tables",
             ylabel="billions of parameters, without tables")  # fmt: skip
    axis.legend(loc="lower right")
    return drawing


@figure("checks", "load-estimator", "switch-capacity", "deepseek-bias-balances")
def checks(results: dict[str, Any]) -> Figure:
    """The smooth load against draws, dropped tokens by capacity factor, and the bias at work."""
    from papertest.figures import COLOURS, measured, panels

    drawing, (load, capacity, bias) = panels(3, height=3.6, width=3.7)
    details = results["load-estimator"].details
    closed, seen = ([p for row in details[name] for p in row] for name in ("closed", "seen"))
    load.plot([0, 1], [0, 1], color=COLOURS["standard"], linewidth=1)
    load.plot(closed, seen, "o", color=COLOURS["ours"])
    load.set(title="The smooth load", xlabel="P(x, i), Equation 9", ylabel="share of a million draws")
    dropped = results["switch-capacity"].details["dropped"]
    measured(capacity, [float(c) for c in dropped], [100 * share for share in dropped.values()], "ours", "")
    capacity.set(title="Capacity, a skewed router", xlabel="capacity factor, 8 experts", ylabel="tokens dropped, %")
    ratios = results["deepseek-bias-balances"].details["every_100"]
    measured(bias, [100 * i for i in range(len(ratios))], ratios, "ours", "")
    bias.axhline(1, color=COLOURS["standard"], linewidth=1)
    bias.set(title="The bias at work", xlabel="updates of 0.001", ylabel="largest over mean load")
    return drawing


@figure("training", "switch-speed-up", "switch-balance", "balance-collapses-without", "capacity-drops")
def training(results: dict[str, Any]) -> Figure:
    """Small models: loss against experts, the load of each expert's share, and what a capacity drops."""
    from papertest.figures import COLOURS, band, panels

    drawing, (loss, load, capacity) = panels(3, height=4.0, width=4.1)
    runs = [sample["details"]["curves"] for sample in results["switch-speed-up"].samples]
    for (name, label), role in zip({"dense": "dense", "switch-4": "4 experts", "switch-16": "16 experts",
                                    "switch-64": "64 experts"}.items(), ROLES[::-1], strict=True):  # fmt: skip
        steps = [point["step"] for point in runs[0][name]]
        band(loss, steps, [[point["nats"] for point in run[name]] for run in runs], role, label)
        loss.lines[-1].set(marker="", linewidth=1.4)
    low = min(point["nats"] for run in runs for point in run["switch-16"])
    loss.set(
        title="Loss at equal operations", xlabel="step", ylabel="held-out nats per piece", ylim=(low - 0.1, low + 1)
    )
    loss.legend(loc="upper right")
    arms = (("switch-balance", "balanced", "Switch, α = 0.01"), ("switch-balance", "unbalanced", "Switch, α = 0"),
            ("balance-collapses-without", "balanced", "noisy top-2, 0.1 each"),
            ("balance-collapses-without", "unbalanced", "noisy top-2, no losses"))  # fmt: skip
    for place, (claim, arm, _) in enumerate(arms):
        layers = [sample["details"][arm]["layers"] for sample in results[claim].samples]
        for layer, marker in enumerate("os"):
            load.plot([run[layer]["max_over_mean"] for run in layers], [place] * len(layers), marker, alpha=0.7,
                      color=COLOURS["ours" if arm == "balanced" else "other"],
                      label=None if place else f"layer {layer + 1}")  # fmt: skip
    load.axvline(1, color=COLOURS["standard"], linewidth=1)
    load.set_yticks(range(len(arms)), [label for *_, label in arms])
    load.set(title="The fullest expert of 16", xlabel="largest over mean load", ylim=(3.5, -0.5), xscale="log")
    load.set_xticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
    load.minorticks_off()
    load.legend(loc="upper right")
    drops = results["capacity-drops"]
    for when, role, rows in (("in the first 20 steps", "standard", [s["details"]["first"] for s in drops.samples]),
                             ("in the last 20 steps", "ours", [s["value"] for s in drops.samples])):  # fmt: skip
        band(capacity, [1.0, 1.25, 2.0], rows, role, when)
    capacity.set(title="Tokens dropped", xlabel="capacity factor", ylabel="% of the tokens", ylim=(0, None))
    capacity.set_xticks([1.0, 1.25, 2.0])
    capacity.legend()
    return drawing


@figure("gains", "experts-lower-loss", "sixty-four-experts", "top-1-against-top-2", "fine-grained", "capacity-loss")
def gains(results: dict[str, Any]) -> Figure:
    """The differences of losses, each with its interval, criterion and the paper's value."""
    from papertest.figures import effects, panels

    rows = (("dense − 4 experts", "experts-lower-loss", "dense_4"), ("4 − 16 experts", "experts-lower-loss", "4_16"),
            ("16 − 64 experts", "sixty-four-experts", ""), ("top-2 − top-1", "top-1-against-top-2", ""),
            ("16 − 32 half-size experts", "fine-grained", "fine"),
            ("16 − 31 half-size and a shared one", "fine-grained", "shared"),
            ("capacity 1.0 − 1.25", "capacity-loss", "low_middle"),
            ("capacity 1.0 − 2.0", "capacity-loss", "low_high"))  # fmt: skip
    drawing, (axis,) = panels(1, height=4.8, width=8.0)
    effects(axis, [(label, results[claim], part) for label, claim, part in rows])
    axis.set(title="Differences of held-out loss", xlabel="nats per piece: above 0 the second is better")
    return drawing


@figure("stability", "initialisation", "initialisation-spread", "bfloat16-router", "selective-precision")
def stability(results: dict[str, Any]) -> Figure:
    """Trainings that differ in their seed alone: losses on the way by initialisation, and where each ends."""
    from papertest.figures import COLOURS, panels

    drawing, (way, end) = panels(2, height=4.0, width=5.0)
    samples = [sample["details"] for sample in results["initialisation"].samples]
    for arm, role, label in (("usual", "other", "s = 1"), ("small", "ours", "s = 0.1")):
        trainings = [training for sample in samples for training in sample[arm]]
        for i, training in enumerate(trainings):
            steps = [STEPS / len(training["losses"]) * place for place in range(len(training["losses"]))]
            way.plot(steps, training["losses"], color=COLOURS[role], linewidth=0.8, label=None if i else label)
    way.axhline(samples[0]["small"][0]["unigram"], color=COLOURS["standard"], linestyle=":", label="entropy of pieces")
    way.set(title="Training loss", xlabel="step", ylabel="nats per piece")
    way.legend()
    precise = [sample["details"]["nats"] for name in ("bfloat16-router", "selective-precision")
               for sample in results[name].samples]  # fmt: skip
    rows = (("s = 1, float32", "other", [x["nats"] for sample in samples for x in sample["usual"]]),
            ("s = 0.1, float32", "ours", [x["nats"] for sample in samples for x in sample["small"]]),
            ("s = 0.1, selective", "variant", [x["selective"] for x in precise if "selective" in x]),
            ("s = 0.1, bfloat16", "peer", [x["bfloat16"] for x in precise if "bfloat16" in x]))  # fmt: skip
    for place, (_, role, nats) in enumerate(rows):
        end.plot(nats, [place] * len(nats), "o", alpha=0.6, color=COLOURS[role])
    end.set_yticks(range(len(rows)), [label for label, *_ in rows])
    end.set(title=f"After {STEPS} steps", xlabel="held-out nats per piece", ylim=(len(rows) - 0.5, -0.5))
    return drawing


@figure("speech", "parts-of-speech")
def speech(results: dict[str, Any]) -> Figure:
    """Which expert of the last layer serves which part of speech, seed 0, with the words that it serves most often."""
    from papertest.figures import panels

    drawing, (axis,) = panels(1, height=4.8, width=7.2)
    experts = results["parts-of-speech"].samples[0]["details"]["experts"]
    of_part = [sum(column) for column in zip(*(each["parts"] for each in experts), strict=True)]
    rows = [([n / total for n, total in zip(each["parts"], of_part, strict=True)], each["often"]) for each in experts]
    rows.sort(key=lambda row: (row[0].index(max(row[0])), -max(row[0])))
    image = axis.imshow([shares for shares, _ in rows], aspect="auto", cmap="Greys", vmin=0, vmax=1)
    axis.set_xticks(range(len(PARTS)), list(PARTS), rotation=30, ha="right")
    axis.set_yticks(range(len(rows)), [", ".join(often) for _, often in rows], fontsize=8)
    axis.set(title="Experts, last layer")
    axis.grid(visible=False)
    drawing.colorbar(image, ax=axis, label="share of the part of speech that an expert serves")
    return drawing


@figure("time", "fast-path", "fast-against-mixtral", "fast-against-dense")
def time(results: dict[str, Any]) -> Figure:
    """The three ratios of times, and a layer's time against the number of its experts."""
    from papertest.figures import COLOURS, panels, speeds

    drawing, (ratios, by_number) = panels(2, height=3.8, width=5.4)
    speeds(ratios, [("loop over all experts", results["fast-path"], ""),
                    ("transformers' Mixtral", results["fast-against-mixtral"], ""),
                    ("ours over dense", results["fast-against-dense"], "")])  # fmt: skip
    ratios.set(title="Times", xlabel="ratio of times")
    found = results["fast-against-dense"].samples[0]["details"]
    numbers = [int(n) for n in found["by_experts"]]
    dense, loop = (1000 * median(results[claim].samples[0]["details"]["seconds"][side])
                   for claim, side in (("fast-against-dense", "dense"), ("fast-path", "loop")))  # fmt: skip
    by_number.plot(numbers, [1000 * s for s in found["by_experts"].values()], "o-", color=COLOURS["ours"],
                   label="sorted by expert, k = 2")  # fmt: skip
    by_number.plot(numbers, [loop * n / EXPERTS for n in numbers], ":", color=COLOURS["other"],
                   label=f"loop, as timed at {EXPERTS} and in proportion")  # fmt: skip
    by_number.axhline(dense, color=COLOURS["standard"], linestyle="--",
                      label="dense, equal operations")  # fmt: skip
    by_number.set(title="4,096 tokens, one thread", xlabel="experts", ylabel="milliseconds, both passes",
                  xscale="log", yscale="log")  # fmt: skip
    by_number.set_xticks(numbers, [str(n) for n in numbers])
    by_number.minorticks_off()
    by_number.legend()
    return drawing
