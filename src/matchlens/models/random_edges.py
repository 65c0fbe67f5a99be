"""What is removed in the place of a direction's edges: the controls of a cut."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from matchlens.corpora.pair import Pair
from matchlens.directions import How
from matchlens.models.part_layout import OPEN, LayerMask
from matchlens.plan import LayerCut

TAKEN = ("edges", "edges_inside", "mass", "mass_inside")
"""What a control took, summed over layers and heads: edges (pairs of tokens; of one that is removed
in part, that part) and attention, each also as far as it lies inside the controlled direction."""


@dataclass(frozen=True)
class RandomEdges:
    """How one layer call removes what controls remove.

    Args:
        order: [condition * pair, edge] numbers of the edges (row * tokens + column), in the order
            in which they go; padding last.
        renormalise: [condition * pair] whether what is left is divided by its sum (``mask``).
        taken: what was removed, [condition * pair, amount]; one entry after :meth:`cut`.
    """

    order: Int[Tensor, "batch edge"]
    kinds: tuple[str, ...]
    renormalise: Bool[Tensor, " batch"]
    taken: list[Tensor] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        cuts: Sequence[LayerCut],
        pairs: Sequence[Pair],
        lengths: Int[np.ndarray, " pair"],
        firsts: Int[np.ndarray, " pair"],
        tokens: int,
        layer: int,
        seed: int,
        device: torch.device,
    ) -> RandomEdges:
        """The draws of the conditions that go through a layer side by side; all heads share them.

        ``tokens`` are a pair's places in the batch, padding included, and ``firsts`` those of the
        pairs' first tokens: 0 where padding stands behind.
        """
        controls = [cut.control or ("", 0) for cut in cuts]
        orders = {
            draw: np.stack(
                [
                    edge_order(pair, length, tokens, layer, draw, seed, first)
                    for pair, length, first in zip(
                        pairs, lengths.tolist(), firsts.tolist(), strict=True
                    )
                ]
            )
            for draw in {draw for _, draw in controls}
        }
        masks = [bool(cut.removed(How.MASK).any()) for cut in cuts]
        each = torch.ones(len(pairs), dtype=torch.bool)
        return cls(
            torch.from_numpy(np.concatenate([orders[draw] for _, draw in controls])).to(device),
            tuple(kind for kind, _ in controls),
            torch.cat([each & mask for mask in masks]).to(device),
        )

    def cut(
        self,
        weights: Float[Tensor, "batch head row column"],
        direction: Bool[Tensor, "batch head_or_1 row column"],
        band: LayerMask = OPEN,
    ) -> Float[Tensor, "batch head row column"]:
        """The weights without what the controls remove."""
        order = self.order
        # Edges that the layer forbids carry no attention: they neither count nor go. The sort is
        # stable, so that the allowed edges keep the draw's order whatever the layer's window is.
        if not band.everything:
            forbidden = band.forbidden(weights.shape[-1], device=weights.device)
            direction = direction & ~forbidden
            last = forbidden.flatten()[order]
            order = order.gather(-1, last.to(torch.uint8).argsort(dim=-1, stable=True))
        pairs = len(weights) // len(self.kinds)
        by_condition = zip(
            *(each.split(pairs) for each in (weights, direction, order)), strict=True
        )
        gone = torch.cat(
            [_GONE[kind](*some) for kind, some in zip(self.kinds, by_condition, strict=True)]
        )
        lost = weights * gone
        amounts = [
            some.sum((1, 2, 3)) for each in (gone, lost) for some in (each, each * direction)
        ]
        self.taken.append(torch.stack(amounts, -1))
        left = weights - lost
        total = left.sum(-1, keepdim=True)
        divided = torch.where(total > 0, left / total, left)
        return torch.where(self.renormalise[:, None, None, None], divided, left)


Weights = Float[Tensor, "pair head row column"]
Direction = Bool[Tensor, "pair head_or_1 row column"]
Order = Int[Tensor, "pair edge"]


def _edges(weights: Weights, direction: Direction, order: Order) -> Weights:
    """Random edges go, as many as the direction has."""
    number = direction.flatten(2).sum(-1).expand(weights.shape[:2])
    return _first(weights, order, number)


def _mass(weights: Weights, direction: Direction, order: Order) -> Weights:
    """Random edges go until their attention is as near as can be to what the direction has."""
    # The running sum over the drawn order says how much is gone after each edge; 0 stands first,
    # so that removing no edge at all may be the nearest.
    flat = weights.flatten(2)
    gone = flat.gather(-1, order[:, None].expand_as(flat)).cumsum(-1)
    gone = torch.nn.functional.pad(gone, (1, 0))
    mass = (weights * direction).sum((-2, -1))[..., None]
    return _first(weights, order, (gone - mass).abs().argmin(-1))


def _first(weights: Weights, order: Order, number: Int[Tensor, "pair head"]) -> Weights:
    flat = weights.flatten(2)
    goes = torch.arange(flat.shape[-1], device=flat.device) < number[..., None]
    order = order[:, None].expand_as(flat)
    return torch.zeros_like(flat).scatter_(-1, order, goes.to(flat.dtype)).view_as(weights)


def _rows(weights: Weights, direction: Direction, order: Order) -> Weights:
    """Each row loses what it gives to the direction, on random other columns first."""
    size = weights.shape[-1]
    # The draw orders all edges of a pair; its inverse gives each edge a rank, so that sorting by
    # rank inside a row yields a random order of the row's columns.
    rank = torch.empty_like(order).scatter_(
        -1, order, torch.arange(size**2, device=order.device).expand_as(order)
    )
    # The direction's own columns rank behind all others: a row gives them up only where the
    # others do not hold as much attention.
    rank = rank.view(-1, 1, size, size) + size**2 * direction
    columns = rank.argsort(-1).expand_as(weights)
    in_order = weights.gather(-1, columns)
    lost = (weights * direction).sum(-1, keepdim=True)
    # What is still to go when a column's turn comes; the last column goes in part.
    missing = lost - (in_order.cumsum(-1) - in_order)
    share = torch.where(in_order > 0, missing / in_order, torch.zeros_like(in_order)).clamp(0, 1)
    return torch.zeros_like(weights).scatter_(-1, columns, share)


def _scaled(weights: Weights, direction: Direction, order: Order) -> Weights:
    """Each row loses the same share everywhere: what it gives to the direction."""
    lost = (weights * direction).sum(-1, keepdim=True)
    return torch.where(weights > 0, lost, torch.zeros_like(lost))


_GONE = {"rows": _rows, "scaled": _scaled, "edges": _edges, "mass": _mass}
"""What share of each edge a control removes."""


def edge_order(
    pair: Pair, length: int, tokens: int, layer: int, draw: int, seed: int, first: int = 0
) -> Int[np.ndarray, " edge"]:
    """The order in which a pair's edges (``row * tokens + column``) go; padding goes last."""
    name = "\0".join([str(seed), str(draw), str(layer), pair.collection, pair.qid, pair.docid])
    # The draw is seeded by the pair, not by a generator that runs through the batch, so that a pair
    # has the same draw in any batch and any order.
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    drawn = np.random.default_rng(int.from_bytes(digest[:16], "big")).permutation(length * length)
    real = (drawn // length + first) * tokens + drawn % length + first
    padding = np.ones(tokens * tokens, dtype=bool)
    padding[real] = False
    return np.concatenate([real, np.flatnonzero(padding)])
