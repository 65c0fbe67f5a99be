"""Query-key matrices of rotary models: the statement at a distance, and over those that occur.

A token at position i reads one at position j with `(R_i W_Q x_i) . (R_j W_K x_j)`, R a rotation by
position, so that the weight part is `x_j^T A_m x_i` with `A_m = W_K^T R_m W_Q` and m = i - j. Since
A_m is linear in R_m, its mean over distances is that of the mean rotation: the weights with turned
queries say what the model says on average over them. How much it differs from one distance to
another is the spread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from matchlens.models.qk import QK
from matchlens.parts import Part
from matchlens.qk.algebra import factors
from matchlens.qk.mean_logits import DIRECTIONS

BESIDE = (
    "rotary positions: each number is the mean over the distances that occur between the reader's "
    "tokens and those that it reads, and the spread is the standard deviation over these"
)


@dataclass(frozen=True, eq=False)
class Turns:
    """The rotations of a layer by distance (the reader's position less the read token's).

    Args:
        cos: [distance, d_h], distances -n to n; what scales both sides is in it.
        sin: [distance, d_h].

    >>> cos, sin = torch.tensor([[1.0, 1.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    >>> turns = Turns.of(cos, sin)
    >>> turns.cos[:, 0].tolist(), turns.sin[:, 0].tolist()
    ([0.0, 1.0, 0.0], [-1.0, 0.0, 1.0])
    """

    cos: Float[Tensor, "distance d_h"]
    sin: Float[Tensor, "distance d_h"]

    @classmethod
    def of(cls, cos: Float[Tensor, "position d_h"], sin: Float[Tensor, "position d_h"]) -> Turns:
        """From what the model multiplies queries and keys by at positions 0 to n.

        Args:
            cos: [position, d_h].
            sin: [position, d_h].
        """
        scale = cos[0].double().cpu()  # at position 0 nothing is turned
        cos, sin = cos.double().cpu() * scale, sin.double().cpu() * scale
        return cls(torch.cat([cos[1:].flip(0), cos]), torch.cat([-sin[1:].flip(0), sin]))


def half_turned(vectors: Float[Tensor, "*shape d_h"]) -> Float[Tensor, "*shape d_h"]:
    """Each plane turned by a right angle; element k and k + d_h / 2 make a plane."""
    first, second = vectors.chunk(2, -1)
    return torch.cat([-second, first], -1)


def averaged(qk: QK, turns: Turns, weights: Float[np.ndarray, " distance"]) -> QK:
    """The weights whose A is the mean of A_m over distances.

    Args:
        qk: the weights of a layer, not turned.
        turns: the layer's rotations.
        weights: of each distance; they sum to 1.

    >>> one = torch.ones(1, 2, 3)
    >>> cos, sin = torch.tensor([[1.0, 1.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    >>> turns = Turns.of(cos, sin)
    >>> averaged(QK.of(one, one, rope=True), turns, np.array([0.0, 1.0, 0.0])).query.tolist()[0][0]
    [1.0, 1.0, 1.0]
    """
    share = torch.from_numpy(weights)
    cos, sin = share @ turns.cos, share @ turns.sin
    query = qk.query.detach().cpu().double().mT
    bias = qk.query_bias.detach().cpu().double()
    return replace(
        qk,
        query=(query * cos + half_turned(query) * sin).mT.contiguous(),
        query_bias=bias * cos + half_turned(bias) * sin,
        key=qk.key.detach().cpu(),
        key_bias=qk.key_bias.detach().cpu(),
        rope=False,
        beside=BESIDE,
    )


def alignment_at(qk: QK, turns: Turns) -> Float[np.ndarray, "head distance"]:
    """The alignment of each head at each distance: trace(A_m).

    Args:
        qk: the weights of a layer, not turned.
        turns: the layer's rotations.

    Returns:
        [head, distance], in the units of a logit before the division by sqrt(d_h).

    >>> one = torch.ones(1, 2, 3)
    >>> cos, sin = torch.tensor([[1.0, 1.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    >>> alignment_at(QK.of(one, one, rope=True), Turns.of(cos, sin)).tolist()
    [[0.0, 6.0, 0.0]]
    """
    pair = factors(replace(qk, rope=False))
    straight = (pair.key * pair.query).sum(-1)
    turned = (pair.key * half_turned(pair.query.mT).mT).sum(-1)
    return (straight @ turns.cos.T + turned @ turns.sin.T).numpy()


def logits_at(
    qk: QK,
    turns: Turns,
    reader: Float[np.ndarray, " d"],
    read: Float[np.ndarray, " d"],
    *,
    biases: bool = False,
) -> Float[np.ndarray, "head distance"]:
    """The logit with which one state reads another, of each head at each distance.

    Args:
        qk: the weights of a layer, not turned.
        turns: the layer's rotations.
        reader: [d], as attention takes it.
        read: [d], likewise.
        biases: whether b_Q and b_K take part.

    Returns:
        [head, distance], not divided by sqrt(d_h).

    >>> one = torch.ones(1, 2, 1)
    >>> cos, sin = torch.tensor([[1.0, 1.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    >>> logits_at(QK.of(one, one, rope=True), Turns.of(cos, sin), np.ones(1), np.ones(1)).tolist()
    [[0.0, 2.0, 0.0]]
    """
    pair = factors(replace(qk, rope=False))
    asking = pair.query @ torch.from_numpy(reader.astype(np.float64))
    read_keys = pair.key @ torch.from_numpy(read.astype(np.float64))
    if biases:
        asking, read_keys = asking + pair.query_bias, read_keys + pair.key_bias
    straight, turned = read_keys * asking, read_keys * half_turned(asking)
    return (straight @ turns.cos.T + turned @ turns.sin.T).numpy()


def spread(
    values: Float[np.ndarray, "head distance"], weights: Float[np.ndarray, " distance"]
) -> Float[np.ndarray, " head"]:
    """The standard deviation over distances.

    Args:
        values: [head, distance].
        weights: of each distance; they sum to 1.

    >>> spread(np.array([[1.0, 3.0]]), np.array([0.5, 0.5]))
    array([1.])
    """
    mean = values @ weights
    return np.sqrt(np.maximum((values - mean[:, None]) ** 2 @ weights, 0))


def distances(
    parts: Iterable[np.ndarray], longest: int, document: Sequence[Part] = (Part.D,)
) -> Mapping[str, Float[np.ndarray, " distance"]]:
    """How often each distance occurs between reader and read token, by reading direction.

    Token pairs weigh the same inside a pair of texts, and these weigh the same.

    Args:
        parts: of each pair's tokens.
        longest: n, the largest distance.
        document: the parts whose tokens are the document's.

    Returns:
        By QD, DQ, QQ, DD: the share of each distance from -n to n.

    >>> share = distances([np.array([0, 1, 3, 3])], 3)
    >>> share["DQ"].tolist(), share["QD"].tolist()
    ([0.0, 0.0, 0.0, 0.0, 0.5, 0.5, 0.0], [0.0, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0])
    """
    size = 2 * longest + 1
    totals = {direction: np.zeros(size) for direction in DIRECTIONS}
    count = 0
    for labels in parts:
        sides = {
            "Q": np.flatnonzero(labels == Part.Q),
            "D": np.flatnonzero(np.isin(labels, [int(part) for part in document])),
        }
        count += 1
        for direction, total in totals.items():
            reader, read = (sides[side] for side in direction)
            apart = (reader[:, None] - read[None, :]).ravel() + longest
            totals[direction] = total + np.bincount(apart, minlength=size) / len(apart)
    return {direction: total / max(count, 1) for direction, total in totals.items()}


def allowed(
    shares: Float[np.ndarray, " distance"], forbidden: Bool[np.ndarray, " distance"]
) -> Float[np.ndarray, " distance"] | None:
    """The shares of the distances that a layer allows; None where it allows none of them.

    >>> allowed(np.array([0.5, 0.25, 0.25]), np.array([True, False, False]))
    array([0. , 0.5, 0.5])
    """
    kept = np.where(forbidden, 0.0, shares)
    return kept / kept.sum() if kept.sum() > 0 else None
