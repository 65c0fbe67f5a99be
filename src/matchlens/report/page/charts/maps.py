"""A number for each head: layers by heads, layer 0 at the bottom, coloured by its size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, isnan

from markupsafe import Markup

from matchlens.report.page.charts.svg import STEPS, drawing, joined, mark, short, step, tag
from matchlens.report.page.texts import num

LEFT, TOP = 34.0, 26.0
SIDE = 348.0
"""Width of a map: what a phone shows without scrolling."""


@dataclass(frozen=True)
class Cell:
    """A head: its number (NaN where not known), its sign of significance, and what it says."""

    layer: int
    head: int
    value: float
    tip: str
    star: bool = False


def head_map(
    cells: Sequence[Cell],
    summary: str,
    words: str,
    *,
    digits: int = 3,
    signed: bool = True,
    largest: float = 26.0,
) -> Markup:
    """Draw a map of heads.

    Args:
        cells: a cell for each head.
        summary: what the map shows, for those who do not see it.
        words: what the numbers are.
        digits: decimals at the scale.
        signed: whether numbers may be negative; else colours run from 0 up.
        largest: most of a cell's side.
    """
    layers = max(cell.layer for cell in cells) + 1
    heads = max(cell.head for cell in cells) + 1
    size = min(largest, (SIDE - LEFT - 6) / heads)
    most = max((abs(cell.value) for cell in cells if isfinite(cell.value)), default=0.0)
    width = max(LEFT + heads * size + 6, 250.0)
    bottom = TOP + layers * size
    parts: list[str] = [tag("text", words, x=2.0, y=14.0, class_="label")]
    every = 1 if size >= 15 else 2
    for layer in range(0, layers, every):
        y = bottom - (layer + 0.5) * size
        parts.append(tag("text", str(layer), x=LEFT - 5, y=y + 4, class_="tick end"))
    for head in range(0, heads, every):
        x = LEFT + (head + 0.5) * size
        parts.append(tag("text", str(head), x=x, y=bottom + 15, class_="tick mid"))
    for cell in sorted(cells, key=lambda one: (-one.layer, one.head)):
        parts.append(_cell(cell, size, bottom, most, signed))
    parts += [
        tag("text", "head", x=LEFT, y=bottom + 31, class_="tick"),
        tag(
            "text",
            "layer",
            class_="tick mid",
            transform=f"translate(10 {short((TOP + bottom) / 2)}) rotate(-90)",
        ),
        _scale(most, width, bottom + 24, digits, signed),
    ]
    return drawing(width, bottom + 56, summary, *parts, kind="map", columns=heads)


def _cell(cell: Cell, size: float, bottom: float, most: float, signed: bool) -> Markup:
    x, y = LEFT + cell.head * size, bottom - (cell.layer + 1) * size
    middle, half = (x + size / 2, y + size / 2), min(size * 0.16, 3.2)
    colour = step(cell.value, most) if signed else level(cell.value, most)
    inside: list[str] = [
        tag("rect", x=x + 0.5, y=y + 0.5, width=size - 1, height=size - 1, class_=f"cell {colour}")
    ]
    if cell.star and cell.value < 0:
        inside.append(tag("circle", cx=middle[0], cy=middle[1], r=half, class_="sign"))
    elif cell.star:
        a, b = middle
        corners = f"{a - half - 0.6:.1f},{b + half:.1f} {a + half + 0.6:.1f},{b + half:.1f}"
        inside.append(
            tag("polygon", points=f"{corners} {a:.1f},{b - half - 0.6:.1f}", class_="sign")
        )
    dark = " deep" if colour in {"n5", "n6", "n7", "n8", "p6", "p7", "p8"} else ""
    return mark("g", cell.tip, *inside, class_=f"m{dark}")


def level(value: float, most: float, steps: int = 9) -> str:
    """The colour class of a number that is never negative: ``t0`` to ``t9``.

    >>> level(0.0, 1.0), level(1.0, 1.0), level(0.5, 1.0), level(0.001, 1.0)
    ('t0', 't9', 't5', 't1')
    """
    if isnan(value):
        return "u"
    if value <= 0 or most <= 0:
        return "t0"
    return f"t{min(max(int(value / most * steps + 0.5), 1), steps)}"


def _scale(most: float, width: float, y: float, digits: int, signed: bool) -> Markup:
    """The colours' scale, at the right below the map."""
    names = (
        [f"n{k}" for k in range(STEPS, 0, -1)] + ["z"] + [f"p{k}" for k in range(1, STEPS + 1)]
        if signed
        else [f"t{k}" for k in range(10)]
    )
    each = 150.0 / len(names)
    left = width - 156.0
    parts: list[str] = [
        tag("rect", x=left + k * each, y=y, width=each + 0.3, height=8.0, class_=f"cell {name}")
        for k, name in enumerate(names)
    ]
    ends = [
        (num(-most, digits), left),
        ("0", left + 75),
        (num(most, digits, sign=True), left + 150),
    ]
    if not signed:
        ends = [("0", left), (num(most, digits), left + 150)]
    places = ["tick", "tick mid", "tick end"] if signed else ["tick", "tick end"]
    parts += [
        tag("text", text, x=x, y=y + 21, class_=kind)
        for (text, x), kind in zip(ends, places, strict=True)
    ]
    return joined(parts)
