"""The house style of figures: one colour per method, our numbers filled, the paper's reported values hollow."""

from __future__ import annotations

import io
import math
import re
import statistics
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.transforms import ScaledTranslation
from matplotlib.typing import RcKeyType

from papertest.words import unit_of

if TYPE_CHECKING:
    from papertest.store import Result

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
    "font.size": 10,  # a write-up shows a figure about 830 pixels wide, which is less than it has
    "axes.titlesize": 11,
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
    "legend.fontsize": 9,
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


def sheet(width: float, height: float, x: float, y: float) -> tuple[Figure, Axes]:
    """An empty sheet for a schematic, of this many inches, with coordinates up to x and y."""
    with house_style():
        figure, axes = plt.subplots(figsize=(width, height))
    axes.set(xlim=(0, x), ylim=(0, y))
    axes.set_axis_off()
    return figure, axes


def box(
    axes: Axes, x: float, y: float, width: float, height: float, text: str, role: str, *, dashed: bool = False
) -> None:
    """A box that stands on y and has its middle at x, in the colour of a role, or one of its own."""
    axes.add_patch(
        FancyBboxPatch(
            (x - width / 2, y), width, height, "round,pad=0,rounding_size=0.15", facecolor=COLOURS.get(role, role),
            edgecolor="black", linewidth=0.8, linestyle=":" if dashed else "-", zorder=2,
        )
    )  # fmt: skip
    dark = role in ("ours", "peer", "other")
    axes.text(x, y + height / 2, text, ha="center", va="center", fontsize=9, color="white" if dark else "black")


def arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], role: str = "black", *, dashed: bool = False
) -> None:
    """In the colour of a role."""
    look = {"arrowstyle": "-|>", "color": COLOURS.get(role, role), "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, start, arrowprops=look | {"linestyle": "--" if dashed else "-"})


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
        axes.bar_label(left, [f"{a:.4g}"], fontsize=9, padding=2)
        axes.bar_label(right, [f"{b:.4g}"], fontsize=9, padding=2)
    axes.set_xticks(range(len(groups)), groups)
    axes.grid(visible=False, axis="x")
    axes.margins(y=0.12)


class _Shown(NamedTuple):
    """One number of a result, and all that is drawn of it."""

    value: float
    interval: tuple[float, float] | None
    bound: tuple[float | None, float | None]
    paper: float | None
    samples: list[float]

    @property
    def ends(self) -> list[float]:
        """Every number that has to be within the axis."""
        numbers = [self.value, self.paper, *(self.interval or ()), *self.bound, *self.samples]
        return [x for x in numbers if x is not None and math.isfinite(x)]


def effects(axes: Axes, rows: Sequence[tuple[str, Result, str]], *, no_effect: float | None = None) -> None:
    """One line per comparison (label, result, part), on a common x axis, with a legend below.

    Each seed is a tick, the mean a point on its 95 % interval, the accepted region a pale band, and the paper's value,
    where it has one, a hollow diamond. A part is "" where the claim measures one number, the name of one where it
    measures a table, and ends in an index, as `speed[2]`, where it is a list. A line stands at `no_effect`: 1 where
    the first result's unit is a ratio, else 0. Take half an inch of height per row; set a logarithmic scale before.
    """
    found = [_shown(result, part) for _, result, part in rows]
    if no_effect is None:
        no_effect = 1.0 if unit_of(rows[0][1].unit, rows[0][2].split("[")[0]) == "ratio" else 0.0
    left, right = _limits(axes, [x for each in found for x in each.ends] + [no_effect])
    labels = _Once()
    for y, each in enumerate(found):
        low, high = (edge if end is None else end for end, edge in zip(each.bound, (left, right), strict=True))
        if each.bound != (None, None):
            axes.fill_between([low, high], y - 0.4, y + 0.4, color=COLOURS["other"], alpha=0.22, linewidth=0,
                              label=labels("accepted"))  # fmt: skip
        if each.interval is not None:
            axes.plot(each.interval, [y, y], color=COLOURS["ours"], linewidth=2.4, alpha=0.5)
        if len(each.samples) > 1:
            axes.plot(each.samples, [y] * len(each.samples), "|", markersize=9, color=COLOURS["ours"],
                      label=labels("one seed each"))  # fmt: skip
        axes.plot(each.value, y, "o", color=COLOURS["ours"], label=labels(_measured_as(found)))
        if each.paper is not None:
            axes.plot(each.paper, y, "D", color=COLOURS["peer"], markerfacecolor="white", label=labels("the paper"))
    axes.axvline(no_effect, color="black", linewidth=0.8)
    axes.set_xlim(left, right)
    _name_rows(axes, [label for label, _, _ in rows])


def speeds(axes: Axes, rows: Sequence[tuple[str, Result, str]]) -> None:
    """One horizontal bar per ratio (label, result, part) with its 95 % interval, on a common x axis, legend below.

    The bound is a short upright line, the paper's value a hollow diamond, and 1 is marked. Parts as in `effects`.
    """
    found = [_shown(result, part) for _, result, part in rows]
    right = 1.15 * max([x for each in found for x in each.ends] + [1.0])
    labels = _Once()
    for y, each in enumerate(found):
        axes.barh(y, each.value, 0.56, color=COLOURS["ours"], label=labels(_measured_as(found)))
        if each.interval is not None:
            axes.plot(each.interval, [y, y], "|-", color="black", linewidth=1.2, markersize=6)
        for end in each.bound:
            if end is not None:
                axes.plot([end, end], [y - 0.42, y + 0.42], color=COLOURS["peer"], linewidth=2.2,
                          label=labels("required"))  # fmt: skip
        if each.paper is not None:
            axes.plot(each.paper, y, "D", color=COLOURS["peer"], markerfacecolor="white", label=labels("the paper"))
        end_of_bar = max(each._replace(paper=None, samples=[]).ends)
        if each.paper is not None and end_of_bar < each.paper < end_of_bar + 0.2 * right:
            end_of_bar = each.paper  # the number would lie under the diamond
        axes.annotate(f"{each.value:.3g}", (end_of_bar, y), (6, 0), textcoords="offset points", va="center",
                      fontsize=9)  # fmt: skip
    axes.axvline(1, color="black", linewidth=0.8, linestyle="--", label="no difference")
    axes.set_xlim(0, right)
    _name_rows(axes, [label for label, _, _ in rows])


def band(axes: Axes, x: Sequence[float], rows: Sequence[Sequence[float]], role: str, label: str) -> None:
    """The mean over the seeds (a row per seed), and a band from the least to the largest."""
    band_by_place(axes, x, list(zip(*rows, strict=True)), role, label)


def band_by_place(axes: Axes, x: Sequence[float], columns: Sequence[Sequence[float]], role: str, label: str) -> None:
    """As `band`, of a column per place; these may have different lengths."""
    axes.fill_between(x, [min(c) for c in columns], [max(c) for c in columns], color=COLOURS[role], alpha=0.2,
                      linewidth=0)  # fmt: skip
    measured(axes, x, [statistics.mean(c) for c in columns], role, label)


def png(figure: Figure, source: str = "") -> bytes:
    """The figure as PNG; the same figure gives the same bytes. `source` stands in it as the text `Source`."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None} | ({"Source": source} if source else {}))
    plt.close(figure)
    return buffer.getvalue()


class _Once:
    """Gives each label once, so that a legend has it once."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def __call__(self, label: str) -> str | None:
        first = label not in self._given
        self._given.add(label)
        return label if first else None


def _shown(result: Result, part: str) -> _Shown:
    match = re.fullmatch(r"(.*?)(?:\[(\d+)\])?", part)
    assert match is not None
    name, index = match[1], int(match[2] or 0)

    def leaf(value: Any) -> list[Any]:
        table = cast("dict[str, Any]", value) if isinstance(value, dict) else {"": value}
        found = table.get(name)
        return cast("list[Any]", found) if isinstance(found, list) else [] if found is None else [found]

    numbers = leaf(result.value)
    if index >= len(numbers) or (match[2] is None and len(numbers) > 1):
        raise ValueError(f"{part!r} is no number that {result.claim} measures: it measures {result.value}")
    beside: list[Any] = [result.interval, result.bounds, result.paper]
    interval, bounds, paper = (leaf(table) for table in beside)
    low, high = bounds[index] if bounds else (None, None)
    return _Shown(
        numbers[index],
        tuple(interval[index]) if interval else None,
        (_end(low), _end(high)),
        paper[index] if index < len(paper) else None,
        [x for sample in result.samples for x in leaf(sample["value"])[index : index + 1] if x is not None],
    )


def _end(x: float | None) -> float | None:
    return None if x is None or math.isinf(x) else x


def _measured_as(found: list[_Shown]) -> str:
    return "measured, 95 % interval" if any(each.interval for each in found) else "measured"


def _limits(axes: Axes, numbers: list[float]) -> tuple[float, float]:
    """A little more than all numbers, on the scale of the axis."""
    logarithmic = axes.get_xscale() == "log"
    on_axis = [math.log(x) for x in numbers if x > 0] if logarithmic else numbers
    margin = 0.06 * ((max(on_axis) - min(on_axis)) or 1.0)
    low, high = min(on_axis) - margin, max(on_axis) + margin
    return (math.exp(low), math.exp(high)) if logarithmic else (low, high)


def _name_rows(axes: Axes, labels: list[str]) -> None:
    """The rows' names from the top down, and the legend below the axis and its label."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    figure = axes.get_figure(root=True)
    place = axes.get_subplotspec()
    assert figure is not None and place is not None
    wide = figure.get_figwidth() / place.get_gridspec().ncols > 6
    below = axes.transAxes + ScaledTranslation(0, -36 / 72, figure.dpi_scale_trans)
    axes.legend(loc="upper right", bbox_to_anchor=(1, 0), bbox_transform=below, ncols=4 if wide else 2,
                borderaxespad=0, columnspacing=1.2, handletextpad=0.5)  # fmt: skip
