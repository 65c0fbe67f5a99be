"""A quantity layer by layer: lines with bands, one panel below the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from matchlens.figures.ends import KEY, LEADER, PAD, EndLabel, end_labels, layer_ticks
from matchlens.figures.page import (
    DASHES,
    EDGE,
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
    numbers,
    required,
    style,
    ticks,
    unit,
    written,
)

COLUMNS = ("layer", "series", "value", "low", "high")
NOTE = "Line: mean over the layer's heads; band: the middle half of the heads."
_APART = 9.0
"""Points between one panel and the next one's heading."""


@dataclass(frozen=True)
class _Line:
    name: str
    sign: int
    layer: Float[np.ndarray, " points"]
    value: Float[np.ndarray, " points"]
    low: Float[np.ndarray, " points"]
    high: Float[np.ndarray, " points"]


@dataclass(frozen=True)
class _Panel:
    name: str
    lines: list[_Line]
    low: float
    high: float
    ticks: list[float]


def layer_profile(
    table: pd.DataFrame,
    *,
    quantity: str,
    note: str = NOTE,
    title: str = "",
    label: str = "layer",
    width: str = "column",
) -> Figure:
    """Draw a quantity over the layers, a line for each series, with a band around each.

    Labels stand at the lines' right ends. Panels stand one below the other and share the layers;
    each has its own range, which begins at 0 where 0 is near.

    Args:
        table: one row for each layer and series, of each panel. Columns: layer (from 0), series
            (text such as ``CLS`` or ``Q->D``), value (the line; NaN leaves a gap), low and high
            (the band, in the value's units; NaN draws none) and, if wanted, panel (text such as
            ``mass``).
        quantity: what the values are, such as ``share of a row's attention``.
        note: what lines and bands are.
        title: above the figure.
        label: what the x axis counts, in words.
        width: ``column`` (3.35 inch) or ``page`` (7 inch).

    Raises:
        InputError: if the table is empty, lacks a column or holds two rows for one point, or if
            the width is unknown.

    Source: science 4, the no-op profile and same-token shares; the paper's section 4.

    >>> import pandas as pd
    >>> table = pd.DataFrame(
    ...     {"layer": [0, 1, 0, 1], "series": ["CLS", "CLS", "SEP1", "SEP1"],
    ...      "value": [0.3, 0.2, 0.1, 0.6], "low": 0.1, "high": 0.7}
    ... )
    >>> figure = layer_profile(table, quantity="mass of Q", title="Where Q's attention goes")
    >>> [text.get_text() for text in figure.texts[4:]]
    ['CLS', 'SEP1']
    """
    split = "panel" in table.columns
    required(table, COLUMNS, [*(["panel"] if split else []), "series", "layer"], "layer_profile")
    seen = np.concatenate([numbers(table, name, known=False) for name in ("value", "low", "high")])
    scale, in_units = unit(*seen)
    panels = _panels(table, scale, split=split)
    layers = integers(table, "layer")
    first, last = int(layers.min()), int(layers.max())
    told = "→" in arrows(note) or "→" not in arrows("".join(_said(panels)) + title)
    text = note if told else f"{note} {READS}"
    with style():
        page = Page(width)
        frame = Frame(page, title, label, arrows(text))
        longest = page.width * (0.28 if not page.wide else 0.22)
        names = {name: page.wrap(arrows(name), longest, SMALL) for p in panels for name in _in(p)}
        heights = {name: page.measure(shown, SMALL)[1] + 1.5 for name, shown in names.items()}
        heading = page.measure("X", SMALL)[1] + 5.0 if split else 0.0
        base = page.width * ((0.5, 0.36) if not page.wide else (0.34, 0.24))[len(panels) > 1]
        rooms = [max(base, sum(heights[name] for name in _in(p)) + 2) for p in panels]
        stack = sum(rooms) + heading * len(panels) + _APART * (len(panels) - 1)
        y_label = page.wrap(arrows(quantity) + in_units, stack, NORMAL)
        left = EDGE + page.measure(y_label, NORMAL)[1] + 2 + TICK
        left += page.widest([label for p in panels for label in written(p.ticks)], SMALL)
        right = EDGE + page.widest(list(names.values()), SMALL) + KEY + LEADER
        across = page.width - left - right
        heads = [page.wrap(arrows(p.name), across, SMALL) if split else "" for p in panels]
        more = [page.measure(name, SMALL)[1] + 5.0 if name else 0.0 for name in heads]
        stack = sum(rooms) + sum(more) + _APART * (len(panels) - 1)
        page.grow(frame.bottom + stack + frame.top)
        frame.draw(left + across / 2)
        page.text(
            EDGE, frame.bottom + stack / 2, y_label, rotation=90, va="center", fontsize=NORMAL,
            multialignment="center",
        )  # fmt: skip
        top = frame.bottom + stack
        for panel, name, above, room in zip(panels, heads, more, rooms, strict=True):
            if name:
                page.text(left, top - 2.0, name, va="top", fontsize=SMALL)
            bottom = top - above - room
            axes = page.axes(left, bottom, across, room)
            _panel(page, axes, panel, names, first, last)
            if panel is not panels[-1]:
                axes.tick_params(labelbottom=False)
            top = bottom - _APART
    return page.figure


def _panel(
    page: Page, axes: Axes, panel: _Panel, names: dict[str, str], first: int, last: int
) -> None:
    """A panel's lines and the labels at their ends."""
    box = axes.get_position()
    left, bottom = box.x0 * page.width, box.y0 * page.height
    across, room = box.width * page.width, box.height * page.height
    pad = PAD * max(last - first, 1.0) / (across - 2 * PAD)
    axes.set_xlim(first - pad, last + pad)
    axes.set_ylim(panel.low, panel.high)
    axes.set_yticks(panel.ticks, written(panel.ticks))
    layer_ticks(page, axes, first, last, across)
    axes.axhline(0, color=PALE, lw=0.7, zorder=0.5)
    labels = []
    for line in panel.lines:
        _draw(axes, line, crowded=len(panel.lines) > 4)
        end = np.flatnonzero(np.isfinite(line.value))[-1]
        x = left + float(line.layer[end] - first + pad) / (last - first + 2 * pad) * across
        y = bottom + float(line.value[end] - panel.low) / (panel.high - panel.low) * room
        height = page.measure(names[line.name], SMALL)[1] + 1.5
        rank = float(np.nanmean(line.value))
        labels.append(EndLabel(names[line.name], height, (x, y), rank, *_sign(line.sign)))
    if labels:
        end_labels(page, labels, left + across, bottom, bottom + room)
    else:
        axes.text(0.5, 0.5, "no number known", transform=axes.transAxes, va="center", ha="center")


def _panels(table: pd.DataFrame, scale: float, *, split: bool) -> list[_Panel]:
    """The panels and their lines in the table's order; a series has one sign in all panels."""
    layer = integers(table, "layer").astype(np.float64)
    series = table["series"].astype(str).to_numpy(dtype=object)
    where = table["panel"].astype(str).to_numpy(dtype=object) if split else np.full(len(table), "")
    columns = [numbers(table, name, known=False) / scale for name in ("value", "low", "high")]
    signs = {str(name): i for i, name in enumerate(dict.fromkeys(series))}
    panels = []
    for panel in dict.fromkeys(where):
        lines, seen = [], [np.zeros(0)]
        for name, sign in signs.items():
            rows = np.flatnonzero((where == panel) & (series == name))
            rows = rows[np.argsort(layer[rows], kind="stable")]
            value, low, high = (values[rows] for values in columns)
            if np.isfinite(value).any():
                lines.append(_Line(name, sign, layer[rows], value, low, high))
                seen += [value, low, high]
        least, most = _range(np.concatenate(seen))
        panels.append(_Panel(str(panel), lines, least, most, ticks(least, most, 5)))
    return panels


def _range(values: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """An axis' ends: from 0, where that takes little room, with a margin."""
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    if max(high, 0.0) - min(low, 0.0) <= 1.5 * (high - low) or high <= low:
        low, high = min(low, 0.0), max(high, 0.0)
    margin = max((high - low) * 0.04, abs(high) * 1e-6, 1e-9)
    return low - margin, high + margin


def _in(panel: _Panel) -> list[str]:
    return [line.name for line in panel.lines]


def _said(panels: list[_Panel]) -> list[str]:
    return [name for panel in panels for name in (panel.name, *_in(panel))]


def _sign(i: int) -> tuple[str, str]:
    return PALETTE[i % len(PALETTE)]


def _draw(axes: Axes, line: _Line, *, crowded: bool) -> None:
    colour, marker = _sign(line.sign)
    known = np.isfinite(line.low) & np.isfinite(line.high)
    axes.fill_between(
        line.layer, line.low, line.high, where=known.tolist(), color=colour,
        alpha=0.09 if crowded else 0.16, lw=0, zorder=1.5,
    )  # fmt: skip
    beside = np.r_[False, known[:-1]] | np.r_[known[1:], False]
    lone = known & ~beside  # a band needs two neighbours; else it is a bar
    axes.vlines(
        line.layer[lone], line.low[lone], line.high[lone], color=colour, lw=0.8, alpha=0.5,
        zorder=1.5,
    )  # fmt: skip
    axes.plot(
        line.layer, line.value, color=colour, lw=1.1, ls=DASHES[line.sign % len(DASHES)],
        marker=marker, ms=3.0, mew=0, zorder=2, label=line.name,
    )  # fmt: skip
