"""The conditions of controls: each cut, and what is removed in its place."""

from __future__ import annotations

from collections.abc import Sequence

from matchlens.directions import Cut, How
from matchlens.errors import InputError
from matchlens.plan import CONTROLS, OF_ROWS, Condition, Control
from matchlens.studies.cut_modes import ModedCut, expand_modes

DRAWS, MOST_DRAWS = 3, 1000


def conditions_of(
    cuts: Sequence[str], hows: Sequence[str] | None, draws: int
) -> tuple[dict[str, Condition], list[ModedCut], list[dict[str, object]]]:
    """The conditions, the cuts among them, and what each control is.

    Rows that are scaled have no draw, and a cut by ``mask`` has no control of rows.

    Raises:
        InputError: if a cut cannot be controlled, or no draw is asked for.
    """
    if not cuts:
        raise InputError("no cut given; expected at least one, for example 'Q->D'")
    if not 1 <= draws <= MOST_DRAWS:
        raise InputError(f"draws is {draws}; expected 1 to {MOST_DRAWS}")
    made, _ = expand_modes(list(dict.fromkeys(cuts)), hows)
    conditions: dict[str, Condition] = {"": []}
    about: list[dict[str, object]] = []
    for way in made:
        cut = Cut.parse(way.cut)
        conditions[way.cut] = [cut]
        for kind in CONTROLS:
            if kind in OF_ROWS and cut.how != How.ZERO:
                continue
            for draw in range(1 if kind == "scaled" else draws):
                name = f"{way.cut} | {kind} {draw}"
                conditions[name] = [Control(cut, kind, draw)]
                about.append({"of": way.cut, "control": kind, "draw": draw, "cut": name})
    return conditions, made, about
