"""What replaces a removed term: its mean over the run (``mean``), another pair's (``resample``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from matchlens.directions import How
from matchlens.parts import Part
from matchlens.plan import LayerCut


@dataclass
class ReplacementMeans:
    """Streaming means of the removed terms in the untouched pass; constant memory.

    Every pair weighs the same: the mean over a part's rows first, then over the pairs that have
    the part. A layer's ``sums`` are [head, row part, column part, head width], its ``pairs`` [row
    part].
    """

    sums: dict[int, Tensor] = field(default_factory=dict)
    pairs: dict[int, Tensor] = field(default_factory=dict)

    def observe(
        self, layer: int, members: Float[Tensor, "pair row part"], terms: Float[Tensor, "pair ..."]
    ) -> None:
        """Take the terms of one batch in one layer."""
        self._add(layer, terms.double().sum(0), (members > 0).any(1).sum(0))

    def merge(self, other: ReplacementMeans) -> ReplacementMeans:
        """Means over the pairs of both."""
        out = ReplacementMeans(dict(self.sums), dict(self.pairs))
        for layer, total in other.sums.items():
            out._add(layer, total, other.pairs[layer])
        return out

    def _add(self, layer: int, total: Tensor, pairs: Tensor) -> None:
        self.sums[layer] = self.sums.get(layer, 0) + total
        self.pairs[layer] = self.pairs.get(layer, 0) + pairs

    def mean(self, layer: int) -> Float[Tensor, "head row_part column_part width"]:
        """The mean terms of a layer, zero for absent parts."""
        return self.sums[layer] / self.pairs[layer].clamp(min=1)[None, :, None, None]


@dataclass
class Replacements:
    """What replaces removed terms in one batch: the run's means, by layer other pairs' terms."""

    means: ReplacementMeans | None = None
    others: dict[int, Tensor] = field(default_factory=dict)

    def added(self, layer: int, cuts: Sequence[LayerCut], pairs: int) -> Tensor | None:
        """What is added to the rows' contexts, [condition * pair, head, row part, head width]."""
        by_cut: list[Tensor | None] = []
        for cut in cuts:
            total = None
            if (by_mean := cut.replaced(How.MEAN)) and self.means is not None:
                total = _terms(by_mean, self.means.mean(layer)[None]).expand(pairs, -1, -1, -1)
            if by_other := cut.replaced(How.RESAMPLE):
                other = _terms(by_other, self.others[layer].double())
                total = other if total is None else total + other
            by_cut.append(total)
        shape_of = next((total for total in by_cut if total is not None), None)
        if shape_of is None:
            return None
        return torch.cat([torch.zeros_like(shape_of) if term is None else term for term in by_cut])


def _terms(edges: Mapping[Part | None, np.ndarray], terms: Tensor) -> Tensor:
    """The sum of the terms of some edges, [pair, head, row part, head width]."""
    each = []
    for whose, table in edges.items():
        from_rows = terms if whose is None else terms[:, :, [int(whose)]].expand_as(terms)
        each.append(torch.einsum("hxy,nhxyd->nhxd", torch.from_numpy(table).to(terms), from_rows))
    return sum(each[1:], each[0])
