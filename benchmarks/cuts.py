"""Cuts as the contenders read them: plain Python, so that every environment can.

On purpose not matchlens's own parser: what is compared shares as little as can be.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PARTS = ("CLS", "Q", "SEP1", "D", "SEP2")
CLS, Q, SEP1, D, SEP2 = range(5)
PADDING = 5


@dataclass(frozen=True)
class Cut:
    """One direction, cut after the softmax.

    Args:
        rows: part numbers of the tokens that read.
        columns: part numbers of the tokens that are no longer read.
        layers: where it is cut.
        head: the only head that is cut; all of them where None.
    """

    rows: frozenset[int]
    columns: frozenset[int]
    layers: frozenset[int]
    head: int | None

    @property
    def everything(self) -> bool:
        """Whether the rows read nothing at all."""
        return len(self.columns) == len(PARTS)


def parse(text: str, layers: int) -> Cut | None:
    """Read a cut.

    Args:
        text: such as ``Q->D``, ``{Q,D}->All``, ``D->D@0:3`` or ``Q->D#8.1``; empty: no cut.
        layers: number of layers of the model.

    Raises:
        ValueError: if the text is none of these.

    >>> parse("Q->D@0:2", 12).layers == {0, 1}
    True
    """
    if not text:
        return None
    found = re.fullmatch(r"(.+)->([^@#]+?)(?:@(\d+):(\d+)|#(\d+)\.(\d+))?", text)
    if found is None:
        raise ValueError(f"{text!r} is no cut that the benchmarks know")
    left, right, start, stop, layer, head = found.groups()
    where = range(layers)
    if start is not None:
        where = range(int(start), int(stop))
    if layer is not None:
        where = range(int(layer), int(layer) + 1)
    return Cut(_side(left), _side(right), frozenset(where), None if head is None else int(head))


def _side(text: str) -> frozenset[int]:
    if text == "All":
        return frozenset(range(len(PARTS)))
    return frozenset(PARTS.index(name) for name in text.strip("{}").split(","))
