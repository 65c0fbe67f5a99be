"""Trace, singular triplets and symmetry of the query-key matrices, from their thin factors.

Nothing of size d x d is formed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from matchlens.errors import InputError
from matchlens.models.qk import QK


@dataclass(frozen=True, eq=False)
class Factors:
    """W_Q and W_K of each head, with its own key head, in float64 on the CPU; `A = key^T query`."""

    query: Float[Tensor, "head d_h d"]
    key: Float[Tensor, "head d_h d"]
    query_bias: Float[Tensor, "head d_h"]
    key_bias: Float[Tensor, "head d_h"]


def factors(qk: QK) -> Factors:
    """The factors of `A = W_K^T W_Q` (d x d, rank at most d_h) of each head."""
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


ABOVE = 0.3
"""Least u_k . v_k of the variant of one of the authors' figures (exclusive)."""

Variant = Literal["all", "positive", "above"]


@dataclass(frozen=True, eq=False)
class Triplets:
    """Singular triplets `A = sum_k s_k u_k v_k^T` of each head, the largest first.

    `u_k` lies on the side of the token that is read, `v_k` on the side of the reader.

    Args:
        values: [head, k], s_k.
        cosines: [head, k], u_k . v_k, in [-1, 1].
        width: d.

    >>> svd = Triplets(np.array([[3.0, 1.0]]), np.array([[1.0, -1.0]]), width=4)
    >>> svd.alignment(), svd.alignment("positive"), svd.normalised()
    (array([2.]), array([3.]), array([0.5]))
    """

    values: Float[np.ndarray, "head k"]
    cosines: Float[np.ndarray, "head k"]
    width: int

    def alignment(self, variant: Variant = "all") -> Float[np.ndarray, " head"]:
        """The sum of s_k u_k . v_k over some or all k.

        Args:
            variant: "all" (equal to the trace), "positive" (u_k . v_k > 0) or "above"
                (u_k . v_k > .3; one of the authors' figures).

        Raises:
            InputError: if the variant is unknown.
        """
        thresholds = {"all": -np.inf, "positive": 0.0, "above": ABOVE}
        if variant not in thresholds:
            raise InputError(
                f"variant {variant!r} of the alignment is not known; expected one of "
                f"{', '.join(thresholds)}"
            )
        kept = self.cosines > thresholds[variant]
        return (self.values * self.cosines * kept).sum(1)

    def normalised(self) -> Float[np.ndarray, " head"]:
        """Trace / sum of singular values, in [-1, 1]; NaN for a head whose matrix is 0."""
        return share(self.alignment(), self.values.sum(1)).clip(-1, 1)


def alignment(qk: QK) -> Float[np.ndarray, " head"]:
    """Alignment of each head: trace(A), as the sum of products of the factors' elements.

    It equals `sum_k s_k u_k . v_k` over A's singular triplets.

    Args:
        qk: the weights of a layer.

    Returns:
        [head], in the units of a logit before the division by sqrt(d_h).

    Raises:
        InputError: if the layer uses rotary position embeddings.

    >>> qk = QK.of(torch.tensor([[[1.0, 2.0, 0.0]]]), torch.tensor([[[3.0, 1.0, 5.0]]]))
    >>> alignment(qk)
    array([5.])
    """
    pair = factors(qk)
    return torch.einsum("hkd,hkd->h", pair.key, pair.query).numpy()


def triplets(qk: QK) -> Triplets:
    """Singular triplets of each head's A: QR of both thin factors, then an SVD of d_h x d_h.

    Args:
        qk: the weights of a layer.

    Raises:
        InputError: if the layer uses rotary position embeddings.

    >>> qk = QK.of(torch.tensor([[[0.0, 2.0, 0.0]]]), torch.tensor([[[0.0, 3.0, 4.0]]]))
    >>> svd = triplets(qk)
    >>> svd.values, svd.cosines.round(3), svd.normalised().round(3)
    (array([[10.]]), array([[0.6]]), array([0.6]))
    """
    pair = factors(qk)
    key_basis, key_rest = torch.linalg.qr(pair.key.mT)
    query_basis, query_rest = torch.linalg.qr(pair.query.mT)
    u, values, vh = torch.linalg.svd(key_rest @ query_rest.mT)
    # u_k . v_k = (key_basis u)_k . (query_basis v)_k, by way of the small key_basis^T query_basis
    turned = u.mT @ (key_basis.mT @ query_basis)
    cosines = (turned * vh).sum(-1).clamp(-1, 1)
    return Triplets(values=values.numpy(), cosines=cosines.numpy(), width=qk.width)


def symmetric_share(qk: QK) -> Float[np.ndarray, " head"]:
    """The symmetric part's share of ||A||_F^2; the antisymmetric part has the rest.

    `||A + A^T||^2 / 4 = (||A||^2 + trace(A A)) / 2`; both come from d_h x d_h products.

    Args:
        qk: the weights of a layer.

    Returns:
        [head], in [0, 1]: 1 where "i reads j" and "j reads i" weigh the same, 0 where one is the
        negative of the other, about 1/2 for random factors; NaN for a head whose matrix is 0.

    Raises:
        InputError: if the layer uses rotary position embeddings.

    >>> one = torch.tensor([[[1.0, 0.0]]])
    >>> symmetric_share(QK.of(one, one)), symmetric_share(QK.of(one, one.flip(-1)))
    (array([1.]), array([0.5]))
    """
    pair = factors(qk)
    across = pair.query @ pair.key.mT
    squares = ((pair.key @ pair.key.mT) * (pair.query @ pair.query.mT)).sum((1, 2))
    swapped = (across * across.mT).sum((1, 2))
    total = squares.numpy()
    return share((total + swapped.numpy()) / 2, total).clip(0, 1)


def share(part: np.ndarray, total: np.ndarray) -> np.ndarray:
    """A part of a whole; NaN where the whole is not above 0."""
    return np.divide(part, total, out=np.full_like(part, np.nan), where=total > 0)


def check_head(qk: QK, head: int) -> None:
    """Refuse a head that the layer does not have."""
    if not 0 <= head < qk.n_heads:
        raise InputError(f"the layer has no head {head}; expected 0 to {qk.n_heads - 1}")
