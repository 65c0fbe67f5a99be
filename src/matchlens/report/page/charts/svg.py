"""The pieces of a drawing: elements, scales, axes; everything is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isnan

from markupsafe import Markup, escape

from matchlens.figures.page import ticks, written

STEPS = 8
"""Colours on each side of zero."""
CHAR = 6.3
"""A character's width at the charts' size of type, about (px)."""


def wide(text: str) -> float:
    """How wide a text is, about (px)."""
    return (len(text) + text.count("→")) * CHAR


def tag(name: str, *inside: str, **attributes: object) -> Markup:
    """An element; texts that are no Markup are escaped, ``class_`` is ``class``.

    >>> tag("text", "a<b", class_="x", stroke_width=1.50)
    Markup('<text class="x" stroke-width="1.5">a&lt;b</text>')
    """
    said = "".join(
        f' {_name(key)}="{escape(_value(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{said}>{''.join(map(escape, inside))}</{name}>")  # noqa: S704 - escaped above


def _name(key: str) -> str:
    return key if key == "viewBox" else key.rstrip("_").replace("_", "-")


def _value(value: object) -> str:
    return short(value) if isinstance(value, float) else str(value)


def short(value: float) -> str:
    """A coordinate with one decimal at most.

    >>> short(3.04), short(-0.01), short(12.25)
    ('3', '0', '12.2')
    """
    text = f"{value:.1f}"
    text = text.removesuffix(".0")
    return "0" if text == "-0" else text


def joined(parts: Iterable[str]) -> Markup:
    """Several elements, one after the other."""
    return Markup("").join(parts)


def drawing(
    width: float, height: float, summary: str, *parts: str, kind: str = "", columns: int = 0
) -> Markup:
    """An SVG with its summary for those who do not see it.

    Args:
        width: of the drawing (px where it is shown at its own size).
        height: likewise.
        summary: what it shows, as one text.
        parts: its elements.
        kind: a class.
        columns: marks in a row, for the arrow keys; 0 where marks stand in no grid.
    """
    return tag(
        "svg",
        *parts,
        class_=f"chart {kind}".strip(),
        viewBox=f"0 0 {short(width)} {short(height)}",
        width=width,
        height=height,
        role="group",
        aria_label=summary,
        data_columns=columns or None,
    )


def mark(name: str, tip: str, *inside: str, **attributes: object) -> Markup:
    """An element that explains itself by its title; the script gives it a role."""
    return tag(name, tag("title", tip), *inside, **attributes)


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
        """The place of a number."""
        span = (self.high - self.low) or 1.0
        return self.start + (value - self.low) / span * (self.end - self.start)

    def ticks(self, count: int) -> list[tuple[float, str]]:
        """Round numbers with their labels."""
        values = ticks(self.low, self.high, count)
        return list(zip(values, written(values), strict=True))


def around(
    values: Sequence[float], margin: float = 0.06, least: float = 1e-9
) -> tuple[float, float]:
    """A range that holds all numbers, with room at both ends."""
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    room = max((high - low) * margin, least, abs(high) * 1e-6)
    return low - room, high + room


def axes(
    x: Scale, y: Scale, x_words: str, y_words: str, *, x_ticks: Sequence[tuple[float, str]]
) -> Markup:
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
    parts += [
        tag("line", x1=x.start, x2=x.end, y1=y.start, y2=y.start, class_="axis"),
        tag("text", x_words, x=(x.start + x.end) / 2, y=y.start + 38, class_="label mid"),
        tag("text", y_words, x=4.0, y=12.0, class_="label"),
    ]
    return joined(parts)


def step(value: float, most: float, steps: int = STEPS) -> str:
    """The colour class of a number: ``n8`` (lowest) to ``z`` to ``p8``.

    >>> step(0.0, 1.0), step(-1.0, 1.0), step(0.3, 1.0), step(float("nan"), 1.0)
    ('z', 'n8', 'p2', 'u')
    """
    if isnan(value):
        return "u"
    place = round(min(abs(value) / most, 1.0) * steps) if most > 0 else 0
    return "z" if place == 0 else f"{'n' if value < 0 else 'p'}{place}"


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places moved apart so that neighbours keep a gap, inside a range, order kept.

    >>> spread([10.0, 11.0, 50.0], 12.0, 0.0, 100.0)
    [4.5, 16.5, 50.0]
    """
    order = sorted(range(len(places)), key=lambda i: (places[i], i))
    groups: list[list[int]] = []
    centres: list[float] = []
    for i in order:
        groups.append([i])
        centres.append(min(max(places[i], low), high))
        while len(groups) > 1:
            reach = (len(groups[-2]) + len(groups[-1])) / 2 * gap
            if centres[-1] - centres[-2] >= reach:
                break
            merged = groups[-2] + groups[-1]
            half = (len(merged) - 1) / 2 * gap
            middle = sum(places[j] for j in merged) / len(merged)
            groups[-2:] = [merged]
            centres[-2:] = [min(max(middle, low + half), max(high - half, low + half))]
    out = [0.0] * len(places)
    for group, centre in zip(groups, centres, strict=True):
        for rank, i in enumerate(group):
            out[i] = centre + (rank - (len(group) - 1) / 2) * gap
    return out
