"""Logits of the mean states: how much a mean query token reads a mean document token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float

from matchlens.errors import InputError
from matchlens.models.qk import QK
from matchlens.qk.algebra import factors

DIRECTIONS: Mapping[str, str] = {
    "QD": "a query token reads a document token",
    "DQ": "a document token reads a query token",
    "QQ": "a query token reads a query token",
    "DD": "a document token reads a document token",
}
"""Reading directions, the reader first, in words."""

CONTRASTS: Mapping[str, str] = {
    "QD-DD": "a query token reads document tokens more than a document token does",
    "DQ-QQ": "a document token reads query tokens more than a query token does",
    "QD-QQ": "a query token reads document tokens more than query tokens",
    "DQ-DD": "a document token reads query tokens more than document tokens",
}
"""Differences of two logits of the means, in words; the first two are the default ones."""


@dataclass(frozen=True, eq=False)
class MeanLogits:
    """Logits of the means, by reading direction.

    Args:
        logits: direction (QD, DQ, QQ, DD) -> [layer, head], or [sample, layer, head].
        biases: whether the biases are in them.
        divided: whether they are divided by sqrt(d_h).

    >>> one = np.ones((1, 1))
    >>> result = MeanLogits({"QD": 3 * one, "DQ": one, "QQ": one, "DD": 2 * one}, False, False)
    >>> result.contrast("QD-DD"), result.contrast("DQ-QQ")
    (array([[1.]]), array([[0.]]))
    """

    logits: Mapping[str, Float[np.ndarray, "*sample layer head"]]
    biases: bool
    divided: bool

    def contrast(self, name: str = "QD-DD") -> Float[np.ndarray, "*sample layer head"]:
        """The difference of two directions' logits; `CONTRASTS` says it in words.

        Two tokens reading the same one (QD-DD, DQ-QQ): b_Q cancels, b_K does not. One token
        reading two (QD-QQ, DQ-DD), which is inside one row of the softmax: b_K cancels.

        Args:
            name: a key of `CONTRASTS`.

        Raises:
            InputError: if there is no such contrast.
        """
        if name not in CONTRASTS:
            raise InputError(
                f"contrast {name!r} is not known; expected one of {', '.join(CONTRASTS)}"
            )
        more, less = name.split("-")
        return self.logits[more] - self.logits[less]


def mean_logits(
    layers: Sequence[QK],
    query: Float[np.ndarray, "layer d"],
    document: Float[np.ndarray, "layer d"],
    *,
    biases: bool = False,
    divided: bool = False,
) -> MeanLogits:
    """The logits with which mean tokens read each other, of every head.

    Reader i reads j: `(W_Q x_i + b_Q) . (W_K x_j + b_K)`, x the means. The paper's
    `q^T A d - d^T A d` is QD-DD, weights only, not divided: the default.

    Args:
        layers: the weights of each layer.
        query: [layer, d], mean input of the layer over query tokens.
        document: [layer, d], over document tokens.
        biases: whether b_Q and b_K take part.
        divided: whether the logits are divided by sqrt(d_h), as the model does.

    Raises:
        InputError: if the means do not fit the weights or are not finite, or a layer uses rotary
            position embeddings.

    >>> qk = QK.of(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[2.0, 3.0]]]))
    >>> result = mean_logits([qk], np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))
    >>> {direction: float(values[0, 0]) for direction, values in result.logits.items()}
    {'QD': 3.0, 'DQ': 0.0, 'QQ': 2.0, 'DD': 0.0}
    >>> result.contrast("QD-DD"), CONTRASTS["QD-DD"]
    (array([[3.]]), 'a query token reads document tokens more than a document token does')
    """
    check_means(layers, query, document)
    apart = np.stack([query, document])[None]
    result = resampled_logits(layers, apart, np.ones((1, 1)), biases=biases, divided=divided)
    return replace(result, logits={name: values[0] for name, values in result.logits.items()})


def resampled_logits(
    layers: Sequence[QK],
    apart: Float[np.ndarray, "query side layer d"],
    weights: Float[np.ndarray, "sample query"],
    *,
    biases: bool = False,
    divided: bool = False,
) -> MeanLogits:
    """The logits of the means of several samples of queries, as [sample, layer, head].

    Args:
        layers: the weights of each layer.
        apart: [query, side, layer, d], each query's means of its query and document tokens.
        weights: [sample, query], the weight of each query in the mean; a row sums to 1.
        biases: whether b_Q and b_K take part.
        divided: whether the logits are divided by sqrt(d_h).

    >>> qk = QK.of(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[2.0, 3.0]]]))
    >>> apart = np.array([[[[1.0, 0.0]], [[0.0, 1.0]]], [[[3.0, 0.0]], [[0.0, 1.0]]]])
    >>> result = resampled_logits([qk], apart, np.array([[1.0, 0.0], [0.5, 0.5]]))
    >>> result.logits["QD"].ravel().tolist()
    [3.0, 6.0]
    """
    mixed = torch.from_numpy(weights.astype(np.float64))
    rows: dict[str, list[np.ndarray]] = {direction: [] for direction in DIRECTIONS}
    for number, qk in enumerate(layers):
        pair = factors(qk)
        readers, reads = {}, {}
        for place, side in enumerate("QD"):
            states = torch.from_numpy(apart[:, place, number].astype(np.float64))
            for projected, matrix, bias in (
                (readers, pair.query, pair.query_bias),
                (reads, pair.key, pair.key_bias),
            ):
                each = torch.einsum("hkd,qd->qhk", matrix, states)
                each = each + bias if biases else each
                projected[side] = torch.einsum("sq,qhk->shk", mixed, each)
        for reader, read in DIRECTIONS:
            logits = (readers[reader] * reads[read]).sum(-1).numpy()
            rows[reader + read].append(logits * qk.scale if divided else logits)
    logits = {direction: np.stack(values, 1) for direction, values in rows.items()}
    return MeanLogits(logits, biases, divided)


def check_means(layers: Sequence[QK], query: np.ndarray, document: np.ndarray) -> None:
    """Refuse mean states that are not those of the layers."""
    if not layers:
        raise InputError("the list of layers is empty; expected the weights of at least 1 layer")
    expected = (len(layers), layers[0].width)
    for name, values in (("query", query), ("document", document)):
        if values.shape != expected:
            raise InputError(
                f"the mean states of the {name} have shape {values.shape}; expected {expected} "
                "(layers, width): take them from the same model"
            )
        if not np.isfinite(values).all():
            raise InputError(
                f"a mean state of the {name} is NaN or infinite; expected finite states: "
                "take them from the model in float32"
            )
