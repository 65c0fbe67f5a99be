"""Useful operations: the untouched mathematics of what a run computes, padding not counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

FORMULA = (
    "Useful operations are those of the untouched mathematics, of token rows that were computed, "
    "which the engine counts (run on each pair alone, so that none is padding). With d the width, "
    "m the inner width, t the pair's tokens: 6d^2 a row of which queries, keys, values were made; "
    "2(d^2 + 2dm) a row that went through the output projection and the feed-forward, and 4td for "
    "its attention; 6d^2 a condition for the one row of the last layer. A multiplication and an "
    "addition are two. What conditions share counts once. Softmax, norms, activations, embeddings, "
    "cutting, padding and tokenizing count nothing, nor does what an implementation does twice. "
    "(Of a decoder, whose matrices are no squares, the same from its weights, and half of the "
    "attention.)"
)
"""What is counted, in words."""


def projections(wide: int) -> int:
    """Operations of one row's query, key and value.

    >>> projections(4)
    96
    """
    return 6 * wide**2


def row(tokens: int, wide: int, inner: int) -> int:
    """Operations of one row above its query: attention, output projection, feed-forward.

    Args:
        tokens: real tokens of the pair.
        wide: width of the states.
        inner: width inside the feed-forward.

    >>> row(2, 4, 8)
    192
    """
    return 2 * (wide**2 + 2 * wide * inner) + 4 * tokens * wide


def of_run(model: Any, pairs: Sequence[Any], conditions: Sequence[str]) -> float:
    """Useful operations of scoring pairs under conditions, by what the engine counts.

    Args:
        model: a loaded reranker.
        pairs: the pairs.
        conditions: cuts as texts.
    """
    import torch

    from matchlens.directions import Cut
    from matchlens.runners import run

    family = model.family
    linear = [one for one in family.layers[0].modules() if isinstance(one, torch.nn.Linear)]
    asking = 2 * sum(one.weight.numel() for one in family.projections(0))
    others = 2 * sum(one.weight.numel() for one in linear) - asking
    context = family.output(0).weight.shape[1]
    cuts = {text: [Cut.parse(text)] if text else [] for text in conditions}
    total = 0
    for pair in pairs:
        done = run(model, [pair], cuts)
        above = others + (2 if done.causal else 4) * int(done.tokens[0]) * context
        made = done.counts.projected + len(done.plan.levels[-1]) * family.splittable
        total += made * asking + done.counts.rows * above
    return float(total)
