"""Where a run is divided: a pure function of the pairs' lengths and the plan's passes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

LEAST = 250_000
"""Tokens times layer passes of a shard: some seconds of a small model's work on a CPU."""
MOST = 512
"""Shards of a run, about: a longer run has larger ones, so that files stay few."""
PAIRS = 1024
"""Most pairs of a shard, so that its meters' rows fit into memory."""


def divide(tokens: Int[np.ndarray, " pair"], passes: int) -> list[Int[np.ndarray, " _"]]:
    """The pairs of each shard, longest first, as batches have them, so that little is padded.

    Neither speed nor workers nor the size of a batch move a boundary.

    Args:
        tokens: of each pair.
        passes: layer passes that a pair costs.

    >>> from unittest.mock import patch
    >>> with patch("matchlens.runners.shards.LEAST", 20):
    ...     [shard.tolist() for shard in divide(np.array([3, 9, 4, 2]), 2)]
    [[1, 2], [0, 3]]
    """
    target = max(LEAST, int(tokens.sum()) * passes // MOST)
    shards: list[list[int]] = []
    weight = target
    for pair in np.argsort(-tokens, kind="stable").tolist():
        if weight >= target or len(shards[-1]) >= PAIRS:
            shards.append([])
            weight = 0
        shards[-1].append(pair)
        weight += int(tokens[pair]) * passes
    return [np.array(shard, dtype=np.int64) for shard in shards]
