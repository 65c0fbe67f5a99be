"""Directions that an input cannot have: parts that are absent, tokens that a mask hides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool

from matchlens.directions import Direction
from matchlens.parts import Part
from matchlens.plan import Condition, Control

PARTS = tuple(Part)
Reach = Bool[np.ndarray, "layer row_part column_part"]


def reason(condition: Condition, reach: Reach, causal: bool) -> str | None:
    """Why a condition removes nothing that was there; None where it removes something, or nothing.

    It is asked of the edges that the layers allowed in the pairs that were run, not of the model's
    name. A cut of no layer (``@0:0``) is judged as if it were of all: its direction is what it
    names.

    Args:
        condition: cuts that hold together, or one control.
        reach: whether, in a layer, a token of the row part may read one of the column part in some
            pair.
        causal: whether some layer lets tokens read only what stands before them.

    >>> from matchlens.directions import Cut
    >>> reach = np.ones((1, 6, 6), dtype=bool)
    >>> reach[0, Part.Q, Part.D] = False
    >>> reason([Cut.parse("Q->D")], reach, causal=True)
    'the causal mask lets Q read nothing of D'
    >>> reason([Cut.parse("D->Q")], reach, causal=True)
    """
    cuts = [cut.cut if isinstance(cut, Control) else cut for cut in condition]
    said: list[str] = []
    for cut in cuts:
        layers = [layer for layer in range(len(reach)) if cut.edges(layer)]
        for direction in cut.directions:
            why = _why(direction, layers or list(range(len(reach))), reach, causal)
            if why is None:
                return None
            said.append(why)
    return "; ".join(dict.fromkeys(said)) or None


def _why(direction: Direction, layers: Sequence[int], reach: Reach, causal: bool) -> str | None:
    if reach[layers][:, direction.left][:, :, direction.columns].any():
        return None
    there = np.asarray(reach.any(axis=0))[PARTS, PARTS]
    for side in (direction.left, direction.columns):
        if not there[list(side)].any():
            return f"the input has no {_listed(side)}"
    left = [part for part in direction.left if there[part]]
    right = [part for part in direction.columns if there[part]]
    mask = "causal mask" if causal else "window of the layers that are cut"
    return f"the {mask} lets {_listed(left)} read nothing of {_listed(right)}"


def _listed(parts: Sequence[Part]) -> str:
    return " and ".join(str(part) for part in parts)


def feasible(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that were measured.

    Args:
        table: a row for each cut, with the column ``impossible``.
    """
    return pd.DataFrame(table[table["impossible"].isna()]).reset_index(drop=True)


def note(reasons: Sequence[str | None]) -> list[str]:
    """The note on conditions that removed nothing that was there."""
    found = [why for why in reasons if why is not None]
    if not found:
        return []
    kinds = "; ".join(dict.fromkeys(found))
    number = "1 cut is" if len(found) == 1 else f"{len(found)} cuts are"
    return [f"{number} impossible, n/a and in no test: {kinds}"]
