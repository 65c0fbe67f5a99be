"""Why one passage ranks above another: contributions of attention, and what cuts do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from matchlens.arguments import typed
from matchlens.corpora import Pair, PairSet
from matchlens.corpora.own import own_parts
from matchlens.directions import Cut
from matchlens.errors import InputError, counted
from matchlens.parts import NAMED, Part
from matchlens.plan import PUT_IN, bound
from matchlens.results import Result
from matchlens.studies.common import TIE_TOL, identity, pair_table
from matchlens.studies.explained_tables import OUTSIDE, Share, tables_of, token_words
from matchlens.studies.swaps import Swap, Unit, smallest_swap

if TYPE_CHECKING:
    from matchlens.models.load import Reranker

NAME = "explain"
POINTS, MOST_POINTS = 32, 256
SMALL_ERROR = 0.02
"""Share of the margin that the contributions may miss of it."""
CUT_HEADS, CUT_HEAD_DIRECTIONS = 20, 50
"""Heads, and heads in one direction, of the largest contribution that are really cut."""


@typed
def explain(
    model: Reranker,
    query: str,
    passages: Sequence[str | tuple[str, str] | Pair] | PairSet,
    *,
    compare: tuple[int, int] = (0, 1),
    points: int = POINTS,
    swap: bool = True,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Explain why a model ranks one passage above another.

    The margin z(A) - z(B) is shared out over who reads whom: directions, layers, heads and words.
    Next to what a unit contributes stands the margin with that unit really cut, and the smallest
    set of cuts that swaps the two passages.

    Args:
        model: a loaded reranker, a sentence-transformers CrossEncoder, or what
            :func:`matchlens.load` takes.
        query: the query's text.
        passages: two or more passages, as texts, as (passage id, text) or as pairs of the query,
            whose own parts get their share as well.
        compare: the numbers of the passages A and B, from 0.
        points: least number of points of the integral; it doubles, to 256 at most, until the
            contributions miss less than 2% of the margin.
        swap: whether cuts are made at all; without them nothing causal is shown.
        seed: of the random sets of cuts.
        progress: called with steps done and steps in all.

    Returns:
        Tables ``passages``, ``words``, ``units``, ``margin``, ``query_words``, ``links``, ``swap``
        and ``random_swaps``. Contributions and margins are logits. Units of the kinds
        ``own_direction`` and ``own_head_direction`` are in those of Q and D: do not add them up
        with these.

    Raises:
        InputError: if the model cannot be loaded, fewer than two passages came, one is of another
            query, or one cannot be encoded.

    Source: science 9; Sundararajan et al. 2017.

    >>> import matchlens
    >>> texts = ["Tea is best served warm.", "The dog ran far."]
    >>> result = matchlens.explain(matchlens.load("demo"), "warm tea", texts, points=8, swap=False)
    >>> result.to_frame("passages")["docid"].tolist(), list(result.tables)[:3]
    (['0', '1'], ['passages', 'words', 'units'])
    """
    pairs = _pairs(query, passages)
    chosen = compared(compare, len(pairs))
    check_points(points)
    sharing = Sharing(points)
    return explain_pairs(model, pairs, chosen, sharing, swap=swap, seed=seed, progress=progress)


@dataclass(frozen=True)
class Sharing:
    """How a margin is shared out."""

    points: int = POINTS  # least number of points of the integral
    most_points: int = MOST_POINTS  # where the number of points stops to double
    # cuts that hold meanwhile: what is shared out is the score that they leave
    cuts: tuple[Cut, ...] = ()


@contextmanager
def _within_memory() -> Iterator[None]:
    """Memory that runs out as one line: what is kept grows with the square of the words."""
    from matchlens.engine import out_of_memory

    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise InputError(
            "out of memory while a score is shared out: every head has a number for each two words "
            "of a passage; expected shorter passages: give a smaller max_length (--max-length), or "
            "another device (--device)"
        ) from None


def pair_set(pairs: Sequence[Pair]) -> PairSet:
    """The passages of an explanation, as its results folder identifies them."""
    return PairSet(tuple(pairs), {}, {"candidates": "given"}, {"pairs": len(pairs)}, ())


@_within_memory()
def explain_pairs(
    ready: Reranker,
    pairs: Sequence[Pair],
    compare: tuple[int, int],
    sharing: Sharing,
    *,
    swap: bool,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Explain a margin as :func:`explain` does, with the options of :class:`Sharing`."""
    started = time.perf_counter()
    own = own_parts(pairs)
    bound_cuts = [*bound({"": sharing.cuts}, own)[""]]
    sharing = replace(sharing, cuts=tuple(cut for cut in bound_cuts if isinstance(cut, Cut)))
    for cut in sharing.cuts:
        if cut.how in PUT_IN:
            raise InputError(
                f"cut {str(cut)!r} puts in what other pairs read, which is no attention of this "
                "pair, so that its score cannot be shared out; expected another how: zero, mask, "
                "sink"
            )
    if swap and sharing.cuts:
        raise ValueError("a swap is searched in the model without cuts")
    first, second = compare
    query = pairs[0].query
    tol = TIE_TOL[ready.dtype]
    steps = _Steps(progress, len(pairs) + (2 if swap else 0))
    shares = _integrated(ready, pairs, (first, second), sharing, steps)
    margin = shares[first].integral.score - shares[second].integral.score
    tables, missed = tables_of(ready, shares, first, second, sharing.cuts)
    both_pairs = [pairs[first], pairs[second]]
    used = shares[first].points
    notes = [*ready.notes, *_notes(ready, (shares[first], shares[second]), missed, tol)]
    if short := [pairs[n].docid for n, share in enumerate(shares) if share.truncated]:
        ids = ", ".join(f"{docid!r:.40}" for docid in short[:3])
        notes.append(f"{len(short)} of {len(pairs)} passages were cut to the length limit ({ids})")
    notes += [
        f"part {name} has no word in {lacks} of {len(shares)} passages"
        for name in own
        if (lacks := sum(name not in share.own for share in shares))
    ]
    table = tables["margin"]
    small = abs(margin) <= tol or missed > SMALL_ERROR * abs(margin)
    table["share"] = np.nan if small else table["contribution"] / margin
    columns = ["cut", "pair", "score"]
    best = None
    table["margin_cut"] = np.nan
    if swap:
        from matchlens.runners import run

        units = _cut_units(table)
        out = run(ready, both_pairs, {"": [], **{unit.text: [unit.cut] for unit in units}})
        steps.step()
        scores = {name: out.scores.of(name).astype(np.float64) for name in out.plan.conditions}
        stored = [
            (name, pair, score)
            for name, both in scores.items()
            for pair, score in zip((first, second), both.tolist(), strict=True)
        ]
        margins = {name: float(both[0] - both[1]) for name, both in scores.items()}
        by_key = {(unit.kind, unit.unit): margins[unit.text] for unit in units}
        keys = zip(table["kind"], table["unit"], strict=True)
        table["margin_cut"] = [by_key.get(key, np.nan) for key in keys]
        if abs(margin) > tol:  # tied passages have no order to swap
            best = smallest_swap(ready, both_pairs, units, margins, tol, seed)
        steps.step()
    else:
        stored = [("", row, share.integral.score) for row, share in enumerate(shares)]
    table["lost"] = margin - table["margin_cut"]
    tables["swap"], tables["random_swaps"] = Swap.tables(best)
    tokens = np.array([share.tokens for share in shares], dtype=np.int64)
    truncated = np.array([share.truncated for share in shares], dtype=bool)
    return Result(
        study=NAME,
        identity=identity(ready.identity, pair_set(pairs)),
        options={
            "query": query,
            "compare": [first, second],
            "margin": margin,
            "points": used,
            "error": missed,
            "shared_out": not small,
            "tie_tol": tol,
            "seed": seed,
            "swapped": best is not None and best.swapped,
            "swap": [] if best is None else [str(unit.cut) for unit in best.kept],
            "cuts_made": swap,
            "layers": ready.family.n_layers,
            "heads": ready.family.n_heads,
            "device": ready.device.type,
            "check": dict(ready.checks),
        },
        notes=tuple(notes),
        pairs=pair_table(pairs, tokens, truncated, seed),
        scores=pd.DataFrame(stored, columns=columns),
        tables=tables,
        log=(f"{NAME}: {counted(len(pairs), 'passage')}: {time.perf_counter() - started:.1f} s",),
    )


class _Steps:
    """Progress over a known number of steps."""

    def __init__(self, progress: Callable[[int, int], None] | None, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def step(self) -> None:
        """One more step is done."""
        self.done += 1
        if self.progress is not None:
            self.progress(min(self.done, self.total), self.total)


def _pairs(query: str, passages: Sequence[str | tuple[str, str] | Pair] | PairSet) -> list[Pair]:
    """The pairs, each passage with its id or its number."""
    if len(passages) < 2:
        raise InputError(
            f"{counted(len(passages), 'passage')} came; expected two or more, so that one ranks "
            "above another"
        )
    pairs: list[Pair] = []
    for number, passage in enumerate(passages):
        parts = ()
        if isinstance(passage, Pair):
            if passage.query != query:
                raise InputError(
                    f"passage {number} is a pair of the query {passage.query!r:.60}; expected "
                    f"pairs of the query {query!r:.60}, or their texts"
                )
            docid, text, parts = passage.docid, passage.text, passage.parts
        else:
            docid, text = (str(number), passage) if isinstance(passage, str) else passage
        if any(pair.docid == docid for pair in pairs):
            raise InputError(f"two passages have the id {docid!r:.60}; expected an id for each")
        pairs.append(Pair("query", docid, query, text, grade=0, judged=False, parts=parts))
    if len({tuple(span for span in pair.parts if span.of == "Q") for pair in pairs}) > 1:
        raise InputError(
            "the pairs have different characters of the query in its parts; expected the same in "
            "each, since it is one query: give them by with_parts(..., of='Q') from the query alone"
        )
    return pairs


def check_points(points: int) -> None:
    """Refuse a number of points that cannot be used."""
    if not 1 <= points <= MOST_POINTS:
        raise InputError(f"points is {points}; expected 1 to {MOST_POINTS}")


def compared(compare: Sequence[int], count: int) -> tuple[int, int]:
    """Return the numbers of the passages A and B."""
    first, second = compare
    if first == second or not all(0 <= number < count for number in (first, second)):
        raise InputError(
            f"compare is {tuple(compare)}; expected the numbers of two different passages, 0 to "
            f"{count - 1}"
        )
    return int(first), int(second)


def _integrated(
    model: Reranker,
    pairs: Sequence[Pair],
    compared: tuple[int, int],
    sharing: Sharing,
    steps: _Steps,
) -> list[Share]:
    """Share out all scores with as many points as the margin of the compared passages needs."""
    from matchlens import gating
    from matchlens.models.words import stretches

    encoded = model.encode(pairs)
    words = [stretches(model, pair) for pair in pairs]

    def of(row: int, points: int) -> Share:
        numbers = token_words(words[row])
        integral = gating.integrate(model, pairs[row], numbers, points, sharing.cuts)
        length = int(encoded.lengths[row])
        return Share(pairs[row], words[row], integral, points, length, bool(encoded.truncated[row]))

    points = sharing.points
    shares = {row: of(row, points) for row in compared}
    while points < sharing.most_points:
        first, second = (shares[row].integral for row in compared)
        margin = first.score - second.score
        if abs(margin) <= TIE_TOL[model.dtype]:
            break  # a tie has nothing to share out, whatever the number of points
        if abs(first.missed - second.missed) <= SMALL_ERROR * abs(margin):
            break
        points = min(2 * points, sharing.most_points)
        shares = {row: of(row, points) for row in compared}
    out = []
    for row in range(len(pairs)):
        out.append(shares[row] if row in shares else of(row, points))
        steps.step()
    return out


def _notes(model: Reranker, both: tuple[Share, Share], missed: float, tol: float) -> list[str]:
    """Notes on ties, margins that are not shared out, and prompts."""
    notes = []
    a, b = (share.pair.docid for share in both)
    margin = both[0].integral.score - both[1].integral.score
    shared = max(abs(share.integral.score - share.integral.without) for share in both)
    if abs(margin) <= tol:
        notes.append(f"passages {a!r} and {b!r} are tied: there is no margin to share out")
    elif missed > SMALL_ERROR * abs(margin):
        # of a model that norms what its attention writes, scores jump where attention vanishes
        small = missed <= SMALL_ERROR * shared
        why = "is too small to share out" if small else "is not shared out"
        so = "" if small else ": the score does not fade as attention does, so that cuts alone tell"
        notes.append(
            f"the margin of {margin:.3g} logits {why}: with {both[0].points} points the "
            f"contributions miss {missed:.2g} logits of it{so}"
        )
    if margin < -tol:
        notes.append(
            f"passage {a!r} ranks below {b!r}: the contributions are of {a!r} less {b!r}, and a "
            "swap lifts it above"
        )
    if model.prompt is not None:
        notes.append("the prompt's own words read in every cut: a cut names CLS, Q, SEP and D rows")
    if model.cls_note:
        notes.append(model.cls_note)
    return notes


def _cut_units(margin: pd.DataFrame) -> list[Unit]:
    """The units that are really cut: directions, layers, and the heads of largest contribution."""
    every_part = f"{{{','.join(map(str, NAMED))}}}->All"
    other = str(Part.OTHER)
    units = []
    limits = {"head": CUT_HEADS, "head_direction": CUT_HEAD_DIRECTIONS}
    limits["own_head_direction"] = CUT_HEAD_DIRECTIONS
    for kind, rows in margin.groupby("kind", sort=False):
        if kind == OUTSIDE:
            continue
        named = [  # a cut does not name the prompt's words
            str(unit)
            for unit, direction in zip(rows["unit"], rows["direction"], strict=True)
            if other not in str(direction).split("->")
        ]
        for unit in named[: limits.get(str(kind))]:
            mark = {"layer": f"{every_part}@", "head": f"{every_part}#"}.get(str(kind), "")
            units.append(Unit(str(kind), unit, Cut.parse(f"{mark}{unit}")))
    return units
