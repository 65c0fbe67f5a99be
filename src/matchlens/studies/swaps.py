"""The smallest set of cuts that swaps two passages, against random sets of its size and layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from matchlens.corpora import Pair
from matchlens.directions import Cut
from matchlens.parts import Part
from matchlens.plan import LayerCut
from matchlens.studies.cuts.cut_modes import reason

if TYPE_CHECKING:
    from matchlens.models.load import Reranker

MOST_UNITS = 10
"""Units of a set at most."""
RANDOM_SETS = 20
BEYOND = 10
"""Ties' tolerances by which the other passage must be above."""
SEARCHED = ("direction", "head_direction")
"""Kinds of units that a set is made of, in the order in which they are tried."""


@dataclass(frozen=True)
class Unit:
    """A unit of attention that can be cut."""

    kind: str
    unit: str
    cut: Cut

    @property
    def text(self) -> str:
        """The name of its condition."""
        return str(self.cut)


@dataclass(frozen=True)
class Swap:
    """A set of cuts, and the random sets it is held against."""

    units: tuple[Unit, ...] = ()  # in the order in which they were added
    margins: tuple[float, ...] = ()  # after each, logits
    # those that are left after pruning, all of them where nothing was swapped
    kept: tuple[Unit, ...] = ()
    swapped: bool = False  # whether the set that is left swaps the passages
    random_margins: tuple[float, ...] = ()  # under each random set, logits
    random_swapped: tuple[bool, ...] = ()  # whether a random set swaps the passages

    @staticmethod
    def tables(swap: Swap | None) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The tables ``swap`` and ``random_swaps``; empty where nothing was cut."""
        swap = swap or Swap()
        steps = pd.DataFrame(
            [
                (step, unit.unit, margin, unit in swap.kept)
                for step, (unit, margin) in enumerate(zip(swap.units, swap.margins, strict=True), 1)
            ],
            columns=["step", "unit", "margin", "kept"],
        )
        draws = pd.DataFrame(
            [
                (draw, len(swap.kept), margin, swapped)
                for draw, (margin, swapped) in enumerate(
                    zip(swap.random_margins, swap.random_swapped, strict=True)
                )
            ],
            columns=["draw", "size", "margin", "swapped"],
        )
        return steps, draws


def smallest_swap(
    model: Reranker,
    pairs: Sequence[Pair],
    units: Sequence[Unit],
    margins: Mapping[str, float],
    tol: float,
    seed: int,
) -> Swap:
    """Search for the fewest units whose joint cut puts the lower passage above the higher one.

    Directions are tried first, then heads in one direction. In each step the unit is added that
    moves the margin most; at the end, units without which the passages are still swapped are
    taken out. No set blinds the rows that the score reads, and no unit is tried or drawn that can
    remove nothing that the score depends on.

    Source: science 9.
    """
    search = _Search(model, pairs, margins[""], tol)
    best = Swap()
    for kind in SEARCHED:
        candidates = [unit for unit in units if unit.kind == kind and search.acts(unit)]
        swap = search.greedy(candidates, margins)
        if swap.swapped or not best.units or _nearer(swap, best, search.sign):
            best = swap
        if swap.swapped:
            break
    if not best.units:
        return best
    drawn = _random_sets(search, best.kept, [u for u in units if u.kind == "direction"], seed)
    under_random = search.margins(drawn)
    swapped = tuple(search.swaps(margin) for margin in under_random)
    return replace(best, random_margins=tuple(under_random), random_swapped=swapped)


def _nearer(swap: Swap, best: Swap, sign: float) -> bool:
    return bool(swap.units) and sign * swap.margins[-1] < sign * best.margins[-1]


class _Search:
    """Margins of two passages under sets of cuts."""

    def __init__(self, model: Reranker, pairs: Sequence[Pair], margin: float, tol: float) -> None:
        from matchlens.runners import run

        self.model, self.pairs, self.margin, self.tol = model, pairs, margin, tol
        self.sign = 1.0 if margin >= 0 else -1.0
        out = run(model, pairs, {"": []})
        self.reach, self.causal = out.reach.copy(), out.causal
        self.rows = sorted({int(part) for part in model.family.score_parts})
        unread = [part for part in Part if part not in self.rows]
        self.reach[-1, unread] = False  # the score reads no other row of the last layer

    def acts(self, unit: Unit) -> bool:
        """Whether a unit's cut removes something that the score depends on."""
        return reason([unit.cut], self.reach, self.causal) is None

    def swaps(self, margin: float) -> bool:
        """Whether the order of the two passages is another than without cuts."""
        return self.sign * margin < -BEYOND * self.tol

    def blinds(self, units: Sequence[Unit]) -> bool:
        """Whether in some layer the score's rows would read nothing at all."""
        family = self.model.family
        for layer in range(family.n_layers):
            cut = LayerCut.of([unit.cut for unit in units], layer, family.n_heads, tuple(Part))
            read = self.reach[layer][self.rows]  # nothing in the encoder's layers of T5
            removed = cut.table[:, self.rows, : read.shape[1]] > 0
            if read.any() and removed[:, read].all():
                return True
        return False

    def margins(self, sets: Sequence[Sequence[Unit]]) -> list[float]:
        """The margin under each set of cuts."""
        from matchlens.runners import run

        if not sets:
            return []
        conditions = {str(at): [unit.cut for unit in units] for at, units in enumerate(sets)}
        scores = run(self.model, self.pairs, conditions).scores
        both = (scores.of(name).astype(np.float64) for name in conditions)
        return [float(first - second) for first, second in both]

    def greedy(self, units: Sequence[Unit], single: Mapping[str, float]) -> Swap:
        """Add the unit that moves the margin most until the passages are swapped, then prune."""
        chosen: list[Unit] = []
        margins: list[float] = []
        margin = self.margin
        while len(chosen) < MOST_UNITS:
            sets = [[*chosen, unit] for unit in units if unit not in chosen]
            sets = [tried for tried in sets if not self.blinds(tried)]
            if not sets:
                break
            outcomes = self.margins(sets) if chosen else [single[tried[0].text] for tried in sets]
            at = int(np.argmin(self.sign * np.array(outcomes)))
            if self.sign * outcomes[at] >= self.sign * margin:
                break  # no further cut brings the other passage nearer
            margin = outcomes[at]
            chosen.append(sets[at][-1])
            margins.append(margin)
            if self.swaps(margin):
                return Swap(tuple(chosen), tuple(margins), self.pruned(chosen), swapped=True)
        return Swap(tuple(chosen), tuple(margins), tuple(chosen))

    def pruned(self, units: Sequence[Unit]) -> tuple[Unit, ...]:
        """The units without those that the swap does not need, the first ones taken out first."""
        kept = list(units)
        for unit in units[:-1]:
            rest = [other for other in kept if other is not unit]
            if self.swaps(self.margins([rest])[0]):
                kept = rest
        return tuple(kept)


def _random_sets(
    search: _Search, kept: Sequence[Unit], directions: Sequence[Unit], seed: int
) -> list[list[Unit]]:
    """Random sets of as many units that act in the same layers; none blinds the score's rows."""
    signed = [seed] if seed >= 0 else [1, -seed]  # a generator takes no negative number
    draw = np.random.default_rng([*signed, len(kept)])
    heads = search.model.family.n_heads
    sets: list[list[Unit]] = []

    def in_layer(unit: Unit, direction: Unit, head: int) -> Unit:
        if unit.cut.heads is None:
            return direction
        name = f"{direction.unit}#{unit.cut.heads[0][0]}.{head}"
        return Unit(unit.kind, name, Cut.parse(name))

    acting = [[d for d in directions if search.acts(in_layer(unit, d, 0))] for unit in kept]
    for _ in range(10 * RANDOM_SETS):  # a draw that cannot be used is drawn again
        members: list[Unit] = []
        for unit, some in zip(kept, acting, strict=True):
            direction = some[int(draw.integers(len(some)))]
            head = 0 if unit.cut.heads is None else int(draw.integers(heads))
            members.append(in_layer(unit, direction, head))
        distinct = len({unit.unit for unit in members}) == len(members)
        same = {unit.unit for unit in members} == {unit.unit for unit in kept}
        if distinct and not same and not search.blinds(members):
            sets.append(members)
        if len(sets) == RANDOM_SETS:
            break
    return sets
