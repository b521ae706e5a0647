"""The write-up's schematic: the encoder's and the decoder's layer, and what happens in one attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from papertest.claims import figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@figure("block")
def block(results: dict[str, Any]) -> Figure:
    """Section 3: both stacks, a layer of each drawn out, and Equation 1 for one head."""
    import matplotlib.pyplot as plt

    from papertest.figures import house_style

    with house_style():
        drawing, (stacks, head) = plt.subplots(1, 2, figsize=(11, 6.4), width_ratios=[2.1, 1])
    for axis, title, width in ((stacks, "Encoder and decoder", 21.0), (head, "One head of an attention", 10.0)):
        axis.set(title=title, xlim=(0, width), ylim=(0, 16.2))
        axis.set_axis_off()
    encoder(stacks)
    decoder(stacks)
    attention(head)
    return drawing


def encoder(axis: Axes) -> None:
    frame(axis, 1.1, 3.5, 8.6, 6.1, "N = 6 times")
    column(axis, 5.4, "source tokens")
    sublayer(axis, 5.4, 4.2, "self-attention", "ours")
    sublayer(axis, 5.4, 7.0, "feed-forward", "variant", up=1.4)
    axis.text(5.4, 10.8, "memory: one vector per source token", ha="center", va="center")


def decoder(axis: Axes) -> None:
    frame(axis, 11.4, 3.5, 8.9, 8.9, "N = 6 times")
    column(axis, 16.0, "target tokens so far")
    sublayer(axis, 16.0, 4.2, "self-attention, no later position", "ours")
    sublayer(axis, 16.0, 7.0, "attention to the memory", "peer")
    sublayer(axis, 16.0, 9.8, "feed-forward", "variant", up=1.1)
    axis.plot([5.4, 5.4, 10.4, 10.4], [11.2, 11.6, 11.6, 7.4], color="black", linewidth=1.2)
    arrow(axis, (10.4, 7.42), (13.05, 7.42), "K, V")
    box(axis, 16.0, 12.9, 7.2, 0.95, "projection: the embedding again", "white")
    arrow(axis, (16.0, 13.85), (16.0, 14.5))
    axis.text(16.0, 14.9, "softmax: the next token", ha="center", va="center")


def attention(axis: Axes) -> None:
    for x, name in ((2.3, "Q"), (5.0, "K"), (7.7, "V")):
        box(axis, x, 1.9, 2.1, 0.95, f"times W$^{name}$", "white")
        arrow(axis, (x, 1.1), (x, 1.9))
    axis.text(2.3, 0.7, "who asks", ha="center", va="center", fontsize=9)
    axis.text(6.35, 0.7, "who is looked at", ha="center", va="center", fontsize=9)
    steps = (
        (4.3, "scores: Q K$^T$", "peer"),
        (6.2, "divided by √d$_k$", "ours"),
        (8.1, "−∞ where the mask says no", "standard"),
        (10.0, "softmax along the keys", "ours"),
    )
    for y, text, role in steps:
        box(axis, 3.65, y, 6.2, 0.95, text, role)
    arrow(axis, (2.3, 2.85), (2.3, 4.3), "Q")
    arrow(axis, (5.0, 2.85), (5.0, 4.3), "K")
    for y in (5.25, 7.15, 9.05):
        arrow(axis, (3.65, y), (3.65, y + 0.95))
    box(axis, 5.4, 12.1, 5.6, 0.95, "weighted mean of V", "variant")
    arrow(axis, (4.3, 10.95), (4.3, 12.1), "weights")
    axis.plot([7.7, 7.7], [2.85, 11.0], color="black", linewidth=1.2)
    arrow(axis, (7.7, 11.0), (7.7, 12.1), "V")
    arrow(axis, (5.4, 13.05), (5.4, 14.3))
    axis.text(5.4, 14.9, "h heads side by side, times W$^O$", ha="center", va="center")


def column(axis: Axes, x: float, tokens: str) -> None:
    """What every stack begins with: tokens, embeddings, positions."""
    axis.text(x, 0.4, tokens, ha="center", va="center")
    arrow(axis, (x, 0.75), (x, 1.4))
    box(axis, x, 1.4, 7.2, 0.95, "embedding · √d$_{model}$ + positions", "white")
    arrow(axis, (x, 2.35), (x, 4.2))


def sublayer(axis: Axes, x: float, y: float, text: str, role: str, up: float = 0.8) -> None:
    """A sub-layer, the residual path around it, and the norm of their sum."""
    box(axis, x, y, 5.9, 0.85, text, role)
    arrow(axis, (x, y + 0.85), (x, y + 1.25))
    box(axis, x, y + 1.25, 5.9, 0.75, "add, then LayerNorm", "white")
    side = x + 3.6
    axis.plot([x, side, side], [y - 0.35, y - 0.35, y + 1.62], color="black", linewidth=1.0, linestyle=":")
    arrow(axis, (side, y + 1.62), (x + 2.95, y + 1.62))
    arrow(axis, (x, y + 2.0), (x, y + 2.0 + up))


def frame(axis: Axes, x: float, y: float, width: float, height: float, text: str) -> None:
    from matplotlib.patches import Rectangle

    axis.add_patch(Rectangle((x, y), width, height, facecolor="#f4f4f4", edgecolor="#b0b0b0", linewidth=1.0))
    axis.text(x + 0.2, y + height + 0.1, text, ha="left", va="bottom", fontsize=9, color="#555555")


def box(axis: Axes, x: float, y: float, width: float, height: float, text: str, role: str) -> None:
    """A box that stands on y and has its middle at x."""
    from matplotlib.patches import FancyBboxPatch

    from papertest.figures import COLOURS

    colour = COLOURS.get(role, role)
    style = "round,pad=0,rounding_size=0.18"
    axis.add_patch(
        FancyBboxPatch((x - width / 2, y), width, height, style, facecolor=colour, edgecolor="black", zorder=2)
    )
    dark = role in ("ours", "peer", "standard")
    axis.text(x, y + height / 2, text, ha="center", va="center", fontsize=9, color="white" if dark else "black")


def arrow(axis: Axes, start: tuple[float, float], end: tuple[float, float], text: str = "") -> None:
    look = {"arrowstyle": "-|>", "color": "black", "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", end, start, arrowprops=look)
    if text:
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        axis.annotate(text, middle, (4, 4), textcoords="offset points", fontsize=9)
