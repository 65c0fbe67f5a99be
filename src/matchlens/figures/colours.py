"""Colour scales that also work in grey, and their bar below the axes."""

from __future__ import annotations

from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap

from matchlens.figures.page import EDGE, NORMAL, SMALL, TICK, Page

COLOURS = LinearSegmentedColormap.from_list(
    "matchlens",
    ["#14104f", "#3f4ba0", "#94a6d8", "#f7f7f5", "#f6c98f", "#e39a3b", "#bd6f10"],
)
"""Blue to white to orange. Blue ends darker than orange does, so that the darkest cells of a grey
print are decreases."""
SHADES = LinearSegmentedColormap.from_list(
    "matchlens-shades", ["#ece9d8", "#b9cf9f", "#5fa6a0", "#2f5f95", "#14104f"]
)
"""Pale to dark: the more, the darker."""
BAR = 6.0
"""A colour bar's height (points)."""


def bar_height(page: Page, words: str) -> float:
    """Height of a colour bar with its ticks and its words (points)."""
    words_height = page.measure(words, NORMAL)[1]
    return words_height + 2 + page.measure("0", SMALL)[1] + TICK + BAR + 6


def bar(
    page: Page,
    colours: ScalarMappable,
    words: str,
    bottom: float,
    left: float,
    long: float,
    *,
    sign: bool = True,
) -> None:
    """Draw a colour bar, with ticks inside its ends, and its words below it.

    Args:
        page: the sheet.
        colours: what is coloured.
        words: what the colours say, wrapped already.
        bottom: where the words begin, seen from below.
        left: where the bar begins.
        long: its length.
        sign: whether positive numbers have a plus.
    """
    at = bottom + page.measure(words, NORMAL)[1] + 2 + page.measure("0", SMALL)[1] + TICK
    axes = page.axes(left, at, long, BAR)
    drawn = page.figure.colorbar(colours, cax=axes, orientation="horizontal")
    drawn.outline.set_visible(False)  # type: ignore[attr-defined]
    if drawn.solids is not None:
        drawn.solids.set_edgecolor("face")  # no seams between the colours
    low, high = colours.get_clim()
    low, high = float(low or 0.0), float(high or 0.0)
    shown, labels = page.ticks(low, high, long, 6, over=EDGE, sign=sign)
    drawn.set_ticks(shown, labels=labels)
    half = page.measure(words, NORMAL)[0] / 2
    x = min(max(left + long / 2, EDGE + half), page.width - EDGE - half)
    page.text(x, bottom, words, va="bottom", ha="center", fontsize=NORMAL)
