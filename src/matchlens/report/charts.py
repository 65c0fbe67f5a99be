"""The page's charts as inline SVG: colours are classes, so that the style sheet has light and dark.

Each chart draws the same rows as its counterpart in ``matchlens.figures``, with a ``tip`` for every
mark. Scales, ticks, the choice of named heads and the placing of labels are those of the figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import isfinite, isnan

import numpy as np
from markupsafe import Markup

from matchlens.figures import labels
from matchlens.figures.page import places as meanings
from matchlens.figures.page import ticks, written
from matchlens.report.table import Row, short, tag
from matchlens.report.texts import arrow, known, num, number

STEPS = 8
"""Colours on each side of zero."""
CHAR = 6.3
"""A character's width at the charts' size of type, about (px)."""
WIDTH = 720.0
SIDE = 348.0
"""Width of a map: what a phone shows without scrolling."""
_GAP = 14.0


def wide(text: str) -> float:
    """Estimate a text's width (px)."""
    return (len(text) + text.count("→")) * CHAR


def joined(parts: Sequence[str]) -> Markup:
    """Join elements."""
    return Markup("").join(parts)


def drawing(
    size: tuple[float, float], summary: str, parts: Sequence[str], kind: str, columns: int = 0
) -> Markup:
    """Make an SVG with its summary for those who do not see it.

    Args:
        size: its width and height (px).
        summary: what it shows, as one text.
        parts: its elements.
        kind: a class.
        columns: marks in a row, for the arrow keys; 0 where marks stand in no grid.
    """
    return tag(
        "svg",
        *parts,
        class_=f"chart {kind}",
        viewBox=f"0 0 {short(size[0])} {short(size[1])}",
        width=size[0],
        height=size[1],
        role="group",
        aria_label=summary,
        data_columns=columns or None,
    )


def mark(name: str, tip: object, *inside: str, **attributes: object) -> Markup:
    """Make an element that explains itself by its title; the script gives it a role."""
    return tag(name, tag("title", str(tip)), *inside, **attributes)


@dataclass(frozen=True)
class Scale:
    """Numbers to places.

    >>> Scale(0.0, 10.0, 100.0, 200.0)(2.5)
    125.0
    """

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Place a number."""
        span = (self.high - self.low) or 1.0
        return self.start + (value - self.low) / span * (self.end - self.start)

    def ticks(self, count: int) -> list[tuple[float, str]]:
        """Return round numbers with their labels."""
        values = ticks(self.low, self.high, count)
        return list(zip(values, written(values), strict=True))


def around(
    values: Sequence[float], margin: float = 0.06, least: float = 1e-9
) -> tuple[float, float]:
    """Return a range that holds all numbers, with room at both ends."""
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    room = max((high - low) * margin, least, abs(high) * 1e-6)
    return low - room, high + room


def step(value: float, most: float, steps: int = STEPS) -> str:
    """Return the colour class of a number: ``n8`` (lowest) to ``z`` to ``p8``.

    >>> step(0.0, 1.0), step(-1.0, 1.0), step(0.3, 1.0), step(float("nan"), 1.0)
    ('z', 'n8', 'p2', 'u')
    """
    if isnan(value):
        return "u"
    place = round(min(abs(value) / most, 1.0) * steps) if most > 0 else 0
    return "z" if place == 0 else f"{'n' if value < 0 else 'p'}{place}"


def level(value: float, most: float, steps: int = 9) -> str:
    """Return the colour class of a number that is never negative: ``t0`` to ``t9``.

    >>> level(0.0, 1.0), level(1.0, 1.0), level(0.5, 1.0), level(0.001, 1.0)
    ('t0', 't9', 't5', 't1')
    """
    if isnan(value):
        return "u"
    if value <= 0 or most <= 0:
        return "t0"
    return f"t{min(max(int(value / most * steps + 0.5), 1), steps)}"


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move labels apart so that neighbours keep a gap, as the figures do; order is kept.

    >>> spread([50.0, 11.0, 10.0], 12.0, 0.0, 100.0)
    [50.0, 16.5, 4.5]
    """
    if not places:
        return []
    order = np.argsort(places, kind="stable")
    heights = np.full(len(places), gap)
    out = np.empty(len(places))
    wanted = np.asarray(places, dtype=np.float64)[order]
    out[order] = labels.spread(wanted, heights, low - gap / 2, high + gap / 2)
    return out.tolist()


def _axes(x: Scale, y: Scale, x_words: str, y_words: str, x_ticks: list[tuple[float, str]]) -> list:
    """Grid, tick labels and axis labels; the y label stands above the axis, to be read level."""
    parts: list[str] = []
    for value, label in y.ticks(5):
        at = y(value)
        parts += [
            tag("line", x1=x.start, x2=x.end, y1=at, y2=at, class_="grid"),
            tag("text", label, x=x.start - 8, y=at + 4, class_="tick end"),
        ]
    for value, label in x_ticks:
        at = x(value)
        parts += [
            tag("line", x1=at, x2=at, y1=y.start, y2=y.start + 4, class_="axis"),
            tag("text", label, x=at, y=y.start + 18, class_="tick mid"),
        ]
    return [
        *parts,
        tag("line", x1=x.start, x2=x.end, y1=y.start, y2=y.start, class_="axis"),
        tag("text", x_words, x=(x.start + x.end) / 2, y=y.start + 38, class_="label mid"),
        tag("text", y_words, x=4.0, y=12.0, class_="label"),
    ]


def _scale(left: float, y: float, most: float, digits: int, signed: bool) -> list[str]:
    """A scale of colours, 150 px long."""
    names = [f"t{k}" for k in range(10)]
    ends = [("0", 0.0, ""), (num(most, digits), 150.0, " end")]
    if signed:
        names = [f"n{k}" for k in range(STEPS, 0, -1)] + ["z"]
        names += [f"p{k}" for k in range(1, STEPS + 1)]
        ends = [(num(-most, digits), 0.0, ""), ("0", 75.0, " mid")]
        ends.append((num(most, digits, sign=True), 150.0, " end"))
    each = 150.0 / len(names)
    boxes = [
        tag("rect", x=left + k * each, y=y, width=each + 0.3, height=8.0, class_=f"cell {name}")
        for k, name in enumerate(names)
    ]
    texts = [tag("text", t, x=left + at, y=y + 21, class_=f"tick{kind}") for t, at, kind in ends]
    return [*boxes, *texts]


def curves(
    rows: Sequence[Row],
    x_words: str,
    y_words: str,
    *,
    lines: Sequence[tuple[str, float]] = (),
    size: tuple[float, float] = (WIDTH, 380.0),
) -> Markup:
    """Draw a curve for each series with its intervals, and level lines.

    Args:
        rows: series, layer, value, low, high, tip and, if wanted, significant (else filled).
        x_words: what x counts.
        y_words: what y is.
        lines: name and height of level lines.
        size: width and height (px).
    """
    width, height = size
    places = list(dict.fromkeys(str(r["series"]) for r in rows))
    colours = meanings(places)
    rows = [row for row in rows if isfinite(number(row["value"]))]
    series = {name: [r for r in rows if r["series"] == name] for name in places}
    series = {name: points for name, points in series.items() if points}
    seen = known([row[k] for row in rows for k in ("value", "low", "high")])
    names = [*(arrow(name) for name in series), *(name for name, _ in lines)]
    right = max((wide(name) for name in names), default=0.0) + 28
    layers = [number(row["layer"]) for row in rows] or [0.0, 1.0]
    x = Scale(min(layers), max(layers), 54.0, width - right)
    y = Scale(*around([*seen, *(v for _, v in lines)], least=0.01), height - 48.0, 30.0)
    last = {name: points[-1] for name, points in series.items()}
    heights = [y(number(row["value"])) for row in last.values()] + [y(value) for _, value in lines]
    at = spread(heights, _GAP, y.end, y.start)
    first, final = round(x.low), round(x.high)
    every = 1 if final - first <= 16 else 2 if final - first <= 32 else 5
    x_ticks = [(float(n), str(n)) for n in range(first, final + 1, every)]
    parts: list[str] = _axes(x, y, x_words, y_words, x_ticks)
    for name, value in lines:
        kind = f"level {name.partition(' ')[0]}"
        parts.append(tag("line", x1=x.start - 8, x2=x.end + 6, y1=y(value), y2=y(value),
                         class_=kind))  # fmt: skip
    for (name, points), label in zip(series.items(), at, strict=False):
        drawn = _curve(points, x, y)
        end = x(number(points[-1]["layer"])) + 6, y(number(points[-1]["value"]))
        drawn.append(_end(arrow(name), end, (x.end + 14, label), "name"))
        kinds = f"series c{colours[name]} s{places.index(name)}"
        parts.append(tag("g", *drawn, class_=kinds))
    for (name, value), label in zip(lines, at[len(series) :], strict=True):
        parts.append(_end(name, (x.end + 6, y(value)), (x.end + 14, label), "muted"))
    ends = [(arrow(name), points[0], points[-1]) for name, points in series.items()]
    courses = [f"{name} {num(a['value'])} to {num(b['value'])}" for name, a, b in ends]
    courses += [f"{name} {num(value)}" for name, value in lines]
    return drawing(size, f"{y_words} by {x_words}: {'; '.join(courses)}.", parts, "curves")


def _curve(points: Sequence[Row], x: Scale, y: Scale) -> list[str]:
    """A curve's band, line and marks; an interval without neighbours is a bar."""

    def place(row: Row, name: str) -> str:
        return f"{short(x(number(row['layer'])))},{short(y(number(row[name])))}"

    parts: list[str] = []
    for sure, some in groupby(points, key=lambda row: len(known([row["low"], row["high"]])) == 2):
        run = list(some)
        if sure and len(run) == 1:
            at, ends = x(number(run[0]["layer"])), [y(number(run[0][k])) for k in ("low", "high")]
            parts.append(tag("line", x1=at, x2=at, y1=ends[0], y2=ends[1], class_="bar"))
        elif sure:
            corners = [place(row, "high") for row in run]
            corners += [place(row, "low") for row in reversed(run)]
            parts.append(tag("polygon", points=" ".join(corners), class_="band"))
    corners = [place(row, "value") for row in points]
    parts.append(tag("polyline", points=" ".join(corners), class_="line"))
    for row in points:
        kind = "dot" if row.get("significant", True) else "dot hollow"
        at = {"cx": x(number(row["layer"])), "cy": y(number(row["value"])), "r": 4.0}
        parts.append(mark("circle", row["tip"], **at, class_=kind))
    return parts


def _end(name: str, end: tuple[float, float], at: tuple[float, float], kind: str) -> Markup:
    """A label at a curve's end, with a line to it where it was moved."""
    text = tag("text", name, x=at[0], y=at[1] + 4, class_=f"end-name {kind}")
    if abs(at[1] - end[1]) <= 3:
        return text
    line = tag("line", x1=end[0], x2=at[0] - 2, y1=end[1], y2=at[1], class_="leader")
    return joined([line, text])


def head_map(
    rows: Sequence[Row],
    words: str,
    *,
    digits: int = 3,
    signed: bool = True,
    largest: float = 26.0,
) -> Markup:
    """Draw a number for each head, layer 0 at the bottom, coloured by its size.

    Args:
        rows: layer, head, diff (NaN or None where unknown), significant, tip.
        words: what the numbers are.
        digits: decimals at the scale.
        signed: whether numbers may be negative; else colours run from 0 up.
        largest: most of a cell's side.
    """
    left, top = 34.0, 26.0
    layers, heads = (1 + max(int(number(row[k])) for row in rows) for k in ("layer", "head"))
    side = min(largest, (SIDE - left - 6) / heads)
    most = max(map(abs, known([row["diff"] for row in rows])), default=0.0)
    width, bottom = max(left + heads * side + 6, 250.0), top + layers * side
    every = 1 if side >= 15 else 2
    parts: list[str] = [tag("text", words, x=2.0, y=14.0, class_="label")]
    for layer in range(0, layers, every):
        y = bottom - (layer + 0.5) * side + 4
        parts.append(tag("text", str(layer), x=left - 5, y=y, class_="tick end"))
    for head in range(0, heads, every):
        x = left + (head + 0.5) * side
        parts.append(tag("text", str(head), x=x, y=bottom + 15, class_="tick mid"))
    for row in sorted(rows, key=lambda row: (-number(row["layer"]), number(row["head"]))):
        corner = left + number(row["head"]) * side, bottom - (number(row["layer"]) + 1) * side
        parts.append(_cell(row, corner, side, most, signed))
    turned = f"translate(10 {short((top + bottom) / 2)}) rotate(-90)"
    parts += [
        tag("text", "head", x=left, y=bottom + 31, class_="tick"),
        tag("text", "layer", class_="tick mid", transform=turned),
        *_scale(width - 156.0, bottom + 24, most, digits, signed),
    ]
    stars = [number(row["diff"]) for row in rows if row["significant"]]
    summary = (
        f"{words}, layers by heads: {len(rows)} heads, {sum(star > 0 for star in stars)} marked as "
        f"higher, {sum(star < 0 for star in stars)} as lower"
    )
    if most > 0:
        top = max(rows, key=lambda row: max(map(abs, known([row["diff"]])), default=0.0))
        summary += f"; the largest is {num(top['diff'], digits)} at {top['layer']}.{top['head']}"
    return drawing((width, bottom + 56), f"{summary}.", parts, "map", heads)


def _cell(row: Row, corner: tuple[float, float], side: float, most: float, signed: bool) -> Markup:
    """A head's cell; a dot marks a significant decrease, a triangle an increase."""
    value, (x, y), half = number(row["diff"]), corner, min(side * 0.16, 3.2)
    colour = step(value, most) if signed else level(value, most)
    box = {"x": x + 0.5, "y": y + 0.5, "width": side - 1, "height": side - 1}
    inside: list[str] = [tag("rect", **box, class_=f"cell {colour}")]
    a, b = x + side / 2, y + side / 2
    if row["significant"] and value < 0:
        inside.append(tag("circle", cx=a, cy=b, r=half, class_="sign"))
    elif row["significant"]:
        corners = f"{a - half - 0.6:.1f},{b + half:.1f} {a + half + 0.6:.1f},{b + half:.1f}"
        corners += f" {a:.1f},{b - half - 0.6:.1f}"
        inside.append(tag("polygon", points=corners, class_="sign"))
    deep = " deep" if colour in {"n5", "n6", "n7", "n8", "p6", "p7", "p8"} else ""
    return mark("g", row["tip"], *inside, class_=f"m{deep}")


def _placed(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if len(known([row["x"], row["y"]])) == 2]


def scatter(
    rows: Sequence[Row],
    x_words: str,
    y_words: str,
    *,
    colour_words: str = "",
    size: tuple[float, float] = (460.0, 420.0),
) -> Markup:
    """Draw a point for each head: two numbers, coloured by a third, the farthest heads named.

    Args:
        rows: layer, head, x, y, tip and, if wanted, colour and significant (else filled).
        x_words: what x is.
        y_words: what y is.
        colour_words: what the colours say; one colour where empty.
        size: width and height of the axes (px).
    """
    rows, (width, height) = _placed(rows), size
    x_values, y_values = ([number(row[k]) for row in rows] for k in "xy")
    x = Scale(*around(x_values, 0.08), 50.0, width - 16.0)
    y = Scale(*around(y_values, 0.08), height - 48.0, 30.0)
    parts: list[str] = _axes(x, y, x_words, y_words, x.ticks(6))
    if x.low < 0 < x.high:
        parts.append(tag("line", x1=x(0.0), x2=x(0.0), y1=y.start, y2=y.end, class_="zero"))
    if y.low < 0 < y.high:
        parts.append(tag("line", x1=x.start, x2=x.end, y1=y(0.0), y2=y(0.0), class_="zero"))
    most = max(map(abs, known([row.get("colour") for row in rows])), default=0.0)
    places = np.array([(x(a), y(b)) for a, b in zip(x_values, y_values, strict=True)])
    for row, (a, b) in zip(rows, places.tolist(), strict=True):
        colour = step(number(row.get("colour")), most) if colour_words else "one"
        kind = f"spot {colour}" + ("" if row.get("significant", True) else " hollow")
        parts.append(mark("circle", row["tip"], cx=a, cy=b, r=4.2, class_=kind))
    named = labels.outstanding(np.array(x_values), np.array(y_values)) if rows else []
    names = [f"{rows[i]['layer']}.{rows[i]['head']}" for i in named]
    parts += _names(names, places[named] if rows else places, places, (x, y))
    right = sum(a > 0 and b > 0 for a, b in zip(x_values, y_values, strict=True))
    summary = (
        f"{y_words} against {x_words}, {len(rows)} heads, {right} to the upper right; outstanding: "
        f"{', '.join(names) or 'none'}."
    )
    if not colour_words:
        return drawing(size, summary, parts, "scatter")
    parts += _scale(50.0, height + 8, most, 3, signed=True)
    parts.append(tag("text", colour_words, x=212.0, y=height + 16, class_="label"))
    return drawing((width, height + 44.0), summary, parts, "scatter")


def _names(
    names: Sequence[str], places: np.ndarray, points: np.ndarray, scales: tuple[Scale, Scale]
) -> list[str]:
    """Names beside their points, placed as in the figures, with a line where they stand apart."""
    if not names:
        return []
    x, y = scales
    cells = np.hstack([places, np.full((len(places), 2), 11.0)])
    sizes = np.array([(wide(name) + 2, 12.0) for name in names])
    points = np.hstack([points, np.full(points.shape, 8.4)])
    sheet = np.array([(x.start + x.end) / 2, (y.start + y.end) / 2, x.end - x.start + 20,
                      y.start - y.end + 8])  # fmt: skip
    parts: list[str] = []
    boxes = labels.beside(cells, sizes, points, sheet)
    for name, cell, box in zip(names, cells, boxes, strict=True):
        if np.isnan(box).any():
            continue
        start, end = labels.toward(cell, box), labels.toward(box, cell)
        if np.hypot(*(end - start)) > 3.0:
            ends = {"x1": start[0], "y1": start[1], "x2": end[0], "y2": end[1]}
            ends = {key: float(value) for key, value in ends.items()}
            parts.append(tag("line", **ends, class_="leader"))
        at = {"x": float(box[0] - box[2] / 2 + 1), "y": float(box[1] + 4)}
        parts.append(tag("text", name, **at, class_="spot-name"))
    return parts


def _lanes(
    names: Sequence[str], tall: float, seen: Sequence[float], x_words: str
) -> tuple[list[str], Scale, float]:
    """Rows with their names, an axis below and a line at zero: elements, scale and height."""
    left = max(map(wide, names), default=24.0) + 16
    bottom = 12.0 + tall * len(names)
    x = Scale(*around([*seen, 0.0], least=0.001), left, WIDTH - 12)
    parts: list[str] = []
    for value, label in x.ticks(6):
        parts += [
            tag("line", x1=x(value), x2=x(value), y1=12.0, y2=bottom, class_="grid"),
            tag("text", label, x=x(value), y=bottom + 16, class_="tick mid"),
        ]
    if x.low < 0 < x.high:
        parts.append(tag("line", x1=x(0.0), x2=x(0.0), y1=12.0, y2=bottom, class_="zero"))
    middle = (x.start + x.end) / 2
    parts.append(tag("text", x_words, x=middle, y=bottom + 36, class_="label mid"))
    for place, name in enumerate(names):
        y = 12.0 + (place + 0.5) * tall + 4
        parts.append(tag("text", name, x=left - 10, y=y, class_="row-name end"))
    return parts, x, bottom + 44.0


def whiskers(rows: Sequence[Row], summary: str, x_words: str) -> Markup:
    """Draw numbers with their intervals, a row for each cut, around a line at zero.

    Args:
        rows: cut, how, diff, ci_low, ci_high, significant, tip.
        summary: what the chart shows, for those who do not see it.
        x_words: what the numbers are.
    """
    names = list(dict.fromkeys(row["cut"] for row in rows))
    hows = list(dict.fromkeys(str(row["how"]) for row in rows))
    colours = meanings(hows)
    tall = len(hows) * 11.0 + 12.0
    seen = known([row[k] for row in rows for k in ("diff", "ci_low", "ci_high")])
    parts, x, height = _lanes([arrow(name) for name in names], tall, seen, x_words)
    for place in range(1, len(names)):
        y = 12.0 + place * tall
        parts.append(tag("line", x1=x.start, x2=x.end, y1=y, y2=y, class_="grid"))
    for row in rows:
        kind = hows.index(str(row["how"]))
        y = 12.0 + (names.index(row["cut"]) + 0.5) * tall + (kind - (len(hows) - 1) / 2) * 11.0
        low, high, value = (number(row[k]) for k in ("ci_low", "ci_high", "diff"))
        inside: list[str] = []
        if isfinite(low) and isfinite(high):
            inside.append(tag("line", x1=x(low), x2=x(high), y1=y, y2=y, class_="bar"))
        if isfinite(value):
            dot = "dot" if row["significant"] else "dot hollow"
            inside.append(tag("circle", cx=x(value), cy=y, r=4.0, class_=dot))
        parts.append(mark("g", row["tip"], *inside, class_=f"m series c{colours[hows[kind]]}"))
    return drawing((WIDTH, height), summary, parts, "rows")


def strips(rows: Sequence[Row], summary: str, x_words: str) -> Markup:
    """Draw a named number among random ones, a row for each set.

    Args:
        rows: set, draw (-1: the set itself), diff and, in the set's own row, tip.
        summary: what the chart shows, for those who do not see it.
        x_words: what the numbers are.
    """
    names = list(dict.fromkeys(row["set"] for row in rows))
    seen = known([row["diff"] for row in rows])
    parts, x, height = _lanes([arrow(name) for name in names], 40.0, seen, x_words)
    for place, name in enumerate(names):
        middle = 12.0 + (place + 0.5) * 40.0
        own = [row for row in rows if row["set"] == name and row["draw"] == -1]
        some = known([r["diff"] for r in rows if r["set"] == name and r["draw"] != -1])
        for k, value in enumerate(sorted(some)):
            y = middle + (k * 7 % 11 - 5) * 1.7  # apart, so that equal numbers show
            parts.append(tag("circle", cx=x(value), cy=y, r=2.2, class_="random"))
        for row in own:
            if isfinite(number(row["diff"])):
                a = x(number(row["diff"]))
                corners = ((a, middle - 9), (a + 7, middle), (a, middle + 9), (a - 7, middle))
                points = " ".join(f"{short(p)},{short(q)}" for p, q in corners)
                parts.append(mark("polygon", row["tip"], points=points, class_="named"))
    return drawing((WIDTH, height), summary, parts, "rows")


def stacked(rows: Sequence[Row], x_words: str) -> Markup:
    """Draw shares as bars, positive ones to the right of zero, negative ones to the left.

    Args:
        rows: name, share, kind (the number of its colour), tip; a bar for each name.
        x_words: what the shares are of.
    """
    bars: dict[object, list[Row]] = {}
    for row in rows:
        bars.setdefault(row["name"], []).append(row)
    values = [known([row["share"] for row in bar]) for bar in bars.values()]
    ends = [sum((v for v in bar if v > 0), 0.0) for bar in values]
    ends += [sum((v for v in bar if v < 0), 0.0) for bar in values]
    parts, x, height = _lanes(list(map(str, bars)), 20.0, [1.0, *ends], x_words)
    for place, bar in enumerate(bars.values()):
        right = left = 0.0
        for row in bar:
            value = number(row["share"])
            if isnan(value):
                continue
            start = right if value >= 0 else left + value
            wide_ = max(x(start + abs(value)) - x(start), 0.2)
            box = {"x": x(start), "y": 15.0 + place * 20.0, "width": wide_, "height": 14.0}
            parts.append(mark("g", row["tip"], tag("rect", **box, class_="share"),
                              class_=f"m series g{row['kind']}"))  # fmt: skip
            right, left = right + max(value, 0.0), left + min(value, 0.0)
    first = [f"{row['name']} {num(row['share'], 2)}" for row in rows if row["kind"] == 0]
    summary = f"{x_words}; the first share: {'; '.join(first)}."
    return drawing((WIDTH, height), summary, parts, "rows")


def distribution(
    classes: Mapping[str, Sequence[float]], low: float, high: float, title: str
) -> Markup:
    """Draw overlaid histograms of one head, a step line for each class, the first one filled.

    Args:
        classes: the share of the class's pairs in each bin, by the class's name.
        low: the first bin's lower end.
        high: the last bin's upper end.
        title: above the chart.
    """
    width, height = 230.0, 136.0
    top = max((value for some in classes.values() for value in some), default=0.0) or 1.0
    x, y = Scale(low, high, 8.0, width - 10), Scale(0.0, top, height - 22, 24.0)
    parts: list[str] = [tag("text", title, x=8.0, y=13.0, class_="label")]
    for value, label in x.ticks(4):
        parts.append(tag("text", label, x=x(value), y=height - 7, class_="tick mid"))
    parts.append(tag("line", x1=x.start, x2=x.end, y1=y.start, y2=y.start, class_="axis"))
    for place, some in enumerate(classes.values()):
        each = (high - low) / max(len(some), 1)
        corners = [(low, 0.0)]
        for k, value in enumerate(some):
            corners += [(low + k * each, value), (low + (k + 1) * each, value)]
        points = " ".join(f"{short(x(a))},{short(y(b))}" for a, b in [*corners, (high, 0.0)])
        parts.append(tag("polyline", points=points, class_=f"steps k{place}"))
    summary = f"Distributions of {', '.join(classes)} passages, {num(low)} to {num(high)}; {title}."
    return drawing((width, height), summary, parts, "distribution")
