"""A number for each head as a heat map, or two numbers against each other as a scatter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import QuadMesh
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from matchlens.errors import InputError
from matchlens.figures.colours import COLOURS, GREY, INK, INVERSE, NEUTRAL, PALE, PALETTE, TINTS
from matchlens.figures.labels import beside, outstanding, spread, toward
from matchlens.figures.page import (
    EDGE,
    LINES,
    NORMAL,
    READS,
    SMALL,
    TICK,
    Look,
    Page,
    arrows,
    integers,
    left_out,
    numbers,
    reach,
    required,
    style,
    ticks,
    tips,
    unit,
    written,
)

BAR = 6.0
"""A colour bar's height (points)."""
MAP_NOTE = (
    "● significantly lower without the head, ▲ significantly higher. "
    "Named layer.head: the largest changes."
)
ATTENTION_NOTE = (
    "● significantly lower for relevant passages, ▲ significantly higher. "
    "Named layer.head: the largest differences."
)
POINTS_NOTE = "Each point is a head; layer.head names those farthest from the middle."
NAMED = 6
"""How many heads of a map are named, at most."""
LEADER = 8.0
"""Points from a map to the names beside it."""


def head_map(
    table: pd.DataFrame,
    *,
    measure: str | None = None,
    words: str | None = None,
    note: str = MAP_NOTE,
    signed: bool = True,
    **look: Unpack[Look],
) -> Figure:
    """Draw a number for each head as a cell, centred at 0: by default the effect of cutting it.

    Layer 0 is at the bottom. The colours are centred at 0, or begin there. Significant cells bear a
    dot (the number is negative: the measure falls without the head) or a triangle (it rises), so
    that the sign shows in grey, too. The heads of the largest numbers are named.

    Args:
        table: one row for each head. Columns: layer, head (from 0), diff (what is drawn: the change
            of the measure when the head is cut, in units of the measure, or the difference of an
            attention quantity between two classes of passages), q (p corrected after Benjamini
            and Hochberg; may be NaN), significant (bool). Heads without a row stay grey.
        measure: the measure's name, such as ``nDCG@10``, where heads are cut.
        words: what the numbers are, such as ``Q->D attention mass, relevant − easy``, where they
            are something else than a measure's change.
        note: what the signs mean, for the caption; ``ATTENTION_NOTE`` for classes of passages.
        signed: whether numbers may be negative; else the colours begin at 0.
        look: see :class:`Look`.

    Source: the paper's Figure 1b, as a map; with a measure, its causal counterpart.

    >>> import pandas as pd
    >>> table = pd.DataFrame(
    ...     {"layer": [0, 0, 1, 1], "head": [0, 1, 0, 1], "diff": [0.0, -0.01, 0.02, -0.08],
    ...      "q": [1.0, 0.4, 0.2, 0.001], "significant": [False, False, False, True]}
    ... )
    >>> figure = head_map(table, measure="nDCG@10", title="Each head of a tiny model cut alone")
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['1.1', '1.0', '0.1']
    """
    if (measure is None) == (words is None):
        raise InputError(
            "head_map needs either measure or words; give measure='nDCG@10' for heads that are "
            "cut, or words='Q->D mass, relevant less easy' for anything else"
        )
    required(table, ("layer", "head", "diff", "q", "significant"), ("layer", "head"), "head_map")
    layer, head = (integers(table, name) for name in ("layer", "head"))
    rows, columns = int(layer.max()) + 1, int(head.max()) + 1

    def grid(values: np.ndarray, empty: object) -> np.ndarray:
        cells = np.full((rows, columns), empty, dtype=values.dtype)
        cells[layer, head] = values
        return cells

    effect = grid(numbers(table, "diff"), np.nan)
    significant = grid(table["significant"].eq(True).to_numpy(dtype=bool), False)
    most = max(float(np.nanmax(np.abs(effect))), 1e-4)
    scale = ScalarMappable(Normalize(-most if signed else 0, most), COLOURS if signed else TINTS)
    order = np.lexsort((head, layer, -np.abs(effect[layer, head])))[:NAMED]
    largest = [(int(layer[i]), int(head[i])) for i in order if effect[layer[i], head[i]] != 0]
    page = Page(**look)

    with style():
        label = arrows(words or "") or f"change of {measure} when this head alone is cut"
        label = page.wrap(label, page.width - 2 * EDGE, NORMAL)
        note = f"{note} {READS}" if "→" in arrows(f"{page.title}{words}") else note
        page.frame("head", note, below=_bar_height(page, label))
        left = EDGE + page.measure("layer", NORMAL)[1] + 2 + TICK
        left += page.widest([str(rows - 1)], SMALL)
        names = [f"{row}.{column}" for row, column in largest]
        across, up, size = _cell_size(page, names, left, (rows, columns))
        high = page.grow(up * rows)
        up = high / rows
        axes = page.axes(left, page.bottom, across * columns, high)
        page.mark(_cells(axes, effect, scale), grid(tips(table), "").ravel())
        for axis, each, needed, count in (
            (axes.xaxis, across, page.widest([str(columns - 1)], SMALL) + 3, columns),
            (axes.yaxis, up, page.measure("0", SMALL)[1], rows),
        ):
            step = next(s for s in (1, 2, 4, 8, 16, 32, count) if s * each >= needed or s >= count)
            axis.set_ticks(np.arange(0, count, step), [str(n) for n in range(0, count, step)])
        page.y_label(axes, "layer", page.bottom + high / 2)
        inks = np.array([[_ink(v / most, signed=signed) for v in row] for row in effect], object)
        _dots(axes, effect, inks, significant, largest if size else (), min(across, up))
        if size:
            for (row, column), name in zip(largest, names, strict=True):
                raised = 0.17 if significant[row, column] else -0.03
                axes.text(
                    column, row + raised, name, fontsize=size, va="center", ha="center",
                    color=inks[row, column], linespacing=LINES,
                )  # fmt: skip
        else:
            _names_aside(axes, page, largest, (left, across, up), columns)
        long = max(across * columns, min(page.width * 0.45, page.width - left - EDGE))
        _bar(page, scale, label, left, long)
        stars = effect[significant]
        summary = (
            f"{label}, layers by heads: {len(table)} heads, {(stars > 0).sum()} marked as higher, "
            f"{(stars < 0).sum()} as lower; the largest: {', '.join(names) or 'none'}."
        )
        page.describe("map", summary, -columns)
        return page.finish(axes, left + across * columns / 2)


def _cell_size(
    page: Page, names: Sequence[str], left: float, shape: tuple[int, int]
) -> tuple[float, float, float]:
    """A cell's width and height, and the size of the names in it; 0 where they stand aside."""
    rows, columns = shape

    def cell(right: float) -> tuple[float, float]:
        across = min((page.width - left - EDGE - right) / columns, 40.0)
        return across, max(min(max(0.75 * across, 9.6), 15.0), 22.0 / rows)

    (across, up), size = cell(1.0), 0.0
    if page.height is None or up * rows <= page.height - page.bottom - page.top:
        size = _fits(page, names, across, up)
    if names and not size:
        across, up = cell(page.widest(names, SMALL) + LEADER + 3.0)
        up = max(up, (len(names) * (page.measure("0", SMALL)[1] + 1.5) + 2.0) / rows)
    return across, up, size


def _cells(
    axes: Axes, effect: Float[np.ndarray, "layers heads"], scale: ScalarMappable
) -> QuadMesh:
    axes.set_facecolor(PALE)
    for spine in axes.spines.values():
        spine.set_visible(False)
    rows, columns = effect.shape
    return axes.pcolormesh(
        np.arange(columns + 1) - 0.5,
        np.arange(rows + 1) - 0.5,
        np.ma.masked_invalid(effect),
        cmap=scale.get_cmap(),
        norm=Normalize(*scale.get_clim()),
        edgecolors="white",
        linewidth=0.4,
    )


def _ink(share: float, *, signed: bool) -> str:
    """Black, or white on the darkest cells; share is of the largest number."""
    dark = signed and (share <= -0.5625 or share >= 0.8125)  # from the page's n5 and p7 on
    return INVERSE if dark else INK


def _dots(
    axes: Axes,
    effect: Float[np.ndarray, "layers heads"],
    inks: np.ndarray,
    significant: Bool[np.ndarray, "layers heads"],
    named: Sequence[tuple[int, int]],
    cell: float,
) -> None:
    """A dot for a significant decrease, a triangle for an increase; lower where a name stands."""
    size = min(0.26 * cell, 3.2)
    groups: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for row, column in np.argwhere(significant).tolist():
        sign = ("o" if effect[row, column] <= 0 else "^", inks[row, column])
        below = 0.28 if (row, column) in named else 0.0  # of the name in the cell
        groups.setdefault(sign, []).append((column, row - below))
    for (marker, colour), places in groups.items():
        x, y = zip(*places, strict=True)
        axes.plot(x, y, ls="", ms=size, mew=0, marker=marker, color=colour, label="significant")


def _fits(page: Page, names: Sequence[str], across: float, up: float) -> float:
    """The size of type in which the names fit into their cells; 0 where none does."""
    for size in (SMALL, 6.5, 6.0):
        if up >= 1.9 * size and page.widest(names, size) + 0.5 <= across:
            return size
    return 0.0


def _names_aside(
    axes: Axes,
    page: Page,
    named: Sequence[tuple[int, int]],
    place: tuple[float, float, float],
    columns: int,
) -> None:
    """Names right of the map, where the cells are too small to hold them; they cover no cell."""
    left, across, up = place
    named = sorted(named)
    edge = left + across * columns
    height = page.measure("0", SMALL)[1] + 1.5
    wanted = np.array([page.bottom + (row + 0.5) * up for row, _ in named])
    top = page.bottom + up * (axes.get_ylim()[1] + 0.5)
    at = spread(wanted, np.full(len(named), height), page.bottom, top) if named else wanted
    for (row, column), start, y in zip(named, wanted, at, strict=True):
        corner = (column - 0.5, row - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, ec=INK, lw=0.8, clip_on=False, zorder=4))
        page.line([edge + 1, edge + LEADER], [start, y], color=INK, lw=0.5)
        page.text(edge + LEADER + 1.5, y, f"{row}.{column}", va="center", fontsize=SMALL)


@dataclass(frozen=True)
class _Points:
    """The heads that are drawn; colour is NaN where there is none; units as words for each."""

    names: list[str]
    x: Float[np.ndarray, " heads"]
    y: Float[np.ndarray, " heads"]
    colour: Float[np.ndarray, " heads"]
    filled: Bool[np.ndarray, " heads"]
    units: tuple[str, str, str]
    tips: np.ndarray


def head_scatter(
    table: pd.DataFrame,
    *,
    x: str,
    y: str,
    labels: Mapping[str, str],
    colour: str = "",
    note: str = "",
    **look: Unpack[Look],
) -> Figure:
    """Draw two numbers a head against each other, and a third one as a colour.

    The heads farthest from the middle of the cloud (its medians, in standard deviations of each
    axis) are named, with a line to the point where the name stands apart from it. A name covers no
    point; one that finds no free place is left out.

    Args:
        table: one row for each head. Columns: layer, head (from 0), those that the arguments name,
            and, where known, X_significant and Y_significant of the axes' columns X and Y (bool):
            heads significant in neither are hollow; without both all points are filled. Heads
            without a number on an axis are left out and counted in the caption.
        x: the column along the x axis; numbers, NaN allowed.
        y: the column along the y axis; numbers, NaN allowed.
        labels: what each column is, such as ``{"qd": "Q->D: relevant − easy mass"}``; its name
            where it has no entry.
        colour: the column that colours the points, centred at 0: ▲ above it, ● at most 0; a head
            without a number there is a grey cross. Empty: all have one colour.
        note: a sentence more for the caption.
        look: see :class:`Look`.

    Source: the paper's Figures 1b, 1c and 2.

    >>> import pandas as pd
    >>> table = pd.DataFrame(
    ...     {"layer": [0, 0, 1, 1], "head": [0, 1, 0, 1], "qd": [0.0, 0.01, 0.2, float("nan")],
    ...      "dq": [0.01, 0.0, 0.1, 0.2]}
    ... )
    >>> figure = head_scatter(table, x="qd", y="dq", labels={"qd": "Q->D mass", "dq": "D->Q mass"})
    >>> figure.axes[0].get_xlabel(), [text.get_text() for text in figure.axes[0].texts]
    ('Q→D mass', ['1.0', '0.1', '0.0'])
    """
    required(table, ("layer", "head", *filter(None, (x, y, colour))), ("layer", "head"),
             "head_scatter")  # fmt: skip
    stars = [name for name in (f"{x}_significant", f"{y}_significant") if name in table]
    points = _points(table, x, y, colour, stars)
    (at_x, at_y), (in_x, in_y, in_colour) = (points.x, points.y), points.units
    caption = _note(points, note, stars=bool(stars), coloured=bool(colour))
    caption += left_out(len(table) - len(at_x), "both numbers")
    page = Page(**look)

    with style():
        words = arrows(labels.get(colour, colour)) + in_colour
        words = page.wrap(words, page.width - 2 * EDGE, NORMAL)
        x_words, y_words = arrows(labels.get(x, x)) + in_x, arrows(labels.get(y, y)) + in_y
        if "→" in arrows(" ".join((page.title, x_words, y_words, words))):
            caption = f"{caption} {READS}"
        page.frame(x_words, caption, below=_bar_height(page, words) if colour else 0.0)
        room = page.grow(page.width * (0.7 if not page.wide else 0.5))
        y_label = page.wrap(y_words, room, NORMAL)
        (low_x, high_x), (low_y, high_y) = (reach(values, 0.06) for values in (at_x, at_y))
        y_ticks = ticks(low_y, high_y, 6)
        left = EDGE + page.measure(y_label, NORMAL)[1] + 2 + TICK
        left += page.widest(written(y_ticks), SMALL)
        across = page.width - left - EDGE - 6
        axes = page.axes(left, page.bottom, across, room)
        axes.set_xlim(low_x, high_x)
        axes.set_ylim(low_y, high_y)
        count = 9 if page.wide else 6
        axes.set_xticks(*page.ticks((low_x, high_x), across, count, over=6.0, sign=False))
        axes.set_yticks(y_ticks, written(y_ticks))
        axes.axhline(0, color=PALE, lw=0.7, zorder=0.5)
        axes.axvline(0, color=PALE, lw=0.7, zorder=0.5)
        page.y_label(axes, y_label, page.bottom + room / 2)
        if not len(at_x):
            middle = {"transform": axes.transAxes, "va": "center", "ha": "center"}
            axes.text(0.5, 0.6, "no head has both numbers", fontsize=SMALL, **middle)
        size = 4.4 if len(at_x) <= 200 or page.wide else 3.6
        colours = _colours(points.colour) if colour else None
        _draw(axes, page, points, colours, size)
        if colours is not None:
            _bar(page, colours, words, left, across)
        scale = np.array([(high_x - low_x) / across, (high_y - low_y) / room])
        places = np.column_stack([at_x - low_x, at_y - low_y]) / scale
        names = _names(axes, page, points, places, (across, room), size)
        right = int(((at_x > 0) & (at_y > 0)).sum())
        page.describe(
            "scatter",
            f"{y_words} against {x_words}, {len(at_x)} heads, {right} to the upper right; "
            f"outstanding: {', '.join(names) or 'none'}.",
        )
        return page.finish(axes, left + across / 2)


def _points(table: pd.DataFrame, x: str, y: str, colour: str, stars: Sequence[str]) -> _Points:
    """The heads with both numbers."""
    layer, head = (integers(table, name) for name in ("layer", "head"))
    at_x, at_y = (numbers(table, name, known=False) for name in (x, y))
    shade = numbers(table, colour, known=False) if colour else np.full(len(table), np.nan)
    flags = [table[name].eq(True).to_numpy(dtype=bool) for name in stars]
    filled = np.any(flags, axis=0) if flags else np.ones(len(table), dtype=bool)
    rows = np.flatnonzero(np.isfinite(at_x) & np.isfinite(at_y))
    rows = rows[np.lexsort((head[rows], layer[rows]))]
    if np.isinf(shade).any():
        raise InputError(
            f"column {colour!r} has an infinity; expected numbers, or NaN where one is not known"
        )
    units = [unit(*values[rows]) for values in (at_x, at_y, shade)]
    across, up, tint = (
        values[rows] / scale for values, (scale, _) in zip((at_x, at_y, shade), units, strict=True)
    )
    names = [f"{layer[i]}.{head[i]}" for i in rows]
    words = tuple(words for _, words in units)
    return _Points(names, across, up, tint, filled[rows], words, tips(table)[rows])  # type: ignore[arg-type]


def _note(points: _Points, more: str, *, stars: bool, coloured: bool) -> str:
    """What the points' signs mean."""
    parts = [POINTS_NOTE]
    if stars:
        start = "Filled, with a dark rim: " if coloured else "Filled: "
        parts.append(f"{start}significant on either axis; hollow: on none.")
    if coloured:
        parts.append("Colour: ● at most 0, ▲ above 0.")
    if coloured and (unknown := int(np.isnan(points.colour).sum())):
        parts.append(f"Cross: no number for the colour ({unknown}).")
    return " ".join([*parts, more] if more else parts)


def _colours(values: Float[np.ndarray, " heads"]) -> ScalarMappable:
    known = values[np.isfinite(values)]
    most = max(float(np.abs(known).max()) if len(known) else 1.0, 1e-9)
    return ScalarMappable(Normalize(-most, most), COLOURS)


def _draw(
    axes: Axes, page: Page, points: _Points, colours: ScalarMappable | None, size: float
) -> None:
    """The points; hollow ones below filled ones."""
    x, y, known = points.x, points.y, np.isfinite(points.colour)
    face = np.tile(to_rgb(PALETTE[NEUTRAL][0]), (len(x), 1))
    edge = np.tile(to_rgb("white"), (len(x), 1))
    above = np.zeros(len(x), dtype=bool)
    if colours is not None:
        face[known] = colours.to_rgba(points.colour[known])[:, :3]
        edge = 0.55 * face  # the palest points keep a rim
        above = known & (points.colour > 0)
        (crosses,) = axes.plot(
            x[~known], y[~known], ls="", marker="x", ms=0.8 * size, mec=GREY, mew=0.7,
            label="unknown", zorder=2,
        )  # fmt: skip
        page.mark(crosses, points.tips[~known])
    rim = np.where(points.filled[:, None], edge, face if colours is None else edge)
    if colours is not None and not points.filled.all():
        rim[points.filled] = to_rgb(INK)
    face[~points.filled] = 1.0
    shown = known | (colours is None)
    for filled in (False, True):
        for sign, marker in ((False, "o"), (True, "^")):
            rows = shown & (points.filled == filled) & (above == sign)
            if rows.any():
                drawn = axes.scatter(
                    x[rows], y[rows], s=size**2, marker=marker, c=face[rows],
                    edgecolors=rim[rows].tolist(), linewidths=0.5 if filled else 0.8,
                    zorder=3 if filled else 2.5, label="filled" if filled else "hollow",
                )  # fmt: skip
                page.mark(drawn, points.tips[rows])


def _names(
    axes: Axes,
    page: Page,
    points: _Points,
    places: Float[np.ndarray, "heads 2"],
    whole: tuple[float, float],
    size: float,
) -> list[str]:
    """Name the outstanding points, with a line to each name that stands apart."""
    named = outstanding(points.x, points.y)
    if not len(named):
        return []
    names = [points.names[i] for i in named]
    cells = np.hstack([places[named], np.full((len(named), 2), size + 2.5)])
    sizes = np.array([page.measure(name, SMALL) for name in names]) + np.array([1.5, 1.0])
    marks = np.hstack([places, np.full(places.shape, size)])
    sheet = np.array([whole[0] / 2, whole[1] / 2, *whole])
    for name, cell, box in zip(names, cells, beside(cells, sizes, marks, sheet), strict=True):
        if np.isnan(box).any():
            continue  # the cloud has no room
        how = {"transform": axes.transAxes, "zorder": 5}
        x, y = box[:2] / whole
        axes.text(x, y, name, fontsize=SMALL, va="center", ha="center", linespacing=LINES, **how)
        ends = np.array([toward(cell, box), toward(box, cell)])
        if np.hypot(*(ends[1] - ends[0])) > 2.0:
            axes.plot(*(ends / whole).T, color=GREY, lw=0.5, label="leader", **how)
    return names


def _bar_height(page: Page, words: str) -> float:
    """Height of a colour bar with its ticks and its words (points)."""
    return page.measure(words, NORMAL)[1] + 2 + page.measure("0", SMALL)[1] + TICK + BAR + 6


def _bar(page: Page, colours: ScalarMappable, words: str, left: float, long: float) -> None:
    """Draw a colour bar above the caption, with ticks inside its ends, and its words below it."""
    at = page.extra + page.measure(words, NORMAL)[1] + 2 + page.measure("0", SMALL)[1] + TICK
    axes = page.axes(left, at, long, BAR)
    low, high = (float(end or 0.0) for end in colours.get_clim())
    edges = np.linspace(low, high, 65)
    axes.pcolormesh(
        edges, [0, 1], (edges[1:] + edges[:-1])[None] / 2, cmap=colours.get_cmap(),
        norm=Normalize(low, high), edgecolors="face", linewidth=0.2,
    )  # fmt: skip
    axes.spines[:].set_visible(False)
    axes.set_xlim(low, high)
    axes.set_yticks([])
    axes.set_xticks(*page.ticks((low, high), long, 6, over=EDGE, sign=low < 0))
    half = page.measure(words, NORMAL)[0] / 2
    x = min(max(left + long / 2, EDGE + half), page.width - EDGE - half)
    page.text(x, page.extra, words, va="bottom", ha="center", fontsize=NORMAL)
