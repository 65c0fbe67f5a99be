"""Random edges cut in the place of a direction's: the control that tells damage from luck."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from matchlens.corpora.pairs import Pair
from matchlens.directions import How
from matchlens.models.band import OPEN, Band
from matchlens.plan import LayerCut


@dataclass(frozen=True)
class Chance:
    """How one layer call cuts random edges.

    Args:
        order: [condition * pair, edge] numbers of the edges (row * tokens + column), in the order
            in which they go; padding last.
        by_mass: [condition * pair] whether edges go until as much attention is gone as the
            direction has, instead of as many edges.
        renormalise: [condition * pair] whether what is left is divided by its sum (``mask``).
    """

    order: Int[Tensor, "batch edge"]
    by_mass: Bool[Tensor, " batch"]
    renormalise: Bool[Tensor, " batch"]

    @classmethod
    def of(
        cls,
        cuts: Sequence[LayerCut],
        pairs: Sequence[Pair],
        lengths: Int[np.ndarray, " pair"],
        firsts: Int[np.ndarray, " pair"],
        layer: int,
        seed: int,
        device: torch.device,
    ) -> Chance:
        """The draws of the conditions that go through a layer side by side.

        Args:
            cuts: the conditions, each with a control.
            pairs: the pairs of the batch.
            lengths: their tokens.
            firsts: the place of each pair's first token: 0 where padding stands behind.
            layer: layer number; every layer has a draw of its own, which all heads share.
            seed: of the draws.
            device: where the tensors go.
        """
        controls = [cut.control or ("", 0) for cut in cuts]
        orders = {
            draw: np.stack(
                [
                    edge_order(pair, length, int(lengths.max()), layer, draw, seed, first)
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
            torch.cat([each & (kind == "mass") for kind, _ in controls]).to(device),
            torch.cat([each & mask for mask in masks]).to(device),
        )

    def cut(
        self,
        weights: Float[Tensor, "batch head row column"],
        direction: Bool[Tensor, "batch head_or_1 row column"],
        band: Band = OPEN,
    ) -> Float[Tensor, "batch head row column"]:
        """The weights without the random edges.

        Args:
            weights: attention, all rows, before any cut.
            direction: the edges that the controlled cut would remove.
            band: the edges that the layer allows; no others count, and no others go.
        """
        flat = weights.flatten(2)
        order = self.order
        if not band.everything:
            forbidden = band.forbidden(weights.shape[-1], device=weights.device)
            direction = direction & ~forbidden
            last = forbidden.flatten()[order]
            order = order.gather(-1, last.to(torch.uint8).argsort(dim=-1, stable=True))
        order = order[:, None].expand_as(flat)
        gone = flat.gather(-1, order).cumsum(-1)
        gone = torch.nn.functional.pad(gone, (1, 0))
        mass = (weights * direction).sum((-2, -1))[..., None]
        by_mass = (gone - mass).abs().argmin(-1)
        by_edges = direction.flatten(2).sum(-1).expand_as(by_mass)
        number = torch.where(self.by_mass[:, None], by_mass, by_edges)
        stays = torch.arange(flat.shape[-1], device=flat.device) >= number[..., None]
        keep = torch.zeros_like(flat).scatter_(-1, order, stays.to(flat.dtype))
        left = weights * keep.view_as(weights)
        total = left.sum(-1, keepdim=True)
        divided = torch.where(total > 0, left / total, left)
        return torch.where(self.renormalise[:, None, None, None], divided, left)


def edge_order(
    pair: Pair, length: int, tokens: int, layer: int, draw: int, seed: int, first: int = 0
) -> Int[np.ndarray, " edge"]:
    """The order in which a pair's edges go; it hangs on the pair, not on its batch.

    Args:
        pair: the pair.
        length: its tokens.
        tokens: places of the batch, padding included.
        layer: layer number.
        draw: number of the draw.
        seed: of all draws.
        first: the place of the pair's first token.

    Returns:
        Edge numbers ``row * tokens + column``, edges of padding last.
    """
    name = "\0".join([str(seed), str(draw), str(layer), pair.collection, pair.qid, pair.docid])
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    drawn = np.random.default_rng(int.from_bytes(digest[:16], "big")).permutation(length * length)
    real = (drawn // length + first) * tokens + drawn % length + first
    padding = np.ones(tokens * tokens, dtype=bool)
    padding[real] = False
    return np.concatenate([real, np.flatnonzero(padding)])
