"""What figures with layers along their x axis share: ticks at layers, labels at the lines' ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from matchlens.figures.labels import spread
from matchlens.figures.page import GREY, INK, SMALL, Page

LEADER, KEY = 11.0, 9.0
"""Points from the axes to the labels, and from a label's sign to its text."""
PAD = 5.0
"""Points that stay empty left of the first layer and right of the last."""


@dataclass(frozen=True)
class EndLabel:
    """A label at a line's right end; its sign is a marker in the line's colour, or none."""

    text: str
    height: float
    start: tuple[float, float]
    rank: float
    colour: str
    marker: str


def end_labels(page: Page, labels: list[EndLabel], edge: float, low: float, high: float) -> None:
    """Put the labels right of the axes, moved apart; a thin line leads to each."""
    labels = sorted(labels, key=lambda label: (round(label.start[1], 3), label.rank))
    wanted = np.array([label.start[1] for label in labels])
    heights = np.array([label.height for label in labels])
    x = edge + LEADER
    for label, y in zip(labels, spread(wanted, heights, low, high), strict=True):
        page.line(
            [label.start[0], edge + 1, x], [label.start[1], label.start[1], y],
            color=label.colour, lw=0.5, alpha=0.8, solid_joinstyle="round",
        )  # fmt: skip
        if label.marker:
            page.line([x + 2.5], [y], color=label.colour, marker=label.marker, ms=3.6, ls="")
        indent = KEY - 2.0 if label.marker else 2.0
        page.text(
            x + indent, y, label.text, va="center", fontsize=SMALL,
            color=INK if label.marker else GREY,
        )  # fmt: skip


def layer_ticks(page: Page, axes: Axes, first: int, last: int, across: float) -> None:
    """Ticks at whole layers, as many as have room."""
    each = (across - 2 * PAD) / max(last - first, 1)
    needed = page.widest([str(last)], SMALL) + 4.0
    step = next(s for s in (1, 2, 3, 4, 6, 8, 12, 24, 48, last - first + 1) if s * each >= needed)
    shown = [n for n in range(first, last + 1) if n % step == 0] or [first]
    axes.set_xticks(shown, [str(n) for n in shown])
