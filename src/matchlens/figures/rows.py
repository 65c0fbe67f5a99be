"""Figures of rows: cuts under several ways of cutting, sets of heads, shares of variance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from matchlens.errors import InputError
from matchlens.figures.colours import FILLS, GREY, INK, PALETTE, STRIPE, places
from matchlens.figures.page import (
    EDGE,
    LINES,
    READS,
    SMALL,
    TICK,
    Key,
    Look,
    Page,
    arrows,
    integers,
    numbers,
    required,
    style,
    tips,
    unit,
)

CUTS_NOTE = (
    "X→Y cut: X no longer reads Y. Filled: significant change; hollow: not. Bar: 95% interval. "
    "Rows by their mean change."
)
SETS_NOTE = (
    "◆ the named heads cut together, with the 95% interval; grey dots: random heads, as many in "
    "the same layers; p: the share of sets that lower the measure as much as the named one, "
    "uncorrected."
)
SHARES_NOTE = "Bars: layer.head. Shares of a bar sum to 1; negative ones stand left of 0."
BARS = 40
"""How many bars a figure holds, at most."""
_MARK, _BOX, _STEP, _LANE = 7.0, 16.0, 11.5, 17.0
"""Points: of a key's sign, of its box, from bar to bar, from set to set at least."""


def comparison(table: pd.DataFrame, *, measure: str, **look: Unpack[Look]) -> Figure:
    """Draw the change of the measure for every cut under several ways of cutting.

    A row for each cut, sorted by the mean change over the ways, the largest decrease on top; a
    marker a way, with its 95% interval, filled where the change is significant.

    Args:
        table: one row for each cut and a way. Columns: cut (text such as ``Q->D``), how (text such
            as ``zero``), diff (mean change to the original, in units of the measure), ci_low and
            ci_high (its 95% interval; NaN draws none), significant (bool). A way that a cut does
            not have is left out.
        measure: the measure's name, such as ``nDCG@10``.
        look: see :class:`Look`.

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
    columns = ("cut", "how", "diff", "ci_low", "ci_high", "significant")
    required(table, columns, ("cut", "how"), "comparison")
    diff = numbers(table, "diff")
    low, high = (numbers(table, name, known=False) for name in ("ci_low", "ci_high"))
    significant = table["significant"].eq(True).to_numpy(dtype=bool)
    cut, how = (table[name].astype(str).to_numpy(dtype=object) for name in ("cut", "how"))
    cuts = [str(name) for name in dict.fromkeys(cut)]
    cuts.sort(key=lambda name: float(diff[cut == name].mean()))
    hows = places([str(name) for name in dict.fromkeys(how)])
    page = Page(**look)

    with style():
        page.frame(f"change of {measure}", CUTS_NOTE)
        longest = page.width * (0.3 if not page.wide else 0.25)
        names = [page.wrap(arrows(name), longest, SMALL) for name in cuts]
        left = EDGE + page.widest(names, SMALL) + TICK
        across = page.width - left - EDGE - 6
        apart = 5.0 if len(cuts) <= 8 else 4.0 if len(hows) <= 3 else 3.1  # of two marks in a row
        heights = [max(page.measure(name, SMALL)[1], apart * len(hows)) + 2.4 for name in names]
        signs = Key.lay(page, list(hows), left, across, _MARK) if hows != {"zero": 12} else None
        axes, middle, room = _lanes(page, names, heights, (left, across))
        ends = np.concatenate([diff, low, high, [0.0]])
        least, most = float(np.nanmin(ends)), float(np.nanmax(ends))
        margin = max((most - least) * 0.04, (0.01 - (most - least)) / 2)
        least, most = least - margin, most + margin
        axes.set_xlim(least, most)
        for i, (name, place) in enumerate(hows.items()):
            rows = np.flatnonzero(how == name)
            y = middle[[cuts.index(str(c)) for c in cut[rows]]]
            y = y + (i - (len(hows) - 1) / 2) * apart
            colour, marker = PALETTE[place]
            known = np.isfinite(low[rows]) & np.isfinite(high[rows])
            ends = low[rows][known], high[rows][known]
            axes.hlines(y[known], *ends, color=colour, lw=0.8, zorder=2)
            for kept, face in ((~significant[rows], "white"), (significant[rows], colour)):
                (marks,) = axes.plot(
                    diff[rows][kept], y[kept], ls="", marker=marker, ms=3.0, mec=colour, mew=0.7,
                    mfc=face, zorder=3, label=name if face != "white" else f"_{name}",
                )  # fmt: skip
                page.mark(marks, tips(table)[rows[kept]])
        axes.set_xticks(*page.ticks((least, most), across, 9 if page.wide else 6, over=6.0))
        if signs is not None:
            marks = zip(signs.write(page.bottom + room), hows.values(), strict=True)
            for (x, y), place in marks:
                colour, marker = PALETTE[place]
                page.line([x + 2.5], [y], color=colour, marker=marker, ms=4.0, ls="")
        courses = (f"{arrows(c)}, {h} {d:+.3g}" for c, h, d in zip(cut, how, diff, strict=True))
        page.describe("rows", f"Change of {measure}: {'; '.join(courses)}.")
        return page.finish(axes, left + across / 2)


def set_effects(
    table: pd.DataFrame, *, measure: str, note: str = SETS_NOTE, **look: Unpack[Look]
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
        note: what the marks mean, for the caption.
        look: see :class:`Look`.

    >>> import pandas as pd
    >>> table = pd.DataFrame(
    ...     {"set": "matching Q->D", "draw": [-1, 0, 1], "diff": [-0.12, -0.01, 0.0],
    ...      "ci_low": [-0.2, None, None], "ci_high": [-0.05, None, None],
    ...      "p_random": [0.01, None, None]}
    ... )
    >>> figure = set_effects(table, measure="nDCG@10", title="Cut together")
    >>> [text.get_text() for text in figure.texts[:2]]
    ['p, uncorrected', 'p .010']
    """
    columns = ("set", "draw", "diff", "ci_low", "ci_high", "p_random")
    required(table, columns, ("set", "draw"), "set_effects")
    diff, draw = numbers(table, "diff"), numbers(table, "draw")
    low, high, p = (numbers(table, name, known=False) for name in columns[3:])
    named = table["set"].astype(str).to_numpy(dtype=object)
    sets = {str(name): _own(named, draw, name) for name in dict.fromkeys(named)}
    own = [row for row, _ in sets.values()]
    scale, in_units = unit(*diff, *low[own], *high[own])
    chances = {name: _chance(float(p[at])) for name, (at, _) in sets.items()}
    page = Page(**look)

    with style():
        arrow = "→" in arrows(" ".join([page.title, *sets]))
        page.frame(f"change of {measure}{in_units}", f"{note} {READS}" if arrow else note)
        longest = page.width * (0.34 if not page.wide else 0.25)
        names = [page.wrap(arrows(name), longest, SMALL) for name in sets]
        left = EDGE + page.widest(names, SMALL) + TICK
        heading = "p, uncorrected" if any(chances.values()) else ""
        aside = page.widest(list(chances.values()), SMALL)
        across = page.width - left - EDGE - 4.0 - aside
        heights = [max(page.measure(name, SMALL)[1] + 5.0, _LANE) for name in names]
        over = page.measure(heading, SMALL)[1] + 3.0 if heading else 0.0
        page.top += over
        axes, middle, room = _lanes(page, names, heights, (left, across))
        ends = np.concatenate([diff, low[own], high[own]]) / scale
        finite = ends[np.isfinite(ends)]
        least, most = min(0.0, float(finite.min())), max(0.0, float(finite.max()))
        margin = max((most - least) * 0.05, 1e-3 if most <= least else 0.0)
        least, most = least - margin, most + margin
        axes.set_xlim(least, most)
        if heading:
            start = page.width - EDGE - page.measure(heading, SMALL)[0]
            page.text(start, page.bottom + room + 2.0, heading, va="bottom", fontsize=SMALL)
        for (name, (at, random)), y in zip(sets.items(), middle.tolist(), strict=True):
            _draw_set(axes, diff[random] / scale, y)
            if np.isfinite(low[at]) and np.isfinite(high[at]):
                axes.hlines([y], low[at] / scale, high[at] / scale, color=INK, lw=1.2, zorder=3)
            (named_set,) = axes.plot(
                [diff[at] / scale], [y], ls="", marker="D", ms=5.0, mfc=INK, mec="white", mew=0.6,
                zorder=4, label="named",
            )  # fmt: skip
            page.mark(named_set, tips(table)[[at]])
            if chances[name]:
                height = page.bottom + room * (1 - y / float(sum(heights)))
                page.text(left + across + 4.0, height, chances[name], va="center", fontsize=SMALL)
        axes.set_xticks(*page.ticks((least, most), across, 9 if page.wide else 5, over=6.0))
        effects = "; ".join(f"{arrows(name)} {diff[at]:+.3g}" for name, (at, _) in sets.items())
        about = f"Change of {measure}, sets of heads beside random ones: {effects}."
        page.describe("rows", about)
        return page.finish(axes, left + across / 2)


def _own(named: np.ndarray, draw: np.ndarray, name: object) -> tuple[int, np.ndarray]:
    """The row of a set itself, and those of its random draws in order."""
    rows = np.flatnonzero(named == name)
    own = rows[draw[rows] == -1]
    if not len(own):
        raise InputError(
            f"the table for set_effects has no row of set {name!r} itself; expected one row "
            "whose draw is -1"
        )
    random = rows[draw[rows] >= 0]
    return int(own[0]), random[np.argsort(draw[random], kind="stable")]


def _chance(p: float) -> str:
    """A p as papers print it; empty where it is unknown."""
    if not np.isfinite(p):
        return ""
    return "p <.001" if p < 0.0005 else f"p {p:.3f}".replace("0.", ".")


def _draw_set(axes: Axes, random: Float[np.ndarray, " draws"], y: float) -> None:
    """Dots spread by the golden ratio, the same in every run."""
    up = (np.arange(1, len(random) + 1) * 0.6180339887498949) % 1.0 - 0.5
    axes.plot(
        random, y + up * 0.62 * _LANE, ls="", marker="o", ms=2.2, mew=0, color=GREY, alpha=0.55,
        zorder=2, label="_random",
    )  # fmt: skip


def shares(
    table: pd.DataFrame,
    *,
    words: str = "share of the logits' variance",
    note: str = SHARES_NOTE,
    **look: Unpack[Look],
) -> Figure:
    """Draw the shares that terms have in a head's variance, a stacked bar a head and direction.

    Positive shares are stacked to the right of 0, negative ones to the left; terms are told apart
    by colour and hatching.

    Args:
        table: one row for each term of a head and direction. Columns: layer, head (from 0),
            direction (text such as ``Q->D``), term (text such as ``matching (x, y)``; eight at
            most), share (of the variance; a bar's sum to 1 and may be negative; a bar with a NaN is
            left out and counted in the caption). 40 bars at most, in the table's order.
        words: what the x axis says.
        note: what is seen, for the caption.
        look: see :class:`Look`.

    Source: the paper's section on circuits, which takes cross terms for 0.

    >>> import pandas as pd
    >>> table = pd.DataFrame(
    ...     {"layer": 8, "head": 1, "direction": "Q->D", "share": [0.7, 0.4, -0.1],
    ...      "term": ["matching (x, y)", "cross (q, y)", "cross (x, d)"]}
    ... )
    >>> figure = shares(table, title="What logits vary with")
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['8.1 Q→D']
    """
    columns = ("layer", "head", "direction", "term", "share")
    required(table, columns, columns[:4], "shares")
    terms = [str(name) for name in dict.fromkeys(table["term"].astype(str))]
    bars, unknown = _bars(table, terms)
    for count, most, what in ((len(terms), len(FILLS), "terms"), (len(bars), BARS, "bars")):
        if count > most:
            raise InputError(
                f"the table for shares has {count} {what}; expected at most {most}: choose those "
                "that matter, or draw several figures"
            )
    caption = f"{note} {READS}"
    caption += f" Left out: {unknown} without known shares." if unknown else ""
    page = Page(**look)

    with style():
        page.frame(arrows(words), caption)
        left = EDGE + TICK + page.widest(list(bars), SMALL)
        across = page.width - left - EDGE - 6
        key = Key.lay(page, terms, left, across, _BOX)
        axes, middle, room = _lanes(page, list(bars), [_STEP] * len(bars), (left, across))
        low = min((float(np.minimum(bar.shares, 0).sum()) for bar in bars.values()), default=0.0)
        high = max((float(np.maximum(bar.shares, 0).sum()) for bar in bars.values()), default=1.0)
        margin = 0.02 * (max(high, 1.0) - low)
        low, high = (low - margin if low < 0 else 0.0), max(high, 1.0) + margin
        axes.set_xlim(low, high)
        for bar, y in zip(bars.values(), middle.tolist(), strict=True):
            right = start = 0.0
            for i, (term, share) in enumerate(zip(terms, bar.shares.tolist(), strict=True)):
                begin = right if share >= 0 else start
                (box,) = axes.barh(y, share, 8.0, left=begin, zorder=2, label=term, **_fill(i))
                page.mark(box, [bar.tips[i]])
                right, start = right + max(share, 0.0), start + min(share, 0.0)
        axes.axvline(1.0, color=GREY, lw=0.7, zorder=4)
        count = 9 if page.wide else 5
        axes.set_xticks(*page.ticks((low, high), across, count, over=6.0, sign=False))
        for i, (x, y) in enumerate(key.write(page.bottom + room)):
            corner, end = page.place(x, y - 3.2), page.place(x + _BOX - 4, y + 3.2)
            box = Rectangle(
                corner, end[0] - corner[0], end[1] - corner[1],
                transform=page.figure.transFigure, **_fill(i),
            )  # fmt: skip
            page.figure.add_artist(box)
        first = (f"{name} {bar.shares[0]:.2f}" for name, bar in bars.items())
        page.describe("rows", f"{arrows(words)}; {terms[0]}: {'; '.join(first)}.")
        return page.finish(axes, left + across / 2)


def _fill(i: int) -> dict[str, Any]:
    face, hatch = FILLS[i]
    return {"facecolor": face, "edgecolor": INK, "hatch": hatch, "lw": 0.4}


@dataclass(frozen=True)
class _Bar:
    """A bar's shares by term, and what a page says of each."""

    shares: Float[np.ndarray, " terms"]
    tips: list[str]


def _bars(table: pd.DataFrame, terms: list[str]) -> tuple[Mapping[str, _Bar], int]:
    """The bars' shares by their names, in the table's order, and how many are not known."""
    layer, head = (integers(table, name) for name in ("layer", "head"))
    direction, term = (table[n].astype(str).to_numpy(dtype=object) for n in ("direction", "term"))
    share = numbers(table, "share", known=False)
    bars, unknown = {}, 0
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
        bar = bars[name] = _Bar(np.zeros(len(terms)), [""] * len(terms))
        for row, words in zip(rows, tips(table)[rows], strict=True):
            at_term = terms.index(str(term[row]))
            bar.shares[at_term], bar.tips[at_term] = share[row], words
    return bars, unknown


def _lanes(
    page: Page, names: Sequence[str], heights: Sequence[float], place: tuple[float, float]
) -> tuple[Axes, Float[np.ndarray, " rows"], float]:
    """Axes with a named lane for each row, the first on top, every second one tinted.

    Args:
        page: the sheet.
        names: the rows' names, wrapped.
        heights: the lanes' heights (points).
        place: where the axes begin, and their width.

    Returns:
        The axes, the lanes' middles in data, and the axes' height in points.
    """
    edges = np.concatenate([[0.0], np.cumsum(heights)])
    room = page.grow(max(float(edges[-1]), 24.0), least=0.9 * float(edges[-1]))
    axes = page.axes(place[0], page.bottom, place[1], room)
    axes.set_ylim(float(edges[-1]) if names else room, 0)
    for i in range(0, len(names), 2):
        axes.axhspan(edges[i], edges[i + 1], color=STRIPE, lw=0, zorder=0)
    axes.axvline(0, color=GREY, lw=0.7, zorder=1)
    middle = (edges[1:] + edges[:-1]) / 2
    axes.set_yticks(middle, names, linespacing=LINES)
    axes.tick_params(axis="y", length=0, pad=TICK - 1)
    axes.spines["left"].set_visible(False)
    return axes, middle, room
