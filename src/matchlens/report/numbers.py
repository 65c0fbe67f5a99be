"""Numbers and notes as tables print them."""

from __future__ import annotations

from collections.abc import Iterable

from matchlens.results import Result


def printed(value: object, digits: int) -> str:
    """As papers print it: .812; nothing known is a dash.

    >>> printed(0.8123, 3), printed(-0.25, 2), printed(-0.0001, 2), printed(None, 3)
    ('.812', '-.25', '.00', '-')
    """
    if not isinstance(value, int | float):
        return "-"
    rounded = round(float(value), digits) + 0.0  # no minus before a zero
    text = f"{rounded:.{digits}f}"
    return text.replace("0.", ".", 1) if abs(rounded) < 1 else text


SHARE = "share: of (original - random), the mean change divided by what there is to lose."
"""What the column of shares says."""


def digits_of(result: Result) -> int:
    """The decimals that a result's preset prints."""
    return int(str(result.options["digits"]))


def note_lines(result: Result) -> list[str]:
    """A line for each note."""
    return [f"Note: {note}." for note in result.notes]


def columns(rows: Iterable[Iterable[str]], text: int = 1) -> list[str]:
    """Rows of cells as lines of equal columns: the first to the left, the others to the right.

    Args:
        rows: the cells, the head's among them.
        text: how many columns are text, to the left.

    >>> columns([["cut", "diff"], ["Q->D", "-.1"]])
    ['cut   diff', 'Q->D   -.1']
    """
    cells = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place < text else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
