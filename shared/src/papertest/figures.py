"""The house style of figures: one colour a method, our numbers filled, the paper's reported values hollow."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.typing import RcKeyType

COLOURS = {
    "standard": "#7f7f7f",
    "ours": "#d1495b",
    "peer": "#2e4057",
    "variant": "#edae49",
    "other": "#66a182",
}
STYLE: dict[RcKeyType, Any] = {
    "figure.dpi": 150,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "legend.framealpha": 0.9,
    "legend.edgecolor": "none",
    "legend.fontsize": 8,
    "svg.hashsalt": "papertest",
}


def house_style() -> AbstractContextManager[None]:
    """A context in which matplotlib draws in the house style."""
    return plt.rc_context(STYLE)


def panels(columns: int = 1, height: float = 3.1, width: float = 3.9) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels side by side, in the house style; sizes in inches a panel."""
    with house_style():
        figure, axes = plt.subplots(1, columns, figsize=(width * columns, height), squeeze=False)
    return figure, list(axes[0])


def measured(axes: Axes, x: Sequence[Any], y: Sequence[float], role: str, label: str, **style: Any) -> None:
    """Our own numbers: a line with filled markers in the colour of the method's role (a key of `COLOURS`)."""
    style = {"marker": "o", "color": COLOURS[role], "label": label, "linewidth": 1.8} | style
    axes.plot(x, y, **style)


def reported(axes: Axes, x: Sequence[Any], y: Sequence[float], role: str, label: str, **style: Any) -> None:
    """The paper's values: hollow diamonds on a dashed line in the same colour."""
    look = {"marker": "D", "color": COLOURS[role], "markerfacecolor": "white", "linestyle": "--", "linewidth": 1.0}
    style = {**look, "label": label} | style
    axes.plot(x, y, **style)


def bars(
    axes: Axes, groups: Sequence[str], ours: Sequence[float], papers: Sequence[float], roles: Sequence[str]
) -> None:
    """A pair of bars a group: ours filled, the paper's hollow, each with its number on top."""
    for i, (a, b, role) in enumerate(zip(ours, papers, roles, strict=True)):
        colour = COLOURS[role]
        left = axes.bar(i - 0.2, a, 0.36, color=colour, label="measured here" if i == 0 else None)
        right = axes.bar(i + 0.2, b, 0.36, facecolor="white", edgecolor=colour, hatch="///", linewidth=1.2,
                         label="the paper" if i == 0 else None)  # fmt: skip
        axes.bar_label(left, [f"{a:.4g}"], fontsize=8, padding=2)
        axes.bar_label(right, [f"{b:.4g}"], fontsize=8, padding=2)
    axes.set_xticks(range(len(groups)), groups)
    axes.grid(visible=False, axis="x")
    axes.margins(y=0.12)


def png(figure: Figure) -> bytes:
    """The figure as PNG; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    plt.close(figure)
    return buffer.getvalue()
