"""Figures of rows: cuts under several ways of cutting, sets of heads, shares of variance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from matchlens.errors import InputError
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
    key,
    numbers,
    required,
    style,
    unit,
    write,
)

_CUTS = ("cut", "how", "diff", "ci_low", "ci_high", "significant")
_CUTS_NOTE = (
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
    required(table, _CUTS, ("cut", "how"), "comparison")
    diff = numbers(table, "diff")
    low, high = (numbers(table, name, known=False) for name in ("ci_low", "ci_high"))
    significant = table["significant"].eq(True).to_numpy(dtype=bool)
    cut, how = (table[name].astype(str).to_numpy(dtype=object) for name in ("cut", "how"))
    cuts = [str(name) for name in dict.fromkeys(cut)]
    cuts.sort(key=lambda name: float(diff[cut == name].mean()))
    hows = [str(name) for name in dict.fromkeys(how)]

    with style():
        page = Page(width)
        frame = Frame(page, title, f"change of {measure}", _CUTS_NOTE)
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
        _lanes(axes, edges)
        for i, name in enumerate(hows):
            rows = np.flatnonzero(how == name)
            place = middle[[cuts.index(str(c)) for c in cut[rows]]]
            place = place + (i - (len(hows) - 1) / 2) * apart
            columns = (diff[rows], low[rows], high[rows], significant[rows])
            _marks(axes, name, i, place, *columns)
        axes.set_xticks(*page.ticks(least, most, across, 9 if page.wide else 6, over=6.0))
        _named(axes, middle.tolist(), names)
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


_SETS = ("set", "draw", "diff", "ci_low", "ci_high", "p_random")
SETS_NOTE = (
    "◆ the named heads cut together, with the 95% interval; grey dots: random heads, as many in "
    "the same layers; p (uncorrected): the share of sets that lower the measure as much as the "
    "named one."
)
_LANE = 17.0


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
    note: str = SETS_NOTE,
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
    required(table, _SETS, ("set", "draw"), "set_effects")
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
        heights = [max(page.measure(name, SMALL)[1] + 5.0, _LANE) for name in names]
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
        _lanes(axes, edges)
        middle = (edges[1:] + edges[:-1]) / 2
        for each, y in zip(sets, middle.tolist(), strict=True):
            _draw_set(axes, each, y)
            page.text(
                left + across + 4.0, frame.bottom + high - y, each.p, va="center", fontsize=SMALL
            )
        axes.set_xticks(*page.ticks(least, most, across, 9 if page.wide else 5, over=6.0))
        _named(axes, middle.tolist(), names)
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


def _draw_set(axes: Axes, each: _Set, y: float) -> None:
    """A row: dots spread by the golden ratio, the same in every run, and the mark upon them."""
    up = (np.arange(1, len(each.random) + 1) * 0.6180339887498949) % 1.0 - 0.5
    axes.plot(
        each.random, y + up * 0.62 * _LANE, ls="", marker="o", ms=2.2, mew=0, color=GREY,
        alpha=0.55, zorder=2, label="_random",
    )  # fmt: skip
    if np.isfinite(each.low) and np.isfinite(each.high):
        axes.hlines([y], each.low, each.high, color=INK, lw=1.2, zorder=3)
    axes.plot(
        [each.diff], [y], ls="", marker="D", ms=5.0, mfc=INK, mec="white", mew=0.6, zorder=4,
        label="named",
    )  # fmt: skip


_SHARES = ("layer", "head", "direction", "term", "share")
SHARES_NOTE = "Bars: layer.head. Shares of a bar sum to 1; negative ones stand left of 0."
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
_BOX = 16.0
_STEP, _BAR = 11.5, 8.0


@dataclass(frozen=True)
class _Row:
    name: str
    shares: Float[np.ndarray, " terms"]


def shares(
    table: pd.DataFrame,
    *,
    words: str = "share of the logits' variance",
    note: str = SHARES_NOTE,
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
    required(table, _SHARES, ("layer", "head", "direction", "term"), "shares")
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
        room = max(_STEP * len(bars) + 3.0, 24.0)
        shown = [page.wrap(arrows(term), page.width / 2, SMALL) for term in terms]
        entries, line = key(page, shown, left, across, sign=_BOX)
        above = line * (entries[-1].line + 1) + 4.0
        page.grow(frame.bottom + room + above + frame.top)
        axes = page.axes(left, frame.bottom, across, room)
        low = min((float(np.minimum(b.shares, 0).sum()) for b in bars), default=0.0)
        high = max((float(np.maximum(b.shares, 0).sum()) for b in bars), default=1.0)
        margin = 0.02 * (max(high, 1.0) - low)
        low, high = (low - margin if low < 0 else 0.0), max(high, 1.0) + margin
        axes.set_xlim(low, high)
        axes.set_ylim(room, 0)
        middle = [1.5 + _STEP * (i + 0.5) for i in range(len(bars))]
        for bar, y in zip(bars, middle, strict=True):
            _draw_bar(axes, bar, y, terms)
        for value in (0.0, 1.0):
            axes.axvline(value, color=GREY, lw=0.7, zorder=1 if value else 4)
        count = 9 if page.wide else 5
        axes.set_xticks(*page.ticks(low, high, across, count, over=6.0, sign=False))
        _named(axes, middle, [bar.name for bar in bars])
        frame.draw(left + across / 2)
        top = page.height - frame.top
        for i, entry in enumerate(entries):
            y = top - line * (entry.line + 0.5)
            box = Rectangle(
                (entry.x / page.width, (y - 3.2) / page.height), (_BOX - 4) / page.width,
                6.4 / page.height, transform=page.figure.transFigure, **_fill(i),
            )  # fmt: skip
            page.figure.add_artist(box)
            write(page, entry, entry.x + _BOX, y)
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


def _draw_bar(axes: Axes, bar: _Row, y: float, terms: list[str]) -> None:
    """A bar: positive shares to the right, negative ones to the left, in the terms' order."""
    right = left = 0.0
    for i, (term, share) in enumerate(zip(terms, bar.shares.tolist(), strict=True)):
        start = right if share >= 0 else left
        axes.barh(y, share, _BAR, left=start, zorder=2, label=term, **_fill(i))
        right, left = right + max(share, 0.0), left + min(share, 0.0)


def _lanes(axes: Axes, edges: Float[np.ndarray, " edges"]) -> None:
    """Tint every second row, and draw the line at 0."""
    for i in range(0, len(edges) - 1, 2):
        axes.axhspan(edges[i], edges[i + 1], color="#f3f3f3", lw=0, zorder=0)
    axes.axvline(0, color=GREY, lw=0.7, zorder=1)


def _named(axes: Axes, middle: Sequence[float], names: Sequence[str]) -> None:
    """Name the rows."""
    axes.set_yticks(middle, names, linespacing=LINES)
    axes.tick_params(axis="y", length=0, pad=TICK - 1)
    axes.spines["left"].set_visible(False)
