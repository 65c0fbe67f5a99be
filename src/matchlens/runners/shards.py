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


def divide(
    tokens: Int[np.ndarray, " pair"], passes: int, full: int = 0
) -> list[Int[np.ndarray, " _"]]:
    """The pairs of each shard, longest first, as batches have them, so that little is padded.

    Neither speed nor workers nor the size of a batch move a boundary; the kind of device does.

    Args:
        full: places of a layer call that keeps the device busy; 0 for a CPU. A shard fills one such
            call, or more: a GPU idles with the few pairs of a CPU's shard.
    """
    target = max(LEAST, full * passes, int(tokens.sum()) * passes // MOST)
    shards: list[list[int]] = []
    weight = 0
    for pair in np.argsort(-tokens, kind="stable").tolist():
        # padding counts where a call must hold the shard: the first pair is the longest
        longest = pair if not full or not shards else shards[-1][0]
        over = weight + int(tokens[longest]) * passes > target if full else weight >= target
        if not shards or over or len(shards[-1]) >= PAIRS:
            shards.append([])
            weight, longest = 0, pair
        shards[-1].append(pair)
        weight += int(tokens[longest]) * passes
    return [np.array(shard, dtype=np.int64) for shard in shards]
