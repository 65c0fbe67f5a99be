"""The pair view: passages of a query side by side, word by word, with their heads and directions.

The page and a notebook show the same component; ``templates/pair.js`` makes it answer to clicks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import isfinite

from markupsafe import Markup

from matchlens.figures.colours import step
from matchlens.report.html import asset, environment
from matchlens.report.texts import NONE, embedded, num, shown

PARTS = {"CLS": "CLS", "Q": "query", "SEP1": "SEP1", "D": "passage", "SEP2": "SEP2"}
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
CLIP = 700
"""Characters of a text that are shown before it is unfolded."""
TOKEN = 48
DEEP = {"n6", "n7", "n8", "p7", "p8"}
"""Colours on which a dark text is hard to read."""
LEAST, WIDE = 0.4, 96.0
"""Width of the shortest bar and of all bars of a column together (px)."""


@dataclass(frozen=True)
class Word:
    """A word or token of a passage as the view shows it.

    Args:
        text: what is shown.
        part: the name of its part.
        before: what stands between it and the word before it.
        colour: its colour class.
        name: the first line of its tooltip.
        tip: the second line.
    """

    text: str
    part: str
    before: str
    colour: str
    name: str
    tip: str


@dataclass(frozen=True)
class Bars:
    """A table of units with a bar for some of their numbers.

    Args:
        caption: what it shows.
        head: the heading of the units.
        columns: the headings of the numbers.
        rows: see :func:`bar_rows`.
        folded: whether a person unfolds it, and what is written there.
    """

    caption: str
    head: str
    columns: tuple[str, ...]
    rows: Sequence[Mapping[str, object]]
    folded: str = ""


def colour(value: float, most: float) -> str:
    """The classes of a word whose number is signed; the sign is underlined, too.

    >>> colour(1.0, 1.0), colour(-0.5, 1.0), colour(0.0, 1.0)
    ('p8 deep', 'n4', 'z')
    """
    name = step(value, most).replace("5", "4")  # on the fifth no text is easy to read
    return f"{name} deep" if name in DEEP else name


def blocks(words: Sequence[Word]) -> list[dict[str, object]]:
    """Words by part, in reading order, each with its place."""
    groups: list[dict[str, object]] = []
    for place, word in enumerate(words):
        if not groups or groups[-1]["part"] != word.part:
            name = PARTS.get(word.part, "other")
            empty = {"unread": "", "after": "", "rest": ""}
            groups.append({"part": word.part, "name": name, "words": [], **empty})
        inside = groups[-1]["words"]
        assert isinstance(inside, list)  # noqa: S101
        inside.append((place, word))
    return groups


def listed_values(value: object) -> list[object]:
    """A list that a results folder may hold, empty where it is none."""
    return list(value) if isinstance(value, list | tuple) else []


def clipped(text: object) -> tuple[str, str]:
    """A text's beginning, and what is unfolded."""
    whole = shown(text)
    return whole[:CLIP], whole[CLIP:]


def bar_rows(
    rows: Sequence[tuple[str, str, str, Sequence[tuple[float, str, str]]]], bars: Sequence[bool]
) -> list[dict[str, object]]:
    """Rows of a table whose bars share one scale.

    Args:
        rows: key (empty where a click chooses nothing), label and words of a unit, and for each
            column a number, its text and its tooltip.
        bars: whether a column has bars.
    """
    drawn = [
        number
        for _, _, _, cells in rows
        for (number, _, _), bar in zip(cells, bars, strict=True)
        if bar and isfinite(number)
    ]
    low, high = min((0.0, *drawn)), max((0.0, *drawn))
    scale = (WIDE - 2) / ((high - low) or 1.0)
    zero = round(1 - low * scale, 1)
    out: list[dict[str, object]] = []
    for key, label, words, cells in rows:
        shown_cells: list[dict[str, object]] = []
        for (number, text, tip), bar in zip(cells, bars, strict=True):
            wide = round(abs(number) * scale, 1) if bar and isfinite(number) else 0.0
            shown_cells.append(
                {
                    "text": text,
                    "tip": tip,
                    "bar": bar and isfinite(number),
                    "x": zero if number >= 0 else round(zero - wide, 1),
                    "wide": max(wide, LEAST),
                    "kind": "up" if number > 0 else "down",
                    "zero": zero,
                }
            )
        out.append({"key": key, "label": label, "words": words, "cells": shown_cells})
    return out


def head_grid(
    title: str,
    shape: tuple[int, int],
    cell: Callable[[int, int], Mapping[str, object]],
    *,
    note: str,
    presets: Sequence[tuple[str, str]] = (),
    late: bool = False,
) -> dict[str, object]:
    """The grid of heads, the last layer on top.

    Args:
        title: what its colours are.
        shape: layers, heads of a layer.
        cell: a head's ``key``, and where it has them ``colour``, ``tip``, ``sign`` and ``mark``.
        note: how to read it.
        presets: key and label of heads that are chosen together.
        late: whether the script colours it, and a layer can be chosen.
    """
    layers, heads = shape
    empty = {"colour": "", "tip": "", "sign": "", "mark": False}
    rows = [
        (layer, [{**empty, **cell(layer, head)} for head in range(heads)])
        for layer in reversed(range(layers))
    ]
    return {
        "title": title,
        "rows": rows,
        "heads": range(heads),
        "layers": late,
        "late": late,
        "note": note,
        "presets": presets,
    }


def signed(value: object, digits: int = 3) -> tuple[float, str, str]:
    """A cell that shows a number with its sign."""
    number = float(value) if isinstance(value, int | float) else float("nan")
    return number, num(number, digits, sign=True) if isfinite(number) else NONE, ""


def render(context: Mapping[str, object], data: object) -> Markup:
    """The view as HTML; nothing in it has an id, so that a page may hold several.

    Args:
        context: what the template shows.
        data: numbers for the script, as plain values.
    """
    template = environment().get_template("pair.html.j2")
    json = Markup(embedded(data))  # noqa: S704 - it closes no element
    return Markup(template.render(**context, data=json))  # noqa: S704 - the template escapes


def notebook_block(view: str) -> str:
    """A view with its style and script, for a notebook.

    The same rules stand in every such block, and apply to views alone.
    """
    return f"<style>{_scoped_style()}</style>{view}<script>{script()}</script>"


def colours() -> str:
    """The page's colours as declarations, each for light and dark by ``color-scheme``."""
    match = re.search(r":root \{\s*color-scheme: light dark;(.*?)\}", asset("base.css"), re.DOTALL)
    return match[1] if match else ""


def steps(where: str = "") -> str:
    """Rules that make a class of each step of the colour scales."""
    names = [*(f"{side}{k}" for side in "np" for k in range(1, 9)), *(f"t{k}" for k in range(10))]
    return "".join(f"{where}.{name}{{--m:var(--{name})}}" for name in (*names, "z", "u"))


def script() -> str:
    """The script of the view, which may stand on a page several times."""
    return asset("shared.js") + asset("pair.js")


def theme() -> str:
    """The colours and rules of every page, and the classes of the colours' steps."""
    return asset("base.css") + steps()


@cache
def _scoped_style() -> str:
    """The view's rules with the page's colours, light and dark, for the view alone."""
    night = (
        '[data-jp-theme-light="false"] .mlv.alone,.vscode-dark .mlv.alone,[data-theme="dark"] '
        ".mlv.alone"
    )
    day = ':root:not(:has([data-jp-theme-light="true"],.vscode-light)) .mlv.alone'
    return (
        f"{steps('.mlv ')}.mlv.alone{{color-scheme:light;{colours()}}}"
        f"{night}{{color-scheme:dark}}"
        f"@media(prefers-color-scheme:dark){{{day}{{color-scheme:dark}}}}"
        f"@media print{{.mlv.alone{{color-scheme:light}}}}{asset('pair.css')}"
    )
