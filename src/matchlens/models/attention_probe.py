"""What the attention function measures beside its context: the request and the answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

EVEN = 8
"""Widths are padded to a multiple of this; odd ones are slow."""


@dataclass(frozen=True)
class AttentionProbe:
    """A measurement of one layer's attention in the untouched model, all rows and heads.

    Args:
        columns: makes extra value columns [pair, head, token, c] from the values [pair, head,
            token, head width]; the attention function weighs and sums them as it does values.
        take: called with the sums [pair, head, row, c].
        look: called with the attention weights [pair, head, row, column] of the layer, which are
            gone afterwards; None where columns will do, so that no weights are formed.
    """

    columns: Callable[[Tensor], Tensor]
    take: Callable[[Tensor], None]
    look: Callable[[Tensor], None] | None = None

    def measure(
        self,
        query: Float[Tensor, "pair head row width"],
        key: Float[Tensor, "pair head column width"],
        value: Float[Tensor, "pair head column width"],
        bias: Tensor | None,
        scale: float,
        context: bool,
        softcap: float | None = None,
        reads: Tensor | None = None,
    ) -> Tensor | None:
        """Measure; return the context of all rows where it is wanted.

        ``bias`` is added to the logits, -inf on what a row may not read; ``reads`` [row, 1] is 0
        for rows that read nothing, None where all read.
        """
        extra = self.columns(value)
        width = value.shape[-1]
        values = torch.cat([value, extra], -1) if context else extra
        if self.look is None and softcap is None:
            wide = max(query.shape[-1], values.shape[-1])
            wide += -wide % EVEN
            out = torch.nn.functional.scaled_dot_product_attention(
                _widened(query, wide),
                _widened(key, wide),
                _widened(values, wide),
                attn_mask=bias,
                scale=scale,
            )[..., : values.shape[-1]]
        else:
            exact = torch.promote_types(query.dtype, torch.float32)
            logits = squeezed(torch.matmul(query * scale, key.transpose(-1, -2)), softcap).to(exact)
            weights = torch.softmax(logits if bias is None else logits + bias, -1)
            weights = weights if reads is None else weights * reads.to(weights.dtype)
            if self.look is not None:
                self.look(weights)
            out = torch.matmul(weights.to(values.dtype), values)
        out = out if reads is None else out * reads.to(out.dtype)
        self.take(out[..., width:] if context else out)
        return out[..., :width] if context else None


def squeezed(logits: Tensor, softcap: float | None) -> Tensor:
    """The logits, squeezed by a tanh into (-softcap, softcap) where there is one."""
    return logits if softcap is None else torch.tanh(logits / softcap) * softcap


def _widened(states: Tensor, width: int) -> Tensor:
    """Zeros behind the last column: query, key and value of one width keep the fast kernel."""
    return torch.nn.functional.pad(states, (0, width - states.shape[-1]))
