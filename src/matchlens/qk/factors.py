"""The two thin factors of each head's query-key matrix, ready for the algebra."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from matchlens.errors import InputError
from matchlens.models.qk import QK


@dataclass(frozen=True, eq=False)
class Factors:
    """W_Q and W_K of each head, in float64 on the CPU; `A = key^T query`.

    Args:
        query: [head, d_h, d].
        key: [head, d_h, d], each head's own key head.
        query_bias: [head, d_h].
        key_bias: [head, d_h].
    """

    query: Float[Tensor, "head d_h d"]
    key: Float[Tensor, "head d_h d"]
    query_bias: Float[Tensor, "head d_h"]
    key_bias: Float[Tensor, "head d_h"]


def factors(qk: QK) -> Factors:
    """The factors of `A = W_K^T W_Q` (d x d, rank at most d_h) of each head.

    Reference: the science page, section 5.
    """
    refuse_rope(qk)
    pair = Factors(
        query=_double(qk.query),
        key=_double(qk.keys),
        query_bias=_double(qk.query_bias),
        key_bias=_double(qk.key_biases),
    )
    for name, values in vars(pair).items():
        if not values.isfinite().all():
            raise InputError(
                f"a {name.replace('_', ' ')} weight of the attention is NaN or infinite; expected "
                "finite weights: load the model with dtype float32; if that does not help, its "
                "files are damaged: download them again"
            )
    return pair


def refuse_rope(qk: QK) -> None:
    """Refuse weights whose product means something else at each distance of two tokens."""
    if qk.rope:
        raise InputError(
            "these weights turn queries and keys by their positions (rotary position embeddings): "
            "a head has another query-key matrix for each distance of two tokens, and no single "
            "one; expected the weights at some distances: average them first (matchlens.qk."
            "averaged), or run matchlens.circuits, which does"
        )


def _double(values: Tensor) -> Tensor:
    return values.detach().to("cpu", torch.float64)
