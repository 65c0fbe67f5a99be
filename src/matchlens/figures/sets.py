"""Sets of heads cut together, against random sets of as many heads in the same layers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from matchlens.errors import InputError
from matchlens.figures.page import (
    EDGE,
    GREY,
    INK,
    LINES,
    READS,
    SMALL,
    TICK,
    Frame,
    Page,
    arrows,
    numbers,
    required,
    style,
    unit,
)

COLUMNS = ("set", "draw", "diff", "ci_low", "ci_high", "p_random")
NOTE = (
    "◆ the named heads cut together, with the 95% interval; grey dots: random heads, as many in "
    "the same layers; p: the share of sets that lower the measure as much as the named one."
)
_ROW = 17.0


@dataclass(frozen=True)
class _Set:
    name: str
    diff: float
    low: float
    high: float
    p: str
    random: Float[np.ndarray, " draws"]


def set_effects(
    table: pd.DataFrame,
    *,
    measure: str,
    note: str = NOTE,
    title: str = "",
    width: str = "column",
) -> Figure:
    """Draw the change of the measure when sets of heads are cut, against random sets.

    A row for each set, in the table's order: random sets are small grey dots, the named one a large
    dark mark with its interval; p stands at the right.

    Args:
        table: one row for each set and a draw. Columns: set (text such as
            ``matching Q->D (12 heads)``), draw (-1: the set itself; from 0: random sets), diff
            (change of the measure, in its units), and, read in the set's own row only, ci_low and
            ci_high (the 95% interval; NaN draws none) and p_random (the set's p among the random
            ones; NaN writes none).
        measure: the measure's name, such as ``nDCG@10``.
        note: what the marks mean.
        title: above the figure.
        width: ``column`` (3.35 inch) or ``page`` (7 inch).

    Raises:
        InputError: if the table is empty, lacks a column, holds two rows for a set and a draw or
            no row of a set itself, or if the width is unknown.

    Source: science 4, matching heads, cut as in section 2.

    >>> import pandas as pd
    >>> table = pd.DataFrame(
    ...     {"set": "matching Q->D", "draw": [-1, 0, 1], "diff": [-0.12, -0.01, 0.0],
    ...      "ci_low": [-0.2, None, None], "ci_high": [-0.05, None, None],
    ...      "p_random": [0.01, None, None]}
    ... )
    >>> figure = set_effects(table, measure="nDCG@10", title="Cut together")
    >>> [text.get_text() for text in figure.texts[3:]]
    ['p .010']
    """
    required(table, COLUMNS, ("set", "draw"), "set_effects")
    scale, in_units = unit(
        *(value for name in ("diff", "ci_low", "ci_high") for value in _known(table, name))
    )
    sets = _sets(table, scale)
    with style():
        page = Page(width)
        arrow = "→" in arrows(" ".join([title, *(each.name for each in sets)]))
        said = f"{note} {READS}" if arrow else note
        frame = Frame(page, title, f"change of {measure}{in_units}", said)
        longest = page.width * (0.34 if not page.wide else 0.25)
        names = [page.wrap(arrows(each.name), longest, SMALL) for each in sets]
        left = EDGE + page.widest(names, SMALL) + TICK
        right = EDGE + 4.0 + page.widest([each.p for each in sets], SMALL)
        across = page.width - left - right
        heights = [max(page.measure(name, SMALL)[1] + 5.0, _ROW) for name in names]
        edges = np.concatenate([[0.0], np.cumsum(heights)])
        high = float(edges[-1])
        page.grow(frame.bottom + high + frame.top)
        axes = page.axes(left, frame.bottom, across, high)
        frame.draw(left + across / 2)
        seen = np.concatenate([[0.0], *(np.r_[s.diff, s.low, s.high, s.random] for s in sets)])
        least, most = float(np.nanmin(seen)), float(np.nanmax(seen))
        margin = max((most - least) * 0.05, 1e-3 if most <= least else 0.0)
        least, most = least - margin, most + margin
        axes.set_xlim(least, most)
        axes.set_ylim(high, 0)
        for i in range(0, len(sets), 2):
            axes.axhspan(edges[i], edges[i + 1], color="#f3f3f3", lw=0, zorder=0)
        axes.axvline(0, color=GREY, lw=0.7, zorder=1)
        middle = (edges[1:] + edges[:-1]) / 2
        for each, y in zip(sets, middle.tolist(), strict=True):
            _draw(axes, each, y)
            page.text(
                left + across + 4.0, frame.bottom + high - y, each.p, va="center", fontsize=SMALL
            )
        axes.set_xticks(*page.ticks(least, most, across, 9 if page.wide else 5, over=6.0))
        axes.set_yticks(middle.tolist(), names, linespacing=LINES)
        axes.tick_params(axis="y", length=0, pad=TICK - 1)
        axes.spines["left"].set_visible(False)
    return page.figure


def _known(table: pd.DataFrame, column: str) -> list[float]:
    return [float(value) for value in numbers(table, column, known=column == "diff")]


def _sets(table: pd.DataFrame, scale: float) -> list[_Set]:
    """The sets in the table's order."""
    named = table["set"].astype(str).to_numpy(dtype=object)
    draw, diff = numbers(table, "draw"), numbers(table, "diff") / scale
    low, high = (numbers(table, name, known=False) / scale for name in ("ci_low", "ci_high"))
    p = numbers(table, "p_random", known=False)
    sets = []
    for name in dict.fromkeys(named):
        rows = np.flatnonzero(named == name)
        own = rows[draw[rows] == -1]
        if not len(own):
            raise InputError(
                f"the table for set_effects has no row of set {name!r} itself; expected one row "
                "whose draw is -1"
            )
        i = int(own[0])
        random = rows[draw[rows] >= 0]
        random = random[np.argsort(draw[random], kind="stable")]
        ends = float(low[i]), float(high[i])
        sets.append(_Set(str(name), float(diff[i]), *ends, _chance(float(p[i])), diff[random]))
    return sets


def _chance(p: float) -> str:
    """A p as papers print it; empty where it is unknown."""
    if not np.isfinite(p):
        return ""
    return "p <.001" if p < 0.0005 else f"p {p:.3f}".replace("0.", ".")


def _draw(axes: Axes, each: _Set, y: float) -> None:
    """A row: dots spread by the golden ratio, the same in every run, and the mark upon them."""
    up = (np.arange(1, len(each.random) + 1) * 0.6180339887498949) % 1.0 - 0.5
    axes.plot(
        each.random, y + up * 0.62 * _ROW, ls="", marker="o", ms=2.2, mew=0, color=GREY,
        alpha=0.55, zorder=2, label="_random",
    )  # fmt: skip
    if np.isfinite(each.low) and np.isfinite(each.high):
        axes.hlines([y], each.low, each.high, color=INK, lw=1.2, zorder=3)
    axes.plot(
        [each.diff], [y], ls="", marker="D", ms=5.0, mfc=INK, mec="white", mew=0.6, zorder=4,
        label="named",
    )  # fmt: skip
