"""The sheet that every figure is laid out on: sizes in points, text measured before it is put."""

from __future__ import annotations

import io
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypedDict

import matplotlib
import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

from matchlens.errors import Brief, InputError, counted
from matchlens.figures.colours import GREY, INK

DPI = 300
SCREEN = 96
"""Dots an inch of a figure in a notebook."""
LEAST = 30.0
"""Height of the inside of axes at least (points)."""
WIDTHS = {"column": 3.35 * 72, "page": 7.0 * 72}
"""Points: one column of a paper and its whole page."""
LEAST_WIDTH, MOST_WIDTH = 144.0, 1440.0
"""Points that a sheet is wide, at least and at most."""
SMALL, NORMAL = 7.0, 8.0
"""Sizes of type in points."""
LINES = 1.1
"""From line to line, in heights of a line."""
EDGE = 3.0
"""Points that stay empty at the sheet's edges."""
MINUS = "\N{MINUS SIGN}"
READS = "X→Y: X reads Y."
BREAKS = (r"(?<=\s)", r"(?<=[\s+])", r"(?<=[\s+→])|(?=[@#~])", r"(?<=[\s+→,])|(?=[@#~])")
"""Where a text may be broken, the better places first."""
_GAP = 9.0
TICK = 5.0
"""Points from an axis to its tick labels: the tick and a gap."""
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


@dataclass(frozen=True, repr=False)
class Mark(Brief):
    """What a page needs to know of an artist.

    Args:
        tips: a text for each of its shapes, in the order in which they are drawn.
        series: the number of its series; a page draws the parts of a series together.
        kind: a class, for the page's style sheet.
    """

    tips: Sequence[str] = ()
    series: int | None = None
    kind: str = ""


class PaperFigure(Figure):
    """A figure that shows itself in a notebook, without ``%matplotlib``, and keeps its caption."""

    caption: str = ""
    """What its signs mean; :func:`render` writes it into the files' metadata."""
    kind, columns, summary = "", 0, ""
    """For a page: a class, the marks in a row of a grid, and a sentence for screen readers."""
    marks: Mapping[str, Mark] = MappingProxyType({})
    """What a page needs to know of the artists, by their group ids."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        stream, dots = io.BytesIO(), 2 * SCREEN
        with style():
            self.savefig(stream, format="png", dpi=dots)
        width, height = self.get_size_inches() * SCREEN
        return stream.getvalue(), {"width": round(width), "height": round(height)}


class Look(TypedDict, total=False):
    """What every figure can be asked for.

    Args:
        title: above the figure; none by default.
        width: ``column`` (3.35 inch, the default), ``page`` (7 inch), or 144 to 1440 points.
        caption: whether the sentences that explain the signs stand below the figure; by default
            they are only its attribute ``caption``, for the caption of the paper.
        ax: axes to draw into, in place of a sheet of the figure's own: all that belongs to the
            figure stands inside their rectangle, which shrinks to make room.
    """

    title: str
    width: str | float
    caption: bool
    ax: Axes | None


Drawing = Callable[..., Figure]
"""A figure of a study, drawn when it is called; takes what :class:`Look` has."""


class Page:
    """A sheet of a given width that grows downwards; all lengths are points (1/72 inch).

    Args: see :class:`Look`.

    Raises:
        InputError: if the width is unknown, or ``ax`` are no axes.
    """

    def __init__(
        self, *, title: str = "", width: str | float = "column", caption: bool = False,
        ax: Axes | None = None,
    ) -> None:  # fmt: skip
        points = WIDTHS.get(width) if isinstance(width, str) else float(width)
        if points is None or not LEAST_WIDTH <= points <= MOST_WIDTH:
            raise InputError(f"width {width!r} is not known; expected one of {', '.join(WIDTHS)}")
        if ax is not None and not isinstance(ax, Axes):
            raise InputError(
                f"ax is {type(ax).__name__}; expected matplotlib axes: give ax=figure.subplots()"
            )
        self._given, self._captioned, self.title = ax, caption, title
        self.figure: Figure
        self._left = self._bottom = 0.0
        self.height: float | None = None
        self.wide = points > (WIDTHS["column"] + WIDTHS["page"]) / 2
        self.marks: dict[str, Mark] = {}
        if ax is None:
            self.width = points
            size = (self.width / 72, self.width / 72)
            figure = PaperFigure(figsize=size, dpi=DPI, facecolor="white")
            figure.marks, self.figure = self.marks, figure
            FigureCanvasAgg(self.figure)
        else:
            self.figure = ax.figure.figure if isinstance(ax.figure, SubFigure) else ax.figure
            box = ax.get_window_extent().transformed(self.figure.dpi_scale_trans.inverted())
            self._left, self._bottom, self.width, self.height = (
                72 * float(side) for side in box.bounds
            )
            self.wide = bool(self.width > (WIDTHS["column"] + WIDTHS["page"]) / 2)
        self._canvas = FigureCanvasAgg(Figure(dpi=DPI))

    def mark(
        self,
        artist: Artist,
        tips: Sequence[str] | np.ndarray = (),
        series: int | None = None,
        kind: str = "",
    ) -> None:
        """Say what a page needs to know of an artist; see :class:`Mark`."""
        name = f"mark-{len(self.marks)}"
        artist.set_gid(name)
        self.marks[name] = Mark(list(tips), series, kind)

    def describe(self, kind: str, summary: str, columns: int = 0) -> None:
        """Say what a page needs to know of the figure; see :class:`PaperFigure`."""
        if isinstance(self.figure, PaperFigure):
            self.figure.kind, self.figure.summary, self.figure.columns = kind, summary, columns

    def measure(self, text: str, size: float) -> tuple[float, float]:
        """Width and height of a text, of several lines where it has line breaks."""
        shown = Text(0, 0, text, fontsize=size, linespacing=LINES, figure=self._canvas.figure)
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
        self, ends: tuple[float, float], length: float, count: int, *, over: float,
        sign: bool = True,
    ) -> tuple[list[float], list[str]]:  # fmt: skip
        """Round numbers for a horizontal axis, at most so many that their labels keep apart.

        Args:
            ends: the axis' first and last number.
            length: its length (points).
            count: how many spaces between ticks at most.
            over: how far a label may stand out beyond the axis' ends (points).
            sign: whether positive numbers have a plus.
        """
        low, high = ends
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

    def frame(self, label: str, note: str, *, below: float = 0.0) -> None:
        """Reserve what stands above and below the axes: title, label of the x axis, caption.

        Args:
            label: of the x axis, in words.
            note: the caption, what the signs mean.
            below: height of what else stands between the label and the caption (points).
        """
        inner, caption = self.width - 2 * EDGE, arrows(note)
        if isinstance(self.figure, PaperFigure):
            self.figure.caption = caption
        self._title = self.wrap(arrows(self.title), inner, NORMAL)
        self._label = self.wrap(label, inner, NORMAL)
        self._note = self.wrap(caption, inner, SMALL) if self._captioned else ""
        gaps = [
            self.measure(text, size)[1] + 4.0 if text else 0.0
            for text, size in ((self._title, NORMAL), (self._label, NORMAL), (self._note, SMALL))
        ]
        self.top = EDGE + max(gaps[0], 2.0)
        """Points above the axes."""
        self.extra = EDGE + gaps[2]
        """Where what else there is begins, seen from below."""
        self._label_at = self.extra + below
        self.bottom = self._label_at + gaps[1] - 2.0 + self.measure("0", SMALL)[1] + TICK
        """Points below the axes."""

    def grow(self, inner: float, least: float = LEAST) -> float:
        """Set the sheet's height, before anything is put on it.

        Args:
            inner: the height that the axes would have.
            least: the height that they need at least.

        Returns:
            The height that the axes get: as asked, or what given axes leave.
        """
        if self.height is None:
            self.height = self.bottom + inner + self.top
            self.figure.set_size_inches(self.width / 72, self.height / 72)
            return inner
        room = self.height - self.bottom - self.top
        if room < least:
            raise InputError(
                f"the axes given as ax are {self.height:.0f} points high, which leaves {room:.0f} "
                f"to draw in; expected {least:.0f} or more: make the figure larger"
            )
        return room

    def place(self, x: float, y: float) -> tuple[float, float]:
        """A place on the sheet as parts of the whole figure."""
        width, height = self.figure.get_size_inches() * 72
        return (x + self._left) / width, (y + self._bottom) / height

    def axes(self, left: float, bottom: float, width: float, height: float) -> Axes:
        """Axes at a place, without frame at the top and on the right."""
        (x, y), (far, up) = self.place(left, bottom), self.place(left + width, bottom + height)
        axes, self._given = self._given, None
        if axes is None:
            axes = self.figure.add_axes((x, y, far - x, up - y))
        else:
            axes.set_position((x, y, far - x, up - y))
            axes.tick_params(
                labelsize=SMALL, length=2.5, pad=2.5, width=0.6, color=GREY, labelcolor=INK
            )
        axes.spines[["top", "right"]].set_visible(False)
        return axes

    def text(self, x: float, y: float, text: str, **how: object) -> Text:
        """Put a text at a place."""
        return self.figure.text(*self.place(x, y), text, linespacing=LINES, **how)  # type: ignore[arg-type]

    def line(self, xs: Sequence[float], ys: Sequence[float], **how: object) -> Artist:
        """Draw a line from place to place."""
        x, y = zip(*map(self.place, xs, ys), strict=True)
        line = Line2D(x, y, transform=self.figure.transFigure, **how)  # type: ignore[arg-type]
        return self.figure.add_artist(line)

    def finish(self, axes: Axes, centre: float) -> Figure:
        """Put title, caption and the x axis' label, centred as far as the sheet's edges allow."""
        if self._title:
            self.text(EDGE, (self.height or 0) - EDGE, self._title, va="top", fontsize=NORMAL)
        if self._note:
            self.text(EDGE, EDGE, self._note, va="bottom", fontsize=SMALL, color=GREY)
        half = self.measure(self._label, NORMAL)[0] / 2
        x = min(max(centre, EDGE + half), self.width - EDGE - half)
        axes.set_xlabel(self._label, va="bottom", fontsize=NORMAL, linespacing=LINES)
        at = self.place(x, self._label_at)
        axes.xaxis.set_label_coords(*at, transform=self.figure.transFigure)
        return self.figure

    def y_label(self, axes: Axes, words: str, middle: float) -> None:
        """Label the y axis at the sheet's left edge, centred on a height."""
        axes.set_ylabel(
            words, rotation=90, rotation_mode="default", va="center", ha="left", fontsize=NORMAL,
            linespacing=LINES, multialignment="center",
        )  # fmt: skip
        at = self.place(EDGE, middle)
        axes.yaxis.set_label_coords(*at, transform=self.figure.transFigure)


def arrows(text: str) -> str:
    """A cut as a person reads it: ``Q->D`` with an arrow."""
    return text.replace("->", "→")


def required(table: pd.DataFrame, columns: Sequence[str], key: Sequence[str], what: str) -> None:
    """Refuse a table without rows or a column, or with two rows for one key."""
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
        of = ", ".join(f"{name} {value}" for name, value in zip(key, row, strict=True))
        raise InputError(
            f"the table for {what} has several rows for {of}; expected one row for each"
        )


def numbers(table: pd.DataFrame, column: str, *, known: bool = True) -> Float[np.ndarray, " rows"]:
    """A column as numbers."""
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


def tips(table: pd.DataFrame) -> np.ndarray:
    """The texts of the rows' marks on a page: the column ``tip``; empty where there is none."""
    return np.array(table["tip"] if "tip" in table else [""] * len(table), dtype=object)


def integers(table: pd.DataFrame, column: str) -> Int[np.ndarray, " rows"]:
    """A column as whole numbers from 0."""
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
    return f" Left out: {counted(number, 'head')} without {what}." if number else ""


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers between two numbers, with at most that many spaces between them."""
    places = MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    slack = (high - low) * 1e-9
    return [float(tick) for tick in places if low - slack <= tick <= high + slack]


def reach(values: Float[np.ndarray, " n"], margin: float) -> tuple[float, float]:
    """An axis' ends: all values with a margin, and 0 where that takes little room."""
    values = values[np.isfinite(values)]
    if not values.any():  # none, or zeros alone: no room around them has a meaning
        return -1.0, 1.0
    low, high = float(values.min()), float(values.max())
    if high <= low or max(high, 0.0) - min(low, 0.0) <= 1.5 * (high - low):
        low, high = min(low, 0.0), max(high, 0.0)
    room = max((high - low) * margin, max(abs(low), abs(high)) * 1e-6, 1e-9)
    return low - room, high + room


@dataclass(frozen=True)
class Key:
    """Names with their signs above the axes, in as many lines as they need.

    Args:
        page: the sheet.
        names: the names, as they are shown.
        places: where each sign begins, and its line.
        line: a line's height (points).
        sign: from a sign's left edge to its name (points).
    """

    page: Page
    names: list[str]
    places: list[tuple[float, int]]
    line: float
    sign: float

    @classmethod
    def lay(cls, page: Page, names: list[str], left: float, across: float, sign: float) -> Key:
        """Find each name's place, above axes that begin at ``left``; the sheet makes room."""
        names = [page.wrap(arrows(name), page.width / 2, SMALL) for name in names]
        sizes = [page.measure(name, SMALL) for name in names]
        wide = [sign + size[0] for size in sizes]
        if sum(wide) + _GAP * (len(wide) - 1) > across:
            left, across = EDGE, page.width - 2 * EDGE
        placed: list[tuple[float, int]] = []
        x, line = left, 0
        for needed in wide:
            if placed and x + needed > left + across:
                x, line = left, line + 1
            placed.append((x, line))
            x += needed + _GAP
        key = cls(page, names, placed, max(size[1] for size in sizes) + 1.0, sign)
        page.top += key.line * (line + 1) + 3.0
        return key

    def write(self, bottom: float) -> Iterator[tuple[float, float]]:
        """Write the names above the axes' top edge; yields the place of each name's sign."""
        lines = self.places[-1][1] + 1
        for name, (x, line) in zip(self.names, self.places, strict=True):
            y = bottom + 3.0 + self.line * (lines - line - 0.5)
            yield x, y
            if "\n" in name:
                self.page.text(x + self.sign, y, name, va="center", fontsize=SMALL)
            else:
                at = y - 0.36 * SMALL  # all names of a line on one baseline
                self.page.text(x + self.sign, at, name, va="baseline", fontsize=SMALL)
