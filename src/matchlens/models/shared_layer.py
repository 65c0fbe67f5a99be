"""One layer under several cuts at once: what conditions share of it is computed once.

Conditions that come from the same states share a layer's queries, keys and values. One that cuts
the rows of some parts differs from the uncut one in those rows only: they are computed anew and
laid over a copy of the uncut outcome. In the last layer, of which the score reads one row, keys and
values are never formed: ``q . (W_K x_j)`` is ``(W_K' q) . x_j``, and ``sum_j a_j W_V x_j`` is
``W_V sum_j a_j x_j``.

The slow reference is :meth:`Family.layer`, the library's own layer, condition by condition; the
check at load and the tests hold the two against each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from matchlens.models.attend import Call, attend, attend_absorbed, attend_again
from matchlens.models.attention_probe import AttentionProbe
from matchlens.models.family import Family
from matchlens.models.packed import products
from matchlens.models.part_layout import PartLayout
from matchlens.parts import PADDING
from matchlens.plan import LayerCut

MOST_ROWS = 0.9
"""Share of the tokens above which rows that are cut are not worth picking out."""
FEW_ROWS = 0.5
"""Share of the tokens up to which attention weights are formed of the rows that are cut alone."""


@dataclass
class Counts:
    """What has been computed; the tests read it.

    Args:
        rows: token rows that went through what stands above the attention.
        projected: token rows of which queries, keys and values were made.
    """

    rows: int = 0
    projected: int = 0


class SharedLayer:
    """One layer, for the states of some parents and any of their children.

    Args:
        states: [parent * pair, token, width].
    """

    def __init__(
        self,
        family: Family,
        index: int,
        states: Float[Tensor, "batch token width"],
        grid: PartLayout,
        counts: Counts,
    ) -> None:
        self.family, self.index, self.grid, self.counts = family, index, grid, counts
        self.states = states
        pairs = len(grid.parts)
        self.parents = len(states) // pairs
        self._asked: tuple[Tensor, ...] | None = None

    def whole(
        self, slots: Sequence[int], cuts: Sequence[LayerCut], added: Tensor | None = None
    ) -> Float[Tensor, "batch token width"]:
        """The outcome in all rows.

        Args:
            slots: the parent of each condition.
            cuts: what each condition cuts.
            added: see :class:`~matchlens.models.attend.Call`.
        """
        few = any(any(cut.key) for cut in cuts) and sparse(cuts, self.grid, FEW_ROWS)
        query, key, value = (
            self._picked(self.family.by_head(one), slots) for one in self._linear()
        )
        plain = [LayerCut.of([], 0, self.family.n_heads, ())] * len(cuts)
        call = Call(self.grid, plain if few else cuts, added=None if few else added)
        context = attend(torch.nn.Identity(), query, key, value, None, matchlens=call)[0].flatten(2)
        if few:
            fresh, places = self._contexts(slots, cuts, added)
            context = context.contiguous()
            context.view(-1, context.shape[-1])[places] = fresh
        return self._above(context, self._picked(self.states, slots))

    def rows(
        self,
        slots: Sequence[int],
        cuts: Sequence[LayerCut],
        bases: Sequence[Float[Tensor, "pair token width"]],
        added: Tensor | None = None,
    ) -> Float[Tensor, "batch token width"]:
        """The outcome where only the rows that are cut are computed.

        Args:
            bases: what comes of each condition's parent uncut.
        """
        context, places = self._contexts(slots, cuts, added)
        size = self.grid.parts.numel()
        at = [
            self.grid.rows_of(touched(cut)).flat + slot * size
            for slot, cut in zip(slots, cuts, strict=True)
        ]
        states = self.states.flatten(0, 1)[torch.cat(at)]
        fresh = self._above(context[None], states[None])[0]
        out = torch.stack(tuple(bases))
        out.view(-1, out.shape[-1])[places] = fresh
        return out.flatten(0, 1)

    def _contexts(
        self, slots: Sequence[int], cuts: Sequence[LayerCut], added: Tensor | None
    ) -> tuple[Float[Tensor, "row width"], Int[Tensor, " row"]]:
        """The contexts of the rows that are cut, and their places among all conditions' tokens."""
        pairs, tokens = self.grid.parts.shape
        rows = [self.grid.rows_of(touched(cut)) for cut in cuts]
        kinds: dict[tuple[int, frozenset[int]], list[int]] = {}
        for place, (slot, one) in enumerate(zip(slots, rows, strict=True)):
            kinds.setdefault((slot, one.parts), []).append(place)
        found: list[tuple[int, Tensor]] = []
        for (slot, _), places in kinds.items():
            one = rows[places[0]]
            query, key, value = (each[slot * pairs : (slot + 1) * pairs] for each in self._linear())
            query = query.flatten(0, 1)[one.padded]
            apart = None if added is None else added.unflatten(0, (len(cuts), pairs))
            call = Call(
                self.grid,
                [cuts[place] for place in places],
                picked=one,
                added=None if apart is None else apart[places].flatten(0, 1),
            )
            query, key, value = (
                self.family.by_head(query),
                self.family.by_head(key),
                self.family.by_head(value),
            )
            contexts = attend_again(query, key, value, call)
            for place, context in zip(places, contexts, strict=True):
                every = context.flatten(2).flatten(0, 1)
                found.append((place, every if one.full else every[one.valid]))
        in_order = [context for _, context in sorted(found, key=lambda pair: pair[0])]
        at = [one.flat + place * pairs * tokens for place, one in enumerate(rows)]
        return torch.cat(in_order), torch.cat(at)

    def measured(
        self, probe: AttentionProbe | None, rows: slice | None
    ) -> Float[Tensor, "pair row width"]:
        """The outcome of the one parent uncut, measured on the way."""
        query, key, value = (self.family.by_head(one) for one in self._linear())
        uncut = LayerCut.of([], 0, self.family.n_heads, ())
        call = Call(self.grid, [uncut], rows, probe=probe, asking=None if rows is None else query)
        chosen = slice(None) if rows is None else rows
        context, _ = attend(
            torch.nn.Identity(), query[:, :, chosen], key, value, None, matchlens=call
        )
        return self._above(context.flatten(2), self.states[:, chosen])

    def score(
        self, slots: Sequence[int], cuts: Sequence[LayerCut], added: Tensor | None = None
    ) -> Float[Tensor, "batch 1 width"]:
        """The outcome in the one row that the score reads."""
        rows = self.family.score_rows
        asking, keys, values = self.family.projections(self.index)
        first = self.states[:, rows]
        query = self.family.by_head(asking(first))[:, :, 0]
        context = attend_absorbed(
            self._picked(query, slots),
            self._picked(self.states, slots),
            self._weights(keys),
            self._weights(values),
            Call(self.grid, cuts, rows, added=added),
        )
        return self._above(context.flatten(2), self._picked(first, slots))

    def _weights(self, linear: Any) -> tuple[Tensor, Tensor]:
        heads = self.family.n_heads
        return linear.weight.unflatten(0, (heads, -1)), linear.bias.unflatten(0, (heads, -1))

    def _linear(self) -> tuple[Tensor, ...]:
        """Queries, keys and values of all parents' tokens, [parent * pair, token, width]."""
        if self._asked is None:
            linears = self.family.projections(self.index)
            self._asked = products(linears, self.states)
            self.counts.projected += self.states.shape[0] * self.states.shape[1]
        return self._asked

    def _above(self, context: Tensor, states: Tensor) -> Tensor:
        self.counts.rows += context.shape[0] * context.shape[1]
        return self.family.after_attention(self.index, context, states)

    def _picked(self, states: Tensor, slots: Sequence[int]) -> Tensor:
        """Each condition's parent's, one below the other; no copy where they are all there."""
        if list(slots) == list(range(self.parents)):
            return states
        apart = states.unflatten(0, (self.parents, -1))
        if len(slots) == 1:
            return apart[slots[0]]
        return apart[list(slots)].flatten(0, 1)


def sparse(cuts: Sequence[LayerCut], grid: PartLayout, most: float = MOST_ROWS) -> bool:
    """Whether the rows that conditions cut are at most so much of all tokens."""
    rows = sum(len(grid.rows_of(touched(cut)).flat) for cut in cuts)
    return rows <= most * len(cuts) * grid.parts.numel()


def touched(cut: LayerCut) -> frozenset[int]:
    """The labels of the parts whose rows a cut changes."""
    rows = np.flatnonzero(cut.table.any(axis=(0, 2)))
    return frozenset(number for number in rows.tolist() if number != PADDING)
