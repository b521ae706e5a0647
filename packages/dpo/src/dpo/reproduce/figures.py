"""The write-up's figures: a colour per method, a band from the least to the largest seed."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from papertest.claims import figure

from dpo.reproduce.trend.hull import at
from dpo.reproduce.trend.smollm2 import BETA

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PLACES = 60  # of a frontier's line
METHODS = {"dpo": ("ours", "DPO"), "ppo": ("peer", "PPO"), "true": ("variant", "PPO on the true reward")}


@figure("frontier", "frontier-ppo", "frontier-ppo-gt", "frontier-baselines", "best-of-128", "beta-orders-kl")
def frontier(results: dict[str, Any]) -> Figure:
    """Figure 2, left: checkpoints and their envelopes; and the other baselines beside DPO's envelope."""
    from papertest.figures import COLOURS, band, panels

    drawing, (main, beside) = panels(2, height=4.0, width=5.0)
    learned, true, others, best, betas = (
        [sample["details"] for sample in results[name].samples]
        for name in ("frontier-ppo", "frontier-ppo-gt", "frontier-baselines", "best-of-128", "beta-orders-kl")
    )
    envelopes = {"dpo": [x["ours"] for x in learned], "ppo": [x["theirs"] for x in learned],
                 "true": [x["theirs"] for x in true]}  # fmt: skip
    curves = {
        "dpo": [run["curve"] for x in betas for run in x.values()],
        "ppo": [curve for x in learned for curve in x["curves"].values()],
        "true": [curve for x in true for curve in x["curves"].values()],
    }
    for method, found in envelopes.items():
        role, name = METHODS[method]
        reach = min(envelope[-1][0] for envelope in found)
        places = [reach * i / PLACES for i in range(PLACES + 1)]
        checkpoints(main, curves[method], role)
        for axis in (main, beside)[: 2 if method == "dpo" else 1]:
            band(axis, places, [[at(envelope, kl) for kl in places] for envelope in found], role, name)
            axis.lines[-1].set_marker("")
    checkpoints(beside, [x["preferred"] for x in others], "variant", "Preferred-FT")
    checkpoints(beside, [x["unlikelihood"] for x in others], "other", "Unlikelihood", marker="x")
    for judge, style, name in (("learned", "-", "the reward model"), ("true", ":", "the true reward")):
        rewards = [[found["reward"] for found in x["by"][judge]] for x in best]
        means = [statistics.mean(column) for column in zip(*rewards, strict=True)]
        beside.plot(best[0]["kl"], means, style, color=COLOURS["peer"], label=f"best of N by {name}")
    for axis, title in ((main, "Reward against KL"), (beside, "Other baselines")):
        axis.set(title=title, xlabel="KL(π ‖ π_ref), nats a continuation", ylabel="true reward: VADER's score")
        axis.legend(loc="lower right")
    right = 1.05 * max(point[0] for found in envelopes.values() for envelope in found for point in envelope)
    main.set_xlim(0, right)
    beside.set_xlim(0, right)
    return drawing


def checkpoints(
    axis: Axes, curves: list[list[dict[str, float]]], role: str, label: str = "", marker: str = "o"
) -> None:
    """Pale dots, one for each."""
    from papertest.figures import COLOURS

    found = [(point["kl"], point["reward"]) for curve in curves for point in curve]
    axis.plot(*zip(*found, strict=True), marker, color=COLOURS[role], alpha=0.35, markersize=3.5, label=label or None)


@figure("temperature", "temperature")
def temperatures(results: dict[str, Any]) -> Figure:
    """Figure 2, right: how often the true reward is above the reference's best of 16, by temperature."""
    from papertest.figures import COLOURS, band, panels

    drawing, (axis,) = panels(1, height=3.8, width=6.0)
    details = [sample["details"] for sample in results["temperature"].samples]
    for method, role, name in (("dpo", "ours", "DPO"), ("ppo", "peer", "PPO"), ("reference", "standard", "reference")):
        rows = [[100 * found["wins"] for found in x[method]] for x in details]
        band(axis, [found["temperature"] for found in details[0][method]], rows, role, name)
    axis.axhline(50, color=COLOURS["standard"], linewidth=0.8, linestyle="--")
    axis.set(title="Win rate against the best of 16 of the reference", xlabel="temperature of the policy",
             ylabel="wins and half of the ties, %")  # fmt: skip
    axis.legend()
    return drawing


@figure("long-training", "long-training")
def long_training(results: dict[str, Any]) -> Figure:
    """Three passes over the pairs: the margin rises while both log-probabilities fall."""
    from papertest.figures import COLOURS, band, panels

    drawing, (axis, reward) = panels(2, height=3.6, width=4.6)
    curves = [sample["details"]["curve"] for sample in results["long-training"].samples]
    steps = [point["step"] for point in curves[0]]
    for key, role in (("chosen", "ours"), ("rejected", "peer")):
        band(axis, steps, [[point[key] for point in curve] for curve in curves], role, key)
    band(axis, steps, [[x["chosen"] - x["rejected"] for x in curve] for curve in curves], "other", "margin")
    axis.axhline(0, color=COLOURS["standard"], linewidth=0.8)
    axis.set(title="Held-out pairs, β = 0.1", xlabel="steps", ylabel="change of log π, nats")
    axis.legend()
    band(reward, steps, [[point["reward"] for point in curve] for curve in curves], "ours", "true reward")
    reward.set(title="The policy's own continuations", xlabel="steps", ylabel="true reward: VADER's score")
    reward.legend()
    return drawing


@figure("over-optimisation", "over-optimisation")
def over_optimisation(results: dict[str, Any]) -> Figure:
    """The score that is optimised, and the true reward, each in deviations of the reference's answers."""
    from papertest.figures import band, panels

    drawing, axes = panels(2, height=3.6, width=4.8)
    details = [sample["details"] for sample in results["over-optimisation"].samples]
    places = [point["step"] for point in details[0]["curve"]], details[0]["best_of_n"]["n"]
    runs = [x["curve"] for x in details], [x["best_of_n"]["by"]["proxy"] for x in details]
    titles = ("PPO without a KL penalty", "Best of N")
    for axis, x, found, title in zip(axes, places, runs, titles, strict=True):
        rewards = [
            [(point["reward"] - seed["reference"]["reward"]) / seed["reference"]["reward_deviation"] for point in row]
            for seed, row in zip(details, found, strict=True)
        ]
        band(axis, x, [[point["score"] for point in row] for row in found], "peer", "reward model of few pairs")
        band(axis, x, rewards, "ours", "true reward")
        axis.set(title=title, ylabel="gain, deviations of the reference's", xlabel="rounds of PPO")
        axis.legend()
    axes[1].set_xscale("log", base=2)
    axes[1].set_xlabel("N")
    return drawing


@figure("smollm2", "smollm2-margin")
def smollm2(results: dict[str, Any]) -> Figure:
    """Held-out real pairs after training: both answers' change of likelihood, and the margin against their lengths."""
    from papertest.figures import COLOURS, panels

    drawing, (change, length) = panels(2, height=4.2, width=5.0)
    samples = [sample["details"] for sample in results["smollm2-margin"].samples]
    pairs = [pair for sample in samples for pair in sample["after"]]
    chosen, rejected = ([pair[name] / BETA for pair in pairs] for name in ("chosen_reward", "rejected_reward"))
    low, high = min(chosen + rejected), max(chosen + rejected)
    change.plot([low, high], [low, high], ":", color=COLOURS["standard"], label="no margin")
    change.plot(rejected, chosen, "o", alpha=0.5, color=COLOURS["ours"])
    change.axhline(0, color="black", linewidth=0.8)
    change.axvline(0, color="black", linewidth=0.8)
    change.set(title="Change of log π", xlabel="rejected answer, nats", ylabel="chosen answer, nats")
    change.legend(loc="upper left")
    margins = [pair["margin"] / BETA for pair in pairs]
    length.plot([n for sample in samples for n in sample["shorter"]], margins, "o", alpha=0.5, color=COLOURS["ours"])
    length.axhline(0, color="black", linewidth=0.8)
    length.axvline(0, color="black", linewidth=0.8)
    length.set(title="Margin and length", xlabel="tokens by which the rejected answer is longer", ylabel="margin, nats")
    return drawing
