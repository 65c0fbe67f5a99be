"""Charts of rows: intervals beside a name, shares stacked, strips of dots, distributions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, isnan

from markupsafe import Markup

from matchlens.report.page.charts.svg import (
    Scale,
    around,
    drawing,
    joined,
    mark,
    short,
    tag,
    wide,
)

WIDTH = 720.0
TOP, BOTTOM = 12.0, 44.0


@dataclass(frozen=True)
class Whisker:
    """A number with its interval in a row, in a named kind's colour and shape."""

    value: float
    low: float
    high: float
    kind: int
    tip: str
    filled: bool = True


def whiskers(
    rows: Sequence[tuple[str, Sequence[Whisker]]],
    summary: str,
    x_words: str,
    *,
    width: float = WIDTH,
) -> Markup:
    """Draw numbers with their intervals, a row for each name, around a line at zero.

    Args:
        rows: a name with its numbers.
        summary: what the chart shows, for those who do not see it.
        x_words: what the numbers are.
        width: of the drawing.
    """
    every = [one for _, some in rows for one in some]
    seen = [v for one in every for v in (one.value, one.low, one.high) if isfinite(v)]
    most = max((len(some) for _, some in rows), default=1)
    tall = most * 11.0 + 12.0
    left = max((wide(name) for name, _ in rows), default=24.0) + 16
    height = TOP + tall * len(rows) + BOTTOM
    x = Scale(*around([*seen, 0.0], least=0.001), left, width - 12)
    parts: list[str] = [_x_axis(x, TOP, height - BOTTOM, x_words)]
    for place, (name, some) in enumerate(rows):
        top = TOP + place * tall
        parts.append(tag("text", name, x=left - 10, y=top + tall / 2 + 4, class_="row-name end"))
        if place:
            parts.append(tag("line", x1=left, x2=x.end, y1=top, y2=top, class_="grid"))
        for k, one in enumerate(some):
            y = top + tall / 2 + (k - (len(some) - 1) / 2) * 11.0
            parts.append(_whisker(one, x, y))
    return drawing(width, height, summary, *parts, kind="rows")


def _whisker(one: Whisker, x: Scale, y: float) -> Markup:
    inside: list[str] = []
    if isfinite(one.low) and isfinite(one.high):
        inside.append(tag("line", x1=x(one.low), x2=x(one.high), y1=y, y2=y, class_="bar"))
    if isfinite(one.value):
        kind = "dot" if one.filled else "dot hollow"
        inside.append(tag("circle", cx=x(one.value), cy=y, r=4.0, class_=kind))
    return mark("g", one.tip, *inside, class_=f"m series c{one.kind}")


def _x_axis(x: Scale, top: float, bottom: float, words: str) -> Markup:
    parts: list[str] = []
    for value, label in x.ticks(6):
        parts += [
            tag("line", x1=x(value), x2=x(value), y1=top, y2=bottom, class_="grid"),
            tag("text", label, x=x(value), y=bottom + 16, class_="tick mid"),
        ]
    if x.low < 0 < x.high:
        parts.append(tag("line", x1=x(0.0), x2=x(0.0), y1=top, y2=bottom, class_="zero"))
    middle = (x.start + x.end) / 2
    parts.append(tag("text", words, x=middle, y=bottom + 36, class_="label mid"))
    return joined(parts)


def strips(
    rows: Sequence[tuple[str, float, Sequence[float], str]], summary: str, x_words: str
) -> Markup:
    """Draw a named number among many random ones, a row for each name.

    Args:
        rows: name, its number, the random numbers, and what the named one says.
        summary: what the chart shows, for those who do not see it.
        x_words: what the numbers are.
    """
    tall = 40.0
    left = max((wide(row[0]) for row in rows), default=24.0) + 16
    seen = [v for _, own, some, _ in rows for v in (own, *some) if isfinite(v)]
    height = TOP + tall * len(rows) + BOTTOM
    x = Scale(*around([*seen, 0.0], least=0.001), left, WIDTH - 12)
    parts: list[str] = [_x_axis(x, TOP, height - BOTTOM, x_words)]
    for place, (name, own, some, tip) in enumerate(rows):
        middle = TOP + (place + 0.5) * tall
        parts.append(tag("text", name, x=left - 10, y=middle + 4, class_="row-name end"))
        for k, value in enumerate(sorted(v for v in some if isfinite(v))):
            y = middle + (k * 7 % 11 - 5) * 1.7  # apart, so that equal ones show
            parts.append(tag("circle", cx=x(value), cy=y, r=2.2, class_="random"))
        if isfinite(own):
            a, b = short(x(own)), short
            points = f"{a},{b(middle - 9)} {b(x(own) + 7)},{b(middle)} {a},{b(middle + 9)}"
            shape = f"{points} {b(x(own) - 7)},{b(middle)}"
            parts.append(mark("polygon", tip, points=shape, class_="named"))
    return drawing(WIDTH, height, summary, *parts, kind="rows")


@dataclass(frozen=True)
class Part:
    """A share in a row's bar: its number, its kind's colour, and what it says."""

    value: float
    kind: int
    tip: str


def stacked(rows: Sequence[tuple[str, Sequence[Part]]], summary: str, x_words: str) -> Markup:
    """Draw shares as bars, positive ones to the right of zero, negative ones to the left.

    Args:
        rows: a name with its shares; an empty name starts a group.
        summary: what the chart shows, for those who do not see it.
        x_words: what the shares are of.
    """
    ends = [0.0, 1.0]
    for _, some in rows:
        ends.append(sum(one.value for one in some if one.value > 0))
        ends.append(sum(one.value for one in some if one.value < 0))
    tall = 20.0
    left = max((wide(name) for name, _ in rows), default=24.0) + 16
    height = TOP + tall * len(rows) + BOTTOM
    x = Scale(min(ends) - 0.01, max(ends) + 0.01, left, WIDTH - 12)
    parts: list[str] = [_x_axis(x, TOP, height - BOTTOM, x_words)]
    for place, (name, some) in enumerate(rows):
        top = TOP + place * tall
        parts.append(tag("text", name, x=left - 10, y=top + tall / 2 + 4, class_="row-name end"))
        right = down = 0.0
        for one in some:
            if isnan(one.value):
                continue
            start = right if one.value >= 0 else down + one.value
            bar = tag(
                "rect",
                x=x(start),
                y=top + 3,
                width=max(x(start + abs(one.value)) - x(start), 0.2),
                height=tall - 6,
                class_="share",
            )
            parts.append(mark("g", one.tip, bar, class_=f"m series c{one.kind}"))
            if one.value >= 0:
                right += one.value
            else:
                down += one.value
    return drawing(WIDTH, height, summary, *parts, kind="rows")


def distribution(
    classes: Sequence[tuple[str, Sequence[float]]],
    low: float,
    high: float,
    title: str,
    summary: str,
    *,
    width: float = 230.0,
    height: float = 136.0,
) -> Markup:
    """Draw overlaid histograms of one head, a step line a class, the first one filled.

    Args:
        classes: a name with the share of its pairs in each bin.
        low: the first bin's lower end.
        high: the last bin's upper end.
        title: above the chart.
        summary: what the chart shows, for those who do not see it.
        width: of the drawing.
        height: likewise.
    """
    top = max((value for _, some in classes for value in some), default=0.0) or 1.0
    x = Scale(low, high, 8.0, width - 10)
    y = Scale(0.0, top, height - 22, 24.0)
    parts: list[str] = [tag("text", title, x=8.0, y=13.0, class_="label")]
    for value, label in x.ticks(4):
        parts.append(tag("text", label, x=x(value), y=height - 7, class_="tick mid"))
    parts.append(tag("line", x1=x.start, x2=x.end, y1=y.start, y2=y.start, class_="axis"))
    for place, (_, some) in enumerate(classes):
        each = (high - low) / max(len(some), 1)
        corners = [(low, 0.0)]
        for k, value in enumerate(some):
            corners += [(low + k * each, value), (low + (k + 1) * each, value)]
        corners.append((high, 0.0))
        points = " ".join(f"{short(x(a))},{short(y(b))}" for a, b in corners)
        parts.append(tag("polyline", points=points, class_=f"steps k{place}"))
    inside = joined(parts)
    return drawing(width, height, summary, inside, kind="distribution")
