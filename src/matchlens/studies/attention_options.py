"""The options of the attention study that can be checked before torch is imported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matchlens.directions import Direction
from matchlens.errors import InputError
from matchlens.meters.names import NAMES
from matchlens.parts import Part

MATCHING = ("Q->D", "D->Q")
"""Directions in which matching heads are looked for, where nothing else is said."""


@dataclass(frozen=True)
class Thresholds:
    """What makes a head a matching head.

    Args:
        q: largest corrected p on the half that finds.
        auc: least mean AUC over queries, relevant against easy, on the half that finds.
        lexical: least same-token share of a lexical head; below it is semantic.

    Raises:
        InputError: if one is no probability.

    >>> Thresholds().auc
    0.75
    """

    q: float = 0.05
    auc: float = 0.75
    lexical: float = 0.5

    def __post_init__(self) -> None:
        for name, value in (("q", self.q), ("auc", self.auc), ("lexical", self.lexical)):
            if not 0 <= value <= 1:
                raise InputError(f"threshold {name} is {value}; expected a number from 0 to 1")


def checked_names(names: Sequence[str]) -> tuple[str, ...]:
    """The meters' names in their own order.

    Raises:
        InputError: if one is not known, or there is none.

    >>> checked_names(["peak", "mass"])
    ('mass', 'peak')
    """
    for name in names:
        if name not in NAMES:
            raise InputError(f"meter {name!r} is not known; expected some of {', '.join(NAMES)}")
    return tuple(name for name in NAMES if name in names)


def checked_directions(texts: Sequence[str | Direction] | None) -> list[str]:
    """The directions of matching heads in their canonical text, each once.

    Raises:
        InputError: if one is not between two single parts.
    """
    given = [Direction.parse(str(text)) for text in (MATCHING if texts is None else texts)]
    if not given:
        raise InputError("no direction given; expected at least one, for example 'Q->D'")
    for direction in given:
        places(str(direction))
    return list(dict.fromkeys(str(direction) for direction in given))


def places(text: str) -> tuple[Part, Part]:
    """The two parts of a direction between single parts.

    Raises:
        InputError: if it names several parts or ``All``.
    """
    direction = Direction.parse(text)
    if len(direction.left) != 1 or direction.right is None or len(direction.right) != 1:
        raise InputError(
            f"direction {text!r} is not between two single parts, and attention is measured "
            "between those; expected, for example, 'Q->D'"
        )
    return direction.left[0], direction.right[0]
