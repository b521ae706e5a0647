"""The write-up's schematic: what turns, how fast, and which coordinates are a pair."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from papertest.claims import figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@figure("rotation")
def rotation(results: dict[str, Any]) -> Figure:
    """A schematic: one pair of coordinates, the pairs as clocks, and the two layouts."""
    from papertest.figures import panels

    drawing, (pair, clocks, layouts) = panels(3, height=3.2, width=3.9)
    for axis in (pair, clocks, layouts):
        axis.set_axis_off()
        axis.set_aspect("equal", anchor="N")
    _pair(pair)
    _clocks(clocks)
    _layouts(layouts)
    return drawing


def _pair(axis: Axes) -> None:
    """A query at position 5 and a key at position 2, both turned by their own position."""
    from papertest.figures import COLOURS

    theta, start_q, start_k, m, n = 0.32, 0.25, 0.62, 5, 2
    for name, start, position, length, colour in (
        ("q", start_q, m, 0.85, COLOURS["ours"]), ("k", start_k, n, 1.0, COLOURS["peer"])
    ):  # fmt: skip
        at = "m" if name == "q" else "n"
        for angle, alpha, text in ((start, 0.35, f"${name}$"), (start + position * theta, 1.0, f"$R_{at}{name}$")):
            x, y = length * math.cos(angle), length * math.sin(angle)
            axis.annotate("", (x, y), (0, 0), arrowprops={"arrowstyle": "-|>", "color": colour, "alpha": alpha,
                                                          "linewidth": 2, "shrinkA": 0, "shrinkB": 0})  # fmt: skip
            axis.text(1.13 * x, 1.13 * y, text, ha="center", va="center", color=colour, fontsize=12)
        _arc(axis, 0.30 if name == "q" else 0.5, start, start + position * theta, colour,
             f"${at}\\theta$", near=0.87 if name == "q" else 0.35)  # fmt: skip
    axis.text(0, -0.3, "angle between them afterwards:\nbefore, plus $(m-n)\\theta$", ha="center", va="center")
    axis.set(title="One pair of coordinates", xlim=(-0.95, 1.2), ylim=(-0.5, 1.25))


def _arc(axis: Axes, radius: float, start: float, end: float, colour: str, text: str, near: float) -> None:
    points = [start + (end - start) * i / 40 for i in range(41)]
    axis.plot([radius * math.cos(a) for a in points], [radius * math.sin(a) for a in points], color=colour, linewidth=1)
    middle = start + near * (end - start)
    axis.text((radius + 0.11) * math.cos(middle), (radius + 0.11) * math.sin(middle), text, color=colour,
              ha="center", va="center", fontsize=10)  # fmt: skip


def _clocks(axis: Axes) -> None:
    """The hands of four of 16 pairs at five positions."""
    from matplotlib.patches import Circle

    from papertest.figures import COLOURS

    pairs, positions = (1, 5, 9, 13), (0, 1, 4, 16, 64)
    for row, i in enumerate(pairs):
        theta = 10000 ** (-(i - 1) / 16)
        for column, m in enumerate(positions):
            axis.add_patch(Circle((column, -row), 0.4, facecolor="white", edgecolor=COLOURS["standard"]))
            angle = math.pi / 2 - m * theta
            axis.plot([column, column + 0.36 * math.cos(angle)], [-row, -row + 0.36 * math.sin(angle)],
                      color=COLOURS["ours"], linewidth=2)  # fmt: skip
        axis.text(-0.65, -row, f"pair {i}\n$\\theta$ = {theta:g}", ha="right", va="center", fontsize=9)
    for column, m in enumerate(positions):
        axis.text(column, 0.55, f"$m$ = {m}", ha="center", va="bottom", fontsize=9)
    axis.set(title="Each pair has its own speed", xlim=(-2.2, 4.5), ylim=(-3.6, 1.0))


def _layouts(axis: Axes) -> None:
    """Which coordinates turn together."""
    from papertest.figures import COLOURS

    colours = [COLOURS[role] for role in ("ours", "peer", "variant", "other")]
    for y, name, partner in (
        (1.5, "the paper, Meta's weights:\ninterleaved=True", [(0, 1), (2, 3), (4, 5), (6, 7)]),
        (-1.0, "Hugging Face's weights:\ninterleaved=False", [(0, 4), (1, 5), (2, 6), (3, 7)]),
    ):
        for colour, (a, b) in zip(colours, partner, strict=True):
            for place in (a, b):
                axis.text(place, y, f"{place + 1}", ha="center", va="center", color="white", weight="bold",
                          bbox={"boxstyle": "square,pad=0.35", "facecolor": colour, "edgecolor": "white"})  # fmt: skip
            arc = [math.pi * t / 20 for t in range(21)]
            width = (b - a) / 2
            axis.plot([(a + b) / 2 + width * math.cos(t) for t in arc], [y + 0.4 + 0.5 * math.sin(t) for t in arc],
                      color=colour, linewidth=1.4)  # fmt: skip
        axis.text(3.5, y - 0.65, name, ha="center", va="top", fontsize=9.5)
    axis.set(title="Which coordinates are a pair", xlim=(-0.7, 7.7), ylim=(-2.8, 2.8))
