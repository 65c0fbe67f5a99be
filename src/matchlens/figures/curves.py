"""Figure 1a: the measure, layer by layer, a curve for each direction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from matchlens.errors import InputError
from matchlens.figures.ends import KEY, LEADER, PAD, EndLabel, end_labels, layer_ticks
from matchlens.figures.page import (
    DASHES,
    EDGE,
    GREY,
    MINUS,
    NORMAL,
    PALETTE,
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
    written,
)

KINDS = {
    "up-to": f"n: layers 0 to n{MINUS}1 are cut (at 0: none)",
    "from": "n: layers n to the top are cut (at the last: none)",
    "only": "the one layer that is cut",
    "window": "first layer of the window that is cut",
}
"""What the x axis counts."""
COLUMNS = ("direction", "n", "mean", "original", "ci_low", "ci_high", "significant")
NOTE = (
    "X→Y cut: X no longer reads Y. Filled: significant change; hollow: not. "
    "Band: 95% interval of the change."
)


@dataclass(frozen=True)
class _Curve:
    name: str
    n: Float[np.ndarray, " points"]
    mean: Float[np.ndarray, " points"]
    low: Float[np.ndarray, " points"]
    high: Float[np.ndarray, " points"]
    significant: Bool[np.ndarray, " points"]


def layer_curves(
    table: pd.DataFrame,
    *,
    measure: str,
    random: float,
    kind: str = "up-to",
    title: str = "",
    width: str = "column",
    impossible: Sequence[str] = (),
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
        title: above the figure.
        width: ``column`` (3.35 inch) or ``page`` (7 inch).
        impossible: directions that could not be cut, for the note: they have no curve.

    Raises:
        InputError: if the table is empty, lacks a column or holds two rows for one point, or if
            kind or width is unknown.

    Source: the paper's Figure 1a.

    >>> import pandas as pd
    >>> table = pd.DataFrame(
    ...     {"direction": "D->D", "n": [0, 1, 2], "mean": [0.8, 0.79, 0.7], "original": 0.8,
    ...      "ci_low": [0.0, -0.03, -0.15], "ci_high": [0.0, 0.01, -0.05],
    ...      "significant": [False, False, True]}
    ... )
    >>> figure = layer_curves(table, measure="nDCG@10", random=0.48, title="Demo")
    >>> [text.get_text() for text in figure.texts[4:]]
    ['random', 'D→D', 'original']
    """
    if kind not in KINDS:
        raise InputError(f"kind {kind!r} is not known; expected one of {', '.join(KINDS)}")
    required(table, COLUMNS, ("direction", "n"), "layer_curves")
    curves = _curves(table)
    originals = numbers(table, "original")
    if np.ptp(originals) > 1e-9:
        raise InputError(
            f"column 'original' has several numbers, {originals.min()} to {originals.max()}; "
            "expected one: the value of the ranking without a cut in every row"
        )
    original = float(originals[0])
    with style():
        page = Page(width)
        absent = ", ".join(arrows(name) for name in impossible)
        note = f"{NOTE} Impossible, so not drawn: {absent}." if absent else NOTE
        frame = Frame(page, title, KINDS[kind], note)
        longest = page.width * (0.28 if not page.wide else 0.22)
        names = [page.wrap(arrows(curve.name), longest, SMALL) for curve in curves]
        lines = {"original": original, "random": float(random)}
        lines = {name: value for name, value in lines.items() if np.isfinite(value)}
        heights = [page.measure(name, SMALL)[1] + 1.5 for name in [*names, *lines]]

        low, high = _range(curves, list(lines.values()))
        y_ticks = ticks(low, high, 6)
        room = max(page.width * (0.58 if not page.wide else 0.36), sum(heights) + 2)
        y_label = page.wrap(measure, room, NORMAL)
        left = EDGE + page.measure(y_label, NORMAL)[1] + 2 + TICK
        left += page.widest(written(y_ticks), SMALL)
        right = EDGE + page.widest([*names, *lines], SMALL) + KEY + LEADER
        across = page.width - left - right
        page.grow(frame.bottom + room + frame.top)
        axes = page.axes(left, frame.bottom, across, room)
        frame.draw(left + across / 2)
        page.text(
            EDGE, frame.bottom + room / 2, y_label, rotation=90, va="center", fontsize=NORMAL,
            multialignment="center",
        )  # fmt: skip

        first, last = min(c.n.min() for c in curves), max(c.n.max() for c in curves)
        pad = PAD * (max(last - first, 1.0)) / (across - 2 * PAD)
        axes.set_xlim(first - pad, last + pad)
        axes.set_ylim(low, high)
        axes.set_yticks(y_ticks, written(y_ticks))
        layer_ticks(page, axes, int(first), int(last), across)
        for name, value in lines.items():
            dash = (0, ()) if name == "original" else (0, (1, 1.6))
            axes.axhline(value, color=GREY, lw=0.7, ls=dash, zorder=1, label=name)
        for i, curve in enumerate(curves):
            _draw(axes, curve, i, crowded=len(curves) > 4)

        def place(x: float, y: float) -> tuple[float, float]:
            at_x = left + (x - first + pad) / (last - first + 2 * pad) * across
            return at_x, frame.bottom + (y - low) / (high - low) * room

        labels = [
            EndLabel(name, height, place(c.n[-1], c.mean[-1]), c.mean.mean(), *_sign(i))
            for i, (c, name, height) in enumerate(zip(curves, names, heights, strict=False))
        ]
        for (name, value), height in zip(lines.items(), heights[len(names) :], strict=True):
            edge = (left + across, place(last, value)[1])
            labels.append(EndLabel(name, height, edge, value, GREY, ""))
        end_labels(page, labels, left + across, frame.bottom, frame.bottom + room)
    return page.figure


def _curves(table: pd.DataFrame) -> list[_Curve]:
    """The curves in the table's order, each by rising n."""
    names = table["direction"].astype(str).to_numpy(dtype=object)
    n = integers(table, "n").astype(np.float64)
    mean, original = numbers(table, "mean"), numbers(table, "original")
    low, high = (original + numbers(table, name, known=False) for name in ("ci_low", "ci_high"))
    significant = table["significant"].eq(True).to_numpy(dtype=bool)
    curves = []
    for name in dict.fromkeys(names):
        rows = np.flatnonzero(names == name)
        rows = rows[np.argsort(n[rows], kind="stable")]
        parts = (values[rows] for values in (n, mean, low, high, significant))
        curves.append(_Curve(str(name), *parts))
    return curves


def _range(curves: list[_Curve], lines: list[float]) -> tuple[float, float]:
    seen = np.concatenate([lines, *(np.r_[c.mean, c.low, c.high] for c in curves)])
    low, high = float(np.nanmin(seen)), float(np.nanmax(seen))
    margin = max((high - low) * 0.04, (0.02 - (high - low)) / 2, abs(high) * 1e-6)
    return low - margin, high + margin


def _sign(i: int) -> tuple[str, str]:
    return PALETTE[i % len(PALETTE)]


def _draw(axes: Axes, curve: _Curve, i: int, *, crowded: bool) -> None:
    colour, marker = _sign(i)
    n, mean, low, high = curve.n, curve.mean, curve.low, curve.high
    known = np.isfinite(low) & np.isfinite(high)
    axes.fill_between(
        n, low, high, where=known.tolist(), color=colour, alpha=0.09 if crowded else 0.16, lw=0,
        zorder=1.5,
    )  # fmt: skip
    beside = np.r_[False, known[:-1]] | np.r_[known[1:], False]
    lone = known & ~beside  # a band needs two neighbours; else the interval is a bar
    axes.vlines(n[lone], low[lone], high[lone], color=colour, lw=0.8, alpha=0.5, zorder=1.5)
    axes.plot(n, mean, color=colour, lw=1.1, ls=DASHES[i % len(DASHES)], zorder=2, label=curve.name)
    size = 3.0 if crowded else 3.6
    for rows, face in ((~curve.significant, "white"), (curve.significant, colour)):
        axes.plot(
            n[rows], mean[rows], ls="", marker=marker, ms=size, mec=colour, mew=0.7, mfc=face,
            zorder=3, label="_" + curve.name,
        )  # fmt: skip
