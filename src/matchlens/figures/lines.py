"""Figures with layers along their x axis: Figure 1a, and any quantity layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from matchlens.errors import InputError
from matchlens.figures.colours import GREY, INK, PALE, PALETTE, places
from matchlens.figures.labels import spread
from matchlens.figures.page import (
    DASHES,
    EDGE,
    MINUS,
    NORMAL,
    READS,
    SMALL,
    TICK,
    Look,
    Page,
    arrows,
    integers,
    numbers,
    reach,
    required,
    style,
    ticks,
    tips,
    unit,
    written,
)

KINDS = {
    "up-to": f"n: layers 0 to n{MINUS}1 are cut (at 0: none)",
    "from": "n: layers n to the top are cut (at the last: none)",
    "only": "the one layer that is cut",
    "window": "first layer of the window that is cut",
}
"""What the x axis counts."""
CURVE = ("direction", "n", "mean", "original", "ci_low", "ci_high", "significant")
CURVE_NOTE = (
    "X→Y cut: X no longer reads Y. Filled: significant change; hollow: not. "
    "Band: 95% interval of the change."
)
PROFILE = ("layer", "series", "value", "low", "high")
PROFILE_NOTE = "Line: mean over the layer's heads; band: the middle half of the heads."
WEIGHTED_NOTE = (
    "Line: mean over pairs and the layer's heads, weighted by mass; band: the middle half of the "
    "heads, which the line may leave."
)
LEADER, KEY = 11.0, 9.0
"""Points from the axes to the labels, and from a label's sign to its text."""
PAD = 5.0
"""Points that stay empty left of the first layer and right of the last."""
_APART = 9.0
"""Points between one panel and the next one's heading."""


@dataclass(frozen=True)
class _Line:
    """A line with its band; marks are filled where it is significant, all where that is None."""

    name: str
    sign: int
    layer: Float[np.ndarray, " points"]
    value: Float[np.ndarray, " points"]
    low: Float[np.ndarray, " points"]
    high: Float[np.ndarray, " points"]
    tips: np.ndarray
    significant: Bool[np.ndarray, " points"] | None = None


@dataclass(frozen=True)
class _Panel:
    """Lines over the same layers, and level lines by name."""

    name: str
    lines: list[_Line]
    low: float
    high: float
    ticks: list[float]
    levels: dict[str, float]

    @property
    def labels(self) -> list[str]:
        """The names of its lines, of the level ones too."""
        return [*(line.name for line in self.lines), *self.levels]


def layer_curves(
    table: pd.DataFrame,
    *,
    measure: str,
    random: float,
    kind: str = "up-to",
    impossible: Sequence[str] = (),
    **look: Unpack[Look],
) -> Figure:
    """Draw Figure 1a: how the measure changes with the layers that are cut.

    A curve for each direction with the 95% interval of its change as a band; markers are filled
    where the change is significant. The original and the random ranking are lines. Labels stand at
    the curves' right ends.

    Args:
        table: one row for each point of a curve. Columns: direction (text such as ``Q->D``), n (a
            layer or a number of layers, see kind), mean (the measure), original (the measure
            without a cut), ci_low and ci_high (95% interval of the mean difference to the original,
            in units of the measure; NaN draws no band), significant (bool).
        measure: the measure's name, such as ``nDCG@10``.
        random: the random ranking's expected value of the measure; NaN draws no line.
        kind: what n is. ``up-to``: layers 0 to n-1 are cut; ``from``: layers n and above;
            ``only``: layer n; ``window``: a window that begins at layer n.
        impossible: directions that could not be cut, for the caption: they have no curve.
        look: see :class:`Look`.

    Source: the paper's Figure 1a.

    >>> import pandas as pd
    >>> table = pd.DataFrame(
    ...     {"direction": "D->D", "n": [0, 1, 2], "mean": [0.8, 0.79, 0.7], "original": 0.8,
    ...      "ci_low": [0.0, -0.03, -0.15], "ci_high": [0.0, 0.01, -0.05],
    ...      "significant": [False, False, True]}
    ... )
    >>> figure = layer_curves(table, measure="nDCG@10", random=0.48, title="Demo")
    >>> [text.get_text() for text in figure.texts[:3]]
    ['random', 'D→D', 'original']
    """
    if kind not in KINDS:
        raise InputError(f"kind {kind!r} is not known; expected one of {', '.join(KINDS)}")
    required(table, CURVE, ("direction", "n"), "layer_curves")
    mean, originals = numbers(table, "mean"), numbers(table, "original")
    if np.ptp(originals) > 1e-9:
        raise InputError(
            f"column 'original' has several numbers, {originals.min()} to {originals.max()}; "
            "expected one: the value of the ranking without a cut in every row"
        )
    levels = {"original": float(originals[0]), "random": float(random)}
    levels = {name: value for name, value in levels.items() if np.isfinite(value)}
    ends = (originals + numbers(table, name, known=False) for name in ("ci_low", "ci_high"))
    *bands, bounded = _within_measure(np.r_[mean, list(levels.values())], *ends)
    values = np.r_[mean, *bands, list(levels.values())]
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    margin = max((high - low) * 0.04, (0.02 - (high - low)) / 2, abs(high) * 1e-6)
    low, high = low - margin, high + margin
    names = table["direction"].astype(str).to_numpy(dtype=object)
    n = integers(table, "n")
    significant = table["significant"].eq(True).to_numpy(dtype=bool)
    columns = (n.astype(np.float64), mean, *bands, tips(table), significant)
    lines = _lines(names, places(list(dict.fromkeys(names))), columns)
    panel = _Panel("", lines, low, high, ticks(low, high, 6), levels)
    absent = ", ".join(arrows(name) for name in impossible)
    note = f"{CURVE_NOTE} Impossible, so not drawn: {absent}." if absent else CURVE_NOTE
    words = (KINDS[kind], measure, note + bounded)
    return _drawn(Page(**look), [panel], (int(n.min()), int(n.max())), words, (0.58, 0.36))


def layer_profile(
    table: pd.DataFrame,
    *,
    quantity: str,
    note: str = PROFILE_NOTE,
    label: str = "layer",
    bounded: bool = False,
    **look: Unpack[Look],
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
        note: what lines and bands are, for the caption.
        label: what the x axis counts, in words.
        bounded: whether the values are a measure's: their bands end at 0 and 1, as in Figure 1a.
        look: see :class:`Look`.

    Source: the paper's section 4.

    >>> import pandas as pd
    >>> table = pd.DataFrame(
    ...     {"layer": [0, 1, 0, 1], "series": ["CLS", "CLS", "SEP1", "SEP1"],
    ...      "value": [0.3, 0.2, 0.1, 0.6], "low": 0.1, "high": 0.7}
    ... )
    >>> figure = layer_profile(table, quantity="mass of Q", title="Where Q's attention goes")
    >>> [text.get_text() for text in figure.texts[:2]]
    ['CLS', 'SEP1']
    """
    split = "panel" in table.columns
    required(table, PROFILE, [*(["panel"] if split else []), "series", "layer"], "layer_profile")
    value, *bands = (numbers(table, name, known=False) for name in ("value", "low", "high"))
    if bounded:
        *bands, cut = _within_measure(value, *bands)
        note += cut
    scale, in_units = unit(*value, *bands[0], *bands[1])
    layers, series = integers(table, "layer"), table["series"].astype(str).to_numpy(dtype=object)
    columns = (layers.astype(np.float64), *(part / scale for part in (value, *bands)), tips(table))
    panel_of = table["panel"].astype(str) if split else pd.Series("", index=table.index)
    signs, panels = places(list(dict.fromkeys(series))), []
    for name in dict.fromkeys(panel_of):
        lines = _lines(series, signs, columns, (panel_of == name).to_numpy(dtype=bool))
        values = [part for line in lines for part in (line.value, line.low, line.high)]
        least, most = reach(np.concatenate(values), 0.04) if lines else (0.0, 1.0)
        panels.append(_Panel(name, lines, least, most, ticks(least, most, 5), {}))
    names = "".join(name for panel in panels for name in (panel.name, *panel.labels))
    explained = "→" in arrows(note) or "→" not in arrows(names + look.get("title", ""))
    caption = note if explained else f"{note} {READS}"
    shape = (0.36, 0.24) if len(panels) > 1 else (0.5, 0.34)
    words = (label, arrows(quantity) + in_units, caption)
    return _drawn(Page(**look), panels, (int(layers.min()), int(layers.max())), words, shape)


def _drawn(
    page: Page,
    panels: list[_Panel],
    layers: tuple[int, int],
    words: tuple[str, str, str],
    shape: tuple[float, float],
) -> Figure:
    """Draw panels one below the other, which share the layers, with labels at the lines' ends."""
    label, y_words, note = words
    with style():
        page.frame(label, note)
        longest = page.width * (0.28 if not page.wide else 0.22)
        names = {
            line.name: page.wrap(arrows(line.name), longest, SMALL)
            for panel in panels
            for line in panel.lines
        }
        names |= {name: name for panel in panels for name in panel.levels}
        heights = {name: page.measure(shown, SMALL)[1] + 1.5 for name, shown in names.items()}
        split = bool(panels[0].name)
        base = page.width * shape[page.wide]
        rooms = [max(base, sum(heights[name] for name in p.labels) + 2) for p in panels]
        gaps = _APART * (len(panels) - 1)
        heading = (page.measure("X", SMALL)[1] + 5.0) * len(panels) if split else 0.0
        y_label = page.wrap(y_words, sum(rooms) + heading + gaps, NORMAL)
        left = EDGE + page.measure(y_label, NORMAL)[1] + 2 + TICK
        left += page.widest([tick for p in panels for tick in written(p.ticks)], SMALL)
        right = EDGE + page.widest(list(names.values()), SMALL) + KEY + LEADER
        across = page.width - left - right
        heads = [page.wrap(arrows(p.name), across, SMALL) if split else "" for p in panels]
        above = [page.measure(name, SMALL)[1] + 5.0 if name else 0.0 for name in heads]
        inner = sum(rooms) + sum(above) + gaps
        stack = page.grow(inner)
        top, drawn = page.bottom + stack, []
        for panel, name, high, wanted in zip(panels, heads, above, rooms, strict=True):
            room = wanted + (stack - inner) / len(panels)
            if name:
                page.text(left, top - 2.0, name, va="top", fontsize=SMALL)
            bottom = top - high - room
            axes = page.axes(left, bottom, across, room)
            _panel(page, axes, panel, names, layers, (left, bottom, across, room))
            drawn.append(axes)
            if panel is not panels[-1]:
                axes.tick_params(labelbottom=False)
            top = bottom - _APART
        page.y_label(drawn[0], y_label, page.bottom + stack / 2)
        page.describe("curves", f"{y_words} by {label}: {_courses(panels)}.")
        return page.finish(drawn[-1], left + across / 2)


def _courses(panels: Sequence[_Panel]) -> str:
    """Each line's first and last number, and the levels."""
    courses = []
    for panel in panels:
        for line in panel.lines:
            known = line.value[np.isfinite(line.value)]
            name = arrows(" ".join(filter(None, (panel.name, line.name))))
            courses.append(f"{name} {known[0]:.3g} to {known[-1]:.3g}")
        courses += [f"{name} {value:.3g}" for name, value in panel.levels.items()]
    return "; ".join(courses)


def _panel(
    page: Page,
    axes: Axes,
    panel: _Panel,
    names: dict[str, str],
    layers: tuple[int, int],
    box: tuple[float, float, float, float],
) -> None:
    """A panel's lines and the labels at their ends."""
    (first, last), (left, bottom, across, room) = layers, box
    pad = PAD * max(last - first, 1.0) / (across - 2 * PAD)
    axes.set_xlim(first - pad, last + pad)
    axes.set_ylim(panel.low, panel.high)
    axes.set_yticks(panel.ticks, written(panel.ticks))
    _layer_ticks(page, axes, first, last, across)
    if not panel.levels:
        axes.axhline(0, color=PALE, lw=0.7, zorder=0.5)
    for name, value in panel.levels.items():
        dash = (0, ()) if name == "original" else (0, (1, 1.6))
        axes.axhline(value, color=GREY, lw=0.7, ls=dash, zorder=1, label=name)

    def up(value: float) -> float:
        return bottom + (value - panel.low) / (panel.high - panel.low) * room

    labels = []
    for number, line in enumerate(panel.lines):
        _draw(page, axes, line, number, crowded=len(panel.lines) > 4)
        end = np.flatnonzero(np.isfinite(line.value))[-1]
        x = left + float(line.layer[end] - first + pad) / (last - first + 2 * pad) * across
        start, rank = (x, up(float(line.value[end]))), float(np.nanmean(line.value))
        labels.append(_EndLabel(names[line.name], start, rank, *PALETTE[line.sign], number))
    for name, value in panel.levels.items():
        labels.append(_EndLabel(name, (left + across, up(value)), value, GREY, ""))
    if labels:
        _end_labels(page, labels, left + across, bottom, bottom + room)
    else:
        axes.text(0.5, 0.5, "no number known", transform=axes.transAxes, va="center", ha="center")


@dataclass(frozen=True)
class _EndLabel:
    """A label at a line's right end; its sign is a marker in the line's colour, or none."""

    text: str
    start: tuple[float, float]
    rank: float
    colour: str
    marker: str
    series: int | None = None


def _end_labels(page: Page, labels: list[_EndLabel], edge: float, low: float, high: float) -> None:
    """Put the labels right of the axes, moved apart; a thin line leads to each."""
    labels = sorted(labels, key=lambda label: (round(label.start[1], 3), label.rank))
    wanted = np.array([label.start[1] for label in labels])
    heights = np.array([page.measure(label.text, SMALL)[1] + 1.5 for label in labels])
    x = edge + LEADER
    for label, y in zip(labels, spread(wanted, heights, low, high), strict=True):
        leader = page.line(
            [label.start[0], edge + 1, x], [label.start[1], label.start[1], y],
            color=label.colour, lw=0.5, alpha=0.8, solid_joinstyle="round",
        )  # fmt: skip
        artists = [leader]
        if label.marker:
            sign = {"color": label.colour, "marker": label.marker, "ms": 3.6, "ls": ""}
            artists.append(page.line([x + 2.5], [y], **sign))
        indent = KEY - 2.0 if label.marker else 2.0
        words = page.text(
            x + indent, y, label.text, va="center", fontsize=SMALL,
            color=INK if label.marker else GREY,
        )  # fmt: skip
        for artist in (*artists, words):
            page.mark(artist, series=label.series)


def _layer_ticks(page: Page, axes: Axes, first: int, last: int, across: float) -> None:
    """Ticks at whole layers, as many as have room."""
    each = (across - 2 * PAD) / max(last - first, 1)
    needed = page.widest([str(last)], SMALL) + 4.0
    step = next(s for s in (1, 2, 3, 4, 6, 8, 12, 24, 48, last - first + 1) if s * each >= needed)
    shown = [n for n in range(first, last + 1) if n % step == 0] or [first]
    axes.set_xticks(shown, [str(n) for n in shown])


def _lines(
    names: np.ndarray,
    signs: dict[str, int],
    columns: Sequence[np.ndarray],
    own: np.ndarray | bool = True,
) -> list[_Line]:
    """Lines by rising layer, from a :class:`_Line`'s columns; one without a number is left out."""
    lines = []
    for name, sign in signs.items():
        rows = np.flatnonzero(own & (names == name))
        rows = rows[np.argsort(columns[0][rows], kind="stable")]
        line = _Line(name, sign, *(column[rows] for column in columns))
        lines += [line] if np.isfinite(line.value).any() else []
    return lines


def _within_measure(
    values: np.ndarray, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray, str]:
    """Bands that end at 0 and 1 where the measure's values do, and a sentence where one was cut."""
    # Intervals of few queries reach far beyond what a measure can be, which flattens the curves.
    if np.nanmin(values, initial=0) < 0 or np.nanmax(values, initial=1) > 1:
        return low, high, ""
    beyond = np.nanmin(low, initial=0) < 0 or np.nanmax(high, initial=1) > 1
    return low.clip(0, 1), high.clip(0, 1), " Bands are drawn between 0 and 1." if beyond else ""


def _draw(page: Page, axes: Axes, line: _Line, number: int, *, crowded: bool) -> None:
    """A line, its band, and its marks; an interval without neighbours is a bar."""
    colour, marker = PALETTE[line.sign]
    layer, value, low, high = line.layer, line.value, line.low, line.high
    known = np.isfinite(low) & np.isfinite(high)
    band = axes.fill_between(
        layer, low, high, where=known.tolist(), color=colour, alpha=0.09 if crowded else 0.16,
        lw=0, zorder=1.5,
    )  # fmt: skip
    beside = np.r_[False, known[:-1]] | np.r_[known[1:], False]
    lone = known & ~beside
    bars = axes.vlines(
        layer[lone], low[lone], high[lone], color=colour, lw=0.8, alpha=0.5, zorder=1.5
    )
    for artist in (band, bars):
        page.mark(artist, series=number, kind="band")
    how = {"color": colour, "lw": 1.1, "ls": DASHES[line.sign % len(DASHES)], "zorder": 2}
    if line.significant is None:
        (drawn,) = axes.plot(layer, value, marker=marker, ms=3.0, mew=0, label=line.name, **how)
        page.mark(drawn, line.tips[np.isfinite(value)], number)
        return
    (drawn,) = axes.plot(layer, value, label=line.name, **how)
    page.mark(drawn, series=number)
    size = 3.0 if crowded else 3.6
    for rows, face in ((~line.significant, "white"), (line.significant, colour)):
        (marks,) = axes.plot(
            layer[rows], value[rows], ls="", marker=marker, ms=size, mec=colour, mew=0.7, mfc=face,
            zorder=3, label="_" + line.name,
        )  # fmt: skip
        page.mark(marks, line.tips[rows & np.isfinite(value)], number)
