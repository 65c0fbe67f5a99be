"""The sheet that every figure is laid out on: sizes in points, text measured before it is put."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

from matchlens.errors import InputError

DPI = 300
WIDTHS = {"column": 3.35 * 72, "page": 7.0 * 72}
"""Points: one column of a paper and its whole page."""
SMALL, NORMAL = 7.0, 8.0
"""Sizes of type in points."""
LINES = 1.1
"""From line to line, in heights of a line."""
INK, GREY, PALE = "#1a1a1a", "#666666", "#d9d9d9"
EDGE = 3.0
"""Points that stay empty at the sheet's edges."""
MINUS = "\N{MINUS SIGN}"
READS = "X→Y: X reads Y."
BREAKS = (
    r"(?<=\s)",
    r"(?<=[\s+])",
    r"(?<=[\s+→])|(?=[@#~])",
    r"(?<=[\s+→,])|(?=[@#~])",
)
"""Where a text may be broken, the better places first."""
_GAP = 9.0
TICK = 5.0
"""Points from an axis to its tick labels: the tick and a gap."""
PALETTE = (
    ("#332288", "o"),
    ("#CC6677", "s"),
    ("#117733", "^"),
    ("#AA4499", "D"),
    ("#3E9BC4", "v"),
    ("#882255", "P"),
    ("#999933", "X"),
    ("#44AA99", "<"),
    ("#A67C00", ">"),
)
"""Colours that colour-blind readers tell apart (after Paul Tol's muted scheme, its two palest
darkened), each with a marker for those who print in grey."""
DASHES: tuple[tuple[int, tuple[float, ...]], ...] = (
    (0, ()),
    (0, (5, 1.2)),
    (0, (2.5, 1)),
    (0, (6, 1, 1, 1)),
    (0, (1, 0.8)),
)

_SETTINGS: dict[Any, Any] = {
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": SMALL,
    "text.color": INK,
    "text.parse_math": False,
    "text.usetex": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.labelsize": NORMAL,
    "axes.labelpad": 2.0,
    "axes.linewidth": 0.6,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.pad": 2.5,
    "ytick.major.pad": 2.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "hatch.linewidth": 0.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "matchlens",
    "pdf.fonttype": 42,
}


@contextmanager
def style() -> Iterator[None]:
    """matplotlib's own defaults and this package's settings, whatever the caller has set."""
    keep = ("backend", "interactive", "toolbar", "webagg", "timezone")
    defaults: dict[Any, Any] = {
        name: value
        for name, value in matplotlib.rcParamsDefault.items()
        if not name.startswith(keep)
    }
    with matplotlib.rc_context(defaults | _SETTINGS):
        yield


class Page:
    """A sheet of a given width that grows downwards; all lengths are points (1/72 inch).

    Args:
        width: ``column`` (3.35 inch) or ``page`` (7 inch).

    Raises:
        InputError: if the width is neither.
    """

    def __init__(self, width: str) -> None:
        if width not in WIDTHS:
            raise InputError(f"width {width!r} is not known; expected one of {', '.join(WIDTHS)}")
        self.width = WIDTHS[width]
        self.wide = width == "page"
        self.figure = Figure(figsize=(self.width / 72, self.width / 72), dpi=DPI, facecolor="white")
        self._canvas = FigureCanvasAgg(self.figure)

    def measure(self, text: str, size: float) -> tuple[float, float]:
        """Width and height of a text, of several lines where it has line breaks."""
        shown = Text(0, 0, text, fontsize=size, linespacing=LINES, figure=self.figure)
        box = shown.get_window_extent(self._canvas.get_renderer())
        return float(box.width * 72 / DPI), float(box.height * 72 / DPI)

    def widest(self, texts: Sequence[str], size: float) -> float:
        """Width of the widest text; 0 where there is none."""
        return max((self.measure(text, size)[0] for text in texts), default=0.0)

    def wrap(self, text: str, width: float, size: float) -> str:
        """Break a text into lines of at most a width: at spaces, else within words."""
        text = " ".join(text.split())
        for pattern in BREAKS:
            lines = self._fill(re.split(pattern, text), width, size)
            if self.widest(lines, size) <= width:
                return "\n".join(lines)
        return "\n".join(self._fill(list(text), width, size))

    def _fill(self, pieces: Sequence[str], width: float, size: float) -> list[str]:
        lines = [""]
        for piece in pieces:
            longer = lines[-1] + piece
            if lines[-1] and self.measure(longer.rstrip(), size)[0] > width:
                lines.append(piece)
            else:
                lines[-1] = longer
        return [line.rstrip() for line in lines]

    def ticks(
        self, low: float, high: float, length: float, count: int, *, over: float, sign: bool = True
    ) -> tuple[list[float], list[str]]:
        """Round numbers for a horizontal axis, at most so many that their labels keep apart.

        Args:
            low: the axis' first number.
            high: its last number.
            length: its length (points).
            count: how many spaces between ticks at most.
            over: how far a label may stand out beyond the axis' ends (points).
            sign: whether positive numbers have a plus.
        """
        best: tuple[list[float], list[str]] = ([], [])
        for number in range(count, 0, -1):
            values = ticks(low, high, number)
            labels = written(values, sign=sign)
            at = [(value - low) / (high - low) * length for value in values]
            half = [self.measure(label, SMALL)[0] / 2 for label in labels]
            whole = zip(values, labels, at, half, strict=True)
            kept = [k for k in whole if -over <= k[2] - k[3] and k[2] + k[3] <= length + over]
            best = [k[0] for k in kept], [k[1] for k in kept]
            if all(b[2] - b[3] - a[2] - a[3] >= 4.0 for a, b in itertools.pairwise(kept)):
                break
        return best

    def grow(self, height: float) -> None:
        """Set the sheet's height, before anything is put on it."""
        self.height = height
        self.figure.set_size_inches(self.width / 72, height / 72)

    def axes(self, left: float, bottom: float, width: float, height: float) -> Axes:
        """Axes at a place, without frame at the top and on the right."""
        w, h = self.width, self.height
        axes = self.figure.add_axes((left / w, bottom / h, width / w, height / h))
        axes.spines[["top", "right"]].set_visible(False)
        return axes

    def text(self, x: float, y: float, text: str, **how: object) -> Text:
        """Put a text at a place."""
        at_x, at_y = x / self.width, y / self.height
        return self.figure.text(at_x, at_y, text, linespacing=LINES, **how)  # type: ignore[arg-type]

    def line(self, xs: Sequence[float], ys: Sequence[float], **how: object) -> None:
        """Draw a line from place to place."""
        x, y = np.asarray(xs) / self.width, np.asarray(ys) / self.height
        line = Line2D(x, y, transform=self.figure.transFigure, **how)  # type: ignore[arg-type]
        self.figure.add_artist(line)


class Frame:
    """What stands above and below a figure's axes: title, label of the x axis, footnote.

    Args:
        page: the sheet.
        title: above the axes, wrapped to the sheet; may be empty.
        label: of the x axis, in words.
        note: below, what the signs mean.
        extra: height of what else stands between the label and the footnote (points).
    """

    def __init__(
        self, page: Page, title: str, label: str, note: str, *, extra: float = 0.0
    ) -> None:
        self.page = page
        inner = page.width - 2 * EDGE
        self.title = page.wrap(arrows(title), inner, NORMAL)
        self.label = page.wrap(label, inner, NORMAL)
        self.note = page.wrap(note, inner, SMALL)
        gaps = [
            page.measure(text, size)[1] + 4.0 if text else 0.0
            for text, size in ((self.title, NORMAL), (self.label, NORMAL), (self.note, SMALL))
        ]
        self.top = EDGE + max(gaps[0], 2.0)
        """Points above the axes."""
        self.extra = EDGE + gaps[2]
        """Where what else there is begins, seen from below."""
        self._label_at = self.extra + extra
        self.bottom = self._label_at + gaps[1] - 2.0 + page.measure("0", SMALL)[1] + TICK
        """Points below the axes."""

    def draw(self, centre: float) -> None:
        """Put the texts; the label is centred on a place, as far as the sheet's edges allow."""
        page = self.page
        if self.title:
            page.text(EDGE, page.height - EDGE, self.title, va="top", fontsize=NORMAL)
        page.text(EDGE, EDGE, self.note, va="bottom", fontsize=SMALL, color=GREY)
        half = page.measure(self.label, NORMAL)[0] / 2
        x = min(max(centre, EDGE + half), page.width - EDGE - half)
        page.text(x, self._label_at, self.label, va="bottom", ha="center", fontsize=NORMAL)


def arrows(text: str) -> str:
    """A cut as a person reads it: ``Q->D`` with an arrow."""
    return text.replace("->", "→")


def required(table: pd.DataFrame, columns: Sequence[str], key: Sequence[str], what: str) -> None:
    """Check a table before it is drawn.

    Raises:
        InputError: if it has no rows, lacks a column, or says two things of one key.
    """
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise InputError(
            f"the table for {what} has no column {', '.join(map(repr, missing))}; "
            f"expected {', '.join(columns)}"
        )
    if len(table) == 0:
        raise InputError(f"the table for {what} has no rows; expected one for every {key[-1]}")
    twice = table.duplicated(list(key)).to_numpy(dtype=bool)
    if twice.any():
        row = table[list(key)].to_numpy()[twice][0]
        said = ", ".join(f"{name} {value}" for name, value in zip(key, row, strict=True))
        raise InputError(
            f"the table for {what} has several rows for {said}; expected one row for each"
        )


def numbers(table: pd.DataFrame, column: str, *, known: bool = True) -> Float[np.ndarray, " rows"]:
    """A column as numbers.

    Args:
        table: the table.
        column: the column's name.
        known: whether every number must be known (no NaN, no infinity).

    Raises:
        InputError: if it holds something else, or nothing where a number must be.
    """
    try:
        values = table[column].to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"column {column!r} holds no numbers ({error}); expected a number in every row"
        ) from None
    if known and not np.isfinite(values).all():
        raise InputError(
            f"column {column!r} has NaN or infinity in row {int(np.argmin(np.isfinite(values)))}; "
            "expected a number in every row"
        )
    return values


def integers(table: pd.DataFrame, column: str) -> Int[np.ndarray, " rows"]:
    """A column as whole numbers from 0.

    Raises:
        InputError: if it holds something else.
    """
    values = numbers(table, column)
    if (values < 0).any() or (values != np.floor(values)).any():
        raise InputError(
            f"column {column!r} has negative or broken numbers; expected whole numbers from 0"
        )
    return values.astype(np.int64)


def written(values: Sequence[float], *, sign: bool = False) -> list[str]:
    """Numbers as papers print them: .81; all with the digits that the finest needs.

    >>> written([0.0, 0.25, 1.0]), written([-0.05, 0.0, 0.05], sign=True)
    (['0', '.25', '1.00'], ['−.05', '0', '+.05'])
    """
    digits = 0
    while digits < 9 and any(abs(round(x, digits) - x) > 1e-6 * abs(x) for x in values):
        digits += 1
    out = []
    for value in values:
        if math.isclose(value, 0.0, abs_tol=10.0 ** -(digits + 1)):
            out.append("0")
            continue
        text = f"{abs(value):.{digits}f}"
        text = text[1:] if text.startswith("0.") else text
        out.append((MINUS if value < 0 else "+" if sign else "") + text)
    return out


def unit(*values: float) -> tuple[float, str]:
    """The power of ten that very small or large numbers of one axis are given in, and its words.

    >>> unit(-0.02, 0.3), unit(-2e-5, 3e-6), unit(4e7), unit(0.0)
    ((1.0, ''), (1e-06, ', in 10⁻⁶'), (1000000.0, ', in 10⁶'), (1.0, ''))
    """
    size = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if size == 0.0 or 1e-3 <= size < 1e5:
        return 1.0, ""
    power = max(3 * math.floor(math.log10(size) / 3), -300)
    raised = str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return float(f"1e{power}"), f", in 10{raised}"


def left_out(number: int, what: str) -> str:
    """The sentence that says how many heads are not drawn, and why; empty where all are.

    >>> left_out(0, "a number"), left_out(1, "a number"), left_out(2, "numbers")
    ('', ' Left out: 1 head without a number.', ' Left out: 2 heads without numbers.')
    """
    return f" Left out: {number} head{'s' * (number > 1)} without {what}." if number else ""


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers between two numbers, with at most that many spaces between them."""
    found = MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    slack = (high - low) * 1e-9
    return [float(tick) for tick in found if low - slack <= tick <= high + slack]


@dataclass(frozen=True)
class Entry:
    """One name in the key: the place of its sign, and its line."""

    name: str
    x: float
    line: int


def key(
    page: Page, names: list[str], left: float, across: float, *, sign: float = 7.0
) -> tuple[list[Entry], float]:
    """Where each name stands above the axes, in as many lines as they need.

    Args:
        page: the sheet.
        names: the names, none wider than the sheet.
        left: where the axes begin.
        across: the axes' width; a key that is wider begins at the sheet's edge.
        sign: from a sign's left edge to its name (points).

    Returns:
        The entries, and a line's height.
    """
    sizes = [page.measure(name, SMALL) for name in names]
    wide = [sign + size[0] for size in sizes]
    if sum(wide) + _GAP * (len(wide) - 1) > across:
        left, across = EDGE, page.width - 2 * EDGE
    entries: list[Entry] = []
    x, line = left, 0
    for name, needed in zip(names, wide, strict=True):
        if entries and x + needed > left + across:
            x, line = left, line + 1
        entries.append(Entry(name, x, line))
        x += needed + _GAP
    return entries, max(size[1] for size in sizes) + 1.0


def write(page: Page, entry: Entry, x: float, y: float) -> None:
    """Put an entry's name beside its sign: all names on one line's baseline, long ones centred."""
    if "\n" in entry.name:
        page.text(x, y, entry.name, va="center", fontsize=SMALL)
    else:
        page.text(x, y - 0.36 * SMALL, entry.name, va="baseline", fontsize=SMALL)
