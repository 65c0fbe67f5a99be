"""The same cuts made in several ways: which effects do not depend on how one cuts."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from matchlens.figures.keys import key, write
from matchlens.figures.page import (
    EDGE,
    GREY,
    LINES,
    PALETTE,
    SMALL,
    TICK,
    Frame,
    Page,
    arrows,
    numbers,
    required,
    style,
)

COLUMNS = ("cut", "how", "diff", "ci_low", "ci_high", "significant")
NOTE = (
    "X→Y cut: X no longer reads Y. Filled: significant change; hollow: not. Bar: 95% interval. "
    "Rows by their mean change."
)
_MARK = 7.0


def comparison(
    table: pd.DataFrame, *, measure: str, title: str = "", width: str = "column"
) -> Figure:
    """Draw the change of the measure for every cut under several ways of cutting.

    A row for each cut, sorted by the mean change over the ways, the largest decrease on top; a
    marker a way, with its 95% interval, filled where the change is significant.

    Args:
        table: one row for each cut and a way. Columns: cut (text such as ``Q->D``), how (text such
            as ``zero``), diff (mean change to the original, in units of the measure), ci_low and
            ci_high (its 95% interval; NaN draws none), significant (bool). A way that a cut does
            not have is left out.
        measure: the measure's name, such as ``nDCG@10``.
        title: above the figure.
        width: ``column`` (3.35 inch) or ``page`` (7 inch).

    Raises:
        InputError: if the table is empty, lacks a column or holds two rows for a cut and a way,
            or if the width is unknown.

    Source: science 2, the five hows; the paper cuts by ``zero`` only.

    >>> import pandas as pd
    >>> table = pd.DataFrame(
    ...     {"cut": ["Q->D", "Q->D", "D->D", "D->D"], "how": ["zero", "mask"] * 2,
    ...      "diff": [-0.01, 0.0, -0.12, -0.05], "ci_low": [-0.02, -0.01, -0.2, -0.1],
    ...      "ci_high": [0.0, 0.01, -0.06, -0.01], "significant": [False, False, True, True]}
    ... )
    >>> figure = comparison(table, measure="nDCG@10", title="Two ways to cut")
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['D→D', 'Q→D']
    """
    required(table, COLUMNS, ("cut", "how"), "comparison")
    diff = numbers(table, "diff")
    low, high = (numbers(table, name, known=False) for name in ("ci_low", "ci_high"))
    significant = table["significant"].eq(True).to_numpy(dtype=bool)
    cut, how = (table[name].astype(str).to_numpy(dtype=object) for name in ("cut", "how"))
    cuts = [str(name) for name in dict.fromkeys(cut)]
    cuts.sort(key=lambda name: float(diff[cut == name].mean()))
    hows = [str(name) for name in dict.fromkeys(how)]

    with style():
        page = Page(width)
        frame = Frame(page, title, f"change of {measure}", NOTE)
        longest = page.width * (0.3 if not page.wide else 0.25)
        names = [page.wrap(arrows(name), longest, SMALL) for name in cuts]
        left = EDGE + page.widest(names, SMALL) + TICK
        across = page.width - left - EDGE - 6
        apart = 5.0 if len(cuts) <= 8 else 4.0 if len(hows) <= 3 else 3.1  # of two marks in a row
        heights = [max(page.measure(name, SMALL)[1], apart * len(hows)) + 2.4 for name in names]
        edges = np.concatenate([[0.0], np.cumsum(heights)])
        middle = (edges[1:] + edges[:-1]) / 2
        entries, line = key(page, hows, left, across, sign=_MARK)
        above = line * (entries[-1].line + 1) + 2.0
        page.grow(frame.bottom + edges[-1] + above + frame.top)
        axes = page.axes(left, frame.bottom, across, float(edges[-1]))

        seen = np.concatenate([diff, low, high, [0.0]])
        least, most = float(np.nanmin(seen)), float(np.nanmax(seen))
        margin = max((most - least) * 0.04, (0.01 - (most - least)) / 2)
        least, most = least - margin, most + margin
        axes.set_xlim(least, most)
        axes.set_ylim(float(edges[-1]), 0)
        for i in range(0, len(cuts), 2):
            axes.axhspan(edges[i], edges[i + 1], color="#f3f3f3", lw=0, zorder=0)
        axes.axvline(0, color=GREY, lw=0.7, zorder=1)
        for i, name in enumerate(hows):
            rows = np.flatnonzero(how == name)
            place = middle[[cuts.index(str(c)) for c in cut[rows]]]
            place = place + (i - (len(hows) - 1) / 2) * apart
            columns = (diff[rows], low[rows], high[rows], significant[rows])
            _marks(axes, name, i, place, *columns)
        axes.set_xticks(*page.ticks(least, most, across, 9 if page.wide else 6, over=6.0))
        axes.set_yticks(middle.tolist(), names, linespacing=LINES)
        axes.tick_params(axis="y", length=0, pad=TICK - 1)
        axes.spines["left"].set_visible(False)
        frame.draw(left + across / 2)
        top = page.height - frame.top
        for i, entry in enumerate(entries):
            y = top - line * (entry.line + 0.5)
            colour, marker = PALETTE[i % len(PALETTE)]
            page.line([entry.x + 2.5], [y], color=colour, marker=marker, ms=4.0, ls="")
            write(page, entry, entry.x + _MARK, y)
    return page.figure


def _marks(
    axes: Axes,
    how: str,
    i: int,
    place: Float[np.ndarray, " rows"],
    diff: Float[np.ndarray, " rows"],
    low: Float[np.ndarray, " rows"],
    high: Float[np.ndarray, " rows"],
    significant: Bool[np.ndarray, " rows"],
) -> None:
    colour, marker = PALETTE[i % len(PALETTE)]
    known = np.isfinite(low) & np.isfinite(high)
    axes.hlines(place[known], low[known], high[known], color=colour, lw=0.8, zorder=2)
    for rows, face in ((~significant, "white"), (significant, colour)):
        axes.plot(
            diff[rows], place[rows], ls="", marker=marker, ms=3.0, mec=colour, mew=0.7, mfc=face,
            zorder=3, label=how if face != "white" else "_" + how,
        )  # fmt: skip
