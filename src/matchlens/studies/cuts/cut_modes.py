"""The modes of a cut (zero, mask, mean, ...): where they agree, and cuts that remove nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool

from matchlens.directions import Cut, Direction, How
from matchlens.errors import InputError, counted
from matchlens.parts import DECODER, NAMED, AnyPart, OwnPart, Part
from matchlens.plan import Condition, Control
from matchlens.sets import check_once
from matchlens.studies.presets import Preset

SAME = 1e-12
"""Changes of the measure up to this are no change."""
BLIND = 1e-9
"""A measure this near to the random ranking's is the random ranking's."""


@dataclass(frozen=True)
class ModedCut:
    """A cut in one mode: its text without the mode, the mode, and the text that keys results."""

    base: str
    how: str
    cut: str


def expand_modes(
    cuts: Sequence[str], hows: Sequence[str] | None, default: str = "zero"
) -> tuple[list[ModedCut], list[str]]:
    """Every cut in every mode; the empty cut is none.

    Args:
        cuts: the texts of the cuts.
        hows: the modes; each cut's own where None.
        default: the mode of a cut that names none, where hows is None.

    Returns:
        The cuts in order of ``hows``, and those that a mode cannot make (``sink`` cannot move
        what is removed to SEP2 from SEP2 itself).

    >>> cuts, impossible = expand_modes(["Q->D", "Q->SEP2"], ["zero", "sink"])
    >>> [moded.cut for moded in cuts], impossible
    (['Q->D', 'Q->SEP2', 'Q->D~sink'], ['Q->SEP2~sink'])
    """
    cuts = [text for text in cuts if Cut.parse(text).directions]
    if hows is None:
        return [
            ModedCut(text, str(Cut.parse(text).how), text)
            if "~" in text or default == "zero"
            else ModedCut(text, default, f"{text}~{default}")
            for text in cuts
        ], []
    if not hows:
        raise InputError(f"no how given; expected one or more of {', '.join(How)}")
    for how in hows:
        if how not in list(How):
            raise InputError(f"how {how!r} is not known; expected one of {', '.join(How)}")
    expanded: list[ModedCut] = []
    impossible: list[str] = []
    refusal: InputError | None = None
    for how in dict.fromkeys(hows):
        for text in cuts:
            if "~" in text:
                raise InputError(
                    f"cut {text!r} names its own way of cutting; expected one without '~', since "
                    "hows are given"
                )
            cut = text if how == "zero" else f"{text}~{how}"
            try:
                Cut.parse(cut)
            except InputError as error:
                if how != How.SINK:
                    raise
                impossible.append(cut)
                refusal = error
                continue
            expanded.append(ModedCut(text, how, cut))
    if not expanded and refusal is not None:
        raise refusal
    return expanded, impossible


def preset_cuts(preset: Preset) -> list[str]:
    """A preset's cuts in its mode."""
    cuts, _ = expand_modes(preset.cuts, None if preset.how == "zero" else [preset.how])
    return [moded.cut for moded in cuts]


def plain_directions(directions: Sequence[str]) -> list[str]:
    """The directions, each once, checked to name no layers, heads or mode.

    Raises:
        InputError: if one cannot be used, or two spellings mean the same.
    """
    for text in directions:
        cut = Cut.parse(text)
        if not cut.directions or cut != Cut(cut.directions):
            raise InputError(
                f"{text!r} is no plain direction, and the study chooses layers, heads and how "
                "itself; expected directions only, for example 'Q->D' or 'Q->D+D->Q'"
            )
    if not directions:
        raise InputError("no direction given; expected at least one, for example 'Q->D'")
    once = list(dict.fromkeys(directions))
    check_once(once)
    return once


def sets_alone(cuts: Sequence[str], sets: object, hows: Sequence[str] | None) -> list[str]:
    """The note that sets of cuts keep their own hows, where hows are given; nothing elsewhere.

    Raises:
        InputError: if there is no other cut, so that the hows would apply to nothing.
    """
    if not (hows and sets):
        return []
    given = f"how {', '.join(hows)}"
    if not any(Cut.parse(text).directions for text in cuts):
        raise InputError(
            f"{given} came with sets of cuts alone, which keep the hows that their cuts name; "
            "expected no how: leave it out, and write it in the sets' cuts, for example 'Q->D~mask'"
        )
    return [f"{given} holds for the single cuts; the sets of cuts keep the hows of their own cuts"]


def left_out(impossible: Sequence[str]) -> list[str]:
    """The note on cuts that a mode cannot make."""
    if not impossible:
        return []
    shown = ", ".join(impossible[:4]) + (" ..." if len(impossible) > 4 else "")
    return [f"{counted(len(impossible), 'cut')} left out, since sink needs SEP2 uncut: {shown}"]


_CONSTANT = (How.ZERO, How.MASK, How.MEAN)
"""Modes under which a row that is cut from all columns has the same context in every pair."""


def random_by_construction(row: Mapping[str, object], options: Mapping[str, object]) -> bool:
    """Whether a cut leaves the score nothing of the passage, so that its ranking must be random.

    Such a cut says nothing about the model. It is known by what the rows lose, not by its spelling:
    CLS is cut from all columns in every layer, or (by ``mask``, which leaves no trace of what it
    removes) no way is left from the passage to CLS. And the ranking is that of all candidates tied:
    where the score reads other rows, or a prompt's words are left to read, it is not.

    >>> options = {"layers": 2, "heads": 2, "random": 0.3}
    >>> cuts = ["CLS->All~mean", "CLS->{Q,SEP1,D,SEP2}~mask", "CLS->{Q,SEP1,D,SEP2}", "CLS->D"]
    >>> numbers = {"mean": 0.3, "original": 0.8}
    >>> [random_by_construction({"cut": cut, **numbers}, options) for cut in cuts]
    [True, True, False, False]
    """
    name, sets = str(row["cut"]), options.get("sets")
    numbers = row.get("mean"), row.get("original"), options.get("random")
    shape = options.get("layers"), options.get("heads")
    if name in {"", "random"} or not all(isinstance(n, int | float) for n in (*numbers, *shape)):
        return False
    mean, original, random = (float(str(value)) for value in numbers)
    if not abs(mean - random) < BLIND < abs(original - random):
        return False
    together = sets.get(name) if isinstance(sets, Mapping) else None
    cuts = [Cut.parse(str(text)) for text in together or [name]]
    layers, heads = (int(str(number)) for number in shape)
    # What hangs on the passage before any layer: its own tokens, and SEP2 by its place.
    tainted = {Part.D, Part.SEP2}
    for layer in range(layers):
        by_head = [
            [cut for cut in cuts if (at := cut.heads_at(layer)) is None or head in at]
            for head in range(heads)
        ]
        tainted |= {x for x in NAMED if any(_learns(x, own, layer, tainted) for own in by_head)}
    return Part.CLS not in tainted


def _learns(x: Part, cuts: Iterable[Cut], layer: int, tainted: set[Part]) -> bool:
    """Whether a row's context hangs on the passage in a head, as the tainted states do."""
    gone: set[AnyPart] = set()
    masked: set[AnyPart] = set()
    for cut in cuts:
        columns = {column for row, column in cut.edges(layer) if row == x}
        if columns and cut.how not in _CONSTANT:
            return True
        gone |= columns
        masked |= columns if cut.how == How.MASK else set()
    return not (gone.issuperset(NAMED) or masked.issuperset(tainted))


def agreement(table: pd.DataFrame, stars: Sequence[bool]) -> pd.DataFrame:
    """Where several modes of a cut agree in sign and significance.

    Returns:
        A row for each cut: cut, hows (number of modes), lower and higher (modes under which the
        measure changes so), significant (modes with a star), same_sign, same_significance, and
        verdict: ``falls`` or ``rises`` (a star and one sign under all modes), ``no effect`` (a star
        under none), ``contradiction`` (stars with both signs), ``depends`` (a star under some);
        then a column for each mode with the change, NaN where it cannot be made.
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
                **{f"{how}_star": bool(has) for how, has in zip(group["how"], star, strict=True)},
            }
        )
    out = pd.DataFrame(rows)
    for column in out.columns[out.columns.str.endswith("_star")]:
        out[column] = [value is True for value in out[column]]
    return out


def starred(table: pd.DataFrame, test: str) -> list[bool]:
    """Which rows have a star, by the test that a preset or study names."""
    chosen = {"q": table["q"] <= 0.05, "unpaired": table["significant_paper"]}
    return [bool(star) for star in chosen.get(test, table["significant"])]


Reach = Bool[np.ndarray, "layer row_part column_part"]


def reason(condition: Condition, reach: Reach, causal: bool) -> str | None:
    """Why a condition can remove nothing in this model; None where it can, or cuts nothing.

    It is decided by the edges that the layers allowed in the pairs that were run. A cut of no layer
    (``@0:0``) is judged as if it were of all.

    >>> from matchlens.directions import Cut
    >>> reach = np.ones((1, 6, 6), dtype=bool)
    >>> reach[0, Part.Q, Part.D] = False
    >>> reason([Cut.parse("Q->D")], reach, causal=True)
    'the causal mask lets Q read nothing of D'
    >>> reason([Cut.parse("D->Q")], reach, causal=True)
    """
    cuts = [cut.cut if isinstance(cut, Control) else cut for cut in condition]
    reasons: list[str] = []
    for cut in cuts:
        layers = [layer for layer in range(len(reach)) if cut.edges(layer)]
        for direction in cut.directions:
            why = _why(direction, layers or list(range(len(reach))), reach, causal)
            if why is None:
                return None
            reasons.append(why)
    return "; ".join(dict.fromkeys(reasons)) or None


def _why(direction: Direction, layers: Sequence[int], reach: Reach, causal: bool) -> str | None:
    rows, columns = (
        [whole_part(part) for part in side] for side in (direction.left, direction.columns)
    )
    if reach[layers][:, rows][:, :, columns].any():
        return None
    anywhere: np.ndarray = np.logical_or.reduce(reach, axis=0)
    there: np.ndarray = np.logical_or(anywhere.any(axis=0), anywhere.any(axis=1))
    # The decoder's row of an encoder-decoder is the only one that no layer lets read itself.
    decoder = bool(there[Part.DEC]) and not anywhere[Part.DEC, Part.DEC]

    def listed(parts: Sequence[AnyPart]) -> str:
        return " and ".join(
            DECODER if decoder and part == Part.CLS else str(part) for part in parts
        )

    for side in (direction.left, direction.columns):
        if not there[[whole_part(part) for part in side]].any():
            return f"the input has no {listed(side)}"
    left = listed([part for part in direction.left if there[whole_part(part)]])
    right = listed([part for part in direction.columns if there[whole_part(part)]])
    if decoder:
        return f"the layers that are cut let {left} read nothing of {right}"
    mask = "causal mask" if causal else "window of the layers that are cut"
    return f"the {mask} lets {left} read nothing of {right}"


def whole_part(part: AnyPart) -> int:
    """The part that a user-defined part lies in: what reaches that may reach it."""
    return int(part.of if isinstance(part, OwnPart) and part.of is not None else Part(part))


def feasible(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that were measured."""
    return pd.DataFrame(table[table["impossible"].isna()]).reset_index(drop=True)


def note(reasons: Iterable[str | None]) -> list[str]:
    """The note on conditions that can remove nothing."""
    known = [why for why in reasons if why is not None]
    if not known:
        return []
    number = "1 cut is" if len(known) == 1 else f"{len(known)} cuts are"
    return [f"{number} impossible, n/a and in no test: {'; '.join(dict.fromkeys(known))}"]
