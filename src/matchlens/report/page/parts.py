"""What the page is made of: exhibits with their charts, tables, definitions and options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite

from markupsafe import Markup

from matchlens.report.page.texts import LONG, NONE, arrow, chance, num, prose, shown, spelled
from matchlens.results import Result

Row = Mapping[str, object]
HIDDEN = {"check", "batches", "parts", "digits", "original", "random_value"}
"""Options that are shown elsewhere, or only steer printing."""


EXACT = 3000
"""Cells of a table up to which its file has all digits of every number."""
ROWS = 500
"""Rows of a table that are shown on the page at most."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Args:
        key: its name in the rows, and in the CSV file.
        label: its heading.
        digits: decimals of its numbers; 0 for whole ones.
        kind: ``number``, ``text``, ``cut`` (a text with arrows), ``p`` or ``flag``.
        sign: whether positive numbers have a plus.
    """

    key: str
    label: str
    digits: int = 3
    kind: str = "number"
    sign: bool = False

    def show(self, value: object) -> str:
        """A cell as it is printed."""
        if value is None:
            return NONE
        if self.kind == "flag":
            return "yes" if value else "no"
        if self.kind == "text":
            return shown(value, LONG)
        if self.kind == "cut":
            return arrow(value)
        if self.kind == "p":
            return chance(value)
        return num(value, self.digits, sign=self.sign)


@dataclass(frozen=True)
class Table:
    """A table that can be looked at and downloaded.

    Args:
        name: the CSV file's name without its ending; unique on the page.
        label: what it holds, in words.
        columns: what is shown; the file has the same columns.
        rows: its rows, as plain values.
    """

    name: str
    label: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def data(self) -> dict[str, object]:
        """The whole table for the CSV file; a large one has seven digits of each number."""
        keys = [column.key for column in self.columns]
        rows = [[row.get(key) for key in keys] for row in self.rows]
        if len(keys) * len(rows) > EXACT:
            rows = [[_rounded(value) for value in row] for row in rows]
        return {"columns": keys, "rows": rows}


@dataclass(frozen=True)
class Chart:
    """A drawing with what it shows."""

    svg: Markup
    caption: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Panel:
    """One of several views of an exhibit; the script makes tabs of them."""

    id: str
    label: str
    charts: tuple[Chart, ...]
    note: str = ""
    beside: bool = False


@dataclass(frozen=True)
class Exhibit:
    """A table or figure of the page with everything that belongs to it.

    Args:
        id: its place in the address (``#id``).
        nav: its name in the navigation.
        title: its heading.
        subtitle: what it shows, in one line.
        lead: what it says, in plain sentences made from the numbers.
        template: how its body is drawn.
        context: what that template needs.
        caption: how to read it.
        definition: what its numbers are, exactly.
        tables: its numbers, to look at and download.
        options: the options of the study behind it.
        notes: what a person should know before believing it.
        absent: why there is nothing to show; empty where there is.
    """

    id: str
    nav: str
    title: str
    subtitle: str
    lead: tuple[str, ...] = ()
    template: str = "panels.html.j2"
    context: Mapping[str, object] = field(default_factory=dict)
    caption: str = ""
    definition: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    absent: str = ""


def _rounded(value: object) -> object:
    return float(f"{value:.7g}") if isinstance(value, float) else value


def options_of(result: Result) -> tuple[tuple[str, str], ...]:
    """A study's options as names and texts, in the manifest's order."""
    return tuple(
        (key.replace("_", " "), shown(spelled(value), 400))
        for key, value in result.options.items()
        if key not in HIDDEN
    )


def notes_of(result: Result) -> tuple[str, ...]:
    """A study's notes as sentences."""
    return tuple(f"{note[:1].upper()}{note[1:]}." for note in map(prose, result.notes))


def number(value: object) -> float:
    """A table's value as a number, NaN where there is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return float("nan")
    return float(value)


def known(values: Sequence[object]) -> list[float]:
    """The numbers among values."""
    found = [number(value) for value in values]
    return [value for value in found if isfinite(value)]
