"""Useful operations: the untouched mathematics of what a run computes, padding not counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

FORMULA = (
    "A layer over the t real tokens of a pair, d wide with an inner width m, counts "
    "2t(4d^2 + 2dm) + 4t^2 d floating-point operations (a multiplication and an addition are two): "
    "four projections, two feed-forward products, the two products of attention. In the last "
    "layer, where the score reads one row: 4t d^2 for keys and values, 2(2d^2 + 2dm) + 4td for the "
    "row. "
    "A layer counts once for all conditions that share it, as often as the plan has it. Softmax, "
    "norms, activations, embeddings, cutting and padding count nothing; neither does tokenizing."
)
"""What is counted, in words."""


def whole_layer(tokens: np.ndarray, wide: int, inner: int) -> float:
    """One layer, all rows.

    Args:
        tokens: real tokens of each pair.
        wide: width of the states.
        inner: width inside the feed-forward.

    >>> whole_layer(np.array([2]), 4, 8)
    640.0
    """
    products = 2 * tokens * (4 * wide**2 + 2 * wide * inner)
    return float((products + 4 * tokens**2 * wide).sum())


def last_layer(tokens: np.ndarray, wide: int, inner: int) -> float:
    """One layer of which one row is computed."""
    row = 2 * (2 * wide**2 + 2 * wide * inner) + 4 * tokens * wide
    return float((4 * tokens * wide**2 + row).sum())


def of_run(model: Any, pairs: Sequence[Any], conditions: Sequence[str]) -> float:
    """Useful operations of scoring pairs under conditions, by the plan that runs them.

    Args:
        model: a loaded reranker.
        pairs: the pairs.
        conditions: cuts as texts.
    """
    from matchlens.directions import Cut
    from matchlens.engine import lengths
    from matchlens.plan import Plan

    family, config = model.family, model.family.module.config
    tokens = lengths(model, pairs)[0]
    cuts = {text: [Cut.parse(text)] if text else [] for text in conditions}
    plan = Plan.build(cuts, family.n_layers, family.n_heads, family.score_parts)
    sizes = config.hidden_size, config.intermediate_size
    *lower, top = [len(level) for level in plan.levels]
    return sum(lower) * whole_layer(tokens, *sizes) + top * last_layer(tokens, *sizes)
