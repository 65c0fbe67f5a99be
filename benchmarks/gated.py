"""Scores under gates, and their derivatives, as arrays: for the benchmarks and the tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from matchlens.corpora.pair import Pair
from matchlens.gating import PARTS, as_tables, check_gates, scores_under, stream_slopes
from matchlens.models.load import Reranker


class Slopes(NamedTuple):
    """Scores by pair, and their derivatives by pair, layer, head, row part and column part."""

    scores: np.ndarray
    slopes: np.ndarray


def gated_scores(
    model: Reranker, pairs: Sequence[Pair], gates: np.ndarray, *, batch_tokens: int | None = None
) -> np.ndarray:
    """Scores of pairs whose attention weights are multiplied by gates after the softmax."""
    check_gates(model)
    return scores_under(model, pairs, as_tables(model, gates), batch_tokens)


def gate_slopes(
    model: Reranker,
    pairs: Sequence[Pair],
    gates: np.ndarray | None = None,
    *,
    batch_tokens: int | None = None,
) -> Slopes:
    """The derivative of every score by every gate; all gates are 1 where None."""
    check_gates(model)
    shape = (len(pairs), model.family.n_layers, model.family.n_heads, PARTS, PARTS)
    slopes = np.zeros(shape, model.score_dtype)
    tables = None if gates is None else as_tables(model, gates)
    scores = stream_slopes(model, pairs, slopes.__setitem__, tables, batch_tokens)
    return Slopes(scores, slopes)
