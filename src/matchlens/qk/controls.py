"""What the alignment is for factors that know nothing of each other: nulls and crossed heads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float

from matchlens.errors import InputError
from matchlens.models.qk import QK
from matchlens.qk.algebra import Triplets, factors, share


@dataclass(frozen=True, eq=False)
class Null:
    """The alignment of random heads, whose mean is 0.

    Args:
        alignment_sd: [head], standard deviation of the alignment.
        normalised_sd: [head], standard deviation of trace / sum of singular values.

    >>> null = gaussian_null(QK.of(torch.ones(1, 2, 50), torch.ones(1, 2, 50)))
    >>> null.alignment_sd.shape
    (1,)
    """

    alignment_sd: Float[np.ndarray, " head"]
    normalised_sd: Float[np.ndarray, " head"]


def gaussian_null(qk: QK, *, draws: int = 1000, seed: int = 0) -> Null:
    """The null of the science page: random Gaussian factors of the same shape and norms.

    The alignment's standard deviation is exact, `||W_K|| ||W_Q|| / sqrt(d d_h)` (Frobenius norms),
    both for Gaussian factors whose norms are so in the mean square and for those scaled to them.
    That of the normalised trace depends on the shape only. Given the singular values, its variance
    is `sum s^2 / (d (sum s)^2)` exactly, since the singular vectors of random factors are uniform;
    this is meant over seeded draws of the singular values.

    Args:
        qk: the weights of a layer.
        draws: random heads whose singular values are drawn.
        seed: of the draws.

    Raises:
        InputError: if the layer uses rotary position embeddings, or draws is below 1.

    >>> null = gaussian_null(QK.of(torch.ones(1, 2, 50), torch.ones(1, 2, 50)))
    >>> null.alignment_sd.round(3), null.normalised_sd.round(2)
    (array([10.]), array([0.1]))
    """
    if draws < 1:
        raise InputError(f"draws is {draws}; expected at least 1 random head, for example 1000")
    pair = factors(qk)
    norms = pair.key.norm(dim=(1, 2)) * pair.query.norm(dim=(1, 2))
    each = _normalised_sd(qk.d_h, qk.width, draws, seed)
    return Null(
        alignment_sd=(norms / math.sqrt(qk.d_h * qk.width)).numpy(),
        normalised_sd=np.full(qk.n_heads, each),
    )


@dataclass(frozen=True, eq=False)
class RotationNull(Null):
    """The alignment of heads with the same singular values and random singular vectors.

    Args:
        alignment_sd: [head], standard deviation of the alignment.
        normalised_sd: [head], standard deviation of trace / sum of singular values.
        positive_mean: [head], mean of the variant "positive", which is not 0 by chance.

    >>> one = Triplets(np.array([[3.0, 4.0]]), np.zeros((1, 2)), width=100)
    >>> rotation_null(one).positive_mean > 0
    array([ True])
    """

    positive_mean: Float[np.ndarray, " head"]


def rotation_null(triplets: Triplets) -> RotationNull:
    """A stricter null: each head keeps its singular values, its singular vectors are random.

    With u_k and v_k uniform and independent, the alignment has the standard deviation
    `sqrt(sum s^2 / d)` and the variant "positive" the mean `E|u . v| / 2 * sum s`, both exactly.
    Heads whose weights are dominated by few directions have a wider one than the Gaussian null.

    Args:
        triplets: of the heads.

    Reference: the science page, section 5 (a control beside those named there).

    >>> one = Triplets(np.array([[3.0, 4.0]]), np.zeros((1, 2)), width=100)
    >>> null = rotation_null(one)
    >>> null.alignment_sd, null.normalised_sd.round(4), null.positive_mean.round(3)
    (array([0.5]), array([0.0714]), array([0.28]))
    """
    size = np.sqrt((triplets.values**2).sum(1) / triplets.width)
    total = triplets.values.sum(1)
    d = triplets.width
    mean_cosine = math.exp(math.lgamma(d / 2) - math.lgamma((d + 1) / 2)) / math.sqrt(math.pi)
    return RotationNull(size, share(size, total), positive_mean=total * mean_cosine / 2)


@dataclass(frozen=True, eq=False)
class Crossed:
    """The alignment of one head's queries with another head's keys, in one layer.

    Args:
        alignment: [head, key_head], NaN for a head's own key head.
        mean: mean of the alignment over the crossed heads.
        sd: its standard deviation (divisor n - 1; NaN where there is one only).

    >>> query = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    >>> control = crossed(QK.of(query, query + 1))
    >>> control.mean, control.sd
    (1.0, 0.0)
    """

    alignment: Float[np.ndarray, "head key_head"]
    mean: float
    sd: float


def crossed(qk: QK) -> Crossed:
    """The control of the science page: K of one head with Q of another in the layer.

    Args:
        qk: the weights of a layer.

    Raises:
        InputError: if the layer uses rotary position embeddings, or all heads share a key head.

    >>> query = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    >>> crossed(QK.of(query, query + 1)).alignment
    array([[nan,  1.],
           [ 1., nan]])
    """
    if len(qk.key) < 2:
        raise InputError(
            "all heads of the layer share one key head, so that no head can be crossed with the "
            "keys of another; expected at least 2 key heads: use gaussian_null or "
            "rotation_null instead"
        )
    factors(qk)  # refuses what cannot be crossed
    query, key = (x.detach().to("cpu", torch.float64) for x in (qk.query, qk.key))
    own = np.arange(len(key)) == np.array(qk.group)[:, None]
    traces = torch.einsum("hkd,gkd->hg", query, key).numpy()
    traces[own] = np.nan
    known = traces[~np.isnan(traces)]
    return Crossed(
        traces, float(known.mean()), float(known.std(ddof=1)) if len(known) > 1 else np.nan
    )


@lru_cache(maxsize=16)
def _normalised_sd(d_h: int, width: int, draws: int, seed: int) -> float:
    """sqrt of the mean over draws of sum s^2 / (d (sum s)^2), s of two Gaussian factors."""
    generator = np.random.default_rng([int(seed < 0), abs(seed)])
    rests = _gaussian_rests(generator, 2 * draws, d_h, width)
    values = torch.linalg.svdvals(torch.from_numpy(rests[:draws] @ rests[draws:].swapaxes(1, 2)))
    return float(((values**2).sum(-1) / values.sum(-1) ** 2 / width).mean().sqrt())


def _gaussian_rests(
    generator: np.random.Generator, count: int, d_h: int, width: int
) -> Float[np.ndarray, "count k d_h"]:
    """R of the QR of Gaussian [d, d_h] factors, drawn as such: chi on its diagonal (Bartlett)."""
    if width < d_h:  # then R is no smaller than the factor
        return generator.standard_normal((count, width, d_h))
    rests = np.triu(generator.standard_normal((count, d_h, d_h)), 1)
    places = np.arange(d_h)
    rests[:, places, places] = np.sqrt(generator.chisquare(width - places, (count, d_h)))
    return rests
