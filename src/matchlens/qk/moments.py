"""Sums over token pairs of a logit's terms, without a matrix of token pairs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over the tokens of one side: how many, of the vectors, of their outer products."""

    count: Float[Tensor, " pair"]
    total: Float[Tensor, "pair head d_h"]
    gram: Float[Tensor, "pair head d_h d_h"]

    @classmethod
    def of(cls, vectors: Float[Tensor, "pair token head d_h"], mask: Tensor) -> Sums:
        """Sums, in float64, over the tokens that the mask [pair, token] keeps."""
        places = mask.any(0).nonzero()
        span = slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0)
        kept = vectors[:, span].transpose(1, 2)
        kept = kept.to(torch.float64, memory_format=torch.contiguous_format, copy=True)
        kept.masked_fill_(~mask[:, None, span, None], 0)
        return cls(mask.sum(1).double(), kept.sum(2), kept.mT @ kept)

    def heads(self, group: Tensor) -> Sums:
        """Key heads, repeated for the heads that they serve."""
        return Sums(self.count, self.total[:, group], self.gram[:, group])


def project(
    states: Float[Tensor, "pair token d"], weights: Float[Tensor, "head d_h d"]
) -> Float[Tensor, "pair token head d_h"]:
    """`W x` of every token and head, in the states' type.

    Args:
        states: [pair, token, d].
        weights: [head, d_h, d].
    """
    flat = weights.to(states.device, states.dtype).flatten(0, 1)
    return (states @ flat.mT).unflatten(-1, weights.shape[:2])


def moments(
    x: Sums, y: Sums, rows: Float[Tensor, "head two d_h"], columns: Float[Tensor, "head two d_h"]
) -> tuple[Float[Tensor, "head term"], Float[Tensor, "head term term"]]:
    """Sums over token pairs of the terms and of their products, less each term's constant.

    The terms of token pair (i, j) are `rows . x_i` (two), `columns . y_j` (two) and `x_i . y_j`.

    Args:
        x: of the readers, projected by W_Q.
        y: of the tokens that are read, projected by W_K.
        rows: [head, 2, d_h], what the readers meet whatever they read.
        columns: [head, 2, d_h], what the read tokens meet whoever reads.

    Returns:
        [head, term] sums of the five terms, and [head, term, term] sums of their products.
    """
    by_row, by_column = x.count[:, None, None], y.count[:, None, None]
    of_rows = torch.einsum("hak,phk->pha", rows, x.total)
    of_columns = torch.einsum("hak,phk->pha", columns, y.total)
    of_both = (x.total * y.total).sum(-1)
    first = torch.cat([of_rows * by_column, of_columns * by_row, of_both[..., None]], -1).sum(0)

    x_gram = (x.gram * by_column[..., None]).sum(0)
    y_gram = (y.gram * by_row[..., None]).sum(0)
    second = first.new_zeros(*first.shape, first.shape[-1])
    second[:, :2, :2] = rows @ x_gram @ rows.mT
    second[:, 2:4, 2:4] = columns @ y_gram @ columns.mT
    second[:, :2, 2:4] = torch.einsum("pha,phb->hab", of_rows, of_columns)
    second[:, :2, 4] = torch.einsum("hak,phkl,phl->ha", rows, x.gram, y.total)
    second[:, 2:4, 4] = torch.einsum("hak,phkl,phl->ha", columns, y.gram, x.total)
    second[:, 4, 4] = (x.gram * y.gram).sum((0, 2, 3))
    return first, second.triu() + second.triu(1).mT
