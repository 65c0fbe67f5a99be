"""The same cuts made in several ways, and which conclusions do not depend on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from matchlens.directions import Cut, How
from matchlens.errors import InputError

SAME = 1e-12
"""Changes of the measure up to this are no change."""


@dataclass(frozen=True)
class ModedCut:
    """A cut made in one way.

    Args:
        base: the cut as given, which has no way of its own where several are asked for.
        how: the way.
        cut: the text by which results are keyed.
    """

    base: str
    how: str
    cut: str


def expand_modes(
    cuts: Sequence[str], hows: Sequence[str] | None
) -> tuple[list[ModedCut], list[str]]:
    """Every cut in every way.

    Args:
        cuts: cut texts.
        hows: ways of cutting; None leaves the cuts as they are.

    Returns:
        The ways in order of ``hows``, and the cuts that a way cannot make (``sink`` cannot move
        what is removed to SEP2 from SEP2 itself).

    Raises:
        InputError: if a way is not known, a cut names a way of its own, or nothing is left.

    >>> found, impossible = expand_modes(["Q->D", "Q->SEP2"], ["zero", "sink"])
    >>> [way.cut for way in found], impossible
    (['Q->D', 'Q->SEP2', 'Q->D~sink'], ['Q->SEP2~sink'])
    """
    if hows is None:
        return [ModedCut(text, str(Cut.parse(text).how), text) for text in cuts], []
    if not hows:
        raise InputError(f"no how given; expected one or more of {', '.join(How)}")
    for how in hows:
        if how not in list(How):
            raise InputError(f"how {how!r} is not known; expected one of {', '.join(How)}")
    found: list[ModedCut] = []
    impossible: list[str] = []
    reason: InputError | None = None
    for how in dict.fromkeys(hows):
        for text in cuts:
            Cut.parse(text)
            if "~" in text:
                raise InputError(
                    f"cut {text!r} names its own way of cutting; expected one without '~', since "
                    "hows are given"
                )
            cut = text if how == "zero" else f"{text}~{how}"
            try:
                Cut.parse(cut)
            except InputError as error:
                impossible.append(cut)
                reason = error
                continue
            found.append(ModedCut(text, how, cut))
    if not found and reason is not None:
        raise reason
    return found, impossible


def left_out(impossible: Sequence[str]) -> list[str]:
    """The note that says which cuts were not made."""
    if not impossible:
        return []
    shown = ", ".join(impossible[:4]) + (" ..." if len(impossible) > 4 else "")
    return [f"{len(impossible)} cuts were left out, since sink needs SEP2 uncut: {shown}"]


def agreement(table: pd.DataFrame, stars: Sequence[bool]) -> pd.DataFrame:
    """Where several ways of cutting agree in sign and significance.

    Args:
        table: columns base, how, diff (change of the measure).
        stars: whether each row's change is significant.

    Returns:
        A row for each cut: cut, hows (number of ways), lower and higher (ways under which the
        measure changes so), significant (ways with a star), same_sign, same_significance, and
        verdict: ``falls`` or ``rises`` (a star and one sign under all ways), ``no effect`` (no star
            under
        any), ``contradiction`` (stars with both signs), ``depends`` (a star under some ways);
        then a column for each way with the change, NaN where it cannot be made.
    """
    starred = table.assign(star=list(stars))
    rows = []
    for base, group in starred.groupby("base", sort=False):
        diff, star = group["diff"].to_numpy(), group["star"].to_numpy(dtype=bool)
        lower, higher = int((diff < -SAME).sum()), int((diff > SAME).sum())
        down, up = bool((star & (diff < 0)).any()), bool((star & (diff > 0)).any())
        if down and up:
            verdict = "contradiction"
        elif not star.any():
            verdict = "no effect"
        elif star.all():
            verdict = "falls" if down else "rises"
        else:
            verdict = "depends"
        rows.append(
            {
                "cut": base,
                "hows": len(group),
                "lower": lower,
                "higher": higher,
                "significant": int(star.sum()),
                "same_sign": not (lower and higher),
                "same_significance": bool(star.all() or not star.any()),
                "verdict": verdict,
                **dict(zip(group["how"], diff, strict=True)),
                **{f"{how}_star": bool(one) for how, one in zip(group["how"], star, strict=True)},
            }
        )
    out = pd.DataFrame(rows)
    for column in out.columns[out.columns.str.endswith("_star")]:
        out[column] = [value is True for value in out[column]]
    return out


def starred(table: pd.DataFrame, test: str) -> list[bool]:
    """Which rows have a star, by the test that a preset or study names.

    Args:
        table: columns q, significant, significant_paper.
        test: ``q`` (Benjamini-Hochberg), ``unpaired`` or ``holm``.
    """
    chosen = {"q": table["q"] <= 0.05, "unpaired": table["significant_paper"]}
    return [bool(star) for star in chosen.get(test, table["significant"])]
