"""95% intervals of means over queries: the bootstrap-t, stratified by collection."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

BLOCK = 1 << 22  # numbers in memory at a time
FLAT = 0.05  # share of resamples without variance up to which there is an interval
TINY = 1e-12  # a variance below this times the largest square is rounding


def bootstrap_t(
    values: Float[np.ndarray, "c q"],
    collections: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = 10_000,
    level: float = 0.95,
) -> tuple[Float[np.ndarray, " c"], Float[np.ndarray, " c"]]:
    """Intervals of the mean over queries of several quantities that share the queries.

    Each resample draws as many queries of every collection as there are, and yields
    `t* = (mean* - mean) / error*`; the interval is `mean - error * quantiles of t*`. Unlike the
    percentile bootstrap and the t interval it follows the skew of the queries' differences: its
    simulated coverage is in the documentation. A resample that draws one query again and again has
    no variance and no t*. Where more than 5% of the resamples have none, there is no interval.

    Args:
        values: `[c, q]`, one row for each quantity, one number for each query.
        collections: the collection of each query; queries are resampled inside it.
        seed: of the resampling; all rows share the resamples.
        resamples: number of resamples.
        level: nominal coverage.

    Returns:
        Lower and upper ends, `[c]`; NaN where there is no interval.

    Source: Efron & Tibshirani 1993, chapter 12.
    """
    conditions, queries = values.shape
    _, stratum = np.unique(np.array(collections), return_inverse=True)
    members = [np.flatnonzero(stratum == number) for number in range(int(stratum.max()) + 1)]
    shares = [len(at) / queries for at in members]
    varying = [len(at) > 1 for at in members]
    mean = values.mean(axis=1)
    centred = (values - mean[:, None]).T
    largest = np.square(centred).max(axis=0)

    def spread(sums: np.ndarray, squares: np.ndarray, size: int, share: float) -> np.ndarray:
        """The part of the mean's variance that one collection adds."""
        return share**2 * np.maximum(squares - sums**2 / size, 0) / (size - 1) / size

    low, high = np.full((2, conditions), np.nan)
    if not any(varying):
        return low, high
    variance = np.zeros(conditions)
    for at, share, varies in zip(members, shares, varying, strict=True):
        if varies:
            own = centred[at]
            variance += spread(own.sum(0), np.square(own).sum(0), len(at), share)
    error = np.sqrt(variance)
    step = max(1, BLOCK // max(queries, 1))
    width = max(1, BLOCK // resamples)
    tail = 100 * (1 - level) / 2
    for left in range(0, conditions, width):
        here = slice(left, left + width)
        block = centred[:, here]
        block_squares = np.square(block)
        t = np.empty((resamples, block.shape[1]))
        draws = [np.random.default_rng([1, place, *words(seed)]) for place in range(len(members))]
        for start in range(0, resamples, step):
            size = min(step, resamples - start)
            moved, drawn = np.zeros((2, size, block.shape[1]))
            for at, share, varies, draw in zip(members, shares, varying, draws, strict=True):
                times = draw.multinomial(len(at), np.full(len(at), 1 / len(at)), size)
                sums = times @ block[at]
                moved += sums / queries
                if varies:
                    drawn += spread(sums, times @ block_squares[at], len(at), share)
            flat = drawn <= TINY * largest[here]
            t[start : start + size] = np.where(
                flat, np.nan, moved / np.sqrt(np.where(flat, 1.0, drawn))
            )
        known = np.isnan(t).mean(axis=0) <= FLAT
        if known.any():
            ends = np.nanpercentile(t[:, known], [tail, 100 - tail], axis=0)
            places = np.flatnonzero(known) + left
            low[places] = mean[places] - error[places] * ends[1]
            high[places] = mean[places] - error[places] * ends[0]
    return low, high


def words(seed: int) -> list[int]:
    """A seed of either sign in the form that numpy's generators take."""
    return [int(seed < 0), abs(seed)]
