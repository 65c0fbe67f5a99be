"""What the logits of a head vary with: shares of their variance, by head and direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from matchlens.errors import InputError
from matchlens.figures.keys import key, write
from matchlens.figures.page import (
    EDGE,
    GREY,
    INK,
    LINES,
    PALETTE,
    READS,
    SMALL,
    TICK,
    Frame,
    Page,
    arrows,
    integers,
    numbers,
    required,
    style,
)

COLUMNS = ("layer", "head", "direction", "term", "share")
NOTE = "Bars: layer.head. Shares of a bar sum to 1; negative ones stand left of 0."
BARS = 40
"""How many bars a figure holds, at most."""
_FILLS: tuple[tuple[str, str], ...] = (
    (PALETTE[0][0], ""),
    ("#e3a9b3", "////"),
    ("#f4ecd2", ".."),
    ("#5f9f86", "\\\\\\\\"),
    ("#ffffff", ""),
    ("#a9c8e0", "xxx"),
    ("#b7b7b7", "--"),
    ("#d9c27a", "||"),
)
"""Faces of different greys, each with its hatching."""
_SIGN = 16.0
_ROW, _BAR = 11.5, 8.0


@dataclass(frozen=True)
class _Row:
    name: str
    shares: Float[np.ndarray, " terms"]


def shares(
    table: pd.DataFrame,
    *,
    words: str = "share of the logits' variance",
    note: str = NOTE,
    title: str = "",
    width: str = "column",
) -> Figure:
    """Draw the shares that terms have in a head's variance, a stacked bar a head and direction.

    Positive shares are stacked to the right of 0, negative ones to the left; terms are told apart
    by colour and hatching.

    Args:
        table: one row for each term of a head and direction. Columns: layer, head (from 0),
            direction (text such as ``Q->D``), term (text such as ``matching (x, y)``; eight at
            most), share (of the variance; a bar's sum to 1 and may be negative; a bar with a NaN is
            left out and counted below the figure). 40 bars at most, in the table's order.
        words: what the x axis says.
        note: what is seen.
        title: above the figure.
        width: ``column`` (3.35 inch) or ``page`` (7 inch).

    Raises:
        InputError: if the table is empty, lacks a column, holds two rows for one share or more
            bars or terms than can be drawn, if the shares of a bar do not sum to 1, or if the
            width is unknown.

    Source: science 5, the hypothesis; the paper's section on circuits takes cross terms for 0.

    >>> import pandas as pd
    >>> table = pd.DataFrame(
    ...     {"layer": 8, "head": 1, "direction": "Q->D", "share": [0.7, 0.4, -0.1],
    ...      "term": ["matching (x, y)", "cross (q, y)", "cross (x, d)"]}
    ... )
    >>> figure = shares(table, title="What logits vary with")
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['8.1 Q→D']
    """
    required(table, COLUMNS, ("layer", "head", "direction", "term"), "shares")
    terms = [str(name) for name in dict.fromkeys(table["term"].astype(str))]
    bars, unknown = _bars(table, terms)
    for count, most, what in ((len(terms), len(_FILLS), "terms"), (len(bars), BARS, "bars")):
        if count > most:
            raise InputError(
                f"the table for shares has {count} {what}; expected at most {most}: choose those "
                "that matter, or draw several figures"
            )
    text = f"{arrows(note)} {READS}"
    text += f" Left out: {unknown} without known shares." if unknown else ""
    with style():
        page = Page(width)
        frame = Frame(page, title, arrows(words), text)
        left = EDGE + TICK + page.widest([bar.name for bar in bars], SMALL)
        across = page.width - left - EDGE - 6
        room = max(_ROW * len(bars) + 3.0, 24.0)
        shown = [page.wrap(arrows(term), page.width / 2, SMALL) for term in terms]
        entries, line = key(page, shown, left, across, sign=_SIGN)
        above = line * (entries[-1].line + 1) + 4.0
        page.grow(frame.bottom + room + above + frame.top)
        axes = page.axes(left, frame.bottom, across, room)
        low = min((float(np.minimum(b.shares, 0).sum()) for b in bars), default=0.0)
        high = max((float(np.maximum(b.shares, 0).sum()) for b in bars), default=1.0)
        margin = 0.02 * (max(high, 1.0) - low)
        low, high = (low - margin if low < 0 else 0.0), max(high, 1.0) + margin
        axes.set_xlim(low, high)
        axes.set_ylim(room, 0)
        middle = [1.5 + _ROW * (i + 0.5) for i in range(len(bars))]
        for bar, y in zip(bars, middle, strict=True):
            _draw(axes, bar, y, terms)
        for value in (0.0, 1.0):
            axes.axvline(value, color=GREY, lw=0.7, zorder=1 if value else 4)
        count = 9 if page.wide else 5
        axes.set_xticks(*page.ticks(low, high, across, count, over=6.0, sign=False))
        axes.set_yticks(middle, [bar.name for bar in bars], linespacing=LINES)
        axes.tick_params(axis="y", length=0, pad=TICK - 1)
        axes.spines["left"].set_visible(False)
        frame.draw(left + across / 2)
        top = page.height - frame.top
        for i, entry in enumerate(entries):
            y = top - line * (entry.line + 0.5)
            box = Rectangle(
                (entry.x / page.width, (y - 3.2) / page.height), (_SIGN - 4) / page.width,
                6.4 / page.height, transform=page.figure.transFigure, **_fill(i),
            )  # fmt: skip
            page.figure.add_artist(box)
            write(page, entry, entry.x + _SIGN, y)
    return page.figure


def _fill(i: int) -> dict[str, Any]:
    face, hatch = _FILLS[i]
    return {"facecolor": face, "edgecolor": INK, "hatch": hatch, "lw": 0.4}


def _bars(table: pd.DataFrame, terms: list[str]) -> tuple[list[_Row], int]:
    """The bars in the table's order, and how many have no known shares."""
    layer, head = (integers(table, name) for name in ("layer", "head"))
    direction, term = (table[n].astype(str).to_numpy(dtype=object) for n in ("direction", "term"))
    share = numbers(table, "share", known=False)
    bars, unknown = [], 0
    for at in dict.fromkeys(zip(layer.tolist(), head.tolist(), direction, strict=True)):
        rows = np.flatnonzero((layer == at[0]) & (head == at[1]) & (direction == at[2]))
        if not np.isfinite(share[rows]).all():
            unknown += 1
            continue
        name, total = arrows(f"{at[0]}.{at[1]} {at[2]}"), float(share[rows].sum())
        if abs(total - 1) > 0.01:
            raise InputError(
                f"the shares of {name} sum to {total:.4g}; expected 1: give every term of a head"
            )
        values = np.zeros(len(terms))
        values[[terms.index(str(t)) for t in term[rows]]] = share[rows]
        bars.append(_Row(name, values))
    return bars, unknown


def _draw(axes: Axes, bar: _Row, y: float, terms: list[str]) -> None:
    """A bar: positive shares to the right, negative ones to the left, in the terms' order."""
    right = left = 0.0
    for i, (term, share) in enumerate(zip(terms, bar.shares.tolist(), strict=True)):
        start = right if share >= 0 else left
        axes.barh(y, share, _BAR, left=start, zorder=2, label=term, **_fill(i))
        right, left = right + max(share, 0.0), left + min(share, 0.0)
