"""Two numbers a head against each other: a point for each head, the outstanding ones named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize, to_rgb
from matplotlib.figure import Figure

from matchlens.errors import InputError
from matchlens.figures.colours import COLOURS, SHADES, bar, bar_height
from matchlens.figures.labels import beside, outstanding, toward
from matchlens.figures.page import (
    EDGE,
    GREY,
    INK,
    LINES,
    NORMAL,
    PALE,
    PALETTE,
    READS,
    SMALL,
    TICK,
    Frame,
    Page,
    arrows,
    integers,
    left_out,
    numbers,
    required,
    style,
    ticks,
    unit,
    written,
)

NOTE = "Each point is a head; layer.head names those farthest from the middle."
SIGNIFICANT = "significant on either axis; hollow: on none."
_EMPTY = "no head has both numbers"


@dataclass(frozen=True)
class _Points:
    """The heads that are drawn; colour is NaN where there is none; units as words for each."""

    names: list[str]
    x: Float[np.ndarray, " heads"]
    y: Float[np.ndarray, " heads"]
    colour: Float[np.ndarray, " heads"]
    filled: Bool[np.ndarray, " heads"]
    units: tuple[str, str, str]


def head_scatter(
    table: pd.DataFrame,
    *,
    x: str,
    y: str,
    x_words: str,
    y_words: str,
    colour: str = "",
    colour_words: str = "",
    centred: bool = True,
    x_significant: str = "",
    y_significant: str = "",
    note: str = "",
    title: str = "",
    width: str = "column",
) -> Figure:
    """Draw two numbers a head against each other, and a third one as a colour.

    The heads farthest from the middle of the cloud (its medians, in standard deviations of each
    axis) are named, with a line to the point where the name stands apart from it.

    Args:
        table: one row for each head. Columns: layer, head (from 0) and those that the arguments
            name. Heads without a number on an axis are left out and counted below the figure.
        x: the column along the x axis; numbers, NaN allowed.
        y: the column along the y axis; numbers, NaN allowed.
        x_words: what x is, such as ``Q->D: relevant − easy mass``.
        y_words: what y is.
        colour: the column that colours the points; empty: all have one colour. A head without a
            number there is a grey cross.
        colour_words: what the colours say; the column's name if empty.
        centred: whether the colours are centred at 0, and the sign shows by the points' shape,
            too; else they go from pale to dark.
        x_significant: a column of truth values; empty: unknown.
        y_significant: the same for y. Heads significant in neither are hollow; without both
            columns all points are filled.
        note: a sentence more below the figure.
        title: above the figure.
        width: ``column`` (3.35 inch) or ``page`` (7 inch).

    Raises:
        InputError: if the table is empty, lacks a column or holds two rows for one head, or if
            the width is unknown.

    Source: the paper's Figures 1b, 1c and 2.

    >>> import pandas as pd
    >>> table = pd.DataFrame(
    ...     {"layer": [0, 0, 1, 1], "head": [0, 1, 0, 1], "qd": [0.0, 0.01, 0.2, float("nan")],
    ...      "dq": [0.01, 0.0, 0.1, 0.2]}
    ... )
    >>> figure = head_scatter(table, x="qd", y="dq", x_words="Q->D mass", y_words="D->Q mass")
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['1.0', '0.1', '0.0']
    """
    chosen = [name for name in (x, y, colour, x_significant, y_significant) if name]
    required(table, ("layer", "head", *chosen), ("layer", "head"), "head_scatter")
    points = _points(table, x, y, colour, (x_significant, y_significant))
    at_x, at_y = points.x, points.y
    in_x, in_y, in_colour = points.units
    stars = bool(x_significant or y_significant)
    text = _note(points, note, stars=stars, coloured=bool(colour), centred=centred)
    text += left_out(len(table) - len(at_x), "both numbers")

    with style():
        page = Page(width)
        inner = page.width - 2 * EDGE
        words = page.wrap(arrows(colour_words or colour) + in_colour, inner, NORMAL)
        if "→" in arrows(" ".join((title, x_words, y_words, words))):
            text = f"{text} {READS}"
        extra = bar_height(page, words) if colour else 0.0
        frame = Frame(page, title, arrows(x_words) + in_x, arrows(text), extra=extra)
        room = page.width * (0.7 if not page.wide else 0.5)
        y_label = page.wrap(arrows(y_words) + in_y, room, NORMAL)
        (low_x, high_x), (low_y, high_y) = _range(at_x), _range(at_y)
        y_ticks = ticks(low_y, high_y, 6)
        left = EDGE + page.measure(y_label, NORMAL)[1] + 2 + TICK
        left += page.widest(written(y_ticks), SMALL)
        across = page.width - left - EDGE - 6
        page.grow(frame.bottom + room + frame.top)
        axes = page.axes(left, frame.bottom, across, room)
        axes.set_xlim(low_x, high_x)
        axes.set_ylim(low_y, high_y)
        shown = page.ticks(low_x, high_x, across, 9 if page.wide else 6, over=6.0, sign=False)
        axes.set_xticks(*shown)
        axes.set_yticks(y_ticks, written(y_ticks))
        axes.axhline(0, color=PALE, lw=0.7, zorder=0.5)
        axes.axvline(0, color=PALE, lw=0.7, zorder=0.5)
        frame.draw(left + across / 2)
        page.text(
            EDGE, frame.bottom + room / 2, y_label, rotation=90, va="center", fontsize=NORMAL,
            multialignment="center",
        )  # fmt: skip
        if not len(at_x):
            axes.text(0.5, 0.6, _EMPTY, transform=axes.transAxes, va="center", ha="center")
        size = 4.4 if len(at_x) <= 200 or page.wide else 3.6
        colours = _colours(points.colour, centred=centred) if colour else None
        _draw(axes, points, colours, size, centred=centred)
        if colours is not None:
            bar(page, colours, words, frame.extra, left, across, sign=centred)
        named = outstanding(at_x, at_y)
        scale = np.array([(high_x - low_x) / across, (high_y - low_y) / room])
        places = np.column_stack([at_x - low_x, at_y - low_y]) / scale
        _names(axes, page, [points.names[i] for i in named], places, named, size)
    return page.figure


def _points(
    table: pd.DataFrame, x: str, y: str, colour: str, significant: tuple[str, str]
) -> _Points:
    """The heads with both numbers."""
    layer, head = (integers(table, name) for name in ("layer", "head"))
    at_x, at_y = (numbers(table, name, known=False) for name in (x, y))
    shade = numbers(table, colour, known=False) if colour else np.full(len(table), np.nan)
    said = [table[name].eq(True).to_numpy(dtype=bool) for name in significant if name]
    filled = np.any(said, axis=0) if said else np.ones(len(table), dtype=bool)
    rows = np.flatnonzero(np.isfinite(at_x) & np.isfinite(at_y))
    rows = rows[np.lexsort((head[rows], layer[rows]))]
    names = [f"{layer[i]}.{head[i]}" for i in rows]
    if np.isinf(shade).any():
        raise InputError(
            f"column {colour!r} has an infinity; expected numbers, or NaN where one is not known"
        )
    values = [values[rows] for values in (at_x, at_y, shade)]
    (in_x, x_unit), (in_y, y_unit), (in_c, c_unit) = (unit(*each) for each in values)
    across, up, tint = values[0] / in_x, values[1] / in_y, values[2] / in_c
    return _Points(names, across, up, tint, filled[rows], (x_unit, y_unit, c_unit))


def _note(points: _Points, more: str, *, stars: bool, coloured: bool, centred: bool) -> str:
    """What the points' signs mean."""
    parts = [NOTE]
    if stars:
        parts.append(("Filled, with a dark rim: " if coloured else "Filled: ") + SIGNIFICANT)
    if coloured and centred:
        parts.append("Colour: ● at most 0, ▲ above 0.")
    if coloured and (unknown := int(np.isnan(points.colour).sum())):
        parts.append(f"Cross: no number for the colour ({unknown}).")
    return " ".join([*parts, more] if more else parts)


def _range(values: Float[np.ndarray, " heads"]) -> tuple[float, float]:
    """An axis' ends: all values with a margin, and 0 if that takes little room."""
    if not len(values):
        return -1.0, 1.0
    low, high = float(values.min()), float(values.max())
    if max(high, 0.0) - min(low, 0.0) <= 1.5 * (high - low):
        low, high = min(low, 0.0), max(high, 0.0)
    margin = max((high - low) * 0.06, max(abs(low), abs(high)) * 1e-6)
    margin = margin if high > low else max(abs(high) * 0.1, 1e-3)
    return low - margin, high + margin


def _colours(values: Float[np.ndarray, " heads"], *, centred: bool) -> ScalarMappable:
    """The scale of colours: centred at 0, or from the least to the most."""
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    scale: Colormap = SHADES
    if centred:
        high = max(abs(low), abs(high), 1e-9)
        low, scale = -high, COLOURS
    elif high <= low:
        low, high = low - max(abs(low) * 0.1, 1e-3), high + max(abs(high) * 0.1, 1e-3)
    return ScalarMappable(Normalize(low, high), scale)


def _draw(
    axes: Axes,
    points: _Points,
    colours: ScalarMappable | None,
    size: float,
    *,
    centred: bool,
) -> None:
    """The points; hollow ones below filled ones."""
    x, y, known = points.x, points.y, np.isfinite(points.colour)
    face = np.tile(to_rgb(PALETTE[0][0]), (len(x), 1))
    edge = np.tile(to_rgb("white"), (len(x), 1))
    above = np.zeros(len(x), dtype=bool)
    if colours is not None:
        face[known] = colours.to_rgba(points.colour[known])[:, :3]
        edge = 0.68 * face  # the palest points keep a rim
        above = known & (points.colour > 0) & centred
        axes.plot(
            x[~known], y[~known], ls="", marker="x", ms=0.8 * size, mec=GREY, mew=0.7,
            label="unknown", zorder=2,
        )  # fmt: skip
    rim = np.where(points.filled[:, None], edge, face if colours is None else edge)
    if colours is not None and not points.filled.all():
        rim[points.filled] = to_rgb(INK)
    face[~points.filled] = 1.0
    drawn = known | (colours is None)
    for filled in (False, True):
        for sign, marker in ((False, "o"), (True, "^")):
            rows = drawn & (points.filled == filled) & (above == sign)
            if rows.any():
                axes.scatter(
                    x[rows], y[rows], s=size**2, marker=marker, c=face[rows],
                    edgecolors=rim[rows].tolist(), linewidths=0.5 if filled else 0.8,
                    zorder=3 if filled else 2.5, label="filled" if filled else "hollow",
                )  # fmt: skip


def _names(
    axes: Axes,
    page: Page,
    texts: Sequence[str],
    places: Float[np.ndarray, "heads 2"],
    named: Int[np.ndarray, " named"],
    size: float,
) -> None:
    """Names beside their points, a line to each that stands apart."""
    if not texts:
        return
    box = axes.get_position()
    whole = np.array([box.width * page.width, box.height * page.height])
    cells = np.hstack([places[named], np.full((len(named), 2), size + 2.5)])
    sizes = np.array([page.measure(text, SMALL) for text in texts]) + np.array([1.5, 1.0])
    marks = np.hstack([places, np.full(places.shape, size)])
    found = beside(cells, sizes, marks, np.concatenate([whole / 2, whole]), cost=25.0)
    for text, cell, name in zip(texts, cells, found, strict=True):
        if np.isnan(name).any():
            continue  # the cloud has no room
        x, y = name[:2] / whole
        axes.text(
            x,
            y,
            text,
            fontsize=SMALL,
            va="center",
            ha="center",
            linespacing=LINES,
            zorder=5,
            transform=axes.transAxes,
        )
        ends = np.array([toward(cell, name), toward(name, cell)])
        if np.hypot(*(ends[1] - ends[0])) > 2.0:
            axes.plot(
                *(ends / whole).T,
                color=GREY,
                lw=0.5,
                zorder=4,
                label="leader",
                transform=axes.transAxes,
            )
