"""A figure's key: names in lines above the axes, each with room for its sign."""

from __future__ import annotations

from dataclasses import dataclass

from matchlens.figures.page import EDGE, SMALL, Page

GAP = 9.0


@dataclass(frozen=True)
class Entry:
    """One name in the key: the place of its sign, and its line."""

    name: str
    x: float
    line: int


def key(
    page: Page, names: list[str], left: float, across: float, *, sign: float = 7.0
) -> tuple[list[Entry], float]:
    """Where each name stands above the axes, in as many lines as they need.

    Args:
        page: the sheet.
        names: the names, none wider than the sheet.
        left: where the axes begin.
        across: the axes' width; a key that is wider begins at the sheet's edge.
        sign: from a sign's left edge to its name (points).

    Returns:
        The entries, and a line's height.
    """
    sizes = [page.measure(name, SMALL) for name in names]
    wide = [sign + size[0] for size in sizes]
    if sum(wide) + GAP * (len(wide) - 1) > across:
        left, across = EDGE, page.width - 2 * EDGE
    entries: list[Entry] = []
    x, line = left, 0
    for name, needed in zip(names, wide, strict=True):
        if entries and x + needed > left + across:
            x, line = left, line + 1
        entries.append(Entry(name, x, line))
        x += needed + GAP
    return entries, max(size[1] for size in sizes) + 1.0


def write(page: Page, entry: Entry, x: float, y: float) -> None:
    """Put an entry's name beside its sign: all names on one line's baseline, long ones centred."""
    if "\n" in entry.name:
        page.text(x, y, entry.name, va="center", fontsize=SMALL)
    else:
        page.text(x, y - 0.36 * SMALL, entry.name, va="baseline", fontsize=SMALL)
