"""One layer under several cuts at once: what conditions share of it is computed once.

Conditions that come from the same states share a layer's queries, keys and values. A cut of the
rows of some parts changes those rows only: they are computed anew and written over a copy of the
uncut outcome. In the last layer, of which the score reads one row, keys and values are never
formed: ``q . (W_K x_j)`` is ``(W_K' q) . x_j``, and ``sum_j a_j W_V x_j`` is ``W_V sum_j a_j x_j``.

The slow reference is :meth:`Family.layer`, the library's own layer, condition by condition; the
check at load and the tests hold the two against each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from matchlens.models.attend import Call, attend, attend_absorbed, attend_again
from matchlens.models.attention_probe import AttentionProbe
from matchlens.models.family import Family, States
from matchlens.models.packed import products
from matchlens.models.part_layout import PartLayout
from matchlens.parts import PADDING
from matchlens.plan import LayerCut

MOST_ROWS = 0.9
"""Share of the tokens above which picking out the cut rows costs more than it saves."""
FEW_ROWS = 0.5
"""Share of the tokens up to which attention weights are formed for the cut rows alone."""


@dataclass
class Counts:
    """Token rows that were projected, and that went through what lies above the attention."""

    rows: int = 0
    projected: int = 0


class SharedLayer:
    """One layer, for the states [parent * pair, token, width] of some parents and any children."""

    def __init__(
        self, family: Family, index: int, states: States, grid: PartLayout, counts: Counts
    ) -> None:
        self.family, self.index, self.grid, self.counts = family, index, grid, counts
        self.states = states
        self.parents = len(states) // len(grid.parts)
        self._projected: tuple[Tensor, ...] | None = None

    def whole(
        self, slots: Sequence[int], cuts: Sequence[LayerCut], added: Tensor | None = None
    ) -> States:
        """The outcome in all rows; ``slots`` names the parent of each condition."""
        # Where few rows are cut, the fused kernel computes all rows uncut, and only the weights of
        # the cut rows are ever formed.
        few = any(any(cut.key) for cut in cuts) and sparse(cuts, self.grid, FEW_ROWS)
        by_head = self.family.by_head
        query, key, value = (self._picked(by_head(each), slots) for each in self._projections())
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
    ) -> States:
        """The outcome where only the cut rows are computed, laid over the uncut ``bases``."""
        context, places = self._contexts(slots, cuts, added)
        size = self.grid.parts.numel()
        below = [
            self.grid.rows_of(touched(cut)).flat + slot * size
            for slot, cut in zip(slots, cuts, strict=True)
        ]
        states = self.states.flatten(0, 1)[torch.cat(below)]
        # Above the attention a row depends on itself alone, so the rows of all pairs and conditions
        # go through as one sequence, without padding.
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
        # Conditions that cut the same rows of one parent share the product of queries and keys.
        groups: dict[tuple[int, frozenset[int]], list[int]] = {}
        for place, (slot, picked) in enumerate(zip(slots, rows, strict=True)):
            groups.setdefault((slot, picked.parts), []).append(place)
        by_cut = None if added is None else added.unflatten(0, (len(cuts), pairs))
        contexts: dict[int, Tensor] = {}
        for (slot, _), places in groups.items():
            picked = rows[places[0]]
            parent = slice(slot * pairs, (slot + 1) * pairs)
            query, key, value = (each[parent] for each in self._projections())
            query = query.flatten(0, 1)[picked.padded]
            shared = None if by_cut is None else by_cut[places].flatten(0, 1)
            call = Call(self.grid, [cuts[place] for place in places], picked=picked, added=shared)
            query, key, value = map(self.family.by_head, (query, key, value))
            outcomes = attend_again(query, key, value, call)
            for place, context in zip(places, outcomes, strict=True):
                flat = context.flatten(2).flatten(0, 1)
                contexts[place] = flat if picked.full else flat[picked.valid]
        at = [picked.flat + place * pairs * tokens for place, picked in enumerate(rows)]
        return torch.cat([contexts[place] for place in range(len(cuts))]), torch.cat(at)

    def measured(
        self, probe: AttentionProbe | None, rows: slice | None
    ) -> Float[Tensor, "pair row width"]:
        """The uncut outcome of the only parent, with its attention measured by a probe."""
        query, key, value = (self.family.by_head(each) for each in self._projections())
        uncut = LayerCut.of([], 0, self.family.n_heads, ())
        # A probe reads the attention of all rows, also where only the score's go further.
        call = Call(self.grid, [uncut], rows, probe=probe, asking=None if rows is None else query)
        kept = slice(None) if rows is None else rows
        context, _ = attend(
            torch.nn.Identity(), query[:, :, kept], key, value, None, matchlens=call
        )
        return self._above(context.flatten(2), self.states[:, kept])

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

    def _weights(self, linear: nn.Linear) -> tuple[Tensor, Tensor]:
        heads = self.family.n_heads
        return linear.weight.unflatten(0, (heads, -1)), linear.bias.unflatten(0, (heads, -1))

    def _projections(self) -> tuple[Tensor, ...]:
        """Queries, keys and values of all parents' tokens, [parent * pair, token, width]."""
        if self._projected is None:
            self._projected = products(self.family.projections(self.index), self.states)
            self.counts.projected += self.states.shape[0] * self.states.shape[1]
        return self._projected

    def _above(self, context: Tensor, states: Tensor) -> Tensor:
        self.counts.rows += context.shape[0] * context.shape[1]
        return self.family.after_attention(self.index, context, states)

    def _picked(self, states: Tensor, slots: Sequence[int]) -> Tensor:
        """The states of each condition's parent; no copy where these are all parents in order."""
        if list(slots) == list(range(self.parents)):
            return states
        by_parent = states.unflatten(0, (self.parents, -1))
        return by_parent[slots[0]] if len(slots) == 1 else by_parent[list(slots)].flatten(0, 1)


def sparse(cuts: Sequence[LayerCut], grid: PartLayout, share: float = MOST_ROWS) -> bool:
    """Whether the rows that conditions cut are at most this share of all tokens."""
    rows = sum(len(grid.rows_of(touched(cut)).flat) for cut in cuts)
    return rows <= share * len(cuts) * grid.parts.numel()


def touched(cut: LayerCut) -> frozenset[int]:
    """The labels of the parts whose rows a cut changes."""
    rows = np.flatnonzero(cut.table.any(axis=(0, 2)))
    return frozenset(number for number in rows.tolist() if number != PADDING)
