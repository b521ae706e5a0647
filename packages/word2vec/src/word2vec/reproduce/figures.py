"""The write-up's figures: a schematic, and the main result with intervals, bounds and the paper's values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from papertest import figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@figure("softmax")
def schematic(results: dict[str, Any]) -> Figure:
    """One row on its way: less its maximum, exponentials, divided by their sum."""
    from papertest.figures import COLOURS, panels

    drawing, (axes,) = panels(1, height=1.6, width=8)
    axes.set(xlim=(0, 8), ylim=(0, 2))
    axes.set_axis_off()
    axes.set_title("One row")
    steps = (("$x$", "standard"), ("$x - m$", "peer"), ("$e^{x - m}$", "variant"), ("$p$", "ours"))
    for i, (text, role) in enumerate(steps):
        axes.text(1 + 2 * i, 1, text, ha="center", va="center", fontsize=14,
                  bbox={"boxstyle": "round,pad=0.5", "facecolor": "white", "edgecolor": COLOURS[role]})  # fmt: skip
    for i, text in enumerate(("less the maximum", "exponentials", "over their sum")):
        axes.annotate("", (2.45 + 2 * i, 1), (1.55 + 2 * i, 1), arrowprops={"arrowstyle": "-|>", "color": "black"})
        axes.text(2 + 2 * i, 0.3, text, ha="center", va="center", fontsize=9)
    return drawing


@figure("results", "more-examples", "rows-at-once")
def main_result(results: dict[str, Any]) -> Figure:
    from papertest import figures

    drawing, (left, right) = figures.panels(2, height=2.4, width=5)
    left.set(title="More examples", xlabel="test error saved (percentage points)")
    right.set(title="All rows at once", xlabel="times as fast")
    if not all(result.samples for result in results.values()):
        for axes in (left, right):
            axes.set_yticks([0], ["not yet\nmeasured"])
        return drawing
    figures.effects(left, [("100 against\n1,000 examples", results["more-examples"], "")])
    figures.speeds(right, [("row by row\nover at once", results["rows-at-once"], "")])
    return drawing
