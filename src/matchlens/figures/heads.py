"""A number for each head, such as the effect of cutting it alone: a heat map, layers by heads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from matchlens.errors import InputError
from matchlens.figures.colours import COLOURS, bar, bar_height
from matchlens.figures.labels import beside, toward
from matchlens.figures.page import (
    EDGE,
    INK,
    LINES,
    NORMAL,
    PALE,
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

COLUMNS = ("layer", "head", "diff", "q", "significant")
NOTE = (
    "● significantly lower without the head, ▲ significantly higher. "
    "Named layer.head: the largest changes."
)
ATTENTION_NOTE = (
    "● significantly lower for relevant passages, ▲ significantly higher. "
    "Named layer.head: the largest differences."
)
NAMED = 6
"""How many heads are named, at most."""


def head_map(
    table: pd.DataFrame,
    *,
    measure: str | None = None,
    words: str | None = None,
    note: str = NOTE,
    title: str = "",
    width: str = "column",
) -> Figure:
    """Draw a number for each head as a cell, centred at 0: by default the effect of cutting it.

    Layer 0 is at the bottom. The colours are centred at 0. Significant cells bear a dot (the
    number is negative: the measure falls without the head) or a triangle (it rises), so that the
    sign shows in grey, too. The heads of the largest numbers are named.

    Args:
        table: one row for each head. Columns: layer, head (from 0), diff (what is drawn: the change
            of the measure when the head is cut, in units of the measure, or the difference of an
            attention quantity between two classes of passages), q (p corrected after Benjamini
            and Hochberg; may be NaN), significant (bool). Heads without a row stay grey.
        measure: the measure's name, such as ``nDCG@10``, where heads are cut.
        words: what the numbers are, such as ``Q->D attention mass, relevant − easy``, where they
            are something else than a measure's change.
        note: what the signs mean, below the figure; ``ATTENTION_NOTE`` for classes of passages.
        title: above the figure.
        width: ``column`` (3.35 inch) or ``page`` (7 inch).

    Raises:
        InputError: if the table is empty, lacks a column or holds two rows for one head, if the
            width is unknown, or if not exactly one of measure and words is given.

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
    required(table, COLUMNS, ("layer", "head"), "head_map")
    layer, head = (integers(table, name) for name in ("layer", "head"))
    rows, columns = int(layer.max()) + 1, int(head.max()) + 1
    effect = np.full((rows, columns), np.nan)
    effect[layer, head] = numbers(table, "diff")
    significant = np.zeros((rows, columns), dtype=bool)
    significant[layer, head] = table["significant"].eq(True).to_numpy(dtype=bool)
    reach = max(float(np.nanmax(np.abs(effect))), 1e-4)
    order = np.lexsort((head, layer, -np.abs(effect[layer, head])))[:NAMED]
    largest = [(int(layer[i]), int(head[i])) for i in order if effect[layer[i], head[i]] != 0]

    with style():
        page = Page(width)
        inner = page.width - 2 * EDGE
        said = arrows(words or "") or f"change of {measure} when this head alone is cut"
        said = page.wrap(said, inner, NORMAL)
        digit = page.measure("0", SMALL)[1]
        note = f"{note} {READS}" if "→" in arrows(f"{title}{words}") else note
        frame = Frame(page, title, "head", note, extra=bar_height(page, said))
        left = EDGE + page.measure("layer", NORMAL)[1] + 2 + TICK
        left += page.widest([str(rows - 1)], SMALL)
        across = min((page.width - left - EDGE - 1) / columns, 40.0)
        up = max(min(max(0.75 * across, 9.6), 15.0), 22.0 / rows)
        page.grow(frame.bottom + up * rows + frame.top)
        axes = page.axes(left, frame.bottom, across * columns, up * rows)
        mesh = _cells(axes, effect, reach)
        for axis, each, high in (
            (axes.xaxis, across, page.widest([str(columns - 1)], SMALL) + 3),
            (axes.yaxis, up, digit),
        ):
            count = columns if axis is axes.xaxis else rows
            step = next(s for s in (1, 2, 4, 8, 16, 32, count) if s * each >= high or s >= count)
            axis.set_ticks(np.arange(0, count, step), [str(n) for n in range(0, count, step)])
        middle = frame.bottom + up * rows / 2
        page.text(EDGE, middle, "layer", rotation=90, va="center", fontsize=NORMAL)
        frame.draw(left + across * columns / 2)
        inside = _fits(page, largest, across, up)
        _dots(axes, effect, significant, reach, largest if inside else (), min(across, up))
        if inside:
            for row, column in largest:
                raised = 0.17 if significant[row, column] else -0.03
                axes.text(
                    column, row + raised, f"{row}.{column}", fontsize=inside, va="center",
                    ha="center", color=_ink(effect[row, column], reach), linespacing=LINES,
                )  # fmt: skip
        else:
            _callouts(axes, page, largest, significant, across, up)
        long = max(across * columns, min(page.width * 0.45, page.width - left - EDGE))
        bar(page, mesh, said, frame.extra, left, long)
    return page.figure


def _cells(axes: Axes, effect: Float[np.ndarray, "layers heads"], reach: float) -> QuadMesh:
    axes.set_facecolor(PALE)
    for spine in axes.spines.values():
        spine.set_visible(False)
    rows, columns = effect.shape
    return axes.pcolormesh(
        np.arange(columns + 1) - 0.5,
        np.arange(rows + 1) - 0.5,
        np.ma.masked_invalid(effect),
        cmap=COLOURS,
        norm=Normalize(-reach, reach),
        edgecolors="white",
        linewidth=0.4,
    )


def _ink(effect: float, reach: float) -> str:
    """Black or white, whichever is read better on a cell's colour."""
    red, green, blue, _ = COLOURS((effect / reach + 1) / 2)
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 0.56 else "white"


def _dots(
    axes: Axes,
    effect: Float[np.ndarray, "layers heads"],
    significant: Bool[np.ndarray, "layers heads"],
    reach: float,
    named: Sequence[tuple[int, int]],
    cell: float,
) -> None:
    """A dot for a significant decrease, a triangle for an increase; lower where a name stands."""
    size = min(0.26 * cell, 3.2)
    groups: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for row, column in np.argwhere(significant).tolist():
        value = float(effect[row, column])
        sign = ("o" if value <= 0 else "^", _ink(value, reach))
        low = 0.28 if (row, column) in named else 0.0
        groups.setdefault(sign, []).append((column, row - low))
    for (marker, colour), places in groups.items():
        x, y = zip(*places, strict=True)
        axes.plot(x, y, ls="", ms=size, mew=0, marker=marker, color=colour, label="significant")


def _fits(page: Page, named: Sequence[tuple[int, int]], across: float, up: float) -> float:
    """The size of type in which the names fit into their cells; 0 where none does."""
    for size in (SMALL, 6.5, 6.0):
        if (
            up >= 1.9 * size
            and page.widest([f"{row}.{column}" for row, column in named], size) + 0.5 <= across
        ):
            return size
    return 0.0


def _callouts(
    axes: Axes,
    page: Page,
    named: Sequence[tuple[int, int]],
    significant: Bool[np.ndarray, "layers heads"],
    across: float,
    up: float,
) -> None:
    """Names beside their framed cells, where the cells are too small to hold them."""
    rows, columns = significant.shape
    scale = np.array([across, up])
    texts = [f"{row}.{column}" for row, column in named]
    centres = np.array(named, dtype=np.float64).reshape(-1, 2)[:, ::-1] * scale
    cells = np.hstack([centres, np.tile(scale, (len(named), 1))])
    sizes = np.array([page.measure(text, SMALL) for text in texts]).reshape(-1, 2)
    sizes[:, 0] += 2.0
    dots = np.argwhere(significant)[:, ::-1] * scale
    sheet = np.array([(columns - 1) / 2, (rows - 1) / 2, columns, rows]) * np.tile(scale, 2)
    boxes = beside(cells, sizes, np.hstack([dots, np.full(dots.shape, 3.0)]), sheet)
    for text, cell, box in zip(texts, cells, boxes, strict=True):
        _rectangle(axes, cell, scale, fill=False, lw=0.8, clip_on=False)
        if np.isnan(box).any():
            continue  # a map of very few rows
        _rectangle(axes, box, scale, fc="white", lw=0.4, alpha=0.9)
        x, y = box[:2] / scale
        axes.text(x, y, text, fontsize=SMALL, va="center", ha="center", linespacing=LINES, zorder=5)
        ends = np.array([toward(cell, box), toward(box, cell)]) / scale
        axes.plot(*ends.T, color=INK, lw=0.6, zorder=3, label="leader")


def _rectangle(
    axes: Axes,
    box: Float[np.ndarray, " 4"],
    scale: Float[np.ndarray, " 2"],
    **how: float | str | bool,
) -> None:
    x, y = (box[:2] - box[2:] / 2) / scale
    wide, high = box[2:] / scale
    axes.add_patch(Rectangle((x, y), wide, high, ec=INK, zorder=4, **how))  # type: ignore[arg-type]
