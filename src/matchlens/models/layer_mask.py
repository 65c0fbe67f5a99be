"""Which token pairs a layer of a model allows at all, before anything is cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class LayerMask:
    """The structural mask of a layer; what it forbids is no attention that could be cut.

    Args:
        causal: whether a token reads only itself and those before it.
        window: the largest distance of two tokens of which one reads the other; None: any.
        stage: of an encoder-decoder, whose decoder has one token, in place 0: in an "encoder" layer
            all others read each other, in a "decoder" layer that one reads all others.

    >>> LayerMask(causal=True, window=1).forbidden(3)
    tensor([[False,  True,  True],
            [False, False,  True],
            [ True, False, False]])
    """

    causal: bool = False
    window: int | None = None
    stage: Literal["", "encoder", "decoder"] = ""

    @property
    def everything(self) -> bool:
        """Whether every token may read every other."""
        return not self.causal and self.window is None and not self.stage

    def reading(
        self, tokens: int, rows: slice | None = None, device: torch.device | str = "cpu"
    ) -> Float[Tensor, "row 1"] | None:
        """1 for rows that may read something, 0 for those that may not; None where all may.

        A softmax cannot give the zero weights of a row that reads nothing, so that they are
        multiplied by this.
        """
        if not self.stage:
            return None
        place = torch.arange(tokens, device=device)
        place = place if rows is None else place[rows]
        return ((place == 0) == (self.stage == "decoder")).float()[:, None]

    def forbidden(
        self, tokens: int, rows: slice | None = None, device: torch.device | str = "cpu"
    ) -> Bool[Tensor, "row column"]:
        """The token pairs that are not allowed.

        Args:
            tokens: places in a row of the batch; padding on one side shifts all of them alike.
        """
        place = torch.arange(tokens, device=device)
        ahead = place[None, :] - (place if rows is None else place[rows])[:, None]
        gone = ahead > 0 if self.causal else torch.zeros_like(ahead, dtype=torch.bool)
        if self.stage:
            reads = self.reading(tokens, rows, device)
            return (place == 0)[None, :] | (reads == 0)
        return gone if self.window is None else gone | (ahead.abs() > self.window)


OPEN = LayerMask()
"""The band of an encoder: every token reads every other."""
