"""The write-up's schematics: what is trained in which order, and what the losses ask of a pair."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from papertest.claims import figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BETA, EPSILON = 0.1, 0.1  # of the losses that are drawn: β and τ, and cDPO's share of flipped labels


@figure("stages")
def stages(results: dict[str, Any]) -> Figure:
    """RLHF's three stages above, DPO's one below; what is trained is dark, what is frozen is white."""
    from papertest.figures import arrow, box, sheet

    drawing, axis = sheet(11.0, 5.4, 22.0, 10.8)
    for y, height, title in ((4.6, 6.0, "RLHF: a reward model, then reinforcement learning"), (0.2, 3.6, "DPO")):
        box(axis, 11.0, y, 21.6, height, "", "#f4f4f4")
        axis.text(0.6, y + height - 0.55, title, weight="bold")

    for base in (6.5, 0.8):
        box(axis, 2.2, base, 3.0, 1.7, "supervised\nfine-tuning: $\\pi_{ref}$", "variant")
        box(axis, 7.2, base + (2.5 if base > 1 else 2.0), 3.4, 0.8, "pairs $x, y_w \\succ y_l$", "white")
        arrow(axis, (7.2, base + (2.5 if base > 1 else 2.0)), (7.2, base + 1.7))
        arrow(axis, (3.7, base + 0.85), (5.5, base + 0.85))

    box(axis, 7.2, 6.5, 3.4, 1.7, "reward model $r_\\varphi$\n$-\\log\\sigma(r(y_w)-r(y_l))$", "peer")
    arrow(axis, (8.9, 7.35), (10.9, 7.35))
    for x, y, text in ((2.2, 5.9, "1"), (7.2, 5.9, "2"), (16.3, 4.85, "3: again and again")):
        axis.text(x, y, text, ha="center", weight="bold")
    box(axis, 12.4, 6.7, 3.0, 1.3, "policy $\\pi_\\theta$\nwrites answers", "peer")
    box(axis, 20.2, 6.7, 2.5, 1.3, "advantages,\nclipped step", "white")
    for y, text, role in (
        (8.85, "$r_\\varphi$ scores them", "white"), (7.35, "$\\pi_{ref}$: KL penalty", "white"),
        (5.9, "value: baseline", "peer"),
    ):  # fmt: skip
        box(axis, 16.4, y - 0.45, 2.9, 0.9, text, role)
        arrow(axis, (13.9, 7.35), (14.95, y))
        arrow(axis, (17.85, y), (18.95, 7.35))
    _loop(axis, 20.2, 6.7, 5.25, 12.4, 6.7)

    box(axis, 7.2, 0.8, 3.4, 1.7, "$\\log\\pi_{ref}$ of the pairs,\nonce, and kept", "white")
    arrow(axis, (8.9, 1.65), (10.9, 1.65))
    margin = " - ".join(f"\\beta\\log\\frac{{\\pi_\\theta(y_{i})}}{{\\pi_{{ref}}(y_{i})}}" for i in "wl")
    box(axis, 15.2, 0.8, 8.6, 1.7, f"policy $\\pi_\\theta$:   $-\\log\\,\\sigma\\left({margin}\\right)$", "ours")
    return drawing


@figure("losses")
def losses(results: dict[str, Any]) -> Figure:
    """Four losses of a pair by the difference h of its log ratios, and how hard each pulls."""
    import torch

    from papertest.figures import COLOURS, panels

    import dpo

    h = torch.linspace(-60, 60, 601, dtype=torch.float64, requires_grad=True)
    zero = torch.zeros_like(h)
    cases = {
        "DPO": ("ours", "-", dpo.dpo_loss(h, zero, zero, zero, BETA)[0]),
        f"cDPO, ε = {EPSILON:g}": ("variant", "-", dpo.dpo_loss(h, zero, zero, zero, BETA, EPSILON)[0]),
        "without the weight": ("peer", "--", dpo.unweighted_loss(h, zero, zero, zero, BETA)[0]),
        "IPO, over 100": ("other", ":", dpo.ipo_loss(h, zero, zero, zero, BETA)[0] / 100),
    }
    drawing, (loss, pull) = panels(2, height=3.4, width=4.6)
    for name, (role, style, values) in cases.items():
        (down,) = torch.autograd.grad(values.sum(), h, retain_graph=True)
        places = h.detach().tolist()
        loss.plot(places, values.detach().tolist(), style, color=COLOURS[role], label=name)
        pull.plot(places, (-down / BETA).tolist(), style, color=COLOURS[role])
    loss.plot([0], [math.log(2)], "o", color=COLOURS["ours"])
    loss.annotate("log 2", (0, math.log(2)), xytext=(6, 8), textcoords="offset points")
    label = (
        "$h = \\log\\frac{\\pi_\\theta(y_w)}{\\pi_{ref}(y_w)} - \\log\\frac{\\pi_\\theta(y_l)}{\\pi_{ref}(y_l)}$, nats"
    )
    loss.set(title="Loss of a pair, β = τ = 0.1", xlabel=label, ylabel="loss", ylim=(-2.5, 7))
    pull.set(title="Its pull on the margin", xlabel=label, ylim=(-0.6, 1.4))
    pull.set_ylabel("$-\\partial$loss$/\\partial h$, over β")
    pull.axhline(0, color=COLOURS["standard"], linewidth=0.8)
    loss.legend()
    return drawing


def _loop(axis: Axes, x: float, top: float, bottom: float, back: float, up: float) -> None:
    """Down from (x, top), along the bottom, and up to (back, up)."""
    from papertest.figures import arrow

    axis.plot([x, x, back, back], [top, bottom, bottom, up - 0.3], "--", color="black", linewidth=1.2, zorder=2)
    arrow(axis, (back, up - 0.35), (back, up))
