"""A table as it is printed: one description for the terminal, a paper and a page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from matchlens.report import html
from matchlens.report.latex import tabular, tex


@dataclass(frozen=True)
class Section:
    """A table's cells, as they are printed.

    Args:
        name: its file's name.
        title: what it shows.
        head: the columns' names.
        rows: the cells; a star behind a number is a significant one, a dash is nothing known.
        text: how many columns are text.
        note: how it is read.
    """

    name: str
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text: int = 1
    note: str = ""


def section_latex(section: Section, title: str = "") -> str:
    """The table in LaTeX (booktabs).

    Args:
        section: the table.
        title: a comment before it; the table's own title where empty.
    """
    return tabular(
        [tex(name) for name in section.head],
        [
            [_number(cell) if n >= section.text else tex(cell) for n, cell in enumerate(row)]
            for row in section.rows
        ],
        title=title or section.title,
        notes=[section.note] if section.note else [],
        text=section.text,
    )


def _number(cell: str) -> str:
    """A number with a true minus and a raised star; other cells as they are.

    >>> _number("-.25*"), _number("[-.1, .2]"), _number("-"), _number("a-b")
    ('$-$.25$^{*}$', '[$-$.1, .2]', '--', 'a-b')
    """
    if cell == "-":
        return "--"
    made = re.sub(r"(?<![\w.])-(?=[\d.])", "$-$", tex(cell))
    return re.sub(r"(?<=\d)\*$", "$^{*}$", made)


def section_html(section: Section, most: int | None = None) -> str:
    """The table in HTML, with its note.

    Args:
        section: the table.
        most: rows that are shown at most, the others counted; all where None.
    """
    rows: Sequence[tuple[str, ...]] = section.rows[:most]
    left = len(section.rows) - len(rows)
    note = f"{left} more rows. {section.note}" if left else section.note
    made = html.table(section.title, section.head, rows, text=section.text)
    return made + (html.element("p", note, "said") if note else "")
