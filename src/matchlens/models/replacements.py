"""What replaces a removed term: its mean over the run (``mean``), another pair's (``resample``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from matchlens.directions import How
from matchlens.models.attend import part_terms
from matchlens.models.part_layout import PartLayout
from matchlens.parts import Part
from matchlens.plan import LayerCut


@dataclass
class ReplacementMeans:
    """Streaming means of the removed terms in the untouched pass; constant memory.

    Every pair weighs the same: the mean over a part's rows first, then over the pairs that have
    the part.

    Args:
        sums: by layer, [head, row part, column part, head width], in float64.
        pairs: by layer, [row part], number of pairs that have the part among the rows.
    """

    sums: dict[int, Tensor] = field(default_factory=dict)
    pairs: dict[int, Tensor] = field(default_factory=dict)

    def observe(
        self, layer: int, members: Float[Tensor, "pair row part"], terms: Float[Tensor, "pair ..."]
    ) -> None:
        """Take the terms of one batch in one layer."""
        total = terms.double().sum(0)
        there = (members > 0).any(1).sum(0)
        self.sums[layer] = self.sums[layer] + total if layer in self.sums else total
        self.pairs[layer] = self.pairs[layer] + there if layer in self.pairs else there

    def merge(self, other: ReplacementMeans) -> ReplacementMeans:
        """Means over the pairs of both."""
        out = ReplacementMeans(dict(self.sums), dict(self.pairs))
        for layer in other.sums:
            known = layer in out.sums
            out.sums[layer] = out.sums[layer] + other.sums[layer] if known else other.sums[layer]
            out.pairs[layer] = (
                out.pairs[layer] + other.pairs[layer] if known else other.pairs[layer]
            )
        return out

    def mean(self, layer: int) -> Float[Tensor, "head row_part column_part width"]:
        """The mean terms of a layer, zero for absent parts."""
        return self.sums[layer] / self.pairs[layer].clamp(min=1)[None, :, None, None]


@dataclass
class Replacements:
    """What is put in the place of removed terms, for one batch.

    Args:
        means: the run's mean terms, where a condition cuts by ``mean``.
        others: by layer, the other pairs' terms [pair, head, row part, column part, head width],
            where a condition cuts by ``resample``.
    """

    means: ReplacementMeans | None = None
    others: dict[int, Tensor] = field(default_factory=dict)

    def added(self, layer: int, cuts: Sequence[LayerCut], pairs: int) -> Tensor | None:
        """What is added to the rows' contexts, [condition * pair, head, row part, head width]."""
        parts = []
        for cut in cuts:
            total = None
            if (by_mean := cut.replaced(How.MEAN)) and self.means is not None:
                total = _terms(by_mean, self.means.mean(layer)[None]).expand(pairs, -1, -1, -1)
            if by_other := cut.replaced(How.RESAMPLE):
                other = _terms(by_other, self.others[layer].double())
                total = other if total is None else total + other
            parts.append(total)
        known = next((part for part in parts if part is not None), None)
        if known is None:
            return None
        empty = torch.zeros_like(known)
        return torch.cat([empty if part is None else part for part in parts])


def _terms(edges: Mapping[Part | None, np.ndarray], terms: Tensor) -> Tensor:
    """The sum of the terms of some edges, [pair, head, row part, head width]."""
    total: Tensor | None = None
    for whose, table in edges.items():
        which = torch.from_numpy(table).to(terms)
        from_rows = terms if whose is None else terms[:, :, [int(whose)]].expand_as(terms)
        one = torch.einsum("hxy,nhxyd->nhxd", which, from_rows)
        total = one if total is None else total + one
    assert total is not None  # noqa: S101
    return total


@dataclass(frozen=True)
class Watcher:
    """Turns the weights that the attention function shows into terms, layer by layer.

    Args:
        means: takes the terms of the batch, [pair, head, row part, column part, head width].
        others: takes the same, by layer.
    """

    layout: PartLayout
    layer: int
    rows: slice | None
    means: ReplacementMeans | None = None
    others: dict[int, Tensor] | None = None

    def __call__(self, weights: Tensor, value: Tensor) -> None:
        """Called by the attention function."""
        members = self.layout.members(self.rows, weights.dtype)
        terms = part_terms(weights, value, members, self.layout)
        if self.means is not None:
            self.means.observe(self.layer, members, terms)
        if self.others is not None:
            self.others[self.layer] = terms
