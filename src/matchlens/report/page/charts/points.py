"""A point for each head: two numbers, coloured by a third, the farthest heads named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from markupsafe import Markup

from matchlens.report.page.charts.svg import (
    STEPS,
    Scale,
    around,
    axes,
    drawing,
    joined,
    mark,
    step,
    tag,
    wide,
)
from matchlens.report.page.texts import num

WIDTH, HEIGHT = 460.0, 420.0
LEFT, RIGHT, TOP, BOTTOM = 50.0, 16.0, 30.0, 48.0
NAMED = 7
RADIUS = 4.2


@dataclass(frozen=True)
class Spot:
    """A head: its place, its colour's number (NaN: none), its name and what it says."""

    name: str
    x: float
    y: float
    tip: str
    colour: float = float("nan")
    filled: bool = True


def scatter(
    spots: Sequence[Spot],
    summary: str,
    x_words: str,
    y_words: str,
    *,
    colour_words: str = "",
    colour_digits: int = 3,
    width: float = WIDTH,
    height: float = HEIGHT,
) -> Markup:
    """Draw heads as points.

    Args:
        spots: the heads; those whose place is not known are left out.
        summary: what the chart shows, for those who do not see it.
        x_words: what x is.
        y_words: what y is.
        colour_words: what the colours say; one colour where empty.
        colour_digits: decimals at the colours' scale.
        width: of the drawing.
        height: likewise.
    """
    spots = [spot for spot in spots if isfinite(spot.x) and isfinite(spot.y)]
    extra = 44.0 if colour_words else 0.0
    x = Scale(*around([spot.x for spot in spots], 0.08), LEFT, width - RIGHT)
    y = Scale(*around([spot.y for spot in spots], 0.08), height - BOTTOM, TOP)
    parts: list[str] = [axes(x, y, x_words, y_words, x_ticks=x.ticks(6))]
    if x.low < 0 < x.high:
        parts.append(tag("line", x1=x(0.0), x2=x(0.0), y1=y.start, y2=y.end, class_="zero"))
    if y.low < 0 < y.high:
        parts.append(tag("line", x1=x.start, x2=x.end, y1=y(0.0), y2=y(0.0), class_="zero"))
    most = max((abs(s.colour) for s in spots if isfinite(s.colour)), default=0.0)
    for spot in spots:
        colour = step(spot.colour, most) if colour_words else "one"
        kind = f"spot {colour}" + ("" if spot.filled else " hollow")
        parts.append(mark("circle", spot.tip, cx=x(spot.x), cy=y(spot.y), r=RADIUS, class_=kind))
    parts.append(_names(spots, x, y))
    if colour_words:
        parts.append(_key(colour_words, most, height + 4, colour_digits))
    return drawing(width, height + extra, summary, *parts, kind="scatter")


def outstanding(spots: Sequence[Spot], most: int = NAMED) -> list[Spot]:
    """The heads farthest from the middle, each axis in its standard deviations."""
    if not spots:
        return []
    far = [0.0] * len(spots)
    for values in ([s.x for s in spots], [s.y for s in spots]):
        middle = sorted(values)[len(values) // 2]
        mean = sum(values) / len(values)
        sd = (sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5
        if sd > 0:
            far = [f + ((v - middle) / sd) ** 2 for f, v in zip(far, values, strict=True)]
    order = sorted(range(len(spots)), key=lambda i: (-far[i], i))
    return [spots[i] for i in order[:most] if far[i] > 0]


def _names(spots: Sequence[Spot], x: Scale, y: Scale) -> Markup:
    """Names beside their points, where they hide neither a point's centre nor another name."""
    taken: list[tuple[float, float, float, float]] = []
    centres = [(x(s.x), y(s.y)) for s in spots]
    parts: list[str] = []
    for spot in outstanding(spots):
        long, (a, b) = wide(spot.name) + 2, (x(spot.x), y(spot.y))
        offers = [(7.0, 4.0), (-7.0 - long, 4.0), (-long / 2, -8.0), (-long / 2, 16.0)]
        offers += [(6.0, -6.0), (6.0, 14.0), (-6.0 - long, -6.0), (-6.0 - long, 14.0)]
        for dx, dy in offers:
            box = (a + dx, b + dy - 10, a + dx + long, b + dy + 2)
            inside = x.start <= box[0] and box[2] <= x.end + 10 and y.end - 4 <= box[1]
            free = all(
                box[2] < o[0] or o[2] < box[0] or box[3] < o[1] or o[3] < box[1] for o in taken
            )
            clear = not any(box[0] < p < box[2] and box[1] < q < box[3] for p, q in centres)
            if inside and free and clear and box[3] <= y.start:
                taken.append(box)
                parts.append(tag("text", spot.name, x=box[0] + 1, y=b + dy, class_="spot-name"))
                break
    return joined(parts)


def _key(words: str, most: float, y: float, digits: int) -> Markup:
    names = [f"n{k}" for k in range(STEPS, 0, -1)] + ["z"] + [f"p{k}" for k in range(1, STEPS + 1)]
    each = 150.0 / len(names)
    parts: list[str] = [
        tag("rect", x=LEFT + k * each, y=y + 4, width=each + 0.3, height=8.0, class_=f"cell {name}")
        for k, name in enumerate(names)
    ]
    ends = [(num(-most, digits), 0.0, "tick"), ("0", 75.0, "tick mid")]
    ends += [(num(most, digits, sign=True), 150.0, "tick end")]
    parts += [tag("text", t, x=LEFT + at, y=y + 26, class_=kind) for t, at, kind in ends]
    parts.append(tag("text", words, x=LEFT + 162, y=y + 12, class_="label"))
    return joined(parts)
