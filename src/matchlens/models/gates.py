"""Gates: factors of the attention weights after the softmax, and the derivative of a score by them.

A gate at 0 is a ``zero`` cut, a gate at 1 leaves the model untouched. The derivative by the gate of
a token pair is its weight times the score's derivative by the gated weight, so that one backward
pass gives it for all token pairs at once and no array of gates need exist.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from matchlens.models.part_layout import PartLayout
from matchlens.parts import PADDING, OwnPart

PARTS = int(PADDING)
"""Parts that rows and columns of a table of gates stand for."""


@dataclass(frozen=True, eq=False)
class Gate:
    """The gates of one layer.

    Args:
        values: factors that broadcast to [condition * pair, head, row, column] of all tokens.
        collect: called in the backward pass with the derivatives of the scores by the gates of the
            token pairs, [condition * pair, head, row, column], of the rows that are computed.
    """

    values: Tensor
    collect: Callable[[Tensor], None] | None = None

    def through(
        self, weights: Float[Tensor, "batch head row column"], rows: slice | None
    ) -> Float[Tensor, "batch head row column"]:
        """The gated weights of the rows that are computed, all of them where ``rows`` is None."""
        values = (
            self.values if self.values.shape[2] == 1 or rows is None else self.values[:, :, rows]
        )
        gated = weights * values.to(weights.dtype)
        collect = self.collect
        if collect is not None:
            if not gated.requires_grad:  # the lowest layer: nothing below it is differentiated
                gated.requires_grad_()
            plain = weights.detach()
            gated.register_hook(lambda slope: collect(plain * slope))
        return gated


def spread(
    tables: Float[Tensor, "condition head row_part column_part"], grid: PartLayout
) -> Float[Tensor, "batch head row column"]:
    """Gates by condition, head and direction, spread over a batch's token pairs; 1 on padding."""
    whole = torch.nn.functional.pad(tables, (0, 1, 0, 1), value=1.0)
    parts = grid.parts if grid.base is None else grid.base
    edges = parts[:, :, None] * (PARTS + 1) + parts[:, None, :]
    return whole.flatten(2)[:, :, edges].transpose(1, 2).flatten(0, 1)


def by_parts(
    slopes: Float[Tensor, "batch head row column"], grid: PartLayout, rows: slice | None
) -> Float[Tensor, "batch head row_part column_part"]:
    """Derivatives by the gates of token pairs, summed to those by head and direction.

    Own parts stand behind the six others, which lack their tokens: see :func:`united`.
    """
    conditions = len(slopes) // len(grid.parts)
    labels = [label for label in range(grid.size) if label != PADDING]
    left, right = (
        torch.nn.functional.one_hot(parts, grid.size)[..., labels]
        .to(slopes.dtype)
        .repeat(conditions, 1, 1)[:, None]
        for parts in (grid.row_parts(rows), grid.parts)
    )
    return left.mT @ (slopes @ right)


def united(
    slopes: Float[np.ndarray, "... row_part column_part"], own: Sequence[OwnPart]
) -> Float[np.ndarray, "... row_part column_part"]:
    """Derivatives by direction in which Q and D have the tokens of their own parts again.

    >>> from matchlens.parts import Part
    >>> united(np.eye(7), [OwnPart("TITLE", Part.D)])[3:7:3, 3:7:3].tolist()
    [[2.0, 1.0], [1.0, 1.0]]
    """
    whole = np.eye(PARTS + len(own))
    for at, part in enumerate(own, start=PARTS):
        whole[at, int(part.of or 0)] = 1
    return (whole.T @ slopes @ whole).astype(slopes.dtype) if own else slopes
