"""Curves over layers: a line, an interval and marks a series, each switched by its class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from math import isfinite

from markupsafe import Markup

from matchlens.report.page.charts.svg import (
    Scale,
    around,
    axes,
    drawing,
    joined,
    mark,
    short,
    spread,
    tag,
    wide,
)

WIDTH, HEIGHT = 720.0, 380.0
TOP, BOTTOM, LEFT = 30.0, 48.0, 46.0
GAP = 14.0
COLOURS = 9
"""Colours of series before they repeat."""


@dataclass(frozen=True)
class Point:
    """A point of a curve: where, its interval (NaN where not known), and what it says."""

    x: float
    y: float
    low: float
    high: float
    tip: str
    filled: bool = True


@dataclass(frozen=True)
class Series:
    """A curve.

    Args:
        name: at its end.
        points: by rising x.
        place: number of its colour and of the class that switches it.
    """

    name: str
    points: tuple[Point, ...]
    place: int


def curves(
    series: Sequence[Series],
    summary: str,
    x_words: str,
    y_words: str,
    *,
    lines: Sequence[tuple[str, float]] = (),
    whole: bool = True,
    width: float = WIDTH,
    height: float = HEIGHT,
    least: float = 0.01,
) -> Markup:
    """Draw curves with their intervals, and lines for comparison.

    Args:
        series: the curves.
        summary: what the chart shows, for those who do not see it.
        x_words: what x counts.
        y_words: what y is.
        lines: name and height of level lines.
        whole: whether x are whole numbers, with a tick each where there is room.
        width: of the drawing.
        height: likewise.
        least: least room above and below.
    """
    series = [replace(s, points=tuple(p for p in s.points if isfinite(p.y))) for s in series]
    series = [one for one in series if one.points]
    points = [point for one in series for point in one.points]
    seen = [value for p in points for value in (p.y, p.low, p.high) if isfinite(value)]
    seen += [value for _, value in lines]
    names = [*(one.name for one in series), *(name for name, _ in lines)]
    right = max((wide(name) for name in names), default=0.0) + 28
    x = Scale(
        min((p.x for p in points), default=0.0),
        max((p.x for p in points), default=1.0),
        LEFT + 8,
        width - right,
    )
    y = Scale(*around(seen, least=least), height - BOTTOM, TOP)
    parts: list[str] = [axes(x, y, x_words, y_words, x_ticks=_x_ticks(x, whole))]
    for name, value in lines:
        parts.append(
            tag("line", x1=x.start - 8, x2=x.end + 6, y1=y(value), y2=y(value),
                class_=f"level {name.partition(' ')[0]}")
        )  # fmt: skip
    ends = [(one.name, y(one.points[-1].y), x(one.points[-1].x), one.place) for one in series]
    ends += [(name, y(value), x.end, -1) for name, value in lines]
    at = spread([end[1] for end in ends], GAP, TOP, height - BOTTOM)
    labels = dict(zip([(end[0], end[3]) for end in ends], at, strict=True))
    for one in series:
        parts.append(_series(one, x, y, x.end + 14, labels[one.name, one.place]))
    for name, value in lines:
        parts.append(_end(name, x.end + 6, y(value), x.end + 14, labels[name, -1], "muted"))
    return drawing(width, height, summary, *parts, kind="curves")


def _x_ticks(x: Scale, whole: bool) -> list[tuple[float, str]]:
    if not whole:
        return x.ticks(6)
    first, last = round(x.low), round(x.high)
    every = 1 if last - first <= 16 else 2 if last - first <= 32 else 5
    return [(float(n), str(n)) for n in range(first, last + 1, every)]


def _series(one: Series, x: Scale, y: Scale, label_x: float, label_y: float) -> Markup:
    colour = f"c{one.place % COLOURS}"
    parts: list[str] = []
    for sure, run in groupby(one.points, key=lambda p: isfinite(p.low) and isfinite(p.high)):
        mine = list(run)
        if not sure:
            continue
        if len(mine) == 1:
            p = mine[0]
            parts.append(tag("line", x1=x(p.x), x2=x(p.x), y1=y(p.low), y2=y(p.high), class_="bar"))
            continue
        up = [f"{short(x(p.x))},{short(y(p.high))}" for p in mine]
        down = [f"{short(x(p.x))},{short(y(p.low))}" for p in reversed(mine)]
        parts.append(tag("polygon", points=" ".join(up + down), class_="band"))
    line = " ".join(f"{short(x(p.x))},{short(y(p.y))}" for p in one.points if isfinite(p.y))
    parts.append(tag("polyline", points=line, class_="line"))
    for p in one.points:
        if isfinite(p.y):
            kind = "dot" if p.filled else "dot hollow"
            parts.append(mark("circle", p.tip, cx=x(p.x), cy=y(p.y), r=4.0, class_=kind))
    last = one.points[-1]
    parts.append(_end(one.name, x(last.x) + 6, y(last.y), label_x, label_y, "name"))
    return tag("g", joined(parts), class_=f"series {colour} s{one.place}")


def _end(name: str, x: float, y: float, label_x: float, label_y: float, kind: str) -> Markup:
    leader = (
        tag("line", x1=x, x2=label_x - 2, y1=y, y2=label_y, class_="leader")
        if abs(label_y - y) > 3 and isfinite(y)
        else Markup("")
    )
    return joined([leader, tag("text", name, x=label_x, y=label_y + 4, class_=f"end-name {kind}")])
